"""Describe one detected change as text. Pure.

`swarm_protocol.snapshot.open_changes` parses the text to find the subject of the change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from swarm_collector.changes.change_thresholds import Figure, number, step
from swarm_collector.changes.subjects import Subject
from swarm_protocol.units import NS_PER_S

Kind = Literal["degraded", "recovered", "improved", "settled"]


@dataclass(frozen=True, slots=True)
class Move:
    figure: Figure
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Found:
    """One event: a change of kind `kind`, and its subject."""

    at_ns: int
    kind: Kind
    subject: Subject
    moves: tuple[Move, ...]
    pairs: int = 0  # that changed
    of_pairs: int = 0  # out of so many; 0: the figures do not belong to links
    lasted_ns: int = 0  # of a change that ended
    usual: bool = False  # the change ends because it has lasted: the new level counts as usual
    detail: str = ""  # replaces the text made of `moves`


def describe(found: Found, name_of: Callable[[str], str]) -> str:
    """Return text such as `RTT 21 → 101 ms to all peers`. The event's node is the subject."""
    if found.detail:
        text = found.detail
    elif found.usual:
        text = ", ".join(f"{move.figure.label} {number(move.after)} {move.figure.unit}" for move in found.moves)
    else:
        text = ", ".join(step(move.figure, move.before, move.after) for move in found.moves)
    if found.of_pairs:
        if found.subject.peer is not None:
            text += f" to {name_of(found.subject.peer)}"
        elif found.subject.node is None:
            text += f" on {'all' if found.pairs >= found.of_pairs else f'{found.pairs} of'} {found.of_pairs} links"
        elif found.pairs >= found.of_pairs:
            text += " to all peers"
        else:
            text += f" to {found.pairs} of {found.of_pairs} peers"
    if found.usual:
        return f"{text}, usual by now ({', '.join(number(move.before) for move in found.moves)} before)"
    if found.lasted_ns:
        text += f", after {_duration(found.lasted_ns / NS_PER_S)}"
    return text


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
