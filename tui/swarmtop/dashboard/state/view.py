"""Hold the data that every screen draws: the swarm shown, its mode (live, paused, replay), its figures, the planner's
last answer.

The app makes a new View for each redraw; screens only read it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from swarm_predict.types import Engine, Impact, Plan
from swarm_protocol.snapshot.swarm import Event, NodeFacts, State, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking.node_figures import Figures
from swarmtop.analysis.ranking.states import NOT_WELL, degraded_of, word_of
from swarmtop.dashboard.state.memo import Remembered
from swarmtop.dashboard.state.plan_history import Rates
from swarmtop.dashboard.state.recent_rtt import Recent
from swarmtop.text import quantities

if TYPE_CHECKING:  # swarmtop.analysis imports model.figures, so it cannot be imported here as well
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.analysis.ranking.node_rows import Row
    from swarmtop.dashboard.state.advice import Advice
    from swarmtop.dashboard.state.mark import Mark

RunningSummary = Literal["live", "paused", "replay", "file"]


@dataclass(frozen=True, slots=True)
class View:
    swarm: Swarm
    words: tuple[str, ...]  # state of each row
    figures: Figures
    recent: Recent
    standing: RunningSummary
    now_ns: int
    latest_ns: int  # of the newest frame, which is not the one shown while paused
    title: str
    model: str
    engine: Engine
    weights: str
    rates: Rates = field(default_factory=Rates)
    analysis: Analysis | None = None  # of this frame or a slightly older one; None: none yet for this question
    advice: Advice | None = None  # about an answer of this question; None: none yet, or no screen has had room for it
    ranked: Mapping[str, Row] = field(default_factory=dict)  # its rows by name; empty: none yet
    events: tuple[Event, ...] = ()  # newest first
    firing: tuple[str, ...] = ()  # alerts of a person's own rules, a line each
    notice: str = ""  # the latest message about the connection or a key, for some seconds
    join_hint: str = ""
    speed: float = 1.0  # of a replay
    playing: bool = False
    first_ns: int = 0  # span that one can move in; 0: there is none
    last_ns: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    is_recording: bool = False  # else the kept minutes of a live swarm
    mark: Mark | None = None  # a moment to compare with
    zone: dt.tzinfo | None = None
    silent_since_ns: int | None = None  # no message of the collector since then; None: it is heard, or there is none
    trouble: str = ""  # which program that was started here does not run any more, and what to do
    note: str = ""  # which model is shown because another does not fit

    @property
    def has_past(self) -> bool:
        return self.last_ns > 0

    def clock(self, at_ns: int) -> str:
        """Return `14:02:17` in the zone of the screen."""
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


def about(advice: Advice | None, answer: Analysis | None) -> Advice | None:
    """The advice, where it is about the placement of this answer; what would help another one is not shown."""
    found = answer.stands or answer.best if answer is not None else None
    return advice if advice is not None and found and advice.prediction.placement == found.placement else None


def events_of(swarm: Swarm) -> tuple[Event, ...]:
    """Return the events with the runs of watched engines among them."""
    if not swarm.runs:
        return swarm.events
    from swarmtop.dashboard.lines.placement import engine_lines  # few swarms have any

    return (*swarm.events, *map(engine_lines.event, swarm.runs))


def _rows_by_id(facts: tuple[NodeFacts, ...]) -> Mapping[str, int]:
    return {each.node_id: row for row, each in enumerate(facts)}


row_of_id: Final = Remembered(_rows_by_id)  # node id → row, of `Swarm.facts`


def state_words(swarm: Swarm, analysis: Analysis | None) -> tuple[str, ...]:
    """Return the state word of each row, which is also its role."""
    slow = {row.name for row in analysis.rows if row.word == "slow"} if analysis is not None else set()
    degraded = degraded_of(swarm.events)
    states = swarm.nodes["state"].tolist()
    usual = {state: word_of(quantities.state_of(state)) for state in set(states)}
    words = [usual[state] for state in states]
    if noted := slow | degraded.keys():
        for row, facts in enumerate(swarm.facts):
            if facts.name in noted:
                state = quantities.state_of(states[row])
                words[row] = word_of(state, slow=facts.name in slow, degraded=facts.name in degraded)
    return tuple(words)


def not_well(swarm: Swarm, words: tuple[str, ...]) -> int:
    """Return how many nodes are slow, degraded, stale or lost; a node that left in order does not count."""
    if not any(words.count(word) for word in NOT_WELL):
        return 0
    left = (swarm.nodes["state"] == State.LEFT).tolist()
    return sum(word in NOT_WELL and not gone for word, gone in zip(words, left, strict=True))
