"""Analyse one frame: what the swarm can do, what it runs and which node slows it down, as a plan and a ranking."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from swarm_predict.advice.nodes import impact
from swarm_predict.advice.replan_policy import Follower, Proposal, price_of
from swarm_predict.cost.build import build_tables
from swarm_predict.cost.tables import CostTables
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.solve import plan as search_plan
from swarm_predict.types import (
    Engine,
    Impact,
    NotMeasured,
    Objective,
    Placement,
    Plan,
    PredictError,
    Prediction,
    Workload,
)
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.text import safe
from swarmtop.analysis.ranking.node_rows import Row, RunningSummary, rows_of
from swarmtop.analysis.ranking.states import degraded_of
from swarmtop.analysis.runs import running as placements
from swarmtop.analysis.runs.running import RunningNow
from swarmtop.analysis.unmeasured import alive, gone_nodes, listed, missing, only, untimed

__all__ = ["Analysis", "Row", "alive", "analyse", "missing", "only", "steady", "unplanned"]

# of a token's time: a plan this close to the best one stays, so that the display does not flicker
SAME_PLAN: Final = 0.01


@dataclass(frozen=True, slots=True)
class Analysis:
    """The answer about one frame."""

    at_ns: int  # of the frame
    model: str
    weights: str
    engine: Engine
    plan: Plan | None
    why_not: str | None  # without a plan: the reason, in one line
    impacts: tuple[Impact, ...]
    rows: tuple[Row, ...]  # in ranking order
    notes: tuple[str, ...] = ()  # nodes that were left out and why
    impact_of: dict[str, Impact] = field(default_factory=dict)
    running: RunningNow | None = None  # None: unknown; the best plan is used instead
    held: Prediction | None = (
        None  # the previous plan while it is used instead of the running one; None: the best plan is
    )
    follower: Follower = field(default_factory=Follower)  # how long re-planning has paid
    replan: Proposal | None = None  # it has paid for long enough

    @property
    def best(self) -> Prediction | None:
        return self.plan.prediction if self.plan is not None else None

    @property
    def stands(self) -> Prediction | None:
        """Return what the ranking is about: the placement that runs, else the plan used instead. None: no speed."""
        if self.running is not None and self.running.placement:
            return self.running.prediction if self.running.tokens_per_s is not None else None
        return self.held or self.best

    @property
    def placement(self) -> Placement:
        """Return the placement that the ranking is about."""
        if self.running is not None and self.running.placement:
            return self.running.placement
        stands = self.held or self.best
        return stands.placement if stands is not None else ()

    def headline(self, *, short: bool = False) -> str:
        return placements.headline(self.running, self.best, short=short)


def analyse(
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    previous: Analysis | None = None,
    objective: Objective = "latency",
) -> Analysis:
    """Return the best plan for the living nodes of `swarm`, with every node ranked by what the swarm would gain.

    `previous` keeps the ranking steady: order changes only where gains differ by more than noise. The search begins at
    its plan, which stays where no plan is clearly better. Raises PredictError only for a question that is wrong
    whatever the swarm, as an unknown weight format.
    """
    living = alive(swarm, workload.client)
    gone = gone_nodes(swarm)
    plan: Plan | None = None
    found: tuple[Impact, ...] = ()
    why_not: str | None = None
    notes = missing(living, model, workload)
    asked = (model.name, workload.weights, workload.engine)
    if previous is not None and (previous.model, previous.weights, previous.engine) != asked:
        previous = None
    before = previous.best.placement if previous is not None and previous.best is not None else ()
    running = placements.running_now(swarm, model, workload, gone)
    if running is not None and running.why_not:
        notes = (running.why_not, *notes)
    stands = running if running is not None and running.placement else None
    held: Prediction | None = None
    follower, replan = Follower(), None
    tables = _tables(living, model, workload)  # once: of a thousand nodes it takes half a second
    try:
        plan = search_plan(living, model, workload, objective=objective, warm=before, tables=tables)
        plan = steady(living, model, workload, plan, before, tables)
        follower, replan = _followed(swarm, living, model, workload, plan, stands, previous, tables)
        notes = (*notes, *_left_out(plan, notes))
        if stands is None and follower.held not in ((), plan.prediction.placement):
            held = predict(living, model, follower.held, workload)
        if stands is None or stands.prediction is not None:
            down = stands.down if stands else ()
            with_down, of_these = (alive(swarm, workload.client, down), None) if down else (living, tables)
            now = stands.prediction if stands else held
            found = impact.impacts(with_down, model, workload, plan, now, down, tables=of_these)
    except PredictError as error:
        if plan is not None:
            notes = (*notes, f"no ranking by gain: {error}")
        else:
            why_not = _why_not(error, notes) if len(living) else _nobody(swarm)
    if replan is not None and replan.gain is not None:
        notes = (
            *notes,
            f"a new plan would take {100 * replan.gain:.0f} % off a token, and has for a while",
        )
    by_name = {each.node: each for each in found}
    best = held or (plan.prediction if plan is not None else None)
    rate = stands.tokens_per_s if stands is not None else best.tokens_per_s if best is not None else None
    standing = RunningSummary(
        impact_of=by_name,
        running=[stage.node for stage in (stands.placement if stands else best.placement if best else ())],
        tokens_per_s=rate.p50 if rate is not None else None,
        degraded=degraded_of(swarm.events),
        why_out=why_out(living, model, workload, tables),
    )
    return Analysis(
        at_ns=swarm.at_ns,
        model=model.name,
        weights=workload.weights,
        engine=workload.engine,
        plan=plan,
        why_not=why_not,
        impacts=found,
        rows=rows_of(swarm, model.name, standing, tuple(row.name for row in previous.rows) if previous else ()),
        notes=notes,
        impact_of=by_name,
        running=running,
        held=held,
        follower=follower,
        replan=replan,
    )


def _tables(swarm: Swarm, model: ModelShape, workload: Workload) -> CostTables | None:
    """Return the cost tables; None where there are none, which the search then says."""
    try:
        return build_tables(swarm, model, workload)
    except PredictError:
        return None


def steady(
    swarm: Swarm, model: ModelShape, workload: Workload, best: Plan, before: Placement, tables: CostTables | None = None
) -> Plan:
    """Return the best plan, or the previous one where it is as good within one percent, to avoid flicker.

    Its certificate is that of the best plan: how far it is from the bound."""
    if best.objective != "latency" or not before or before == best.prediction.placement:
        return best
    tables = tables or build_tables(swarm, model, workload)
    value_ms, best_ms = price_of(tables, before), price_of(tables, best.prediction.placement)
    if value_ms is None or best_ms is None or value_ms > best_ms * (1 + SAME_PLAN):
        return best
    gap = value_ms / best.bound_ms - 1 if best.bound_ms > 0 else best.gap
    shown = predict(swarm, model, before, workload)
    return dataclasses.replace(best, prediction=shown, gap=max(gap, 0.0), exact=best.exact and gap <= 0)


def _followed(
    swarm: Swarm,
    living: Swarm,
    model: ModelShape,
    workload: Workload,
    plan: Plan,
    stands: RunningNow | None,
    previous: Analysis | None,
    tables: CostTables | None,
) -> tuple[Follower, Proposal | None]:
    """Return whether the running placement should change: a better plan has lasted. If what runs is unknown, the
    previous plan is used instead until then, as layers do not move by themselves. Files written by hand have no
    time."""
    if not swarm.at_ns or plan.objective != "latency":
        return Follower(), None
    held = stands.placement if stands is not None else ()
    follower = Follower(held=held)
    if previous is not None and previous.at_ns <= swarm.at_ns:
        alike = previous.running is None or not previous.running.placement
        if (stands is None and alike) or previous.follower.held == held:
            follower = previous.follower
    follower = follower.look(swarm.at_ns, tables or build_tables(living, model, workload), plan.prediction.placement)
    if stands is not None:
        return follower, follower.proposal
    if follower.proposal is not None:
        follower = follower.adopt(swarm.at_ns, follower.proposal.placement)
    return follower, None


def why_out(swarm: Swarm, model: ModelShape, workload: Workload, tables: CostTables | None = None) -> Mapping[str, str]:
    """Return the reason for each living node that cannot serve."""
    found: dict[str, str] = {}
    slow = untimed(swarm, model, workload)
    tables = tables or _tables(swarm, model, workload)
    if tables is None:
        return found
    room = np.maximum.reduce([tables.capacity, tables.capacity_first, tables.capacity_last, tables.capacity_only])
    too_small = int(room.sum()) < model.layers
    for row, facts in enumerate(swarm.facts):
        memory = float(swarm.nodes["vram_bytes"][row])
        if np.isnan(memory):
            found[facts.name] = "no memory for layers is known: it can only be the client"
        elif max(int(tables.capacity[row]), int(tables.capacity_last[row]), int(tables.capacity_only[row])) < 1:
            found[facts.name] = f"its memory holds no layer of {model.name} in {workload.weights}"
        elif facts.name in slow:
            found[facts.name] = f"no layer time of {model.name} yet{f': {facts.note}' if facts.note else ''}"
        elif not np.isfinite(np.delete(tables.hop_ms[row], row)).any() and len(swarm) > 1:
            found[facts.name] = "no path to any other node is known yet"
        elif too_small:
            found[facts.name] = f"all nodes together hold too few layers of {model.name} in {workload.weights}"
        else:
            found[facts.name] = "no placement with it can be predicted: a path or an upload is not known yet"
    return found


def _left_out(plan: Plan, said: tuple[str, ...]) -> list[str]:
    """Return a line for each node that the plan could not consider and that no note names yet."""
    named = " ".join(said)
    return [f"left out: {safe(each.node)}, {each.why}" for each in plan.left_out if each.node not in named]


def unplanned(swarm: Swarm, model: ModelShape, workload: Workload) -> Analysis:
    """Return the ranking's figures alone, without planning."""
    return Analysis(
        at_ns=swarm.at_ns,
        model=model.name,
        weights=workload.weights,
        engine=workload.engine,
        plan=None,
        why_not=None,
        impacts=(),
        rows=rows_of(swarm, model.name, RunningSummary({}, degraded=degraded_of(swarm.events))),
    )


def _nobody(swarm: Swarm) -> str:
    return f"no node answers: {listed(swarm.names)} lost or left" if len(swarm) else "no node yet"


def _why_not(error: PredictError, notes: tuple[str, ...]) -> str:
    """Return the gap itself where something is not measured yet; else the error, and the gap that may cause it."""
    if not notes:
        return str(error)
    return notes[0] if isinstance(error, NotMeasured) else f"{error}; {notes[0]}"
