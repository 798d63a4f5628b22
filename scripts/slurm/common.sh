# Sourced by the batch scripts: starts a command of the program as one rank a GPU on all nodes of the job, and puts the job back into the
# queue when its time is over. Variables, all of them optional but the config:
#   FATHOM_CONFIG    the run's config, below the folder from which the job was submitted
#   FATHOM_ROOT      a folder of scripts/bundle.sh, or the repository (default: the folder from which the job was submitted)
#   FATHOM_OPTIONS   more arguments, for example "--set optimizer.lr=3e-4"
#   FATHOM_LAUNCHER  srun (default; Slurm built with PMIx) or mpirun
set -uo pipefail
root=${FATHOM_ROOT:-$SLURM_SUBMIT_DIR}
: "${FATHOM_CONFIG:?set it to the config of the run: sbatch --export=ALL,FATHOM_CONFIG=...}"

program=$root/bin/fathom
[ -x "$program" ] || program=$root/build/cuda/fathom
[ -x "$program" ] || { echo "no program in $root/bin or $root/build/cuda" >&2; exit 93; }
read -r -a options <<<"${FATHOM_OPTIONS:-}"

# launch COMMAND: in the background, since a shell that waits for a child in the foreground would not hear the signal.
launch() {
  local launcher=(srun --mpi=pmix --kill-on-bad-exit=1)
  if [ "${FATHOM_LAUNCHER:-srun}" = mpirun ]; then
    launcher=("$(command -v "$root/bin/mpirun" || command -v mpirun)" -n "$SLURM_NTASKS" --map-by "ppr:$SLURM_NTASKS_PER_NODE:node")
  fi
  "${launcher[@]}" "$program" "$1" "$FATHOM_CONFIG" --set run.device=CUDA ${options[@]+"${options[@]}"} &
  job=$!
}

# Slurm signals this shell before the time is over (--signal=B:USR1@...); the ranks write a checkpoint and exit with 75.
pass_on() {
  if [ "${FATHOM_LAUNCHER:-srun}" = mpirun ]; then
    kill -USR1 "$job"  # mpirun hands it to the ranks
  else
    scancel --signal=USR1 "$SLURM_JOB_ID"  # to the steps of the job, not to this shell
  fi
}

# run COMMAND
run() {
  trap pass_on USR1
  launch "$1"
  local status=1
  while :; do  # a signal ends `wait` before the job ends
    wait "$job"
    status=$?
    kill -0 "$job" 2>/dev/null || break
  done
  if [ "$status" -eq 75 ]; then
    echo "stopped in time with a checkpoint; the job goes back into the queue and resumes"
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit "$status"
}
