"""What the swarm can do and who holds it back: one frame and a question in, a plan and a ranking out.

Pure: no clock, no socket, no screen. `--once`, `check` and the dashboard rank with this, so that they never disagree.
Lost and departed nodes are never planned with, but stay in the ranking, last. What is missing is said in one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from swarm_predict.advice import impact
from swarm_predict.advice.replan_policy import Follower, price_of
from swarm_predict.cost.build import build_tables
from swarm_predict.cost.layer_times import How, layer_columns
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.solve import plan as search_plan
from swarm_predict.types import Cause, Engine, Impact, NotMeasured, Objective, Plan, PredictError, Workload
from swarm_protocol.snapshot.swarm import Kind, Nat, State, Swarm, Transport
from swarm_protocol.text import safe
from swarm_protocol.units import gib
from swarmtop.analysis.node_figures import figures
from swarmtop.text import quantities
from swarmtop.text.quantities import age_s, optional, state_of

GONE: Final = (State.LOST, State.LEFT)

NAMED: Final = 3  # of a list of nodes in one line; the rest are counted


@dataclass(frozen=True, slots=True)
class Row:
    """One node of the ranking. None is "not known", never 0."""

    rank: int  # from 1
    index: int  # row in the swarm
    name: str
    state: State
    in_placement: bool
    cost_ms: float | None  # what using this node adds to the best time per token
    gain_ms: float | None  # what the present plan wins by re-planning without it
    cause: Cause | None
    cause_ms: dict[str, float]  # cost by cause
    rtt_p50_ms: float | None  # median over this node's links, both directions
    rtt_kind: Kind
    rtt_p99_ms: float | None  # of its worst link
    jitter_ms: float | None  # median over its links
    loss: float | None  # mean over its links
    up_mbps: float | None
    up_kind: Kind
    layer_ms: float | None  # decode, of the model in question, as measured
    device: str
    vram_free_gib: float | None
    age_s: float | None  # since the node was last heard
    nat: str | None = None  # what STUN found between it and the internet: one of samples.NatKind
    nat_age_s: float | None = None


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
    notes: tuple[str, ...] = ()  # who was left out and why
    impact_of: dict[str, Impact] = field(default_factory=dict)
    follower: Follower = field(default_factory=Follower)  # what keeps the plan from flickering


def analyse(
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    previous: Analysis | None = None,
    objective: Objective = "latency",
) -> Analysis:
    """The best plan for the living nodes of `swarm`, and every node ranked by what it costs.

    `previous` keeps the ranking steady: order changes only where costs differ by more than noise. Its plan is where
    the search begins, and stays until a better one has lasted.
    Raises PredictError only for a question that is wrong whatever the swarm, as an unknown weight format.
    """
    living = alive(swarm, workload.client)
    plan: Plan | None = None
    found: tuple[Impact, ...] = ()
    why_not: str | None = None
    notes = missing(living, model, workload)
    before = previous.plan.prediction.placement if previous and previous.plan and previous.model == model.name else ()
    follower = _same_question(previous, swarm, model, workload, objective)
    try:
        plan = search_plan(living, model, workload, objective=objective, warm=before)
        plan, follower = steady(living, model, workload, plan, follower)
        notes = (*notes, *_left_out(plan, notes))
        found = impact.impacts(living, model, workload, plan)
    except PredictError as error:
        if plan is not None:
            notes = (*notes, f"no costs: {error}")
        else:
            why_not = _why_not(error, notes) if len(living) else _nobody(swarm)
    by_name = {each.node: each for each in found}
    return Analysis(
        at_ns=swarm.at_ns,
        model=model.name,
        weights=workload.weights,
        engine=workload.engine,
        plan=plan,
        why_not=why_not,
        impacts=found,
        rows=rank(swarm, model.name, by_name, previous),
        notes=notes,
        impact_of=by_name,
        follower=follower,
    )


def _same_question(
    previous: Analysis | None, swarm: Swarm, model: ModelShape, workload: Workload, objective: Objective
) -> Follower:
    """What was remembered, if it was about this question and an earlier moment (a replay may jump back)."""
    if previous is None or previous.plan is None or previous.at_ns > swarm.at_ns:
        return Follower()
    asked = (previous.model, previous.weights, previous.engine, previous.plan.objective)
    same = asked == (model.name, workload.weights, workload.engine, objective)
    return previous.follower if same else Follower()


def steady(
    swarm: Swarm, model: ModelShape, workload: Workload, best: Plan, follower: Follower
) -> tuple[Plan, Follower]:
    """The plan that is shown: the one before, until a better one has gained enough for long enough (see `follow`).

    Its certificate is that of the best plan: how far it is from the bound. Swarms written by hand have no time."""
    if best.objective != "latency" or not swarm.at_ns:
        return best, Follower()
    tables = build_tables(swarm, model, workload)
    follower = follower.look(swarm.at_ns, tables, best.prediction.placement)
    if follower.proposal is not None:
        return best, follower.adopt(swarm.at_ns, follower.proposal.placement)
    held = follower.held
    value_ms = price_of(tables, held)
    if value_ms is None or held == best.prediction.placement:
        return best, follower
    gap = value_ms / best.bound_ms - 1 if best.bound_ms > 0 else best.gap
    shown = predict(swarm, model, held, workload)
    return dataclasses.replace(best, prediction=shown, gap=max(gap, 0.0), exact=best.exact and gap <= 0), follower


def _left_out(plan: Plan, said: tuple[str, ...]) -> list[str]:
    """A line for each node that the plan could not consider and that no note names yet."""
    named = " ".join(said)
    return [f"left out: {safe(each.node)}, {each.why}" for each in plan.left_out if each.node not in named]


def unplanned(swarm: Swarm, model: ModelShape, workload: Workload) -> Analysis:
    """The ranking's figures alone, without asking the planner."""
    return Analysis(
        at_ns=swarm.at_ns,
        model=model.name,
        weights=workload.weights,
        engine=workload.engine,
        plan=None,
        why_not=None,
        impacts=(),
        rows=rank(swarm, model.name, {}, None),
    )


