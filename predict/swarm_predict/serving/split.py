"""Plan for many users: one pipeline of all machines, or replicas of fewer, and which machine belongs where.

Every set of machines has a rate: the tokens a second of its best pipeline with full batches. Up to `EXACT_NODES`
machines the split into each number of replicas with the largest sum of rates is exact (over subsets); beyond, machines
go to the replica with the least memory so far, the roomiest first. The splits, and the placements between least latency
and most throughput, are then priced under the arrivals (`serve`), which chooses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.cost.build import build_tables, with_uplinks
from swarm_predict.cost.tables import CostTables
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.pareto import front
from swarm_predict.search.solve import Found, placement_of, solve
from swarm_predict.serving.load import Spread
from swarm_predict.serving.serve import Replicas, Serving
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import DoesNotFit, NotMeasured, Placement, PredictError, Workload
from swarm_protocol.snapshot.swarm import Swarm

EXACT_NODES: Final = 8  # 255 sets, each with a search
BATCHES: Final = (16, 4, 1)  # sequences in a micro-batch of a loaded pipeline; the largest that memory allows
LIGHT: Final = 0.01  # of the most that is sustained: nobody waits
FRONT_POINTS: Final = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """Placements side by side, under the arrivals that are asked about."""

    placements: tuple[Placement, ...]
    most_per_s: float
    most_tokens_per_s: float
    light_tpot_ms: float  # with nobody else there
    tpot_ms: Spread | None  # under the arrivals; None: not sustained
    ttft_ms: Spread | None
    within_per_s: float | None  # the most with the time per token within the limit; None: no limit is given


@dataclass(frozen=True, slots=True)
class Role:
    """What one machine is best for."""

    node: str
    replica: int | None  # from 1; None: a spare
    first: int = 0
    last: int = -1
    busy: float = 0.0
    worth: float | None = None  # share of all tokens a second that the swarm would lose without it; None: not known


@dataclass(frozen=True, slots=True)
class ServingPlan:
    serving: Serving
    candidates: tuple[Candidate, ...]  # of which none is better in both: time per token, and tokens a second
    roles: tuple[Role, ...]
    exact: bool  # the splits are the best of their number of replicas, by the sum of rates


def plan_serving(
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    traffic: Traffic,
    *,
    tpot_limit_ms: float | None = None,
    most_replicas: int = 8,
    time_limit_s: float = 3.0,
) -> ServingPlan:
    """Choose the placements that serve these arrivals best: within the limit the most requests; without one the least
    time per token that sustains the arrivals, else the most requests. Raises as `serve` and `search.plan` do."""
    rates = _Rates(swarm, model, workload, traffic, time_limit_s)
    tried: dict[tuple[Placement, ...], Replicas] = {}
    problem: PredictError | None = None
    for placements in _candidates(rates, most_replicas):
        key = tuple(sorted(placements, key=lambda each: each[0].node))
        if key in tried:
            continue
        try:
            tried[key] = Replicas(swarm, model, key, workload, traffic)
        except (DoesNotFit, NotMeasured) as error:
            problem = error
    if not tried:
        raise problem or DoesNotFit(f"no placement of {model.name} has room for one request; take smaller --weights")
    priced = [(_priced(each, traffic, tpot_limit_ms), each) for each in tried.values()]
    chosen = max(priced, key=lambda pair: _worth(pair[0]))
    serving = chosen[1].serving()
    return ServingPlan(serving, _undominated([each for each, _ in priced]), _roles(rates, serving), rates.exact)


def _priced(replicas: Replicas, traffic: Traffic, tpot_limit_ms: float | None) -> Candidate:
    most, arrivals = replicas.most_per_s, traffic.arrivals_per_s
    here = replicas.at(arrivals) if arrivals < most else None
    return Candidate(
        replicas.placements,
        most,
        most * traffic.generate.mean,
        replicas.at(most * LIGHT).tpot_ms.mean,
        None if here is None else here.tpot_ms,
        None if here is None else here.ttft_ms,
        None if tpot_limit_ms is None else replicas.most_within(tpot_limit_ms),
    )


def _worth(each: Candidate) -> tuple[float, ...]:
    sustained = each.tpot_ms is not None
    if each.within_per_s is not None:
        return (each.within_per_s, -each.light_tpot_ms)
    return (1.0, -each.tpot_ms.mean) if each.tpot_ms is not None and sustained else (0.0, each.most_per_s)


def _undominated(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return those of which no other has both a lower time per token and more tokens a second, quickest first."""
    kept: list[Candidate] = []
    for each in sorted(candidates, key=lambda each: (each.light_tpot_ms, -each.most_tokens_per_s)):
        if not kept or each.most_tokens_per_s > kept[-1].most_tokens_per_s:
            kept.append(each)
    return tuple(kept)


