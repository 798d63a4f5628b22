#!/usr/bin/env bash
# What happens to a job when something breaks, and that nothing published is lost.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
long=(--set train.steps=100000 --set checkpoint.interval=20 --set checkpoint.keep_last=2)

# start RANKS RUN [ARGUMENT...]: a job in the background, once it has made its first checkpoint.
start() {
  local ranks=$1
  run=$2
  shift 2
  rm -rf "$run"
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

for moment in 0.05 0.2 0.6; do
  what="kill -9 of rank 1 after $moment s"
  start 2 "$folder/killed" --set mesh.tensor=2
  sleep "$moment"
  kill -9 "$(rank_pid 1)"
  finish 5
  [ "$status" -ne 0 ] || fail "$what: exit code 0"
  expect_text "rank 1" "$what"
  resumes
done

what="SIGUSR1 to mpirun"
start 2 "$folder/stopped"
kill -USR1 "$job"
finish 30
expect_status 75 "$what"
grep -q '"reason": "stopped on request"' "$run/metrics.jsonl" || fail "$what: no end event"
resumes

what="a stopped rank"
start 2 "$folder/hung" --set train.watchdog_timeout=3
kill -STOP "$(rank_pid 1)"
finish 30
expect_status 124 "$what"
expect_text "rank 1" "$what"
resumes

what="steps that are not finite"
launch 2 "$folder/diverged" --set train.steps=50 --set optimizer.lr=1e30 --set optimizer.weight_decay=0 --set train.max_skipped_steps=3 \
  --set mesh.pipeline=2
expect_status 93 "$what"
expect_text "(4 in a row" "$what"
grep -q '"first_sample"' "$folder"/diverged/log/not-finite-step-*.json || fail "$what: no samples named"

what="a time limit"
launch 2 "$folder/limited" "${long[@]}" --set train.time_limit=2
expect_status 75 "$what"

what="a flipped bit"
run=$folder/flipped
rm -rf "$run"
launch 2 "$run" --set train.steps=8 --set checkpoint.interval=4
expect_status 0 "$what: the run before"
newest=$run/checkpoints/step-00000008/rank-00001.h5
middle=$(($(stat -c %s "$newest") / 2))
byte=$(od -An -tu1 -j "$middle" -N 1 "$newest" | tr -d ' ')
printf "\\$(printf %o $((byte ^ 16)))" | dd of="$newest" bs=1 seek="$middle" conv=notrunc status=none
launch 2 "$run" --set train.steps=9
expect_status 93 "$what"
expect_once "rank-00001.h5" "$what"
expect_text "--resume 4" "$what"
launch 2 "$run" --set train.steps=9 --resume 4
expect_status 0 "$what: the checkpoint before"

if [ "$(id -u)" -eq 0 ] && mkdir -p "$folder/small" && mount -t tmpfs -o size=8m tmpfs "$folder/small"; then
  what="a full disk"
  trap 'umount "$folder/small"' EXIT
  run=$folder/small/run
  launch 2 "$run" --set train.steps=1000 --set checkpoint.interval=2 --set checkpoint.keep_last=0
  [ "$status" -ne 0 ] || fail "$what: exit code 0"
  expect_text "No space left" "$what"
  newest=$(ls -d "$run"/checkpoints/step-???????? | tail -n 1)
  [ -n "$newest" ] || fail "$what: no checkpoint before the disk was full"
  cp -r "$run" "$folder/rescued"
  run=$folder/rescued
  resumes
fi
exit 0
