"""scripts/rival/training.py trains the model that Fathom trains: from the same weights, on the same tokens, the losses of several steps are
Fathom's, in float32 on the CPU. Argument: the program. Without torch and h5py: skipped (77)."""
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

if any(importlib.util.find_spec(name) is None for name in ("torch", "h5py", "tokenizers")):
    print("skipped: no torch, h5py and tokenizers for this Python")
    sys.exit(77)

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import torch  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from parity.in_transformers import fused  # noqa: E402
from rival.checkpoint import read_config, read_weights  # noqa: E402
from rival.training import Training  # noqa: E402
from rival.training_model import Transformer  # noqa: E402

LENGTH, STEPS, TOLERANCE = 64, 5, 2e-4
# lite-3b's kinds of layers, small.
SHAPE = {
    "model.vocab_size": 512, "model.hidden_size": 48, "model.num_layers": 3, "model.intermediate_size": 64,
    "model.num_attention_heads": 4, "model.kv_lora_rank": 24, "model.qk_nope_head_dim": 8, "model.qk_rope_head_dim": 8,
    "model.v_head_dim": 12, "model.initializer_range": 0.05, "model.moe.num_experts": 8, "model.moe.top_k": 3,
    "model.moe.intermediate_size": 32, "model.moe.selection_bias_update_rate": 0.01,
    "train.sequence_length": LENGTH, "train.global_batch_size": 4, "optimizer.lr": 1e-2,
    "optimizer.moment_dtype": "FLOAT32", "run.device": "CPU", "numerics.mode": "FAST",
}  # fmt: skip


def fathom(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"fathom {arguments[0]} failed: {done.stderr}")


def pretrain(program, run, data, settings):
    config = ROOT / "configs/runs/bench-lite-3b.textproto"
    settings = SHAPE | {"run.directory": run, "data.train[0].path": data} | settings
    fathom(program, "pretrain", config, *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")))


def periodic_tokens(program, folder):
    """Shards of one document whose tokens repeat, LENGTH a period, so that every sample is the same; a sample."""
    source = folder / "words.txt"
    source.write_text("\n\n".join(" ".join(f"w{i * j % 97}" for i in range(300)) for j in range(1, 9)))
    tokenizer_file = folder / "tokenizer.json"
    fathom(program, "train-tokenizer", source, "--vocab_size", 400, "--output", tokenizer_file)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    # Of single bytes, so that the period is known: letters that no merge has joined.
    period = "".join("QXZJKVY%"[i * i * 7 % 11 % 8] for i in range(LENGTH))
    text = folder / "text.txt"
    text.write_text(period * 400)
    tokens = tokenizer.encode(period * 3, add_special_tokens=False).ids
    if len(tokens) != 3 * LENGTH or tokens[:LENGTH] != tokens[LENGTH : 2 * LENGTH]:
        sys.exit("the text does not have the period that the test wants")
    fathom(program, "tokenize", text, "--tokenizer", tokenizer_file, "--output", folder / "train")
    return folder / "train", tokens[: LENGTH + 1]


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, sample = periodic_tokens(program, folder)
        pretrain(program, folder / "base", data, {"train.steps": 1, "checkpoint.save_at_end": "true"})
        base = folder / "base/checkpoints/step-00000001"
        pretrain(program, folder / "run", data, {"train.steps": STEPS, "train.init_from": base})
        lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
        ours = [line["loss"] for line in lines if "event" not in line]

        config = read_config(folder / "run")
        model = Transformer(config["model"])
        model.load_state_dict(fused(read_weights(base)), strict=True)
        training = Training(model, config)
        tokens = torch.tensor([sample] * config["train"]["global_batch_size"])
        theirs = [training.step(tokens).item() for _ in range(STEPS)]
    print("Fathom", ours)
    print("PyTorch", theirs)
    if len(ours) != STEPS or ours[0] - ours[-1] < 0.3:
        sys.exit("the loss does not fall: nothing is compared")
    if any(abs(a - b) > TOLERANCE for a, b in zip(ours, theirs)):
        sys.exit("PyTorch and Fathom do not train the same model")


main()
