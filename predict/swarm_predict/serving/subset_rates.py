"""Compute the tokens a second of subsets of machines: of their best pipeline, or of their best groups that share
layers.

Rates are for full batches, by the medians of the tables; they tell which subsets are worth evaluating under arrivals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from swarm_predict.cost.build import build_tables, with_uplinks
from swarm_predict.cost.network.delivery_times import absent
from swarm_predict.cost.shared_times import SharedTimes
from swarm_predict.cost.tables import CostTables
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.objectives.found import Found
from swarm_predict.search.pareto import front
from swarm_predict.search.plan_shared import placement_of_groups
from swarm_predict.search.solve import placement_of, solve
from swarm_predict.search.solvers.shared_layers import Shared, solve_shared
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import DoesNotFit, NotMeasured, Placement, Workload
from swarm_protocol.snapshot.swarm import Swarm

EXACT_NODES: Final = 8  # 255 sets, each with a search
EXACT_GROUPED: Final = 6  # the same where each set has every grouping: 4,140 in all
BATCHES: Final = (16, 4, 1)  # sequences in a micro-batch of a loaded pipeline; the largest that memory allows
FRONT_POINTS: Final = 4


class Rates(Protocol):
    """Machines are rows of the swarm."""

    names: tuple[str, ...]  # of the swarm
    rows: list[int]  # that can serve
    exact: bool  # few enough to price every set of them

    def of(self, rows: frozenset[int]) -> float:
        """Return tokens a second; 0 if they do not hold the model."""
        ...

    def placement(self, rows: frozenset[int]) -> Placement | None: ...

    def room(self, row: int) -> float:
        """Return the memory of a machine, in any unit."""
        ...

    def alone(self) -> Iterator[Placement]:
        """Yield placements of all machines between the least latency and the most throughput."""
        ...


def steady(workload: Workload, traffic: Traffic) -> Workload:
    """Return the load of a pipeline in the middle of answers, without guesses."""
    context = max(1, round(traffic.cached_tokens))
    return replace(workload, context=context, prompt=1, cached_prompt=0, draft_tokens=0, windows=1)


class PipelineRates:
    """Of the best pipeline of each set, remembered."""

    def __init__(
        self, swarm: Swarm, model: ModelShape, workload: Workload, traffic: Traffic, time_limit_s: float
    ) -> None:
        self.swarm, self.model, self.time_limit_s = swarm, model, time_limit_s
        self.load = steady(workload, traffic)
        self.tables = [self._tables(batch) for batch in BATCHES]
        table = self.tables[-1]
        self.names = table.names
        most = np.maximum.reduce([table.capacity, table.capacity_first, table.capacity_last, table.capacity_only])
        self.rows = [int(row) for row in np.flatnonzero((most > 0) & np.isfinite(table.layer_ms))]
        self.exact = len(self.rows) <= EXACT_NODES
        self._known: dict[frozenset[int], tuple[float, Found | None]] = {}

    def _tables(self, batch: int) -> CostTables:
        load = replace(self.load, batch=batch)
        return with_uplinks(build_tables(self.swarm, self.model, load), self.swarm, self.model, load)

    def of(self, rows: frozenset[int]) -> float:
        return self._best(rows)[0]

    def _best(self, rows: frozenset[int]) -> tuple[float, Found | None]:
        if rows not in self._known:
            best: tuple[float, Found | None] = (0.0, None)
            allowed = np.zeros(len(self.swarm), dtype=np.bool_)
            allowed[list(rows)] = True
            for batch, tables in zip(BATCHES, self.tables, strict=True):
                try:
                    found = solve(
                        tables, objective="throughput", allowed=allowed, prove=False, time_limit_s=self.time_limit_s
                    )
                except (DoesNotFit, NotMeasured):
                    continue
                best = max(best, (batch * 1e3 / found.value_ms, found), key=lambda pair: pair[0])
            self._known[rows] = best
        return self._known[rows]

    def placement(self, rows: frozenset[int]) -> Placement | None:
        found = self._best(rows)[1]
        return None if found is None else placement_of(self.tables[-1], found)

    def room(self, row: int) -> float:
        return float(self.tables[0].capacity[row])

    def alone(self) -> Iterator[Placement]:
        for batch in (BATCHES[0], BATCHES[-1]):
            load = replace(self.load, batch=batch)
            try:
                points = front(self.swarm, self.model, load, points=FRONT_POINTS, time_limit_s=self.time_limit_s)
            except (DoesNotFit, NotMeasured):
                continue
            yield from (point.placement for point in points)


class GroupRates:
    """Of the best groups of each set, remembered."""

    def __init__(self, swarm: Swarm, model: ModelShape, workload: Workload, traffic: Traffic) -> None:
        load = steady(workload, traffic)
        held = (swarm.nodes["vram_bytes"] > 0) & ~absent(swarm)
        self._at = [int(row) for row in np.flatnonzero(held)]
        self.times = [SharedTimes(swarm, model, replace(load, batch=batch), self._at) for batch in BATCHES]
        speeds = self.times[-1].layer_ms
        self.names = tuple(facts.name for facts in swarm.facts)
        self.rows = [row for row, ms in zip(self._at, speeds, strict=True) if np.isfinite(ms)]
        self.exact = len(self.rows) <= (EXACT_GROUPED if self.times[0].engine.groups else EXACT_NODES)
        self._known: dict[tuple[frozenset[int], int | None], tuple[float, Placement | None]] = {}

    def of(self, rows: frozenset[int]) -> float:
        return self._best(rows)[0]

    def placement(self, rows: frozenset[int]) -> Placement | None:
        return self._best(rows)[1]

    def _best(self, rows: frozenset[int], most_machines: int | None = None) -> tuple[float, Placement | None]:
        key = (rows, most_machines)
        if key not in self._known:
            best: tuple[float, Placement | None] = (0.0, None)
            usable = [self._at.index(row) for row in rows]
            for batch, times in zip(BATCHES, self.times, strict=True):
                try:
                    found = solve_shared(times, usable, (), most_machines)[0]
                except (DoesNotFit, NotMeasured):
                    continue
                rate = batch * 1e3 / _period_ms(times, found)
                best = max(best, (rate, placement_of_groups(times, found)), key=lambda pair: pair[0])
            self._known[key] = best
        return self._known[key]

    def room(self, row: int) -> float:
        return float(self.times[0].room[self._at.index(row)])

    def alone(self) -> Iterator[Placement]:
        everyone = frozenset(self.rows)
        for count in range(1, len(self.rows) + 1):
            placement = self._best(everyone, count)[1]
            if placement is not None:
                yield placement


def _period_ms(times: SharedTimes, found: Shared) -> float:
    """Return the time between two steps: the slowest group's, which works on one at a time."""
    if len(found.groups) == 1:
        return found.value_ms
    costs = [times.group(members) for members in found.groups]
    each = [count * cost.layer_ms + cost.visit_ms for count, cost in zip(found.layers, costs, strict=True)]
    return max([*each[:-1], each[-1] + costs[-1].head_ms])
