#!/usr/bin/env bash
# Runs a command with one line of output, "WHAT ... 12 s"; its own output is shown only if it fails.
# Usage: run_quietly.sh WHAT COMMAND [ARGUMENT...]
set -uo pipefail
what=$1
shift

printf '%s ... ' "$what"
output=$(mktemp)
trap 'rm -f "$output"' EXIT
SECONDS=0
"$@" >"$output" 2>&1 </dev/null
status=$?
if [ $status -eq 0 ]; then
  echo "$SECONDS s"
else
  echo "failed after $SECONDS s (exit $status): $*"
  cat "$output"
fi
exit $status
