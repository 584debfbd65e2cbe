"""What every screen draws from: the swarm shown, how it stands in time, its figures, the last answer of the planner.

A View is made anew for each redraw by the app; screens only read it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from swarm_predict.types import Engine, Impact, Plan
from swarm_protocol.snapshot.swarm import Event, State, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.node_figures import Figures
from swarmtop.dashboard.state.mark import Mark
from swarmtop.dashboard.state.plan_history import Rates
from swarmtop.dashboard.state.recent_rtt import Recent
from swarmtop.text import quantities

if TYPE_CHECKING:  # analysis stands on model.figures, so it cannot be imported from here as well
    from swarmtop.analysis.analysis import Analysis

Standing = Literal["live", "paused", "replay", "file"]

# A node holds the swarm back visibly when it costs at least this share of the time of one token.
SLOW_SHARE = 0.10


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
    """`ok`, `slow`, `stale`, `lost`, `left` or `unknown` of each row: also the role it is drawn in."""
    states = swarm.nodes["state"].tolist()
    word = {value: quantities.STATE_WORD[quantities.state_of(value)] for value in set(states)}
    words = [word[value] for value in states]
    for name in _slow(analysis):
        try:
            row = swarm.index(name)
        except KeyError:  # the answer is of an older frame
            continue
        if quantities.state_of(states[row]) in (State.OK, State.UNKNOWN):
            words[row] = "slow"
    return tuple(words)


def _slow(analysis: Analysis | None) -> frozenset[str]:
    """Names of nodes whose use costs a large share of a token, in the plan or left out of it for that reason."""
    if analysis is None or analysis.plan is None:
        return frozenset()
    limit_ms = SLOW_SHARE * analysis.plan.prediction.tpot_ms.p50
    return frozenset(i.node for i in analysis.impacts if i.cost_ms is not None and i.cost_ms >= limit_ms)


GLYPH = {"slow": "▲"} | {quantities.STATE_WORD[state]: glyph for state, glyph in quantities.STATE_GLYPH.items()}
