"""The tiny configs of the parity fixtures, and how their weights and batches are drawn."""

import copy

import torch

NO_YARN = {
    "factor": 1.0, "original_max_position": 4096, "beta_fast": 32.0, "beta_slow": 1.0,
    "mscale": 1.0, "mscale_all_dim": 1.0,
}  # fmt: skip
V3 = {
    "vocab_size": 64, "hidden_size": 32, "num_layers": 3, "num_dense_layers": 1,
    "intermediate_size": 48, "num_attention_heads": 4, "q_lora_rank": 20, "kv_lora_rank": 16,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10, "rope_theta": 10000.0,
    "yarn": NO_YARN, "rms_norm_epsilon": 1e-6, "mtp_depth": 0,
    "moe": {
        "num_experts": 8, "num_shared_experts": 1, "top_k": 3, "intermediate_size": 12,
        "score_function": "SIGMOID", "group_score": "SUM_OF_TOP2", "num_groups": 2,
        "num_kept_groups": 1, "normalize_gates": True, "gate_scale": 2.5,
        "sequence_balance_coefficient": 0.0, "expert_balance_coefficient": 0.0,
        "device_balance_coefficient": 0.0, "communication_balance_coefficient": 0.0,
        "num_device_groups": 1, "selection_bias_update_rate": 0.001,
    },
}  # fmt: skip
V2 = {
    "score_function": "SOFTMAX", "group_score": "MAX", "num_groups": 4, "num_kept_groups": 2,
    "normalize_gates": False, "gate_scale": 4.0, "selection_bias_update_rate": 0.0,
}  # fmt: skip
NO_GROUPS = {"num_groups": 1, "num_kept_groups": 1}


def changed(config, moe=(), **fields):
    config = copy.deepcopy(config)
    config.update(fields)
    config["moe"].update(moe)
    return config


def yarn(mscale):
    return NO_YARN | {
        "factor": 40.0, "original_max_position": 64, "mscale": mscale, "mscale_all_dim": mscale,
    }  # fmt: skip


def cases():
    """Name -> (config, does transformers compute all of it, share of tokens whose loss counts)."""
    v2_balance = {
        "expert_balance_coefficient": 0.03, "device_balance_coefficient": 0.05,
        "communication_balance_coefficient": 0.02, "num_device_groups": 4,
    }  # fmt: skip
    balance = {"sequence_balance_coefficient": 0.05}
    four_groups = {"num_groups": 4, "num_kept_groups": 2}
    return {
        "v3_q_lora": (V3, True, 1.0),
        "v3_no_q_lora": (
            changed(
                V3, NO_GROUPS | {"num_shared_experts": 2, "top_k": 2}, num_layers=2, q_lora_rank=0
            ),
            True,
            0.8,
        ),
        "v3_yarn": (changed(V3, four_groups, yarn=yarn(1.0), qk_rope_head_dim=16), True, 1.0),
        "v2_groups": (changed(V3, V2, yarn=yarn(0.707)), True, 1.0),
        "v2_lite": (
            changed(
                V3,
                V2 | NO_GROUPS | {"num_shared_experts": 2, "gate_scale": 1.0},
                num_layers=2,
                q_lora_rank=0,
            ),
            True,
            1.0,
        ),
        "v2_balance": (changed(V3, V2 | v2_balance, num_layers=2), False, 1.0),
        "v3_mtp1": (changed(V3, num_layers=2, mtp_depth=1), False, 1.0),
        "v3_mtp2_balance": (changed(V3, balance, num_layers=2, mtp_depth=2), False, 0.8),
    }


def draw_weights(model, generator):
    """Float32 values, large enough for decisive routing and gradients well above rounding."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("e_score_correction_bias"):
            drawn = 0.15 * noise
        elif value.dim() == 1:
            drawn = 1 + 0.2 * noise
        elif name.endswith("embed_tokens.weight"):
            drawn = noise
        else:
            gain = 2.0 if name.endswith("mlp.gate.weight") else 1.0
            drawn = gain * value.shape[1] ** -0.5 * noise
        value.data.copy_(drawn)


def draw_batch(config, share, generator, sequences=2, length=24):
    """tokens [B, T], targets and masks [1 + depth, B, T]. Beyond the end: token 0, mask 0."""
    depth = config["mtp_depth"]
    text = torch.randint(config["vocab_size"], (sequences, length + 1), generator=generator)
    counted = (torch.rand(sequences, length, generator=generator) < share).double()
    text = torch.nn.functional.pad(text, (0, depth))
    counted = torch.nn.functional.pad(counted, (0, depth))
    targets = [text[:, k + 1 : k + 1 + length] for k in range(depth + 1)]
    masks = [counted[:, k : k + length] for k in range(depth + 1)]
    return text[:, :length], torch.stack(targets), torch.stack(masks)
