#!/usr/bin/env bash
# Reinforcement learning of a model that was warmed up on problems: the bits depend neither on the layout, nor on a stop and a resume,
# nor on a kill -9 in the middle of a rollout; judges that fail cost samples, not the run, unless none of them works; what teaches nothing
# changes nothing.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
base=$folder/grpo-base
straight=$folder/grpo-straight
run=$folder/grpo-run
rm -rf "$base" "$straight" "$run"

"$fathom" problems sorting --difficulty 2 --count 4000 --text --output "$folder/sorting.jsonl" >"$folder/out" 2>&1 || fail problems
"$fathom" tokenize "$folder/sorting.jsonl" --tokenizer "$data/tokenizer.json" --output "$data/sorting" >"$folder/out" 2>&1 ||
  fail "tokenizing problems"
launch 2 "$base" --set "data.train[0].path=$data/sorting" --set train.steps=200 --set train.micro_batch_size=8 \
  --set train.global_batch_size=32 --set optimizer.lr=2e-2 --set data.isolate_documents=true
expect_status 0 "the warm-up"

command=grpo
from=(--set "train.init_from=$base/checkpoints/step-00000200")
# Two mini-batches a step, a reference that moves on, groups without spread replaced.
grpo=(--set "data.train=[]" --set "data.tokenizer=$data/tokenizer.json" --set "grpo.problems[0]={family: \"sorting\" difficulty: 2}"
  --set "grpo.held_out[0]={family: \"sorting\" difficulty: 2 count: 8}" --set "grpo.rewards[0]={answer: WHOLE}"
  --set grpo.prompts_per_step=4 --set grpo.group_size=4 --set rollout.max_new_tokens=12 --set rollout.temperature=1.1
  --set grpo.objective.kl_weight=0.05 --set grpo.reference_refresh_interval=2 --set grpo.dynamic_sampling.enabled=true
  --set grpo.dynamic_sampling.max_rounds=3 --set train.sequence_length=32 --set train.steps=4 --set optimizer.lr=1e-3
  --set checkpoint.interval=2 --set checkpoint.keep_last=0 --set evaluation.interval=2)

# expect_same_run RUN: metrics, held-out scores, samples and state of the straight run.
expect_same_run() {
  expect_same_bits "$straight" "$1"
  local fields='"(reward_mean|solve_rate|kl|policy_moved|ratio_max|groups_drawn|rollout_rounds|entropy|updates)": [^,}]*'
  diff <(grep -o -E "$fields" "$straight/metrics.jsonl") <(grep -o -E "$fields" "$1/metrics.jsonl") >"$folder/out" ||
    fail "$what: other numbers than those of the straight run"
  diff -r "$straight/samples" "$1/samples" >"$folder/out" || fail "$what: other samples than those of the straight run"
}

what="a straight run"
launch 1 "$straight" "${grpo[@]}" "${from[@]}" --set train.micro_batch_size=2
expect_status 0 "$what"
python3 - "$straight" <<'CHECK' >"$folder/out" 2>&1 || fail "$what: its metrics and samples"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1] + "/metrics.jsonl")]
steps = [line for line in lines if "event" not in line]
assert [line["step"] for line in steps] == [1, 2, 3, 4], steps
assert [line["step"] for line in lines if line.get("event") == "eval"] == [0, 2, 4], lines
drawn = 0
for line in steps:
    drawn += line["groups_drawn"]
    assert line["first_ratio_min"] == line["first_ratio_max"] == 1 and line["logprob_gap_max"] == 0, line
    assert line["samples"] == 4 * line["groups_drawn"] and line["groups_learnt"] > 0, line
    samples = [json.loads(text) for text in open(f"{sys.argv[1]}/samples/step-{line['step']:08}.jsonl")]
    assert len(samples) == line["samples"], line
    rewards = [sample["reward"] for sample in samples]
    assert abs(sum(rewards) / len(rewards) - line["reward_mean"]) < 1e-12, line
    for group in range(0, len(samples), 4):
        spread = len({sample["reward"] for sample in samples[group : group + 4]}) > 1
        assert all(sample["learnt"] == spread == (sample["advantage"] != 0) for sample in samples[group : group + 4]), samples
