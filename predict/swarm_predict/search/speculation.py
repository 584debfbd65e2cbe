"""Choose the number of draft tokens of a window, the windows in flight, and the placement for both.

A stream with several windows in flight is bound by the slowest station as well as by the trip: the best placement lies
between the quickest and the one of the shortest period. Candidates are those two and what lies between, under several
numbers of guesses; each is priced with every number of windows, by `forecast.windows` on the medians of the tables.

The bound holds for all placements, guesses and windows that were allowed: `least_ms` does not fall when the trip or the
slowest station grow, and neither is below what `solve` proved for it. More guesses make both longer, so that on large
swarms the bounds of one guess serve for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.cost.build import build_tables, with_uplinks
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.speculative import drafting_ms, outcomes, step_yield
from swarm_predict.cost.tables import CostTables
from swarm_predict.forecast.prediction import predict
from swarm_predict.forecast.windows import Route, flow, least_ms, outcome_sequence
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import rows_of
from swarm_predict.search.left_out import known_well_enough, left_out
from swarm_predict.search.limits import EXACT_NODES
from swarm_predict.search.objectives.found import Found
from swarm_predict.search.solve import placement_of, solve, solve_within
from swarm_predict.types import DoesNotFit, NotMeasured, Plan, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

MAX_WINDOWS: Final = 8  # that a plan considers by default
_GUESSES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_WINDOWS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_FOLLOWED: Final = 256  # windows of each candidate
_BETWEEN: Final = (0.25, 0.5, 0.75)  # of the way from the quickest placement's period to the shortest, in ratio
_WORTH: Final = 0.01  # of the time: more windows than it takes for that are not chosen


@dataclass(frozen=True, slots=True)
class _Candidate:
    load: Workload  # one window
    tables: CostTables
    found: Found

    @property
    def step_ms(self) -> float:
        """Return the time of a window's whole step, drafting included."""
        return self.tables.price([*self.found.order], [*self.found.layers]) * step_yield(self.load)

    def route(self) -> tuple[list[float], list[float]]:
        """Return (service, delay) of the stations: the client's uplink, each stage and its uplink, the client."""
        tables, (order, layers) = self.tables, (self.found.order, self.found.layers)
        service, delay = [], []
        if tables.client is not None:
            service.append(tables.client_uplink_ms)
            delay.append(float(tables.enter_ms[order[0]]) - tables.client_uplink_ms)
        assert tables.uplink_ms is not None  # `with_uplinks` has put them there
        assert tables.uplink_last_ms is not None
        for k, (row, count) in enumerate(zip(order, layers, strict=True)):
            last = k == len(order) - 1
            visit = float(tables.overhead_ms[row] + count * tables.layer_ms[row])
            service.append(visit + (float(tables.head_ms[row]) if last else 0.0))
            delay.append(0.0)
            if last:
                way = tables.back_ms[row, order[0]] if tables.client is None else tables.final_ms[row]
                busy = float(tables.uplink_last_ms[row])
            else:
                way, busy = tables.hop_ms[row, order[k + 1]], float(tables.uplink_ms[row])
            busy = min(busy, float(way))
            service.append(busy)
            delay.append(float(way) - busy)
        scale = step_yield(self.load)
        service.append(tables.client_head_ms - drafting_ms(self.load) / scale)
        delay.append(0.0)
        return [ms * scale for ms in service], [ms * scale for ms in delay]


def plan_speculation(
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    *,
    most_windows: int = MAX_WINDOWS,
    time_limit_s: float = 3.0,
    forbid: Iterable[str] = (),
    require: Iterable[str] = (),
    max_stages: int | None = None,
) -> tuple[Plan, Workload]:
    """Return the best plan with at most `workload.draft_tokens` guesses and `most_windows` windows, and the load that
    it is for. Guessing nothing is considered as well.

    Raises as `search.plan` does."""
    forbid = list(forbid)
    rows = (rows_of(swarm, forbid, "--forbid"), rows_of(swarm, require, "--require"))
    in_flight = engine_facts(workload).pattern == "chain" and workload.batch == 1
    counts = [w for w in _WINDOWS if w == 1 or (in_flight and w <= most_windows)]
    guesses = [k for k in _GUESSES if k < workload.draft_tokens] + [workload.draft_tokens]
    loads = [replace(workload, draft_tokens=k, windows=1) for k in (0, *guesses)]
    small = len(swarm) <= EXACT_NODES
    solved_for = loads if small else [loads[0], loads[1], loads[-1]]
    # exact searches of small swarms end long before that; what runs out of time goes to the slower certificates
    each_s = time_limit_s if small else time_limit_s / (len(solved_for) * (2 + len(_BETWEEN)))

    quickest: dict[int, Found] = {}
    shortest: dict[int, Found] = {}
    placements: dict[tuple[tuple[int, ...], tuple[int, ...]], Found] = {}
    all_tables = {load.draft_tokens: _tables(swarm, model, load) for load in loads}
    for load in solved_for:
        tables = all_tables[load.draft_tokens]
        quick = _solve(tables, rows, max_stages, each_s, workload.seed, throughput=False)
        quickest[load.draft_tokens] = quick
        for found in (quick, *(_wider(tables, quick, rows, max_stages, each_s, shortest, load) if in_flight else ())):
            placements[found.order, found.layers] = found
    candidates = [
        _Candidate(load, all_tables[load.draft_tokens], found) for load in loads for found in placements.values()
    ]
    best, windows, value = _cheapest([c for c in candidates if np.isfinite(c.step_ms)], counts)
    bounds = []
    for load in loads:
        known = load.draft_tokens if load.draft_tokens in quickest else loads[1].draft_tokens
        trip = quickest[known].bound_ms * step_yield(replace(load, draft_tokens=known)) - drafting_ms(
            replace(load, draft_tokens=known)
        )
        bounds.append((trip + drafting_ms(load)) / step_yield(load))
        if load.draft_tokens and len(counts) > 1:
            slow = shortest[known].bound_ms * step_yield(replace(load, draft_tokens=known))
            chances = outcomes(load)
            bounds += [least_ms(trip, slow, drafting_ms(load), chances, w) for w in counts if w > 1]
    bound = min(value, *bounds)
    chosen = replace(best.load, windows=windows)
    missing = left_out(swarm, best.tables, workload.client or swarm.client, forbid)
    prediction = predict(swarm, model, placement_of(best.tables, best.found), chosen)
    # the sampled windows of one prediction are off by a percent or two: never below what is proven
    gap = max(0.0, prediction.tpot_ms.p50 / bound - 1) if bound > 0 else float("inf")
    return (
        Plan(
            prediction=prediction,
            objective="latency",
            bound_ms=bound,
            gap=gap,
            exact=False,
            left_out=missing,
            considered=known_well_enough(swarm, missing, forbid),
        ),
        chosen,
    )


