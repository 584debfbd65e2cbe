"""The state of a node in one word, the same on every screen, in reports, JSON and rules.

    ok         it answers, and nothing is to be said
    slow       in the placement that runs, and the swarm would win a twentieth or more without it or with it as usual
    degraded   its own figures are clearly worse than they were in the hour before
    stale      its figures are old
    lost       it does not answer, or has left
    unknown    written by hand, or not heard of

The worst word counts: lost, stale, degraded, slow. What is degraded is told from outside, by whoever knows a node's
past (`degraded_of` reads it from the events of a swarm); where nobody tells, nobody is degraded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal

from swarm_protocol.snapshot.swarm import Event, State
from swarmtop.text import quantities

Word = Literal["ok", "slow", "degraded", "stale", "lost", "unknown"]
WORDS: Final[tuple[Word, ...]] = ("ok", "slow", "degraded", "stale", "lost", "unknown")
NOT_WELL: Final = frozenset({"slow", "degraded", "stale", "lost"})

DEGRADED: Final = "degraded"  # kinds of events: one when a figure becomes clearly worse, one when that ends
RECOVERED: Final = "recovered"

WORSE: Final = 1.5  # times the usual figure: what nobody takes for noise
LEAST_OF_HOUR: Final = 10  # figures before there is a "usual"


@dataclass(frozen=True, slots=True)
class RecentHistory:
    """What is known of a node's last hour, a series for each figure of which more is worse."""

    now: Mapping[str, float] = field(default_factory=dict)  # "rtt_ms" → the newest figure
    hour: Mapping[str, Sequence[float]] = field(default_factory=dict)  # and those of the hour before, oldest first


def degraded_figure(history: RecentHistory) -> str | None:
    """The figure that is clearly worse than the node's own last hour; None where none is, or the hour is too short.

    Clearly: above everything but the worst twentieth of the hour, and half as much again as its median.
    """
    worst: tuple[float, str] | None = None
    for name, value in history.now.items():
        before = sorted(history.hour.get(name, ()))
        if len(before) < LEAST_OF_HOUR:
            continue
        usual = median(before)
        high = before[int(0.95 * (len(before) - 1))]
        if usual > 0 and value > max(high, WORSE * usual) and (worst is None or value / usual > worst[0]):
            worst = value / usual, name
    return None if worst is None else worst[1]


def degraded_of(events: Iterable[Event]) -> dict[str, str]:
    """Node → what is said of it, for each change for the worse that has not ended. Events are oldest first."""
    standing: dict[str, str] = {}
    for event in events:
        if event.kind == DEGRADED:
            standing[event.node] = event.detail
        elif event.kind == RECOVERED:
            standing.pop(event.node, None)
    return standing


def word_of(state: State, *, slow: bool = False, degraded: bool = False) -> Word:
    """The one word for a node."""
    if state in (State.LOST, State.LEFT):
        return "lost"
    if state is State.STALE:
        return "stale"
    if degraded:
        return "degraded"
    if slow:
        return "slow"
    return "ok" if state is State.OK else "unknown"


GLYPH: Final[Mapping[str, str]] = {
    "ok": "+", "slow": "▲", "degraded": "▼", "stale": "~", "lost": "x", "unknown": "·",
}  # fmt: skip


def with_glyph(word: str) -> str:
    """`+ ok`, `▲ slow`: never told apart by colour alone."""
    return f"{GLYPH.get(word, quantities.UNMEASURED)} {word}"
