"""Find the best placement, and bound its distance from the optimum.

`solve` is pure on cost tables; `plan` builds them from a swarm and prices the answer. Every answer carries its own
certificate: a proven bound, and whether it is met. Latency over a chain is exact up to 18 nodes and certified
beyond; over a star, and for throughput, it is exact for any number of nodes.

Work is counted in steps, not in seconds, so the same question has the same answer on any machine; the time limit is
a net below that.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from swarm_predict.cost.build import build_tables, with_uplinks
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.speculative import drafting_ms, outcomes, step_yield
from swarm_predict.cost.tables import CostTables
from swarm_predict.forecast.prediction import predict
from swarm_predict.forecast.windows import least_ms
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import rows_of
from swarm_predict.search.bounds.certify import certify
from swarm_predict.search.card_groups import best_size, sizes_of
from swarm_predict.search.chain import TIE_MS, Bools, Chain, chain_of, servers, split_of
from swarm_predict.search.compiled.availability import fast
from swarm_predict.search.infeasible import memory_need, why_not
from swarm_predict.search.left_out import known_well_enough, left_out, too_far
from swarm_predict.search.limits import EXACT_NODES
from swarm_predict.search.plan_shared import plan_shared
from swarm_predict.search.solvers.descent import Descent
from swarm_predict.search.solvers.exact import solve_exact
from swarm_predict.search.solvers.period import Case, cases, holds, limit, of_case, periods
from swarm_predict.search.solvers.pinned import Pins, check_pins, solve_pinned
from swarm_predict.search.solvers.star import solve_star
from swarm_predict.types import (
    BadPlacement,
    DoesNotFit,
    LeftOut,
    NotMeasured,
    Objective,
    Placement,
    Plan,
    Stage,
    Workload,
)
from swarm_protocol.snapshot.swarm import Ints, Swarm

MAX_LOST = 0.9  # of the time: a node that is hardly ever there still has a price


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of the tables, in the order of the stages, and the layers of each."""

    order: tuple[int, ...]
    layers: tuple[int, ...]
    value_ms: float  # latency: of one step; throughput: between two steps
    bound_ms: float  # proven: no placement has less
    exact: bool

    @property
    def gap(self) -> float:
        """Return how much better the optimum could be, as a fraction of the bound."""
        if self.exact or self.value_ms <= self.bound_ms:
            return 0.0
        return self.value_ms / self.bound_ms - 1 if self.bound_ms > 0 else float("inf")


