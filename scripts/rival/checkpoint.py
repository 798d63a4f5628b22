"""Fathom's configs and checkpoints for PyTorch: docs/checkpoint-format.md, configs/schema/model.proto."""

import pathlib
import re

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


def merged(base, over):
    """Fields of `over` in place of those of `base`, messages field by field."""
    fields = dict(base)
    for name, value in over.items():
        is_message = isinstance(value, dict) and isinstance(fields.get(name), dict)
        fields[name] = merged(fields[name], value) if is_message else value
    return fields


def read_run_config(path):
    """A configs/runs/*.textproto with the model that it names; its model with every field, as the parity models take it."""
    config = parse_textproto(pathlib.Path(path).read_text())
    model = config.get("model", {})
    if "model_from" in config:
        model = merged(parse_textproto((pathlib.Path(path).parent / config["model_from"]).read_text()), model)
    return config | {"model": complete_model(model)}


def read_config(run):
    """The resolved config of a run folder, as read_run_config."""
    config = parse_textproto((pathlib.Path(run) / "config.textproto").read_text())
    return config | {"model": complete_model(config["model"])}


def complete_model(given):
    choices = {"score_function": "SIGMOID", "group_score": "SUM_OF_TOP2"}
    yarn = complete("Yarn", given.get("yarn", {}))
    model = complete("Model", given)
    model["moe"] = complete("MixtureOfExperts", choices | given["moe"])
    model["yarn"] = yarn | {"mscale_all_dim": yarn["mscale"]}
    return model


def newest_checkpoint(run):
    folders = sorted(pathlib.Path(run).glob("checkpoints/step-????????"))
    if not folders:
        raise FileNotFoundError(f"{run}: no checkpoints/step-NNNNNNNN")
    return folders[-1]


def read_weights(checkpoint):
    """Published name -> float32 tensor; optimizer states are left out."""
    import h5py  # configs are read without them
    import numpy

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