def _nobody(swarm: Swarm) -> str:
    return f"no node answers: {listed(swarm.names)} lost or left" if len(swarm) else "no node yet"


def _why_not(error: PredictError, notes: tuple[str, ...]) -> str:
    """The gap itself where something is not measured yet; else the error, and the gap that may be behind it."""
    if not notes:
        return str(error)
    return notes[0] if isinstance(error, NotMeasured) else f"{error}; {notes[0]}"


def alive(swarm: Swarm, client: str | None = None) -> Swarm:
    """The same swarm without its lost and departed nodes. The client stays, gone or not: it was asked for by name."""
    gone = np.isin(swarm.nodes["state"], [int(state) for state in GONE])
    named = client or swarm.client
    keep = np.flatnonzero(~gone | np.array([f.name == named for f in swarm.facts], bool))
    return swarm if len(keep) == len(swarm) else only(swarm, keep)


def only(swarm: Swarm, keep: npt.NDArray[np.intp]) -> Swarm:
    """The rows `keep` of `swarm`, in that order."""
    facts = tuple(swarm.facts[int(i)] for i in keep)
    there = {f.name for f in facts}
    return dataclasses.replace(
        swarm,
        facts=facts,
        nodes={name: column[keep] for name, column in swarm.nodes.items()},
        links={name: matrix[np.ix_(keep, keep)] for name, matrix in swarm.links.items()},
        client=swarm.client if swarm.client in there else None,
        _index={},
    )


