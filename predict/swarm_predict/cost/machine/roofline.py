"""Compute the least time of a piece of work: its bytes over the memory bandwidth, its operations over the matrix rate.

Williams et al., "Roofline", CACM 52(4), 2009. No efficiency factor is hidden here: the result is a best case, and
callers say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swarm_predict.model.shapes import ModelShape
from swarm_protocol.layer_shape import Phase
from swarm_protocol.snapshot.swarm import Floats


@dataclass(frozen=True, slots=True)
class Work:
    """The bytes that one layer (or the head) reads and the operations it computes in one step."""

    size_bytes: float
    flops: float


def least_ms(work: Work, mem_gbps: Floats | float, tflops: Floats | float, phase: Phase) -> Floats:
    """Return the time; infinite if the deciding rate is unknown: bandwidth for a decode step, operations for a
    prompt."""
    reading = work.size_bytes / (np.asarray(mem_gbps, np.float64) * 1e6)
    working = work.flops / (np.asarray(tflops, np.float64) * 1e9)
    least = np.fmax(reading, working)
    decides = reading if phase == "decode" else working
    return np.where(np.isnan(decides), np.inf, least)


class LayerWork:
    """The work of one layer of `model`, the mean over its layers, cached by (weights, batch, tokens)."""

    def __init__(self, model: ModelShape, phase: Phase) -> None:
        self.model = model
        self.phase: Phase = phase
        self._known: dict[tuple[str, int, int], Work] = {}

    def __call__(self, weights: str, batch: int, tokens: int) -> Work:
        key = (weights, batch, tokens)
        if key not in self._known:
            self._known[key] = self._count(*key)
        return self._known[key]

    def _count(self, weights: str, batch: int, tokens: int) -> Work:
        model = self.model
        if self.phase == "decode":
            return Work(model.bytes_touched(weights, batch, tokens), model.decode_flops(batch, tokens))
        size_bytes = model.weights_touched(weights, batch * tokens) + batch * model.kv_bytes(tokens)
        return Work(size_bytes, model.prefill_flops(batch, tokens))


def head_work(model: ModelShape, weights: str, sequences: int) -> Work:
    """Return the work of the LM head for one token of each of `sequences`."""
    return Work(model.head_bytes(weights), 2.0 * sequences * model.vocab * model.hidden)
