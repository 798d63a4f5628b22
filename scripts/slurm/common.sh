# Sourced by the batch scripts: starts a command of the program as one rank a GPU on all nodes of the job, and puts the job back into the
# queue when its time is over, or when it has failed. Variables, all of them optional but the config:
#   FATHOM_CONFIG    the run's config, below the folder from which the job was submitted
#   FATHOM_ROOT      a folder of scripts/bundle.sh, or the repository (default: the folder from which the job was submitted)
#   FATHOM_OPTIONS   more arguments, for example "--set optimizer.lr=3e-4"; not --resume
#   FATHOM_LAUNCHER  srun (default; Slurm built with PMIx) or mpirun
#   FATHOM_FAILURES  a run that fails (a GPU, a network, a node) goes back into the queue and resumes from its newest checkpoint, until it has
#                    failed that often (default 3) without a new checkpoint; one with a config that cannot run (93) stays away at once
#   FATHOM_GRACE     seconds (default 540) from the signal before the time limit until a job that has not stopped goes back into the queue as it is
set -uo pipefail
root=${FATHOM_ROOT:-$SLURM_SUBMIT_DIR}
: "${FATHOM_CONFIG:?set it to the config of the run: sbatch --export=ALL,FATHOM_CONFIG=...}"

program=$root/bin/fathom
[ -x "$program" ] || program=$root/build/cuda/fathom
[ -x "$program" ] || { echo "no program in $root/bin or $root/build/cuda" >&2; exit 93; }
read -r -a options <<<"${FATHOM_OPTIONS:-}"
for option in ${options[@]+"${options[@]}"}; do
  case $option in --resume | --resume=*)
    echo "FATHOM_OPTIONS has $option: a job that goes back into the queue would start there again; move newer checkpoints away instead" >&2
    exit 93
    ;;
  esac
done
marker=$SLURM_SUBMIT_DIR/.fathom-stopped-$SLURM_JOB_ID  # written by ranks that stopped in time
failures=$SLURM_SUBMIT_DIR/.fathom-failures-$SLURM_JOB_ID  # how often the job has failed since its last checkpoint
output=$(readlink -f "/proc/$$/fd/1")  # of this shell and its ranks
output_begin=$(stat -L -c %s "$output" 2>/dev/null || echo 0)
grace=

# launch COMMAND: in the background, since a shell that waits for a child in the foreground would not hear the signal.
launch() {
  local cores=${SLURM_CPUS_PER_TASK:-}  # srun does not take them from the job by itself
  # Ranks side by side on a socket, as the GPUs are.
  local launcher=(srun --mpi=pmix --kill-on-bad-exit=1 --distribution=block:block ${cores:+"--cpus-per-task=$cores"})
  if [ "${FATHOM_LAUNCHER:-srun}" = mpirun ]; then
    launcher=("$(command -v "$root/bin/mpirun" || command -v mpirun)" -n "$SLURM_NTASKS" --map-by "ppr:$SLURM_NTASKS_PER_NODE:node${cores:+:PE=$cores}")
    local name
    for name in $(compgen -e | grep -E '^(NCCL|UCX|CUDA)_'); do  # to the other nodes, too
      launcher+=(-x "$name")
    done
  fi
  rm -f "$marker"
  "${launcher[@]}" "$root/scripts/slurm/rank.sh" "$marker" "$program" "$1" "$FATHOM_CONFIG" --set run.device=CUDA ${options[@]+"${options[@]}"} &
  job=$!
}

# requeue_failed REASON: puts the job back into the queue, unless it has failed too often.
requeue_failed() {
  local count=0 limit=${FATHOM_FAILURES:-3}
  # The line of a checkpoint among what this life has written; where that is no file, none is seen.
  if ! { [ -f "$output" ] && tail -c "+$((output_begin + 1))" "$output" | grep -q '^checkpoint .* s)$'; }; then
    count=$(cat "$failures" 2>/dev/null)
  fi
  count=$((${count:-0} + 1))
  if [ "$count" -ge "$limit" ]; then
    echo "$1; failed $count times without a new checkpoint: the job stays out of the queue"
    rm -f "$failures"
    return
  fi
  echo "$count" >"$failures"
  echo "$1; the job goes back into the queue and resumes from the newest checkpoint (failure $count of $limit without a new one)"
  scontrol requeue "$SLURM_JOB_ID"
}

# In the background, for ranks that come to no step boundary before the time is over.
requeue_later() {
  (
    trap 'kill "$pause"; exit' TERM
    sleep "${FATHOM_GRACE:-540}" &
    pause=$!
    wait "$pause"
    requeue_failed "not stopped within ${FATHOM_GRACE:-540} s"
  ) &
  grace=$!
}

# Slurm signals this shell before the time is over (--signal=B:USR1@...); the ranks write a checkpoint and exit with 75.
pass_on() {
  [ -n "$grace" ] || requeue_later
  if [ "${FATHOM_LAUNCHER:-srun}" = mpirun ]; then
    kill -USR1 "$job"  # mpirun hands it to the ranks
  else
    scancel --signal=USR1 "$SLURM_JOB_ID"  # to the steps of the job, not to this shell
  fi
}

# run COMMAND
run() {
  trap pass_on USR1
  trap 'rm -f "$marker"; [ -z "$grace" ] || kill "$grace" 2>/dev/null' EXIT
  trap 'exit 143' TERM
  launch "$1"
  local status=1
  while :; do  # a signal ends `wait` before the job ends
    wait "$job"
    status=$?
    kill -0 "$job" 2>/dev/null || break
  done
  if [ -e "$marker" ]; then
    status=75
    rm -f "$failures"
    echo "stopped in time with a checkpoint; the job goes back into the queue and resumes"
    scontrol requeue "$SLURM_JOB_ID"
  elif [ "$status" -ne 0 ] && [ "$status" -ne 93 ]; then
    sleep 2  # scancel ends the ranks and this shell, which may hear of it last
    requeue_failed "failed with exit code $status after $SECONDS s"
  else
    rm -f "$failures"
  fi
  exit "$status"
}
