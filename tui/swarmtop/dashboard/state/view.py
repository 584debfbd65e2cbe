"""What every screen draws from: the swarm shown, how it stands in time, its figures, the last answer of the planner.

A View is made anew for each redraw by the app; screens only read it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from swarm_predict.types import Engine, Impact, Plan
from swarm_protocol.snapshot.swarm import Event, State, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.node_figures import Figures
from swarmtop.analysis.states import NOT_WELL, degraded_of, word_of
from swarmtop.dashboard.state.mark import Mark
from swarmtop.dashboard.state.plan_history import Rates
from swarmtop.dashboard.state.recent_rtt import Recent
from swarmtop.text import quantities

if TYPE_CHECKING:  # analysis stands on model.figures, so it cannot be imported from here as well
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.analysis.node_rows import Row

Standing = Literal["live", "paused", "replay", "file"]


@dataclass(frozen=True, slots=True)
class View:
    swarm: Swarm
    words: tuple[str, ...]  # state of each row
    figures: Figures
    recent: Recent
    standing: Standing
    now_ns: int
    latest_ns: int  # newest frame there is, which is not the one shown while paused
    title: str
    model: str
    engine: Engine
    weights: str
    rates: Rates = field(default_factory=Rates)
    analysis: Analysis | None = None  # of this frame or a slightly older one; None: none yet for this question
    ranked: Mapping[str, Row] = field(default_factory=dict)  # its rows by name; empty: none yet
    events: tuple[Event, ...] = ()  # newest first
    firing: tuple[str, ...] = ()  # alerts of one's own rules, a line each
    notice: str = ""  # the latest line about the connection or a key, until it is old
    join_hint: str = ""
    speed: float = 1.0  # of a replay
    playing: bool = False
    first_ns: int = 0  # span that can be stood in; 0: there is none
    last_ns: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    is_recording: bool = False  # else what is kept of a live swarm
    mark: Mark | None = None  # a moment to compare with
    zone: dt.tzinfo | None = None
    silent_since_ns: int | None = None  # the collector is not heard since then; None: it is, or there is none
    note: str = ""  # which model is shown because another does not fit

    @property
    def has_past(self) -> bool:
        return self.last_ns > 0

    def clock(self, at_ns: int) -> str:
        """`14:02:17` in the zone of the screen."""
        return f"{self._moment(at_ns):%H:%M:%S}"

    def date_clock(self, at_ns: int) -> str:
        return f"{self._moment(at_ns):%Y-%m-%d %H:%M:%S}"

    def _moment(self, at_ns: int) -> dt.datetime:
        return dt.datetime.fromtimestamp(at_ns // NS_PER_S, self.zone)

    def impact(self, name: str) -> Impact | None:
        return self.analysis.impact_of.get(name) if self.analysis else None

    @property
    def plan(self) -> Plan | None:
        return self.analysis.plan if self.analysis else None

    def word(self, row: int) -> str:
        return self.words[row]


def state_words(swarm: Swarm, analysis: Analysis | None) -> tuple[str, ...]:
    """The state word of each row, which is also the role it is drawn in."""
    slow = {row.name for row in analysis.rows if row.word == "slow"} if analysis is not None else set()
    degraded = degraded_of(swarm.events)
    return tuple(
        word_of(quantities.state_of(state), slow=facts.name in slow, degraded=facts.name in degraded)
        for facts, state in zip(swarm.facts, swarm.nodes["state"].tolist(), strict=True)
    )


def not_well(swarm: Swarm, words: tuple[str, ...]) -> int:
    """How many nodes are slow, degraded, stale or lost; who said goodbye is none of them."""
    left = (swarm.nodes["state"] == State.LEFT).tolist()
    return sum(word in NOT_WELL and not gone for word, gone in zip(words, left, strict=True))
