#!/usr/bin/env bash
# scripts/gpu_check.sh beside a made-up card and made-up programs: runs each once, goes on where it was interrupted, reports what failed; without
# a card it says so. Argument: the source folder.
set -uo pipefail
source_dir=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fail() { echo "FAILED: $*" >&2; cat "$root/out" >&2; exit 1; }

mkdir -p "$root"/{bin,docs,scripts,tools}
cp "$source_dir"/scripts/gpu_{check.sh,report.py} "$root/scripts"
program() { printf '#!/bin/sh\necho "$0" >>%s/ran\n%s\n' "$root" "$2" >"$1"; chmod +x "$1"; }
program "$root/bin/good_tests_cuda" "exit 0"
program "$root/bin/bad_tests_cuda" "[ -e $root/mended ]"
program "$root/bin/kernel_bench_cuda" "echo '{\"op\": \"add\", \"shape\": \"1\", \"us\": 2, \"tbs\": 1, \"share_of_floor\": 0.5}'"
program "$root/bin/fathom" "exit 0"
cat >"$root/scripts/gpu_training.sh" <<'TRAINING'
echo '{"config": "configs/runs/x", "tokens": 32768, "steps": 20, "tokens_per_s": 100000.0, "step_ms": 327.7, "peak_memory_gib": 70.0, "first_step_s": 5.0, "mfu": 0.45, "optimizer_ms": 15.0}'
TRAINING
check() { PATH=$root/tools:$PATH bash "$root/scripts/gpu_check.sh" "$root/state" >"$root/out" 2>&1; }
times_ran() { grep -c "/$1\$" "$root/ran"; }

program "$root/tools/python3" 'case $1 in -c) exit 1;; esac; exec /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin python3 "$@"'  # without torch
program "$root/tools/nvidia-smi" "exit 9"
check
[ $? -eq 77 ] || fail "no card, but no exit code of 77"
program "$root/tools/nvidia-smi" "echo 'NVIDIA A, 580.1, 80000 MiB'"
program "$root/tools/compute-sanitizer" "exit 0"
check
[ $? -eq 1 ] || fail "a test program failed, but the check did not"
grep -q "Failed: bad_tests_cuda$" "$root/docs/results-gpu.md" || fail "the report does not name what failed"
touch "$root/mended"
check || fail "everything passes, but the check failed"
[ "$(times_ran good_tests_cuda) $(times_ran bad_tests_cuda) $(times_ran compute-sanitizer)" = "1 2 4" ] || fail "what passed ran again"
grep -q "Failed: nothing$" "$root/docs/results-gpu.md" || fail "the report names what passed as failed"
grep -q "20 steps of 32,768 tokens: 100,000 tokens/s" "$root/docs/results-gpu.md" || fail "the report lacks the training step"
grep -q "| add | 1 | 2.0 | 1.00 TB/s | 50% |" "$root/docs/results-gpu.md" || fail "the report lacks the kernel"
program "$root/tools/nvidia-smi" "echo 'NVIDIA B, 580.1, 80000 MiB'"
check
[ "$(times_ran good_tests_cuda)" -eq 2 ] || fail "another card, but what passed on the first did not run"
