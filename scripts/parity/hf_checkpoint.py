"""Tiny random DeepSeek checkpoints as Hugging Face has them, written by transformers, and what transformers computes from them.

What transformers does not write is added in the published form: the module of multi-token prediction with its copies of embedding
and head, and FP8 codes with their scales.
"""

import json
import math
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

BLOCK = 128  # rows and columns of a scale
TOKENIZER = pathlib.Path(__file__).parents[2] / "tests/fixtures/tokenizer/llama3.json"
VOCABULARY = 480  # of that tokenizer
EOS = 475
ENCODE = Tokenizer.from_file(str(TOKENIZER))


def draw_config(generator, family):
    """A config that transformers has a class for. family: "v2", "v2_lite" or "v3"."""

    def pick(*values):
        return values[int(torch.randint(len(values), (1,), generator=generator))]

    heads = pick(2, 4)
    groups = pick(1, 2, 4)
    fields = dict(
        vocab_size=pick(VOCABULARY, VOCABULARY + 32), hidden_size=heads * pick(8, 16, 36), intermediate_size=pick(48, 144),
        num_hidden_layers=pick(2, 3), num_attention_heads=heads, num_key_value_heads=heads, kv_lora_rank=pick(16, 20),
        q_lora_rank=pick(24, 136), qk_nope_head_dim=pick(8, 12, 40), qk_rope_head_dim=pick(4, 8, 16), v_head_dim=pick(8, 12, 40),
        first_k_dense_replace=pick(0, 1), n_routed_experts=8, n_shared_experts=pick(1, 2), num_experts_per_tok=pick(1, 2),
        moe_intermediate_size=pick(12, 20), n_group=groups, topk_group=pick(*range(1, groups + 1)), routed_scaling_factor=pick(1.0, 2.5, 16.0),
        max_position_embeddings=pick(128, 320), bos_token_id=474, eos_token_id=EOS, tie_word_embeddings=False,
    )  # fmt: skip
    mscale = pick(0.707, 1.0)
    if pick(True, False):
        fields["rope_parameters"] = {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": pick(4.0, 40.0), "original_max_position_embeddings": pick(32, 64),
            "beta_fast": 32.0, "beta_slow": 1.0, "mscale": mscale, "mscale_all_dim": mscale,
        }  # fmt: skip
    if family == "v3":
        fields |= {"norm_topk_prob": pick(True, True, False), "num_nextn_predict_layers": pick(0, 1)}
        return transformers.DeepseekV3Config(**fields)
    if family == "v2_lite":
        fields |= {"q_lora_rank": None, "n_group": 1, "topk_group": 1}
    fields["topk_method"] = "greedy" if fields["n_group"] == 1 else "group_limited_greedy"
    return transformers.DeepseekV2Config(**fields)


def class_of(config):
    is_v3 = config.model_type == "deepseek_v3"
    return transformers.DeepseekV3ForCausalLM if is_v3 else transformers.DeepseekV2ForCausalLM


