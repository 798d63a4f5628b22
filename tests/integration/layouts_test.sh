#!/usr/bin/env bash
# The same bits under mpirun: 20 steps on every kind of layout, and resumes onto other layouts, also after a kill -9.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# same_bits NAME LAYOUT... [-- OPTION...]: all layouts against the first, in mode EXACT, the default.
same_bits() {
  what="layouts of $1"
  shift
  local layouts=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    layouts+=("$1")
    shift
  done
  FATHOM=$fathom bash "$source_dir/scripts/compare_layouts.sh" --set "data.train[0].path=$data/train" "${@:2}" \
    "$config" "${layouts[@]}" >"$folder/out" 2>&1
  status=$?
  expect_status 0 "$what"
  [ "$(grep -c 'same bits$' "$folder/out")" -eq $((${#layouts[@]} - 1)) ] || fail "$what"
}

# Micro-batches, accumulation, threads and recomputation; each axis at 2 and at 4; pairs; interleaving and uneven stages; three
# axes and all four, at 8 and 16 ranks; parameters in groups of one, of a few and in as few as there can be.
same_bits "V3's architecture" \
  data=1,micro_batch_size=2 \
  data=1,micro_batch_size=1 data=1,micro_batch_size=8,threads=2 \
  data=1,micro_batch_size=4,train.recompute.norms=true,train.recompute.swiglu=true,train.recompute.mla_up_projections=true \
  data=1,threads=2,train.recompute.layers=true \
  data=2 data=4,micro_batch_size=2,mesh.group_elements=1 tensor=2,micro_batch_size=4 tensor=4 pipeline=2 pipeline=4,micro_batch_size=2 \
  data=2,expert=2 data=4,expert=4,train.recompute.experts=true tensor=2,expert=2 \
  pipeline=2,data=2,mesh.group_elements=1 pipeline=2,tensor=2 data=2,tensor=2 data=2,tensor=2,expert=4,micro_batch_size=4,mesh.group_elements=1000 pipeline=2,data=2,expert=2 \
  pipeline=2,stages_per_rank=2 pipeline=2,mesh.layers_per_stage=1,mesh.layers_per_stage=3 \
  pipeline=2,data=2,tensor=2 pipeline=2,data=2,tensor=2,expert=4,micro_batch_size=2,train.recompute.experts=true,train.recompute.norms=true \
  pipeline=2,data=2,tensor=2,expert=2,stages_per_rank=2,threads=2,train.recompute.layers=true,mesh.group_elements=1 \
  data=4,tensor=4,expert=8 pipeline=2,data=4,tensor=2,expert=8 pipeline=2,data=2,tensor=4,expert=2,micro_batch_size=2
same_bits "V2's architecture" data=1 tensor=2,data=2,expert=4 pipeline=2,data=2,expert=2 -- \
  --set model.q_lora_rank=0 --set model.mtp_depth=0 --set model.moe.score_function=SOFTMAX --set model.moe.group_score=MAX \
  --set model.moe.normalize_gates=false --set model.moe.sequence_balance_coefficient=0 \
  --set model.moe.selection_bias_update_rate=0 --set model.moe.expert_balance_coefficient=0.003 \
  --set model.moe.device_balance_coefficient=0.05 --set model.moe.communication_balance_coefficient=0.02 \
  --set model.moe.num_device_groups=4 --set model.moe.max_device_groups_per_token=2

# A straight run = stop, resume on another layout, go on.
common=(--set "data.validation=$data/held-out" --set "data.tokenizer=$data/tokenizer.json" --set "evaluation.prompts=The licence"
  --set evaluation.sample_tokens=7 --set evaluation.interval=10 --set checkpoint.interval=10
  --set "optimizer.schedule.phases[0].until_step=20")
rm -rf "$folder"/one "$folder"/resumed "$folder"/killed
launch 1 "$folder/one" "${common[@]}" --set train.steps=20
expect_status 0 "one rank"
tail -n 1 "$folder/one/metrics.jsonl" | grep -q '"skipped_steps": 0,' || fail "a healthy run skipped steps"
what="a resume on another layout"
cp -r "$folder/one" "$folder/resumed"
launch 4 "$folder/resumed" "${common[@]}" --set train.steps=20 --resume 10 --set mesh.pipeline=2 --set mesh.tensor=2 --set mesh.expert=2 \
  --set mesh.group_elements=1
expect_status 0 "$what"
expect_same_bits "$folder/one" "$folder/resumed"

what="a resume on another layout after kill -9"
start 2 "$folder/killed" "${common[@]}" --set checkpoint.keep_last=0 --set mesh.tensor=2
kill -9 "$(rank_pid 1)"
finish 10
[ "$status" -ne 0 ] || fail "$what: the job ended with exit code 0"
launch 4 "$folder/killed" "${common[@]}" --set train.steps=20 --resume 10 --set mesh.pipeline=2 --set mesh.expert=2
expect_status 0 "$what"
expect_same_bits "$folder/one" "$folder/killed"

# Other bits are announced, in one line.
what="a resume with another learning rate"
launch 1 "$folder/resumed" "${common[@]}" --set train.steps=20 --resume 10 --set optimizer.lr=1e-3
expect_status 0 "$what"
expect_once "goes on with other bits than the run that wrote the checkpoint: optimizer.lr 0.003 -> 0.001" "$what"

# A context is extended: longer sequences, stretched frequencies, the data where it was.
what="a resume with longer sequences"
launch 1 "$folder/resumed" "${common[@]}" --set train.steps=11 --resume 10 --set train.sequence_length=128 --set model.max_position=256 \
  --set model.yarn.factor=2 --set model.yarn.original_max_position=128
expect_status 0 "$what"
expect_once "model.yarn.factor 1 -> 2" "$what"
expect_once "the data goes on at sample 20 of the new length, where 80 of the old one end" "$what"
exit 0