def missing(swarm: Swarm, model: ModelShape, workload: Workload) -> tuple[str, ...]:
    """What has not been measured of `swarm`, a line a kind; the most crippling first. Empty: nothing is missing.

    Raises PredictError for weights that are no format.
    """
    heard = np.array([state_of(value) is not State.UNKNOWN for value in swarm.nodes["state"]], bool)
    memory = swarm.nodes["vram_bytes"]
    lines = []
    if silent := _names(swarm, heard & np.isnan(memory)):
        lines.append(f"no memory figure yet of {listed(silent)}")
    layers = layer_columns(
        swarm, range(len(swarm)), model, workload.weights, "decode", workload.batch, workload.context
    )
    untimed = np.array([how is How.UNKNOWN for how in layers.how], bool)
    if slow := _names(swarm, untimed & (memory > 0)):
        line = f"no layer time of {model.name} yet on {listed(slow)}"
        note_of = {f.name: safe(f.note) for f in swarm.facts if f.note}
        reasons = [f"{name}: {note_of[name]}" for name in slow if name in note_of]
        lines.append(line + (f" ({'; '.join(reasons[:NAMED])})" if reasons else ""))
    unseen = (swarm.links["kind"] == Kind.NONE) | np.isnan(swarm.links["rtt_p50_ms"])
    np.fill_diagonal(unseen, False)
    # a pair that one end has measured is known: the round trip is the same from both
    apart = np.argwhere(np.triu(unseen & unseen.T))
    # one that blocks UDP may still be reached, or reach out
    by_tcp = (swarm.links["hop_bytes"] > 0) & (swarm.links["hop_transport"] == Transport.TCP)
    shut = (swarm.links["why"] > 0) & ~by_tcp
    shut = np.triu(shut & shut.T)
    if len(closed := np.argwhere(shut)):
        pairs = [
            f"{swarm.facts[i].name}–{swarm.facts[j].name} ({quantities.why(swarm, int(i), int(j))})"
            for i, j in closed[:NAMED]
        ]
        lines.append(f"no path between {listed(pairs, len(closed))}")
        apart = np.argwhere(np.triu(unseen & unseen.T) & ~shut)
    if len(apart):
        pairs = [f"{swarm.facts[i].name}–{swarm.facts[j].name}" for i, j in apart[:NAMED]]
        lines.append(f"no round trip yet between {listed(pairs, len(apart))}")
    if mute := _names(swarm, heard & (memory > 0) & np.isnan(swarm.nodes["up_mbps"]) & (len(swarm) > 1)):
        lines.append(f"no upload rate yet of {listed(mute)}")
    return tuple(lines)


def _names(swarm: Swarm, which: npt.NDArray[np.bool_]) -> list[str]:
    return sorted(swarm.facts[int(i)].name for i in np.flatnonzero(which))


def listed(names: Sequence[str], total: int | None = None) -> str:
    """`a, b, c and 4 more`: the first of `total` names."""
    rest = (len(names) if total is None else total) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def rank(swarm: Swarm, model: str, impact_of: dict[str, Impact], previous: Analysis | None) -> tuple[Row, ...]:
    """Every node once: what costs most first, then those whose cost is not known, then the lost and departed."""
    states = [state_of(value) for value in swarm.nodes["state"]]
    at = {facts.name: i for i, facts in enumerate(swarm.facts)}
    ranked = impact.rank(tuple(impact_of.values()), [row.name for row in previous.rows] if previous else ())
    order = [at[found.node] for found in ranked if found.cost_ms is not None and found.node in at]
    order += sorted(set(range(len(swarm))) - set(order), key=lambda i: (states[i] in GONE, swarm.facts[i].name))
    columns = figures(swarm, model, swarm.at_ns)
    free = swarm.nodes["vram_free_bytes"]
    rows = []
    for position, i in enumerate(order, 1):
        facts, found = swarm.facts[i], impact_of.get(swarm.facts[i].name)
        rows.append(
            Row(
                rank=position,
                index=i,
                name=facts.name,
                state=states[i],
                in_placement=found.in_placement if found else False,
                cost_ms=found.cost_ms if found else None,
                gain_ms=found.gain_ms if found else None,
                cause=found.cause if found else None,
                cause_ms=found.cause_ms if found else {},
                rtt_p50_ms=optional(columns.rtt50_ms[i]),
                rtt_kind=Kind.ESTIMATE if columns.estimated[i] else Kind.MEASURED,
                rtt_p99_ms=optional(columns.rtt99_ms[i]),
                jitter_ms=optional(columns.jitter_ms[i]),
                loss=optional(columns.loss[i]),
                up_mbps=optional(columns.up_mbps[i]),
                up_kind=Kind(int(columns.up_kind[i])),
                layer_ms=optional(columns.layer_ms[i]),
                device=facts.device,
                vram_free_gib=gib(float(free[i])) if np.isfinite(free[i]) else None,
                age_s=optional(columns.age_s[i]),
                nat=Nat(nat).name.lower().replace("_", "-") if (nat := int(swarm.nodes["nat"][i])) else None,
                nat_age_s=age_s(int(swarm.nodes["host_at_ns"][i]), swarm.at_ns) if nat else None,
            )
        )
    return tuple(rows)
