#!/usr/bin/env bash
# fathom evaluate: the numbers of pretraining's own evaluation, the same ones on every layout; what it refuses; how it hangs.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run=$folder/evaluate
rm -rf "$run"
launch 2 "$run" --set train.steps=3 --set "data.tokenizer=$data/tokenizer.json" --set "data.validation=$data/held-out"
expect_status 0 "training"
"$fathom" problems sorting --count 3 --difficulty 2 --output "$folder/problems.jsonl" >"$folder/out" || fail "fathom problems"
cat >"$folder/choices.jsonl" <<'LINES'
{"prompt": "This program is free ", "choices": ["software", "of charge and in Zürich"], "answer": 0, "id": "a"}

{"prompt": "", "choices": ["You may", "qqqq"], "answer": 0}
{"prompt": "the terms of", "choices": [" 1", " 2", " the licence"], "answer": 2}
LINES

# evaluate RANKS NAME [ARGUMENT...]: results in $folder/NAME.json and $folder/NAME.jsonl
evaluate() {
  local ranks=$1 name=$2
  shift 2
  run_ranks "$ranks" "$fathom" evaluate "$@" --json "$folder/$name.json" --output "$folder/$name.jsonl" >"$folder/out" 2>&1
  status=$?
}
all=(--text "$data/held-out" --text "$data/held-out.txt" --problems "$folder/problems.jsonl" --samples 4 --k 1,2,4
  --max_new_tokens 6 --temperature 0.9 --seed 5 --stop e --template "Q: {prompt}" --choices "$folder/choices.jsonl")
evaluate 1 one "$run" "${all[@]}"
expect_status 0 "evaluation on one rank"
expect_text "pass@4" "the table"
python3 - "$run/metrics.jsonl" "$folder/one" <<'CHECK' >"$folder/out" 2>&1 || fail "what evaluate finds"
import json, sys
trained = [x for x in map(json.loads, open(sys.argv[1])) if x.get("event") == "eval"][-1]
found = json.load(open(sys.argv[2] + ".json"))
for text in found["texts"]:  # shards, and the text that they were made of
    assert text["loss"] == trained["loss"] and text["bits_per_byte"] == trained["bits_per_byte"], (text, trained)
    assert text["num_tokens"] == trained["eval_tokens"], (text, trained)
lines = [json.loads(line) for line in open(sys.argv[2] + ".jsonl")]
samples, questions = lines[:12], lines[12:]
assert [x["sample"] for x in samples] == [0, 1, 2, 3] * 3, samples
for x in samples:
    assert x["prompt"].startswith("Q: Sort") and x["verdict"] in ("correct", "wrong") and x["rule"], x
    assert "e" not in x["completion"], x
problems = found["problems"]
assert (problems["num_problems"], problems["num_samples"]) == (3, 12), problems
correct = sum(x["verdict"] == "correct" for x in samples)
assert abs(problems["solve_rate"]["mean"] - correct / 12) < 1e-15, problems
assert problems["mean_tokens"] == sum(x["num_tokens"] for x in samples) / 12, problems
assert problems["cut_off_share"] == sum(x["finish"] == "length" for x in samples) / 12, problems
assert [x["id"] for x in questions] == ["a", 1, 2] and [len(x["log_likelihoods"]) for x in questions] == [2, 2, 3], questions
asked = [json.loads(line) for line in open(sys.argv[2].rsplit("/", 1)[0] + "/choices.jsonl") if line.strip()]
for question, x in zip(asked, questions):
    scores = x["log_likelihoods"]
    per_byte = [s / len(c.encode()) for s, c in zip(scores, question["choices"])]
    assert all(s < 0 for s in scores), x
    assert x["chosen"] == scores.index(max(scores)) and x["chosen_per_byte"] == per_byte.index(max(per_byte)), x
accuracy = sum(x["chosen"] == x["answer"] for x in questions) / 3
assert abs(found["choices"]["accuracy"]["mean"] - accuracy) < 1e-15, found
CHECK
checkpoint=$run/checkpoints/step-00000003
evaluate 1 whole "$checkpoint" "${all[@]}"
expect_status 0 "evaluation of a checkpoint"
cp "$folder/whole.json" "$folder/want.json"
for layout in "2 mesh.tensor=2" "2 mesh.pipeline=2" "2 mesh.expert=2" "4 mesh.pipeline=2,mesh.tensor=2" "1 run.threads=2"; do
  mesh=(--set "${layout#* }")
  [ "$layout" != "4 mesh.pipeline=2,mesh.tensor=2" ] || mesh=(--set mesh.pipeline=2 --set mesh.tensor=2)
  evaluate "${layout%% *}" other "$checkpoint/" "${all[@]}" "${mesh[@]}" --batch 3
  expect_status 0 "evaluation with $layout"
  diff "$folder/want.json" "$folder/other.json" >"$folder/out" || fail "$layout has other results than one rank"
  diff "$folder/one.jsonl" "$folder/other.jsonl" >"$folder/out" || fail "$layout has other completions than one rank"
