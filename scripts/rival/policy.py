"""Group relative policy optimization in PyTorch: one step of sampling, rewards and an update.

The objective is that of rl/policy_loss.h with its defaults: a clipped ratio per token, each completion's mean, then
the mean over completions; advantages of rl/advantages.h; no reference policy.
"""

import time

import torch
import torch.nn.functional as F

from rival.model import Cache

CLIP = 0.2
GAP = 1e-3  # nats between sampler and trainer: float32, and experts that are a tie


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def left_padded(prompts, padding):
    """tokens, is_real [Q, P]."""
    length = max(map(len, prompts))
    tokens = torch.tensor([[padding] * (length - len(p)) + p for p in prompts])
    is_real = torch.tensor([[False] * (length - len(p)) + [True] * len(p) for p in prompts])
    return tokens, is_real


class Sampler:
    """Completions of prompts, all in one batch that ends when the last one has; the cache is made once."""

    def __init__(self, model, decode, vocabulary, eos):
        self.model, self.decode, self.vocabulary, self.eos = model, decode, vocabulary, eos
        self.cache = None

    def draw(self, logits, temperature):
        """A token of each row, by the largest of logit / temperature + Gumbel noise, and its log-probability."""
        logits = logits[:, -1, : self.vocabulary]
        if temperature == 0:
            logprobs = logits.log_softmax(-1)
            token = logits.argmax(-1)
        else:
            logprobs = (logits / temperature).log_softmax(-1)
            token = (logprobs - torch.empty_like(logprobs).exponential_().log()).argmax(-1)
        return token, logprobs.gather(-1, token.unsqueeze(-1)).squeeze(-1)

    @torch.inference_mode()
    def complete(self, prompts, repeats, max_new_tokens, temperature=1.0):
        """tokens, logprobs [Q * repeats, T], lengths [Q * repeats]: an eos at the end counts."""
        tokens, is_real = left_padded(prompts, self.eos)
        batch, length = len(prompts) * repeats, tokens.shape[1]
        mask = is_real[:, None, None, :] & causal(length)
        mask = mask | torch.eye(length, dtype=torch.bool)  # padding sees itself, or it would be NaN
        positions = (is_real.cumsum(-1) - 1).clamp(min=0)
        prompt_cache = Cache(self.model.config, len(prompts), length)
        logits = self.model(tokens, positions, mask, prompt_cache, torch.arange(length), slice(-1, None))
        places = length + max_new_tokens
        if self.cache is None or self.cache.keys[0].shape[::2] != (batch, places):
            self.cache = Cache(self.model.config, batch, places)
        self.cache.fill_from(prompt_cache, repeats)
        logits = logits.repeat_interleave(repeats, 0)
        seen = F.pad(is_real, (0, max_new_tokens)).repeat_interleave(repeats, 0)[:, None, None, :]
        position = is_real.sum(-1).repeat_interleave(repeats, 0)
        is_done = torch.zeros(batch, dtype=torch.bool)
        out, out_logprobs, lengths = [], [], torch.zeros(batch, dtype=torch.long)
        for index in range(max_new_tokens):
            token, logprob = self.draw(logits, temperature)
            out.append(token)
            out_logprobs.append(logprob)
            lengths += ~is_done
            is_done |= token == self.eos
            if index + 1 == max_new_tokens or is_done.all():
                break
            place = torch.tensor([length + index])
            seen[..., length + index] = True
            logits = self.decode(token[:, None], position[:, None], seen, self.cache, place)
            position = position + 1
        return torch.stack(out, 1), torch.stack(out_logprobs, 1), lengths


def advantages(rewards):
    """rewards [Q, G] -> [Q * G]"""
    deviation = rewards.std(-1, correction=0, keepdim=True)
    centred = rewards - rewards.mean(-1, keepdim=True)
    return torch.where(deviation > 0, centred / deviation, 0.0).flatten()


class Update:
    """A clipped AdamW step on the completions of a rollout, `parts` micro-batches of them."""

    def __init__(self, model, run, vocabulary, lr, parts):
        self.model, self.run, self.vocabulary, self.parts = model, run, vocabulary, parts
        matrices = [p for p in model.parameters() if p.dim() >= 2]
        gains = [p for p in model.parameters() if p.dim() < 2]
        groups = [{"params": matrices}, {"params": gains, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
        )

    def step(self, prompts, completions, old_logprobs, lengths, advantage, padded_length):
        """prompts: lists of tokens, one for each completion; advantage [N]."""
        count = len(prompts)
        ends = torch.tensor([len(p) for p in prompts])
        width = padded_length or int((ends + lengths).max())
        tokens = torch.zeros(count, width, dtype=torch.long)
        rows = torch.zeros(count, completions.shape[1], dtype=torch.long)  # whose logits give a completion's tokens
        for index, prompt in enumerate(prompts):
            text = prompt + completions[index, : lengths[index]].tolist()
            tokens[index, : len(text)] = torch.tensor(text)
            rows[index] = len(prompt) - 1 + torch.arange(completions.shape[1])
        first = int(ends.min()) - 1  # no row before it matters
        is_token = torch.arange(completions.shape[1]) < lengths[:, None]
        rows = (rows - first).clamp(max=width - 1 - first)
        positions = torch.arange(width).expand(count, width)
        size = count // self.parts
        for part in range(self.parts):
            mine = slice(part * size, (part + 1) * size)
            logits = self.run(tokens[mine], positions[mine], None, rows=slice(first, None))
            logprobs = logits[..., : self.vocabulary].log_softmax(-1)
            logprobs = logprobs.gather(1, rows[mine, :, None].expand(-1, -1, logprobs.shape[-1]))
            logprobs = logprobs.gather(-1, completions[mine, :, None]).squeeze(-1)
            log_ratio = (logprobs - old_logprobs[mine]) * is_token[mine]
            if log_ratio.detach().abs().max() > GAP:
                raise RuntimeError("sampler and trainer do not compute the same log-probabilities")
            ratio = log_ratio.exp()
            gain = advantage[mine, None]
            surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain)
            per_sample = (surrogate * is_token[mine]).sum(-1) / lengths[mine]
            (-per_sample.sum() / count).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.item()


def policy_step(sampler, update, problems, options):
    """One step. problems: (prompt tokens, answer text); returns a dict of numbers of the step."""
    start = time.perf_counter()
    prompts = [prompt for prompt, _ in problems]
    completions, logprobs, lengths = sampler.complete(prompts, options.group_size, options.max_new_tokens)
    completions, logprobs, lengths = completions.clone(), logprobs.clone(), lengths.clone()  # no longer of inference
    sampled = time.perf_counter()
    texts = [c[:n].tolist() for c, n in zip(completions, lengths)]
    answers = [answer for _, answer in problems for _ in range(options.group_size)]
    rewards = torch.tensor([options.is_right(t, a) for t, a in zip(texts, answers)], dtype=torch.float32)
    repeated = [p for p in prompts for _ in range(options.group_size)]
    judged = time.perf_counter()
    gain = advantages(rewards.view(len(problems), -1))
    update.step(repeated, completions, logprobs, lengths, gain, options.padded_length)
    end = time.perf_counter()
    new_tokens = int(lengths.sum())
    return {
        "reward": rewards.mean().item(),
        "tokens": new_tokens + sum(map(len, repeated)),
        "completion_tokens": new_tokens,
        "seconds": end - start,
        "generation_seconds": sampled - start,
        "training_seconds": end - judged,
    }
