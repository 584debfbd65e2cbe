"""What a stage takes of a node's memory: weights, KV cache of every sequence in flight, one prompt's activations.

    Σ layers (weights + (KV(tokens) + state) · batch · streams) + prompt · batch · (2·hidden + 2·intermediate) · 2 bytes
    + embedding on the first stage, + LM head on the last, where the engine keeps them there (one copy if tied)

No allowance is made for a runtime (CUDA context, allocator): `vram_bytes` is the memory that layers may take.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swarm_predict.cost.engines import EngineFacts
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Floats, Ints

_SCRATCH_BYTES = 2  # fp16
_ROUNDING = 1e-10  # of sums over all layers


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes, for one model, workload and engine."""

    model: ModelShape
    weights: str
    kv_bytes: float  # caches and state of one layer, all sequences, the mean over the model
    scratch_bytes: float  # once a node; with embedding and head where the engine keeps them on every node
    first_bytes: float  # beside the layers, on the first stage
    last_bytes: float
    only_bytes: float  # on a stage that is both
    tokens: int  # in the caches of each sequence
    sequences: int

    def stage_bytes(self, first: int, last: int) -> float:
        """What layers `first`..`last` take on one node, with embedding and head where they belong."""
        is_first, is_last = first == 0, last == self.model.layers - 1
        ends = self.only_bytes if is_first and is_last else is_first * self.first_bytes + is_last * self.last_bytes
        caches = self.sequences * self.model.stage_cache_bytes(first, last, self.tokens)
        return self.model.stage_bytes(first, last, self.weights) + caches + self.scratch_bytes + ends

    def capacity(self, vram_bytes: Floats, beside_bytes: float) -> Ints:
        """Layers that surely fit: wherever in the model so many in a row lie."""
        widest = self.model.widest_bytes(self.weights, self.tokens, self.sequences)
        room = np.nan_to_num(vram_bytes, nan=0.0) - self.scratch_bytes - beside_bytes
        found = np.searchsorted(widest * (1 - _ROUNDING), room, side="right") - 1
        return np.clip(found, 0, self.model.layers).astype(np.int64)


def needs(model: ModelShape, workload: Workload, engine: EngineFacts) -> Needs:
    tokens = max(workload.context, workload.prompt)
    layer = model.layer
    embedding = model.embedding_bytes(workload.weights) if engine.embedding == "first" else 0.0
    head = model.head_bytes(workload.weights)
    at_last = head if engine.head == "last" else 0.0
    at_first = head if engine.head == "first" else 0.0
    first = max(embedding, at_first) if model.tied and at_first else embedding + at_first
    only = max(first, at_last) if model.tied and embedding and at_last else first + at_last
    everywhere = 0.0
    if engine.ends_everywhere:
        everywhere = max(embedding, head) if model.tied else embedding + head
        first = only = at_last = 0.0
    prompt = max(1, min(tokens, workload.prompt))
    scratch = prompt * workload.batch * 2 * (model.hidden + layer.intermediate) * _SCRATCH_BYTES
    sequences = workload.batch * workload.streams
    return Needs(
        model=model,
        weights=workload.weights,
        kv_bytes=(model.kv_bytes(tokens) + model.state_bytes()) * sequences,
        scratch_bytes=float(scratch) + everywhere,
        first_bytes=first,
        last_bytes=at_last,
        only_bytes=only,
        tokens=tokens,
        sequences=sequences,
    )
