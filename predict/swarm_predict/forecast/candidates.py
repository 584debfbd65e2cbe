"""Draw the time per token of many placements at once, to rank candidates.

The same model as `prediction` (tests compare the two), without first tokens, memory and notes: tables are made once for
all nodes, and the messages and layers of a few hundred candidates are drawn together. Stars (whose messages share a
queue), compared copies, offloading, windows in flight and all-reduces are predicted one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.cost.build import Costs, build_costs, check
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.layer_times import by_hand
from swarm_predict.cost.software_overhead import software_assumed, visits_ms
from swarm_predict.cost.speculative import step_width, step_yield
from swarm_predict.forecast.assembly import NOT_KNOWN, per_token
from swarm_predict.forecast.draws import Trip, draw_trips
from swarm_predict.forecast.forward_pass.pipeline import trips_of
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import check_placement
from swarm_predict.priors.assumed_figures import Sample, to_median
from swarm_predict.types import NotMeasured, Placement, Quantiles, Workload
from swarm_protocol.snapshot.swarm import Floats, Ints, Swarm

DRAWS: Final = 500  # a p95 of so many is off by about a tenth of what lies between it and the median
AT_ONCE: Final = 200  # candidates drawn together: some ten megabytes


def distributions(
    swarm: Swarm, model: ModelShape, placements: Sequence[Placement], workload: Workload, draws: int = DRAWS
) -> list[Quantiles]:
    """Return one distribution per placement, whether or not it fits; NaN if something is not known.

    Raises BadPlacement."""
    check(workload)
    engine = engine_facts(workload)
    few = replace(workload, draws=draws)
    if engine.pattern != "chain" or workload.redundancy > 1 or workload.offload_gbps or workload.windows > 1:
        return [_alone(swarm, model, placement, few) for placement in placements]
    ordered = [tuple(sorted(placement, key=lambda stage: stage.first)) for placement in placements]
    for placement in ordered:
        check_placement(placement, model, swarm, engine.name)
    rows = sorted({swarm.index(stage.node) for placement in ordered for stage in placement})
    if not rows:
        return []
    many = _Many(swarm, model, few, build_costs(swarm, model, workload, rows))
    found: list[Quantiles] = []
    for start in range(0, len(ordered), AT_ONCE):
        found += many.draw(ordered[start : start + AT_ONCE])
    return found


def _alone(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> Quantiles:
    try:
        return predict(swarm, model, placement, workload).tpot_ms
    except NotMeasured:
        return NOT_KNOWN


@dataclass(slots=True)
class _Batch:
    """The candidates for which every figure is known, concatenated."""

    index: list[int]  # among the given placements
    trips: list[Trip]
    trip_starts: list[int]
    nodes: list[int]  # of each stage: position in the tables
    layers: list[int]
    stage_starts: list[int]


class _Many:
    def __init__(self, swarm: Swarm, model: ModelShape, workload: Workload, costs: Costs) -> None:
        self.swarm, self.model, self.workload, self.costs = swarm, model, workload, costs
        self.at = {name: k for k, name in enumerate(costs.tables.names)}
        self.rng = np.random.default_rng(workload.seed)
        self.visit_ms = visits_ms(swarm, costs.rows)
        self.assumed = software_assumed(swarm, costs.rows, workload, costs.links)
        self.deliveries: dict[float, Floats] = {}

    def draw(self, placements: Sequence[Placement]) -> list[Quantiles]:
        batch = self._laid_out(placements)
        found = [NOT_KNOWN] * len(placements)
        if not batch.index:
            return found
        work, draws = self.workload, self.workload.draws
        at_ns = None if by_hand(self.swarm) else self.swarm.at_ns
        rest_ms = 0.0 if at_ns is None else self._rests_ms(batch)
        messages = draw_trips(
            self.costs.links, batch.trips, self.rng, draws, at_ns, work.slow_start, rest_ms=rest_ms
        ).ms
        counts = np.diff([*batch.trip_starts, len(batch.trips)])
        nodes, starts = np.array(batch.nodes), np.array(batch.stage_starts)
        layer = self.costs.layer
        half = self.rng.standard_normal(((draws + 1) // 2, len(nodes)))
        normal = np.concatenate([half, -half])[:draws] if draws > 1 else np.zeros((1, len(nodes)))
        asked = bool(self.assumed.any()) or not all(layer.measured)
        sample = layer.assumed.sample(self.rng, draws)
        kinds = self.costs.links.kinds[[trip.src for trip in batch.trips], [trip.dst for trip in batch.trips]]
        messages = messages * (sample.paths * layer.assumed.paths)[:, kinds]
        paths = _summed(messages, batch.trip_starts, counts)
        factor = np.exp(np.hypot(layer.spread[nodes], layer.doubt[nodes]) * normal)
        factor *= layer.factor(sample, list(range(len(self.costs.rows))))[:, nodes]
        each = np.array(batch.layers) * layer.ms[nodes] * work.compute_scale
        head = self._head(factor, nodes, starts)
        total = np.add.reduceat(factor * each, starts, axis=1) + head
        median = np.add.reduceat(each, starts) + self._head(np.ones((1, len(nodes))), nodes, starts)[0]
        proofs = work.proof_ms * step_width(work) * self.model.layers
        fixed = np.add.reduceat(self.visit_ms[nodes], starts) + work.client_ms + proofs
        total, median = total + fixed, median + fixed
        if batch.trips and asked:
            total = total + _summed(self._software(sample, batch.trips), batch.trip_starts, counts)
            usual = self._software(layer.assumed.usual, batch.trips)
            median = median + _summed(usual, batch.trip_starts, counts)[0]
        elif batch.trips:
            total = total + work.hop_overhead_ms * counts
        if asked and not layer.assumed.priors.neutral:
            total *= [to_median(column, float(middle)) for column, middle in zip(total.T, median, strict=True)]
        total = total + paths
        if at_ns is not None and batch.trips:
            total += self._restarts_ms(batch.trips, counts, total.mean(axis=0))
        total = per_token(total, work, self.rng)
        p5, p50, p95 = np.quantile(total, (0.05, 0.5, 0.95), axis=0)
        for k, mean, *rest in zip(batch.index, total.mean(axis=0), p5, p50, p95, strict=True):
            found[k] = Quantiles(float(mean), *(float(value) for value in rest))
        return found

    def _software(self, sample: Sample, trips: Sequence[Trip]) -> Floats:
        """Return draws of the software time of each message, (draws, messages)."""
        src, dst = np.array([trip.src for trip in trips]), np.array([trip.dst for trip in trips])
        return np.where(self.assumed[src, dst], sample.visit_ms[:, dst], self.workload.hop_overhead_ms)

    def _rests_ms(self, batch: _Batch) -> Floats | float:
        """Return how long the connection of each message is idle (as `Pipeline.rests_ms`)."""
        limited = self.costs.links.limited_by_loss
        if not any(limited[trip.src, trip.dst] for trip in batch.trips):
            return 0.0
        ends = [*batch.stage_starts[1:], len(batch.nodes)]
        usual_ms = np.array(
            [
                self.costs.tables.price(batch.nodes[a:b], batch.layers[a:b]) * step_yield(self.workload)
                for a, b in zip(batch.stage_starts, ends, strict=True)
            ]
        )
        counts = np.diff([*batch.trip_starts, len(batch.trips)])
        each_ms, own_ms = self._each_restart_ms(batch.trips, counts, usual_ms)
        return np.asarray((usual_ms + own_ms)[np.repeat(np.arange(len(counts)), counts)] - each_ms)

    def _restarts_ms(self, trips: Sequence[Trip], counts: Ints, step_ms: Floats) -> Floats:
        """Return what TCP restarts add to each candidate; its connections are idle for the rest of its own step."""
        each_ms, own_ms = self._each_restart_ms(trips, counts, step_ms)
        owner = np.repeat(np.arange(len(counts)), counts)
        _, own_ms = self._each_restart_ms(trips, counts, step_ms, (step_ms + own_ms)[owner] - each_ms)
        return own_ms

    def _each_restart_ms(
        self, trips: Sequence[Trip], counts: Ints, step_ms: Floats, rest_ms: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """Return what TCP restarts add to (each message, each candidate)."""
        src, dst = np.array([trip.src for trip in trips]), np.array([trip.dst for trip in trips])
        sizes = np.array([trip.window_bytes for trip in trips], np.float64)
        owner = np.repeat(np.arange(len(counts)), counts)
        rest_ms = step_ms[owner] if rest_ms is None else rest_ms
        each_ms = self.costs.links.restart_ms(src, dst, sizes, rest_ms, self.workload.slow_start)
        return each_ms, np.bincount(owner, each_ms, minlength=len(counts)).astype(np.float64)

    def _laid_out(self, placements: Sequence[Placement]) -> _Batch:
        engine, model, work = self.costs.engine, self.model, self.workload
        width = step_width(work)
        sizes = [size(model, width, work.activations) for size in (engine.hop_bytes, engine.enter_bytes)]
        sizes[1] += engine.input_bytes(width, work.context)
        result = engine.result_bytes(model, width, work.activations)
        client = self.costs.tables.client
        batch = _Batch([], [], [], [], [], [])
        for k, placement in enumerate(placements):
            at = [self.at[stage.node] for stage in placement]
            home = None if client is None else at.index(client) if client in at else len(at)
            where = at if client is None else [*at, client]
            trips = [
                Trip(where[trip.src], where[trip.dst], trip.size_bytes, trip.stage, trip.packets)
                for trip in trips_of(engine, len(at), home, sizes[0], sizes[1], result)
            ]
            if not np.isfinite(self.costs.layer.ms[at]).all() or not all(map(self._known, trips)):
                continue
            batch.index.append(k)
            batch.trip_starts.append(len(batch.trips))
            batch.stage_starts.append(len(batch.nodes))
            batch.trips += trips
            batch.nodes += at
            batch.layers += [stage.layers for stage in placement]
        return batch

    def _known(self, trip: Trip) -> bool:
        if trip.size_bytes not in self.deliveries:
            self.deliveries[trip.size_bytes] = self.costs.links.delivery_ms(trip.size_bytes)
        return bool(np.isfinite(self.deliveries[trip.size_bytes][trip.src, trip.dst]))

    def _head(self, factor: Floats, nodes: Ints, starts: Ints) -> Floats:
        """Return the head's time of each candidate: (draws, candidates), or (1, candidates)."""
        head_ms = self.costs.layer.head_ms * self.workload.compute_scale
        if self.costs.engine.head == "last":
            here = np.append(starts[1:], len(nodes)) - 1
        elif self.costs.tables.client is None:
            here = starts
        else:
            return np.full((1, len(starts)), float(head_ms[self.costs.tables.client]))
        return np.asarray(factor[:, here] * head_ms[nodes[here]])


def _summed(messages: Floats, starts: Sequence[int], counts: Floats) -> Floats:
    """Sum the columns of each candidate; candidates without messages (one stage on its client) get 0."""
    total = np.zeros((messages.shape[0], len(starts)))
    some = np.flatnonzero(np.asarray(counts) > 0)
    if len(some):
        total[:, some] = np.add.reduceat(messages, np.array(starts)[some], axis=1)
    return total
