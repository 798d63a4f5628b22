#!/usr/bin/env bash
# Runs under mpirun on every kind of layout follow the run on one rank; so do resumes onto other layouts.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
compare() {  # RUN TOLERANCE
  python3 "$source_dir/tests/integration/compare_metrics.py" "$folder/one/metrics.jsonl" "$1/metrics.jsonl" "$2" ||
    fail "$1 differs from one rank"
}
# A calm run: at a high learning rate single steps spike, and with them what rounding does to the gradient norm.
common=(--set optimizer.lr=3e-4 --set "data.validation=$data/held-out" --set evaluation.interval=10 --set checkpoint.interval=10 --set train.steps=20)
rm -rf "$folder"/one "$folder"/layout-* "$folder"/resumed
launch 1 "$folder/one" "${common[@]}"
expect_status 0 "one rank"
[ "$(tail -n 1 "$folder/one/metrics.jsonl" | grep -c '"event": "end"')" -eq 1 ] || fail "the last line is no end event"

# RANKS pipeline tensor expert and more
while read -r ranks pipeline tensor expert more; do
  run=$folder/layout-$ranks-$pipeline-$tensor-$expert
  # shellcheck disable=SC2086
  launch "$ranks" "$run" "${common[@]}" --set mesh.pipeline="$pipeline" --set mesh.tensor="$tensor" \
    --set mesh.expert="$expert" $more
  expect_status 0 "layout $ranks $pipeline $tensor $expert"
  compare "$run" 0
  rm -rf "$run"
done <<'LAYOUTS'
2 1 1 1
2 2 1 1
2 1 2 1
2 1 1 2 --set train.micro_batch_size=4
4 2 1 2
4 2 1 1 --set mesh.stages_per_rank=2
8 2 2 4
LAYOUTS

# A straight run = stop, resume on another layout, go on.
cp -r "$folder/one" "$folder/resumed"
launch 4 "$folder/resumed" "${common[@]}" --resume 10 --set mesh.pipeline=2 --set mesh.tensor=2 --set mesh.expert=2
expect_status 0 "resume on another layout"
compare "$folder/resumed" 0
