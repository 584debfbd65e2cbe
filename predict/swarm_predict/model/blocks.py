"""Describe one layer of a model as the predictor counts it: weights, caches that grow, state that does not.

A Block is the sum of its parts (`attention + mlp`), so that families whose layers differ are described in the same way.
Where a LayerShape describes a layer fully, the block is made of it (`block_of`) and its bytes are counted there.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from swarm_predict.model.kv_cache import CACHE_BYTES, Cache, kept_bytes, read_bytes
from swarm_protocol.layer_shape import LayerShape

SMALL_BYTES: Final = 2  # norms, biases and convolutions stay in 16 bits


class Block(msgspec.Struct, frozen=True):
    """Sizes of one layer, or of a part of one. Elements unless the name says bytes."""

    layer: LayerShape | None = None  # of which `matrices` and the experts are made; None: no LayerShape says it all
    matrices: int = 0  # weights that quantisers shrink, routed experts left out
    mlp_matrices: int = 0  # those of `matrices` that are an MLP, which every token passes
    small: int = 0  # norms, biases, convolutions
    experts: int = 0
    experts_active: int = 0  # for each token
    expert_matrices: int = 0  # of one routed expert
    caches: tuple[Cache, ...] = ()
    state_bytes: float = 0.0  # of one sequence, however long: recurrent and convolution state
    own_format: str = (
        ""  # weights as the checkpoint's own files hold them; empty: only a format says how large they are
    )
    own_bytes: float = 0.0  # in that format, routed experts and small ones included
    own_expert_bytes: float = 0.0  # of one routed expert, among those

    def __add__(self, other: Block) -> Block:
        with_experts = self if self.experts else other
        return Block(
            matrices=self.matrices + other.matrices,
            mlp_matrices=self.mlp_matrices + other.mlp_matrices,
            small=self.small + other.small,
            experts=with_experts.experts,
            experts_active=with_experts.experts_active,
            expert_matrices=with_experts.expert_matrices,
            caches=self.caches + other.caches,
            state_bytes=self.state_bytes + other.state_bytes,
        )

    @property
    def params(self) -> int:
        return self.matrices + self.small + self.experts * self.expert_matrices

    @property
    def params_active(self) -> int:
        """Return the elements of matrices that one token is multiplied with."""
        return self.matrices + self.experts_active * self.expert_matrices

    def awake(self, tokens: int) -> float:
        """Return the experts that `tokens` tokens choose with uniform routing: E·(1 − (1 − k/E)^tokens)."""
        if not self.experts:
            return 0.0
        return self.experts * (1 - (1 - self.experts_active / self.experts) ** tokens)

    def kept_bytes(self, tokens: int) -> float:
        return kept_bytes(self.caches, tokens)

    def read_bytes(self, tokens: int) -> float:
        """Return the cache bytes of one decode step with `tokens` in the caches; the state is read and written."""
        return read_bytes(self.caches, tokens) + 2 * self.state_bytes

    def lookback_flops(self, tokens: float) -> float:
        return sum(cache.flops * cache.read(tokens) for cache in self.caches)


def block_of(layer: LayerShape, window: int = 0) -> Block:
    """Return the block of a LayerShape; `window`: tokens that its attention looks back, 0 for all."""
    width = layer.head_dim + layer.rope_head_dim + layer.value_dim
    cache = Cache(layer.kv_elements, window=window, flops=2.0 * layer.heads * width)
    expert = layer.expert_params if layer.experts else 0
    small = 2 * layer.hidden
    if layer.bias and not layer.kv_lora_rank:
        small += (layer.heads + 2 * layer.kv_heads) * layer.head_dim
        if layer.architecture in ("bloom", "gpt2"):
            small += 4 * layer.hidden + layer.intermediate  # output and MLP, and what the norms add
    if layer.qk_norm:
        small += 2 * layer.head_dim
    if layer.sinks:
        small += layer.heads + layer.hidden + layer.experts * (2 * layer.intermediate + layer.hidden + 1)
    if layer.kv_lora_rank:
        small += layer.kv_lora_rank + layer.q_lora_rank
    return Block(
        layer=layer,
        matrices=layer.params - layer.experts * expert,
        mlp_matrices=layer.expert_params * (layer.shared_experts if layer.experts else 1),
        small=small,
        experts=layer.experts,
        experts_active=layer.experts_active,
        expert_matrices=expert,
        caches=(cache,),
    )


# ---------------------------------------------------------------- parts


def attention(
    hidden: int, heads: int, kv_heads: int, head_dim: int, value_dim: int = 0, *,
    window: int = 0, bias: bool = False, output_bias: bool = False, gate: int = 0, values: bool = True,
    shares_cache: bool = False, qk_norm: int = 0,
) -> Block:  # fmt: skip
    """Return grouped-query attention. `gate`: elements of an output gate; `values`: False where keys serve as values;
    `shares_cache`: queries only, keys and values are another layer's; `qk_norm`: elements of norms."""
    value = value_dim or head_dim
    queries, output = hidden * heads * head_dim, heads * value * hidden
    kept = kv_heads * (head_dim + value)
    written = 0 if shares_cache else kv_heads * (head_dim + (value if values else 0))
    flops = 2.0 * heads * (head_dim + value)
    small = qk_norm + (heads * head_dim + written if bias else 0) + (hidden if output_bias else 0)
    caches = (Cache(kept, window=window, flops=flops),)
    if shares_cache:  # read from where another layer put it, and kept there
        caches = (Cache(0.0, window=window, flops=flops),)
    return Block(matrices=queries + output + hidden * (written + gate), small=small, caches=caches)


