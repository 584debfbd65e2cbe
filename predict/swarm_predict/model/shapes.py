"""What a model weighs: bytes of weights, KV cache and activations, and the work of one step, from its shape alone.

`catalogue` has the built-in models, `hf_config` reads a Hugging Face config.json; both make a ModelShape.
How fast a machine moves these bytes is `roofline`'s and `layer_times`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from swarm_predict.errors import PredictError
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.units import BITS_PER_BYTE

ACTIVATION_BYTES: Final[dict[str, int]] = {"fp32": 4, "fp16": 2, "int8": 1}
KV_BYTES: Final = 2  # fp16 or bf16, what every engine here keeps unless told otherwise


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """Bits that one parameter really takes, scales and zero points included."""

    layer_bits: float  # attention and MLP matrices
    head_bits: float  # LM head: most quantisers leave it alone
    embedding_bits: float
    source: str
    expert_bits: float | None = None  # routed experts, where they differ from the rest
    # k-quants come in blocks of 256: a matrix whose rows are no multiple of that falls back to a format with blocks of
    # 32. Bits of ffn_down and of the other matrices: as usual, and fallen back.
    down_bits: tuple[float, float] | None = None
    other_bits: tuple[float, float] | None = None


def _plain(bits: float, source: str) -> WeightFormat:
    return WeightFormat(bits, bits, bits, source)


_GGML = "ggml-common.h block sizes"
_FALLBACK = "; rows: llama.cpp src/llama-quant.cpp (q2_k, q3_k, iq4_xs → iq4_nl, q4_k → q5_0, q5_k → q5_1, q6_k → q8_0)"
K_BLOCK: Final = 256


def _k_quant(
    bits: float, embedding: float, source: str, *, down: tuple[float, float], other: tuple[float, float]
) -> WeightFormat:
    return WeightFormat(bits, 210 * 8 / 256, embedding, source + _FALLBACK, down_bits=down, other_bits=other)


WEIGHT_FORMATS: Final[dict[str, WeightFormat]] = {
    "fp32": _plain(32, "IEEE 754"),
    "fp16": _plain(16, "IEEE 754"),
    "bf16": _plain(16, "IEEE 754 single, upper half"),
    # one fp32 scale a row of some thousand weights: under 0.1 %; head and embedding stay fp16
    "int8": WeightFormat(8, 16, 16, "LLM.int8(), arXiv 2208.07339; bitsandbytes skips lm_head"),
    "fp8": WeightFormat(8 + 32 / 128**2, 16, 16, "DeepSeek-V3 arXiv 2412.19437 §3.3: a scale for each 128×128 block"),
    "nf4": WeightFormat(4.5, 16, 16, "QLoRA arXiv 2305.14314 §3: fp32 absmax for each 64 weights"),
    "nf4_dq": WeightFormat(4.127, 16, 16, "QLoRA arXiv 2305.14314 §3: double quantisation, 0.127 bits of scales"),
    "int4_g128": WeightFormat(4 + 20 / 128, 16, 16, "AWQ/GPTQ, group 128: fp16 scale and 4-bit zero point"),
    "mxfp4": WeightFormat(16, 16, 16, "OCP MX 1.0: 8-bit scale for each 32; gpt-oss: routed experts only", 4.25),
    "q8_0": _plain(34 * 8 / 32, _GGML),
    "q6_k": _k_quant(6.5625, 6.5625, _GGML, down=(6.5625, 8.5), other=(6.5625, 8.5)),
    "q5_1": WeightFormat(24 * 8 / 32, 210 * 8 / 256, 24 * 8 / 32, _GGML),
    "q5_0": WeightFormat(22 * 8 / 32, 210 * 8 / 256, 22 * 8 / 32, _GGML),
    "q4_1": WeightFormat(20 * 8 / 32, 210 * 8 / 256, 20 * 8 / 32, _GGML),
    "q4_0": WeightFormat(18 * 8 / 32, 210 * 8 / 256, 18 * 8 / 32, _GGML),
    # attn_v and ffn_down of half the layers are q6_k: with the shapes of Llama-3.1-8B this comes to the 4.8944 and
    # 5.7036 bits a weight of the whole model that llama.cpp's tools/quantize/README.md prints
    "q5_k_m": _k_quant(5.653, 5.5, "llama.cpp tools/quantize/README.md", down=(6.03125, 7.25), other=(5.5, 6.0)),
    "q5_k_s": _k_quant(5.5, 5.5, _GGML, down=(5.5, 6.0), other=(5.5, 6.0)),
    "q4_k_m": _k_quant(4.797, 4.5, "llama.cpp tools/quantize/README.md", down=(5.53125, 7.0), other=(4.5, 5.5)),
    "q4_k_s": _k_quant(4.5, 4.5, _GGML, down=(4.5, 5.5), other=(4.5, 5.5)),
    "iq4_xs": _k_quant(4.25, 4.25, _GGML, down=(4.25, 4.5), other=(4.25, 4.5)),
    "q3_k_s": _k_quant(3.4375, 3.4375, _GGML, down=(3.4375, 4.5), other=(3.4375, 4.5)),
    "q2_k_s": _k_quant(2.625, 2.625, _GGML, down=(2.625, 4.5), other=(2.625, 4.5)),
    # what GGUF calls MXFP4: as gpt-oss is published there, all but the routed experts in q8_0
    "mxfp4_moe": WeightFormat(34 * 8 / 32, 34 * 8 / 32, 34 * 8 / 32, "llama.cpp ftype MXFP4_MOE", 4.25),
}


def weight_format(weights: str) -> WeightFormat:
    """Raises PredictError for a name that is no format."""
    try:
        return WEIGHT_FORMATS[weights.lower()]
    except KeyError:
        raise PredictError(f"weights {weights!r} is no known format; take one of {', '.join(WEIGHT_FORMATS)}") from None


@dataclass(frozen=True)
class ModelShape:
    """One decoder-only model. Layers are alike but for those in `dense_ids` (a plain MLP beside MoE layers)."""

    name: str
    layers: int
    layer: LayerShape  # what most of the model is made of, and what the probe times
    vocab: int
    tied: bool  # embedding and LM head are one matrix
    window: int = 0  # tokens that a windowed layer looks back; 0: every layer sees all
    windowed_layers: int = 0  # how many layers have the window
    dense_ids: tuple[int, ...] = ()
    dense_layer: LayerShape | None = None
    source: str = ""  # where the figures are from

    @property
    def hidden(self) -> int:
        return self.layer.hidden

    @property
    def heads(self) -> int:
        return self.layer.heads

    @property
    def kv_heads(self) -> int:
        return self.layer.kv_heads

    @property
    def params(self) -> int:
        """All elements, norms and biases left out (under 0.1 %)."""
        dense = sum(self.shape_of(i).params - self.layer.params for i in self.dense_ids)
        return self.layer.params * self.layers + dense + self.vocab * self.hidden * (1 if self.tied else 2)

    def shape_of(self, index: int) -> LayerShape:
        return self.dense_layer if self.dense_layer is not None and index in self._dense else self.layer

    @cached_property
    def _dense(self) -> frozenset[int]:
        return frozenset(self.dense_ids)

    # -- memory

    def layer_bytes(self, weights: str) -> float:
        """Weights of one layer, all experts, the mean over the model."""
        return self.stage_bytes(0, self.layers - 1, weights) / self.layers

    def largest_layer_bytes(self, weights: str) -> float:
        sizes = [shape_bytes(self.layer, weights)]
        if self.dense_layer is not None:
            sizes.append(shape_bytes(self.dense_layer, weights))
        return max(sizes)

    def stage_bytes(self, first: int, last: int, weights: str) -> float:
        """Weights of layers `first`..`last`, inclusive."""
        total = shape_bytes(self.layer, weights) * (last - first + 1)
        if self.dense_layer is not None:
            plain = sum(1 for i in self.dense_ids if first <= i <= last)
            total += plain * (shape_bytes(self.dense_layer, weights) - shape_bytes(self.layer, weights))
        return total

    def head_bytes(self, weights: str) -> float:
        """The LM head, which every step reads whole."""
        return self.vocab * self.hidden * self._end_bits(weights, weight_format(weights).head_bits) / BITS_PER_BYTE

    def embedding_bytes(self, weights: str) -> float:
        """The embedding, of which a step reads a row; tied models still need it where the head is not."""
        return self.vocab * self.hidden * self._end_bits(weights, weight_format(weights).embedding_bits) / BITS_PER_BYTE

    def _end_bits(self, weights: str, bits: float) -> float:
        """Of embedding and head, whose rows are as long as the hidden state."""
        kind = weight_format(weights)
        if kind.other_bits is None or self.hidden % K_BLOCK == 0:
            return bits
        return 8.5 if bits > 6 else kind.other_bits[1]

    def kv_bytes_per_token(self, layers: int = 1) -> float:
        """K and V (or MLA's latent) of one token in `layers` layers."""
        return self.layer.kv_elements * KV_BYTES * layers

    def kv_tokens(self, tokens: int) -> float:
        """Tokens that a layer keeps of `tokens`, the mean over windowed and full layers."""
        if not self.windowed_layers:
            return float(tokens)
        seen = min(tokens, self.window)
        return (self.windowed_layers * seen + (self.layers - self.windowed_layers) * tokens) / self.layers

    def kv_bytes(self, tokens: int) -> float:
        """K and V of one sequence of `tokens` in one layer, the mean over the model."""
        return self.kv_bytes_per_token() * self.kv_tokens(tokens)

    # -- messages

    def hop_bytes(self, batch: int, activations: str) -> float:
        """What one stage hands to the next for one token of each of `batch` sequences."""
        try:
            return float(batch * self.hidden * ACTIVATION_BYTES[activations])
        except KeyError:
            known = ", ".join(ACTIVATION_BYTES)
            raise PredictError(f"activations {activations!r} is no known format; take one of {known}") from None

    # -- work of one layer, the mean over the model

    def bytes_touched(self, weights: str, batch: int, context: int) -> float:
        """What one decode step of one layer reads: weights (the experts that `batch` tokens choose) and KV cache."""
        return self.weights_touched(weights, batch) + batch * self.kv_bytes(context)

    def weights_touched(self, weights: str, tokens: int) -> float:
        return self._mean(
            shape_touched(self.layer, weights, tokens),
            shape_touched(self.dense_layer, weights, tokens) if self.dense_layer else 0.0,
        )

    def decode_flops(self, batch: int, context: int) -> float:
        """Multiplications and additions of one decode step of one layer."""
        return batch * (2 * self._active_params() + self._attention_flops() * self.kv_tokens(context))

    def prefill_flops(self, batch: int, tokens: int) -> float:
        """The same for a prompt of `tokens`; with a causal mask the mean token sees half of them."""
        seen = self.kv_tokens(tokens) / 2
        return batch * tokens * (2 * self._active_params() + self._attention_flops() * seen)

    def _attention_flops(self) -> float:
        """Scores and weighted values, for each token looked back at."""
        width = self.layer.head_dim + self.layer.rope_head_dim + self.layer.value_dim
        return 2.0 * self.layer.heads * width

    def _active_params(self) -> float:
        return self._mean(self.layer.params_active, self.dense_layer.params_active if self.dense_layer else 0.0)

    def _mean(self, usual: float, dense: float) -> float:
        plain = len(self.dense_ids) if self.dense_layer is not None else 0
        return (usual * (self.layers - plain) + dense * plain) / self.layers


def shape_bytes(shape: LayerShape, weights: str) -> float:
    """Weights of one layer of this shape, all experts."""
    kind = weight_format(weights)
    routed = shape.experts * shape.expert_params
    bits = kind.layer_bits * (shape.params - routed)
    bits += routed * (kind.layer_bits if kind.expert_bits is None else kind.expert_bits)
    mlps = shape.experts + shape.shared_experts if shape.experts else 1
    bits += _fallback_bits(shape, kind) + mlps * _mlp_fallback_bits(shape, kind)
    return bits / BITS_PER_BYTE


def _fallback_bits(shape: LayerShape, kind: WeightFormat) -> float:
    """What attention takes more where rows as long as the hidden state are no multiple of a block."""
    if kind.other_bits is None or shape.hidden % K_BLOCK == 0:
        return 0.0
    return (kind.other_bits[1] - kind.other_bits[0]) * shape.attention_params


def _mlp_fallback_bits(shape: LayerShape, kind: WeightFormat) -> float:
    """The same of one MLP, whose last matrix has rows of its own width."""
    if kind.other_bits is None or kind.down_bits is None:
        return 0.0
    down = shape.hidden * shape.intermediate
    bits = 0.0
    if shape.hidden % K_BLOCK:
        bits += (kind.other_bits[1] - kind.other_bits[0]) * (shape.expert_params - down)
    if shape.intermediate % K_BLOCK:
        bits += (kind.down_bits[1] - kind.down_bits[0]) * down
    return bits


def shape_touched(shape: LayerShape, weights: str, tokens: int) -> float:
    """Weights that `tokens` tokens read in one layer, were routing uniform: E·(1 − (1 − k/E)^tokens) experts."""
    if not shape.experts:
        return shape_bytes(shape, weights)
    idle = shape.experts * (1 - shape.experts_active / shape.experts) ** tokens
    kind = weight_format(weights)
    bits = kind.layer_bits if kind.expert_bits is None else kind.expert_bits
    each = shape.expert_params * bits + _mlp_fallback_bits(shape, kind)
    return shape_bytes(shape, weights) - idle * each / BITS_PER_BYTE
