"""What each node does to the swarm: what using it costs, what leaving it out gains, and why.

    cost_ms   best time per token of placements that use the node, less the best of those that do not. Below 0 the
              node helps. Where the model does not fit without the node, the comparison is with the same swarm in
              which a typical machine stands in its place: every figure of it that is worse than typical made typical.
    gain_ms   time of the present plan, less the best without the node (None where nothing is left that fits)
    cause_ms  how far the time of a best placement with the node falls when one cause alone is made typical:
              rtt, jitter, upload of its links, its compute, overhead or memory. The rest of the placement keeps its
              order; the layers are split anew, and any one other stage may go. Causes do not add up to the cost.

Typical is what the node is compared with: the median over the nodes and the links of the best placement without it
(over all others that can serve, where there is none). Held against the whole swarm, a node on the wrong side of an
ocean would have no cause: its one near neighbour is nearer than the median pair. Deliveries are means here, not p50,
so that jitter counts. Up to `EXACT_NODES` both bests are proven; beyond, they are what a descent from the present
plan finds.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.cost.build import HopParts, build_tables, hop_parts
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.tables import CostTables
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.chain import Bools, best_split
from swarm_predict.search.near import Nearby
from swarm_predict.search.solve import Found, solve
from swarm_predict.search.star import each
from swarm_predict.types import Cause, DoesNotFit, Impact, NotMeasured, Plan, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

EXACT_NODES: Final = 9  # all bests of so many are proven in a tenth of a second
_CAUSES: Final[tuple[Cause, ...]] = ("rtt", "jitter", "upload", "compute", "memory", "overhead")
_NOISE_MS: Final = 1e-6

# A node overtakes the one ranked above it only by more than noise: this share of that one's cost, or this much.
OVERTAKE_SHARE: Final = 0.05
OVERTAKE_MS: Final = 0.5


def impacts(swarm: Swarm, model: ModelShape, workload: Workload, plan: Plan) -> tuple[Impact, ...]:
    """One Impact for every node of the swarm, in its order. A node that cannot serve has no figures."""
    tables, parts = mean_tables(swarm, model, workload)
    share = _result_share(model, workload)
    rows = {name: row for row, name in enumerate(tables.names)}
    order = [rows[stage.node] for stage in plan.prediction.placement]
    layers = [stage.layers for stage in plan.prediction.placement]
    judge = _Judge(tables, parts, share, tuple(order), tables.price(order, layers))
    return tuple(judge.of(row) for row in range(len(tables.names)))


def rank(found: Collection[Impact], previous: Sequence[str] = ()) -> tuple[Impact, ...]:
    """The costliest first, unknown costs last. The order of `previous` stands unless a cost exceeds that of the one
    above it clearly, so noise does not reshuffle the ranking.

    Each node in turn goes before the first of those placed that it clearly exceeds. Those after that one do not clearly
    exceed it, so they cannot clearly exceed the newcomer either: nobody stands below one that costs clearly less.
    """
    place = {name: at for at, name in enumerate(previous)}
    known = sorted((i for i in found if i.cost_ms is not None), key=lambda i: (-_cost(i), i.node))
    if place:
        known.sort(key=lambda i: place.get(i.node, len(place)))
    steady: list[Impact] = []
    for impact in known:
        above = (k for k, other in enumerate(steady) if _cost(impact) > _cost(other) + _margin_ms(_cost(other)))
        steady.insert(next(above, len(steady)), impact)
    return (*steady, *sorted((i for i in found if i.cost_ms is None), key=lambda i: i.node))


def mean_tables(swarm: Swarm, model: ModelShape, workload: Workload) -> tuple[CostTables, HopParts]:
    """The tables with mean deliveries in place of p50, and what each delivery is made of."""
    tables = build_tables(swarm, model, workload)
    parts = hop_parts(swarm, model, workload)
    mean = parts.rtt_ms + parts.jitter_ms + parts.upload_ms + parts.software_ms
    more = np.where(np.isfinite(mean) & np.isfinite(tables.hop_ms), np.clip(mean - tables.hop_ms, 0.0, None), 0.0)
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
    """Bytes of what the last stage sends, and of what the client sends, as multiples of an activation's."""
    engine = engine_facts(workload)
    sizes = model, workload.batch, workload.activations
    hop = engine.hop_bytes(*sizes)
    return engine.result_bytes(*sizes) / hop, engine.enter_bytes(*sizes) / hop


def _cost(impact: Impact) -> float:
    return impact.cost_ms if impact.cost_ms is not None else -np.inf


def _margin_ms(cost_ms: float) -> float:
    return max(OVERTAKE_MS, OVERTAKE_SHARE * abs(cost_ms))


@dataclass(frozen=True, slots=True)
class _Best:
    order: tuple[int, ...]
    value_ms: float