class _Rates:
    """Tokens a second of sets of machines, remembered."""

    def __init__(
        self, swarm: Swarm, model: ModelShape, workload: Workload, traffic: Traffic, time_limit_s: float
    ) -> None:
        self.swarm, self.model, self.time_limit_s = swarm, model, time_limit_s
        self.load = replace(workload, context=max(1, round(traffic.cached_tokens)), prompt=1, cached_prompt=0)
        self.tables = [self._tables(batch) for batch in BATCHES]
        table = self.tables[-1]
        most = np.maximum.reduce([table.capacity, table.capacity_first, table.capacity_last, table.capacity_only])
        self.rows = [int(row) for row in np.flatnonzero((most > 0) & np.isfinite(table.layer_ms))]
        self.exact = len(self.rows) <= EXACT_NODES
        self._known: dict[frozenset[int], tuple[float, Found | None]] = {}

    def _tables(self, batch: int) -> CostTables:
        load = replace(self.load, batch=batch)
        return with_uplinks(build_tables(self.swarm, self.model, load), self.swarm, self.model, load)

    def of(self, rows: frozenset[int]) -> tuple[float, Found | None]:
        """Return (tokens a second, the placement) of the best pipeline of some of these machines."""
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
        found = self.of(rows)[1]
        return None if found is None else placement_of(self.tables[-1], found)


def _candidates(rates: _Rates, most_replicas: int) -> Iterator[tuple[Placement, ...]]:
    for batch in (BATCHES[0], BATCHES[-1]):
        try:
            points = front(
                rates.swarm, rates.model, replace(rates.load, batch=batch), points=FRONT_POINTS,
                time_limit_s=rates.time_limit_s,
            )  # fmt: skip
        except (DoesNotFit, NotMeasured):
            continue
        yield from ((point.placement,) for point in points)
    for groups in _splits(rates, most_replicas):
        placements = [rates.placement(group) for group in groups]
        found = tuple(each for each in placements if each is not None)
        if found:
            yield found


def _splits(rates: _Rates, most_replicas: int) -> list[tuple[frozenset[int], ...]]:
    return _exact_splits(rates, most_replicas) if rates.exact else _built_splits(rates, most_replicas)


def _exact_splits(rates: _Rates, most_replicas: int) -> list[tuple[frozenset[int], ...]]:
    """Return for each number of replicas the disjoint sets with the largest sum of rates."""
    count = len(rates.rows)
    value = [0.0] * (1 << count)
    for mask in range(1, 1 << count):
        value[mask] = rates.of(_members(rates.rows, mask))[0]
    best, parts = list(value), [[mask] for mask in range(1 << count)]
    found = []
    for number in range(1, most_replicas + 1):
        full = (1 << count) - 1
        if number > 1:
            before, parts_before = best, parts
            best, parts = [0.0] * (1 << count), [[] for _ in range(1 << count)]
            for mask in range(1, 1 << count):
                part = mask
                while part:
                    rest = mask ^ part
                    if value[part] > 0 and before[rest] > 0 and value[part] + before[rest] > best[mask]:
                        best[mask] = value[part] + before[rest]
                        parts[mask] = [part, *parts_before[rest]]
                    part = (part - 1) & mask
        if best[full] <= 0:
            break
        found.append(tuple(_members(rates.rows, part) for part in parts[full]))
    return found


def _members(rows: Sequence[int], mask: int) -> frozenset[int]:
    return frozenset(row for k, row in enumerate(rows) if mask >> k & 1)


def _built_splits(rates: _Rates, most_replicas: int) -> list[tuple[frozenset[int], ...]]:
    """Return splits of many machines into one replica and more, of about the same memory each."""
    found: list[tuple[frozenset[int], ...]] = []
    room = rates.tables[0].capacity
    by_room = sorted(rates.rows, key=lambda row: (-int(room[row]), row))
    for number in range(1, most_replicas + 1):
        groups: list[set[int]] = [set() for _ in range(number)]
        held = [0] * number
        for row in by_room:
            k = min(range(number), key=lambda k: (held[k], k))
            groups[k].add(row)
            held[k] += int(room[row])
        sets = tuple(frozenset(group) for group in groups if group)
        if len(sets) < number or any(rates.of(group)[1] is None for group in sets):
            break
        found.append(sets)
    return found


def _roles(rates: _Rates, serving: Serving) -> tuple[Role, ...]:
    everyone = frozenset(rates.rows)
    groups = [frozenset(rates.swarm.index(stage.node) for stage in each.placement) for each in serving.replicas]
    total = math.fsum(rates.of(group)[0] for group in groups)
    roles: dict[str, Role] = {}
    for number, each in enumerate(serving.replicas, 1):
        busy = {part.name: part.share for part in each.busy}
        for stage in each.placement:
            group = groups[number - 1]
            spares = everyone.difference(*groups)
            without = rates.of((group | spares) - {rates.swarm.index(stage.node)})[0]
            worth = max(0.0, rates.of(group)[0] - without) / total if total > 0 else None
            roles[stage.node] = Role(stage.node, number, stage.first, stage.last, busy.get(stage.node, 0.0), worth)
    spare = [rates.tables[0].names[row] for row in rates.rows if rates.tables[0].names[row] not in roles]
    return (*roles.values(), *(Role(node, None) for node in spare))
