#!/usr/bin/env bash
# Trains a config on one GPU and writes a line of JSON: the medians of the steps after the first third (tokens/s, share of the card's peak), peak
# memory, seconds from the start of the program to its first step's line.
#   scripts/gpu_training.sh PROGRAM FOLDER CONFIG [ARGUMENT...]       configs/runs/bench-lite-3b.textproto, bench-moonlight-slice.textproto
set -euo pipefail
program=$1
folder=$2
config=$3
shift 3
rm -rf "$folder"
bash "$(dirname "${BASH_SOURCE[0]}")/gpu_data.sh" "$program" "$folder/data"

begin=$(date +%s%N)
"$program" pretrain "$config" --set run.directory="$folder/run" --set "data.train[0].path=$folder/data/train" "$@" | while read -r line; do
  case "$line" in "step "*1/*) [ -e "$folder/first" ] || echo $((($(date +%s%N) - begin) / 1000000)) >"$folder/first" ;; esac
  echo "$line" >&2
done
python3 - "$folder" "$config" "$*" <<'RESULT'
import json, statistics, sys
folder, config, arguments = sys.argv[1:]
lines = [json.loads(line) for line in open(folder + "/run/metrics.jsonl")]
steps = [line for line in lines if "event" not in line]
warm = steps[len(steps) // 3:]
median = lambda name: statistics.median(step[name] for step in warm)
result = {"config": config.removeprefix("./"), "arguments": arguments, "steps": len(warm), "tokens": steps[1]["tokens"] - steps[0]["tokens"], "tokens_per_s": median("tokens_per_s"), "step_ms": median("step_ms"),
          "peak_memory_gib": max(step["peak_memory_bytes"] for step in steps) / 2**30,
          "first_step_s": int(open(folder + "/first").read()) / 1000, "loss": steps[-1]["loss"]}
if "mfu" in warm[0]:
    result["mfu"] = median("mfu")
for name in sorted(name for name in warm[0] if name.endswith("_ms") and name != "step_ms"):
    result[name] = median(name)
print(json.dumps(result))
RESULT
