# Sourced by the integration tests: whole jobs under mpirun on a tiny model. Arguments of a test: PROGRAM SOURCE_DIR FOLDER.
set -uo pipefail
fathom=$1
source_dir=$2
folder=$3
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
data=$folder/data
config=$source_dir/configs/runs/tiny.textproto

fail() {
  echo "FAILED: $*" >&2
  [ -f "$folder/out" ] && cat "$folder/out" >&2
  exit 1
}

# run_ranks RANKS PROGRAM [ARGUMENT...]: without input, since mpirun would read the lines that a loop around it has yet to come to.
run_ranks() {
  mpirun --oversubscribe --bind-to none -n "$@" </dev/null
}

# launch RANKS RUN_FOLDER [ARGUMENT...]: one training job ($command); output in $folder/out, exit code in $status.
command=pretrain
launch() {
  local ranks=$1 run=$2
  shift 2
  run_ranks "$ranks" "$fathom" "$command" "$config" --set run.directory="$run" --set "data.train[0].path=$data/train" \
    "$@" >"$folder/out" 2>&1
  status=$?
}

expect_status() {
  [ "$status" -eq "$1" ] || fail "$2: exit code $status, wanted $1"
}

expect_text() {
  grep -q -F -- "$1" "$folder/out" || fail "$2: no \"$1\" in the output"
}

expect_once() {
  local count
  count=$(grep -c -F -- "$1" "$folder/out")
  [ "$count" -eq 1 ] || fail "$2: \"$1\" appears $count times in the output, wanted once"
}

# Everything in metrics.jsonl that is bits.
bits() {
  grep -o -E '"(step|event|tokens|text|loss|loss_hex|grad_norm_hex|mtp_loss|balance_loss|bits_per_byte|state_hash)": [^,}]*' "$1/metrics.jsonl"
}

# expect_same_bits STRAIGHT RUN
expect_same_bits() {
  diff <(bits "$1") <(bits "$2") >"$folder/out" || fail "$what has other bits than the straight run"
}

# For tests that break a running job.
long=(--set train.steps=100000 --set checkpoint.interval=20 --set checkpoint.keep_last=2)

# start RANKS RUN [ARGUMENT...]: a job in the background on a new run folder, once it has made its first checkpoint.
start() {
  local ranks=$1
  run=$2
  shift 2
  mpirun --oversubscribe --bind-to none -n "$ranks" "$fathom" pretrain "$config" --set run.directory="$run" \
    --set "data.train[0].path=$data/train" "${long[@]}" "$@" >"$folder/out" 2>&1 &
  job=$!
  for _ in $(seq 600); do
    ls "$run"/checkpoints/step-*/manifest.pb >/dev/null 2>&1 && return
    kill -0 "$job" 2>/dev/null || fail "the job ended before its first checkpoint"
    sleep 0.1
  done
  fail "no checkpoint within 60 s"
}

# rank_pid N: process of one rank, found by what mpirun put into its environment.
rank_pid() {
  local pid
  for pid in $(pgrep -P "$job"); do
    tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -q "^OMPI_COMM_WORLD_RANK=$1$" && echo "$pid" && return
  done
}

# finish SECONDS: waits for the job; its exit code in $status.
finish() {
  local limit=$1 begin=$SECONDS
  while kill -0 "$job" 2>/dev/null; do
    [ $((SECONDS - begin)) -le "$limit" ] || { kill -9 "$job"; fail "$what: still running after $limit s"; }
    sleep 0.1
  done
  wait "$job"
  status=$?
}

# resumes: goes on from the newest published checkpoint for a few steps.
resumes() {
  local newest
  newest=$(basename "$(ls -d "$run"/checkpoints/step-???????? | tail -n 1)")
  newest=$((10#${newest#step-}))
  launch 2 "$run" --set train.steps=$((newest + 2))
  expect_status 0 "$what: resume from step $newest"
}
