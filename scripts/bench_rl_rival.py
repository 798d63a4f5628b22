#!/usr/bin/env python3
"""Tokens/s of steps of reinforcement learning (GRPO) in PyTorch, and in Fathom on the same machine in turn.

    ENV/bin/python scripts/bench_rl_rival.py RUN [--fathom build/cpu/fathom --config configs/runs/sorting.textproto]

ENV: see scripts/requirements-parity.txt. RUN is the run folder of the base model, both start from its newest
checkpoint. PyTorch is scripts/rival/: sampling with a cache of keys and values, all completions in one batch that ends
with its last one; prompts computed once for their whole group; an update with the fused AdamW; in combinations of
eager or torch.compile, ways to compute the experts, micro-batches of the update, and threads. Before anything is
measured its greedy completions must be those of `fathom generate`. A step's tokens are prompts and completions;
each measurement is a process of its own, rounds go through all of them in turn, and what counts is the median over
the rounds of the median over the steps.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import types

from bench_rival import last_words, report
from rival.checkpoint import newest_checkpoint, read_config, read_weights

ROOT = pathlib.Path(__file__).resolve().parent.parent
LR = 1e-4  # small: completions keep their length while they are measured
# Compilation, experts, micro-batches of an update, threads.
VARIANTS = (
    ("eager", "all", 1, 2),
    ("eager", "all", 4, 2),
    ("eager", "sorted", 1, 2),
    ("eager", "sorted", 4, 2),
    ("eager", "sorted", 1, 1),
    ("compile", "all", 1, 2),
    ("compile", "all", 4, 2),
    ("compile", "all", 4, 1),
)
FATHOM_LAYOUTS = {
    "1 rank x 2 threads": (1, 2, ["mesh.data=1"]),
    "data 2": (2, 1, ["mesh.data=2"]),
}
MODES = ("EXACT", "FAST")


def load(run, experts):
    """Model, tokenizer, and the id of its end-of-sentence token."""
    from tokenizers import Tokenizer

    from parity.in_transformers import fused
    from rival.model import Transformer

    config = read_config(run)
    model = Transformer(config["model"], experts)
    model.load_state_dict(fused(read_weights(newest_checkpoint(run))), strict=True)
    tokenizer = Tokenizer.from_file(config["data"]["tokenizer"])
    eos = tokenizer.token_to_id("<|end_of_sentence|>")
    return model, tokenizer, eos


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def make_problems(arguments, folder, count, split):
    path = pathlib.Path(folder) / f"{split}.jsonl"
    command = [str(arguments.fathom), "problems", arguments.family, "--difficulty", str(arguments.difficulty)]
    command += ["--count", str(count), "--split", split, "--seed", "1", "--output", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def read_problems(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def check_against_fathom(arguments, folder):
    """The same weights and arithmetic: all but a few greedy completions (ties) are alike."""
    import torch

    from rival.policy import Sampler

    path = make_problems(arguments, folder, 64, "held_out")
    output = pathlib.Path(folder) / "completions.jsonl"
    command = [str(arguments.fathom), "generate", str(newest_checkpoint(arguments.run)), "--prompts", str(path)]
    command += ["--output", str(output), "--temperature", "0", "--max_new_tokens", str(arguments.max_new_tokens)]
    subprocess.run(command, check=True, capture_output=True)
    ours = [json.loads(line)["tokens"] for line in output.read_text().splitlines()]
    model, tokenizer, eos = load(arguments.run, "all")
    prompts = [encode(tokenizer, problem["prompt"]) for problem in read_problems(path)]
    sampler = Sampler(model, model, tokenizer.get_vocab_size(), eos)
    tokens, _, lengths = sampler.complete(prompts, 1, arguments.max_new_tokens, temperature=0)
    theirs = [row[:length].tolist() for row, length in zip(tokens, lengths)]
    alike = sum(a == b for a, b in zip(ours, theirs))
    print(f"greedy completions of both that are alike: {alike} of {len(ours)}")
    if alike < 0.9 * len(ours):
        raise RuntimeError("PyTorch and Fathom do not compute the same model")


def measure_torch(arguments):
    """In a process of its own: medians over the steps after the warm-up."""
    import torch

    from rival.policy import Sampler, Update, policy_step

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, tokenizer, eos = load(arguments.run, arguments.experts)
    problems = [(encode(tokenizer, p["prompt"]), p["answer"]) for p in read_problems(arguments.problems)]
    is_compiled = arguments.compilation == "compile"
    run = torch.compile(model, dynamic=False) if is_compiled else model
    sampler = Sampler(model, run, tokenizer.get_vocab_size(), eos)
    update = Update(model, run, tokenizer.get_vocab_size(), LR, arguments.parts)
    options = types.SimpleNamespace(
        group_size=arguments.group_size,
        max_new_tokens=arguments.max_new_tokens,
        # compiled code wants the same shapes in every step
        padded_length=max(len(p) for p, _ in problems) + arguments.max_new_tokens if is_compiled else None,
        is_right=lambda tokens, answer: tokenizer.decode(tokens).strip() == answer,
    )
    steps = []
    for index in range(arguments.warmup + arguments.steps):
        begin = index * arguments.prompts % len(problems)
        steps.append(policy_step(sampler, update, problems[begin : begin + arguments.prompts], options))
    print(json.dumps(summary_of(steps[arguments.warmup :])))


def summary_of(steps):
    def median(value):
        return statistics.median(value(step) for step in steps)

    return {
        "tokens_per_s": median(lambda s: s["tokens"] / s["seconds"]),
        "generated_per_s": median(lambda s: s["completion_tokens"] / s["generation_seconds"]),
        "trained_per_s": median(lambda s: s["tokens"] / s["training_seconds"]),
        "generation_ms": median(lambda s: 1e3 * s["generation_seconds"]),
        "training_ms": median(lambda s: 1e3 * s["training_seconds"]),
        "step_ms": median(lambda s: 1e3 * s["seconds"]),
        "tokens": median(lambda s: s["tokens"]),
        "reward": statistics.mean(s["reward"] for s in steps),
    }


def run_torch(arguments, variant, problems):
    compilation, experts, parts, threads = variant
    command = [sys.executable, __file__, str(arguments.run), "--measure", "--problems", str(problems)]
    command += ["--compilation", compilation, "--experts", experts, "--parts", str(parts), "--threads", str(threads)]
    for name in ("warmup", "steps", "prompts", "group_size", "max_new_tokens"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        print("   failed:", last_words(done.stderr))
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def steps_of_metrics(path):
    """The steps of a metrics.jsonl of `fathom grpo`, as policy_step() tells them."""
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    steps = []
    before = 0
    for line in lines:
        if "step_ms" not in line:
            continue
        seconds = line["step_ms"] / 1e3
        steps.append(
            {
                "reward": line["reward_mean"],
                "tokens": line["tokens"] - before,
                "completion_tokens": line["samples"] * line["completion_length_mean"],
                "seconds": seconds,
                "generation_seconds": seconds * line["generation_share"],
                "training_seconds": seconds * line["training_share"],
            }
        )
        before = line["tokens"]
    return steps


def run_fathom(arguments, layout, mode):
    ranks, threads, mesh = FATHOM_LAYOUTS[layout]
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        settings = [
            f"run.directory={run}", f"run.threads={threads}", f"numerics.mode={mode}",
            f"train.init_from={newest_checkpoint(arguments.run)}",
            f"train.steps={arguments.warmup + arguments.steps}", f"optimizer.lr={LR}",
            f"grpo.prompts_per_step={arguments.prompts}", f"grpo.group_size={arguments.group_size}",
            f"train.global_batch_size={arguments.prompts * arguments.group_size}",
            f"rollout.max_new_tokens={arguments.max_new_tokens}",
            "evaluation.interval=0", "checkpoint.interval=0", "checkpoint.save_at_end=false", *mesh,
        ]  # fmt: skip
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
        if ranks > 1 and os.geteuid() == 0:
            command.insert(1, "--allow-run-as-root")
        command += [str(arguments.fathom), "grpo", str(arguments.config)]
        for setting in settings:
            command += ["--set", setting]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            print("   failed:", last_words(done.stderr))
            return None
        return summary_of(steps_of_metrics(run / "metrics.jsonl")[arguments.warmup :])


def measure_all(arguments, problems):
    """Name -> what each round measured, every measurement once a round."""
    measured, rates, failed = {}, {}, set()
    tasks = {}
    for variant in () if arguments.no_torch else VARIANTS:
        compilation, experts, parts, threads = variant
        name = f"torch {compilation}, experts {experts}, {parts} micro-batches, {threads} threads"
        tasks[name] = lambda variant=variant: run_torch(arguments, variant, problems)
    for layout in FATHOM_LAYOUTS if arguments.config else ():
        for mode in MODES:
            tasks[f"fathom {layout}, {mode}"] = lambda l=layout, m=mode: run_fathom(arguments, l, m)
    for round_index in range(arguments.rounds):
        for name, task in tasks.items():
            if name in failed:
                continue
            result = task()
            report(rates, failed, round_index, name, result and result["tokens_per_s"])
            if result:
                measured.setdefault(name, []).append(result)
    return measured


def print_table(measured):
    if not measured:
        raise RuntimeError("nothing could be measured; the reasons stand above")
    columns = ("tokens_per_s", "generated_per_s", "trained_per_s")
    columns += ("step_ms", "generation_ms", "training_ms", "tokens", "reward")
    width = max(map(len, measured))
    print(f"\n{'':{width}}  " + "  ".join(f"{column:>15}" for column in columns))
    medians = {
        name: {column: statistics.median(r[column] for r in rounds) for column in columns}
        for name, rounds in measured.items()
    }
    for name, row in sorted(medians.items(), key=lambda item: -item[1]["tokens_per_s"]):
        numbers = (f"{row[c]:15.2f}" if c == "reward" else f"{row[c]:15.0f}" for c in columns)
        print(f"{name:{width}}  " + "  ".join(numbers))
    bests = {}
    for kind in ("torch", "fathom"):
        own = {name: row["tokens_per_s"] for name, row in medians.items() if name.startswith(kind)}
        if own:
            name = max(own, key=own.get)
            bests[kind] = own[name]
            print(f"best of {kind}: {own[name]:.0f} tokens/s ({name})")
    if len(bests) == 2:
        print(f"fathom / torch: {bests['fathom'] / bests['torch']:.2f}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="run folder of the base model")
    parser.add_argument("--fathom", type=pathlib.Path, default=ROOT / "build/cpu/fathom")
    parser.add_argument("--config", type=pathlib.Path, help="of `fathom grpo`; without it only PyTorch is measured")
    parser.add_argument("--family", default="sorting")
    parser.add_argument("--difficulty", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=16, help="problems of a step")
    parser.add_argument("--group-size", type=int, default=16, help="completions of a problem")
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="measured steps a round")
    parser.add_argument("--warmup", type=int, default=3, help="steps left out")
    parser.add_argument("--no-torch", action="store_true", help="only Fathom")
    parser.add_argument("--measure", action="store_true", help="measure one variant in this process")
    parser.add_argument("--problems", type=pathlib.Path, help="of --measure")
    parser.add_argument("--compilation", choices=("eager", "compile"), default="eager")
    parser.add_argument("--experts", choices=("all", "sorted"), default="all")
    parser.add_argument("--parts", type=int, default=1, help="micro-batches of an update")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.measure:
        measure_torch(arguments)
        return
    arguments.fathom = arguments.fathom.resolve()
    with tempfile.TemporaryDirectory() as folder:
        check_against_fathom(arguments, folder)
        count = arguments.prompts * (arguments.warmup + arguments.steps)
        problems = make_problems(arguments, folder, count, "train")
        print_table(measure_all(arguments, problems))


if __name__ == "__main__":
    main()
