"""Find the best placement, and bound its distance from the optimum.

`solve` is pure on cost tables; `plan` builds them from a swarm and prices the answer. Every answer carries its own
certificate: a proven bound, and whether it is met. Latency over a chain is exact up to 18 nodes and certified
beyond; over a star, and for throughput, it is exact for any number of nodes.

Work is counted in steps, not in seconds, so the same question has the same answer on any machine; the time limit is
a net below that.
"""

from __future__ import annotations

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
from swarm_predict.search.card_groups import best_size, sizes_of
from swarm_predict.search.chain import Bools, servers
from swarm_predict.search.compiled.availability import fast
from swarm_predict.search.infeasible import memory_need, why_not
from swarm_predict.search.left_out import known_well_enough, left_out, too_far
from swarm_predict.search.limits import EXACT_NODES
from swarm_predict.search.objectives.found import Found, Question, best_of, tie
from swarm_predict.search.objectives.latency import least_latency
from swarm_predict.search.objectives.throughput import least_period
from swarm_predict.search.plan_shared import plan_shared
from swarm_predict.search.solvers.period import cases, limit, of_case
from swarm_predict.search.solvers.pinned import Pins, check_pins, solve_pinned
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
from swarm_protocol.snapshot.swarm import Swarm

MAX_LOST = 0.9  # of the time: a node that is hardly ever there still has a price


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
    question = Question(tables, usable, required, stages, seed, warm, prove, streams, lambda: clock() > end)
    found = least_latency(question) if objective == "latency" else least_period(question)
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
        question = Question(limited.tables, *nodes, min(n, tables.layers), seed, (), True, np.inf, ends)
        found = least_latency(question, limited.stages_by_first)
        answers += [] if found is None else [found]
    if not answers:
        limited = limit(tables, period_ms, min(n, tables.layers), cases(tables)[0])
        raise why_not(limited.tables, anyone, required, min(n, tables.layers))
    return best_of(answers)


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
    return Found(order, tuple(layers), value, min(free.bound_ms, value), value <= free.bound_ms + tie(value))


def placement_of(tables: CostTables, found: Found) -> Placement:
    """Contiguous layers in the order of the stages."""
    stages, begin = [], 0
    for row, count in zip(found.order, found.layers, strict=True):
        stages.append(Stage(tables.names[row], begin, begin + count - 1))
        begin += count
    return tuple(stages)


def _passed(end_s: float) -> bool:
    return time.monotonic() > end_s
