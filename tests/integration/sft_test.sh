#!/usr/bin/env bash
# Supervised fine-tuning from a pretrained checkpoint: the loss on answers falls, and the bits depend neither on the layout nor on a
# stop and a resume; conversations that cannot be used are refused.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run=$folder/sft
chats=$folder/chats.jsonl
rm -rf "$run" "$folder/base" "$folder/resumed-sft" "$folder/untrained"

launch 1 "$folder/base" --set train.sequence_length=64
expect_status 0 "pretraining"

# chat WORD: a conversation with an answer that follows from the question; every fourth of two turns, after a message of the system.
number=0
chat() {
  number=$((number + 1))
  if [ $((number % 4)) -eq 0 ]; then
    echo "{\"messages\": [{\"role\": \"system\", \"content\": \"Twice.\"}, {\"role\": \"user\", \"content\": \"$1\"}," \
      "{\"role\": \"assistant\", \"content\": \"$1 $1\"}, {\"role\": \"user\", \"content\": \"Again\"}," \
      "{\"role\": \"assistant\", \"content\": \"$1 $1\"}], \"source\": $number}"
  else
    echo "{\"id\": $number, \"prompt\": \"$1\", \"completion\": \"$1 $1\", \"finish\": \"stop\"}"
  fi
}
for _ in 1 2 3; do
  for word in the license program work copy source code terms this that you may not for any with; do chat "$word"; done
done >"$chats"
for word in license work code; do chat "$word"; done >"$folder/held-out-chats.jsonl"

command=sft
sft=(--set "data.train[0].path=$chats" --set "data.validation=$folder/held-out-chats.jsonl" --set "data.tokenizer=$data/tokenizer.json"
  --set "data.chat={user: \"Q: \" assistant: \" A: \"}" --set train.sequence_length=64 --set evaluation.interval=10
  --set checkpoint.interval=10 --set optimizer.lr=1e-2 --set evaluation.prompts=license --set evaluation.sample_tokens=4)
from=(--set "train.init_from=$folder/base/checkpoints/step-00000020")

# evaluation_losses RUN
evaluation_losses() {
  grep '"event": "eval"' "$1/metrics.jsonl" | grep -o -E '"loss": [0-9.e-]*' | cut -d ' ' -f 2
}

what="fine-tuning"
launch 1 "$run" "${sft[@]}" "${from[@]}"
expect_status 0 "$what"
expect_once "chats.jsonl: 48 conversations, 0 truncated, 0 dropped; " "$what"
expect_once "held out: 3 conversations" "$what"
! grep -q "rotary" "$folder/out" || fail "$what: other frequencies than the base"
before=$(evaluation_losses "$run" | head -n 1)
after=$(evaluation_losses "$run" | tail -n 1)
awk -v before="$before" -v after="$after" 'BEGIN { exit !(after < 0.85 * before) }' ||
  fail "$what: the loss on answers went from $before to $after"

what="weights that were trained with other rotary frequencies"
launch 1 "$folder/stretched" "${sft[@]}" "${from[@]}" --set train.steps=1 --set model.yarn.factor=4 --resume none
expect_status 0 "$what"
expect_once "step-00000020 were trained with other rotary frequencies than this run has: model.yarn.factor 1 -> 4" "$what"

