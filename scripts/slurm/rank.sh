#!/usr/bin/env bash
# rank.sh MARKER COMMAND...: one rank. srun ends all ranks when one ends with a code other than 0, and then reports how the others died: so
# code 75, stopped in time with a checkpoint, becomes 0 and the file MARKER.
marker=$1
shift
"$@" &
rank=$!
trap 'kill -USR1 "$rank"' USR1
trap 'kill -TERM "$rank"' TERM
while :; do  # a signal ends `wait` before the rank ends
  wait "$rank"
  status=$?
  kill -0 "$rank" 2>/dev/null || break
done
if [ "$status" -eq 75 ]; then
  : >"$marker"
  exit 0
fi
exit "$status"
