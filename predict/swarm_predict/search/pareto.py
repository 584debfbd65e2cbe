"""Find the Pareto front of latency and throughput: placements of which no other is better in both.

From the placement of least latency down: each next one has the least latency among those whose period (time between
two steps of a full pipeline) is at most a given share of the one before, so the points spread evenly over the rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from swarm_predict.cost.build import build_tables, with_uplinks
from swarm_predict.cost.tables import CostTables
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.objectives.found import Found
from swarm_predict.search.solve import placement_of, solve, solve_within
from swarm_predict.types import DoesNotFit, NotMeasured, Placement, Workload
from swarm_protocol.snapshot.swarm import Swarm

POINTS: Final = 7
_CLOSER: Final = 1e-6  # relative: two periods closer than this are one


@dataclass(frozen=True, slots=True)
class Point:
    placement: Placement
    step_ms: float  # p50 of one token of one stream
    period_ms: float  # between two steps with the pipeline full
    bound_ms: float  # no placement of that period has less
    streams: int  # in flight to fill it

    def tokens_per_s(self, batch: int = 1) -> float:
        """In total, with the pipeline full."""
        return batch * 1e3 / self.period_ms


def front(
    swarm: Swarm, model: ModelShape, workload: Workload, *, points: int = POINTS, time_limit_s: float = 3.0
) -> tuple[Point, ...]:
    """From the least latency to the shortest period; memory holds the KV cache of `workload.streams` streams.

    Raises as `search.plan` does."""
    tables = with_uplinks(build_tables(swarm, model, workload), swarm, model, workload)
    each_s = time_limit_s / (points + 1)
    quick = solve(tables, time_limit_s=each_s, seed=workload.seed)
    wide = solve(tables, objective="throughput", time_limit_s=each_s, seed=workload.seed)
    first = tables.period([*quick.order], [*quick.layers])
    last = tables.period([*wide.order], [*wide.layers])
    found = [_point(tables, quick, quick.bound_ms)]
    for k in range(1, points):
        most = first * (last / first) ** (k / (points - 1)) if last < first else first
        if most >= found[-1].period_ms * (1 - _CLOSER):
            continue
        try:
            at = solve_within(tables, most * (1 + _CLOSER), time_limit_s=each_s, seed=workload.seed)
        except (DoesNotFit, NotMeasured):
            continue
        found.append(_point(tables, at, at.bound_ms))
    return _undominated(found)


def _point(tables: CostTables, found: Found, bound_ms: float) -> Point:
    period = tables.period([*found.order], [*found.layers])
    step = tables.price([*found.order], [*found.layers])
    return Point(placement_of(tables, found), step, period, bound_ms, max(1, math.ceil(step / period)))


def _undominated(points: list[Point]) -> tuple[Point, ...]:
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.step_ms, point.period_ms)):
        if not kept or point.period_ms < kept[-1].period_ms * (1 - _CLOSER):
            kept.append(point)
    return tuple(kept)