# Answers end with what the template has there, a token or text, in samples, generation, evaluation and reinforcement.
for _ in $(seq 64); do echo '{"prompt": "Say it.", "completion": "ok"}'; done >"$folder/ok.jsonl"
echo '{"id": "1", "prompt": "Say it.", "answer": "ok", "verifier": "text"}' >"$folder/ok-problem.jsonl"
for end in "<|fim_end|>" "~~"; do
  what="answers that end with $end"
  rm -rf "$folder/ended" "$folder/ended-grpo"
  chat=(--set "data.chat={user: \"Q: \" assistant: \" A: \" end: \"$end\"}" --set "data.tokenizer=$data/tokenizer.json"
    --set train.sequence_length=64)
  launch 1 "$folder/ended" "${chat[@]}" "${from[@]}" --set "data.train[0].path=$folder/ok.jsonl" --set train.steps=60 \
    --set optimizer.lr=1e-2 --set "evaluation.prompts=Say it." --set evaluation.sample_tokens=12
  expect_status 0 "$what"
  grep -q "^sample: Say it. ok *$" "$folder/out" || fail "$what: the sample of the run"
  "$fathom" generate "$folder/ended" --chat --prompt "Say it." --temperature 0 --max_new_tokens 12 --output "$folder/ended.jsonl" \
    >"$folder/out" 2>&1 || fail "$what: generation"
  grep -q '"completion":" ok",.*"finish":"stop"' "$folder/ended.jsonl" || fail "$what: $(cat "$folder/ended.jsonl")"
  "$fathom" evaluate "$folder/ended" --chat --problems "$folder/ok-problem.jsonl" --extract whole --temperature 0 \
    --max_new_tokens 12 --json "$folder/ended.json" >"$folder/out" 2>&1 || fail "$what: evaluation"
  grep -q '"cut_off_share": 0.0' "$folder/ended.json" && grep -A 1 '"solve_rate"' "$folder/ended.json" | grep -q '"mean": 1.0' ||
    fail "$what: $(cat "$folder/ended.json")"
  command=grpo
  launch 1 "$folder/ended-grpo" "${chat[@]}" --set "train.init_from=$folder/ended/checkpoints/step-00000060" --set "data.train=" \
    --set "grpo.problems[0].path=$folder/ok-problem.jsonl" --set grpo.chat=true --set "grpo.rewards[0]={answer: WHOLE}" \
    --set grpo.prompts_per_step=2 --set grpo.group_size=4 --set rollout.max_new_tokens=12 --set rollout.temperature=0.1 \
    --set train.steps=1
  command=sft
  expect_status 0 "$what: reinforcement"
  grep -q '"truncated_share": 0,' "$folder/ended-grpo/metrics.jsonl" && grep -q '"reward_mean": 1,' "$folder/ended-grpo/metrics.jsonl" ||
    fail "$what: $(cat "$folder/ended-grpo/metrics.jsonl")"
done

what="a resumed fine-tuning on another layout"
cp -r "$run" "$folder/resumed-sft"
launch 4 "$folder/resumed-sft" "${sft[@]}" --resume 10 --set mesh.pipeline=2 --set mesh.tensor=2 --set mesh.expert=2
expect_status 0 "$what"
expect_same_bits "$run" "$folder/resumed-sft"

what="layouts of fine-tuning"
FATHOM=$fathom bash "$source_dir/scripts/compare_layouts.sh" --steps 4 --command sft "${sft[@]}" "${from[@]}" "$config" \
  data=1 data=2,tensor=2,expert=4,micro_batch_size=4 >"$folder/out" 2>&1
status=$?
expect_status 0 "$what"

what="fine-tuning without weights"
launch 2 "$folder/untrained" "${sft[@]}"
expect_status 93 "$what"
expect_once "train.init_from is not set, and $folder/untrained/checkpoints has no checkpoint to resume from" "$what"

# refused NAME LINE MESSAGE: a third line that is no conversation.
refused() {
  { head -n 2 "$chats"; echo "$2"; } >"$folder/bad.jsonl"
  launch 2 "$folder/untrained" "${sft[@]}" "${from[@]}" --set "data.train[0].path=$folder/bad.jsonl"
  expect_status 93 "$1"
  expect_once "bad.jsonl:3: $3" "$1"
}
refused "malformed JSON" '{"prompt": "a", "completion": ' "not valid JSON"
refused "an unknown role" '{"messages": [{"role": "robot", "content": "a"}]}' 'messages[0].role is "robot"'

what="a missing file of conversations"
launch 2 "$folder/untrained" "${sft[@]}" "${from[@]}" --set "data.train[0].path=$folder/none.jsonl"
expect_status 93 "$what"
expect_once "none.jsonl" "$what"
[ -e "$folder/untrained" ] && fail "a run folder was made for a run that cannot start"
exit 0
