"""Compute the size of a model: bytes of weights, KV cache and activations, and the work of one step, from its shape.

`catalogue` has the built-in models, `hf_config` reads a Hugging Face config.json; both make a ModelShape.
How fast a machine moves these bytes is up to `roofline` and `layer_times`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from swarm_predict.errors import PredictError
from swarm_predict.model.blocks import SMALL_BYTES, Block, block_of
from swarm_predict.model.kv_cache import CACHE_BYTES, bytes_per_token
from swarm_predict.model.weight_formats import K_BLOCK, WeightFormat, weight_format
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.snapshot.lazy_numpy import np
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import BITS_PER_BYTE

ACTIVATION_BYTES: Final[dict[str, int]] = {"fp32": 4, "fp16": 2, "int8": 1}
MAX_SUMS: Final = 64  # (format or length) → bytes of the first n layers, remembered for one model


@dataclass(frozen=True)
class ModelShape:
    """One decoder-only model. Layers are alike except those in `dense_ids` (a plain MLP among MoE layers), or as
    `blocks` says where they differ in more than that."""

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
    blocks: tuple[Block, ...] = ()  # of every layer; empty: made of the fields above
    extra_params: int = 0  # beside layers, embedding and head (positions), on the first stage
    weights: str = ""  # the format that the checkpoint itself is in; empty: it does not say
    hidden_size: int = 0  # where it is not the layer's (a stand-in is timed)
    end_bytes: tuple[float, float] | None = None  # embedding and head as a file holds them
    notes: tuple[str, ...] = ()  # what was assumed of it, for those who read a prediction
    kv_cache: str = "f16"  # the format that `blocks` are sized for (`kv_cache_formats`)
    width: float = 0.0  # of what a step hands on, in hidden states; 0: one (hyper-connections carry more)

    @property
    def hidden(self) -> int:
        return self.hidden_size or self.layer.hidden

    @property
    def heads(self) -> int:
        return self.layer.heads

    @property
    def kv_heads(self) -> int:
        return self.layer.kv_heads

    @property
    def params(self) -> int:
        """Return all elements of the text model: layers, embedding and head."""
        ends = self.vocab * self.hidden * (1 if self.tied else 2)
        return sum(block.params * count for block, count in self.kinds.items()) + ends + self.extra_params

    def shape_of(self, index: int) -> LayerShape:
        return self.dense_layer if self.dense_layer is not None and index in self.dense_ids else self.layer

    @cached_property
    def all_blocks(self) -> tuple[Block, ...]:
        """Return the block of every layer, in order; equal ones are the same object."""
        if self.blocks:
            return self.blocks
        known: dict[tuple[LayerShape, int], Block] = {}
        full = self.layers - self.windowed_layers
        found = []
        for i in range(self.layers):
            sees_all = (i + 1) * full // self.layers > i * full // self.layers
            key = (self.shape_of(i), 0 if sees_all else self.window)
            found.append(known.setdefault(key, block_of(*key)))
        return tuple(found)

    @cached_property
    def kinds(self) -> dict[Block, int]:
        """Return each kind of layer, and how many there are of it."""
        return dict(Counter(self.all_blocks))

    @cached_property
    def timed_as_is(self) -> bool:
        """Return whether `layer` is a layer of the model; else it stands in for layers that cannot be timed."""
        return any(block.layer == self.layer for block in self.kinds)

    # -- memory

    def layer_bytes(self, weights: str) -> float:
        """Return the weights of one layer, all experts, the mean over the model."""
        return self._mean(lambda block: block_bytes(block, weights))

    def stage_bytes(self, first: int, last: int, weights: str) -> float:
        """Return the weights of layers `first`..`last`, inclusive."""
        sizes = self._sums("weights", weights)
        return float(sizes[last + 1] - sizes[first])

    def stage_cache_bytes(self, first: int, last: int, tokens: int) -> float:
        """Return the caches of one sequence of `tokens` in layers `first`..`last`, with the state that does not
        grow."""
        sizes = self._sums("caches", tokens)
        return float(sizes[last + 1] - sizes[first])

    def widest_bytes(self, weights: str, tokens: int, sequences: int) -> Floats:
        """Return what n layers in a row need at most, for n = 0 .. `layers`: weights, and caches of so many
        sequences."""
        sizes = self._sums("weights", weights) + sequences * self._sums("caches", tokens)
        if len(self.kinds) == 1:
            return sizes
        return np.array([(sizes[n:] - sizes[: len(sizes) - n]).max() for n in range(len(sizes))])

    def _sums(self, what: Literal["weights", "caches"], key: str | int) -> Floats:
        """Return the bytes of the first n layers, for n = 0 .. `layers`."""
        known: dict[tuple[str, str | int], Floats] = self._known_sums
        if (what, key) not in known:
            if len(known) > MAX_SUMS:
                known.clear()
            if what == "weights":
                sizes = {block: block_bytes(block, str(key)) for block in self.kinds}
            else:
                sizes = {block: block.kept_bytes(int(key)) + block.state_bytes for block in self.kinds}
            each = np.array([sizes[block] for block in self.all_blocks])
            known[what, key] = np.concatenate(([0.0], np.cumsum(each)))
        return known[what, key]

    @cached_property
    def _known_sums(self) -> dict[tuple[str, str | int], Floats]:
        return {}

    def head_bytes(self, weights: str) -> float:
        """Return the bytes of the LM head, which every step reads whole."""
        if self.end_bytes is not None and weights == self.weights:
            return self.end_bytes[1]
        return self.vocab * self.hidden * self._end_bits(weights, weight_format(weights).head_bits) / BITS_PER_BYTE

    def embedding_bytes(self, weights: str) -> float:
        """Return the bytes of the embedding, of which a step reads a row; tied models need it where the head is not."""
        if self.end_bytes is not None and weights == self.weights:
            return self.end_bytes[0]
        elements = self.vocab * self.hidden + self.extra_params
        return elements * self._end_bits(weights, weight_format(weights).embedding_bits) / BITS_PER_BYTE

    def _end_bits(self, weights: str, bits: float) -> float:
        """Return the bits of embedding and head, whose rows are as long as the hidden state."""
        kind = weight_format(weights)
        if kind.other_bits is None or self.hidden % K_BLOCK == 0:
            return bits
        return 8.5 if bits > 6 else kind.other_bits[1]

    def kv_bytes_per_token(self, layers: int = 1) -> float:
        """Return what one token of context adds in `layers` layers: K and V (or MLA's latent), the mean over the
        model."""
        return layers * self._mean(lambda block: bytes_per_token(block.caches))

    def kv_tokens(self, tokens: int) -> float:
        """Return the tokens that a layer looks back at, of `tokens`, the mean over the model, in entries of the timed
        layer."""
        return self._mean(lambda block: block.read_bytes(tokens)) / (CACHE_BYTES * self.layer.kv_elements)

    def kv_bytes(self, tokens: int) -> float:
        """Return the caches of one sequence of `tokens` in one layer, the mean over the model."""
        return self._mean(lambda block: block.kept_bytes(tokens))

    def state_bytes(self) -> float:
        """Return the state of one sequence that does not grow with its length, in one layer, the mean over the
        model."""
        return self._mean(lambda block: block.state_bytes)

    # -- messages

    def hop_bytes(self, batch: int, activations: str) -> float:
        """Return what one stage sends to the next for one token of each of `batch` sequences."""
        try:
            return float(batch * self.hidden * (self.width or 1.0) * ACTIVATION_BYTES[activations])
        except KeyError:
            known = ", ".join(ACTIVATION_BYTES)
            raise PredictError(f"activations {activations!r} is not a known format; choose one of {known}") from None

    # -- work of one layer, the mean over the model

    def bytes_touched(self, weights: str, batch: int, context: int) -> float:
        """Return what one decode step of one layer reads: weights (the experts that `batch` tokens choose) and KV
        cache."""
        return self.weights_touched(weights, batch) + batch * self._mean(lambda block: block.read_bytes(context))

    def weights_touched(self, weights: str, tokens: int) -> float:
        return self._mean(lambda block: block_touched(block, weights, tokens))

    def decode_flops(self, batch: int, context: int) -> float:
        """Return the multiplications and additions of one decode step of one layer."""
        return batch * self._mean(lambda block: 2 * block.params_active + block.lookback_flops(context))

    def prefill_flops(self, batch: int, tokens: int) -> float:
        """Return the same for a prompt of `tokens`; with a causal mask the mean token sees half of them."""
        each = self._mean(lambda block: 2 * block.params_active + block.lookback_flops(tokens) / 2)
        return batch * tokens * each

    def _mean(self, of: Callable[[Block], float]) -> float:
        return sum(of(block) * count for block, count in self.kinds.items()) / self.layers


def block_bytes(block: Block, weights: str) -> float:
    """Return the weights of one layer, all experts."""
    kind = weight_format(weights)
    if block.own_format == weights:
        return block.own_bytes
    if block.layer is not None:
        return shape_bytes(block.layer, weights) + block.small * SMALL_BYTES
    beside = _beside_experts_bits(kind) if block.experts else kind.layer_bits
    bits = beside * block.matrices + _expert_bits(kind) * block.experts * block.expert_matrices
    return bits / BITS_PER_BYTE + block.small * SMALL_BYTES


def block_touched(block: Block, weights: str, tokens: int) -> float:
    """Return the weights that `tokens` tokens read in one layer."""
    if not block.experts:
        return block_bytes(block, weights)
    asleep = block.experts - block.awake(tokens)
    if block.own_format == weights:
        return block.own_bytes - asleep * block.own_expert_bytes
    bits = _expert_bits(weight_format(weights))
    return block_bytes(block, weights) - asleep * block.expert_matrices * bits / BITS_PER_BYTE


def _expert_bits(kind: WeightFormat) -> float:
    return kind.layer_bits if kind.expert_bits is None else kind.expert_bits


def _beside_experts_bits(kind: WeightFormat) -> float:
    return kind.layer_bits if kind.beside_experts_bits is None else kind.beside_experts_bits


def shape_bytes(shape: LayerShape, weights: str) -> float:
    """Return the weights of one layer of this shape, all experts."""
    kind = weight_format(weights)
    routed = shape.experts * shape.expert_params
    beside = _beside_experts_bits(kind) if shape.experts else kind.layer_bits
    bits = beside * (shape.params - routed) + routed * _expert_bits(kind)
    if shape.experts and kind.beside_experts_bits is not None:
        bits += shape.experts * _mlp_fallback_bits(shape, kind)
    else:
        mlps = shape.experts + shape.shared_experts if shape.experts else 1
        bits += _fallback_bits(shape, kind) + mlps * _mlp_fallback_bits(shape, kind)
    return bits / BITS_PER_BYTE


def _fallback_bits(shape: LayerShape, kind: WeightFormat) -> float:
    """Return what attention takes more where rows as long as the hidden state are no multiple of a block."""
    if kind.other_bits is None or shape.hidden % K_BLOCK == 0:
        return 0.0
    return (kind.other_bits[1] - kind.other_bits[0]) * shape.attention_params


def _mlp_fallback_bits(shape: LayerShape, kind: WeightFormat) -> float:
    """Return the same of one MLP, whose last matrix has rows of its own width."""
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
    """Return the weights that `tokens` tokens read in one layer with uniform routing: E·(1 − (1 − k/E)^tokens)
    experts."""
    if not shape.experts:
        return shape_bytes(shape, weights)
    idle = shape.experts * (1 - shape.experts_active / shape.experts) ** tokens
    kind = weight_format(weights)
    each = shape.expert_params * _expert_bits(kind) + _mlp_fallback_bits(shape, kind)
    return shape_bytes(shape, weights) - idle * each / BITS_PER_BYTE
