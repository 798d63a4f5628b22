#!/usr/bin/env python3
"""Writes the report of scripts/gpu_check.sh: gpu_report.py STATE_FOLDER REPORT.md"""
import datetime
import json
import sys
from pathlib import Path


def read_lines(path):
    """(op, shape) -> what a benchmark says of it; nothing where it did not run."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    return {(line["op"], line["shape"]): line for line in lines}


CEILING = "ceiling "


def ceilings(ours):
    """What the shares of floors refer to: the card's measured limits."""
    rates = {op.removeprefix(CEILING): line for (op, _), line in ours.items() if op.startswith(CEILING)}
    if not rates:
        return ["Median time with a cold second-level cache."]
    return [
        f"Median time with a cold second-level cache; share of the floor that this card's own ceilings set: {rates['product']['tflops']:.0f} TFLOP/s (a product",
        f"of random bfloat16 matrices, {rates['product']['shape']}) and {rates['copy']['tbs']:.2f} TB/s (a copy, bytes read and written).",
    ]


def row(key, ours, rival):
    cells = [key[0], key[1]]
    if "error" in ours:
        return "| " + " | ".join([*cells, "failed: " + ours["error"], "", "", "", ""]) + " |"
    rate = f"{ours['tflops']:.0f} TFLOP/s" if "tflops" in ours else f"{ours['tbs']:.2f} TB/s"
    cells += [f"{ours['us']:.1f}", rate, f"{100 * ours['share_of_floor']:.0f}%"]
    if "us" in rival:
        cells += [f"{rival['us']:.1f}", f"{rival['us'] / ours['us']:.2f}x {rival.get('call', '')}".rstrip()]
    else:
        cells += ["", rival.get("error", "")]
    return "| " + " | ".join(cells) + " |"


def training_step(result):
    share = f"{100 * result['mfu']:.1f}% of the card's bfloat16 peak" if "mfu" in result else "share of the peak unknown"
    phases = ", ".join(f"{name[:-3].replace('_', ' ')} {result[name]:.1f} ms" for name in result if name.endswith("_ms") and name != "step_ms")
    return [
        "",
        f"`{' '.join([result['config'], result['arguments']]).strip()}`, median of {result['steps']} steps of {result['tokens']:,} tokens: {result['tokens_per_s']:,.0f} tokens/s, {share},",
        f"{result['step_ms']:.1f} ms a step ({phases}), {result['peak_memory_gib']:.1f} GiB at most, {result['first_step_s']:.1f} s from start to first step.",
    ]


def read_results(state, pattern):
    """(rest of the name, last line) of each file of results."""
    prefix = pattern.split("*")[0]
    texts = {path.stem.removeprefix(prefix): path.read_text().strip() for path in sorted(state.glob(pattern))}
    return [(name, json.loads(text.splitlines()[-1])) for name, text in texts.items() if text]


def pytorch_steps(results, ours):
    """Whole steps in PyTorch beside ours of the same config, the slower of our measurements."""
    rows = []
    for _, result in results:
        same = [line["step_ms"] for line in ours if line["config"] == result["config"] and not line["arguments"]]
        ratio = f"{result['step_ms'] / max(same):.2f}x" if same else ""
        cells = [f"`{result['config']}`", result["parameters"], result["compile"], f"{result['tokens_per_s']:,.0f}", f"{result['step_ms']:.1f}"]
        rows.append("| " + " | ".join([*cells, f"{result['peak_memory_gib']:.1f}", ratio]) + " |")
    return [
        "",
        f"PyTorch {results[0][1]['torch']}, `scripts/rival/training.py`: bfloat16 weights have no float32 copy and moments of bfloat16, float32 ones run under",
        "autocast. The last column: how many times our time it takes.",
        "",
        "| config | weights | torch.compile | tokens/s | ms a step | GiB | PyTorch / ours |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def grpo_steps(results):
    rows = []
    for name, result in results:
        sampling = result["generation_ms"] / result["step_ms"]
        cells = [name, result["samples"], f"{result['mean_length']:.0f}", f"{result['generation_tokens_per_s']:,.0f}", f"{result['training_tokens_per_s']:,.0f}"]
        rows.append("| " + " | ".join(map(str, [*cells, f"{result['step_ms'] / 1e3:.2f}", f"{100 * sampling:.0f}%", f"{result['peak_memory_gib']:.1f}", f"{result['logprob_gap_max']:.2g}"])) + " |")
    return [
        "",
        "## Reinforcement learning",
        "",
        f"`{results[0][1]['config']}` by `scripts/gpu_grpo.sh`: medians of steps of GRPO: decoding by CUDA graphs, launch by launch, and by graphs in numerics.mode EXACT.",
        "The gap is the largest between a token's log-probabilities of sampler and trainer.",
        "",
        "| decoding | completions | tokens of each | sampled tokens/s | trained tokens/s | s a step | of it sampling | GiB | gap |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def report(state, date):
    passed = sorted(path.stem for path in state.glob("*.passed"))
    failed = sorted(path.stem for path in state.glob("*.log") if path.stem not in passed)
    ours = read_lines(state / "kernels.jsonl")
    rival = read_lines(state / "rival.jsonl")
    text = [
        "# Results on a GPU",
        "",
        "Written by `scripts/gpu_check.sh`.",
        "",
        f"- Card, driver, memory: {(state / 'card').read_text().strip()}",
        f"- Date: {date}",
        f"- Passed: {', '.join(passed) or 'nothing'}",
        f"- Failed: {', '.join(failed) or 'nothing'}",
    ]
    if ours:
        text += [
            "",
            "## Kernels",
            "",
            *ceilings(ours),
            "The last columns: PyTorch's own calls for the same job on the same shape, and how many times our time they take.",
            "",
            "| operation | shape | us | rate | of floor | PyTorch, us | PyTorch / ours |",
            "|---|---|---|---|---|---|---|",
            *(row(key, line, rival.get(key, {})) for key, line in ours.items() if not key[0].startswith(CEILING)),
        ]
    exact = read_lines(state / "kernels-exact.jsonl")
    if exact:
        text += ["", "## Kernels of numerics.mode EXACT", "", "The same with fixed orders of sums, gradients of integers, sums in chunks; the last column is FAST's time.", ""]
        text += ["| operation | shape | us | rate | of floor | FAST, us | FAST / EXACT |", "|---|---|---|---|---|---|---|"]
        text += [row(key, line, ours.get(key, {})) for key, line in exact.items() if not key[0].startswith(CEILING)]
    training = [result for _, result in read_results(state, "training-*.jsonl")]
    if training:
        text += ["", "## Training", "", "By `scripts/gpu_training.sh`."]
        for result in training:
            text += training_step(result)
    pytorch = read_results(state, "pytorch-*.jsonl")
    if pytorch:
        text += pytorch_steps(pytorch, training)
    grpo = read_results(state, "grpo-*.jsonl")
    if grpo:
        text += grpo_steps(grpo)
    layouts = [path.read_text().strip() for path in sorted(state.glob("layouts*.txt"))]
    if any(layouts):
        text += ["", "## Layouts", "", "By `scripts/gpu_layouts.sh`, in numerics.mode EXACT: `bench-small`, then `bench-lite-3b`."]
        for table in layouts:
            text += ["", "```text", table, "```"]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Path(sys.argv[2]).write_text(report(Path(sys.argv[1]), datetime.date.today().isoformat()))
    print(f"wrote {sys.argv[2]}")
