#!/usr/bin/env python3
"""PyTorch's own kernels on the operations that kernel_bench_cuda has timed, in the same way: median time by CUDA events, bfloat16, random
data, a second-level cache that was filled with something else. A line of JSON each.

    kernels.py KERNELS.jsonl

What torch has no single call for is left out; where its call does less than ours (no float32 sum of weight gradients), "call" says so.
"""
import json
import re
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

REPEATS = 30


def random(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device="cuda", dtype=dtype)


def median_microseconds(body):
    flush = torch.empty(64 << 20, dtype=torch.int32, device="cuda")
    for _ in range(3):
        body()
    times = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        start.record()
        body()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end))
    return sorted(times)[REPEATS // 2]


def product(kind, sizes):
    rows, inner, outer = sizes
    x, w, dy = random(rows, inner), random(outer, inner), random(rows, outer)
    if kind == "forward":
        return "mm", lambda: torch.mm(x, w.t())
    if kind == "backward_input":
        return "mm", lambda: torch.mm(dy, w)
    dw = random(outer, inner, dtype=torch.float32)
    return "mm + add_ to float32", lambda: dw.add_(torch.mm(dy.t(), x))


def grouped_product(kind, sizes, skewed):
    experts, rows, inner, outer = sizes
    first = int((4 if skewed else 1) * rows / experts)
    ends = [first + (rows - first) * e // (experts - 1) for e in range(experts)]
    offsets = torch.tensor(ends, dtype=torch.int32, device="cuda")
    x, w, dy = random(rows, inner), random(experts, outer, inner), random(rows, outer)
    if kind == "forward":
        return "_grouped_mm", lambda: torch._grouped_mm(x, w.transpose(1, 2), offs=offsets)
    if kind == "backward_input":
        return "_grouped_mm", lambda: torch._grouped_mm(dy, w, offs=offsets)
    return "_grouped_mm to bfloat16", lambda: torch._grouped_mm(dy.t(), x, offs=offsets)


def attention(kind, sizes):
    tokens, heads, key_size, value_size = sizes
    q, k = (random(1, heads, tokens, key_size).requires_grad_() for _ in range(2))
    v = random(1, heads, tokens, value_size).requires_grad_()

    def forward():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    if kind == "forward":
        return "cuDNN SDPA", forward
    out = forward()
    dout = torch.randn_like(out)
    return "cuDNN SDPA, not deterministic", lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)


def norm(kind, sizes):
    x = random(*sizes).requires_grad_()
    gain = random(sizes[1]).requires_grad_()
    compiled = torch.compile(lambda x, gain: F.rms_norm(x, (sizes[1],), gain, 1e-6))
    if kind == "forward":
        return "compiled rms_norm", lambda: compiled(x, gain)
    y = compiled(x, gain)
    dy = torch.randn_like(y)
    return "compiled rms_norm, both gradients", lambda: torch.autograd.grad(y, (x, gain), dy, retain_graph=True)


def swiglu(kind, sizes):
    gate_up = random(sizes[0], 2 * sizes[1]).requires_grad_()

    @torch.compile
    def compiled(gate_up):
        gate, up = gate_up.chunk(2, dim=1)
        return F.silu(gate) * up

    if kind == "forward":
        return "compiled silu * up", lambda: compiled(gate_up)
    y = compiled(gate_up)
    dy = torch.randn_like(y)
    return "compiled silu * up", lambda: torch.autograd.grad(y, gate_up, dy, retain_graph=True)


def adamw(sizes):
    weight = torch.nn.Parameter(random(*sizes))
    weight.grad = random(*sizes)
    optimizer = torch.optim.AdamW([weight], fused=True)
    return "AdamW(fused), all of it bfloat16", optimizer.step


def rival_of(op, shape):
    """(the call in words, a function that makes it), or None."""
    sizes = [int(word) for word in re.findall(r"\d+", shape.split(", first has")[0])]
    kind = op.split()[-1]
    if op.startswith("matmul ") and "router" not in op:
        return product(kind, sizes)
    if op.startswith("grouped_matmul "):
        return grouped_product(kind, sizes, "first has" in shape)
    if op.startswith("attention "):
        return attention(kind, sizes)
    if op in ("rms_norm forward", "rms_norm backward_input"):
        return norm(kind, sizes)
    if op.startswith("swiglu "):
        return swiglu(kind, sizes)
    if op == "add":
        a, b = random(*sizes), random(*sizes)
        return "add", lambda: torch.add(a, b)
    if op == "adamw":
        return adamw(sizes)
    return None


def main(path):
    torch.manual_seed(1)
    for text in open(path, encoding="utf-8"):
        ours = json.loads(text)
        line = {"op": ours["op"], "shape": ours["shape"]}
        try:
            rival = rival_of(**line)
            if rival is None:
                continue
            line |= {"call": rival[0], "us": round(median_microseconds(rival[1]), 3)}
        except (RuntimeError, AttributeError, TypeError) as error:  # a call that this torch does not have, or refuses
            line["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        print(json.dumps(line), flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
