"""DeepSeek-V2 and V3 in plain PyTorch, written from the papers to be read and differentiated.

The reference for what transformers lacks: losses of multi-token prediction and of balance, updates
of the selection bias. Parameters carry the published names; a config is a dict with the fields of
configs/schema/model.proto. In shapes: B sequences, T tokens of one, E experts.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class RmsNorm(nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def rope_frequencies(config):
    """[rope / 2] float64. YaRN (arXiv:2309.00071): low ones divided by factor, high ones kept."""
    size, theta, yarn = config["qk_rope_head_dim"], config["rope_theta"], config["yarn"]
    frequencies = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    if yarn["factor"] == 1:
        return frequencies

    def pair_with(rotations):  # index of the pair that turns so often over the original length
        turns = yarn["original_max_position"] / (2 * math.pi * rotations)
        return size * math.log(turns) / (2 * math.log(theta))

    low = max(math.floor(pair_with(yarn["beta_fast"])), 0)
    high = min(math.ceil(pair_with(yarn["beta_slow"])), size - 1)
    ramp = (torch.arange(size // 2, dtype=torch.float64) - low) / max(high - low, 0.001)
    ramp = ramp.clamp(0, 1)
    return frequencies * (1 - ramp) + frequencies / yarn["factor"] * ramp


def yarn_mscale(factor, mscale):
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


class AttentionWeights(nn.Module):
    """Parameters of multi-head latent attention, with norms of a class, and the sizes that they have."""

    def __init__(self, config, norm=RmsNorm):
        super().__init__()
        self.heads = config["num_attention_heads"]
        self.nope, self.rope = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
        self.value, self.latent = config["v_head_dim"], config["kv_lora_rank"]
        hidden, epsilon, rank = config["hidden_size"], config["rms_norm_epsilon"], config["q_lora_rank"]
        queries = self.heads * (self.nope + self.rope)
        if rank:
            self.q_a_proj = linear(hidden, rank)
            self.q_a_layernorm = norm(rank, epsilon)
            self.q_b_proj = linear(rank, queries)
        else:
            self.q_proj = linear(hidden, queries)
        self.kv_a_proj_with_mqa = linear(hidden, self.latent + self.rope)
        self.kv_a_layernorm = norm(self.latent, epsilon)
        self.kv_b_proj = linear(self.latent, self.heads * (self.nope + self.value))
        self.o_proj = linear(self.heads * self.value, hidden)


class Attention(AttentionWeights):
    """Multi-head latent attention, arXiv:2405.04434, eq. 9-19."""

    def __init__(self, config):
        super().__init__(config)
        yarn = config["yarn"]
        self.frequencies = rope_frequencies(config)
        all_dim = yarn_mscale(yarn["factor"], yarn["mscale_all_dim"])
        self.rotation_scale = yarn_mscale(yarn["factor"], yarn["mscale"]) / all_dim
        self.softmax_scale = (self.nope + self.rope) ** -0.5 * all_dim**2

    def rotate(self, x):
        """Pairs (x[2i], x[2i+1]) turn by position * frequency_i.   x [B, T, heads, rope]"""
        angles = torch.outer(torch.arange(x.shape[1], dtype=torch.float64), self.frequencies)
        turns = torch.polar(torch.full_like(angles, self.rotation_scale), angles)
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        turned = pairs * turns.to(pairs.dtype).unsqueeze(-2)
        return torch.view_as_real(turned).flatten(-2)

    def forward(self, x):
        if hasattr(self, "q_proj"):
            q = self.q_proj(x)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q_nope, q_rope = q.unflatten(-1, (self.heads, -1)).split([self.nope, self.rope], -1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([self.latent, self.rope], -1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (self.heads, -1))
        k_nope, v = kv.split([self.nope, self.value], -1)
        q_rope, k_rope = self.rotate(q_rope), self.rotate(k_rope.unsqueeze(2))
        scores = torch.einsum("bthd,bshd->bhts", q_nope, k_nope)
        scores = scores + torch.einsum("bthd,bsd->bhts", q_rope, k_rope.squeeze(2))
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        weights = (scores * self.softmax_scale).masked_fill(future, float("-inf")).softmax(-1)
        return self.o_proj(torch.einsum("bhts,bshd->bthd", weights, v).flatten(-2))


class FeedForward(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj, self.up_proj = linear(hidden, inner), linear(hidden, inner)
        self.down_proj = linear(inner, hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Gate(nn.Module):
    """The routers of V3 (arXiv:2412.19437, eq. 12-16) and V2 (arXiv:2405.04434, eq. 20-22).

    After a forward: scores and, as 0 or 1, the experts chosen, chosen without groups (unlimited)
    and without bias and groups (unbiased), all [B, T, E]; and the margin, the least distance of any
    choice from being another one, relative for softmax scores.
    """

    def __init__(self, config):
        super().__init__()
        self.moe, self.margin = config["moe"], float("inf")
        self.weight = nn.Parameter(torch.zeros(self.moe["num_experts"], config["hidden_size"]))
        if self.moe["score_function"] == "SIGMOID":
            self.e_score_correction_bias = nn.Buffer(torch.zeros(self.moe["num_experts"]))

    def top(self, values, count):
        """1 for the `count` largest in the last dimension, else 0."""
        ranked, index = values.sort(-1, descending=True)
        if count < values.shape[-1]:
            margin = ranked[..., count - 1] - ranked[..., count]
            if self.moe["score_function"] == "SOFTMAX":
                margin = margin / ranked[..., count - 1]
            self.margin = min(self.margin, margin.min().item())
        return torch.zeros_like(values).scatter(-1, index[..., :count], 1.0)

    def group_scores(self, scores):
        grouped = scores.unflatten(-1, (self.moe["num_groups"], -1))
        if self.moe["group_score"] == "MAX":
            return grouped.amax(-1)
        return grouped.topk(2, -1).values.sum(-1)

    def forward(self, x):
        moe = self.moe
        logits = F.linear(x, self.weight)
        is_sigmoid = moe["score_function"] == "SIGMOID"
        self.scores = logits.sigmoid() if is_sigmoid else logits.softmax(-1)
        with torch.no_grad():
            choice = self.scores + self.e_score_correction_bias if is_sigmoid else self.scores
            self.unlimited = self.top(choice, moe["top_k"])
            self.margin = float("inf")  # of the choices from here on
            self.unbiased = self.top(self.scores, moe["top_k"])
            kept = self.top(self.group_scores(choice), moe["num_kept_groups"])
            kept = kept.repeat_interleave(moe["num_experts"] // moe["num_groups"], -1)
            self.chosen = self.top(choice.masked_fill(kept == 0, float("-inf")), moe["top_k"])
        gates = self.scores * self.chosen
        if moe["normalize_gates"]:
            gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
        return gates * moe["gate_scale"]

    def balance_loss(self):
        """Of each sequence, then the mean over the sequences; f is a constant for the backward."""
        moe, (_, tokens, experts) = self.moe, self.scores.shape
        per_choice = experts / (moe["top_k"] * tokens)
        # V3 (eq. 17-20) counts the best by the unbiased scores, groups aside; scores normalised.
        f = per_choice * self.unbiased.sum(1)
        p = (self.scores / self.scores.sum(-1, keepdim=True)).mean(1)
        loss = moe["sequence_balance_coefficient"] * (f * p).sum(-1)
        # V2 (eq. 23-31) counts the experts that a token really goes to.
        f, p = per_choice * self.chosen.sum(1), self.scores.mean(1)
        loss = loss + moe["expert_balance_coefficient"] * (f * p).sum(-1)
        devices = moe["num_device_groups"]
        p_device = p.unflatten(-1, (devices, -1)).sum(-1)
        f_device = f.unflatten(-1, (devices, -1)).mean(-1)
        loss = loss + moe["device_balance_coefficient"] * (f_device * p_device).sum(-1)
        sent = self.chosen.unflatten(-1, (devices, -1)).amax(-1).sum(1)
        f_sent = devices / (moe["num_kept_groups"] * tokens) * sent
        loss = loss + moe["communication_balance_coefficient"] * (f_sent * p_device).sum(-1)
        return loss.mean()

    @torch.no_grad()
    def update_bias(self):
        """arXiv:2408.15664: up where the load is below the mean, down where it is above."""
        load = self.chosen.sum((0, 1))
        rate = self.moe["selection_bias_update_rate"]
        self.e_score_correction_bias += rate * torch.sign(load.mean() - load)


class Experts(nn.Module):
    """Mixture of experts, arXiv:2401.06066; no token is dropped."""

    def __init__(self, config):
        super().__init__()
        moe, hidden = config["moe"], config["hidden_size"]
        self.gate = Gate(config)
        inner = moe["intermediate_size"]
        self.experts = nn.ModuleList(FeedForward(hidden, inner) for _ in range(moe["num_experts"]))
        self.shared_experts = FeedForward(hidden, inner * moe["num_shared_experts"])

    def forward(self, x):
        gates = self.gate(x)
        out = self.shared_experts(x)
        for index, expert in enumerate(self.experts):
            out = out + gates[..., index, None] * expert(x)  # the gate of an expert not chosen is 0
        return out


class DecoderLayer(nn.Module):
    def __init__(self, config, is_dense):
        super().__init__()
        hidden, epsilon = config["hidden_size"], config["rms_norm_epsilon"]
        self.input_layernorm = RmsNorm(hidden, epsilon)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(hidden, epsilon)
        self.mlp = FeedForward(hidden, config["intermediate_size"]) if is_dense else Experts(config)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class MtpLayer(DecoderLayer):
    """Multi-token prediction, arXiv:2412.19437, eq. 21-23; embedding first, as published.

    `hidden` comes from, and is returned after, a final norm: the main model's, the layer's own.
    """

    def __init__(self, config):
        super().__init__(config, is_dense=False)
        hidden, epsilon = config["hidden_size"], config["rms_norm_epsilon"]
        self.enorm, self.hnorm = RmsNorm(hidden, epsilon), RmsNorm(hidden, epsilon)
        self.eh_proj = linear(2 * hidden, hidden)
        self.shared_head = nn.Module()
        self.shared_head.norm = RmsNorm(hidden, epsilon)

    def forward(self, embedding, hidden):
        x = self.eh_proj(torch.cat([self.enorm(embedding), self.hnorm(hidden)], -1))
        return self.shared_head.norm(super().forward(x))


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, dense = config["hidden_size"], config["num_dense_layers"]
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocab_size"], hidden)
        decoder = [DecoderLayer(config, layer < dense) for layer in range(config["num_layers"])]
        mtp = [MtpLayer(config) for _ in range(config["mtp_depth"])]
        self.model.layers = nn.ModuleList(decoder + mtp)
        self.model.norm = RmsNorm(hidden, config["rms_norm_epsilon"])
        self.lm_head = linear(hidden, config["vocab_size"])
        self.depth = config["mtp_depth"]

    def forward(self, tokens, targets):
        """Logits at each depth, [1 + depth][B, T, vocabulary].

        tokens [B, T]; targets [1 + depth, B, T]: [k] is the token k + 1 further on, what depth k
        predicts and depth k + 1 is given.
        """
        layers = list(self.model.layers)
        decoder, mtp = layers[: len(layers) - self.depth], layers[len(layers) - self.depth :]
        x = self.model.embed_tokens(tokens)
        for layer in decoder:
            x = layer(x)
        hidden = self.model.norm(x)
        logits = [self.lm_head(hidden)]
        for layer, following in zip(mtp, targets):
            hidden = layer(self.model.embed_tokens(following), hidden)
            logits.append(self.lm_head(hidden))
        return logits

    def gates(self):
        """(name of the layer, gate) of each mixture of experts, in the order of the layers."""
        named = self.named_modules()
        return [(n.removesuffix(".mlp.gate"), m) for n, m in named if isinstance(m, Gate)]


def mean_loss(logits, targets, mask):
    """Cross-entropy in nats, the mean over the tokens whose mask is 1."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * mask.flatten()).sum() / mask.sum()
