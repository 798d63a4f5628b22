#!/usr/bin/env bash
# Whether layouts have the same bits on this machine's GPUs (numerics.mode EXACT): ranks that share one, through host memory, and where there are several
# GPUs a rank each, over NCCL. Exits 1 where they do not.
#   scripts/gpu_layouts.sh PROGRAM FOLDER CONFIG [--alone] [ARGUMENT...]      configs/runs/bench-small.textproto; arguments: of scripts/compare_layouts.sh
# --alone: for a model that fills a GPU, so that one rank has it to itself: the same layout once more, another micro-batch, recomputation.
set -euo pipefail
program=$1
folder=$2
config=$3
shift 3
here=$(dirname "${BASH_SOURCE[0]}")
rm -rf "$folder"
bash "$here/gpu_data.sh" "$program" "$folder/data" >&2
is_alone=false
if [ "${1:-}" = --alone ]; then
  is_alone=true
  shift
fi
layouts=(data=1 data=1,micro_batch_size=8 data=1,train.recompute.layers=true data=2 data=2,expert=2 tensor=2 tensor=4 pipeline=2 pipeline=2,data=2,tensor=2,expert=4,micro_batch_size=2)

# compare [ARGUMENT...] LAYOUT...
compare() {
  FATHOM=$program bash "$here/compare_layouts.sh" --steps 10 --set run.device=CUDA --set numerics.mode=EXACT --set "data.train[0].path=$folder/data/train" "$@"
}

if $is_alone; then
  compare "$@" "$config" data=1 data=1 data=1,micro_batch_size=1 data=1,train.recompute.layers=true
  exit 0
fi
echo "ranks share a GPU"
compare --set run.transport=MPI "$@" "$config" "${layouts[@]}"
gpus=$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)
if [ "$gpus" -ge 2 ]; then
  echo "a GPU each, over NCCL"
  compare "$@" "$config" "${layouts[@]:0:$((gpus >= 8 ? 9 : gpus >= 4 ? 8 : 6))}"
fi
