#!/usr/bin/env bash
# Checkpoints as Hugging Face has them: what transformers computes from them is what generate computes after an import on any number
# of ranks; every command takes an import as it is; what comes out has every tensor again, bit for bit, or after training what was
# learnt; a folder that cannot be used leaves nothing; memory does not grow with the tensors.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
hf=$folder/hf
rm -rf "$hf"
mkdir "$hf"

# fathom RANKS COMMAND ARGUMENT...: output in $folder/out, exit code in $status.
fathom() {
  run_ranks "$1" "$fathom" "${@:2}" >"$folder/out" 2>&1
  status=$?
}
succeeds() {
  what="${*:2}"
  fathom "$@"
  expect_status 0 "$what"
}

# same_tensors FOLDER FOLDER: names, dtypes, shapes and bytes, however they are spread over files.
same_tensors() {
  python3 - "$@" <<'CHECK' >"$folder/out" 2>&1 || fail "$1 and $2 hold other tensors"
import json, pathlib, sys
def read(folder):
    tensors = {}
    for path in pathlib.Path(folder).glob("*.safetensors"):
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8 : 8 + size]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[name] = entry["dtype"], entry["shape"], data[8 + size + begin : 8 + size + end]
    return tensors
a, b = read(sys.argv[1]), read(sys.argv[2])
assert a and a.keys() == b.keys(), a.keys() ^ b.keys()
assert not [name for name in a if a[name] != b[name]], [name for name in a if a[name] != b[name]]
CHECK
}

# continues PATH EXPECTED: greedily, with the tokens and log-probabilities of EXPECTED.
continues() {
  succeeds 1 generate "$1" --prompts "$2" --temperature 0 --max_new_tokens 12 --output "$hf/found.jsonl"
  python3 - "$hf/found.jsonl" "$2" <<'CHECK' >"$folder/out" 2>&1 || fail "$1 continues otherwise than $2"
import json, sys
found, wanted = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert len(found) == len(wanted) > 0
for a, b in zip(found, wanted):
    assert a["tokens"] == b["tokens"] and len(a["logprobs"]) == len(b["logprobs"]), (a, b)
    assert max(abs(p - q) for p, q in zip(a["logprobs"], b["logprobs"])) <= 1e-5, (a, b)
CHECK
}

for name in v2_bf16 v3_fp8_mtp; do
  fixture=$source_dir/tests/fixtures/hf/$name
  dtype=BF16
  [ "$name" = v3_fp8_mtp ] && dtype=FP8
  for ranks in 1 4; do
    succeeds "$ranks" import-hf "$fixture" --out "$hf/$name-$ranks"
    continues "$hf/$name-$ranks" "$fixture/expected.jsonl"
    succeeds $((5 - ranks)) export-hf "$hf/$name-$ranks" --out "$hf/$name-$ranks-out" --dtype "$dtype" --shard_size 50KB
    same_tensors "$fixture" "$hf/$name-$ranks-out"
  done
  succeeds 1 inspect "$hf/$name-4/checkpoints/step-00000000" --verify
done

# Training goes on from an import with no other step.
imported=$hf/v3_fp8_mtp-4
cat >"$hf/tune.textproto" <<CONFIG
run { directory: "$hf/tuned" seed: 7 threads: 1 }
model_from: "$imported/model.textproto"
train { steps: 2 global_batch_size: 4 sequence_length: 64 init_from: "$imported" }
optimizer { lr: 1e-3 }
numerics { gradient_unit_tokens: 8 }
data { tokenizer: "$imported/tokenizer.json" chat { user: "Q: " assistant: " A: " } }
CONFIG
for word in water word parallel pipeline; do echo "{\"prompt\": \"$word\", \"completion\": \"$word $word\"}"; done >"$hf/chats.jsonl"
sft=("$hf/tune.textproto" --set "data.train[0].path=$hf/chats.jsonl" --set checkpoint.keep_last=0)
succeeds 4 sft "${sft[@]}" --set mesh.pipeline=2 --set mesh.tensor=2 --set mesh.expert=2
grep -q '"step": 2' "$hf/tuned/metrics.jsonl" || fail "fine-tuning took no steps"
cp -r "$hf/tuned" "$hf/straight"
succeeds 2 sft "${sft[@]}" --set train.steps=3 --set mesh.data=2
succeeds 1 sft "${sft[@]}" --set train.steps=3 --set "run.directory=$hf/straight"
cmp <(bits "$hf/tuned") <(bits "$hf/straight") || fail "fine-tuning of an import depends on the layout"
sed 's/tuned/grpo/' "$hf/tune.textproto" >"$hf/grpo.textproto"
succeeds 2 grpo "$hf/grpo.textproto" --set train.steps=1 --set "grpo.problems[0]={family: \"sorting\" difficulty: 2}" \
  --set "grpo.rewards[0]={answer: WHOLE}" --set grpo.prompts_per_step=2 --set grpo.group_size=2 --set rollout.max_new_tokens=8

