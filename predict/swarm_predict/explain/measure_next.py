"""Choose what to measure first: the figures of machines and paths whose measurement would narrow the interval most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.explain.terms import Term, TermKind
from swarm_protocol.snapshot.swarm import Floats

WORTH_SAYING: Final = 0.03  # of the interval
_WHAT: Final[dict[TermKind, str]] = {"layers": "layer times", "head": "layer times", "visits": "visits"}
PATH: Final = "round trip and upload"


@dataclass(frozen=True, slots=True)
class ToMeasure:
    """One figure of a node, or of the path between two."""

    node: str
    to: str  # of a path: its other end; else empty
    what: str  # "layer times", "visits", "round trip and upload"
    narrows: float  # share of the interval's width that would disappear


def to_measure(terms: Sequence[Term], most: int = 5) -> tuple[ToMeasure, ...]:
    """Return what is not measured, by how much narrower the sum of `terms` would be if it were known.

    Both directions of a path are measured together. Variation from token to token stays, however well it is known.
    """
    total: Floats = np.sum([term.ms for term in terms], axis=0)
    parts: dict[tuple[str, str], Floats] = {}
    paths: dict[tuple[str, str], float] = {}
    for term in terms:
        if term.kind == "path" and term.doubt_ms > 0:
            pair = (term.node, term.to) if (term.to, term.node) not in paths else (term.to, term.node)
            paths[pair] = math.hypot(paths.get(pair, 0.0), term.doubt_ms)
        elif not term.measured and term.kind in _WHAT:
            key = (term.node, _WHAT[term.kind])
            parts[key] = parts[key] + term.ms if key in parts else term.ms
    found = [ToMeasure(node, "", what, _narrows(ms, total)) for (node, what), ms in parts.items()]
    variance = float(total.var())
    found += [
        ToMeasure(node, to, PATH, _left_out(ms**2 / variance if variance else 0.0)) for (node, to), ms in paths.items()
    ]
    kept = [each for each in found if each.narrows >= WORTH_SAYING]
    return tuple(sorted(kept, key=lambda each: -each.narrows)[:most])


def _narrows(part: Floats, total: Floats) -> float:
    if part.std() == 0 or total.std() == 0:
        return 0.0
    return _left_out(float(np.corrcoef(part, total)[0, 1]) ** 2)


def _left_out(share: float) -> float:
    """Return the share of the width that disappears with this share of the variance."""
    return 1 - math.sqrt(max(0.0, 1 - share))
