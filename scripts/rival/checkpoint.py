"""Fathom's configs and checkpoints for PyTorch: docs/checkpoint-format.md, configs/schema/model.proto."""

import pathlib
import re

import h5py
import numpy
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKEN = re.compile(r'#[^\n]*|"((?:[^"\\]|\\.)*)"|[\w.+-]+|[{}:]')


def value_of(word):
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(word, word)


def parse_textproto(text):
    """A dict of fields; those that are given more than once as lists."""
    words = [m for m in TOKEN.finditer(text) if not m[0].startswith("#")]
    position = 0

    def message():
        nonlocal position
        fields = {}
        while position < len(words) and words[position][0] != "}":
            name = words[position][0]
            position += 1
            if words[position][0] == ":":
                position += 1
            if words[position][0] == "{":
                position += 1
                value = message()
            else:
                word = words[position]
                value = word[0][1:-1] if word[0].startswith('"') else value_of(word[0])
            position += 1
            if name in fields:
                before = fields[name]
                value = (before if isinstance(before, list) else [before]) + [value]
            fields[name] = value
        return fields

    return message()


def complete(message, given):
    """`given` with the defaults of a message of configs/schema/model.proto, 0 where it names none."""
    schema = (ROOT / "configs/schema/model.proto").read_text()
    body = re.search(rf"^message {message} {{\n(.*?)^}}", schema, re.DOTALL | re.MULTILINE)[1]
    field = r"^  optional (\w+) (\w+) = \d+(?: \[default = ([^\]]+)\])?;"
    fields = dict(given)
    for kind, name, default in re.findall(field, body, re.MULTILINE):
        value = fields.setdefault(name, value_of(default or "0"))
        fields[name] = float(value) if kind == "double" else value
    return fields


def read_config(run):
    """The resolved config of a run folder; its model with every field, as the parity models take it."""
    config = parse_textproto((pathlib.Path(run) / "config.textproto").read_text())
    given = config["model"]
    choices = {"score_function": "SIGMOID", "group_score": "SUM_OF_TOP2"}
    yarn = complete("Yarn", given.get("yarn", {}))
    model = complete("Model", given)
    model["moe"] = complete("MixtureOfExperts", choices | given["moe"])
    model["yarn"] = yarn | {"mscale_all_dim": yarn["mscale"]}
    config["model"] = model
    return config


def newest_checkpoint(run):
    folders = sorted(pathlib.Path(run).glob("checkpoints/step-????????"))
    if not folders:
        raise FileNotFoundError(f"{run}: no checkpoints/step-NNNNNNNN")
    return folders[-1]


def read_weights(checkpoint):
    """Published name -> float32 tensor; optimizer states are left out."""
    arrays = {}
    for path in sorted(pathlib.Path(checkpoint).glob("rank-*.h5")):
        with h5py.File(path) as file:
            for name, parts in file.items():
                if ".exp_avg" in name:
                    continue
                for part in parts.values():
                    shape, offset = part.attrs["global_shape"], part.attrs["offset"]
                    whole = arrays.setdefault(name, numpy.empty(shape, numpy.float32))
                    whole[tuple(slice(b, b + n) for b, n in zip(offset, part.shape))] = part[...]
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