# What was learnt goes out and comes back.
succeeds 2 export-hf "$hf/tuned" --out "$hf/tuned-out" --dtype FP32 --shard_size 100KB
succeeds 3 import-hf "$hf/tuned-out" --out "$hf/back"
succeeds 1 export-hf "$imported" --out "$hf/v3_fp8_mtp-wide" --dtype FP32
fixture=$source_dir/tests/fixtures/hf/v3_fp8_mtp
succeeds 1 generate "$hf/tuned" --prompts "$fixture/expected.jsonl" --temperature 0 --max_new_tokens 12 --output "$hf/tuned.jsonl"
continues "$hf/back" "$hf/tuned.jsonl"
cmp "$hf/tuned.jsonl" "$hf/found.jsonl" || fail "an export has other bits than what it came from"
(same_tensors "$hf/tuned-out" "$hf/v3_fp8_mtp-wide") 2>/dev/null && fail "fine-tuning changed nothing"

# refused MESSAGE COMMAND ARGUMENT... on two ranks: said once, nothing left.
refused() {
  fathom 2 "${@:2}" --out "$hf/refused"
  expect_status 93 "$1"
  expect_once "$1" "$2"
  [ -z "$(ls -d "$hf"/refused* 2>/dev/null)" ] || fail "$1: something is left"
}
cp -r "$source_dir/tests/fixtures/hf/v2_bf16" "$hf/damaged"
sed -i 's/"model-00002-of-00002.safetensors"/"..\/model-00002-of-00002.safetensors"/' "$hf/damaged/model.safetensors.index.json"
refused "is said to be in something else than a file NAME.safetensors" import-hf "$hf/damaged"
cp "$source_dir"/tests/fixtures/hf/v2_bf16/*.index.json "$hf/damaged"
truncate -s -1 "$hf/damaged/model-00002-of-00002.safetensors"
refused "model-00002-of-00002.safetensors: tensor model.norm.weight: data_offsets" import-hf "$hf/damaged"
refused "neither a checkpoint (RUN/checkpoints/step-NNNNNNNN) nor a run folder that has one" export-hf "$hf/damaged"
refused "model.rms_norm_epsilon is 1e-05" export-hf "$hf/tuned" --set model.rms_norm_epsilon=1e-5
refused "--dtype INT4: want BF16, FP32 or FP8" export-hf "$hf/tuned" --dtype INT4

# Two tensors of 205 MB in float32, all zeros: made of nothing on the disk.
python3 - "$hf/large" "$fixture" "$fathom" <<'CHECK' >"$folder/out" 2>&1 || fail "memory grows with the tensors"
import json, pathlib, resource, shutil, subprocess, sys
folder, fixture, fathom = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
vocabulary, hidden = 800000, 64
config = json.loads((fixture / "config.json").read_text())
config.update(vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=1, first_k_dense_replace=1, num_nextn_predict_layers=0)
del config["quantization_config"]
shapes = {"model.embed_tokens": (vocabulary, hidden), "lm_head": (vocabulary, hidden), "model.norm": (hidden,)}
layer = {
    "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,), "self_attn.q_a_proj": (24, hidden),
    "self_attn.q_a_layernorm": (24,), "self_attn.q_b_proj": (160, 24), "self_attn.kv_a_proj_with_mqa": (24, hidden),
    "self_attn.kv_a_layernorm": (16,), "self_attn.kv_b_proj": (288, 16), "self_attn.o_proj": (hidden, 160),
    "mlp.gate_proj": (48, hidden), "mlp.up_proj": (48, hidden), "mlp.down_proj": (hidden, 48),
}
shapes |= {f"model.layers.0.{name}": shape for name, shape in layer.items()}
header, end = {}, 0
for name, shape in shapes.items():
    begin, end = end, end + 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name + ".weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
folder.mkdir()
text = json.dumps(header).encode()
with open(folder / "model.safetensors", "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    file.truncate(8 + len(text) + end)
(folder / "config.json").write_text(json.dumps(config))
shutil.copy(fixture / "tokenizer.json", folder)
subprocess.run([fathom, "import-hf", folder, "--out", f"{folder}-run"], check=True)
subprocess.run([fathom, "export-hf", f"{folder}-run", "--out", f"{folder}-out", "--dtype", "FP32"], check=True)
assert (pathlib.Path(f"{folder}-out") / "model.safetensors").stat().st_size > end
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(f"{peak} bytes in memory for tensors of {4 * vocabulary * hidden}")
assert peak < 190e6
CHECK
rm -rf "$hf"
exit 0