def latent_attention(
    hidden: int, heads: int, nope: int, rope: int, value: int, kv_rank: int, q_rank: int, *,
    top_k: int = 0, gate: int = 0,
) -> Block:  # fmt: skip
    """Return DeepSeek's MLA: one latent and one rotary key a token. `top_k`: entries that sparse attention reads."""
    query = heads * (nope + rope)
    queries = q_rank * (hidden + query) if q_rank else hidden * query
    matrices = queries + hidden * (kv_rank + rope) + kv_rank * heads * (nope + value) + heads * value * hidden + gate
    cache = Cache(kv_rank + rope, top_k=top_k, flops=2.0 * heads * (nope + rope + value))
    return Block(matrices=matrices, small=kv_rank + q_rank, caches=(cache,))


def indexer(hidden: int, heads: int, dim: int, q_rank: int) -> Block:
    """Return DeepSeek's lightning indexer, which chooses the entries: keys in 8 bits with a scale, read whole."""
    matrices = q_rank * heads * dim + hidden * (dim + heads)
    return Block(matrices=matrices, small=2 * dim, caches=(Cache((dim + 4) / 2, flops=2.0 * heads * dim),))


def mlp(hidden: int, width: int, *, gated: bool = True, bias: bool = False) -> Block:
    small = width * (2 if gated else 1) + hidden if bias else 0
    matrices = hidden * width * (3 if gated else 2)
    return Block(matrices=matrices, mlp_matrices=matrices, small=small)


def experts(
    hidden: int, width: int, count: int, active: int, *,
    shared: int = 0, gated: bool = True, latent: int = 0, router: bool = True, shared_gate: bool = False,
) -> Block:  # fmt: skip
    """Return routed experts of `width` and a shared MLP of `shared`; `latent`: the experts' own, smaller hidden
    size."""
    kinds = 3 if gated else 2
    matrices = hidden * shared * kinds + (hidden * count if router else 0) + (2 * hidden * latent)
    return Block(
        matrices=matrices + (hidden if shared_gate else 0),
        mlp_matrices=hidden * shared * kinds,
        experts=count,
        experts_active=active,
        expert_matrices=(latent or hidden) * width * kinds,
    )


def mamba2(
    hidden: int, heads: int, head_dim: int, groups: int, state: int, conv: int, *, norm: bool, bias: bool = False
) -> Block:
    """Return a state-space layer of Mamba 2 (SSD): one matrix of head_dim × state a head, whatever the context."""
    inner = heads * head_dim
    mixed = inner + 2 * groups * state
    matrices = hidden * (inner + mixed + heads) + inner * hidden
    small = mixed * (conv + 1) + 3 * heads + (inner if norm else 0) + (inner + mixed + heads + hidden if bias else 0)
    return Block(matrices=matrices, small=small, state_bytes=4.0 * inner * state + CACHE_BYTES * mixed * (conv - 1))


def mamba1(hidden: int, inner: int, state: int, conv: int, rank: int, *, norms: int = 0, bias: bool = False) -> Block:
    matrices = hidden * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * hidden
    small = inner * (state + 1 + conv + 1 + 1) + norms + (2 * inner + hidden if bias else 0)
    return Block(matrices=matrices, small=small, state_bytes=4.0 * inner * state + CACHE_BYTES * inner * (conv - 1))


def delta_net(hidden: int, key_heads: int, value_heads: int, key_dim: int, value_dim: int, conv: int) -> Block:
    """Return Gated DeltaNet (Qwen3-Next): a matrix of key_dim × value_dim for each value head."""
    keys, values = key_heads * key_dim, value_heads * value_dim
    mixed = 2 * keys + values
    matrices = hidden * (mixed + values + 2 * value_heads) + values * hidden
    small = mixed * conv + 2 * value_heads + value_dim
    state = 4.0 * value_heads * key_dim * value_dim + CACHE_BYTES * mixed * (conv - 1)
    return Block(matrices=matrices, small=small, state_bytes=state)


def kimi_delta(hidden: int, heads: int, dim: int, conv: int, *, full_gate: bool = False) -> Block:
    """Return Kimi Delta Attention: DeltaNet whose decay is a vector, with low-rank gates."""
    inner = heads * dim
    low_rank = hidden * dim + dim * inner
    gate = hidden * inner if full_gate else low_rank
    matrices = 4 * hidden * inner + low_rank + gate + hidden * heads
    small = 3 * inner * conv + inner + heads + dim
    return Block(matrices=matrices, small=small, state_bytes=4.0 * inner * dim + CACHE_BYTES * 3 * inner * (conv - 1))


def short_convolution(hidden: int, taps: int, *, bias: bool = False) -> Block:
    """Return LFM2's gated short convolution."""
    small = hidden * taps + (5 * hidden if bias else 0)
    return Block(matrices=4 * hidden * hidden, small=small, state_bytes=float(CACHE_BYTES * hidden * (taps - 1)))


def lightning(hidden: int, heads: int, dim: int) -> Block:
    """Return MiniMax's linear attention: one matrix of dim × dim a head, with an output gate."""
    inner = heads * dim
    return Block(matrices=hidden * inner * 5, small=inner, state_bytes=4.0 * inner * dim)


def norms(elements: int) -> Block:
    return Block(small=elements)


def extra(elements: int) -> Block:
    return Block(matrices=elements)


def windowed(block: Block, window: int) -> Block:
    """Return the same block with every cache cut to `window` tokens."""
    return msgspec.structs.replace(
        block, caches=tuple(msgspec.structs.replace(cache, window=window) for cache in block.caches)
    )


def rounded_up(value: float, to: int) -> int:
    return math.ceil(value / to) * to
