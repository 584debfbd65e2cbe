"""Give the state of a node in one word, the same on every screen, in reports, JSON and rules.

    ok         it answers, without any trouble
    slow       in the placement that runs, and the swarm would gain a twentieth or more without it or with it as usual
    degraded   its own figures are clearly worse than they were in the hour before
    stale      its figures are old
    lost       it does not answer, or has left
    unknown    written by hand, or not heard of

The worst word counts: lost, stale, degraded, slow. The collector's change detector reports what is degraded, by events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from swarm_protocol.snapshot.open_changes import open_changes
from swarm_protocol.snapshot.swarm import Event, State
from swarmtop.text import quantities

Word = Literal["ok", "slow", "degraded", "stale", "lost", "unknown"]
WORDS: Final[tuple[Word, ...]] = ("ok", "slow", "degraded", "stale", "lost", "unknown")
NOT_WELL: Final = frozenset({"slow", "degraded", "stale", "lost"})


def degraded_of(events: Iterable[Event]) -> dict[str, str]:
    """Return node → the newest change for the worse of its own figures that has not ended. `events`: oldest first."""
    return {event.node: event.detail for event in open_changes(events) if event.node}


def word_of(state: State, *, slow: bool = False, degraded: bool = False) -> Word:
    """Return the word for a node."""
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
    """Return `+ ok`, `▲ slow`: states are never distinguished by colour alone."""
    return f"{GLYPH.get(word, quantities.UNMEASURED)} {word}"
