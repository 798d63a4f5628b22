#!/usr/bin/env bash
# Runs a config on several layouts and tells whether they give the same bits; if not, where they part.
#
#   scripts/compare_layouts.sh [--steps N] [--command NAME] [--set PATH=VALUE]... [--keep FOLDER] CONFIG LAYOUT LAYOUT...
#
# LAYOUT             axes and other fields, with commas between them, e.g. data=2,tensor=2 or pipeline=2,micro_batch_size=1,threads=2.
#                    Axes (pipeline, data, tensor, expert, stages_per_rank) that are not named are 1. micro_batch_size is that of
#                    train, threads is that of run; any other field goes by its path: train.recompute.layers=true
# --steps N          optimizer steps of each run (20)
# --command NAME     the command that trains: pretrain (default) or sft
# --set PATH=VALUE   any field of the config, for all layouts, e.g. --set numerics.mode=FAST
# --keep FOLDER      leaves the runs in FOLDER, which must not exist yet
#
# Every layout is compared with the first: loss and gradient norm of each step, and at the end the hash of weights, optimizer states
# and selection biases. For the first that differs two more runs name the tensor, the element and the ranks that own it.
# Exit code 0: all the same; 1: not; 2: they could not be run. FATHOM names the program (default: on the PATH, else build/cpu/fathom).
set -uo pipefail
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
compare=(python3 "$source_dir/scripts/first_difference.py")

die() {
  echo "compare_layouts.sh: $*" >&2
  exit 2
}

steps=20
command=pretrain
keep=""
overrides=()
while [[ "${1:-}" == --* ]]; do
  [ $# -ge 2 ] || die "$1 needs a value"
  case "$1" in
    --steps) steps=$2 ;;
    --command) command=$2 ;;
    --set) overrides+=(--set "$2") ;;
    --keep) keep=$2 ;;
    *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
[ $# -ge 3 ] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
config=$1
shift
layouts=("$@")
fathom=${FATHOM:-$(command -v fathom || echo "$source_dir/build/cpu/fathom")}
[ -x "$fathom" ] || die "no program $fathom: run scripts/build.sh, or set FATHOM"
[[ "$steps" =~ ^[1-9][0-9]*$ ]] || die "--steps $steps: want a positive number"

# As root, Open MPI refuses to start unless it is told twice.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
if [ -n "$keep" ]; then
  mkdir "$keep" || exit 2
  folder=$keep
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi

# read_layout LAYOUT: number of ranks in $ranks, fields in the array $fields.
read_layout() {
  local -A axes=([pipeline]=1 [data]=1 [tensor]=1 [expert]=1 [stages_per_rank]=1)
  local parts part name
  fields=()
  IFS=, read -r -a parts <<<"$1"
  for part in "${parts[@]}"; do
    name=${part%%=*}
    [[ "$part" == ?*=?* ]] || die "layout $1: \"$part\" is not NAME=VALUE"
    if [ -n "${axes[$name]:-}" ]; then
      [[ "${part#*=}" =~ ^[1-9][0-9]*$ ]] || die "layout $1: $part is not a positive number"
      axes[$name]=${part#*=}
      continue
    fi
    case "$name" in
      micro_batch_size) fields+=(--set "train.$part") ;;
      threads) fields+=(--set "run.$part") ;;
      *.*) fields+=(--set "$part") ;;
      *) die "layout $1: no axis $name; other fields go by their path, e.g. train.micro_batch_size=2" ;;
    esac
  done
  for name in "${!axes[@]}"; do
    fields+=(--set "mesh.$name=${axes[$name]}")
  done
  ranks=$((axes[pipeline] * axes[data] * axes[tensor]))
}

# run_layout LAYOUT RUN [ARGUMENT...]: a run from step 0 into $folder/RUN that writes no checkpoint.
run_layout() {
  local layout=$1 run=$folder/$2
  shift 2
  read_layout "$layout"
  mpirun --oversubscribe --bind-to none -n "$ranks" "$fathom" "$command" "$config" --resume none "${overrides[@]}" "${fields[@]}" \
    --set run.directory="$run" --set checkpoint.directory="$run/checkpoints" --set checkpoint.interval=0 \
    --set checkpoint.save_at_end=false --set evaluation.interval=0 --set evaluation.num_sequences=1 \
    --set evaluation.sample_tokens=1 --set train.steps="$steps" --set train.trace.enabled=true "$@" \
    >"$folder/out" 2>&1 </dev/null || { tail -n 20 "$folder/out" >&2; die "layout $layout did not run"; }
}

width=6
for layout in "${layouts[@]}"; do
  read_layout "$layout"  # complains now, not after the runs before it
  [ "${#layout}" -le "$width" ] || width=${#layout}
done
first_parted=""
printf '%-*s  %5s  %s\n' "$width" layout ranks "$steps steps"
for i in "${!layouts[@]}"; do
  run_layout "${layouts[i]}" "run-$i"
  if [ "$i" -eq 0 ]; then
    verdict=reference
  elif verdict=$("${compare[@]}" runs "$folder/run-0" "$folder/run-$i"); then
    verdict="same bits"
  elif [ -z "$verdict" ]; then
    die "could not compare the runs"
  elif [ -z "$first_parted" ]; then
    first_parted=$i
  fi
  printf '%-*s  %5s  %s\n' "$width" "${layouts[i]}" "$ranks" "$verdict"
done
[ -n "$first_parted" ] || exit 0

echo
echo "A is ${layouts[0]}, B is ${layouts[first_parted]}"
"${compare[@]}" tensors "$folder/run-0" "$folder/run-$first_parted" >"$folder/part" || { cat "$folder/part"; exit 1; }
read -r step key <"$folder/part"
for i in 0 "$first_parted"; do
  run_layout "${layouts[i]}" "elements-$i" --set train.trace.elements_step="$step" --set train.trace.elements_of="$key"
done
"${compare[@]}" elements "$folder/elements-0" "$folder/elements-$first_parted"
exit 1
