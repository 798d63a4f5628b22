#!/usr/bin/env bash
# watchdog_mpi_test.sh PROGRAM HOW: runs 4 ranks of which rank 2 misbehaves, and checks how the job ends and what it says.
set -euo pipefail
program=$1
how=$2
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/log

fail() {
  echo "$how: $1; the job said:" >&2
  cat "$log" >&2
  exit 1
}

code=0
timeout --signal=KILL 60 mpirun --oversubscribe -n 4 "$program" "$how" "$folder/heartbeat" \
  >"$log" 2>&1 || code=$?
end=$(date +%s)

expect() {
  grep -q -- "$1" "$log" || fail "no line with \"$1\""
}

case $how in
  none | slow)
    [ "$code" -eq 0 ] || fail "exit code $code, want 0"
    ;;
  stop)
    expect "^hang: no progress for 1.5 s; rank 2 (.*, pid [0-9]*) stopped answering, last seen at step 3 in 'forward'"
    expect "rank 0 waits at step 3 in 'optimizer step', in all_reduce number 2 of group pipeline for rank 2"
    ;;
  loop)
    expect "^hang: .*; rank 2 (.*, pid [0-9]*) is stuck at step 3 in 'forward', outside any communication"
    ;;
  disagree)
    expect "^hang: .*; ranks wait for each other"
    expect "rank 2 waits at step 3 in 'forward', in barrier number 2 of group world for rank 0"
    ;;
  kill)
    # mpirun notices by itself, and names the rank.
    [ "$code" -eq 137 ] || fail "exit code $code, want 137"
    # 1 to 2 s on an idle machine, 5 s are promised; room for a machine that is busy.
    killed=$(sed -n 's/^killed at //p' "$log")
    [ $((end - killed)) -le 15 ] || fail "it took $((end - killed)) s to end"
    expect "rank 2 "
    ;;
  *)
    fail "unknown case"
    ;;
esac

case $how in
  stop | loop | disagree)
    [ "$code" -eq 124 ] || fail "exit code $code, want 124"
    [ "$(grep -c '^hang:' "$log")" -eq 1 ] || fail "it should say it once"
    [ "$(cat "$folder"/heartbeat/hang-* | wc -l)" -eq 5 ] || fail "no report of all ranks"
    ;;
esac

# Nobody is left, not even the stopped rank.
sleep 0.2
if pgrep -f -- "$program $how $folder" >/dev/null; then
  fail "a rank is still there"
fi
