"""Build one row of the ranking for each node: its place, its state, what the swarm would gain, and its figures.

In order: the nodes of the placement that runs, silent ones first and the others by what the swarm would gain; then
spares; then those left out, departed ones last. Until costs are known the order follows what is known: round trip,
loss, layer time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from swarm_predict.advice.nodes import ranking
from swarm_predict.advice.nodes.impact import TOLD_SHARE
from swarm_predict.types import Cause, Impact, Role
from swarm_protocol.snapshot.swarm import Kind, Nat, State, Swarm
from swarm_protocol.text import safe
from swarm_protocol.units import gib
from swarmtop.analysis.ranking.node_figures import Figures, badness, figures
from swarmtop.analysis.ranking.states import Word, word_of
from swarmtop.analysis.unmeasured import GONE
from swarmtop.text import quantities
from swarmtop.text.quantities import age_s, optional, state_of


@dataclass(frozen=True, slots=True)
class Row:
    """One node of the ranking. None is "not known", never 0."""

    rank: int  # from 1
    index: int  # row in the swarm
    name: str
    state: State
    word: Word  # the one word for its state
    role: Role
    share: float | None  # of a token's time
    cost_ms: float | None  # in the placement: its share of a token; for a spare: what using it would add
    gain_ms: float | None  # what the placement gains by re-planning without it
    cause: Cause | None
    cause_ms: dict[str, float]  # what a token would gain if that one thing were typical
    win_tokens_per_s: float | None  # without it or with it as usual, whichever is more
    without_tokens_per_s: float | None  # re-planned without it
    typical_tokens_per_s: float | None  # with typical figures of this swarm in its place
    why: str
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
    age_s: float | None  # time since the node was last heard from
    nat: str | None = None  # the NAT that STUN found: one of samples.NatKind
    nat_age_s: float | None = None

    @property
    def in_placement(self) -> bool:
        return self.role == "in"


@dataclass(frozen=True, slots=True)
class RunningSummary:
    """The inputs of the rows in addition to the swarm."""

    impact_of: Mapping[str, Impact]
    running: Collection[str] = ()  # nodes of what runs, or of the best plan used instead
    tokens_per_s: float | None = None  # of that; None: it does not run, or its speed is not known
    degraded: Mapping[str, str] | None = None  # node → what is clearly worse than in its own last hour
    why_out: Mapping[str, str] | None = None  # node → why it is left out


def rows_of(swarm: Swarm, model: str, standing: RunningSummary, previous: tuple[str, ...] = ()) -> tuple[Row, ...]:
    """Return every node once, in ranking order. `previous`: the previous order, which noise does not change."""
    columns = figures(swarm, model, swarm.at_ns)
    order = _order(swarm, standing, columns, previous)
    return tuple(_row(swarm, standing, columns, place, i) for place, i in enumerate(order, 1))


def role_of(name: str, standing: RunningSummary) -> Role:
    if name in standing.running:
        return "in"
    impact = standing.impact_of.get(name)
    return "spare" if impact is not None and impact.role == "spare" else "out"


def _order(swarm: Swarm, standing: RunningSummary, columns: Figures, previous: tuple[str, ...]) -> list[int]:
    at = {facts.name: i for i, facts in enumerate(swarm.facts)}
    states = [state_of(value) for value in swarm.nodes["state"]]
    bad = badness(columns)
    judged = ranking.rank([i for i in standing.impact_of.values() if i.node in at], previous)
    known = {impact.node: place for place, impact in enumerate(judged)}
    roles = [role_of(facts.name, standing) for facts in swarm.facts]

    def key(i: int) -> tuple[object, ...]:
        name, role, gone = swarm.facts[i].name, roles[i], states[i] in GONE
        if role == "in":
            found = standing.impact_of.get(name)
            return (0, not gone, found is None or found.win_ms is None, known.get(name, 0), -bad[i], name)
        if role == "spare":
            return (1, False, False, known.get(name, 0), 0.0, name)
        return (2, gone, False, 0, -bad[i], name)

    return sorted(range(len(swarm)), key=key)


def _row(swarm: Swarm, standing: RunningSummary, columns: Figures, place: int, i: int) -> Row:
    facts = swarm.facts[i]
    found = standing.impact_of.get(facts.name)
    state = state_of(swarm.nodes["state"][i])
    rate = standing.tokens_per_s
    degraded = (standing.degraded or {}).get(facts.name)
    slow = found is not None and rate is not None and ranking.is_slow(found, rate)
    free = float(swarm.nodes["vram_free_bytes"][i])
    nat = int(swarm.nodes["nat"][i])
    role = role_of(facts.name, standing)
    return Row(
        rank=place,
        index=i,
        name=facts.name,
        state=state,
        word=word_of(state, slow=slow, degraded=degraded is not None),
        role=role,
        share=found.share if found else None,
        cost_ms=found.cost_ms if found else None,
        gain_ms=found.gain_ms if found else None,
        cause=found.cause if found else None,
        cause_ms=found.cause_ms if found else {},
        win_tokens_per_s=win_of(found, rate),
        without_tokens_per_s=found.without_tokens_per_s if found else None,
        typical_tokens_per_s=found.typical_tokens_per_s if found else None,
        why=why(role, state, found, standing, facts.name, degraded, _departure(swarm, facts.name, state)),
        rtt_p50_ms=optional(columns.rtt50_ms[i]),
        rtt_kind=Kind.ESTIMATE if columns.estimated[i] else Kind.MEASURED,
        rtt_p99_ms=optional(columns.rtt99_ms[i]),
        jitter_ms=optional(columns.jitter_ms[i]),
        loss=optional(columns.loss[i]),
        up_mbps=optional(columns.up_mbps[i]),
        up_kind=Kind(int(columns.up_kind[i])),
        layer_ms=optional(columns.layer_ms[i]),
        device=facts.device,
        vram_free_gib=gib(free) if np.isfinite(free) else None,
        age_s=optional(columns.age_s[i]),
        nat=Nat(nat).name.lower().replace("_", "-") if nat else None,
        nat_age_s=age_s(int(swarm.nodes["host_at_ns"][i]), swarm.at_ns) if nat else None,
    )


def win_of(found: Impact | None, tokens_per_s: float | None) -> float | None:
    """Return the tokens a second that the swarm would gain by this node, as things are."""
    if found is None or found.win_ms is None or not tokens_per_s:
        return None
    return 1e3 / max(1e3 / tokens_per_s - found.win_ms, 1e-6) - tokens_per_s


def why(
    role: Role,
    state: State,
    found: Impact | None,
    standing: RunningSummary,
    name: str,
    degraded: str | None,
    departure: str = "",
) -> str:
    """Return why a node has its place, in one line. `departure`: why it has left, if that is known."""
    if role == "out":
        return _why_out(state, standing, name, departure)
    rate = standing.tokens_per_s
    if found is None:
        return "in the placement that runs; its cost is not known yet"
    if role == "spare":
        return _good_for(found, rate)
    parts = [degraded] if degraded else []
    if state is State.LEFT:
        parts.append(f"{_has_left(departure)}; the placement needs it")
    elif state in GONE:
        parts.append("does not answer, and the placement needs it")
    elif (
        found.win_ms and rate and found.typical_tokens_per_s and found.typical_tokens_per_s - rate >= TOLD_SHARE * rate
    ):
        parts.append(f"{found.cause}: typical here would give {_more(found.typical_tokens_per_s - rate)}")
    elif found.share is not None:
        parts.append(f"{quantities.percent(found.share)} of a token, mostly {found.cause}")
    if found.without_tokens_per_s is None:
        parts.append("not possible without it")
    elif rate is None:
        parts.append(f"re-planned without it {quantities.rate(found.without_tokens_per_s)}")
    else:
        parts.append(f"re-planned without it {_more(found.without_tokens_per_s - rate)}")
    return "; ".join(parts)


def _departure(swarm: Swarm, name: str, state: State) -> str:
    """Return why a node left, as its newest event says."""
    if state is not State.LEFT:
        return ""
    return next((event.detail for event in reversed(swarm.events) if event.node == name and event.kind == "left"), "")


def _has_left(departure: str) -> str:
    return f"has left: {safe(departure, 100)}" if departure else "has left"


def _why_out(state: State, standing: RunningSummary, name: str, departure: str) -> str:
    if state is State.LOST:
        return "does not answer"
    if state is State.LEFT:
        return _has_left(departure)
    return safe((standing.why_out or {}).get(name, "") or "cannot serve, judging by what is measured", 200)


def _good_for(found: Impact, rate: float | None) -> str:
    if not found.stand_by_for or found.stand_by_tokens_per_s is None:
        cost = f", using it would add {quantities.ms(found.cost_ms)}" if found.cost_ms else ""
        return f"has too little memory to replace a stage alone{cost}"
    if rate is None:
        return f"stand-by for {safe(found.stand_by_for)}: {quantities.rate(found.stand_by_tokens_per_s)}"
    return f"stand-by for {safe(found.stand_by_for)}: {_more(found.stand_by_tokens_per_s - rate)}"


def _more(tokens_per_s: float) -> str:
    """Return `+3.10 tok/s`, `−0.40 tok/s` or `±0 tok/s`."""
    text = quantities.figure(abs(tokens_per_s))
    if text in ("0", "0.00"):
        return "±0 tok/s"
    return f"{'+' if tokens_per_s > 0 else '−'}{text} tok/s"
