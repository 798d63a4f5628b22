"""The loss-curve fixture: 50 AdamW steps of transformers' DeepseekV3ForCausalLM in float32."""

import copy
import json

import numpy
import torch

from parity import in_transformers
from parity.cases import V3, draw_weights
from parity.fixture_file import create, write_array, write_tensors
from parity.model import Transformer, mean_loss

STEPS = 50
LEARNING_RATE = 3e-3
WARMUP_STEPS = 5
WEIGHT_DECAY = 0.1  # of matrices; norm gains have none
CLIP_NORM = 1.0
ADAMW = {"beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8}
MARGIN = 4e-5  # no choice of experts in all steps is closer than this to being another one
AGREEMENT = 1e-5  # nats, between float32 and float64: noise that a comparison has to allow


def draw_batches(config, generator, sequences=2, length=24):
    """tokens, targets [STEPS, B, T] of a Markov chain, so that there is something to learn."""
    vocabulary = config["vocab_size"]
    following = torch.randint(vocabulary, (vocabulary, 3), generator=generator)
    text = torch.randint(vocabulary, (STEPS, sequences, 1), generator=generator)
    for _ in range(length):
        branch = torch.randint(3, text.shape[:2], generator=generator)
        text = torch.cat([text, following[text[..., -1], branch].unsqueeze(-1)], -1)
    return text[..., :-1], text[..., 1:]


def learning_rate(step):
    """Of step 1, 2, ...: linear up to WARMUP_STEPS, then constant."""
    return LEARNING_RATE * min(1.0, step / WARMUP_STEPS)


def train(model, loss_of_batch, update_bias, batches):
    """(losses, gradient norms before clipping), one a step."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    gains = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": gains, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, betas=(ADAMW["beta1"], ADAMW["beta2"]), eps=ADAMW["epsilon"], foreach=False
    )
    losses, norms = [], []
    for step, (tokens, targets) in enumerate(zip(*batches), start=1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.zero_grad()
        loss = loss_of_batch(model, tokens, targets)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM).item())
        losses.append(loss.item())
        optimizer.step()
        update_bias(model)
    return losses, norms


def train_plain(model, batches):
    margins = []

    def update_bias(trained):
        for _, gate in trained.gates():
            margins.append(gate.margin)
            gate.update_bias()

    def loss_of_batch(trained, tokens, targets):
        logits = trained(tokens, targets[None])[0]
        return mean_loss(logits, targets, torch.ones(targets.shape).double())

    return *train(model, loss_of_batch, update_bias, batches), min(margins)


def train_transformers(config, state, batches):
    """Also the selection biases after the last step, [layer][E]."""
    model = in_transformers.make_model(config, state)
    rate = config["moe"]["selection_bias_update_rate"]
    routers = [m for m in model.modules() if hasattr(m, "e_score_correction_bias")]
    chosen = {}
    for router in routers:
        router.register_forward_hook(lambda module, _, out: chosen.update({module: out[2]}))

    @torch.no_grad()
    def update_bias(_):
        for router in routers:
            load = torch.bincount(chosen[router].flatten(), minlength=router.num_experts).float()
            router.e_score_correction_bias += rate * torch.sign(load.mean() - load)

    def loss_of_batch(trained, tokens, targets):
        return in_transformers.loss_of(trained, tokens, targets, torch.ones(targets.shape))[0]

    losses, norms = train(model, loss_of_batch, update_bias, batches)
    return losses, norms, [router.e_score_correction_bias for router in routers]


def largest_difference(a, b):
    return float(numpy.abs(numpy.array(a) - numpy.array(b)).max())


def make_fixture(folder):
    """Of the first seed where no choice of experts in 50 steps hangs on rounding."""
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        model = Transformer(V3).double()
        draw_weights(model, generator)
        batches = draw_batches(V3, generator)
        start = copy.deepcopy(model.state_dict())
        plain_losses, plain_norms, margin = train_plain(model, batches)
        if margin > MARGIN:
            break
    losses, norms, biases = train_transformers(V3, start, batches)
    worst = largest_difference(losses, plain_losses)
    print(f"loss_curve: seed {seed}, margin {margin:.1e}, loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    print(
        f"  float64: loss differs by {worst:.1e}, norm by "
        f"{largest_difference(norms, plain_norms):.1e}"
    )
    if worst > AGREEMENT:
        raise RuntimeError(f"float32 and float64 differ by {worst} nats after up to {STEPS} steps")
    bias_after = {}
    for (layer, gate), theirs in zip(model.gates(), biases):
        assert torch.allclose(theirs.double(), gate.e_score_correction_bias, atol=1e-6)
        bias_after[f"{layer}.mlp.gate.e_score_correction_bias"] = theirs
    with create(folder, "loss_curve", V3, "transformers") as file:
        optimizer = ADAMW | {"weight_decay": WEIGHT_DECAY, "clip_norm": CLIP_NORM}
        file.attrs["optimizer"] = json.dumps(optimizer)
        file.attrs["margin"] = margin
        write_tensors(file, "weights", start)
        write_tensors(file, "bias_after", bias_after)
        write_array(file, "tokens", batches[0], numpy.int32)
        write_array(file, "targets", batches[1], numpy.int32)
        write_array(file, "learning_rates", [learning_rate(s + 1) for s in range(STEPS)])
        write_array(file, "losses", losses)
        write_array(file, "grad_norms", norms)