class _Judge:
    """The bests of one swarm, with and without each node."""

    def __init__(
        self,
        tables: CostTables,
        parts: HopParts,
        share: tuple[float, float],
        present: tuple[int, ...],
        present_ms: float,
    ) -> None:
        self._tables, self._parts, self._share = tables, parts, share
        self._present_ms = present_ms
        self._present = present
        most = np.maximum.reduce([tables.capacity, tables.capacity_first, tables.capacity_last, tables.capacity_only])
        self._serves = (most > 0) & np.isfinite(tables.layer_ms)
        self._prove = int(self._serves.sum()) <= EXACT_NODES
        self._known: dict[tuple[int, ...], _Usual] = {}
        self._near = None if self._prove else Nearby.of(tables, self._serves)
        self._star = None if self._prove or tables.pattern != "star" else each(tables, self._serves)
        best = self._solve(tables, present)
        self._best = best if best is not None else _Best(present, present_ms)

    def of(self, row: int) -> Impact:
        name, used = self._tables.names[row], row in self._present
        if not self._serves[row]:
            return Impact(name, used, None, None, None, {})
        best = self._best
        with_it = best if row in best.order else self._using(row)
        without = best if row not in best.order else self._solve(self._tables, best.order, forbid=row)
        if with_it is None:
            return Impact(name, used, None, None, None, {})
        causes = self._causes(row, with_it, without)
        if without is not None:
            cost = with_it.value_ms - without.value_ms
        else:
            usual = self._usual(row, None)
            relieved = self._tables
            if usual is not None:
                relieved = _typical(self._tables, self._parts, self._share, row, _CAUSES, usual)
            typical = self._solve(relieved, with_it.order, require=row)
            cost = 0.0 if typical is None else max(with_it.value_ms - typical.value_ms, 0.0)
        gain = None if without is None else self._present_ms - without.value_ms
        worst = max(causes, key=lambda cause: causes[cause], default=None)
        return Impact(
            node=name,
            in_placement=used,
            cost_ms=cost,
            gain_ms=gain,
            cause=worst,
            cause_ms={str(cause): value for cause, value in causes.items()},
        )

    def _using(self, row: int) -> _Best | None:
        """The best placement with an outsider; in a large swarm of a chain the best that is found near the best one."""
        if self._star is not None:
            with_it = _cheapest_with(self._tables, self._best.order, row)
            value = float(self._star.using[row])
            return _Best(with_it, value) if with_it and np.isfinite(value) else None
        if self._near is None:
            return self._solve(self._tables, self._best.order, require=row)
        order = self._near.using(row, self._best.order)
        layers = None if order is None else best_split(self._tables, order)
        return None if order is None or layers is None else _Best(order, self._tables.price([*order], layers))

    def _solve(
        self, tables: CostTables, warm: tuple[int, ...], *, require: int | None = None, forbid: int | None = None
    ) -> _Best | None:
        try:
            found: Found = solve(
                tables,
                require=() if require is None else (require,),
                forbid=() if forbid is None else (forbid,),
                warm=warm,
                prove=self._prove,
            )
        except (DoesNotFit, NotMeasured):
            return None
        return _Best(found.order, found.value_ms)

    def _causes(self, row: int, best: _Best, without: _Best | None) -> dict[Cause, float]:
        """Milliseconds that each cause alone takes, those that take any; the largest first."""
        usual = self._usual(row, without)
        if usual is None:
            return {}
        client = self._tables.client
        rows = list(dict.fromkeys([*best.order, row, *([] if client is None else [client])]))
        few, parts = self._tables.of(rows), _parts_of(self._parts, rows)  # of a thousand nodes, only these matter
        order, at = tuple(rows.index(node) for node in best.order), rows.index(row)
        present_ms = best.value_ms if self._star is None else _cheapest(few, order, at)
        found: dict[Cause, float] = {}
        for cause in _CAUSES:
            saved = present_ms - _cheapest(_typical(few, parts, self._share, at, (cause,), usual), order, at)
            if saved > _NOISE_MS:
                found[cause] = saved
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _usual(self, row: int, without: _Best | None) -> _Usual | None:
        """What is typical beside `row`; None where there is nothing to compare with."""
        if without is not None:
            if without.order not in self._known:
                others = np.isin(np.arange(len(self._serves)), without.order)
                ways = _ways(self._tables, without.order)
                by_part = (self._parts.rtt_ms, self._parts.jitter_ms, self._parts.upload_ms)
                # one machine that holds it all pays no path
                typical = [float(np.median([part[way] for way in ways])) if ways else 0.0 for part in by_part]
                self._known[without.order] = _usual(self._tables, others, *typical)
            return self._known[without.order]
        others = self._serves.copy()
        others[row] = False
        if not others.any():
            return None
        aside = np.ones(self._parts.rtt_ms.shape, dtype=np.bool_)
        np.fill_diagonal(aside, False)
        aside[row, :] = aside[:, row] = False
        parts = (self._parts.rtt_ms, self._parts.jitter_ms, self._parts.upload_ms)
        return _usual(self._tables, others, *(_median(part[aside & np.isfinite(part)]) for part in parts))


