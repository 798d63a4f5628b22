#!/usr/bin/env bash
# The whole program on the emulated CUDA device: training follows the CPU in float32 and bfloat16, on one rank and on two that share the
# device; what one device has written the other goes on from; sampling and GRPO; what is refused, and how.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cpu=$fathom
cuda=$4
rm -rf "$folder"/cuda-*
small=(--set train.steps=3 --set train.global_batch_size=2 --set train.sequence_length=16 --set model.num_layers=2
  --set numerics.mode=FAST --set "data.tokenizer=$data/tokenizer.json")
device=(--set run.device=CUDA --set run.transport=MPI)

# expect_close RUN TOLERANCE: losses of the CPU's run.
expect_close() {
  python3 - "$folder/cuda-cpu" "$1" "$2" <<'CHECK' >"$folder/out" 2>&1 || fail "$what: other losses than the CPU's"
import json, sys
def losses(run):
    lines = [json.loads(line) for line in open(run + "/metrics.jsonl")]
    return [line["loss"] for line in lines if "event" not in line]
want, found = losses(sys.argv[1]), losses(sys.argv[2])
print(want, found)
assert len(want) == len(found) == 3 and all(abs(a - b) < float(sys.argv[3]) for a, b in zip(want, found))
CHECK
}

what="the CPU"
launch 1 "$folder/cuda-cpu" "${small[@]}"
expect_status 0 "$what"

fathom=$cuda
what="float32 on one rank"
launch 1 "$folder/cuda-float32" "${small[@]}" "${device[@]}" --set optimizer.parameter_dtype=FLOAT32
expect_status 0 "$what"
expect_close "$folder/cuda-float32" 1e-4

what="bfloat16 on two ranks with experts spread over them"
launch 2 "$folder/cuda-run" "${small[@]}" "${device[@]}" --set mesh.expert=2 --set checkpoint.interval=2
expect_status 0 "$what"
expect_text "mfu" "$what"
expect_close "$folder/cuda-run" 2e-2

what="the checkpoint of CUDA on the CPU"
fathom=$cpu
launch 1 "$folder/cuda-run" "${small[@]}" --resume 2 --set optimizer.master_weights=true --set optimizer.parameter_dtype=BFLOAT16
expect_status 0 "$what"
expect_close "$folder/cuda-run" 2e-2

what="the checkpoint of the CPU on CUDA"
fathom=$cuda
launch 1 "$folder/cuda-sft" "${small[@]}" "${device[@]}" --set "train.init_from=$folder/cuda-cpu/checkpoints/step-00000003"
expect_status 0 "$what"

what="sampling"
for cache in expanded latent; do
  run_ranks 2 "$fathom" generate "$folder/cuda-run" --prompt "The licence" --samples 2 --max_new_tokens 4 --seed 5 --cache "$cache" \
    --set run.device=CUDA --set run.transport=MPI --output "$folder/cuda-$cache.jsonl" >"$folder/out" 2>&1
  status=$?
  expect_status 0 "$what with the cache $cache"
  [ "$(grep -c '"completion"' "$folder/cuda-$cache.jsonl")" -eq 2 ] || fail "$what with the cache $cache: not two completions"
done

what="GRPO"
command=grpo
grpo=("${small[@]}" --set train.steps=3 --set "data.train=[]" --set "train.init_from=$folder/cuda-cpu/checkpoints/step-00000003"
  --set "grpo.problems[0]={family: \"sorting\" difficulty: 2}" --set grpo.prompts_per_step=1 --set grpo.group_size=2
  --set 'grpo.rewards[0]={kind: COMMAND command: "while read -r line; do printf %s \"$line\" | cksum | cut -c1-3; done"}'
  --set rollout.max_new_tokens=4 --set train.sequence_length=32 --set checkpoint.interval=1 --set checkpoint.keep_last=0 --set grpo.objective.kl_weight=0.05)
launch 1 "$folder/cuda-grpo" "${grpo[@]}" "${device[@]}"
expect_status 0 "$what"

what="GRPO with its reference policy from CUDA to the CPU"
fathom=$cpu
launch 1 "$folder/cuda-grpo" "${grpo[@]}" --resume 1 --set optimizer.master_weights=true --set optimizer.parameter_dtype=BFLOAT16
expect_status 0 "$what"

what="and back"
fathom=$cuda
launch 1 "$folder/cuda-grpo" "${grpo[@]}" "${device[@]}" --resume 2
expect_status 0 "$what"

# The same bits in every layout, also of ranks that share the device: training, a resume onto another layout, rollouts.
command=pretrain
exact=("${device[@]}" --set numerics.mode=EXACT --set model.qk_rope_head_dim=8 --set checkpoint.keep_last=0)
what="EXACT on one rank"
launch 1 "$folder/cuda-exact" "${small[@]}" "${exact[@]}" --set checkpoint.interval=2
expect_status 0 "$what"
what="EXACT on four ranks, then on one"
launch 4 "$folder/cuda-exact-4" "${small[@]}" "${exact[@]}" --set mesh.tensor=2 --set mesh.pipeline=2 --set mesh.expert=2 --set checkpoint.interval=2
expect_status 0 "$what"
expect_same_bits "$folder/cuda-exact" "$folder/cuda-exact-4"
launch 1 "$folder/cuda-exact-4" "${small[@]}" "${exact[@]}" --set checkpoint.interval=2 --resume 2
expect_status 0 "$what"
expect_same_bits "$folder/cuda-exact" "$folder/cuda-exact-4"
what="GRPO in EXACT"
command=grpo
for ranks in 1 2; do
  launch $ranks "$folder/cuda-grpo-exact-$ranks" "${grpo[@]}" "${exact[@]}" --set "train.init_from=$folder/cuda-exact/checkpoints/step-00000003" \
    --set mesh.tensor=$ranks --set train.steps=2 --set rollout.temperature=0.7
  expect_status 0 "$what"
  grep -q '"logprob_gap_max": 0[,}.]' "$folder/cuda-grpo-exact-$ranks/metrics.jsonl" || fail "$what: the sampler's log-probabilities are not the trainer's"
done
expect_same_bits "$folder/cuda-grpo-exact-1" "$folder/cuda-grpo-exact-2"

what="refusals"
command=pretrain
launch 1 "$folder/cuda-refused" "${small[@]}" --set run.device=CUDA --set numerics.mode=EXACT --set numerics.tensor_chunks=4
expect_status 93 "EXACT with sizes that do not fit the tensor cores"
expect_text "model.num_attention_heads x (model.qk_nope_head_dim + model.qk_rope_head_dim) (48) is not a multiple of numerics.tensor_chunks (4) x 8" "EXACT with sizes"
launch 2 "$folder/cuda-refused" "${small[@]}" --set run.device=CUDA
expect_status 93 "two ranks and one device"
expect_text "rank 1: no CUDA device is left for this rank: it is number 1 of the ranks of its node" "two ranks and one device"
fathom=$cpu
launch 1 "$folder/cuda-refused" "${small[@]}" --set run.device=CUDA
expect_status 93 "a program without CUDA"
expect_text "this program was built without it: configure it with -DFATHOM_CUDA=ON" "a program without CUDA"
[ ! -e "$folder/cuda-refused" ] || fail "a refused run left a folder"
