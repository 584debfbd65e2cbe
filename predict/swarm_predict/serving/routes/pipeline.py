"""Compute passes through a pipeline, from the same cost tables that predict one stream.

All times are medians of the tables, so that with one sequence a pass takes what `CostTables.price` says. The decoding
of a pass and the prompt chunk in it are computed one after the other, each reading the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from swarm_predict.cost.build import build_costs, prompt_columns, step_columns
from swarm_predict.cost.speculative import step_yield
from swarm_predict.forecast.draws import Trip
from swarm_predict.forecast.forward_pass.first_token import no_faster_than
from swarm_predict.forecast.forward_pass.pipeline import Pipeline
from swarm_predict.model.shapes import ModelShape
from swarm_predict.serving.routes.kv_cache_capacity import Room, union_bytes
from swarm_predict.serving.routes.route import Station
from swarm_predict.types import NotMeasured, Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm
from swarm_protocol.units import BITS_PER_BYTE

Wire = Literal["uplink", "downlink"]
LARGE_BYTES: Final = 1 << 20  # a message of that size sees the mean rate of its connection


class PipelinePasses:
    """One placement under one load: `batch` of it is how many sequences a pass decodes."""

    def __init__(self, swarm: Swarm, model: ModelShape, placement: Placement, load: Workload) -> None:
        self.swarm, self.model, self.placement, self.load = swarm, model, placement, load
        self.one = self._run(1)
        self.one.require_known()
        self.yields = step_yield(load)  # tables are per token
        tables, names = self.one.costs.tables, self.one.names
        stations = [Station(stage.node, "machine") for stage in placement]
        if tables.client is not None and tables.client_head_ms + load.client_ms:
            stations.append(Station(names[tables.client], "machine"))
        self._machines = len(stations)
        self.stations = (*stations, *_wires(self.one, self.one.trips))
        self._known: dict[int, Floats] = {}
        self._lossy_ms = self.one.costs.links.lossy_window_ms(LARGE_BYTES)
        in_way = np.array([station.in_way for station in self.stations])
        way_ms = tables.price(list(range(len(placement))), [stage.layers for stage in placement]) * self.yields
        self.between_ms = max(0.0, way_ms - float(self.decode_ms(1)[in_way].sum()))
        self.notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Return how many micro-batches compute at once: one a stage."""
        return len(self.placement)

    def _run(self, size: int) -> Pipeline:
        load = replace(self.load, batch=size)
        costs = build_costs(self.swarm, self.model, load, [self.swarm.index(stage.node) for stage in self.placement])
        return Pipeline(self.swarm, self.model, self.placement, load, costs)

    def rooms(self, tokens: float) -> list[Room]:
        empty, found = replace(self.one.costs.needs, sequences=0), []
        for k, stage in enumerate(self.placement):
            held = empty.stage_bytes(stage.first, stage.last) + float(self.one.runtime_bytes[k])
            each = self.model.stage_cache_bytes(stage.first, stage.last, math.ceil(tokens))
            has = float(self.one.room_bytes[k])
            found.append(Room(stage.node, f"{stage.first}-{stage.last}", has, held, each))
        return found

    def held_bytes(self, stages: Sequence[Stage], k: int) -> float:
        """Return what stages of several routes take on the machine of stage k, without caches."""
        return union_bytes(self.one.costs.needs, stages) + float(self.one.runtime_bytes[k])

    def decode_ms(self, size: int) -> Floats:
        """Return (stations,) of a decoding pass of so many sequences."""
        if size not in self._known:
            self._known[size] = self._decode_ms(self.one if size == 1 else self._run(size), size)
        return self._known[size]

    def _decode_ms(self, run: Pipeline, size: int) -> Floats:
        tables, count = run.costs.tables, len(run.placement)
        layers = run.layers * tables.layer_ms[:count] * self.yields
        if self.load.offload_cache:  # read while layers compute
            needs, gbps = run.costs.needs, run.workload.offload_gbps
            bytes_read = [needs.model.stage_cache_bytes(s.first, s.last, run.workload.context) for s in run.placement]
            layers = np.maximum(layers, size * np.array(bytes_read) / (gbps * 1e6))
        machines = (layers + tables.overhead_ms[:count] * self.yields).tolist()
        machines[-1] += float(tables.head_ms[count - 1]) * self.yields
        if run.engine.head != "last" and tables.client is None:
            machines[0] += float(run.costs.layer.head_ms[0]) * run.workload.compute_scale
        at_client = tables.client_head_ms * self.yields  # with the drafting
        if self._machines > count:
            machines.append(at_client)
        else:
            machines[0] += at_client
        return self._filled(machines, self._wire_ms(run, run.trips))

    def part_ms(self, length: float, passes: float) -> Floats:
        """Return (stations,) of one part of a prompt. Raises NotMeasured if no prefill time is known."""
        run, load, count = self.one, self.load, len(self.placement)
        prompt = max(1, round(length))
        cached = min(load.cached_prompt, prompt - 1)
        each = max(1, round((prompt - cached) / passes))
        asked = replace(load, prompt=prompt, cached_prompt=cached)
        whole = prompt_columns(run.swarm, run.costs.rows, run.model, asked)
        step = run.costs.layer
        if load.draft_tokens:
            step = step_columns(run.swarm, run.costs.rows, run.model, load, 1)
        layer = no_faster_than(run, step, replace(whole, ms=whole.ms / passes))
        slow = [run.names[i] for i in range(count) if not np.isfinite(layer.ms[i])]
        if slow:
            raise NotMeasured(f"no prefill time and no tflops of {slow[0]} are known; measure it or write tflops")
        ms = run.layers * layer.ms[:count] * load.compute_scale + run.overhead_ms
        return self._filled([*ms, *[0.0] * (self._machines - count)], self._wire_ms(run, run.prompt_trips(1, each)))

    def _wire_ms(self, run: Pipeline, trips: Sequence[Trip]) -> dict[tuple[str, str], float]:
        """Return how long a pass keeps each wire: the bits at its rate, and at the slower end at the rate that losses
        leave its connection, where they keep TCP's window small: messages behind wait for it."""
        busy: dict[tuple[str, str], float] = {}
        for trip in trips:
            up, down = _rates(run, trip)
            for end, kind, rate in ((trip.src, "uplink", up), (trip.dst, "downlink", down)):
                if math.isfinite(rate):
                    key = (run.names[end], kind)
                    busy[key] = busy.get(key, 0.0) + trip.size_bytes * BITS_PER_BYTE / (rate * 1e3)
            if math.isfinite(min(up, down)):
                key = (run.names[trip.src], "uplink") if up <= down else (run.names[trip.dst], "downlink")
                busy[key] += trip.size_bytes / LARGE_BYTES * float(self._lossy_ms[trip.src, trip.dst])
        return busy

    def _filled(self, machine_ms: Sequence[float], wires: dict[tuple[str, str], float]) -> Floats:
        """Return (stations,): machines in their order, then wires by name."""
        rest = [wires.get((station.node, station.kind), 0.0) for station in self.stations[self._machines :]]
        return np.array([*machine_ms, *rest])


def _wires(run: Pipeline, trips: Sequence[Trip]) -> list[Station]:
    """Return each end with a known rate, and whether messages wait for it."""
    found: dict[tuple[str, Wire], bool] = {}
    for trip in trips:
        up, down = _rates(run, trip)
        slower: Wire = "uplink" if up <= down else "downlink"
        ends: tuple[tuple[int, Wire, float], ...] = ((trip.src, "uplink", up), (trip.dst, "downlink", down))
        for end, kind, rate in ends:
            if math.isfinite(rate):
                key = (run.names[end], kind)
                found[key] = found.get(key, False) or kind == slower
    return [Station(node, kind, in_way) for (node, kind), in_way in found.items()]


def _rates(run: Pipeline, trip: Trip) -> tuple[float, float]:
    nodes, rows = run.swarm.nodes, run.costs.rows
    up, down = float(nodes["up_mbps"][rows[trip.src]]), float(nodes["down_mbps"][rows[trip.dst]])
    return (math.inf if math.isnan(up) else up), (math.inf if math.isnan(down) else down)