def solve(
    tables: CostTables,
    *,
    objective: Objective = "latency",
    time_limit_s: float = 3.0,
    allowed: Bools | None = None,
    require: Iterable[int] = (),
    forbid: Iterable[int] = (),
    max_stages: int | None = None,
    seed: int = 0,
    warm: tuple[int, ...] = (),
    prove: bool = True,
    streams: float = np.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """The best placement over these tables. `warm`: an order to begin with, as of the plan before this one.
    `prove=False` takes what the descent finds where a proof would take long; its bound is then 0.
    `streams`: steps in flight, for throughput; infinity fills any pipeline.

    Raises DoesNotFit if memory does not suffice, NotMeasured if times or links that it needs are not known.
    """
    n = len(tables.names)
    usable = np.ones(n, dtype=np.bool_) if allowed is None else allowed.copy()
    usable[list(forbid)] = False
    required = np.zeros(n, dtype=np.bool_)
    required[list(require)] = True
    stages = max(1, min(n, tables.layers, max_stages if max_stages is not None else n))
    if tables.pattern == "chain" and int(servers(tables, usable).sum()) > EXACT_NODES:
        fast()  # loaded, and once in a machine's life compiled, before the clock runs
    end = clock() + time_limit_s
    question = _Question(tables, usable, required, stages, seed, warm, prove, streams, lambda: clock() > end)
    found = _latency(question) if objective == "latency" else _throughput(question)
    if found is None:
        raise why_not(tables, usable, required, stages)
    return found


def solve_within(
    tables: CostTables, period_ms: float, *, time_limit_s: float = 3.0, seed: int = 0, require: Iterable[int] = ()
) -> Found:
    """The least latency among placements that deliver a step every `period_ms` or sooner. Raises as `solve`."""
    n = len(tables.names)
    anyone, required = np.ones(n, np.bool_), np.zeros(n, dtype=np.bool_)
    required[list(require)] = True
    answers: list[Found] = []
    for case in cases(tables):
        nodes = of_case(tables, case, anyone, required)
        if nodes is None:
            continue
        limited = limit(tables, period_ms, min(n, tables.layers), case)
        if tables.pattern == "chain" and int(servers(limited.tables, nodes[0]).sum()) > EXACT_NODES:
            fast()
        ends = partial(_passed, time.monotonic() + time_limit_s / len(cases(tables)))
        question = _Question(limited.tables, *nodes, min(n, tables.layers), seed, (), True, np.inf, ends)
        found = _latency(question, limited.stages_by_first)
        answers += [] if found is None else [found]
    if not answers:
        limited = limit(tables, period_ms, min(n, tables.layers), cases(tables)[0])
        raise why_not(limited.tables, anyone, required, min(n, tables.layers))
    return _best_of(answers)


@dataclass(frozen=True, slots=True)
class Reliability:
    """The rates of node losses and their cost. A stream stops until another node has taken over."""

    losses_per_hour: Mapping[str, float]  # by node; others are never lost
    recovery_s: float = 60.0  # until the next token: noticing, loading weights, reading the prompt again

    def share(self, node: str) -> float:
        """Return the share of time that is lost to failures of this node."""
        return min(self.losses_per_hour.get(node, 0.0) * self.recovery_s / 3600.0, MAX_LOST)


def plan(
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    objective: Objective = "latency",
    *,
    time_limit_s: float = 3.0,
    forbid: Iterable[str] = (),
    require: Iterable[str] = (),
    pins: Sequence[Stage] = (),
    max_stages: int | None = None,
    reliability: Reliability | None = None,
    warm: Placement = (),
    tables: CostTables | None = None,
) -> Plan:
    """The best placement of `model` on `swarm`, predicted, with its certificate. `warm`: the placement before. `pins`:
    stages that stay as they are. `reliability`: each visit also pays for the node's expected losses. `tables`: of this
    question, if they were built already.

    Raises DoesNotFit with what is needed and what is there, NotMeasured with what is missing, BadPlacement for a
    name that is no node and for pins that contradict each other.
    """
    forbid = list(forbid)
    sizes = sizes_of(swarm, model, workload, forbid)
    if len(set(sizes.values())) > 1:

        def planned(load: Workload, without: list[str]) -> Plan:
            return plan(
                swarm, model, load, objective, time_limit_s=time_limit_s, forbid=without, require=require, pins=pins,
                max_stages=max_stages, reliability=reliability, warm=warm,
            )  # fmt: skip

        return best_size(sizes, workload, objective, forbid, planned)
    if engine_facts(workload).pattern == "all-reduce":
        for given, option in ((pins, "--pin"), (reliability, "--losses"), (objective != "latency", "--objective")):
            if given:
                raise BadPlacement(f"{option} is not planned where machines share layers; leave it out")
        return plan_shared(swarm, model, workload, forbid=forbid, require=require, max_machines=max_stages)
    tables = tables or build_tables(swarm, model, workload)
    if objective == "throughput":
        tables = with_uplinks(tables, swarm, model, workload)
    check_pins(pins, model.layers)
    pinned_rows = rows_of(swarm, [stage.node for stage in pins], "--pin")
    pinned = {row: (stage.first, stage.last) for row, stage in zip(pinned_rows, pins, strict=True)}
    client = workload.client or swarm.client
    missing = left_out(swarm, tables, client, forbid)
    far = too_far(swarm, engine_facts(workload), client, [*forbid, *(each.node for each in missing)])
    missing, forbid = (*missing, *far), [*forbid, *(each.node for each in far)]
    forbidden, required = rows_of(swarm, forbid, "--forbid"), [*rows_of(swarm, require, "--require"), *pinned]

    def best(priced: CostTables) -> Found:
        return solve(
            priced,
            objective=objective,
            time_limit_s=time_limit_s,
            forbid=forbidden,
            require=required,
            max_stages=max_stages,
            seed=workload.seed,
            streams=workload.streams,
            warm=tuple(swarm.index(stage.node) for stage in warm if stage.node in swarm.names),
        )

    try:
        found = best(tables)
        paid = tables
        if reliability is not None:
            price = tables.price([*found.order], [*found.layers])
            shares = np.array([reliability.share(name) for name in tables.names])
            paid = replace(tables, overhead_ms=tables.overhead_ms + shares * price)
            found = best(paid)
        if pinned:
            found = _pinned(paid, pinned, found, forbidden, frozenset(required), max_stages, objective, time_limit_s)
    except DoesNotFit as error:
        raise DoesNotFit(f"{model.name} {memory_need(swarm, model, workload)}: {error}{_without(missing)}") from error
    except NotMeasured as error:
        raise NotMeasured(f"{error}{_without(missing)}") from error
    order, layers = [*found.order], [*found.layers]
    prediction = predict(swarm, model, placement_of(tables, found), workload)
    found = _with_windows(found, prediction.tpot_ms.p50, workload, objective)
    return Plan(
        prediction=prediction,
        objective=objective,
        bound_ms=found.bound_ms,
        gap=found.gap,
        exact=found.exact,
        losses_ms=paid.price(order, layers) - tables.price(order, layers),
        left_out=missing,
        considered=known_well_enough(swarm, missing, forbid),
    )


def _with_windows(found: Found, value_ms: float, workload: Workload, objective: Objective) -> Found:
    """Adjust the certificate to several verify windows in flight: the tables are for one window at a time."""
    if workload.windows == 1 or objective != "latency":
        return found
    alone = found.bound_ms * step_yield(workload) - drafting_ms(workload)
    bound = least_ms(alone, 0.0, drafting_ms(workload), outcomes(workload), workload.windows)
    return replace(found, value_ms=value_ms, bound_ms=min(bound, value_ms), exact=False)


def _without(missing: Sequence[LeftOut]) -> str:
    """Name the nodes that were not considered, at the end of an error."""
    return "".join(f"; left out: {each.node}, {each.why}" for each in missing)


def _pinned(
    tables: CostTables,
    pins: Pins,
    free: Found,
    forbidden: Sequence[int],
    kept: frozenset[int],
    max_stages: int | None,
    objective: Objective,
    time_limit_s: float,
) -> Found:
    """`free`: the answer to the same question with the pinned nodes merely required; its bound holds here too."""
    if objective != "latency":
        raise BadPlacement("--pin plans for latency; leave out --objective throughput")
    end = time.monotonic() + time_limit_s
    usable = [row for row in range(len(tables.names)) if row not in forbidden and np.isfinite(tables.layer_ms[row])]
    most = min(len(usable), tables.layers, max_stages or tables.layers)
    order, layers, value = solve_pinned(tables, pins, free.order, usable, kept, most, lambda: time.monotonic() > end)
    return Found(order, tuple(layers), value, min(free.bound_ms, value), value <= free.bound_ms + _tie(value))


def placement_of(tables: CostTables, found: Found) -> Placement:
    """Contiguous layers in the order of the stages."""
    stages, begin = [], 0
    for row, count in zip(found.order, found.layers, strict=True):
        stages.append(Stage(tables.names[row], begin, begin + count - 1))
        begin += count
    return tuple(stages)


@dataclass(frozen=True, slots=True)
class _Question:
    tables: CostTables
    usable: Bools
    required: Bools
    max_stages: int
    seed: int
    warm: tuple[int, ...]
    prove: bool
    streams: float
    out_of_time: Callable[[], bool]


def _latency(question: _Question, stages_by_first: Ints | None = None) -> Found | None:
    tables = question.tables
    if (question.required & ~question.usable).any():
        return None
    if tables.pattern == "star":
        by_first = np.full(len(tables.names), question.max_stages, dtype=np.int64)
        if stages_by_first is not None:
            by_first = np.minimum(by_first, stages_by_first)
        star = solve_star(tables, question.usable, question.required, by_first, question.out_of_time)
        if star is None:
            return None
        value = tables.price(star.order, star.layers)
        bound = min(value, star.bound)
        return Found(tuple(star.order), tuple(star.layers), value, bound, value - bound <= _tie(value))
    chain = chain_of(tables, question.usable, question.required, question.max_stages)
    if int(chain.required.sum()) < int(question.required.sum()):
        return None  # a required node cannot serve at all
    answer = _chain(chain, question)
    if answer is None:
        return None
    order, bound, exact = answer
    layers = split_of(chain, order)
    rows = [int(chain.rows[node]) for node in order]
    value = tables.price(rows, layers)
    return Found(tuple(rows), tuple(layers), value, value if exact else min(bound, value), exact)


def _tie(value: float) -> float:
    return TIE_MS + 1e-9 * abs(value)


def _chain(chain: Chain, question: _Question) -> tuple[list[int], float, bool] | None:
    """(order, bound, exact) over rows of the chain."""
    n = len(chain)
    if n == 0 or chain.most.sum() < chain.total:
        return None
    descent = Descent(chain, question.seed, question.out_of_time)
    if question.warm:
        at = {int(row): i for i, row in enumerate(chain.rows)}
        descent.offer([tuple(at[row] for row in question.warm if row in at)])
    if question.prove or descent.best is None:
        descent.construct()
        if n > 10:
            descent.kick(12)
    if not question.prove:
        return None if descent.best is None else (descent.best, 0.0, False)
    if n <= EXACT_NODES:
        solved = solve_exact(chain, descent.best_cost, question.out_of_time)
        if solved is not None:
            order = solved[0] if solved[0] is not None else descent.best
            return None if order is None else (order, solved[1], True)
    order, bound, exact = certify(chain, descent, question.out_of_time)
    return None if order is None else (order, bound, exact)


def _throughput(question: _Question) -> Found | None:
    """Least time between two steps: of the pipeline's period and of latency over streams, the longer one.

    A longer period allows a quicker placement, so the two meet once: bisect over the periods for the meeting point.
    Placements of a shorter period are bounded by the latency there, those of a longer one by their period.
    """
    found = []
    for case in cases(question.tables):
        nodes = of_case(question.tables, case, question.usable, question.required)
        if nodes is not None:
            usable, required = nodes
            found.append(_throughput_of(replace(question, usable=usable, required=required), case))
    answers = [each for each in found if each is not None]
    if not answers:
        return None
    return _best_of(answers)


def _passed(end_s: float) -> bool:
    return time.monotonic() > end_s


def _best_of(answers: Sequence[Found]) -> Found:
    """Return the best answer to questions that are all placements together."""
    best, bound = min(answers, key=lambda each: each.value_ms), min(each.bound_ms for each in answers)
    exact = best.value_ms <= bound + _tie(bound)
    return replace(best, bound_ms=best.value_ms if exact else bound, exact=exact)


def _throughput_of(question: _Question, case: Case) -> Found | None:
    tables, usable, required = question.tables, question.usable, question.required
    usable = usable & np.isfinite(tables.layer_ms) & np.isfinite(tables.overhead_ms)
    if (required & ~usable).any():
        return None
    steps = periods(tables, usable)

    def allows(at: int) -> bool:
        return holds(limit(tables, float(steps[at]), question.max_stages, case), usable, required)

    first = bisect.bisect_left(range(len(steps)), True, key=allows)
    tried: dict[int, Found | None] = {}

    def meets(at: int) -> bool:
        found = tried[at] = _at_period(question, float(steps[at]), case, prove=False)
        return found is not None and found.value_ms / question.streams <= steps[at] + _tie(float(steps[at]))

    if first == len(steps):
        return None
    meeting = first if meets(first) else bisect.bisect_left(range(len(steps)), True, lo=first + 1, key=meets)
    bounds = [float(steps[meeting])] if meeting < len(steps) else []
    if meeting > first:
        before = tried[meeting - 1] = _at_period(question, float(steps[meeting - 1]), case, prove=True)
        if before is not None:
            bounds.append(max(before.bound_ms / question.streams, float(steps[first])))
        elif int(usable.sum()) > EXACT_NODES:  # not found, but not proven absent either
            bounds.append(float(steps[first]))
    answers = [found for found in tried.values() if found is not None]
    if not answers:
        return None

    def value_of(found: Found) -> float:
        return max(tables.period([*found.order], [*found.layers]), found.value_ms / question.streams)

    best = min(answers, key=lambda found: (value_of(found), found.value_ms))
    value, bound = value_of(best), min(bounds)
    exact = value <= bound + _tie(bound)
    return Found(best.order, best.layers, value, value if exact else bound, exact)


def _at_period(question: _Question, period: float, case: Case, *, prove: bool) -> Found | None:
    limited = limit(question.tables, period, question.max_stages, case)
    small = int(question.usable.sum()) <= EXACT_NODES  # a proof costs no more than the descent there
    return _latency(replace(question, tables=limited.tables, prove=prove or small), limited.stages_by_first)
