"""Choose the points to time, their order, and what fits into memory: arithmetic over shapes, no torch. Pure.

A layer that does not fit the available memory is made narrower (as tensor parallelism would split it: fewer heads,
fewer MLP columns, fewer experts) and its time scaled by the roofline; such a figure is marked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec

from swarm_probe.compute.layers.expert_routing import experts_used
from swarm_probe.compute.timing.convergence import layers_wanted
from swarm_protocol.layer_shape import LayerShape, Timed
from swarm_protocol.messages.probe_messages import ComputeTask
from swarm_protocol.units import BYTES_PER_GIB

INPUTS: Final = 8  # different activations in turn: a router must not choose the same experts for ever
MAX_POINTS: Final = 64
MAX_BATCH: Final = 1024
MAX_TOKENS: Final = 1 << 20
NARROWEST: Final = 64  # a layer is never cut into more pieces: the rest says little of the whole


@dataclass(frozen=True, slots=True)
class Point:
    """`tokens`: in the cache (decode), in the chunk (prefill), none (head, embed)."""

    phase: Timed
    batch: int
    tokens: int

    @property
    def words(self) -> str:
        if self.phase in ("head", "embed"):
            return f"{'LM head' if self.phase == 'head' else 'embedding'} at batch {self.batch}"
        return f"{self.phase} at batch {self.batch} and {self.tokens} tokens"

    @property
    def rows(self) -> int:
        """Return the number of tokens that go through a layer at once."""
        return self.batch * (self.tokens if self.phase == "prefill" else 1)


def points_of(task: ComputeTask) -> list[Point]:
    """Return the points, the most useful first: one stream, its prompt, the rest of the curve, and the ends
    of the model last, so that the layers are built once."""
    decode = [Point("decode", batch, context) for batch in task.batches for context in task.contexts]
    prefill = [Point("prefill", 1, tokens) for tokens in task.prefill_tokens]
    ends = [Point(phase, batch, 0) for phase in ("head", "embed") for batch in task.batches] if task.vocab else []
    legal = [p for p in (*decode, *prefill, *ends) if 1 <= p.batch <= MAX_BATCH and _tokens_are_legal(p)]
    order = {"decode": 0, "prefill": 1, "head": 2, "embed": 3}
    ordered = sorted(dict.fromkeys(legal), key=lambda p: (order[p.phase], p.batch, p.tokens))
    firsts = [next((p for p in ordered if p.phase == phase), None) for phase in ("decode", "prefill")]
    first = [p for p in firsts if p is not None]
    return [*first, *(p for p in ordered if p not in first)][:MAX_POINTS]


def _tokens_are_legal(point: Point) -> bool:
    return point.phase in ("head", "embed") or int(point.phase == "prefill") <= point.tokens <= MAX_TOKENS


@dataclass(frozen=True, slots=True)
class Need:
    """How many distinct layers a point needs, at best and at least."""

    wanted: int  # so that no weight is still cached when it is read again
    fewest: int  # below this the figure would be of the cache, not of the memory
    fit: int
    one_bytes: int  # of one layer at this point, alone


@dataclass(frozen=True, slots=True)
class Room:
    """The memory of a device for layers in one format."""

    limit_bytes: int  # the most that tensors may take
    cache_bytes: int
    itemsize: int  # of an activation
    weight_bytes: float  # of one weight, scales included

    def words(self, need: Need, dtype: str, label: str) -> str:
        room = f"{self.limit_bytes / BYTES_PER_GIB:.2f} may be used (half of what is free)"
        return f"a layer in {dtype} needs {need.one_bytes / BYTES_PER_GIB:.2f} GiB on {label}, {room}"


def needed(shape: LayerShape, point: Point, room: Room) -> Need:
    decode = point.phase == "decode"
    rows, span = point.rows, point.tokens + decode
    layer = int(shape.params * room.weight_bytes) + point.batch * span * shape.kv_elements * room.itemsize
    wide = 4 * shape.hidden + 2 * (shape.heads + shape.kv_heads) * shape.head_dim + 4 * shape.intermediate
    scores = shape.heads * rows * span  # where no fused attention is available
    inputs = INPUTS * rows * shape.hidden
    work = (rows * wide + scores + inputs + 4 * span * shape.head_dim) * max(room.itemsize, 4)
    if room.weight_bytes < room.itemsize:  # one matrix in full while it is being quantised
        work += 4 * shape.hidden * 2 * max(shape.intermediate, shape.heads * shape.head_dim)
    touched = int(_touched(shape, rows) * room.weight_bytes)
    wanted = layers_wanted(touched, room.cache_bytes)
    return Need(wanted, -(-wanted // 2), max(0, room.limit_bytes - work) // layer, layer + work)


def narrowed(shape: LayerShape, pieces: int) -> LayerShape:
    """Return about one of `pieces` of the layer. As many experts stay active, so that a token's work is like the
    whole's."""
    fewer = {"intermediate": _part(shape.intermediate, pieces)}
    if shape.experts:
        experts = max(min(shape.experts, 2 * shape.experts_active), shape.experts // pieces)
        left = max(1, round(pieces * experts / shape.experts))
        fewer = {"experts": experts, "intermediate": _part(shape.intermediate, left)}
    group = shape.heads // shape.kv_heads
    kv_heads = max(1, shape.kv_heads // pieces)
    heads = kv_heads if shape.kv_lora_rank else kv_heads * max(1, group // max(1, pieces // shape.kv_heads))
    return msgspec.structs.replace(shape, heads=heads, kv_heads=kv_heads, **fewer)


def fitting(shape: LayerShape, point: Point, room: Room) -> LayerShape | None:
    """Return the layer itself, or the widest part of it that fits as often as it must; None: no part does."""
    pieces = 1
    while pieces <= NARROWEST:
        part = shape if pieces == 1 else narrowed(shape, pieces)
        need = needed(part, point, room)
        if need.fit >= need.fewest:
            return part
        pieces *= 2
    return None


def work_of(shape: LayerShape, point: Point, room: Room) -> tuple[float, float]:
    """Return (bytes read, operations) of one layer at this point."""
    rows = point.rows
    span = point.tokens if point.phase == "decode" else point.tokens / 2
    weights = _touched(shape, rows)
    cache = point.batch * point.tokens * shape.kv_elements * room.itemsize
    width = shape.head_dim + shape.rope_head_dim + shape.value_dim
    if shape.kv_lora_rank and point.phase == "decode":
        width = 2 * shape.kv_lora_rank + shape.rope_head_dim  # absorbed
    flops = 2.0 * rows * (shape.params_active + shape.heads * width * span)
    return weights * room.weight_bytes + cache, flops


def _touched(shape: LayerShape, rows: int) -> float:
    """Return the weights that so many tokens read."""
    if not shape.experts:
        return float(shape.params)
    return (
        shape.params - (shape.experts - experts_used(shape.experts, shape.experts_active, rows)) * shape.expert_params
    )


def scale(shape: LayerShape, part: LayerShape, point: Point, room: Room, gbps: float, tflops: float) -> float:
    """Return how much longer the whole layer takes than its part, by the roofline of this device."""
    whole_s, part_s = (_least_s(work_of(each, point, room), gbps, tflops) for each in (shape, part))
    return max(1.0, whole_s / part_s)


def _least_s(work: tuple[float, float], gbps: float, tflops: float) -> float:
    return max(work[0] / (gbps * 1e9), work[1] / (tflops * 1e12))


def _part(size: int, pieces: int) -> int:
    """Return a part in steps of 128, which every kernel supports well."""
    return max(min(size, 128), math.ceil(size / pieces / 128) * 128) if pieces > 1 else size
