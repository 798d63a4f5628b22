#!/usr/bin/env bash
# Takes GRPO steps on one GPU from weights that one step of pretraining left, and writes a line of JSON: the medians of the steps after the first
# (tokens/s of sampling and of training).
#   scripts/gpu_grpo.sh PROGRAM FOLDER CONFIG [ARGUMENT...]       configs/runs/bench-grpo.textproto; arguments: of both
set -euo pipefail
program=$1
folder=$2
config=$3
shift 3
rm -rf "$folder"
bash "$(dirname "${BASH_SOURCE[0]}")/gpu_data.sh" "$program" "$folder/data"
data=(--set "data.tokenizer=$folder/data/tokenizer.json")
"$program" pretrain "$config" "${data[@]}" "$@" --set run.directory="$folder/base" --set "data.train[0].path=$folder/data/train" --set train.steps=1 \
  --set train.global_batch_size=8 --set train.micro_batch_size=1 --set checkpoint.save_at_end=true >&2
"$program" grpo "$config" "${data[@]}" --set run.directory="$folder/run" --set "train.init_from=$folder/base/checkpoints/step-00000001" "$@" >&2
python3 - "$folder" "$config" <<'RESULT'
import json, statistics, sys
folder, config = sys.argv[1:]
lines = [json.loads(line) for line in open(folder + "/run/metrics.jsonl")]
warm = [line for line in lines if "event" not in line][1:]
median = lambda name: statistics.median(step[name] for step in warm)
print(json.dumps({
    "config": config.removeprefix("./"), "steps": len(warm), "samples": warm[0]["samples"], "mean_length": median("completion_length_mean"),
    "generation_tokens_per_s": median("generation_tokens_per_s"), "training_tokens_per_s": median("training_tokens_per_s"),
    "step_ms": median("step_ms"), "generation_ms": median("generation_ms"), "logprob_gap_max": max(step["logprob_gap_max"] for step in warm),
    "peak_memory_gib": max(step["peak_memory_bytes"] for step in warm) / 2**30}))
RESULT