def draw_value(name, shape, generator):
    """Large enough for decisive choices of experts; logits small enough that rounding stays well below 1e-5."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("e_score_correction_bias"):
        return 0.15 * noise
    if len(shape) == 1:
        return 1 + 0.2 * noise
    if name.endswith("embed_tokens.weight"):
        return noise
    gain = 2.0 if name.endswith("mlp.gate.weight") else 0.5 if name.endswith("head.weight") else 1.0
    return gain * shape[1] ** -0.5 * noise


def draw_tensors(config, generator, folder):
    """Published name -> float32 tensor, all that a published checkpoint of the config has."""
    class_of(config)(config).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    depth = getattr(config, "num_nextn_predict_layers", 0)
    for k in range(depth):
        last, prefix = f"model.layers.{config.num_hidden_layers - 1}.", f"model.layers.{config.num_hidden_layers + k}."
        hidden = config.hidden_size
        for name in [name for name in tensors if name.startswith(last)]:
            tensors[prefix + name.removeprefix(last)] = tensors[name]
        for name in ("enorm", "hnorm", "shared_head.norm"):
            tensors[f"{prefix}{name}.weight"] = torch.empty(hidden)
        tensors[prefix + "eh_proj.weight"] = torch.empty(hidden, 2 * hidden)
    tensors = {name: draw_value(name, value.shape, generator) for name, value in sorted(tensors.items())}
    for k in range(depth):
        prefix = f"model.layers.{config.num_hidden_layers + k}."
        tensors[prefix + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors[prefix + "shared_head.head.weight"] = tensors["lm_head.weight"].clone()
    return tensors


def is_block_scaled(name):
    """Of the weights of a published FP8 checkpoint."""
    plain = ("embed_tokens.weight", "lm_head.weight", "head.weight", "norm.weight", "eh_proj.weight", "mlp.gate.weight", "_bias")
    return not name.endswith(plain)


def blocks_of(value):
    rows, columns = (math.ceil(size / BLOCK) * BLOCK for size in value.shape)
    padded = torch.zeros(rows, columns, dtype=value.dtype)
    padded[: value.shape[0], : value.shape[1]] = value
    return padded.unflatten(0, (-1, BLOCK)).unflatten(2, (-1, BLOCK))  # [row blocks, 128, column blocks, 128]


def quantize(value):
    """(codes, scales) of a matrix: the largest magnitude of a block becomes 448."""
    blocks = blocks_of(value)
    scales = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn).flatten(2).flatten(0, 1)
    return codes[: value.shape[0], : value.shape[1]].contiguous(), scales


def dequantize(codes, scales):
    blocks = blocks_of(codes.float()) * scales[:, None, :, None]
    return blocks.flatten(2).flatten(0, 1)[: codes.shape[0], : codes.shape[1]].contiguous()


def stored(tensors, dtype):
    """(what the files hold, the same as float32). dtype: "FP32", "BF16" or "FP8"."""
    held, values = {}, {}
    for name, value in tensors.items():
        if dtype == "FP8" and is_block_scaled(name):
            held[name], held[name + "_scale_inv"] = quantize(value)
            values[name] = dequantize(held[name], held[name + "_scale_inv"])
        elif dtype == "FP32" or name.endswith("_bias"):
            held[name] = values[name] = value
        else:
            held[name] = value.bfloat16()
            values[name] = held[name].float()
    return held, values


def write_files(folder, held, num_files):
    """model.safetensors, or several and their index."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    if num_files == 1:
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = sorted(held), {}
    for i in range(num_files):
        file = f"model-{i + 1:05}-of-{num_files:05}.safetensors"
        part = names[len(names) * i // num_files : len(names) * (i + 1) // num_files]
        save_file({name: held[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= {name: file for name in part}
    total = sum(value.nbytes for value in held.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_checkpoint(folder, config, generator, dtype, num_files=1):
    """A folder as published, and its weights in float32."""
    folder.mkdir(parents=True)
    held, values = stored(draw_tensors(config, generator, folder), dtype)
    write_files(folder, held, num_files)
    shutil.copyfile(TOKENIZER, folder / "tokenizer.json")
    if dtype == "FP8":
        fields = json.loads((folder / "config.json").read_text())
        fields["quantization_config"] = {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK],
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    return held, values


def reference_model(config, values, scratch):
    """transformers' model in float32 with these weights."""
    depth = getattr(config, "num_nextn_predict_layers", 0)
    modules = tuple(f"model.layers.{config.num_hidden_layers + k}." for k in range(depth))
    shutil.rmtree(scratch, ignore_errors=True)
    config.save_pretrained(scratch)
    save_file({n: v for n, v in values.items() if not n.startswith(modules or ("-",))}, scratch / "model.safetensors")
    return load_model(scratch)


def load_model(folder):
    """As a user of transformers would, in float32; complains about missing tensors."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    return model.eval()


@torch.no_grad()
def log_probabilities(model, tokens):
    """[len(tokens), vocabulary]: of the token after each."""
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].log_softmax(-1)


def greedy(model, prompt, count):
    """(tokens, log-probabilities, least distance of the best from the second best) among the tokenizer's tokens."""
    tokens, found, margin = list(prompt), [], float("inf")
    for _ in range(count):
        row = log_probabilities(model, tokens)[-1]
        best = row[:VOCABULARY].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
        found.append(best.values[0].item())
        if tokens[-1] == EOS:
            break
    return tokens[len(prompt) :], found, margin
