#!/usr/bin/env python3
"""Writes tests/fixtures/parity/*.h5: tiny DeepSeek models and what they compute, for tests.

    python3 -m venv ENV && ENV/bin/pip install -r scripts/requirements-parity.txt
    ENV/bin/python scripts/make_parity_fixtures.py [FOLDER]

tests/fixtures/parity/README.md lists what a file holds. Values come from transformers in float32
where it computes the whole case, else from parity/model.py in float64; what both can compute has to
agree, or this script stops. All draws depend on seeds only; last bits may differ between machines.
"""

import pathlib
import sys

import numpy
import torch

from parity import curve, in_transformers
from parity.cases import cases, draw_batch, draw_weights
from parity.fixture_file import create, write_array, write_tensors
from parity.model import Transformer, mean_loss

MARGIN = 1e-3  # no routing choice of a fixture is closer than this to being another one
AGREEMENT = 1e-5  # of the two models: difference relative to the largest element of a tensor
MTP_LOSS_WEIGHT = 0.3


def evaluate(model, batch):
    """Everything that a fixture holds of the plain model: logits, losses, gradients, routing."""
    tokens, targets, masks = batch
    model.zero_grad()
    logits = model(tokens, targets)
    losses = [mean_loss(*depth) for depth in zip(logits, targets, masks)]
    balance = sum(gate.balance_loss() for _, gate in model.gates())
    total = losses[0] + balance
    if len(losses) > 1:
        total = total + MTP_LOSS_WEIGHT * sum(losses[1:]) / len(losses[1:])
    total.backward()
    gates = [gate for _, gate in model.gates()]
    return {
        "logits": logits[0].detach(),
        "mtp_logits": [depth.detach() for depth in logits[1:]],
        "loss": losses[0].detach(),
        "mtp_losses": [depth.detach() for depth in losses[1:]],
        "balance_loss": balance.detach(),
        "total_loss": total.detach(),
        "expert_counts": torch.stack([gate.chosen.sum((0, 1)) for gate in gates]),
        "gradients": {name: p.grad.clone() for name, p in model.named_parameters()},
    }


def is_good(model, result):
    """Has every choice a margin, every expert a token, every rule of the router an effect?"""
    gates = [gate for _, gate in model.gates()]
    moe = gates[0].moe
    decisive = min(gate.margin for gate in gates) > MARGIN
    busy = result["expert_counts"].min() > 0
    has_bias = moe["score_function"] == "SIGMOID"
    bias = not has_bias or all((g.unbiased != g.unlimited).any() for g in gates)
    limit = moe["num_groups"] == 1 or all((g.chosen != g.unlimited).any() for g in gates)
    largest = min(gradient.abs().max() for gradient in result["gradients"].values())
    return bool(decisive and busy and bias and limit and largest > 1e-4)


def difference(ours, theirs):
    """Largest difference relative to the largest element."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def require_agreement(name, plain, other):
    """Stops unless `other`, computed by transformers, is what the plain model computed."""
    worst = {key: difference(other[key].double(), plain[key]) for key in ("logits", "loss")}
    worst["gradients"] = max(
        difference(other["gradients"][key].double(), value)
        for key, value in plain["gradients"].items()
    )
    print(f"  transformers differs by {worst}")
    if max(worst.values()) > AGREEMENT:
        sys.exit(f"{name}: transformers and parity/model.py differ by {worst}")


def make_model(config, share, first_seed=0):
    """The first seed whose model and batch make a good fixture."""
    for seed in range(first_seed, first_seed + 2000):
        generator = torch.Generator().manual_seed(seed)
        model = Transformer(config).double()
        draw_weights(model, generator)
        batch = draw_batch(config, share, generator)
        result = evaluate(model, batch)
        if is_good(model, result):
            return model, batch, result, seed
    raise RuntimeError("no seed makes a good fixture")


def make_fixture(folder, name, config, from_transformers, share):
    model, batch, result, seed = make_model(config, share)
    margin = min(gate.margin for _, gate in model.gates())
    print(f"{name}: seed {seed}, margin {margin:.1e}, loss {result['loss']:.6f}")
    # transformers has no part that only training needs: hold it against those losses left out.
    if config["mtp_depth"] == 0 and result["balance_loss"] == 0:
        other = in_transformers.evaluate(config, model, batch)
        require_agreement(name, result, other)
        if from_transformers:
            result |= other
    elif config["mtp_depth"] > 0:
        theirs = in_transformers.mtp_logits(config, model, batch)
        worst = max(difference(*pair) for pair in zip(theirs, result["mtp_logits"]))
        print(f"  transformers' MtpLayer differs by {worst}")
        if worst > AGREEMENT:
            sys.exit(f"{name}: transformers' MtpLayer and parity/model.py differ by {worst}")
    reference = "transformers" if from_transformers else "scripts/parity/model.py"
    with create(folder, name, config, reference) as file:
        file.attrs["mtp_loss_weight"] = MTP_LOSS_WEIGHT
        file.attrs["margin"] = margin
        write_tensors(file, "weights", model.state_dict())
        write_tensors(file, "gradients", result["gradients"])
        tokens, targets, masks = batch
        write_array(file, "tokens", tokens, numpy.int32)
        write_array(file, "targets", targets, numpy.int32)
        write_array(file, "masks", masks)
        write_array(file, "logits", result["logits"])
        if config["mtp_depth"]:
            write_array(file, "mtp_logits", torch.stack(result["mtp_logits"]))
            write_array(file, "mtp_losses", torch.stack(result["mtp_losses"]))
        for key in ("loss", "balance_loss", "total_loss"):
            write_array(file, key, result[key].reshape(1))
        write_array(file, "expert_counts", result["expert_counts"], numpy.int32)
        if config["moe"]["score_function"] == "SIGMOID":
            for layer, gate in model.gates():
                gate.update_bias()
                after = f"bias_after/{layer}.mlp.gate.e_score_correction_bias"
                write_array(file, after, gate.e_score_correction_bias)


def main():
    default = pathlib.Path(__file__).parent.parent / "tests/fixtures/parity"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(True)
    for name, case in cases().items():
        make_fixture(folder, name, *case)
    curve.make_fixture(folder)


if __name__ == "__main__":
    main()
