"""DeepSeek-V3 in PyTorch, made to train fast: fused attention, grouped products over sorted experts.

Names of parameters are those of transformers (parity.in_transformers.fused). No groups of experts, MTP, balance losses
and YaRN. In shapes: B sequences, T tokens of one, N = B T, H hidden.
"""

import torch
import torch.nn.functional as F
from torch import nn

import parity.model
from parity.model import AttentionWeights, FeedForward, linear, rope_frequencies

grouped_mm = getattr(F, "grouped_mm", None) or torch._grouped_mm


class RmsNorm(parity.model.RmsNorm):
    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


def rotate(x, cos, sin):
    """Pairs (x[2i], x[2i+1]) turned, in float32.   x [B, T, heads, rope]; cos, sin [T, 1, rope / 2]"""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


class Attention(AttentionWeights):
    def __init__(self, config):
        super().__init__(config, RmsNorm)

    def forward(self, x, cos, sin):
        q = self.q_proj(x) if hasattr(self, "q_proj") else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q_nope, q_rope = q.unflatten(-1, (self.heads, -1)).split([self.nope, self.rope], -1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.latent, self.rope], -1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (self.heads, -1))
        k_nope, v = kv.split([self.nope, self.value], -1)
        q = torch.cat([q_nope, rotate(q_rope, cos, sin)], -1)
        k_rope = rotate(k_rope.unsqueeze(2), cos, sin).expand(-1, -1, self.heads, -1)
        k = torch.cat([k_nope, k_rope], -1)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).flatten(-2))


class Gate(nn.Module):
    """Scores in float32; `load` counts the tokens of each expert since the last update of the bias."""

    def __init__(self, config):
        super().__init__()
        self.moe = config["moe"]
        experts = self.moe["num_experts"]
        self.weight = nn.Parameter(torch.zeros(experts, config["hidden_size"]))
        self.e_score_correction_bias = nn.Buffer(torch.zeros(experts))
        self.load = nn.Buffer(torch.zeros(experts), persistent=False)

    def forward(self, x):
        """Experts and their gates, [N, top_k]; tokens of each expert.   x [N, H]"""
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.weight.float()).sigmoid()
        chosen = (scores.detach() + self.e_score_correction_bias).topk(self.moe["top_k"], sorted=False).indices
        gates = scores.gather(-1, chosen)
        if self.moe["normalize_gates"]:
            gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
        counts = torch.zeros_like(self.load).scatter_add(0, chosen.flatten(), torch.ones_like(gates).flatten())
        return chosen, gates * self.moe["gate_scale"], counts

    @torch.no_grad()
    def update_bias(self):
        rate = self.moe["selection_bias_update_rate"]
        self.e_score_correction_bias += rate * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


class Experts(nn.Module):
    """Products are of `dtype`, which autocast does not know of; None: that of x."""

    def __init__(self, config):
        super().__init__()
        self.dtype = None
        experts, inner, hidden = config["moe"]["num_experts"], config["moe"]["intermediate_size"], config["hidden_size"]
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner))

    def forward(self, x, chosen, gates, counts):
        top_k = chosen.shape[1]
        order = chosen.flatten().argsort(stable=True)
        slot_of_row = torch.empty_like(order).scatter(0, order, torch.arange(order.numel(), device=x.device))
        ends = counts.cumsum(0).to(torch.int32)
        x = x.to(self.dtype or x.dtype)
        gate_up, down = self.gate_up_proj.to(x.dtype), self.down_proj.to(x.dtype)
        gate, up = grouped_mm(x[order // top_k], gate_up.transpose(1, 2), offs=ends).chunk(2, -1)
        rows = grouped_mm(F.silu(gate) * up, down.transpose(1, 2), offs=ends)
        rows = rows[slot_of_row].unflatten(0, (-1, top_k))
        return (rows * gates.unsqueeze(-1).to(rows.dtype)).sum(1)


class Mixture(nn.Module):
    def __init__(self, config):
        super().__init__()
        moe = config["moe"]
        self.gate = Gate(config)
        self.experts = Experts(config)
        self.shared_experts = FeedForward(config["hidden_size"], moe["intermediate_size"] * moe["num_shared_experts"])

    def forward(self, x):
        rows = x.flatten(0, 1)
        chosen, gates, counts = self.gate(rows)
        self.gate.load.add_(counts.detach())
        return self.shared_experts(x) + self.experts(rows, chosen, gates, counts).view_as(x)


class DecoderLayer(nn.Module):
    def __init__(self, config, is_dense):
        super().__init__()
        hidden, epsilon = config["hidden_size"], config["rms_norm_epsilon"]
        self.input_layernorm = RmsNorm(hidden, epsilon)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(hidden, epsilon)
        self.mlp = FeedForward(hidden, config["intermediate_size"]) if is_dense else Mixture(config)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        moe = config["moe"]
        losses = [moe[name] for name in moe if name.endswith("_balance_coefficient")]
        if moe["score_function"] != "SIGMOID" or moe["num_groups"] != 1 or any(losses):
            raise ValueError("the rival has V3's router, without groups of experts and balance losses")
        if config["mtp_depth"] or config["yarn"]["factor"] != 1 or not moe["num_shared_experts"]:
            raise ValueError("the rival has shared experts, and neither MTP nor YaRN")
        hidden, dense = config["hidden_size"], config["num_dense_layers"]
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocab_size"], hidden)
        self.model.layers = nn.ModuleList(DecoderLayer(config, i < dense) for i in range(config["num_layers"]))
        self.model.norm = RmsNorm(hidden, config["rms_norm_epsilon"])
        self.lm_head = linear(hidden, config["vocab_size"])
        self.frequencies = rope_frequencies(config)

    def forward(self, tokens, targets):
        """The mean cross-entropy in nats.   tokens, targets [B, T]"""
        positions = torch.arange(tokens.shape[1], dtype=torch.float64, device=tokens.device)
        angles = torch.outer(positions, self.frequencies.to(tokens.device)).unsqueeze(1)
        cos, sin = angles.cos().float(), angles.sin().float()
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        logits = self.lm_head(self.model.norm(x))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
