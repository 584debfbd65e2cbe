"""Build decoder layers from a LayerShape, for timing and for the reference engine.

    llama     RMSNorm, grouped-query attention with RoPE, SwiGLU        (Llama, Mistral; Qwen with bias or qk_norm)
    mixtral   the same attention, routed experts                        (Mixtral, Qwen-MoE; gpt-oss with sinks)
    deepseek  RMSNorm, latent attention, routed and shared experts      (DeepSeek, Kimi)
    falcon    LayerNorm, attention with RoPE and few KV heads, MLP in parallel to it
    bloom     LayerNorm, attention with ALiBi, GELU MLP
    gpt2      LayerNorm, plain attention (the embedding encodes positions), GELU MLP

A layer is a set of weights; the cache is the caller's. `forward(x, cache, position)` takes tokens at `position` and
after, with everything before them in the cache: one token is a decode step, many are prefill, and any split of a text
into calls gives the same output. Parts and their sources: `attention`, `mlp`, `matrices`.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it

from swarm_probe.compute.layers.attention import NORM_EPS, Alibi, GroupedAttention, KVCache, LatentAttention, Rope
from swarm_probe.compute.layers.matrices import Weights
from swarm_probe.compute.layers.mlp import Experts, Mlp
from swarm_protocol.layer_shape import LayerShape

__all__ = ["NORM_EPS", "DecoderLayer", "KVCache", "UnsupportedShape", "Weights", "build_layers", "check_shape"]

MAX_SIZE: Final = 1 << 20
_RMS: Final = ("llama", "mixtral", "deepseek")
_WITH_ROPE: Final = (*_RMS, "falcon")


class UnsupportedShape(ValueError):
    """No layer here has this shape; the text is one line that says which and why."""


def check_shape(shape: LayerShape) -> None:
    """Check a shape. Raises UnsupportedShape."""
    sizes = (shape.hidden, shape.intermediate, shape.heads, shape.kv_heads, shape.head_dim)
    if min(sizes) < 1 or max(sizes) > MAX_SIZE:
        raise UnsupportedShape(f"a layer with sizes {sizes} cannot be built; each must be 1 to {MAX_SIZE}")
    if (shape.architecture == "deepseek") != bool(shape.kv_lora_rank):
        raise UnsupportedShape(f"a {shape.architecture} layer has no kv_lora_rank of {shape.kv_lora_rank}")
    latent = (shape.kv_lora_rank, shape.q_lora_rank, shape.rope_head_dim, shape.v_head_dim)
    if min(latent) < 0 or max(latent) > MAX_SIZE or (shape.kv_lora_rank and shape.rope_head_dim < 2):
        raise UnsupportedShape(f"latent attention with ranks and heads {latent} cannot be built")
    if shape.heads % shape.kv_heads:
        raise UnsupportedShape(f"{shape.heads} heads cannot share {shape.kv_heads} KV heads evenly")
    turned = shape.rope_head_dim or shape.head_dim
    if turned % 2 and shape.architecture in _WITH_ROPE:
        raise UnsupportedShape(f"RoPE needs an even head_dim, not {turned}")
    if (shape.experts or shape.architecture == "mixtral") and not 1 <= shape.experts_active <= shape.experts:
        raise UnsupportedShape(f"{shape.experts_active} active of {shape.experts} experts makes no routed layer")


class DecoderLayer:
    """One layer with weights of its own. No torch Module: nothing is trained, and a call costs only its kernels."""

    def __init__(self, shape: LayerShape, weights: Weights, *, rope: Rope | None, alibi: Alibi | None) -> None:
        """Create a layer. `rope` and `alibi`: how this architecture encodes positions; `build_layers` passes what it
        needs."""
        self.shape = shape
        self._rms = shape.architecture in _RMS
        hidden = shape.hidden
        self.attention: GroupedAttention | LatentAttention
        if shape.kv_lora_rank:
            assert rope is not None  # by check_shape
            self.attention = LatentAttention(shape, weights, rope)
        else:
            self.attention = GroupedAttention(shape, weights, rope, alibi)
        self.norm_1 = weights.vector(hidden, 1.0)
        self.norm_1_bias = None if self._rms else weights.vector(hidden, 0.0)
        parallel = shape.architecture == "falcon"  # feeds both halves from one norm
        self.norm_2 = None if parallel else weights.vector(hidden, 1.0)
        self.norm_2_bias = None if self._rms or parallel else weights.vector(hidden, 0.0)
        self.mlp = Experts(shape, weights) if shape.experts else Mlp(shape, weights)

    def new_cache(self, batch: int, capacity: int, fill: Weights | None = None) -> KVCache:
        """Return an empty cache (zeros), or one as if `capacity` tokens had been seen, where only the time matters."""
        return self.attention.new_cache(batch, capacity, fill)

    @torch.inference_mode()
    def forward(self, x: torch.Tensor, cache: KVCache, position: int) -> torch.Tensor:
        """Run (batch, tokens, hidden) through the layer; the cache takes these tokens at `position` and after."""
        normed = self._norm(x, self.norm_1, self.norm_1_bias)
        attended = self.attention.forward(normed, cache, position)
        if self.norm_2 is None:
            return x + attended + self.mlp.forward(normed)
        x = x + attended
        return x + self.mlp.forward(self._norm(x, self.norm_2, self.norm_2_bias))

    def _norm(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        size = (self.shape.hidden,)
        return F.rms_norm(x, size, weight, NORM_EPS) if self._rms else F.layer_norm(x, size, weight, bias, NORM_EPS)


def build_layers(
    shape: LayerShape, count: int, *, capacity: int, dtype: torch.dtype, device: torch.device | str, seed: int = 0,
    quantised: str = "",
) -> list[DecoderLayer]:  # fmt: skip
    """Return `count` layers that share nothing but the position tables, for positions below `capacity`.

    Layer i depends on seed + i alone, so that two machines that hold halves of a model hold the same model.
    `quantised`: the format of their matrices (matrices.QUANTISED). Raises UnsupportedShape, and NoKernel of `matrices`.
    """
    check_shape(shape)
    turned = shape.rope_head_dim or shape.head_dim
    rope = Rope(turned, capacity, dtype, device) if shape.architecture in _WITH_ROPE else None
    alibi = Alibi(shape.heads, dtype, device) if shape.architecture == "bloom" else None
    return [
        DecoderLayer(shape, Weights(seed + i, dtype, device, quantised), rope=rope, alibi=alibi) for i in range(count)
    ]
