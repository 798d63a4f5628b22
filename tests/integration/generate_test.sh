#!/usr/bin/env bash
# fathom generate: the same completions on every layout, from a run folder and from a checkpoint; what it refuses.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run=$folder/generate
rm -rf "$run"
launch 2 "$run" --set train.steps=3 --set "data.tokenizer=$data/tokenizer.json" --set "evaluation.prompts=The licence" \
  --set evaluation.sample_tokens=8
expect_status 0 "training"
expect_text "The licence" "the sample at the end of the run"
cat >"$folder/prompts.jsonl" <<'LINES'
{"prompt": "This program is free software", "id": 7}
{"prompt": "", "id": "empty"}

{"prompt": "é and \"quotes\"", "answer": "unused"}
LINES

# generate RANKS OUTPUT [ARGUMENT...]
generate() {
  local ranks=$1 output=$2
  shift 2
  run_ranks "$ranks" "$fathom" generate "$@" --output "$output" >"$folder/out" 2>&1
  status=$?
}
options=(--prompts "$folder/prompts.jsonl" --samples 2 --max_new_tokens 12 --temperature 0.9 --top_p 0.95 --seed 5)
generate 1 "$folder/one.jsonl" "$run" "${options[@]}"
expect_status 0 "generation on one rank"
python3 - "$folder/one.jsonl" <<'CHECK' >"$folder/out" 2>&1 || fail "what generate writes"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert [(x["id"], x["sample"]) for x in lines] == [(i, s) for i in (7, "empty", 2) for s in (0, 1)], lines
for x in lines:
    assert set(x) == {"id", "sample", "prompt", "completion", "tokens", "logprobs", "finish"}, x
    assert len(x["tokens"]) == len(x["logprobs"]) and all(p <= 0 for p in x["logprobs"]), x
    assert (x["finish"] == "length") == (len(x["tokens"]) == 12), x
assert lines[0]["tokens"] != lines[1]["tokens"], lines
CHECK
for mesh in "mesh.tensor=2" "mesh.pipeline=2" "mesh.expert=2"; do
  generate 2 "$folder/two.jsonl" "$run"/checkpoints/step-00000003 "${options[@]}" --set "$mesh" --batch 3 --cache_tokens 64
  expect_status 0 "generation with $mesh"
  diff "$folder/one.jsonl" "$folder/two.jsonl" >"$folder/out" || fail "$mesh has other completions than one rank"
done

# A single text comes to the terminal, as the same tokens.
text() {
  run_ranks "$1" "$fathom" generate "$run" --prompt "You may" --max_new_tokens 10 "${@:2}" 2>/dev/null
}
[ -n "$(text 1)" ] && [ "$(text 1)" = "$(text 2 --set mesh.tensor=2)" ] || fail "a text depends on the layout"

# A stop string ends a completion and is not part of its text.
stop=$(text 1 | cut -c 3-4)
[ "$(text 1 --stop "$stop")" = "$(text 1 | cut -c 1-2)" ] || fail "--stop '$stop' does not cut '$(text 1)'"

chat=$(text 1 --chat --set model.max_position=64)
[ -n "$chat" ] && [ "$chat" != "$(text 1)" ] || fail "no chat template stands around the prompt"

# Latents in the cache give the same text in FAST, where they are the default; EXACT refuses them.
for fast in "" "--cache latent" "--cache expanded"; do
  # shellcheck disable=SC2086
  [ "$(text 1 --set numerics.mode=FAST $fast)" = "$(text 1)" ] || fail "FAST $fast has another text than EXACT"
done

refused() {  # TEXT ARGUMENT...
  generate 1 "$folder/refused.jsonl" "${@:2}"
  expect_status 93 "$1"
  expect_text "$1" "generate ${*:2}"
}
refused "give one of --prompt TEXT and --prompts FILE.jsonl" "$run"
refused "neither a checkpoint (RUN/checkpoints/step-NNNNNNNN) nor a run folder that has one" "$data" --prompt x
refused "a key/value cache of 63 tokens is 0 pages of 64" "$run" --prompt x --cache_tokens 63
refused "--cache latent: the run's numerics.mode is EXACT" "$run" --prompt x --cache latent
refused "--cache both: want expanded or latent" "$run" --prompt x --cache both
refused "want a number in [0, " "$run" --prompt x --temperature -1
refused "there is no room for more" "$run" --prompt "$(printf 'word %.0s' {1..200})"
echo '{"text": "x"}' >"$folder/bad.jsonl"
refused 'bad.jsonl:1: want {"prompt": TEXT}' "$run" --prompts "$folder/bad.jsonl"
what="an output in a folder that is not there"
generate 1 "$folder/none/x.jsonl" "$run" --prompt x
expect_status 93 "$what"
expect_text "--output $folder/none/x.jsonl: there is no folder $folder/none" "$what"
grep -q "tokens/s" "$folder/out" && fail "$what: it was generated first"
exit 0
