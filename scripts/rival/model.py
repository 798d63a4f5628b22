"""DeepSeek-V3 in PyTorch, made to be fast: a cache of keys and values, stacked experts, fused attention.

Names of parameters are those of transformers (parity.in_transformers.fused). No groups of experts.
In shapes: B sequences, T new tokens of each, S places of the cache.
"""

import torch
import torch.nn.functional as F
from torch import nn

from parity.model import AttentionWeights, FeedForward, RmsNorm, linear, rope_frequencies


class Cache:
    """Keys and values of a batch, [B, heads, S, width] a layer; `used` places are taken."""

    def __init__(self, config, batch, places):
        heads = config["num_attention_heads"]
        key = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
        layers = range(config["num_layers"])
        self.keys = [torch.zeros(batch, heads, places, key) for _ in layers]
        self.values = [torch.zeros(batch, heads, places, config["v_head_dim"]) for _ in layers]

    def fill_from(self, prompts, repeats):
        """The cache of `prompts`, each sequence `repeats` times."""
        used = prompts.keys[0].shape[2]
        for mine, theirs in zip(self.keys + self.values, prompts.keys + prompts.values):
            mine[:, :, :used] = theirs.repeat_interleave(repeats, 0)


class Attention(AttentionWeights):
    def rotate(x, cos, sin):
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

    def forward(self, x, cos, sin, mask, keys, values, place):
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = q.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q_nope, q_rope = q.split([self.nope, self.rope], -1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.latent, self.rope], -1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (self.heads, -1))
        k_nope, v = kv.transpose(1, 2).split([self.nope, self.value], -1)
        q = torch.cat([q_nope, self.rotate(q_rope, cos, sin)], -1)
        k_rope = self.rotate(k_rope.unsqueeze(1), cos, sin).expand(-1, self.heads, -1, -1)
        k = torch.cat([k_nope, k_rope], -1)
        if keys is not None:
            k, v = keys.index_copy_(2, place, k), values.index_copy_(2, place, v)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(out.transpose(1, 2).flatten(-2))


class Gate(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.moe = config["moe"]
        self.weight = nn.Parameter(torch.zeros(self.moe["num_experts"], config["hidden_size"]))
        self.e_score_correction_bias = nn.Buffer(torch.zeros(self.moe["num_experts"]))

    def forward(self, x):
        """Experts and their gates, [tokens, top_k]."""
        scores = F.linear(x, self.weight).sigmoid()
        chosen = (scores + self.e_score_correction_bias).topk(self.moe["top_k"], sorted=False).indices
        gates = scores.gather(-1, chosen)
        if self.moe["normalize_gates"]:
            gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
        return chosen, gates * self.moe["gate_scale"]


class Experts(nn.Module):
    """kind "all": every expert for every token, three large products; "sorted": the tokens of each expert."""

    def __init__(self, config, kind):
        super().__init__()
        experts, inner = config["moe"]["num_experts"], config["moe"]["intermediate_size"]
        hidden = config["hidden_size"]
        self.kind = kind
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner))

    def forward(self, x, chosen, gates):
        return self.of_all(x, chosen, gates) if self.kind == "all" else self.of_sorted(x, chosen, gates)

    def of_all(self, x, chosen, gates):
        weights = x.new_zeros(x.shape[0], self.gate_up_proj.shape[0]).scatter(-1, chosen, gates)
        both = F.linear(x, self.gate_up_proj.flatten(0, 1))
        gate, up = both.unflatten(-1, (-1, 2, self.down_proj.shape[2])).unbind(-2)
        inner = F.silu(gate) * up * weights.unsqueeze(-1)
        return inner.flatten(1) @ self.down_proj.transpose(1, 2).flatten(0, 1)

    def of_sorted(self, x, chosen, gates):
        expert_of_slot, order = chosen.flatten().sort()
        token_of_slot = order // chosen.shape[1]
        counts = torch.bincount(expert_of_slot, minlength=self.gate_up_proj.shape[0]).tolist()
        rows = x[token_of_slot].split(counts)
        out = []
        for mine, gate_up, down in zip(rows, self.gate_up_proj, self.down_proj):
            gate, up = F.linear(mine, gate_up).chunk(2, -1)
            out.append(F.linear(F.silu(gate) * up, down))
        weighted = torch.cat(out) * gates.flatten()[order].unsqueeze(-1)
        return torch.zeros_like(x).index_add(0, token_of_slot, weighted)


class Mixture(nn.Module):
    def __init__(self, config, kind):
        super().__init__()
        moe = config["moe"]
        self.gate = Gate(config)
        self.experts = Experts(config, kind)
        self.shared_experts = FeedForward(
            config["hidden_size"], moe["intermediate_size"] * moe["num_shared_experts"]
        )

    def forward(self, x):
        rows = x.flatten(0, 1)
        return self.shared_experts(x) + self.experts(rows, *self.gate(rows)).view_as(x)


class DecoderLayer(nn.Module):
    def __init__(self, config, is_dense, experts):
        super().__init__()
        hidden, epsilon = config["hidden_size"], config["rms_norm_epsilon"]
        self.input_layernorm = RmsNorm(hidden, epsilon)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(hidden, epsilon)
        self.mlp = FeedForward(hidden, config["intermediate_size"]) if is_dense else Mixture(config, experts)

    def forward(self, x, *attention):
        x = x + self.self_attn(self.input_layernorm(x), *attention)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    def __init__(self, config, experts):
        super().__init__()
        moe = config["moe"]
        is_v3 = moe["score_function"] == "SIGMOID" and config["q_lora_rank"]
        if not is_v3 or moe["num_groups"] != 1 or config["mtp_depth"] or config["yarn"]["factor"] != 1:
            raise ValueError("the rival is V3 with q_lora_rank, without expert groups, MTP and YaRN")
        hidden, dense = config["hidden_size"], config["num_dense_layers"]
        self.config = config
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocab_size"], hidden)
        self.model.layers = nn.ModuleList(
            DecoderLayer(config, layer < dense, experts) for layer in range(config["num_layers"])
        )
        self.model.norm = RmsNorm(hidden, config["rms_norm_epsilon"])
        self.lm_head = linear(hidden, config["vocab_size"])
        self.frequencies = rope_frequencies(config).float()

    def forward(self, tokens, positions, mask, cache=None, place=None, rows=slice(None)):
        """Logits of `rows` of the sequences, [B, rows, vocabulary].

        tokens, positions [B, T]; mask [B, 1, T, S] bool, who sees whom; place [T]: where in the cache the new tokens
        go, of which mask has all S places. Without a cache S is T, and no mask means a causal one.
        """
        angles = positions.unsqueeze(-1) * self.frequencies
        cos, sin = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
        x = self.model.embed_tokens(tokens)
        for index, layer in enumerate(self.model.layers):
            keys, values = (cache.keys[index], cache.values[index]) if cache else (None, None)
            x = layer(x, cos, sin, mask, keys, values, place)
        return self.lm_head(self.model.norm(x[:, rows]))
