#!/usr/bin/env bash
# All checks and tests, on a fresh Debian 12 or Ubuntu 24.04: packages, format, build, every test, clang-tidy, the unit tests once
# more under the address and undefined-behaviour sanitizers, a minute of fuzzing for each reader of files from outside, and the CUDA build
# where nvcc is there. Closes with "N passed, N failed"; exits 1 if anything failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Open MPI refuses to start as root, which is what one is in most containers, unless it is told twice.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

passed=0
failed=0

finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
  exit
}

# A step without which the rest means nothing: nothing when it succeeds, one failure when it does not.
step() {
  bash scripts/run_quietly.sh "$@" || { failed=$((failed + 1)); return 1; }
}

# A check that is not a ctest case: counts as one.
check() {
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# run_tests PRESET: adds the cases of one build to the counts.
run_tests() {
  local log status ran bad
  log=$(mktemp)
  echo "testing $1"
  ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j "$(nproc)" </dev/null >"$log" 2>&1
  status=$?
  # The summary reads "98% tests passed, 2 tests failed out of 123".
  read -r bad ran < <(sed -n 's/^.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/\1 \2/p' "$log")
  if [ "$status" -ne 0 ]; then
    grep -v -E '^ *(Start +[0-9]+:|[0-9]+/[0-9]+ Test.* Passed )' "$log"
  fi
  rm -f "$log"
  # Nothing ran, or ctest itself failed: a failure all the same.
  [ -n "${ran:-}" ] || { bad=1; ran=1; }
  [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
  passed=$((passed + ran - bad))
  failed=$((failed + bad))
}

bash scripts/install_deps.sh </dev/null || { failed=1; finish; }
check bash scripts/run_quietly.sh "checking the format" bash scripts/check_format.sh
for preset in cpu asan; do
  if step "configuring $preset" cmake --preset "$preset" && step "building $preset" ninja -C "build/$preset"; then
    run_tests "$preset"
    [ "$preset" != cpu ] || check python3 scripts/check_tidy.py
  fi
done
check bash scripts/fuzz.sh 60
check bash scripts/check_cuda_build.sh
finish
