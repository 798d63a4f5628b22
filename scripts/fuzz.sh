#!/usr/bin/env bash
# Fuzzes every reader of files from outside (tests/fuzz/) with libFuzzer under the address and undefined-behaviour sanitizers.
# Usage: fuzz.sh [SECONDS_A_TARGET [TARGET...]]   (default 60, all). What it learns is kept in ${XDG_CACHE_HOME:-~/.cache}/fathom/fuzz.
# An input that crashes, takes 10 s or asks for 256 MiB at once stays in build/fuzz/crashes and is printed, so that a log keeps it too: give
# it a name in tests/fuzz/corpus/TARGET once the fault is mended, and every later test run replays it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export seconds=${1:-60}
shift $(($# > 0))
export learned=${XDG_CACHE_HOME:-$HOME/.cache}/fathom/fuzz crashes=$PWD/build/fuzz/crashes

bash scripts/run_quietly.sh "configuring fuzz" cmake --preset fuzz || exit 1
bash scripts/run_quietly.sh "building fuzz" ninja -C build/fuzz fuzz_targets || exit 1
mkdir -p "$crashes"

# print_inputs LOG: the inputs that LOG says are written, as text that a shell makes files of again.
print_inputs() {
  local path text
  while read -r path; do
    text=$(gzip -9nc "$path" | base64 -w 120)
    echo "$(basename "$path"), $(stat -c %s "$path") bytes:"
    if [ ${#text} -le 20000 ]; then
      printf "base64 -d <<'END' | gunzip >%s\n%s\nEND\n" "$(basename "$path")" "$text"
    else
      echo "too long to print: only in $path"
    fi
  done < <(sed -n 's/^.*Test unit written to //p' "$1")
}
export -f print_inputs

# fuzz PROGRAM FOLDER...: one target.
fuzz() {
  local name log
  name=$(basename "$1")
  log=$(mktemp)
  mkdir -p "$learned/$name"
  # A leak is looked for at the end only: HDF5 leaks a little for what it refuses.
  if "$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=256 -detect_leaks=0 -print_final_stats=1 \
    -artifact_prefix="$crashes/$name-" "$learned/$name" "${@:2}" >"$log" 2>&1; then
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, $(ls "$learned/$name" | wc -l) learned"
  else
    {
      flock 9  # one target's words after the other's
      echo "$name: FAILED"
      grep -v -E '^(#|INFO)' "$log" | head -n 60
      print_inputs "$log"
    } 9>"$crashes/.lock"
    rm "$log"
    return 1
  fi
  rm "$log"
}
export -f fuzz

chosen=()
while read -r program folders; do
  [ $# -eq 0 ] || [[ " $* " == *" ${program##*/fuzz_} "* ]] || continue
  chosen+=("$program $folders")
done <build/fuzz/fuzz_targets.txt
if [ ${#chosen[@]} -eq 0 ] || { [ $# -gt 0 ] && [ ${#chosen[@]} -ne $# ]; }; then
  echo "fuzz.sh: no such target among $*; there are:" $(sed 's/ .*//; s/.*fuzz_//' build/fuzz/fuzz_targets.txt) >&2
  exit 2
fi
# xargs exits with 123 when a target fails.
printf '%s\n' "${chosen[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}'
