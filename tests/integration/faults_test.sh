#!/usr/bin/env bash
# What happens to a job when something breaks, and that nothing published is lost.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
what="kill -9 of rank 1 at any moment"  # at each phase: kill_test.sh
start 2 "$folder/killed_any_time" --set mesh.tensor=2
sleep 0.2
kill -9 "$(rank_pid 1)"
finish 5
[ "$status" -ne 0 ] || fail "$what: exit code 0"
expect_text "process rank 1 " "$what"
resumes

# stops_on_request: that the run, which was just asked to, stops and goes on.
stops_on_request() {
  finish 30
  expect_status 75 "$what"
  grep -q '"reason": "stopped on request"' "$run/metrics.jsonl" || fail "$what: no end event"
  resumes
}

what="SIGUSR1 to mpirun"
start 2 "$folder/stopped"
kill -USR1 "$job"
stops_on_request

what="SIGTERM to a rank"
start 2 "$folder/terminated"
kill -TERM "$(rank_pid 1)"
stops_on_request

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
expect_once "checkpoint.interval is 0: a checkpoint only at the end, or when the run is stopped" "$what"
grep -q '"first_sample"' "$folder"/diverged/log/not-finite-step-*.json || fail "$what: no samples named"

what="a time limit"
launch 2 "$folder/limited" "${long[@]}" --set train.time_limit=2
expect_status 75 "$what"

what="a reader of the progress lines that has gone"
run=$folder/unread
rm -rf "$run"
{ "$fathom" pretrain "$config" --set run.directory="$run" --set "data.train[0].path=$data/train" --set train.steps=30 2>&1; echo $? >"$folder/status"; } |
  head -n 1 >"$folder/out"
status=$(cat "$folder/status")
expect_status 0 "$what"
grep -q '"event": "end"' "$run/metrics.jsonl" || fail "$what: ends the run"

what="a flipped bit"
run=$folder/flipped
rm -rf "$run"
launch 2 "$run" --set train.steps=8 --set checkpoint.interval=4
expect_status 0 "$what: the run before"
! grep -q "checkpoint.interval is 0" "$folder/out" || fail "$what: a note that checkpoints are rare"
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
expect_once "$run/checkpoints holds step 8 of an earlier run: until this one has passed them, a start with --resume auto" "$what"

what="checkpoints of an abandoned run"
launch 2 "$run" --set train.steps=2 --resume none
expect_status 0 "$what"
expect_once "$run/checkpoints holds steps 4 to 9 of an earlier run" "$what"

exit 0
