"""Compute what each node costs the placement that runs (the best plan, if none is known to run), and why.

In the placement:
    share      of a token's time (`token_share`)
    without    what the swarm gives when it is re-planned without the node; None if nothing fits then
    typical    what it gives with typical figures of this swarm in the node's place (`typical`), both with every layer
               where it is and re-planned
    win_ms     the better of the two, less what re-planning would gain with the node kept as it is: a bad arrangement
               is no node's fault, and the headline reports it
A spare has what using it would add, and the stage that it could take over.

Means of deliveries are compared where figures are made typical, so that jitter counts; `without` is the planner's
result, by p50. Up to `EXACT_NODES` all bests are proven; beyond, a descent finds them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.advice.nodes.token_share import parts_of_token
from swarm_predict.advice.nodes.typical import CAUSES, Typical, compared_with, relieved, typical_of
from swarm_predict.cost.build import HopParts, build_tables, hop_parts
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.tables import CostTables
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.chain import Bools, best_split
from swarm_predict.search.limits import EXACT_NODES as PLANNED_EXACTLY
from swarm_predict.search.objectives.found import Found
from swarm_predict.search.solve import placement_of, solve
from swarm_predict.types import Cause, DoesNotFit, Impact, NotMeasured, Plan, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm

EXACT_NODES: Final = 9  # all bests of so many are proven in a tenth of a second
_SOLVE_S: Final = 0.5  # of each question in a large swarm; a warm descent is done long before
_NOISE_MS: Final = 1e-6
TOLD_SHARE: Final = 0.005  # of a token: where typical figures would save less, a node's cause is its largest part
_FEW_TRIES: Final = 20_000  # of spares times stages: below, each spare is tried at each stage
_POOL: Final = 32  # best stand-bys that a large swarm is planned again with: the others would not be taken


def impacts(
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    best: Plan,
    running: Prediction | None = None,
    gone: Collection[str] = (),
    *,
    tables: CostTables | None = None,
) -> tuple[Impact, ...]:
    """Return one Impact for every node of the swarm, in its order. `running`: None if the best plan is used instead.
    `gone`: nodes of the running placement that do not answer; they are judged by what was last known of them.
    `tables`: of this question, if they were built already."""
    tables = tables or build_tables(swarm, model, workload)
    mean, parts = mean_tables(swarm, model, workload, tables)
    rows = {name: row for row, name in enumerate(tables.names)}
    lost = np.array([name in gone for name in tables.names], np.bool_)
    judge = _Judge(swarm, model, workload, mean, tables, parts, lost, best.prediction, running, rows)
    return tuple(judge.of(row) for row in range(len(tables.names)))


def mean_tables(
    swarm: Swarm, model: ModelShape, workload: Workload, tables: CostTables | None = None
) -> tuple[CostTables, HopParts]:
    """Return the tables with mean deliveries in place of p50, and the parts of each delivery. `tables`: those with p50,
    if they were built already."""
    tables = tables or build_tables(swarm, model, workload)
    parts = hop_parts(swarm, model, workload)
    more = parts.rtt_ms + parts.jitter_ms  # in place from here on: one matrix of a thousand nodes takes 8 MB
    more += parts.upload_ms
    more += parts.software_ms
    known = np.isfinite(more) & np.isfinite(tables.hop_ms)
    np.subtract(more, tables.hop_ms, out=more, where=known)
    np.clip(more, 0.0, None, out=more)
    more[~known] = 0.0
    np.fill_diagonal(more, 0.0)
    client = tables.client
    return (
        replace(
            tables,
            hop_ms=tables.hop_ms + more,
            back_ms=tables.back_ms + more,
            enter_ms=tables.enter_ms if client is None else tables.enter_ms + more[client],
            leave_ms=tables.leave_ms if client is None else tables.leave_ms + more[:, client],
            final_ms=tables.final_ms if client is None else tables.final_ms + more[:, client],
        ),
        parts,
    )


def _result_share(model: ModelShape, workload: Workload) -> tuple[float, float]:
    """Return the bytes that the last stage sends, and those that the client sends, as multiples of an activation's."""
    engine = engine_facts(workload)
    sizes = model, workload.batch, workload.activations
    hop = engine.hop_bytes(*sizes)
    return engine.result_bytes(*sizes) / hop, engine.enter_bytes(*sizes) / hop