@dataclass(frozen=True, slots=True)
class _Usual:
    """What a typical machine and a typical way take."""

    layer_ms: float
    head_ms: float
    overhead_ms: float
    rooms: dict[str, int]
    rtt_ms: float
    jitter_ms: float
    upload_ms: float


_ROOMS: Final = ("capacity", "capacity_first", "capacity_last", "capacity_only")


def _usual(tables: CostTables, others: Bools, rtt_ms: float, jitter_ms: float, upload_ms: float) -> _Usual:
    return _Usual(
        layer_ms=_median(tables.layer_ms[others]),
        head_ms=_median(tables.head_ms[others]),
        overhead_ms=_median(tables.overhead_ms[others]),
        rooms={column: int(np.median(getattr(tables, column)[others])) for column in _ROOMS},
        rtt_ms=rtt_ms,
        jitter_ms=jitter_ms,
        upload_ms=upload_ms,
    )


def _typical(
    tables: CostTables,
    parts: HopParts,
    share: tuple[float, float],
    row: int,
    causes: Sequence[Cause],
    usual: _Usual,
) -> CostTables:
    """The tables with the node no worse than usual in these respects."""
    if "compute" in causes:
        tables = replace(
            tables,
            layer_ms=_lowered(tables.layer_ms, row, usual.layer_ms),
            head_ms=_lowered(tables.head_ms, row, usual.head_ms),
        )
    if "overhead" in causes:
        tables = replace(tables, overhead_ms=_lowered(tables.overhead_ms, row, usual.overhead_ms))
    if "memory" in causes:
        for column, most in usual.rooms.items():
            room = getattr(tables, column).copy()
            room[row] = max(int(room[row]), most)
            tables = replace(tables, **{column: room})
    for cause, part, typical_ms in (
        ("rtt", parts.rtt_ms, usual.rtt_ms),
        ("jitter", parts.jitter_ms, usual.jitter_ms),
        ("upload", parts.upload_ms, usual.upload_ms),
    ):
        if cause in causes:
            tables = _relieved(tables, row, part, typical_ms, share if cause == "upload" else (1.0, 1.0))
    return tables


def _relieved(tables: CostTables, row: int, part: Floats, typical_ms: float, share: tuple[float, float]) -> CostTables:
    """The links of `row` without what one part of them takes above the typical link's. `share`: of a result, and of
    what the client sends, in an activation's bytes."""
    touched = np.zeros(part.shape, dtype=np.bool_)
    touched[row, :] = touched[:, row] = True
    touched[row, row] = False
    excess = np.where(touched & np.isfinite(part), np.clip(part - typical_ms, 0.0, None), 0.0)
    result, enter = share
    client = tables.client
    return replace(
        tables,
        hop_ms=_less(tables.hop_ms, excess),
        back_ms=_less(tables.back_ms, excess * result),
        enter_ms=tables.enter_ms if client is None else _less(tables.enter_ms, excess[client] * enter),
        leave_ms=tables.leave_ms if client is None else _less(tables.leave_ms, excess[:, client]),
        final_ms=tables.final_ms if client is None else _less(tables.final_ms, excess[:, client] * result),
    )


def _parts_of(parts: HopParts, rows: Sequence[int]) -> HopParts:
    at = np.ix_(rows, rows)
    return HopParts(parts.rtt_ms[at], parts.jitter_ms[at], parts.upload_ms[at], parts.software_ms[at])


def _ways(tables: CostTables, order: tuple[int, ...]) -> list[tuple[int, int]]:
    """The directed links that a token of this placement travels."""
    home = tables.client
    if tables.pattern == "star":
        hub = order[0] if home is None else home
        return [way for node in order if node != hub for way in ((hub, node), (node, hub))]
    round_trip = [*order, order[0]] if home is None else [home, *order, home]
    return [way for way in itertools.pairwise(round_trip) if way[0] != way[1]]


def _cheapest_with(tables: CostTables, order: tuple[int, ...], row: int) -> tuple[int, ...]:
    """The order with `row` added last, first or before the last, or in place of one stage; empty where none fits."""
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
    """The order, or the order without one other stage, split anew."""
    tries = [list(order)]
    tries += [[node for node in order if node != gone] for gone in order if gone != row]
    prices = [np.inf]
    for tried in tries:
        layers = best_split(tables, tried)
        if layers is not None:
            prices.append(tables.price(tried, layers))
    return float(min(prices))


def _median(values: Floats) -> float:
    """Infinite where there is nothing to compare with: then nothing is worse than typical."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float(np.inf)


def _lowered(values: Floats, row: int, most: float) -> Floats:
    lowered = values.copy()
    lowered[row] = min(float(values[row]), most)
    return lowered


def _less(values: Floats, excess: Floats) -> Floats:
    return np.where(excess > 0, np.maximum(values - excess, 0.0), values)
