#!/usr/bin/env bash
# The batch scripts with a made-up Slurm: the ranks get the config, the device and their cores, the signal before the time limit reaches them, a
# stop in time puts the job back into the queue, as do failures until there are too many without a checkpoint, and the end of the time for ranks
# that do not stop, and nothing else does. Argument: the source folder.
set -uo pipefail
source_dir=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fail() { echo "FAILED: $*" >&2; cat "$root"/{out,calls} >&2; exit 1; }

mkdir -p "$root"/{bin,tools,scripts}
cp -r "$source_dir/scripts/slurm" "$root/scripts"
tool() { printf '#!/usr/bin/env bash\n%s\n' "$2" >"$1"; chmod +x "$1"; }
# A rank that ends by itself with ENDS, after a checkpoint if it SAVES, or waits for the signal and stops with a checkpoint, unless it is DEAF.
tool "$root/bin/fathom" 'trap "${DEAF-exit 75}" USR1; echo "fathom $*" >>$root/calls; [ -z "${SAVES-}" ] || echo "checkpoint run/step-2 (0.10 s)"
[ -z "$ENDS" ] || exit $ENDS; while :; do sleep 0.05; done'
# Starts one rank, which is what follows the options, as its own process; mpirun hands the signal on, Slurm sends it to the ranks.
tool "$root/tools/srun" 'echo "${0##*/} $*" >>$root/calls; while [ "${1#-}" != "$1" ]; do shift; done; echo $$ >$root/job; exec "$@"'
tool "$root/bin/mpirun" 'echo "${0##*/} $*" >>$root/calls; while [ "${1##*/}" != rank.sh ]; do shift; done; echo $$ >$root/job; exec "$@"'
tool "$root/tools/scancel" 'echo "scancel $*" >>$root/calls; kill -USR1 $(cat $root/job)'
tool "$root/tools/scontrol" 'echo "scontrol $*" >>$root/calls'

# batch COMMAND [NAME=VALUE...]: in the background, its process in $batch.
batch() {
  local command=$1
  shift
  rm -f "$root/job" "$root/calls"
  env PATH="$root/tools:$PATH" root="$root" SLURM_SUBMIT_DIR="$root" SLURM_JOB_ID=12 SLURM_NTASKS=16 SLURM_NTASKS_PER_NODE=8 SLURM_CPUS_PER_TASK=6 \
    NCCL_DEBUG=WARN ENDS= FATHOM_CONFIG=a.textproto FATHOM_OPTIONS="--set train.steps=3" "$@" bash "$root/scripts/slurm/$command.sbatch" >"$root/out" 2>&1 &
  batch=$!
}
signal_when_running() {
  for _ in $(seq 200); do
    grep -qs ^fathom "$root/calls" && break
    sleep 0.05
  done
  kill -USR1 "$batch"
}

for launcher in srun mpirun; do
  batch pretrain FATHOM_LAUNCHER=$launcher
  signal_when_running
  wait "$batch"
  [ $? -eq 75 ] || fail "$launcher: stopped in time, but exit code is not 75"
  grep -q "^fathom pretrain a.textproto --set run.device=CUDA --set train.steps=3$" "$root/calls" || fail "$launcher: other call"
  grep -q "^scontrol requeue 12$" "$root/calls" || fail "$launcher: not put back into the queue"
  ! ls -A "$root" | grep -q stopped || fail "$launcher: the marker is left"
done
grep -q "^mpirun -n 16 --map-by ppr:8:node:PE=6 .*-x NCCL_DEBUG .*/bin/fathom pretrain" "$root/calls" || fail "mpirun: other options"
for options in "--resume 4" "--set train.steps=3 --resume=none"; do
  batch pretrain ENDS=0 FATHOM_OPTIONS="$options"
  touch "$root/calls"
  wait "$batch"
  [ $? -eq 93 ] || fail "$options: not refused"
  grep -q "^FATHOM_OPTIONS has --resume.*: a job that goes back into the queue would start there again" "$root/out" || fail "$options: no message"
  ! grep -q . "$root/calls" || fail "$options: something was started"
done
for code in 0 1 93 124; do
  rm -f "$root"/.fathom-failures-*
  batch grpo ENDS=$code
  wait "$batch"
  [ $? -eq "$code" ] || fail "exit code $code is lost"
  grep -q "^srun .*--cpus-per-task=6 .*/bin/fathom grpo a.textproto" "$root/calls" || fail "grpo: other call"
  retried=no
  grep -q "^scontrol requeue 12$" "$root/calls" && retried=yes
  expected=yes
  case $code in 0 | 93) expected=no ;; esac
  [ $retried = $expected ] || fail "exit code $code: put back into the queue $retried, expected $expected"
done

# Lives of one job that fail: "s" after a checkpoint, "f" without; the last one stays out of the queue.
for lives in "f f f" "f f s f f" "s s s s f f"; do
  rm -f "$root"/.fathom-failures-*
  count=0
  for life in $lives; do
    count=$((count + 2))
    saves=
    [ "$life" = f ] || saves=1
    batch pretrain ENDS=1 SAVES=$saves
    wait "$batch"
    retried=no
    grep -q "^scontrol requeue 12$" "$root/calls" && retried=yes
    expected=yes
    [ $count -le ${#lives} ] || expected=no
    [ $retried = $expected ] || fail "lives $lives: put back into the queue $retried at $count of ${#lives}, expected $expected"
  done
  grep -q "failed 3 times without a new checkpoint: the job stays out of the queue" "$root/out" || fail "lives $lives: no message"
  ! ls -A "$root" | grep -q failures || fail "lives $lives: the count is left"
done

# Ranks that come to no step boundary: the job goes back as it is, which ends it.
batch grpo DEAF= FATHOM_GRACE=1
signal_when_running
for _ in $(seq 100); do
  grep -q "^scontrol requeue 12$" "$root/calls" && break
  sleep 0.05
done
grep -q "^scontrol requeue 12$" "$root/calls" || fail "not stopped in time: not put back into the queue"
kill -TERM "$batch" "$(cat "$root/job")"
wait "$batch"
[ $? -eq 143 ] || fail "not stopped in time: other exit code"
rm -f "$root"/.fathom-failures-*

# Ranks that stop do so once, and leave nothing behind that waits.
batch grpo FATHOM_GRACE=2
signal_when_running
wait "$batch"
sleep 3
[ "$(grep -c "^scontrol requeue 12$" "$root/calls")" -eq 1 ] || fail "stopped in time, and put back into the queue twice"
