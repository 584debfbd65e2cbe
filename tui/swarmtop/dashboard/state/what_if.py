"""Hold the what-if: placements edited by keys, and a description of the change.

Data and text only; `own_placement` computes what a placement would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm_predict.types import Placement, Prediction, Stage

if TYPE_CHECKING:
    from swarm_predict.advice.whatif import WhatIf


@dataclass(frozen=True, slots=True)
class Step:
    """One edit: what was done, and the placement after it."""

    what: str  # "swap kiln-07 and lofi"
    placement: Placement


Draft = tuple[Step, ...]  # oldest first; empty: no what-if


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node in place of a stage. Unknown figures are None."""

    node: str
    placement: Placement
    gain_tokens_per_s: float  # compared with the placement it would change, both at p50 of the planner's tables
    compute_ms: float | None
    hop_ms: float | None
    memory_share: float | None  # of the memory that layers may take there
    risks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """Results about one placement, in one frame."""

    asked: tuple[object, ...]  # the question it answers
    placement: Placement
    prediction: Prediction | None
    why_not: str  # the reason, if there is no prediction or there are no candidates
    whatif: WhatIf | None  # prices further edits at once
    stage: int
    candidates: tuple[Candidate, ...] = ()


def same(one: Placement, other: Placement) -> bool:
    return [(s.node, s.first, s.last) for s in one] == [(s.node, s.first, s.last) for s in other]


def changes(before: Placement, after: Placement, layer_bytes: float) -> tuple[tuple[str, ...], float]:
    """Return what a person would do to get from one to the other, a line a node, and the bytes of weights that move."""
    had = {stage.node: stage for stage in before}
    has = {stage.node: stage for stage in after}
    lines, moved = [], 0
    for stage in after:
        old = had.get(stage.node)
        if old is not None and (old.first, old.last) == (stage.first, stage.last):
            continue
        fresh = stage.layers - (_overlap(old, stage) if old else 0)
        moved += fresh
        was = f"{_layers(old)} → " if old else "new: "
        lines.append(f"{stage.node}  {was}{_layers(stage)}" + (f", loads {fresh}" if fresh else ", loads none"))
    lines += [f"{node}  {_layers(stage)} → none" for node, stage in had.items() if node not in has]
    return tuple(lines), moved * layer_bytes


def _overlap(one: Stage, other: Stage) -> int:
    return max(0, min(one.last, other.last) - max(one.first, other.first) + 1)


def _layers(stage: Stage) -> str:
    return f"L{stage.first}-{stage.last}"
