"""Estimate how certain the choice of a plan is, and what to measure first: the same draws evaluate the plan and its
rivals.

Rivals are the placements one edit away, and the best ones under some draws of what is not measured. The share of draws
in which the plan is the best of them (or within a hundredth, which no run would tell) says how sure the choice is; how
much of the spread of its time one figure of a node or a path explains says what measuring that would narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.advice.robust import neighbours
from swarm_predict.advice.whatif import WhatIf
from swarm_predict.cost.build import Costs, build_costs
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.software_overhead import software_assumed
from swarm_predict.cost.speculative import step_yield
from swarm_predict.cost.tables import CostTables
from swarm_predict.explain.measure_next import ToMeasure, to_measure
from swarm_predict.explain.terms import terms_of
from swarm_predict.forecast.forward_pass.pipeline import trips_of
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.assumed_figures import Sample
from swarm_predict.search.solve import solve
from swarm_predict.types import DoesNotFit, NotMeasured, Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

DRAWS: Final = 400
NEAR: Final = 40  # neighbours that are rivals: those that cost least
SOLVED: Final = 8  # draws whose own best placement is a rival
SOLVE_NODES: Final = 60  # with more, another plan takes too long
ALIKE: Final = 0.01
MAX_SAID: Final = 3


@dataclass(frozen=True, slots=True)
class Choice:
    share_best: float  # of the draws in which this placement is the best of its rivals
    runner_up: Placement | None  # the rival that most often is; None: there is none
    measure_next: tuple[ToMeasure, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The constraints of the plan, which alternatives must keep to as well."""

    require: Sequence[str] = ()
    forbid: Sequence[str] = ()
    pins: Sequence[Stage] = ()
    max_stages: int | None = None

    def allow(self, placement: Placement) -> bool:
        names = {stage.node for stage in placement}
        return (
            names.issuperset(self.require)
            and names.isdisjoint(self.forbid)
            and set(placement).issuperset(self.pins)
            and (self.max_stages is None or len(placement) <= self.max_stages)
        )


def how_sure(
    swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, limits: Limits | None = None
) -> Choice | None:
    """Return how sure the choice is; None for engines without stages, and if nothing is assumed."""
    if engine_facts(workload).pattern == "all-reduce" or workload.offload_gbps:
        return None
    costs = build_costs(swarm, model, workload, range(len(swarm)))
    if costs.layer.assumed.priors.neutral:
        return None
    draws = _Draws(swarm, model, workload, costs)
    rivals = [rival for rival in draws.rivals(placement) if (limits or Limits()).allow(rival)]
    times = np.array([draws.times_ms(rival) for rival in [placement, *rivals]])
    best = times.min(axis=0)
    wins = (times <= best * (1 + ALIKE)).mean(axis=1)
    only = np.bincount(times.argmin(axis=0), minlength=len(times))
    runner_up = None
    if rivals:
        k = int(np.lexsort((np.median(times[1:], axis=1), -only[1:]))[0])
        runner_up = rivals[k]
    first = to_measure(terms_of(swarm, model, placement, workload), MAX_SAID)
    return Choice(float(wins[0]), runner_up, first)


class _Draws:
    """Draws over every node of the swarm, and what placements cost in each."""

    def __init__(self, swarm: Swarm, model: ModelShape, workload: Workload, costs: Costs) -> None:
        self.swarm, self.model, self.workload, self.costs = swarm, model, workload, costs
        self.tables = costs.tables
        self.at = {name: k for k, name in enumerate(self.tables.names)}
        rng = np.random.default_rng(workload.seed)
        rows = list(range(len(costs.rows)))
        sample: Sample = costs.layer.assumed.sample(rng, DRAWS)
        alone = np.hypot(costs.layer.spread, costs.layer.doubt)
        half = rng.standard_normal((DRAWS // 2, len(rows)))
        self.factor = costs.layer.factor(sample, rows) * np.exp(alone * np.concatenate([half, -half]))
        self.assumed = software_assumed(swarm, costs.rows, workload, costs.links)
        self.more_ms = sample.visit_ms - costs.layer.assumed.visit_ms  # (draws, nodes) than the median
        self.share = 1 / step_yield(workload)

    def rivals(self, placement: Placement) -> list[Placement]:
        whatif = WhatIf(self.tables, placement)
        near = sorted(neighbours(whatif), key=lambda edit: (edit.value_ms, edit.what))[:NEAR]
        found = dict.fromkeys(edit.placement for edit in near if math.isfinite(edit.value_ms))
        if len(self.tables.names) <= SOLVE_NODES:
            for draw in range(min(SOLVED, DRAWS)):
                found.update(dict.fromkeys(self._best_of(draw)))
        found.pop(placement, None)
        return list(found)

    def _best_of(self, draw: int) -> list[Placement]:
        factor = self.factor[draw]
        drawn = replace(
            self.tables,
            layer_ms=self.tables.layer_ms * factor,
            head_ms=self.tables.head_ms * factor,
            hop_ms=self.tables.hop_ms + np.where(self.assumed, self.more_ms[draw][None, :], 0.0) * self.share,
        )
        try:
            found = solve(drawn, time_limit_s=0.1, prove=False)
        except (DoesNotFit, NotMeasured):
            return []
        return [_placement(self.tables, found.order, found.layers)]

    def times_ms(self, placement: Placement) -> Floats:
        """(draws,) of one step."""
        tables = self.tables
        order = [self.at[stage.node] for stage in placement]
        counts = [stage.layers for stage in placement]
        total = np.full(DRAWS, tables.price(order, counts))
        for row, count in zip(order, counts, strict=True):
            total += count * tables.layer_ms[row] * (self.factor[:, row] - 1)
        engine = self.costs.engine
        home = order[-1] if engine.head == "last" else order[0] if tables.client is None else tables.client
        head_ms = float(self.costs.layer.head_ms[home]) * self.workload.compute_scale * self.share
        if math.isfinite(head_ms):
            total += head_ms * (self.factor[:, home] - 1)
        for row in self._receivers(order):
            total += self.more_ms[:, row] * self.share
        return total

    def _receivers(self, order: list[int]) -> list[int]:
        """Return the receiver of every message whose software time is assumed."""
        client = self.tables.client
        where = order if client is None or client in order else [*order, client]
        home = None if client is None else where.index(client)
        pairs = [(where[t.src], where[t.dst]) for t in trips_of(self.costs.engine, len(order), home, 1.0, 1.0, 1.0)]
        return [dst for src, dst in pairs if self.assumed[src, dst]]


def _placement(tables: CostTables, order: Sequence[int], layers: Sequence[int]) -> Placement:
    stages, first = [], 0
    for row, count in zip(order, layers, strict=True):
        stages.append(Stage(tables.names[row], first, first + count - 1))
        first += count
    return tuple(stages)
