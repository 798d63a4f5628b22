#!/usr/bin/env python3
"""PyTorch's own kernels on the operations that kernel_bench_cuda has timed, in the same way: median time by CUDA events, bfloat16, random
data, a second-level cache that was filled with something else. Calls are recorded in a CUDA graph where that is possible, so that the time of
Python does not show. A line of JSON each.

    kernels.py KERNELS.jsonl

What a call does stands in "call": the same job as ours, with as many calls as that takes (sums of weight gradients and masters in float32, keys put
together from their two parts), compiled where torch.compile may help. "recorded" tells whether it was.
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


def recorded(body):
    """(`body` as a CUDA graph, True), or (itself, False) where it cannot be recorded. The stream is the one on which its tensors were made: a backward runs there."""
    for _ in range(3):
        body()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            body()
    except RuntimeError:
        torch.cuda.synchronize()
        return body, False
    return graph.replay, True


def median_microseconds(body):
    """(the time, whether the body was recorded)"""
    flush = torch.empty(64 << 20, dtype=torch.int32, device="cuda")
    body, is_recorded = recorded(body)
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
    return sorted(times)[REPEATS // 2], is_recorded


def product(kind, sizes):
    rows, inner, outer = sizes
    x, w, dy = random(rows, inner), random(outer, inner), random(rows, outer)
    if kind == "forward":
        return "mm", lambda: torch.mm(x, w.t())
    if kind == "backward_input":
        return "mm", lambda: torch.mm(dy, w)
    dw = random(outer, inner, dtype=torch.float32)
    if kind == "first":
        return "mm to float32", lambda: torch.mm(dy.t(), x, out_dtype=torch.float32)
    return "mm to float32, add_", lambda: dw.add_(torch.mm(dy.t(), x, out_dtype=torch.float32))


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
    if kind == "first":
        return "_grouped_mm to bfloat16", lambda: torch._grouped_mm(dy.t(), x, offs=offsets)
    dw = random(experts, outer, inner, dtype=torch.float32)
    return "_grouped_mm to bfloat16, add_ to float32", lambda: dw.add_(torch._grouped_mm(dy.t(), x, offs=offsets))


def attention(kind, sizes):
    """From what the projections give: keys and values side by side, and one rotated key part for all heads."""
    tokens, heads, key_size, value_size = sizes
    rope_size = key_size - value_size  # DeepSeek's nope and value sizes are the same
    q = random(tokens, heads, key_size).requires_grad_()
    kv = random(tokens, heads, 2 * value_size).requires_grad_()
    k_rope = random(tokens, 1, rope_size).requires_grad_()

    @torch.compile
    def keys_and_values(kv, k_rope):
        k = torch.cat([kv[..., :value_size], k_rope.expand(-1, heads, -1)], dim=-1)
        return k.transpose(0, 1)[None], kv[..., value_size:].transpose(0, 1)[None]

    def forward():
        k, v = keys_and_values(kv, k_rope)
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(q.transpose(0, 1)[None], k, v, is_causal=True)

    if kind == "forward":
        return "compiled cat, cuDNN SDPA", forward
    out = forward()
    dout = torch.randn_like(out)
    return "the same, not deterministic", lambda: torch.autograd.grad(out, (q, kv, k_rope), dout, retain_graph=True)


def norm(op, sizes):
    """rms_norm or add_rms_norm, forward or backward."""
    x, branch = random(*sizes).requires_grad_(), random(*sizes).requires_grad_()
    gain = random(sizes[1]).requires_grad_()
    has_sum = op.startswith("add_")

    @torch.compile
    def compiled(x, branch, gain):
        h = x + branch if has_sum else x
        y = F.rms_norm(h, (sizes[1],), gain, 1e-6)
        return (h, y) if has_sum else (y,)

    call = "compiled add and rms_norm" if has_sum else "compiled rms_norm"
    if op.endswith("forward"):
        return call, lambda: compiled(x, branch, gain)
    outputs = compiled(x, branch, gain)
    gradients = [torch.randn_like(y) for y in outputs]
    return call + ", both gradients", lambda: torch.autograd.grad(outputs, (x, gain), gradients, retain_graph=True)


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


def cross_entropy(sizes):
    """Losses and the gradient of the logits in one: as few passes as the compiler finds."""
    tokens, classes = sizes
    logits = random(tokens, classes)
    targets = torch.randint(classes, (tokens,), device="cuda")

    @torch.compile
    def compiled(logits):
        shifted = logits.float() - logits.float().amax(dim=1, keepdim=True)
        sums = shifted.exp().sum(dim=1, keepdim=True)
        losses = sums.log().squeeze(1) - shifted.gather(1, targets[:, None]).squeeze(1)
        classes_of_row = torch.arange(classes, device="cuda")
        gradient = shifted.exp() / sums - (classes_of_row == targets[:, None]).float()
        return losses, gradient.to(logits.dtype)

    return "compiled losses and gradient", lambda: compiled(logits)


def embedding(kind, sizes):
    table = random(129280, sizes[1])
    tokens = torch.arange(sizes[0], device="cuda") * 7919 % table.shape[0]
    if kind == "forward":
        return "embedding", lambda: F.embedding(tokens, table)
    gradient = torch.zeros_like(table, dtype=torch.float32)
    dx = random(*sizes)
    return "index_add_ to float32, not deterministic", lambda: gradient.index_add_(0, tokens, dx.float())


def permute(sizes):
    top_k = 6
    x = random(sizes[0] // top_k, sizes[1])
    tokens = torch.randperm(sizes[0], device="cuda") // top_k
    return "index_select", lambda: torch.index_select(x, 0, tokens)


def adamw(sizes):
    master = torch.nn.Parameter(random(*sizes, dtype=torch.float32))
    master.grad = random(*sizes, dtype=torch.float32)
    value = random(*sizes)
    optimizer = torch.optim.AdamW([master], fused=True, capturable=True)

    def step():
        optimizer.step()
        value.copy_(master.detach())

    return "AdamW(fused) of float32, copy_ to bfloat16", step


def rival_of(op, shape):
    """(the call in words, a function that makes it), or None."""
    sizes = [int(word) for word in re.findall(r"\d+", shape.split(", first has")[0])]
    kind = "first" if " first " in op else op.split()[-1]
    if op.startswith("matmul ") and "router" not in op:
        return product(kind, sizes)
    if op.startswith("grouped_matmul "):
        return grouped_product(kind, sizes, "first has" in shape)
    if op.startswith("attention "):
        return attention(kind, sizes)
    if op in ("rms_norm forward", "rms_norm backward", "add_rms_norm forward", "add_rms_norm backward"):
        return norm(op, sizes)
    if op.startswith("swiglu "):
        return swiglu(kind, sizes)
    if op == "add":
        a, b = random(*sizes), random(*sizes)
        return "add", lambda: torch.add(a, b)
    if op == "cross_entropy":
        return cross_entropy(sizes)
    if op.startswith("embedding "):
        return embedding(kind, sizes)
    if op == "permute forward":
        return permute(sizes)
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
            time, is_recorded = median_microseconds(rival[1])
            line |= {"call": rival[0], "us": round(time, 3), "recorded": is_recorded}
        except (RuntimeError, AttributeError, TypeError) as error:  # a call that this torch does not have, or refuses
            line["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        print(json.dumps(line), flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with torch.cuda.stream(torch.cuda.Stream()):  # the default stream cannot be recorded
        main(sys.argv[1])
