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


def row(key, ours, rival):
    cells = [key[0], key[1]]
    if "error" in ours:
        return "| " + " | ".join([*cells, "failed: " + ours["error"], "", "", "", ""]) + " |"
    rate = f"{ours['tflops']:.0f} TFLOP/s" if "tflops" in ours else f"{ours['tbs']:.2f} TB/s"
    cells += [f"{ours['us']:.1f}", rate, f"{100 * ours['share_of_floor']:.0f}%"]
    if "us" in rival:
        cells += [f"{rival['us']:.1f}", f"{rival['us'] / ours['us']:.2f}x {rival['call']}"]
    else:
        cells += ["", rival.get("error", "")]
    return "| " + " | ".join(cells) + " |"


def training_step(result):
    share = f"{100 * result['mfu']:.1f}% of the card's bfloat16 peak" if "mfu" in result else "share of the peak unknown"
    phases = ", ".join(f"{name[:-3].replace('_', ' ')} {result[name]:.1f} ms" for name in result if name.endswith("_ms") and name != "step_ms")
    return [
        "",
        f"`{result['config']}`, median of {result['steps']} steps of {result['tokens']:,} tokens: {result['tokens_per_s']:,.0f} tokens/s, {share},",
        f"{result['step_ms']:.1f} ms a step ({phases}), {result['peak_memory_gib']:.1f} GiB at most, {result['first_step_s']:.1f} s from start to first step.",
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
            "Median time with a cold second-level cache; share of the floor that 790 TFLOP/s and 4.3 TB/s set. The last columns: PyTorch's own call on",
            "the same shape, and how many times our time it takes.",
            "",
            "| operation | shape | us | rate | of floor | PyTorch, us | PyTorch / ours |",
            "|---|---|---|---|---|---|---|",
            *(row(key, line, rival.get(key, {})) for key, line in ours.items()),
        ]
    training = [path.read_text().strip() for path in sorted(state.glob("training-*.jsonl"))]
    if any(training):
        text += ["", "## Training", "", "By `scripts/gpu_training.sh`."]
        for lines in filter(None, training):
            text += training_step(json.loads(lines.splitlines()[-1]))
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Path(sys.argv[2]).write_text(report(Path(sys.argv[1]), datetime.date.today().isoformat()))
    print(f"wrote {sys.argv[2]}")
