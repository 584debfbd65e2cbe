"""Suggest what helps most at little or no cost: settings, a better place for the client, a wired line, a batch.

`sensitivity` says what more upload, less distance or more memory at one node would give; here are changes that people
can make themselves. Each is priced alone, by the tables that predict, on the same placement; where TCP's window falls
back between two tokens, messages that exceed it are priced with their second round trip, before and after.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.advice.format_comparison import named_format
from swarm_predict.advice.nodes.impact import mean_tables
from swarm_predict.advice.sensitivity import Gain
from swarm_predict.cost.build import build_costs, client_row
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.network.lost_packets import RTO_MIN_MS
from swarm_predict.cost.network.window_after_idle import INITIAL_WINDOW_BYTES
from swarm_predict.cost.speculative import step_width
from swarm_predict.cost.tables import CostTables
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, PredictError, Prediction, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm, Tcp

WIRED_JITTER_MS: Final = 1.0  # what is left of delay variation on a cable
BATCHES: Final = (2, 4, 8, 16, 32)  # times the present one
_FEW_DRAWS: Final = 100


@dataclass(frozen=True, slots=True)
class BatchGain:
    """Another batch size: what it gives in total, and what each stream pays for it."""

    batch: int
    total_tokens_per_s: float
    tokens_per_s: float  # of one stream


def cheap_gains(
    swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, found: Prediction
) -> tuple[Gain, ...]:
    """Return the changes that save time, largest first; empty for engines without stages."""
    if engine_facts(workload).pattern == "all-reduce" or workload.offload_gbps:
        return ()
    desk = _Desk(swarm, model, placement, workload, found)
    gains = [gain for gain in desk.all() if gain.gain_ms > 0]
    return tuple(sorted(gains, key=lambda gain: (-gain.gain_ms, gain.node or "", gain.change)))


def better_batch(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> BatchGain | None:
    """The batch of most tokens in total that fits; None if a larger one gives nothing."""
    few = dataclasses.replace(workload, draws=_FEW_DRAWS)
    try:
        now = predict(swarm, model, placement, few)
    except PredictError:
        return None
    best: BatchGain | None = None
    for times in BATCHES:
        batch = workload.batch * times
        try:
            then = predict(swarm, model, placement, dataclasses.replace(few, batch=batch))
        except PredictError:
            break
        least = now.throughput_tokens_per_s if best is None else best.total_tokens_per_s
        if not then.fits or then.throughput_tokens_per_s < 1.1 * least:
            break
        best = BatchGain(batch, then.throughput_tokens_per_s, then.tokens_per_s.p50)
    return best


class _Desk:
    def __init__(
        self, swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, found: Prediction
    ) -> None:
        self.swarm, self.model, self.found = swarm, model, found
        self.placement = tuple(sorted(placement, key=lambda stage: stage.first))
        self.rows = [swarm.index(stage.node) for stage in self.placement]
        self.layers = [stage.layers for stage in self.placement]
        # the window falls back where a connection idles for longer than a retransmission timeout
        self.idles = found.tpot_ms.p50 > RTO_MIN_MS
        self.workload = workload
        self.base_ms = self._price(workload)

    def all(self) -> Iterator[Gain]:
        yield from self._settings()
        yield from self._client()
        yield from self._wired()

    def _gain(self, node: str | None, change: str, saved_ms: float) -> Gain:
        saved = saved_ms if np.isfinite(saved_ms) and saved_ms > 1e-6 else 0.0
        return Gain(node, change, saved, 1e3 / max(self.found.tpot_ms.p50 - saved, 1e-9))

    def _tables(self, workload: Workload) -> CostTables:
        return build_costs(self.swarm, self.model, workload, self.rows).tables

    def _price(self, workload: Workload) -> float:
        try:
            return self._tables(workload).price(list(range(len(self.rows))), self.layers)
        except PredictError:
            return float("nan")

    def _settings(self) -> Iterator[Gain]:
        work, engine = self.workload, engine_facts(self.workload)
        size = engine.hop_bytes(self.model, step_width(work), work.activations)
        shrinks = np.isin(self.swarm.nodes["tcp"][self.rows], (Tcp.UNKNOWN, Tcp.SHRINKS))
        restarts = self.idles and size > INITIAL_WINDOW_BYTES and bool(np.any(shrinks))
        full = dataclasses.replace(work, slow_start=work.slow_start or restarts)
        before = self._price(full)
        if restarts:
            steady = self._price(dataclasses.replace(work, slow_start=False))
            yield self._gain(None, "tcp_slow_start_after_idle=0, where it is 1", before - steady)
        if work.activations != "int8" and engine.activation_bytes is None:
            small = dataclasses.replace(full, activations="int8")
            fits = engine.hop_bytes(self.model, step_width(work), "int8") <= INITIAL_WINDOW_BYTES < size
            words = "int8 activations, which fit the first window" if fits else "int8 activations"
            yield self._gain(None, words, before - self._price(small))
        if work.weights in ("fp32", "fp16", "bf16"):
            # a layer time of no format was measured with the present one
            lighter = build_costs(
                named_format(self.swarm, work.weights), self.model, dataclasses.replace(work, weights="int8"), self.rows
            )
            then = lighter.tables.price(list(range(len(self.rows))), self.layers)
            yield self._gain(None, "int8 weights", self.base_ms - then)

    def _client(self) -> Iterator[Gain]:
        """The best place for whoever drives the loop, if it is one of the swarm's machines."""
        here = client_row(self.swarm, self.workload)
        if not engine_facts(self.workload).client_in_loop:
            return
        best: tuple[float, str] | None = None
        for row, facts in enumerate(self.swarm.facts):
            if row != here:
                price = self._price(dataclasses.replace(self.workload, client=facts.name))
                if np.isfinite(price) and (best is None or price < best[0]):
                    best = price, facts.name
        if best is not None and here is not None:
            yield self._gain(best[1], "the client runs here", self.base_ms - best[0])

    def _wired(self) -> Iterator[Gain]:
        """Assume a wired line for a node whose packets are late now and then, as over Wi-Fi: its paths without what
        they take above the idle path, in the mean."""
        tables, parts = mean_tables(self.swarm, self.model, self.workload)
        order = list(self.rows)
        base = tables.price(order, self.layers)
        for row in dict.fromkeys([*order, *([] if tables.client is None else [tables.client])]):
            late = np.zeros_like(parts.jitter_ms)
            late[row, :], late[:, row] = parts.jitter_ms[row, :], parts.jitter_ms[:, row]
            late = np.clip(np.nan_to_num(late) - WIRED_JITTER_MS / 2, 0.0, None)
            late[row, row] = 0.0
            client = tables.client
            without = dataclasses.replace(
                tables,
                hop_ms=_less(tables.hop_ms, late),
                back_ms=_less(tables.back_ms, late),
                enter_ms=tables.enter_ms if client is None else _less(tables.enter_ms, late[client]),
                leave_ms=tables.leave_ms if client is None else _less(tables.leave_ms, late[:, client]),
                final_ms=tables.final_ms if client is None else _less(tables.final_ms, late[:, client]),
            )
            saved = base - without.price(order, self.layers)
            yield self._gain(self.swarm.facts[row].name, "a steady (wired) connection", saved)


def _less(values: Floats, late: Floats) -> Floats:
    """What is not known stays infinite."""
    return np.where(np.isfinite(values), np.maximum(values - late, 0.0), values)
