"""One change that was found, and its text. Pure.

`swarm_protocol.snapshot.open_changes` reads from the text whose change it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from swarm_collector.changes.figures import Figure, number, step
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
    """One event: what `kind` of change, of which subject."""

    at_ns: int
    kind: Kind
    subject: Subject
    moves: tuple[Move, ...]
    pairs: int = 0  # that changed, of
    of_pairs: int = 0  # so many; 0: the figures are of no link
    lasted_ns: int = 0  # of an end
    usual: bool = False  # it ends because it lasts: the changed level is the usual one
    detail: str = ""  # in place of the moves


def describe(found: Found, name_of: Callable[[str], str]) -> str:
    """`RTT 21 → 101 ms to all peers`. The subject itself is the event's node."""
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