assert any(line["updates"] == 2 for line in steps) and any(line["kl"] > 0 for line in steps), steps
assert drawn > 16, "dynamic sampling had nothing to replace"
CHECK

for layout in "2 data=2 expert=2" "4 pipeline=2 tensor=2 expert=2" "4 data=2 tensor=2 expert=4" "2 pipeline=2 stages_per_rank=2"; do
  what="layout $layout"
  rm -rf "$run"
  fields=()
  for field in ${layout#* }; do fields+=(--set "mesh.$field"); done
  launch "${layout%% *}" "$run" "${grpo[@]}" "${from[@]}" "${fields[@]}" --set rollout.max_sequences=3 --set rollout.max_step_tokens=20 \
    --set train.recompute.layers=true
  expect_status 0 "$what"
  expect_same_run "$run"
done

# A copy of the straight run as it was after step 2, with nothing of what came then.
after_two() {
  rm -rf "$run"
  cp -r "$straight" "$run"
  rm -rf "$run"/checkpoints/step-00000004 "$run"/samples/step-0000000[34].jsonl
}

what="a resume on another layout"
after_two
launch 4 "$run" "${grpo[@]}" --set mesh.data=2 --set mesh.tensor=2 --set mesh.expert=2
expect_status 0 "$what"
expect_once "goes on from step 2" "$what"
expect_same_run "$run"

what="a resume that names other weights"
launch 1 "$run" "${grpo[@]}" --set train.init_from=elsewhere
expect_status 0 "$what"
expect_once "train.init_from (elsewhere) is not looked at: the run goes on from its own checkpoint" "$what"

what="a resume without the reference policy"
launch 2 "$run" "${grpo[@]}" --set grpo.objective.kl_weight=0 --set grpo.reference_refresh_interval=0
expect_status 93 "$what"
expect_once "grpo.objective.kl_weight is 0 and was 0.05 in the run that wrote the checkpoint, whose reference policy would be lost" "$what"

# killed_in STEP RANK GROUPS: a run on two ranks that samples slowly and writes often, until a rank is killed once so many groups of the
# step's rollout are on disk.
killed_in() {
  local journal
  journal=$run/rollout/step-$(printf %08d "$1")
  mpirun --oversubscribe --bind-to none -n 2 "$fathom" grpo "$config" --set run.directory="$run" "${grpo[@]}" "${from[@]}" \
    --set mesh.tensor=2 --set rollout.checkpoint_interval=1 --set rollout.max_sequences=1 --set rollout.max_step_tokens=4 \
    >"$folder/out" 2>&1 &
  job=$!
  for _ in $(seq 6000); do
    [ "$(find "$journal" -name 'group-*.pb' 2>/dev/null | wc -l)" -ge "$3" ] && break
    kill -0 "$job" 2>/dev/null || fail "$what: the job ended before"
    sleep 0.005
  done
  kill -9 "$(rank_pid "$2")" 2>/dev/null
  finish 20
  [ "$status" -ne 0 ] || fail "$what: the job ended with exit code 0"
  [ -e "$journal/group-00000000.pb" ] || fail "$what: no rollout of step $1 is left"
}

# The step after the checkpoint of step 2 that samples a second round.
again=$(grep -E '"rollout_rounds": [23]' "$straight/metrics.jsonl" | grep -o -E '"step": [34],' | grep -o -m 1 '[34]') ||
  fail "no step of the straight run has a second round"
while read -r step rank groups ranks fields; do
  what="kill -9 of rank $rank in the rollout of step $step, when $groups groups were on disk"
  [ "$step" -gt 2 ] && after_two || rm -rf "$run"
  killed_in "$step" "$rank" "$groups"
  left_aside=
  if [ "$groups" -eq 4 ]; then  # one of them is damaged
    truncate -s -1 "$run/rollout/step-$(printf %08d "$step")/group-00000001.pb"
    left_aside="; groups left aside in rollout/, damaged, of other weights or settings, or not the same on all ranks: 1"
  fi
  launch "$ranks" "$run" "${grpo[@]}" "${from[@]}" $fields --set rollout.checkpoint_interval=2
  expect_status 0 "$what, and a resume"
  grep -q "step $step went on from [0-9]* tokens of [0-9]* samples that were drawn before$left_aside\$" "$folder/out" ||
    fail "$what: what the resume says"
  expect_same_run "$run"
  [ -z "$(ls "$run/rollout")" ] || fail "$what: rollouts stay behind"
done <<KILLS
1 1 1 1
3 0 2 2 --set mesh.data=2
3 1 4 4 --set mesh.pipeline=2 --set mesh.tensor=2
$again 1 5 1
KILLS

what="judges that die, hang and talk nonsense"
rm -rf "$run"
cat >"$folder/judge.sh" <<'JUDGE'
while read -r line; do
  case "$line" in
    *'"Sort '[0-3]*) exit 1 ;;
    *'"Sort 4'*) sleep 10 ;;
    *'"Sort 5'*) echo perhaps ;;
    *) echo 0.5 ;;
  esac
