#!/usr/bin/env bash
# scripts/gpu_check.sh beside a made-up card and made-up programs: runs each once, goes on where it was interrupted, reports what failed; without
# a card it says so. Argument: the source folder.
set -uo pipefail
source_dir=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fail() { echo "FAILED: $*" >&2; cat "$root/out" >&2; exit 1; }

mkdir -p "$root"/{bin,docs,scripts/rival,tools}
cp "$source_dir"/scripts/gpu_{check.sh,report.py} "$root/scripts"
program() { printf '#!/bin/sh\necho "$0" >>%s/ran\n%s\n' "$root" "$2" >"$1"; chmod +x "$1"; }
program "$root/bin/good_tests_cuda" "exit 0"
program "$root/bin/bad_tests_cuda" "[ -e $root/mended ]"
program "$root/bin/kernel_bench_cuda" "echo '{\"op\": \"add\", \"shape\": \"1\", \"us\": 2, \"tbs\": 1, \"share_of_floor\": 0.5}'"
program "$root/bin/fathom" "exit 0"
cat >"$root/scripts/gpu_training.sh" <<'TRAINING'
echo '{"config": "configs/runs/x", "arguments": "'"${*:4}"'", "tokens": 32768, "steps": 20, "tokens_per_s": 100000.0, "step_ms": 327.7, "peak_memory_gib": 70.0, "first_step_s": 5.0, "mfu": 0.45, "optimizer_ms": 15.0}'
TRAINING
cat >"$root/scripts/gpu_grpo.sh" <<'GRPO'
echo "$*" >&2
echo '{"config": "configs/runs/g", "samples": 256, "mean_length": 480, "generation_tokens_per_s": 65000.0, "training_tokens_per_s": 120000.0, "step_ms": 3000.0,
 "generation_ms": 1800.0, "peak_memory_gib": 30.0, "logprob_gap_max": 0.0}' | tr -d '\n'
GRPO
cat >"$root/scripts/rival/training.py" <<'RIVAL'
import json, sys
print(json.dumps({"config": "configs/runs/x", "parameters": sys.argv[3], "compile": sys.argv[5], "tokens_per_s": 80000.0, "step_ms": 409.6, "peak_memory_gib": 50.0, "torch": "9"}))
RIVAL
touch "$root/scripts/rival/kernels.py"
echo 'echo "data=2  same bits"' >"$root/scripts/gpu_layouts.sh"
program "$root/bin/mpirun" 'exec "${@: -1}"'
sed -i '1s/sh$/bash/' "$root/bin/mpirun"
program "$root/bin/comm_nccl_program" "exit 0"
check() { PATH=$root/tools:$PATH bash "$root/scripts/gpu_check.sh" "$root/state" >"$root/out" 2>&1; }
times_ran() { grep -c "/$1\$" "$root/ran"; }

program "$root/tools/nvidia-smi" "exit 9"
mv "$root/bin" "$root/none"
check
[ $? -eq 77 ] || fail "neither a card nor a build, but no exit code of 77"
mv "$root/none" "$root/bin"
program "$root/tools/python3" 'case $1 in -c) exit 1;; esac; exec /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin python3 "$@"'  # without torch
check
[ $? -eq 77 ] || fail "no card, but no exit code of 77"
program "$root/tools/nvidia-smi" "echo 'NVIDIA A, 580.1, 80000 MiB'"
program "$root/tools/compute-sanitizer" "exit 0"
check
[ $? -eq 1 ] || fail "a test program failed, but the check did not"
grep -q "Failed: bad_tests_cuda$" "$root/docs/results-gpu.md" || fail "the report does not name what failed"
touch "$root/mended"
check || fail "everything passes, but the check failed"
[ "$(times_ran good_tests_cuda) $(times_ran bad_tests_cuda) $(times_ran compute-sanitizer)" = "1 2 8" ] || fail "what passed ran again"
grep -q "Failed: nothing$" "$root/docs/results-gpu.md" || fail "the report names what passed as failed"
grep -q "20 steps of 32,768 tokens: 100,000 tokens/s" "$root/docs/results-gpu.md" || fail "the report lacks the training step"
grep -q "| graphs | 256 | 480 | 65,000 | 120,000 | 3.00 | 60% |" "$root/docs/results-gpu.md" || fail "the report lacks the steps of GRPO"
grep -q -- "--set run.cuda_graphs=false" "$root/state/grpo-launches.log" || fail "no steps of GRPO without graphs"
grep -q "PyTorch's kernels and training steps ... skipped" "$root/out" || fail "no word of what is skipped without torch"
grep -q "configs/runs/x --set numerics.mode=EXACT" "$root/docs/results-gpu.md" || fail "the report lacks the step in EXACT"
grep -q "data=2  same bits" "$root/docs/results-gpu.md" || fail "the report lacks the layouts"
[ -e "$root/state/nccl.passed" ] && fail "NCCL with one card"
grep -q "| add | 1 | 2.0 | 1.00 TB/s | 50% |" "$root/docs/results-gpu.md" || fail "the report lacks the kernel"
program "$root/tools/nvidia-smi" "echo 'NVIDIA B, 580.1, 80000 MiB'; echo 'NVIDIA B, 580.1, 80000 MiB'"
check
[ "$(times_ran comm_nccl_program)" = 1 ] || fail "two cards, but NCCL was not checked"
[ "$(times_ran good_tests_cuda)" -eq 2 ] || fail "another card, but what passed on the first did not run"
program "$root/tools/python3" 'case $1 in -c) exit 0;; esac; exec /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin python3 "$@"'  # with torch
check || fail "everything passes with torch, but the check failed"
grep -q "| float32 | default | 80,000 | 409.6 | 50.0 | 1.25x |" "$root/docs/results-gpu.md" || fail "the report lacks PyTorch's step"
[ -e "$root/state/training-lite-3b-again.passed" ] || fail "our step was not measured again after PyTorch's"
