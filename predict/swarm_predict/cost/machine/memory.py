"""Compute the memory of a stage: weights, KV cache of every sequence in flight, one prompt's activations.

    Σ layers (weights + (KV(tokens) + state) · batch · streams) + prompt · batch · (2·hidden + 2·intermediate) · 2 bytes
    + embedding on the first stage, + LM head on the last, where the engine keeps them there (one copy if tied)

    + what the engine's runtime takes: device context, compute buffers, allocator

The last is an allowance by engine (`RUNTIME_GIB`) for each card, on small devices a share of them: their
buffers are smaller too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.cost.engines import EngineFacts
from swarm_predict.model.kv_cache_formats import check_kv_cache
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.posterior import chosen
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Floats, Ints
from swarm_protocol.units import BYTES_PER_GIB

_SCRATCH_BYTES = 2  # fp16
# A CUDA context is 0.25 to 0.5 GiB; llama.cpp's compute buffers for a batch of 512 are as much again; torch keeps
# workspaces and fragments, vLLM and SGLang their graphs besides; MLX has neither context nor graphs.
RUNTIME_GIB: Final = {
    "llama.cpp": 0.75, "mesh-llm": 0.75, "prima.cpp": 0.75, "distributed-llama": 0.25, "petals": 1.0, "shard": 1.5,
    "exo": 0.5, "exo-0": 0.5, "exo-rdma": 0.5, "exo-tensor": 0.5, "exo-tensor-tcp": 0.5, "mlx": 0.5, "mlx-tensor": 0.5,
    "vllm": 1.5, "vllm-tp": 1.5, "sglang": 1.5, "sglang-tp": 1.5, "parallax": 1.5,
}  # fmt: skip
RUNTIME_USUAL_GIB: Final = 0.75
RUNTIME_SHARE: Final = 0.05  # of a device's memory at most
_ROUNDING = 1e-10  # of sums over all layers


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes, for one model, workload and engine."""

    model: ModelShape
    weights: str
    kv_bytes: float  # caches and state of one layer, all sequences, the mean over the model
    scratch_bytes: float  # once a node; with embedding and head if the engine keeps them on every node
    first_bytes: float  # in addition to the layers, on the first stage
    last_bytes: float
    only_bytes: float  # on a stage that is both
    tokens: int  # in the caches of each sequence
    sequences: int
    runtime_bytes: float = 0.0  # of the engine on each node, limited by the node's size

    def runtime(self, vram_bytes: Floats, cards: Sequence[int] | int = 1) -> Floats:
        """Return what the engine's runtime takes on nodes with this much memory: so much on each of their cards."""
        return np.minimum(self.runtime_bytes * np.asarray(cards), RUNTIME_SHARE * np.nan_to_num(vram_bytes, nan=0.0))

    def stage_bytes(self, first: int, last: int) -> float:
        """Return the bytes of layers `first`..`last` on one node, with embedding and head where they belong."""
        is_first, is_last = first == 0, last == self.model.layers - 1
        ends = self.only_bytes if is_first and is_last else is_first * self.first_bytes + is_last * self.last_bytes
        caches = self.sequences * self.model.stage_cache_bytes(first, last, self.tokens)
        return self.model.stage_bytes(first, last, self.weights) + caches + self.scratch_bytes + ends

    def capacity(self, vram_bytes: Floats, reserved_bytes: float, cards: Sequence[int] | int = 1) -> Ints:
        """Return how many layers fit in any case, wherever in the model they are."""
        widest = self.model.widest_bytes(self.weights, self.tokens, self.sequences)
        room = (
            np.nan_to_num(vram_bytes, nan=0.0) - self.runtime(vram_bytes, cards) - self.scratch_bytes - reserved_bytes
        )
        found = np.searchsorted(widest * (1 - _ROUNDING), room, side="right") - 1
        return np.clip(found, 0, self.model.layers).astype(np.int64)


def needs(model: ModelShape, workload: Workload, engine: EngineFacts) -> Needs:
    check_kv_cache(model, engine.name)
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
        runtime_bytes=0.0 if chosen(workload.priors).neutral else runtime_gib(engine.name) * BYTES_PER_GIB,
    )


def runtime_gib(engine: str) -> float:
    return RUNTIME_GIB.get(engine, RUNTIME_USUAL_GIB)
