"""Make a model of an unknown family from the figures of a swarm file's `[model]` table."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from swarm_predict.errors import UnknownModel
from swarm_predict.model.blocks import Block
from swarm_predict.model.kv_cache import CACHE_BYTES, Cache
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import canonical, weight_format
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.swarm_files.swarm_file import ModelTable
from swarm_protocol.units import BITS_PER_BYTE

_HEAD_DIM = 128


def from_table(table: ModelTable) -> ModelShape:
    """Raises UnknownModel for figures that contradict each other, PredictError for a format that is none."""
    weights = canonical(table.weights)
    sizes = table.layer_bytes if isinstance(table.layer_bytes, Sequence) else (table.layer_bytes,) * table.layers
    if len(sizes) != table.layers:
        raise UnknownModel(f"[model] has layer_bytes for {len(sizes)} layers, and layers = {table.layers}")
    routed = table.experts * table.expert_bytes
    if table.experts and not (0 < table.experts_active <= table.experts and 0 < routed <= min(sizes)):
        raise UnknownModel(
            "[model]: experts need experts_active (at most experts) and expert_bytes (of one; all within layer_bytes)"
        )
    bits = weight_format(weights).layer_bits
    elements = table.kv_bytes_per_token / table.layers / CACHE_BYTES
    cache = Cache(elements, window=table.window, flops=4.0 * table.hidden)
    known = {size: _block(table, size, bits, cache, weights) for size in set(sizes)}
    usual = max(set(sizes), key=list(sizes).count)
    return ModelShape(
        name=table.name,
        layers=table.layers,
        layer=_stand_in(table, usual / bits * BITS_PER_BYTE, elements),
        vocab=table.vocab,
        tied=table.tied,
        window=table.window,
        windowed_layers=table.layers if table.window else 0,
        source="[model] of the swarm file",
        blocks=tuple(known[size] for size in sizes),
        weights=weights,
        hidden_size=table.hidden,
    )


def _block(table: ModelTable, size: float, bits: float, cache: Cache, weights: str) -> Block:
    per_byte = BITS_PER_BYTE / bits
    plain = Block(
        matrices=round((size - table.experts * table.expert_bytes) * per_byte),
        caches=(cache,),
        state_bytes=table.state_bytes / table.layers,
        own_format=weights,
        own_bytes=size,
    )
    if not table.experts:
        return plain
    return msgspec.structs.replace(
        plain,
        experts=table.experts,
        experts_active=table.experts_active,
        expert_matrices=round(table.expert_bytes * per_byte),
        own_expert_bytes=table.expert_bytes,
    )


def _stand_in(table: ModelTable, params: float, kv_elements: float) -> LayerShape:
    """Return the layer that a probe times: plain attention with about that cache, and an MLP that makes up for the
    rest."""
    heads = max(1, table.hidden // _HEAD_DIM)
    wanted = max(1, round(kv_elements / 2 / _HEAD_DIM))
    kv_heads = max(count for count in range(1, heads + 1) if heads % count == 0 and count <= max(1, min(wanted, heads)))
    attention = table.hidden * _HEAD_DIM * 2 * (heads + kv_heads)
    width = max(1, round((params - attention) / (3 * table.hidden)))
    return LayerShape(
        architecture="llama", hidden=table.hidden, intermediate=min(width, 10_000_000), heads=heads, kv_heads=kv_heads,
        head_dim=_HEAD_DIM,
    )  # fmt: skip
