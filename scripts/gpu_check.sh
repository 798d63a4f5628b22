#!/usr/bin/env bash
# Everything that only a GPU can tell, in steps of less than ten minutes: every test program of the CUDA build, compute-sanitizer on small
# shapes (where it is installed), the time of every kernel, training steps, PyTorch's own kernels and steps (where torch with CUDA
# is installed), steps of reinforcement learning, whether layouts have the same bits, and NCCL where there are several GPUs. Writes docs/results-gpu.md, with the card, the driver and the date. Runs from the repository (scripts/build.sh cuda first) and from the folder that
# scripts/bundle.sh makes.
#   scripts/gpu_check.sh [STATE_FOLDER]      default gpu-check; what passed there is not run again, so an interrupted check goes on
# Exits 77 where there is no GPU, 1 if a step failed (its output: STATE_FOLDER/STEP.log).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=${1:-gpu-check}
most_seconds=590

card=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$card" ] || { echo "gpu_check.sh: no GPU, or no driver for it (nvidia-smi shows none)"; exit 77; }
if [ -x bin/kernel_bench_cuda ]; then
  tests=(bin/*_tests_cuda)
  bench=bin/kernel_bench_cuda
  program=bin/fathom
  nccl=bin/comm_nccl_program
  export PATH=$PWD/bin:$PATH  # its mpirun
else
  mapfile -t tests < <(find build/cuda/tests -type f -name '*_tests_cuda' -perm -u+x 2>/dev/null | sort)
  bench=build/cuda/tests/bench/kernel_bench_cuda
  program=build/cuda/fathom
  nccl=build/cuda/tests/parallel/comm_nccl_program
fi
[ -x "$bench" ] || { echo "gpu_check.sh: no CUDA build here; run scripts/build.sh cuda" >&2; exit 1; }

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mkdir -p "$state"
exec 9>"$state/lock"
flock -n 9 || { echo "gpu_check.sh: another check, or what one that was interrupted had begun, still works in $state" >&2; exit 1; }
build=$(sha256sum "$program" "${tests[@]}" "$bench")
if [ "$(cat "$state/card" 2>/dev/null)" != "$card" ] || [ "$(cat "$state/build" 2>/dev/null)" != "$build" ]; then  # results of another card or build do not belong into this report
  rm -f "$state"/*.passed "$state"/*.log "$state"/*.jsonl "$state"/*.txt
  echo "$card" >"$state/card"
  echo "$build" >"$state/build"
fi
for log in "$state"/*.log; do  # of steps that failed: they run again, if they are still wanted
  [ -e "${log%.log}.passed" ] || rm -f "$log"
done

# step NAME COMMAND...: once, unless it has passed before; its output goes to NAME.log.
step() {
  local name=$1 begin=$SECONDS status
  shift
  [ ! -e "$state/$name.passed" ] || { echo "$name ... passed before"; return 0; }
  timeout "$most_seconds" "$@" >"$state/$name.log" 2>&1
  status=$?
  if [ "$status" -eq 0 ]; then
    touch "$state/$name.passed"
    echo "$name ... passed ($((SECONDS - begin)) s)"
  else
    echo "$name ... FAILED (exit $status after $((SECONDS - begin)) s): $state/$name.log"
  fi
}

# lines NAME FILE COMMAND...: a step whose lines of JSON are kept in FILE.
lines() {
  local name=$1 file=$2
  shift 2
  step "$name" bash -c 'file=$1; shift; "$@" >"$file"' _ "$state/$file" "$@"
}

# What is right does not depend on how busy the card is: all at once.
echo "tests and sanitizers"
for test in "${tests[@]}"; do
  step "$(basename "$test")" "$test" &
done
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    step "sanitizer-$tool" compute-sanitizer --tool "$tool" --target-processes all --error-exitcode 1 "$bench" --small &
    step "sanitizer-$tool-exact" compute-sanitizer --tool "$tool" --target-processes all --error-exitcode 1 "$bench" --small --exact &
  done
else
  echo "compute-sanitizer ... skipped, it is not installed"
fi
wait

lines kernels kernels.jsonl "$bench"
lines kernels-exact kernels-exact.jsonl "$bench" --exact
training() {
  local name=$1 config=$2
  shift 2
  lines "training-$name" "training-$name.jsonl" bash scripts/gpu_training.sh "$program" "$state/training" "configs/runs/bench-$config.textproto" "$@"
}
pytorch() {
  lines "pytorch-$1-$2" "pytorch-$1-$2.jsonl" \
    python3 scripts/rival/training.py configs/runs/bench-lite-3b.textproto --parameters "$1" --compile "$2"
}
has_torch=false
python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && has_torch=true
training lite-3b lite-3b
if $has_torch; then  # the whole step of lite-3b, in turn with ours
  pytorch float32 default
  pytorch bfloat16 default
  training lite-3b-again lite-3b
  lines rival rival.jsonl python3 scripts/rival/kernels.py "$state/kernels.jsonl"
else
  echo "PyTorch's kernels and training steps ... skipped, no torch with CUDA is installed"
fi
# Decoding by graphs, and launch by launch.
lines grpo grpo-graphs.jsonl bash scripts/gpu_grpo.sh "$program" "$state/grpo" configs/runs/bench-grpo.textproto
lines grpo-launches grpo-launches.jsonl bash scripts/gpu_grpo.sh "$program" "$state/grpo" configs/runs/bench-grpo.textproto --set run.cuda_graphs=false
training moonlight-slice moonlight-slice
# What the same bits in every layout cost, and whether they are the same.
training lite-3b-exact lite-3b --set numerics.mode=EXACT
lines grpo-exact grpo-exact.jsonl bash scripts/gpu_grpo.sh "$program" "$state/grpo" configs/runs/bench-grpo.textproto --set numerics.mode=EXACT
lines layouts layouts.txt bash scripts/gpu_layouts.sh "$program" "$state/layouts" configs/runs/bench-small.textproto
lines layouts-lite-3b layouts-lite-3b.txt bash scripts/gpu_layouts.sh "$program" "$state/layouts" configs/runs/bench-lite-3b.textproto --alone --steps 2
gpus=$(nvidia-smi --list-gpus | wc -l)
[ "$gpus" -lt 2 ] || step nccl mpirun --oversubscribe -n "$gpus" "$nccl"
! $has_torch || pytorch bfloat16 no
rm -rf "$state/training" "$state/grpo" "$state/layouts"

python3 scripts/gpu_report.py "$state" docs/results-gpu.md || exit 1
for log in "$state"/*.log; do
  [ -e "${log%.log}.passed" ] || exit 1
done