done
JUDGE
launch 2 "$run" "${grpo[@]}" "${from[@]}" --set "grpo.rewards[1]={kind: COMMAND command: \"bash $folder/judge.sh\" time_limit: 0.1 start_limit: 1}" \
  --set train.steps=1 --set grpo.prompts_per_step=12
expect_status 0 "$what"
python3 - "$run" <<'CHECK' >"$folder/out" 2>&1 || fail "$what"
import json, sys
line = [json.loads(text) for text in open(sys.argv[1] + "/metrics.jsonl")][1]
samples = [json.loads(text) for text in open(sys.argv[1] + "/samples/step-00000001.jsonl")]
reasons = {0: "died", 1: "died", 2: "died", 3: "died", 4: "no answer", 5: "perhaps"}
seen = set()
for sample in samples:
    first = int(sample["prompt"][5])
    seen.add(first)
    assert (sample["reward"] is None) == (first in reasons), sample
    if first in reasons:
        assert reasons[first] in sample["reasons"]["command"] and sample["advantage"] == 0, sample
assert seen & {0, 1, 2, 3} and 4 in seen and seen & {6, 7, 8, 9}, seen
assert line["samples_without_verdict"] == sum(sample["reward"] is None for sample in samples), line
CHECK

what="rewards without spread"
rm -rf "$run"
launch 2 "$run" "${grpo[@]}" "${from[@]}" --set "grpo.rewards=[{kind: COMMAND command: \"while read -r l; do echo 0.5; done\"}]" \
  --set grpo.objective.kl_weight=0 --set grpo.reference_refresh_interval=0 --set checkpoint.interval=1 --set train.steps=2 \
  --set optimizer.weight_decay=0.1
expect_status 0 "$what"
[ "$(grep -c '"updates": 0,' "$run/metrics.jsonl")" -eq 2 ] || fail "$what: there were updates"
[ "$(grep -c '"groups_learnt": 0,' "$run/metrics.jsonl")" -eq 2 ] || fail "$what: groups count as learnt"
# What is not rewarded is not measured.
[ "$(grep '"event": "eval"' "$run/metrics.jsonl" | grep -c '"reward_mean": 0.5,')" -eq 2 ] || fail "$what: held-out rewards"
grep -q solve_rate "$run/metrics.jsonl" && fail "$what: a solve rate although accuracy is no reward"
for rank in 0 1; do
  cmp "$run"/checkpoints/step-0000000[12]/rank-0000$rank.h5 >"$folder/out" || fail "$what: the state of rank $rank moved"
