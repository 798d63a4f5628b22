#!/usr/bin/env python3
"""Holds import-hf and export-hf against transformers, on tiny random models that are drawn anew each time.

    python3 -m venv ENV && ENV/bin/pip install -r scripts/requirements-parity.txt
    ENV/bin/python scripts/check_hf.py [--program build/cpu/fathom] [--cases 12] [--seed S]

Each case draws a config of DeepSeek-V2, V2-Lite or V3, weights, a dtype (FP32, BF16, FP8) and numbers of files and ranks, and checks
that

- an imported checkpoint continues texts as transformers does: the same tokens where the best is the best by more than rounding, and
  log-probabilities of those tokens, and of tokens drawn at random, to 1e-5;
- exported at once in the dtype that it came in, it has every tensor again, bit for bit;
- after some steps of fine-tuning, what is exported computes in transformers what it computes here, to 1e-5, and continues alike;
- tokenizer and chat template of the export give transformers the tokens and the text that they give here.

Prints a line a case, and the seed; ends with 1 at the first case that fails.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers

from parity import hf_checkpoint

PROMPTS = ["The water, the word", "parallel pipeline of experts", "x", "1234 and"]
TURNS = (("system", "é"), ("user", "a"), ("assistant", "b\n"), ("user", 'c "d"'))
NEW_TOKENS = 16
TOLERANCE = 1e-5
CLEAR = 1e-4  # a best token is sure when the second best is less likely by more
FAMILIES = ("v3", "v2", "v2_lite")
DTYPES = ("FP32", "BF16", "FP8")
TRAINING = """
run {{ directory: "{run}" seed: 3 threads: 1 }}
model_from: "{imported}/model.textproto"
numerics {{ gradient_unit_tokens: 8 }}
train {{ steps: 3 micro_batch_size: 1 global_batch_size: 4 sequence_length: 64 init_from: "{imported}" }}
optimizer {{ lr: 1e-3 }}
data {{
  train {{ path: "{chats}" }}
  tokenizer: "{imported}/tokenizer.json"
  chat {{ system: "S: " system_end: "\\n\\t" user: "Q: " assistant: " A: " }}
}}
"""


class Case:
    """A folder for one model, and the program that works in it."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, *arguments, ranks=1):
        environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
        done = subprocess.run([*launcher, self.program, *map(str, arguments)], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"fathom {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr}")

    def generate(self, model, *options):
        """The lines of `fathom generate` for the prompts."""
        prompts, output = self.folder / "prompts.jsonl", self.folder / "output.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
        self.run("generate", model, "--prompts", prompts, "--output", output, "--max_new_tokens", NEW_TOKENS, *options)
        return [json.loads(line) for line in output.read_text().splitlines()]


def compare(model, lines, is_greedy):
    """Largest difference of a token's log-probability from transformers' of the same token."""
    differences = []
    for line in lines:
        if not line["tokens"]:
            sys.exit(f"no token in {line}")
        prompt = hf_checkpoint.ENCODE.encode(line["prompt"]).ids
        rows = hf_checkpoint.log_probabilities(model, prompt + line["tokens"])[len(prompt) - 1 :]
        for row, token, found in zip(rows, line["tokens"], line["logprobs"]):
            differences.append(abs(row[token].item() - found))
            best = row[: hf_checkpoint.VOCABULARY].topk(2)
            if is_greedy and best.values[0] - best.values[1] > CLEAR and best.indices[0] != token:
                sys.exit(f"token {token} where transformers has {best.indices[0].item()}: {line}")
    return worst_of(differences)


def worst_of(differences):
    """The largest, or NaN where one is, which max() would pass over."""
    return torch.tensor(differences).max().item()


def compare_model(case, reference, path, ranks):
    """The same of greedy and of random continuations by a checkpoint of ours."""
    greedy = case.generate(path, "--temperature", 0)
    drawn = case.generate(path, "--temperature", 1, "--samples", 3, "--seed", ranks)
    if len(greedy) != len(PROMPTS) or len(drawn) != 3 * len(PROMPTS):
        sys.exit(f"{path}: {len(greedy)} and {len(drawn)} lines for {len(PROMPTS)} prompts")
    return worst_of([compare(reference, greedy, True), compare(reference, drawn, False)])


