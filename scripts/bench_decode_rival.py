#!/usr/bin/env python3
"""Tokens/s of continuing texts: transformers' generate(), and `fathom generate` on the same machine in turn.

    ENV/bin/python scripts/bench_decode_rival.py RUN TEXT.txt [--fathom build/cpu/fathom] [--rounds 3]

ENV: see scripts/requirements-parity.txt. RUN is a run folder; both take the weights of its newest checkpoint, best a
model of text, whose documents seldom end. Prompts are pieces of TEXT. transformers is DeepseekV3ForCausalLM in float32
with its cache of keys and values, in every combination of ways to compute the experts and of threads; the likeliest
token is taken, --new-tokens times. Fathom does the same, in both modes, but ends a text where the model ends it: its
tokens are counted. The time is that of prompts and new tokens, without start and load. Each measurement is a process
of its own, rounds go through all of them in turn, and what counts is the median over the rounds.
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from bench_rival import last_words, report
from rival.checkpoint import newest_checkpoint, read_config, read_weights

ROOT = pathlib.Path(__file__).resolve().parent.parent
# grouped_loop: as in bench_rival.py.
EXPERTS = ("eager", "grouped_loop", "batched_mm")
THREADS = (1, 2)
MODES = ("EXACT", "FAST")


def make_model(run, experts):
    from parity.in_transformers import config_of, fused
    from transformers import DeepseekV3ForCausalLM

    config = config_of(read_config(run)["model"])
    if experts == "grouped_loop":
        from transformers.integrations import moe

        moe._can_use_grouped_mm = lambda *_: False
        experts = "grouped_mm"
    config._experts_implementation = experts
    config._attn_implementation = "sdpa"
    model = DeepseekV3ForCausalLM(config).float().eval()
    model.load_state_dict(fused(read_weights(newest_checkpoint(run))), strict=True)
    return model


def measure_torch(arguments):
    """In a process of its own: tokens/s, median over the repeats, and the completions of the last."""
    import torch
    from tokenizers import Tokenizer

    from rival.policy import left_padded

    torch.set_num_threads(arguments.threads)
    model = make_model(arguments.run, arguments.experts)
    tokenizer = Tokenizer.from_file(read_config(arguments.run)["data"]["tokenizer"])
    texts = [json.loads(line)["prompt"] for line in arguments.prompts.read_text().splitlines()]
    tokens, is_real = left_padded([tokenizer.encode(t, add_special_tokens=False).ids for t in texts], 0)
    seconds = []
    for _ in range(1 + arguments.repeats):
        start = time.perf_counter()
        out = model.generate(
            tokens, attention_mask=is_real.long(), do_sample=False, use_cache=True, eos_token_id=None,
            pad_token_id=0, max_new_tokens=arguments.new_tokens, min_new_tokens=arguments.new_tokens,
        )  # fmt: skip
        seconds.append(time.perf_counter() - start)
    new_tokens = out[:, tokens.shape[1] :]
    rate = new_tokens.numel() / statistics.median(seconds[1:])
    print(json.dumps({"tokens_per_s": rate, "tokens": new_tokens.tolist()}))


def run_torch(arguments, experts, threads, prompts):
    command = [sys.executable, __file__, str(arguments.run), str(arguments.text)]
    command += ["--measure", "--prompts", str(prompts), "--experts", experts, "--threads", str(threads)]
    command += ["--new-tokens", str(arguments.new_tokens), "--repeats", str(arguments.repeats)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        print("   failed:", last_words(done.stderr))
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_fathom(arguments, mode, threads, prompts):
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "completions.jsonl"
        command = [str(arguments.fathom), "generate", str(arguments.run), "--prompts", str(prompts)]
        command += ["--output", str(output), "--temperature", "0", "--max_new_tokens", str(arguments.new_tokens)]
        command += ["--set", f"numerics.mode={mode}", "--set", f"run.threads={threads}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            print("   failed:", last_words(done.stderr))
            return None
        rate = re.search(r"([\d.e+]+) tokens/s", done.stderr)
        return {
            "tokens_per_s": float(rate[1]),
            "tokens": [json.loads(line)["tokens"] for line in output.read_text().splitlines()],
        }


def write_prompts(arguments, count, folder):
    """Pieces of the text, one after another from its start, cut at a space."""
    text = arguments.text.read_text(errors="ignore")
    path = pathlib.Path(folder) / f"prompts-{count}.jsonl"
    lines = []
    for index in range(count):
        begin = index * arguments.prompt_bytes
        piece = text[begin : begin + arguments.prompt_bytes].rsplit(" ", 1)[0]
        lines.append(json.dumps({"prompt": piece}))
    path.write_text("\n".join(lines) + "\n")
    return path


def measure_batch(arguments, batch, folder):
    """Name -> tokens/s of each round for one batch size."""
    prompts = write_prompts(arguments, batch, folder)
    tasks = {}
    for experts, threads in itertools.product(EXPERTS, THREADS):
        name = f"torch batch {batch}, experts {experts}, {threads} threads"
        tasks[name] = lambda e=experts, t=threads: run_torch(arguments, e, t, prompts)
    for mode, threads in itertools.product(MODES, THREADS):
        name = f"fathom batch {batch}, {mode}, {threads} threads"
        tasks[name] = lambda m=mode, t=threads: run_fathom(arguments, m, t, prompts)
    rates, failed, tokens = {}, set(), {}
    for round_index in range(arguments.rounds):
        for name, task in tasks.items():
            if name in failed:
                continue
            result = task()
            report(rates, failed, round_index, name, result and result["tokens_per_s"])
            if result:
                tokens[name.split()[0]] = result["tokens"]
    if len(tokens) == 2:
        ours, theirs = tokens["fathom"], tokens["torch"]
        alike = sum(mine == their[: len(mine)] for mine, their in zip(ours, theirs))
        print(f"batch {batch}: texts continued alike {alike} of {batch}; tokens of Fathom {sum(map(len, ours))}")
    return rates


def print_table(rates):
    if not rates:
        raise RuntimeError("nothing could be measured; the reasons stand above")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    width = max(map(len, medians))
    print(f"\n{'':{width}}  tokens/s    spread")
    for name, median in sorted(medians.items(), key=lambda item: -item[1]):
        spread = (max(rates[name]) - min(rates[name])) / median
        print(f"{name:{width}}  {median:8.0f}  {spread:7.1%}")
    ours, theirs = (
        [m for n, m in medians.items() if n.startswith(kind)] for kind in ("fathom", "torch")
    )
    if ours and theirs:
        print(f"best of Fathom / best of torch: {max(ours) / max(theirs):.2f}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="run folder with a checkpoint")
    parser.add_argument("text", type=pathlib.Path, help="plain text that prompts are cut from")
    parser.add_argument("--fathom", type=pathlib.Path, default=ROOT / "build/cpu/fathom")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="texts at a time")
    parser.add_argument("--prompt-bytes", type=int, default=160)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="of PyTorch a round, after one of warm-up")
    parser.add_argument("--measure", action="store_true", help="measure one variant in this process")
    parser.add_argument("--prompts", type=pathlib.Path, help="of --measure")
    parser.add_argument("--experts", choices=EXPERTS, default="eager")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.measure:
        measure_torch(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        for batch in arguments.batches:
            print_table(measure_batch(arguments, batch, folder))


if __name__ == "__main__":
    main()