@dataclass(frozen=True, slots=True)
class _Best:
    order: tuple[int, ...]
    value_ms: float


class _Judge:
    """Compares the running placement with the best ones of the swarm without and with a typical figure of each node."""

    def __init__(
        self,
        swarm: Swarm,
        model: ModelShape,
        workload: Workload,
        mean: CostTables,
        p50: CostTables,
        parts: HopParts,
        lost: Bools,
        best: Prediction,
        running: Prediction | None,
        rows: dict[str, int],
    ) -> None:
        self._swarm, self._model, self._workload = swarm, model, workload
        self._mean, self._parts, self._share = mean, parts, _result_share(model, workload)
        self._p50 = p50
        self._lost = lost
        most = np.maximum.reduce([mean.capacity, mean.capacity_first, mean.capacity_last, mean.capacity_only])
        self._serves = (most > 0) & np.isfinite(mean.layer_ms) & ~lost
        self._prove = int(self._serves.sum()) <= EXACT_NODES
        self._best = best
        self._best_order = tuple(rows[stage.node] for stage in best.placement)
        self._run = running if running is not None else best
        self._order = tuple(rows[stage.node] for stage in self._run.placement)
        self._layers = [stage.layers for stage in self._run.placement]
        self._members = tuple(dict.fromkeys((*self._order, *self._best_order)))
        self._run_ms = mean.price([*self._order], self._layers)
        self._takes = parts_of_token(mean, parts, self._order, self._layers)
        self._best_mean: _Best | None = None
        self._stand_bys = {row: self._stand_by(row) for row in np.flatnonzero(self._serves).tolist()
                           if row not in self._order}  # fmt: skip
        self._pool = self._planned_with()
        self._small: dict[int, CostTables] = {}  # tables of the pool, by the id of the whole ones

    def of(self, row: int) -> Impact:
        if row in self._order:
            return self._inside(row)
        if not self._serves[row]:
            return Impact(self._mean.names[row], "out", None, None, None, {})
        return self._outside(row)

    # ------------------------------------------------------------ in the placement

    def _inside(self, row: int) -> Impact:
        name = self._mean.names[row]
        takes = self._takes[row]
        cost_ms = sum(takes.values())
        share = cost_ms / self._run_ms if 0 < self._run_ms < np.inf else None
        without = self._without(row)
        largest = max(takes, key=lambda cause: takes[cause], default=None)
        rate = self._run.tokens_per_s.p50
        token_ms = self._run.tpot_ms.p50
        gain_ms = None if without is None else token_ms - without.tpot_ms.p50
        if self._lost[row]:  # the pipeline has stopped: its times are in the past
            again = None if without is None else without.tokens_per_s.p50
            return Impact(name, "in", cost_ms, None, None, {}, share, None, again)
        causes = self._causes(row, self._order)
        saved = self._saved_by_typical(row)
        told = largest if saved < TOLD_SHARE else next(iter(causes), largest)
        wins = [saved * token_ms]
        if without is not None:
            wins.append(min(self._kept_ms(row), token_ms) - without.tpot_ms.p50)
        return Impact(
            node=name,
            role="in",
            cost_ms=cost_ms,
            gain_ms=gain_ms,
            cause=told,
            cause_ms={str(cause): ms for cause, ms in causes.items()},
            share=share,
            win_ms=max(0.0, *wins),
            without_tokens_per_s=None if without is None else without.tokens_per_s.p50,
            typical_tokens_per_s=rate / max(1 - saved, _NOISE_MS),
        )

    def _without(self, row: int) -> Prediction | None:
        """Return the best plan without the node, as the planner would find it."""
        if row not in self._best_order:
            return self._best
        as_planned = int(self._serves.sum()) <= PLANNED_EXACTLY
        found = self._solve(self._p50, () if not as_planned else self._best_order, forbid=row, prove=as_planned)
        return None if found is None else self._predicted(found)

    def _kept_ms(self, row: int) -> float:
        """Return a token of the best plan in which the node keeps its place: what re-planning gains without touching
        it."""
        if row in self._best_order:
            return self._best.tpot_ms.p50
        found = self._solve(self._p50, self._order, require=row)
        return np.inf if found is None else self._predicted(found).tpot_ms.p50

    def _predicted(self, found: Found) -> Prediction:
        return predict(self._swarm, self._model, placement_of(self._p50, found), self._workload)

    def _saved_by_typical(self, row: int) -> float:
        """Return the share of a token's time that typical figures in its place would save."""
        rows = sorted({*self._pool, *self._order})  # of a thousand nodes, only these matter
        usual = self._usual(row, rows)
        if usual is None or not 0 < self._run_ms < np.inf:
            return 0.0
        place = {node: at for at, node in enumerate(rows)}
        few, parts = self._mean.of(rows), _parts_of(self._parts, rows)
        tables = relieved(few, parts, self._share, place[row], CAUSES, usual)
        saved = 1 - tables.price([place[node] for node in self._order], self._layers) / self._run_ms
        if (kept := self._solve(self._mean, self._order, require=row)) is not None:
            again = self._solve_pool(tables.of([place[node] for node in self._pool]), kept.order)
            if again is not None and kept.value_ms > 0:
                # what is won above a plan that keeps the node as it is, so that the arrangement is not counted
                saved = max(saved, 1 - again.value_ms / kept.value_ms)
        return max(0.0, saved)

    # ------------------------------------------------------------ spares

    def _outside(self, row: int) -> Impact:
        name = self._mean.names[row]
        with_it = self._using(row)
        best = self._best_of_means()
        if with_it is None or best is None:
            return Impact(name, "out", None, None, None, {})
        stage, price = self._stand_bys[row]
        beside = tuple(row if other == stage else other for other in self._order)
        causes = self._causes(row, beside if stage is not None else with_it.order)
        return Impact(
            node=name,
            role="spare",
            cost_ms=with_it.value_ms - best.value_ms,
            gain_ms=0.0,
            cause=next(iter(causes), None),
            cause_ms={str(cause): ms for cause, ms in causes.items()},
            without_tokens_per_s=self._run.tokens_per_s.p50,
            stand_by_for=self._mean.names[stage] if stage is not None else "",
            stand_by_tokens_per_s=1e3 / price if stage is not None else None,
        )

    def _stand_by(self, row: int) -> tuple[int | None, float]:
        """Return the stage that it would take over best, and a token then: the others keep their layers where
        possible."""
        stages = range(len(self._order))
        spares = int(self._serves.sum()) - len(self._order)
        if spares * len(self._order) > _FEW_TRIES:
            stages = range(max(1, _FEW_TRIES // max(1, spares)))
        best: tuple[int | None, float] = (None, np.inf)
        for k in stages:
            tried = [*self._order[:k], row, *self._order[k + 1 :]]
            if any(self._lost[other] for other in tried):
                continue
            layers: list[int] | None = self._layers
            if any(n > cap for n, cap in zip(self._layers, self._p50.capacities(tried), strict=True)):
                layers = best_split(self._p50, tried)
            price = np.inf if layers is None else self._p50.price(tried, layers)
            if price < best[1]:
                best = self._order[k], price
        return best

    def _best_of_means(self) -> _Best | None:
        if self._best_mean is None:
            found = self._solve(self._mean, self._best_order)
            if found is None:
                return None
            self._best_mean = _Best(found.order, found.value_ms)
        return self._best_mean

    def _using(self, row: int) -> _Best | None:
        """Return the best placement with an outsider; in a large swarm the best way to fit it into the best
        placement."""
        best = self._best_of_means()
        if best is None or row in best.order:
            return best
        if self._prove:
            found = self._solve(self._mean, best.order, require=row)
            return None if found is None else _Best(found.order, found.value_ms)
        order = _cheapest_with(self._mean, best.order, row)
        layers = best_split(self._mean, order) if order else None
        return None if layers is None else _Best(order, self._mean.price([*order], layers))

    # ------------------------------------------------------------ both

    def _planned_with(self) -> list[int]:
        """Return the rows to solve over: all that serve; in a large swarm the members and the best stand-bys."""
        everybody = np.flatnonzero(self._serves).tolist()
        if len(everybody) <= PLANNED_EXACTLY:
            rows = everybody
        else:
            near = sorted(self._stand_bys, key=lambda row: (self._stand_bys[row][1], row))[:_POOL]
            rows = [row for row in self._members if self._serves[row]] + near
        client = self._mean.client
        return sorted({*rows, *([] if client is None else [client])})

    def _solve(
        self,
        tables: CostTables,  # self._mean or self._p50
        warm: tuple[int, ...],
        *,
        require: int | None = None,
        forbid: int | None = None,
        prove: bool = False,
    ) -> Found | None:
        """Solve; None if nothing fits, or if it cannot be known. Silent nodes are never planned with."""
        if id(tables) not in self._small:
            self._small[id(tables)] = tables.of(self._pool)
        return self._solve_pool(self._small[id(tables)], warm, require=require, forbid=forbid, prove=prove)

    def _solve_pool(
        self,
        few: CostTables,
        warm: tuple[int, ...],
        *,
        require: int | None = None,
        forbid: int | None = None,
        prove: bool = False,
    ) -> Found | None:
        """The same on tables of the pool; rows are those of the swarm."""
        place = {row: at for at, row in enumerate(self._pool)}
        if require is not None and require not in place:
            return None
        try:
            found = solve(
                few,
                allowed=self._serves[self._pool],
                require=() if require is None else (place[require],),
                forbid=() if forbid is None or forbid not in place else (place[forbid],),
                warm=tuple(place[row] for row in warm if row in place),
                prove=self._prove or prove,
                time_limit_s=_SOLVE_S,
            )
        except (DoesNotFit, NotMeasured):
            return None
        return replace(found, order=tuple(self._pool[at] for at in found.order))

    def _causes(self, row: int, order: tuple[int, ...]) -> dict[Cause, float]:
        """Return the milliseconds of each cause alone, the largest first. The placement with the node keeps its order;
        layers are split again, and any one other stage may go."""
        client = self._mean.client
        rows = list(dict.fromkeys([*order, row, *([] if client is None else [client])]))
        usual = self._usual(row, rows)
        layers = self._layers if order == self._order else best_split(self._mean, order)
        if usual is None or layers is None:
            return {}
        few, parts = self._mean.of(rows), _parts_of(self._parts, rows)  # of a thousand nodes, only these matter
        short, at = tuple(rows.index(node) for node in order), rows.index(row)
        as_is = few.price([*short], layers)
        present_ms = _cheapest(few, short, at)
        found: dict[Cause, float] = {}
        for cause in CAUSES:
            tables = relieved(few, parts, self._share, at, (cause,), usual)
            saved = max(
                as_is - tables.price([*short], layers),
                present_ms - _cheapest(tables, short, at) if np.isfinite(present_ms) else 0.0,
            )
            if saved > _NOISE_MS and np.isfinite(saved):
                found[cause] = float(saved)
        first = _largest_first(found)
        return {cause: found[cause] for cause in first}

    def _usual(self, row: int, peers: Sequence[int]) -> Typical | None:
        compared = compared_with(row, self._members, self._serves)
        return typical_of(self._mean, self._parts, compared, self._serves, row, peers)


def _largest_first(found: dict[Cause, float]) -> list[Cause]:
    """Order causes. More memory helps only by a new split: what takes half as much as things are is named first."""
    order = sorted(found, key=lambda cause: -found[cause])
    if len(order) > 1 and order[0] == "memory" and found[order[1]] >= found["memory"] / 2:
        order[:2] = order[1], order[0]
    return order


def _parts_of(parts: HopParts, rows: Sequence[int]) -> HopParts:
    at = np.ix_(rows, rows)
    return HopParts(parts.rtt_ms[at], parts.jitter_ms[at], parts.upload_ms[at], parts.software_ms[at])


def _cheapest_with(tables: CostTables, order: tuple[int, ...], row: int) -> tuple[int, ...]:
    """Return the order with `row` added last, first or before the last, or in place of one stage; empty if none
    fits."""
    tries = [(*order, row), (row, *order), (*order[:-1], row, order[-1])]
    tries += [(*order[:k], row, *order[k + 1 :]) for k in range(len(order))]
    best: tuple[int, ...] = ()
    cost = float("inf")
    for tried in tries:
        layers = best_split(tables, tried)
        price = float("inf") if layers is None else tables.price([*tried], layers)
        if price < cost:
            best, cost = tried, price
    return best


def _cheapest(tables: CostTables, order: tuple[int, ...], row: int) -> float:
    """Return the order, or the order without one other stage, with a new split."""
    tries = [list(order)]
    tries += [[node for node in order if node != gone] for gone in order if gone != row]
    prices = [np.inf]
    for tried in tries:
        layers = best_split(tables, tried)
        if layers is not None:
            prices.append(tables.price(tried, layers))
    return float(min(prices))
