#!/usr/bin/env bash
# The batch scripts with a made-up Slurm: the ranks get the config and the device, the signal before the time limit reaches them, exit code 75
# puts the job back into the queue, others do not. Argument: the source folder.
set -uo pipefail
source_dir=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fail() { echo "FAILED: $*" >&2; cat "$root"/{out,calls} >&2; exit 1; }

mkdir -p "$root"/{bin,tools,scripts}
cp -r "$source_dir/scripts/slurm" "$root/scripts"
tool() { printf '#!/usr/bin/env bash\n%s\n' "$2" >"$1"; chmod +x "$1"; }
tool "$root/bin/fathom" "exit 0"
# A job that ends by itself with ENDS, or waits for the signal and stops with a checkpoint.
job='trap "exit 75" USR1; echo $$ >$root/job; echo "${0##*/} $*" >>$root/calls; [ -z "$ENDS" ] || exit $ENDS; while :; do sleep 0.05; done'
tool "$root/tools/srun" "$job"
tool "$root/bin/mpirun" "$job"
tool "$root/tools/scancel" 'echo "scancel $*" >>$root/calls; kill -USR1 $(cat $root/job)'
tool "$root/tools/scontrol" 'echo "scontrol $*" >>$root/calls'

# batch COMMAND [NAME=VALUE...]: in the background, its process in $batch.
batch() {
  local command=$1
  shift
  rm -f "$root/job" "$root/calls"
  env PATH="$root/tools:$PATH" root="$root" SLURM_SUBMIT_DIR="$root" SLURM_JOB_ID=12 SLURM_NTASKS=16 SLURM_NTASKS_PER_NODE=8 ENDS= \
    FATHOM_CONFIG=a.textproto FATHOM_OPTIONS="--set train.steps=3" "$@" bash "$root/scripts/slurm/$command.sbatch" >"$root/out" 2>&1 &
  batch=$!
}
signal_when_running() {
  for _ in $(seq 200); do
    [ -s "$root/calls" ] && break
    sleep 0.05
  done
  kill -USR1 "$batch"
}

for launcher in srun mpirun; do
  batch pretrain FATHOM_LAUNCHER=$launcher
  signal_when_running
  wait "$batch"
  [ $? -eq 75 ] || fail "$launcher: stopped in time, but exit code is not 75"
  grep -q "^$launcher .*/bin/fathom pretrain a.textproto --set run.device=CUDA --set train.steps=3$" "$root/calls" || fail "$launcher: other call"
  grep -q "^scontrol requeue 12$" "$root/calls" || fail "$launcher: not put back into the queue"
done
for code in 0 1 93; do
  batch grpo ENDS=$code
  wait "$batch"
  [ $? -eq "$code" ] || fail "exit code $code is lost"
  grep -q "/bin/fathom grpo a.textproto" "$root/calls" || fail "grpo: other call"
  ! grep -q requeue "$root/calls" || fail "exit code $code puts the job back into the queue"
done
