#!/usr/bin/env python3
"""Tokens/s of the small benchmark model in PyTorch, and in Fathom on the same machine in turn.

    ENV/bin/python scripts/bench_rival.py [--fathom build/cpu/fathom] [--rounds 3] [--quick | --no-torch]

ENV: see scripts/requirements-parity.txt. PyTorch is transformers' DeepseekV3ForCausalLM in float32
with fused AdamW, in every combination of: eager or torch.compile; ways to compute the experts; ways
to compute attention; 1 and 2 threads. A step is forward, backward, clipping by the global norm,
AdamW and zeroing the gradients, on 8 x 256 random tokens. Each measurement is a process of its own;
rounds go through all of them in turn, so that a slow spell of the machine hits everybody; what
counts is the median over the rounds of the median over the steps. Fathom runs in both modes of
numerics.mode, one after the other in each layout.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEQUENCES, LENGTH = 8, 256
VOCABULARY = 4096
COMPILATIONS = ("eager", "compile")
# transformers' names, and one more. eager: a loop over the experts. grouped_mm: tokens sorted by
# expert, then torch's grouped product, slow on CPUs. grouped_loop: the same with transformers' own
# grouped product, which it takes by itself under torch.compile only. batched_mm: a copy of an
# expert's weights for each of its tokens; needs 15 GB here and is left out unless asked for.
EXPERTS = ("eager", "grouped_mm", "grouped_loop", "batched_mm")
ATTENTIONS = ("eager", "sdpa")
THREADS = (1, 2)
# Ranks, threads per rank and mesh of each Fathom run, as --set wants them.
FATHOM_LAYOUTS = {
    "1 rank x 2 threads": (1, 2, ["train.micro_batch_size=8"]),
    "1 rank x 1 thread": (1, 1, ["train.micro_batch_size=8"]),
    "data 2": (2, 1, ["mesh.data=2"]),
    "tensor 2": (2, 1, ["mesh.tensor=2", "train.micro_batch_size=8"]),
    "pipeline 2": (2, 1, ["mesh.pipeline=2", "train.micro_batch_size=1"]),
    "expert 2": (2, 1, ["mesh.data=2", "mesh.expert=2"]),
}
MODES = ("EXACT", "FAST")
# What --quick measures: the fastest of earlier full rounds, of each kind.
QUICK = (
    ("compile", "grouped_loop", "sdpa", 2),
    ("compile", "grouped_loop", "sdpa", 1),
    ("eager", "eager", "sdpa", 2),
)


def make_model(experts, attention):
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        vocab_size=VOCABULARY, hidden_size=256, num_hidden_layers=4, first_k_dense_replace=1,
        intermediate_size=512, moe_intermediate_size=128, num_attention_heads=4,
        num_key_value_heads=4, q_lora_rank=96, kv_lora_rank=64, qk_nope_head_dim=32,
        qk_rope_head_dim=16, v_head_dim=32, n_routed_experts=16, n_shared_experts=1,
        num_experts_per_tok=4, n_group=1, topk_group=1, routed_scaling_factor=2.5,
        norm_topk_prob=True, max_position_embeddings=LENGTH, num_nextn_predict_layers=0,
        initializer_range=0.006, use_cache=False, tie_word_embeddings=False,
    )  # fmt: skip
    if experts == "grouped_loop":
        from transformers.integrations import moe

        moe._can_use_grouped_mm = lambda *_: False
        experts = "grouped_mm"
    config._experts_implementation = experts
    config._attn_implementation = attention
    return DeepseekV3ForCausalLM(config).float().train()


def measure_torch(arguments):
    """In a process of its own: median seconds a step after the warm-up."""
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = make_model(arguments.experts, arguments.attention)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    gains = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=3e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
    )
    run = torch.compile(model) if arguments.compilation == "compile" else model
    batches = torch.randint(VOCABULARY, (8, SEQUENCES, LENGTH + 1))
    seconds = []
    for step in range(arguments.warmup + arguments.steps):
        text = batches[step % len(batches)]
        start = time.perf_counter()
        targets = text[:, 1:].contiguous()
        loss = run(
            input_ids=text[:, :-1], labels=targets, shift_labels=targets, use_cache=False
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        seconds.append(time.perf_counter() - start)
    print(
        json.dumps(
            {"tokens_per_s": SEQUENCES * LENGTH / statistics.median(seconds[arguments.warmup :])}
        )
    )


def torch_variants(arguments):
    """Name -> command line of a measurement."""
    variants = {}
    kinds = itertools.product(COMPILATIONS, EXPERTS, ATTENTIONS, THREADS)
    for compilation, experts, attention, threads in kinds:
        if experts == "batched_mm" and not arguments.batched:
            continue
        if experts == "grouped_mm" and compilation == "compile":  # the same as grouped_loop
            continue
        if arguments.quick and (compilation, experts, attention, threads) not in QUICK:
            continue
        name = f"torch {compilation}, experts {experts}, attention {attention}, {threads} threads"
        variants[name] = [
            sys.executable, __file__, "--measure", "--compilation", compilation,
            "--experts", experts, "--attention", attention, "--threads", str(threads),
        ]  # fmt: skip
    return variants


def last_words(text):
    """The last line that says something: mpirun ends with rules."""
    said = [line for line in text.splitlines() if any(c.isalpha() for c in line)]
    return said[-1][:160] if said else "no message"


def run_torch(command, threads):
    """tokens/s, or None with the reason printed when the combination does not run."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        print("   failed:", last_words(done.stderr))
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])["tokens_per_s"]