def _tables(swarm: Swarm, model: ModelShape, load: Workload) -> CostTables:
    """Return the tables, with what a whole window occupies an uplink, per token as everything in them."""
    tables = build_tables(swarm, model, load)
    if tables.pattern != "chain":
        return tables
    return with_uplinks(tables, swarm, model, load)


def _solve(
    tables: CostTables,
    rows: tuple[Sequence[int], Sequence[int]],
    max_stages: int | None,
    time_limit_s: float,
    seed: int,
    *,
    throughput: bool,
) -> Found:
    return solve(
        tables,
        objective="throughput" if throughput else "latency",
        time_limit_s=time_limit_s,
        forbid=rows[0],
        require=rows[1],
        max_stages=max_stages,
        seed=seed,
    )


def _wider(
    tables: CostTables,
    quick: Found,
    rows: tuple[Sequence[int], Sequence[int]],
    max_stages: int | None,
    each_s: float,
    shortest: dict[int, Found],
    load: Workload,
) -> Iterable[Found]:
    """Yield the placement of the shortest period, and quick ones of periods between."""
    wide = _solve(tables, rows, max_stages, each_s, load.seed, throughput=True)
    shortest[load.draft_tokens] = wide
    yield wide
    first = tables.period([*quick.order], [*quick.layers])
    last = tables.period([*wide.order], [*wide.layers])
    if rows[0] or max_stages is not None or not last < first:
        return
    for share in _BETWEEN:
        try:
            yield solve_within(
                tables, first * (last / first) ** share, time_limit_s=each_s, seed=load.seed, require=rows[1]
            )
        except (DoesNotFit, NotMeasured):
            continue


def _cheapest(candidates: Sequence[_Candidate], counts: Sequence[int]) -> tuple[_Candidate, int, float]:
    """Return (candidate, windows, ms per token): the least time, with no more windows than are worth it."""
    alone = [(c.step_ms / step_yield(c.load), 1, c) for c in candidates]
    many = [c for c in candidates if c.load.draft_tokens and len(counts) > 1]
    priced = alone + (_in_flight(many, counts[1:]) if many else [])
    least = min(ms for ms, _, _ in priced)
    good = [each for each in priced if each[0] <= least * (1 + _WORTH)]
    ms, windows, best = min(good, key=lambda each: (each[1], each[0]))
    return best, windows, ms


def _in_flight(candidates: Sequence[_Candidate], counts: Sequence[int]) -> list[tuple[float, int, _Candidate]]:
    """Price every candidate with every number of windows, all in one go."""
    routes = [c.route() for c in candidates]
    most = max(len(service) for service, _ in routes)

    def padded(part: int) -> Floats:
        return np.array([[*route[part], *[0.0] * (most - len(route[part]))] for route in routes]).T.repeat(
            len(counts), axis=1
        )

    sequences = {k: outcome_sequence(outcomes(c.load), _FOLLOWED) for c in candidates for k in [c.load.draft_tokens]}
    client = candidates[0].tables.client
    found = flow(
        Route(
            np.array([drafting_ms(c.load) for c in candidates]).repeat(len(counts)),
            padded(0),
            padded(1),
            drafter=0 if client is None else None,
        ),
        np.array([sequences[c.load.draft_tokens] for c in candidates]).T.repeat(len(counts), axis=1),
        np.tile(np.array(counts), len(candidates)),
    ).ms_per_token.reshape(len(candidates), len(counts))
    return [
        (float(ms), w, c) for c, line in zip(candidates, found, strict=True) for w, ms in zip(counts, line, strict=True)
    ]
