#!/usr/bin/env python3
"""A whole training step in PyTorch of what a config of Fathom describes, as one line of JSON: the median over the steps.

    training.py CONFIG.textproto [--parameters bfloat16|float32] [--compile no|default|max-autotune-no-cudagraphs] [--steps 30] [--warmup 12]

Shape, batch, learning rate, weight decay and clipping come from the config. A step is forward, backward, clipping by the global norm, fused AdamW, the
update of the selection biases and zeroing the gradients, on random tokens that lie on the card already. --parameters:
bfloat16 has no float32 copy of the weights and moments of bfloat16, so it does less than Fathom; float32 runs under
autocast, with moments of float32. scripts/rival/training_model.py is the model.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from rival.checkpoint import read_run_config  # noqa: E402
from rival.training_model import Experts, Gate, Transformer  # noqa: E402

TOKEN_IDS = 4096  # those of Fathom's measured run: scripts/gpu_data.sh


class Training:
    """Steps of `model`, whose weights may lie on any device in any dtype."""

    def __init__(self, model, config, compilation="no"):
        optimizer, train = config["optimizer"], config["train"]
        self.model = model
        self.run = model
        if compilation != "no":
            self.run = torch.compile(model, dynamic=False, mode=None if compilation == "default" else compilation)
        self.parts = train["global_batch_size"] // train["micro_batch_size"]
        self.clip_norm = optimizer.get("clip_norm", 1.0)
        matrices = [p for p in model.parameters() if p.dim() >= 2]
        gains = [p for p in model.parameters() if p.dim() < 2]
        decay = optimizer.get("weight_decay", 0.1)
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}],
            lr=optimizer["lr"], betas=(0.9, 0.95), eps=1e-8, fused=True,
        )  # fmt: skip
        self.precision = contextlib.nullcontext()
        first = next(model.parameters())
        if first.is_cuda and first.dtype == torch.float32:
            self.precision = torch.autocast("cuda", torch.bfloat16)
            for module in model.modules():
                if isinstance(module, Experts):
                    module.dtype = torch.bfloat16

    def step(self, tokens):
        """The loss of the step.   tokens [global batch, T + 1]"""
        total = torch.zeros((), device=tokens.device)
        for part in tokens.chunk(self.parts):
            with self.precision:
                loss = self.run(part[:, :-1], part[:, 1:]) / self.parts
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for module in self.model.modules():
            if isinstance(module, Gate):
                module.update_bias()
        return total


def random_model(config, dtype, device):
    with torch.device(device):
        model = Transformer(config["model"]).to(dtype)
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=config["model"]["initializer_range"])
    for module in model.modules():
        if isinstance(module, Gate):  # of the router everything but the weight is float32
            module.float().weight.data = module.weight.data.to(dtype)
    return model


def measure(arguments):
    config = read_run_config(arguments.config)
    train = config["train"]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    begin = time.perf_counter()
    model = random_model(config, getattr(torch, arguments.parameters), "cuda")
    training = Training(model, config, arguments.compile)
    batch = train["global_batch_size"], train["sequence_length"] + 1
    milliseconds, loss, first_step = [], 0.0, 0.0
    for index in range(arguments.warmup + arguments.steps):
        tokens = torch.randint(TOKEN_IDS, batch, device="cuda")
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        result = training.step(tokens)
        end.record()
        end.synchronize()
        loss = result.item()
        first_step = first_step or time.perf_counter() - begin
        milliseconds.append(start.elapsed_time(end))
    step_ms = statistics.median(milliseconds[arguments.warmup :])
    tokens = train["global_batch_size"] * train["sequence_length"]
    return {
        "config": arguments.config, "parameters": arguments.parameters, "compile": arguments.compile, "steps": arguments.steps,
        "tokens": tokens, "step_ms": step_ms, "tokens_per_s": 1e3 * tokens / step_ms, "first_step_s": first_step,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30, "loss": loss, "torch": torch.__version__,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--parameters", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--compile", choices=("no", "default", "max-autotune-no-cudagraphs"), default="default")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=12)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("training.py: torch sees no CUDA device", file=sys.stderr)
        sys.exit(77)
    # The first that takes the shape: cuDNN for heads of 192 and 128.
    backends = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(backends, set_priority=True):
        print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