def median_of_metrics(path, warmup):
    """Median tokens_per_s of the step lines of a metrics.jsonl, the first `warmup` left out."""
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    rates = [line["tokens_per_s"] for line in lines if "step" in line and "tokens_per_s" in line]
    if len(rates) <= warmup:
        raise RuntimeError(f"{path}: {len(rates)} steps, want more than {warmup}")
    return statistics.median(rates[warmup:])


def run_fathom(program, layout, mode, arguments):
    """tokens/s of `fathom pretrain CONFIG` in one layout and mode."""
    config, warmup = arguments.config, arguments.warmup
    ranks, threads, mesh = FATHOM_LAYOUTS[layout]
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        settings = [f"run.directory={run}", f"run.threads={threads}", f"numerics.mode={mode}", *mesh]
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
        if ranks > 1 and os.geteuid() == 0:
            command.insert(1, "--allow-run-as-root")
        command += [str(program), "pretrain", str(config)]
        for setting in settings:
            command += ["--set", setting]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            print("   failed:", last_words(done.stderr))
            return None
        return median_of_metrics(run / "metrics.jsonl", warmup)


def measure_all(arguments):
    """Name -> tokens/s of each round, every measurement once a round."""
    rates = {}
    torch_kinds = {} if arguments.no_torch else torch_variants(arguments)
    failed = set()
    for round_index in range(arguments.rounds):
        for name, command in torch_kinds.items():
            if name in failed:
                continue
            limits = ["--warmup", str(arguments.warmup), "--steps", str(arguments.steps)]
            rate = run_torch([*command, *limits], command[-1])
            report(rates, failed, round_index, name, rate)
        for layout, mode in itertools.product(FATHOM_LAYOUTS, MODES) if arguments.fathom else ():
            name = f"fathom {layout}, {mode}"
            if name in failed:
                continue
            rate = run_fathom(arguments.fathom, layout, mode, arguments)
            report(rates, failed, round_index, name, rate)
    return rates


def report(rates, failed, round_index, name, rate):
    if rate is None:
        failed.add(name)
        print(f"round {round_index + 1}  {name}: failed", flush=True)
    else:
        rates.setdefault(name, []).append(rate)
        print(f"round {round_index + 1}  {name}: {rate:.0f} tokens/s", flush=True)


def print_table(rates):
    medians = {name: statistics.median(values) for name, values in rates.items()}
    width = max(len(name) for name in medians)
    print(f"\n{'':{width}}  tokens/s    spread")
    for name, median in sorted(medians.items(), key=lambda item: -item[1]):
        spread = (max(rates[name]) - min(rates[name])) / median
        print(f"{name:{width}}  {median:8.0f}  {spread:7.1%}")
    bests = {}
    for kind in ("torch", "fathom"):
        own = {name: median for name, median in medians.items() if name.startswith(kind)}
        if own:
            name = max(own, key=own.get)
            bests[kind] = own[name]
            print(f"best of {kind}: {own[name]:.0f} tokens/s ({name})")
    for layout in FATHOM_LAYOUTS:
        exact, fast = (rates.get(f"fathom {layout}, {mode}", []) for mode in MODES)
        if exact and fast:
            ratio = statistics.median(f / e for e, f in zip(exact, fast))
            print(f"{layout}: a step of EXACT takes {ratio:.2f} times one of FAST")
    if len(bests) == 2:
        print(f"fathom / torch: {bests['fathom'] / bests['torch']:.2f}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--fathom", type=pathlib.Path, help="the program; without it only PyTorch is measured"
    )
    parser.add_argument(
        "--config", type=pathlib.Path, default=ROOT / "configs/runs/bench-small.textproto"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="measured steps of PyTorch a round")
    parser.add_argument(
        "--warmup", type=int, default=4, help="steps left out, of PyTorch and of Fathom"
    )
    parser.add_argument("--quick", action="store_true", help="only the variants that usually win")
    parser.add_argument("--no-torch", action="store_true", help="only Fathom, both modes")
    parser.add_argument("--batched", action="store_true", help="also batched_mm: 15 GB of memory")
    parser.add_argument(
        "--measure", action="store_true", help="measure one variant in this process"
    )
    parser.add_argument("--compilation", choices=COMPILATIONS, default="eager")
    parser.add_argument("--experts", choices=EXPERTS, default="grouped_mm")
    parser.add_argument("--attention", choices=ATTENTIONS, default="sdpa")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.measure:
        measure_torch(arguments)
        return
    if arguments.fathom:
        arguments.fathom = arguments.fathom.resolve()
    print_table(measure_all(arguments))


if __name__ == "__main__":
    main()
