"""Compute attention of a decoder layer with a KV cache, in three kinds: grouped heads (including MHA and MQA), the same
with learned sinks, and DeepSeek's latent attention.

Sources: Vaswani 2017, Shazeer 2019 (MQA), Ainslie 2023 (GQA), Su 2021 (RoPE), Press 2022 (ALiBi), DeepSeek-V2 2024
(MLA, and its absorbed form for decoding), OpenAI 2025 (gpt-oss: sinks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

from swarm_probe.compute.layers.matrices import Weights
from swarm_protocol.layer_shape import LayerShape

NORM_EPS: Final = 1e-5
LATENT_EPS: Final = 1e-6  # DeepSeek's norms inside the attention
ROPE_BASE: Final = 10_000.0


@dataclass(slots=True)
class KVCache:
    """Keys and values of one layer, filled up to the current position: (batch, kv_heads, slots, head_dim). Latent
    attention keeps (batch, 1, slots, rank + rope) in `keys` and nothing in `values`."""

    keys: torch.Tensor
    values: torch.Tensor
    before: int = 0  # slots before the first token: one where the softmax has a sink

    @property
    def capacity(self) -> int:
        return int(self.keys.shape[2]) - self.before

    def span(self, position: int, tokens: int) -> tuple[int, int]:
        """Return the slots of these tokens. Raises ValueError if they do not fit."""
        end = position + tokens
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, {end} are needed")
        return position + self.before, end + self.before


class Rope:
    """Rotations of every position up to `capacity`; one table serves all layers of a model."""

    def __init__(self, head_dim: int, capacity: int, dtype: torch.dtype, device: torch.device | str) -> None:
        rates = ROPE_BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        angles = torch.outer(torch.arange(capacity, dtype=torch.float64), rates)
        both = torch.cat((angles, angles), dim=-1)
        self.cos = both.cos().to(device, dtype)
        self.sin = both.sin().to(device, dtype)

    def turn(self, x: torch.Tensor, position: int) -> torch.Tensor:
        """Rotate (batch, heads, tokens, head_dim), the first token at `position`."""
        span = slice(position, position + x.shape[2])
        low, high = x.chunk(2, dim=-1)
        return x * self.cos[span] + torch.cat((-high, low), dim=-1) * self.sin[span]


class Alibi:
    """The bias by distance, and causality with it; one for all layers of a model, computed once a step."""

    def __init__(self, heads: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self._slopes = alibi_slopes(heads).to(device, dtype)
        self._kept: tuple[tuple[int, int], torch.Tensor] | None = None

    def bias(self, position: int, tokens: int) -> torch.Tensor:
        """Return the bias, (1, heads, tokens, position + tokens)."""
        if self._kept is None or self._kept[0] != (position, tokens):
            at = torch.arange(position, position + tokens, device=self._slopes.device)
            distance = torch.arange(position + tokens, device=self._slopes.device) - at[:, None]
            bias = self._slopes[:, None, None] * distance.to(self._slopes.dtype)
            self._kept = (position, tokens), bias.masked_fill(distance > 0, -math.inf)[None]
        return self._kept[1]


def alibi_slopes(heads: int) -> torch.Tensor:
    """Return slopes: geometric from 2^(−8/n); where n is not a power of two, with every other one of the next
    series."""
    whole = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (i + 1) / whole) for i in range(whole)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / whole) for i in range(heads - whole)]
    return torch.tensor(slopes, dtype=torch.float64)


def visible(position: int, tokens: int, device: torch.device) -> torch.Tensor:
    """Return which earlier token each may attend to, (tokens, position + tokens)."""
    at = torch.arange(position, position + tokens, device=device)
    return at[:, None] >= torch.arange(position + tokens, device=device)


class GroupedAttention:
    """Grouped-query attention: heads share keys and values in groups."""

    def __init__(self, shape: LayerShape, weights: Weights, rope: Rope | None, alibi: Alibi | None) -> None:
        """Create the layer. `rope` and `alibi`: how this architecture encodes positions."""
        self.shape = shape
        self.rope, self.alibi = rope, alibi
        heads, kv, dim = shape.heads, shape.kv_heads, shape.head_dim
        everywhere = shape.bias and (shape.sinks or shape.architecture in ("bloom", "gpt2", "falcon"))
        self.qkv = weights.linear((heads + 2 * kv) * dim, shape.hidden, bias=shape.bias)
        self.out = weights.linear(shape.hidden, heads * dim, bias=everywhere)
        self.q_norm = weights.vector(dim, 1.0) if shape.qk_norm else None
        self.k_norm = weights.vector(dim, 1.0) if shape.qk_norm else None
        self.sinks = weights.vector(heads, 0.0) if shape.sinks else None
        self._mask: tuple[tuple[int, int], torch.Tensor] | None = None
        self._dtype, self._device = weights.dtype, weights.device

    def new_cache(self, batch: int, capacity: int, fill: Weights | None) -> KVCache:
        before = int(self.shape.sinks)
        size = (batch, self.shape.kv_heads, capacity + before, self.shape.head_dim)
        keys, values = (_tensor(size, fill, self._dtype, self._device) for _ in range(2))
        if before:  # a key of zeros: its score is the sink's own, by the mask; a value of zeros adds nothing
            keys[:, :, 0] = 0
            values[:, :, 0] = 0
        return KVCache(keys, values, before)

    def forward(self, x: torch.Tensor, cache: KVCache, position: int) -> torch.Tensor:
        shape = self.shape
        batch, tokens, _ = x.shape
        start, end = cache.span(position, tokens)
        qkv = self.qkv(x).view(batch, tokens, shape.heads + 2 * shape.kv_heads, shape.head_dim).transpose(1, 2)
        q, k, v = qkv.split((shape.heads, shape.kv_heads, shape.kv_heads), dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q = F.rms_norm(q, (shape.head_dim,), self.q_norm, NORM_EPS)
            k = F.rms_norm(k, (shape.head_dim,), self.k_norm, NORM_EPS)
        if self.rope is not None:
            q, k = self.rope.turn(q, position), self.rope.turn(k, position)
        cache.keys[:, :, start:end] = k
        cache.values[:, :, start:end] = v
        keys, values = cache.keys[:, :, :end], cache.values[:, :, :end]
        y = self._one(q, keys, values) if tokens == 1 else self._many(q, keys, values, position)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, -1))

    def _one(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Attend with one query token: heads that share a KV head are its rows, so that K and V are read once."""
        batch, heads, _, dim = q.shape
        kv = self.shape.kv_heads
        bias = self._bias(keys.shape[2] - 1 - int(self.shape.sinks), 1)
        if bias is not None:
            bias = bias.view(1, kv, heads // kv, -1)
        y = F.scaled_dot_product_attention(q.reshape(batch, kv, heads // kv, dim), keys, values, attn_mask=bias)
        return y.reshape(batch, heads, 1, dim)

    def _many(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, position: int) -> torch.Tensor:
        shared = self.shape.heads != self.shape.kv_heads
        bias = self._bias(position, q.shape[2])
        if position == 0 and bias is None:
            return F.scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=shared)
        mask = visible(position, q.shape[2], q.device) if bias is None else bias
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=shared)

    def _bias(self, position: int, tokens: int) -> torch.Tensor | None:
        """Return (1, heads, tokens, slots) to be added to the scores; None if only causality applies."""
        if self.alibi is not None:
            return self.alibi.bias(position, tokens)
        if self.sinks is None:
            return None
        if self._mask is None or self._mask[0] != (position, tokens):
            mask = torch.zeros(self.shape.heads, tokens, position + tokens + 1, dtype=self._dtype, device=self._device)
            mask[:, :, 1:].masked_fill_(~visible(position, tokens, mask.device), -math.inf)
            mask[:, :, 0] = self.sinks[:, None]
            self._mask = (position, tokens), mask[None]
        return self._mask[1]


class LatentAttention:
    """DeepSeek's attention: keys and values are one low-rank vector a token. A prompt expands it; a decode step
    multiplies queries into the latent space instead ("absorbed"), so that the cache is read once and never expanded."""

    def __init__(self, shape: LayerShape, weights: Weights, rope: Rope) -> None:
        self.shape = shape
        self._rope = rope
        heads, rank, turned = shape.heads, shape.kv_lora_rank, shape.rope_head_dim
        self.dim, self.value_dim = shape.head_dim, shape.value_dim
        self._scale = (self.dim + turned) ** -0.5
        query = heads * (self.dim + turned)
        self.q_down = weights.linear(shape.q_lora_rank, shape.hidden) if shape.q_lora_rank else None
        self.q_norm = weights.vector(shape.q_lora_rank, 1.0) if shape.q_lora_rank else None
        self.q_up = weights.linear(query, shape.q_lora_rank or shape.hidden)
        self.kv_down = weights.linear(rank + turned, shape.hidden)
        self.kv_norm = weights.vector(rank, 1.0)
        # (heads, dim + value_dim, rank): engines keep these two in 16 bits, to multiply heads one by one
        self.kv_up = weights.matrix(heads * (self.dim + self.value_dim), rank).view(heads, -1, rank)
        self.out = weights.linear(shape.hidden, heads * self.value_dim)
        self._dtype, self._device = weights.dtype, weights.device

    def new_cache(self, batch: int, capacity: int, fill: Weights | None) -> KVCache:
        size = (batch, 1, capacity, self.shape.kv_lora_rank + self.shape.rope_head_dim)
        keys = _tensor(size, fill, self._dtype, self._device)
        return KVCache(keys, keys.new_empty(0))

    def forward(self, x: torch.Tensor, cache: KVCache, position: int) -> torch.Tensor:
        shape, rank = self.shape, self.shape.kv_lora_rank
        batch, tokens, _ = x.shape
        start, end = cache.span(position, tokens)
        if self.q_down is not None:
            x_q = F.rms_norm(self.q_down(x), (shape.q_lora_rank,), self.q_norm, LATENT_EPS)
        else:
            x_q = x
        q = self.q_up(x_q).view(batch, tokens, shape.heads, -1).transpose(1, 2)
        q, q_turned = q.split((self.dim, shape.rope_head_dim), dim=-1)
        q_turned = self._rope.turn(q_turned, position)
        latent, k_turned = self.kv_down(x).split((rank, shape.rope_head_dim), dim=-1)
        cache.keys[:, 0, start:end, :rank] = F.rms_norm(latent, (rank,), self.kv_norm, LATENT_EPS)
        cache.keys[:, :, start:end, rank:] = self._rope.turn(k_turned[:, None], position)
        kept = cache.keys[:, :, :end]
        y = self._absorbed(q, q_turned, kept) if tokens == 1 else self._expanded(q, q_turned, kept, position)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, -1))

    def _absorbed(self, q: torch.Tensor, q_turned: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return (batch, heads, 1, value_dim)."""
        rank = self.shape.kv_lora_rank
        up_keys, up_values = self.kv_up.split((self.dim, self.value_dim), dim=1)
        batch, heads = q.shape[:2]
        into = torch.matmul(q.transpose(0, 1).reshape(heads, batch, -1), up_keys).transpose(
            0, 1
        )  # (batch, heads, rank)
        query = torch.cat((into, q_turned[:, :, 0]), dim=-1)
        scores = torch.matmul(query, kept[:, 0].transpose(1, 2)) * self._scale
        seen = torch.matmul(F.softmax(scores, dim=-1), kept[:, 0, :, :rank])
        out = torch.matmul(seen.transpose(0, 1), up_values.transpose(1, 2))  # (heads, batch, value_dim)
        return out.transpose(0, 1)[:, :, None]

    def _expanded(self, q: torch.Tensor, q_turned: torch.Tensor, kept: torch.Tensor, position: int) -> torch.Tensor:
        rank, heads = self.shape.kv_lora_rank, self.shape.heads
        wide = torch.einsum("bxtr,hdr->bhtd", kept[..., :rank], self.kv_up)
        keys, values = wide.split((self.dim, self.value_dim), dim=-1)
        keys = torch.cat((keys, kept[..., rank:].expand(-1, heads, -1, -1)), dim=-1)
        query = torch.cat((q, q_turned), dim=-1)
        if position == 0:
            return F.scaled_dot_product_attention(query, keys, values, is_causal=True, scale=self._scale)
        mask = visible(position, q.shape[2], q.device)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self._scale)


def _tensor(
    size: tuple[int, ...], fill: Weights | None, dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """Return zeros, or random numbers where only the time matters."""
    if fill is None:
        return torch.zeros(size, dtype=dtype, device=device)
    return fill.matrix(math.prod(size[:-1]), size[-1]).view(size)
