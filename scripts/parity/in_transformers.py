"""The models of the parity fixtures in transformers: same weights, same batch, eager, float32."""

import torch
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
)
from transformers.modeling_layers import MtpLayer


def config_of(config):
    """Our config dict -> transformers' config."""
    moe, yarn = config["moe"], config["yarn"]
    rope = {"rope_type": "default", "rope_theta": config["rope_theta"]}
    if yarn["factor"] != 1:
        rope |= {
            "rope_type": "yarn",
            "factor": yarn["factor"],
            "original_max_position_embeddings": yarn["original_max_position"],
            "beta_fast": yarn["beta_fast"],
            "beta_slow": yarn["beta_slow"],
            "mscale": yarn["mscale"],
            "mscale_all_dim": yarn["mscale_all_dim"],
        }
    fields = dict(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        num_hidden_layers=config["num_layers"],
        first_k_dense_replace=config["num_dense_layers"],
        intermediate_size=config["intermediate_size"],
        num_attention_heads=config["num_attention_heads"],
        num_key_value_heads=config["num_attention_heads"],
        q_lora_rank=config["q_lora_rank"] or None,
        kv_lora_rank=config["kv_lora_rank"],
        qk_nope_head_dim=config["qk_nope_head_dim"],
        qk_rope_head_dim=config["qk_rope_head_dim"],
        v_head_dim=config["v_head_dim"],
        rms_norm_eps=config["rms_norm_epsilon"],
        rope_parameters=rope,
        max_position_embeddings=int(yarn["factor"] * yarn["original_max_position"]),
        n_routed_experts=moe["num_experts"],
        n_shared_experts=moe["num_shared_experts"],
        num_experts_per_tok=moe["top_k"],
        moe_intermediate_size=moe["intermediate_size"],
        n_group=moe["num_groups"],
        topk_group=moe["num_kept_groups"],
        norm_topk_prob=moe["normalize_gates"],
        routed_scaling_factor=moe["gate_scale"],
        num_nextn_predict_layers=0,
        attention_dropout=0.0,
        use_cache=False,
        tie_word_embeddings=False,
    )
    if moe["score_function"] == "SIGMOID":
        return DeepseekV3Config(**fields)
    del fields["num_nextn_predict_layers"]
    method = "greedy" if moe["num_groups"] == 1 else "group_limited_greedy"
    return DeepseekV2Config(topk_method=method, **fields)


def fused(tensors):
    """Published names -> transformers' own: experts of a layer stacked, gate and up joined."""
    out, experts = {}, {}
    for name, value in tensors.items():
        if ".mlp.experts." not in name:
            out[name] = value
            continue
        layer, rest = name.split(".mlp.experts.")
        index, kind = rest.removesuffix(".weight").split(".")
        experts.setdefault(f"{layer}.mlp.experts", {}).setdefault(int(index), {})[kind] = value
    for prefix, of_index in experts.items():
        ordered = [of_index[i] for i in range(len(of_index))]
        gate_up = [torch.cat([e["gate_proj"], e["up_proj"]]) for e in ordered]
        out[f"{prefix}.gate_up_proj"] = torch.stack(gate_up)
        out[f"{prefix}.down_proj"] = torch.stack([e["down_proj"] for e in ordered])
    return out


def published(tensors):
    """The inverse of fused()."""
    out = {}
    for name, value in tensors.items():
        prefix, _, kind = name.rpartition(".")
        if not prefix.endswith(".mlp.experts"):
            out[name] = value
            continue
        for index, expert in enumerate(value):
            if kind == "gate_up_proj":
                gate, up = expert.chunk(2)
                out[f"{prefix}.{index}.gate_proj.weight"] = gate
                out[f"{prefix}.{index}.up_proj.weight"] = up
            else:
                out[f"{prefix}.{index}.down_proj.weight"] = expert
    return out


def make_model(config, state):
    """transformers' model in float32 with the published weights `state`."""
    their_config = config_of(config)
    their_config._attn_implementation = "eager"
    their_config._experts_implementation = "eager"
    is_v3 = config["moe"]["score_function"] == "SIGMOID"
    model = (DeepseekV3ForCausalLM if is_v3 else DeepseekV2ForCausalLM)(their_config).float()
    missing = model.load_state_dict(fused({k: v.float() for k, v in state.items()}), strict=True)
    assert not missing.missing_keys and not missing.unexpected_keys
    return model.train()


def loss_of(model, tokens, targets, mask):
    """(loss by transformers' own loss function, logits); tokens whose mask is 0 do not count."""
    labels = targets.masked_fill(mask == 0, -100)
    out = model(input_ids=tokens, labels=labels, shift_labels=labels, use_cache=False)
    return out.loss, out.logits


def evaluate(config, plain, batch):
    """logits, loss and gradients (by published name) of the plain model's weights."""
    tokens, targets, masks = batch
    model = make_model(config, plain.state_dict())
    loss, logits = loss_of(model, tokens, targets[0], masks[0])
    loss.backward()
    gradients = published({name: p.grad for name, p in model.named_parameters()})
    return {
        "logits": logits.detach(),
        "loss": loss.detach(),
        "total_loss": loss.detach(),
        "gradients": gradients,
    }


@torch.no_grad()
def mtp_logits(config, plain, batch):
    """Logits of the prediction depths, by transformers' main model and its MtpLayer."""
    tokens, targets, _ = batch
    state = plain.state_dict()
    layers = [f"model.layers.{config['num_layers'] + k}." for k in range(config["mtp_depth"])]
    main = {name: v for name, v in state.items() if not name.startswith(tuple(layers))}
    model = make_model(config, main).model
    their_config = config_of(config | {"num_dense_layers": 0})  # MTP layers, counted from 0
    their_config._attn_implementation = their_config._experts_implementation = "eager"
    hidden = model(input_ids=tokens, use_cache=False).last_hidden_state
    positions = torch.arange(tokens.shape[1]).unsqueeze(0)
    rotary = model.rotary_emb(hidden, positions)
    future = torch.full((tokens.shape[1],) * 2, float("-inf")).triu(1)[None, None]
    decoder_kind, norm_kind = type(model.layers[0]), type(model.norm)
    out = []
    for depth, prefix in enumerate(layers):
        layer = MtpLayer(their_config, decoder_kind, norm_kind, depth)
        own = fused({name: v.float() for name, v in state.items() if name.startswith(prefix)})
        block = {f"mtp_block.{n.removeprefix(prefix)}": v for n, v in own.items()}
        for name in ("enorm", "hnorm", "eh_proj"):
            block[f"{name}.weight"] = block.pop(f"mtp_block.{name}.weight")
        block["post_norm.weight"] = block.pop("mtp_block.shared_head.norm.weight")
        layer.load_state_dict(block, strict=True)
        embedding = model.embed_tokens(targets[depth])
        hidden = layer(embedding, hidden, rotary, future, positions, None)
        out.append((hidden @ state["lm_head.weight"].float().T).double())
    return out
