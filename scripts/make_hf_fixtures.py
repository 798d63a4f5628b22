#!/usr/bin/env python3
"""Writes tests/fixtures/hf: two tiny random checkpoints as Hugging Face has them, and what transformers computes from them.

    python3 -m venv ENV && ENV/bin/pip install -r scripts/requirements-parity.txt
    ENV/bin/python scripts/make_hf_fixtures.py

tests/fixtures/hf/README.md says what is in them.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers

from parity import hf_checkpoint

FOLDER = pathlib.Path(__file__).parents[1] / "tests/fixtures/hf"
PROMPTS = ["The water, the word", "parallel pipeline", "x"]
TOKENS = 12
MARGIN = 1e-3  # of every choice of a token
COMMON = dict(
    vocab_size=480, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
    kv_lora_rank=16, q_lora_rank=24, qk_nope_head_dim=32, qk_rope_head_dim=8, v_head_dim=40, first_k_dense_replace=1,
    n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, n_group=4, topk_group=2, max_position_embeddings=320,
    bos_token_id=474, eos_token_id=475, tie_word_embeddings=False,
)  # fmt: skip


def yarn(mscale):
    return {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
        "beta_slow": 1.0, "mscale": mscale, "mscale_all_dim": mscale,
    }  # fmt: skip


def cases():
    v2 = dict(n_shared_experts=2, routed_scaling_factor=4.0, topk_method="group_limited_greedy", rope_parameters=yarn(0.707))
    v3 = dict(n_shared_experts=1, routed_scaling_factor=2.5, num_nextn_predict_layers=1, rope_parameters=yarn(1.0))
    return {
        "v2_bf16": (transformers.DeepseekV2Config(**COMMON | v2), "BF16", 2),
        "v3_fp8_mtp": (transformers.DeepseekV3Config(**COMMON | v3), "FP8", 1),
    }


def expected_lines(model):
    """A line for each prompt; none where some choice is too close to another one."""
    lines = []
    for number, prompt in enumerate(PROMPTS):
        tokens, log_probabilities, margin = hf_checkpoint.greedy(model, hf_checkpoint.ENCODE.encode(prompt).ids, TOKENS)
        if margin < MARGIN:
            return None
        lines.append(json.dumps({"id": number, "prompt": prompt, "tokens": tokens, "logprobs": log_probabilities}) + "\n")
    return lines


def main():
    for name, (config, dtype, num_files) in cases().items():
        for seed in range(100):
            shutil.rmtree(FOLDER / name, ignore_errors=True)
            generator = torch.Generator().manual_seed(seed)
            _, values = hf_checkpoint.write_checkpoint(FOLDER / name, config, generator, dtype, num_files)
            with tempfile.TemporaryDirectory() as scratch:
                lines = expected_lines(hf_checkpoint.reference_model(config, values, pathlib.Path(scratch) / "model"))
            if lines:
                (FOLDER / name / "expected.jsonl").write_text("".join(lines))
                print(f"{name}: seed {seed}")
                break
        else:
            sys.exit(f"{name}: no seed whose choices are clear")


if __name__ == "__main__":
    main()