done

# Part of a text; a built-in family; a chat.
evaluate 1 part "$run" --text "$data/held-out" --sequences 2
expect_status 0 "part of a text"
evaluate 2 family "$run" --family sorting --count 2 --difficulty 3 --split held_out --max_new_tokens 3 --temperature 0 --chat \
  --set model.max_position=64
expect_status 0 "a family of problems"
expect_text "sorting, difficulty 3, held out: 2 problems, 1 samples each" "a family of problems"
python3 - "$folder" <<'CHECK' >"$folder/out" 2>&1 || fail "part of a text"
import json, sys
part, whole = (json.load(open(f"{sys.argv[1]}/{name}.json"))["texts"][0] for name in ("part", "one"))
assert part["num_tokens"] < whole["num_tokens"] and part["loss"] != whole["loss"], (part, whole)
CHECK

refused() {  # TEXT ARGUMENT...
  evaluate 2 refused "${@:2}"
  expect_status 93 "$1"
  expect_once "$1" "evaluate ${*:2}"
}
refused "give something to evaluate on" "$run"
refused "pass@8: want a k of 1 to 4" "$run" --problems "$folder/problems.jsonl" --samples 4 --k 1,8
refused "there is no {prompt} in it" "$run" --problems "$folder/problems.jsonl" --template Q
refused "give one of --problems FILE and --family NAME" "$run" --problems "$folder/problems.jsonl" --family sorting --count 1
refused "want tagged, whole or lenient" "$run" --problems "$folder/problems.jsonl" --extract all
refused "neither a checkpoint (RUN/checkpoints/step-NNNNNNNN) nor a run folder that has one" "$data" --text "$data/held-out"
refused "there is no room for more" "$run" --problems "$folder/problems.jsonl" --template "$(printf 'word %.0s' {1..200}){prompt}"
echo '{"prompt": "x", "choices": ["a", "b"], "answer": 2}' >"$folder/bad.jsonl"
refused 'bad.jsonl:1: "answer" is 2, and the last of 2 choices is 1' "$run" --choices "$folder/bad.jsonl"
echo '{"prompt": "x", "choices": ["a"], "answer": 0}' >"$folder/bad.jsonl"
refused 'bad.jsonl:1: want {"prompt": TEXT, "choices"' "$run" --choices "$folder/bad.jsonl"
"$fathom" train-tokenizer "$data/train.txt" --vocab_size 300 --output "$folder/other.json" >"$folder/out" 2>&1 || fail train-tokenizer
refused "tokenizer" "$run" --text "$data/held-out" --set "data.tokenizer=$folder/other.json"

what="a folder for heartbeats that cannot be made"
for place in "$folder" /proc; do
  (cd "$place" && TMPDIR=/proc "$fathom" evaluate "$run" --family sorting --count 2) >"$folder/out" 2>&1
  status=$?
  expect_status 0 "$what, in $place"
  [ "$place" = /proc ] || ! grep -q "no watchdog" "$folder/out" || fail "$what: the current folder is not taken"
done
expect_once "no watchdog looks for a hang" "$what"

what="a rank that is stopped while problems are evaluated"
export TMPDIR=$folder/heartbeats
rm -rf "$TMPDIR"
mkdir -p "$TMPDIR"
mpirun --oversubscribe --bind-to none -n 2 "$fathom" evaluate "$run" --family sorting --count 20000 --set mesh.pipeline=2 \
  --set train.watchdog_timeout=3 >"$folder/out" 2>&1 </dev/null &
job=$!
for _ in $(seq 300); do
  grep -q "evaluate problems" "$TMPDIR"/fathom-heartbeat-*/rank-1 2>/dev/null && break
  sleep 0.1
done
kill -STOP "$(rank_pid 1)" || fail "$what: no rank 1"
finish 30
expect_status 124 "$what"
expect_text "rank 1" "$what"
exit 0