done
echo '{"prompt": "Sort 3 1.\n"}' >"$folder/prompt.jsonl"
for name in grpo-base/checkpoints/step-00000200 grpo-run/checkpoints/step-00000002; do
  "$fathom" generate "$folder/$name" --prompts "$folder/prompt.jsonl" --temperature 0 --set "data.tokenizer=$data/tokenizer.json" \
    --output "$folder/${name%%/*}.jsonl" >"$folder/out" 2>&1 || fail "$what: generation"
done
cmp "$folder/grpo-base.jsonl" "$folder/grpo-run.jsonl" >"$folder/out" || fail "$what: the weights are no more those of the warm-up"

what="a judge that never has a verdict"
rm -rf "$run"
launch 2 "$run" "${grpo[@]}" "${from[@]}" --set "grpo.rewards=[{kind: COMMAND command: \"while read -r l; do echo failed; done\"}]" \
  --set "grpo.held_out=[]" --set evaluation.interval=0
expect_status 1 "$what"
expect_once "no completion of the last 3 steps has a verdict: grpo.rewards do not work; the first reason of step 3: failed" "$what"
[ "$(grep -c '"groups_learnt": 0,' "$run/metrics.jsonl")" -eq 3 ] || fail "$what: groups count as learnt"

what="a stop at a step that is due for evaluation"
rm -rf "$run"
launch 2 "$run" "${grpo[@]}" "${from[@]}" --set evaluation.interval=1 --set train.time_limit=0.001
expect_status 75 "$what"
launch 1 "$run" "${grpo[@]}" --set evaluation.interval=1 --set train.steps=2
expect_status 0 "$what, and a resume"
launch 1 "$run" "${grpo[@]}" --set evaluation.interval=1 --set train.steps=3
expect_status 0 "$what, and another resume"
evaluated=$(grep '"event": "eval"' "$run/metrics.jsonl" | grep -o -E '"step": [0-9]+' | tr -d '\n')
[ "$evaluated" = '"step": 0"step": 1"step": 2"step": 3' ] || fail "$what: evaluated are $evaluated"

# refused TEXT ARGUMENT...
rm -rf "$run"
refused() {
  launch 2 "$run" "${grpo[@]}" "${@:2}"
  expect_status 93 "$1"
  expect_once "$1" "grpo ${*:2}"
}
refused "train.init_from is not set"
refused "grpo.group_size (1) must be at least 2" "${from[@]}" --set grpo.group_size=1
refused "grpo.prompts_per_step (5) x grpo.group_size (4)" "${from[@]}" --set grpo.prompts_per_step=5
refused "poetry" "${from[@]}" --set "grpo.problems[0].family=poetry"
refused "grpo.objective.clip_low (-1) must not be negative" "${from[@]}" --set grpo.objective.clip_low=-1
echo '{"id": "1", "prompt": "2 + 2 =", "answer": "four", "verifier": "number"}' >"$folder/bad.jsonl"
refused "bad.jsonl:1: " "${from[@]}" --set "grpo.problems=[{path: \"$folder/bad.jsonl\"}]"
echo "{\"id\": \"long\", \"prompt\": \"$(printf 'word %.0s' {1..40})\", \"answer\": \"4\", \"verifier\": \"number\"}" >"$folder/bad.jsonl"
refused "problem long: a prompt of " "${from[@]}" --set "grpo.problems=[{path: \"$folder/bad.jsonl\"}]"
refused "grpo.held_out[0]: problem long: a prompt of " "${from[@]}" --set "grpo.held_out=[{path: \"$folder/bad.jsonl\"}]"
refused "grpo.held_out[1]: the id \"sorting-2-held_out-0-0\" is in grpo.held_out[0], too" "${from[@]}" \
  --set "grpo.held_out[1]={family: \"sorting\" difficulty: 2 count: 1}"
refused "grpo.rewards[0] (command): \"bash /no/such/judge.sh\" ends before it is asked anything" "${from[@]}" \
  --set "grpo.rewards=[{kind: COMMAND command: \"bash /no/such/judge.sh\"}]"
exit 0