def require_small(what, difference):
    if not difference <= TOLERANCE:
        sys.exit(f"{what}: log-probabilities differ by {difference}")
    return f"{what} {difference:.1e}"


def read_all(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= hf_checkpoint.load_file(path)
    return tensors


def require_same_tensors(held, folder):
    found = read_all(folder)
    if held.keys() != found.keys():
        sys.exit(f"other tensors: {sorted(held.keys() ^ found.keys())}")
    for name, value in held.items():
        same = value.dtype == found[name].dtype and value.shape == found[name].shape
        if not same or not torch.equal(value.view(torch.uint8), found[name].view(torch.uint8)):
            sys.exit(f"tensor {name} is not what it was")


def require_same_text(folder):
    """The tokenizer and the template of an export, by transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for prompt in PROMPTS:
        if tokenizer.encode(prompt, add_special_tokens=False) != hf_checkpoint.ENCODE.encode(prompt).ids:
            sys.exit(f"transformers encodes {prompt!r} otherwise")
    messages = [{"role": role, "content": text} for role, text in TURNS]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    wanted = '<|begin_of_sentence|>S: é\n\tQ: a A: b\n<|end_of_sentence|>Q: c "d" A:'
    if text != wanted:
        sys.exit(f"the chat template gives {text!r}, not {wanted!r}")


def fine_tune(case, imported, ranks):
    chats, run, config = case.folder / "chats.jsonl", case.folder / "tuned", case.folder / "tune.textproto"
    chats.write_text("".join(json.dumps({"prompt": f"{i} water", "completion": f"{i} the word of {i}"}) + "\n" for i in range(16)))
    config.write_text(TRAINING.format(run=run, imported=imported, chats=chats))
    case.run("sft", config, ranks=ranks)
    return run


def check(case, generator, number):
    def pick(values):
        return values[int(torch.randint(len(values), (1,), generator=generator))]

    family, dtype = FAMILIES[number % len(FAMILIES)], DTYPES[number // len(FAMILIES) % len(DTYPES)]
    config = hf_checkpoint.draw_config(generator, family)
    num_files, ranks = pick((1, 3)), pick((1, 2, 3))
    theirs, imported, again, exported = (case.folder / name for name in ("theirs", "imported", "again", "exported"))
    held, values = hf_checkpoint.write_checkpoint(theirs, config, generator, dtype, num_files)
    reference = hf_checkpoint.reference_model(config, values, case.folder / "reference")

    case.run("import-hf", theirs, "--out", imported, ranks=ranks)
    results = [require_small("imported", compare_model(case, reference, imported, ranks))]
    case.run("export-hf", imported, "--out", again, "--dtype", dtype, "--shard_size", pick(("20KB", "5GB")), ranks=pick((1, 2, 3)))
    require_same_tensors(held, again)

    tuned = fine_tune(case, imported, pick((1, 2)))
    case.run("export-hf", tuned, "--out", exported, "--dtype", "FP32", "--shard_size", "30KB", ranks=ranks)
    model = hf_checkpoint.load_model(exported)
    moved = (model.lm_head.weight - reference.lm_head.weight).abs().max().item()
    if not moved > 0:
        sys.exit("fine-tuning changed nothing")
    results.append(require_small("exported", compare_model(case, model, tuned, ranks)))
    require_same_text(exported)
    print(f"case {number}: {family} {dtype}, {num_files} files, {ranks} ranks: {', '.join(results)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/cpu/fathom")
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"seed {options.seed}, transformers {transformers.__version__}, torch {torch.__version__}", flush=True)
    for number in range(options.cases):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="fathom-check-hf-"))
        generator = torch.Generator().manual_seed(options.seed * 1000 + number)
        check(Case(str(pathlib.Path(options.program).resolve()), folder), generator, number)
        shutil.rmtree(folder)
    print(f"{options.cases} cases passed")


if __name__ == "__main__":
    main()
