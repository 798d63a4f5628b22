#!/usr/bin/env bash
# kill -9 of a rank in each phase of a run: the job ends within 5 seconds and names the rank, the newest published checkpoint
# is whole, and the same command again ends with the metrics of a run that nobody killed.
# Arguments of a test, and the program killed_rank.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
killed_rank=$4
run_options=(--set mesh.tensor=2 --set train.steps=6 --set "data.validation=$data/held-out" --set evaluation.interval=2
  --set evaluation.num_sequences=8 --set checkpoint.interval=2 --set checkpoint.keep_last=2)

# kill_in RANK STEP PHASE [ARGUMENT...]: a job on the run folder $run that loses a rank there.
kill_in() {
  local ended killed
  what="kill -9 of rank $1 in '$3' of step $2"
  run_ranks 2 "$killed_rank" "$1" "$2" "$3" pretrain "$config" --set run.directory="$run" \
    --set "data.train[0].path=$data/train" "${run_options[@]}" "${@:4}" >"$folder/out" 2>&1
  status=$?
  ended=$(date +%s%3N)
  [ "$status" -ne 0 ] || fail "$what: exit code 0"
  killed=$(grep -a -o "killed at [0-9]*" "$folder/out" | grep -o '[0-9]*') || fail "$what: did not happen"
  [ $((ended - killed)) -lt 5000 ] || fail "$what: the job ended $((ended - killed)) ms later"
  expect_text "process rank $1 " "$what"
}

# recovers: what is published is whole, and the same command again ends like the undisturbed run.
recovers() {
  local newest
  newest=$(find "$run/checkpoints" -maxdepth 1 -name 'step-????????' 2>/dev/null | sort | tail -n 1)
  [ -z "$newest" ] || "$fathom" inspect "$newest" --verify >"$folder/out" 2>&1 || fail "$what: $newest is not whole"
  launch 2 "$run" "${run_options[@]}"
  expect_status 0 "$what: the same command again"
  python3 "$source_dir/tests/integration/compare_metrics.py" "$folder/undisturbed/metrics.jsonl" "$run/metrics.jsonl" 0 ||
    fail "$what: the run that went on differs from one that nobody killed"
  [ -z "$(find "$run/checkpoints" -name '*.tmp-*')" ] || fail "$what: leftovers of the save that died stay"
}

launch 2 "$folder/undisturbed" "${run_options[@]}"
expect_status 0 "undisturbed"

while read -r rank step phase; do
  run=$folder/killed
  rm -rf "$run"
  kill_in "$rank" "$step" "$phase"
  recovers
done <<'PHASES'
1 0 open data
0 0 initialize weights
1 1 read data
0 3 forward_backward
1 3 reduce_gradients
0 5 optimizer
1 5 gather_parameters
0 5 balance_experts
1 4 evaluate
0 4 write checkpoint: create folder
1 2 write checkpoint: write slice
1 4 write checkpoint: sync file
0 4 write checkpoint: write manifest
0 4 write checkpoint: publish
0 6 write checkpoint: remove old ones
0 6 hash state
1 6 end
PHASES

run=$folder/killed
kill_in 1 0 "load checkpoint" --resume 4
recovers
exit 0
