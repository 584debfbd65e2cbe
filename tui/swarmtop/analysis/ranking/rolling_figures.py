"""Keep the figures of a large live swarm up to date at a steady cost: nodes on the screen first, the others in turn.

In a swarm of which every pair is measured, each new window of one node changes the median of every other. So an update
works out a bounded number of nodes, those in sight and those that have waited longest, and the middles of the whole
swarm once a round. Where no more nodes changed than that, the figures are those of `node_figures.figures`.
"""

from __future__ import annotations

from typing import Final, cast

import numpy as np

from swarm_protocol.snapshot.links.compact_links import CompactColumn, is_compact
from swarm_protocol.snapshot.swarm import Floats, Ints, Swarm
from swarmtop.analysis.ranking import node_figures
from swarmtop.analysis.ranking.node_figures import BAND, USED, AnyArray, Figures, OfLinks, SwarmMedians

_NOBODY: Final[Ints] = np.zeros(0, np.int64)


class RollingFigures:
    """`update` takes the frames of one swarm, in order; it may be called in any thread, by one at a time."""

    def __init__(self, most: int = BAND) -> None:
        """`most`: nodes of an update beside those in sight."""
        self._most = most
        self._before: Swarm | None = None
        self._model = ""
        self._layers: Floats = np.zeros(0)
        self._links: OfLinks = node_figures.unmeasured(0)
        self._middles: SwarmMedians = node_figures.NO_MIDDLES
        self._waits: Ints = _NOBODY  # of each node: updates since its links changed; 0: it is up to date
        self._middles_wait = False

    @property
    def complete(self) -> bool:
        """Return whether every figure is that of the newest frame."""
        return not self._middles_wait and not self._waits.any()

    def update(self, swarm: Swarm, model: str, in_sight: Ints = _NOBODY) -> Figures:
        """Return the figures of a frame. `in_sight`: rows to work out first."""
        before, self._before = self._before, swarm
        if before is None or not _follows(before, swarm):
            return self._anew(swarm, model)
        self._age_layers(before, swarm, model)
        self._waits[self._waits > 0] += 1
        changed = _affected(before, swarm)
        if len(changed):
            self._waits[changed] = np.maximum(self._waits[changed], 1)
            self._middles_wait = True
        rows = self._next(in_sight)
        if len(rows):
            fresh = node_figures.of_links(swarm.links, rows)
            pairs = zip(self._links, fresh, strict=True)
            self._links = OfLinks._make(_put(cast("AnyArray", old), rows, cast("AnyArray", new)) for old, new in pairs)
            self._waits[rows] = 0
        if self._middles_wait and not self._waits.any():
            self._middles, self._middles_wait = node_figures.middles(swarm.links), False
        return node_figures.assembled(swarm, model, self._layers, self._links, self._middles, swarm.at_ns)

    def _anew(self, swarm: Swarm, model: str) -> Figures:
        found = node_figures.figures(swarm, model, swarm.at_ns)
        self._model, self._layers, self._links = model, found.layer_ms, found.of_links
        self._middles = SwarmMedians(found.links_measured, found.links_p50_ms, found.links_p99_ms, found.links_loss)
        self._waits, self._middles_wait = np.zeros(len(swarm), np.int64), False
        return found

    def _next(self, in_sight: Ints) -> Ints:
        """Return the rows to work out now."""
        waiting = np.flatnonzero(self._waits)
        if len(waiting) <= self._most:
            return waiting
        longest = waiting[np.argsort(-self._waits[waiting], kind="stable")[: self._most]]
        return np.union1d(longest, in_sight[self._waits[in_sight] > 0])

    def _age_layers(self, before: Swarm, swarm: Swarm, model: str) -> None:
        if model != self._model:
            rows: list[int] = list(range(len(swarm)))
        elif swarm.facts is before.facts:
            return
        else:
            pairs = enumerate(zip(before.facts, swarm.facts, strict=True))
            rows = [row for row, (old, new) in pairs if old is not new]
        self._model, self._layers = model, self._layers.copy()
        for row in rows:
            self._layers[row] = node_figures.layer_ms(swarm, row, model)


def _follows(before: Swarm, swarm: Swarm) -> bool:
    """Return whether figures of one frame can be carried over to the other."""
    if before.facts is not swarm.facts:
        pairs = zip(before.facts, swarm.facts, strict=False)
        if len(before) != len(swarm) or not all(a is b or a.node_id == b.node_id for a, b in pairs):
            return False
    return _same_links(before, swarm) or (is_compact(before.links) and is_compact(swarm.links))


def _same_links(before: Swarm, swarm: Swarm) -> bool:
    return all(swarm.links[name] is before.links[name] for name in USED)


def _affected(before: Swarm, swarm: Swarm) -> Ints:
    """Return the nodes at either end of a link that changed."""
    ends: list[Ints] = [_NOBODY]
    for name in USED:
        old, new = before.links[name], swarm.links[name]
        if old is not new:
            assert isinstance(old, CompactColumn)
            assert isinstance(new, CompactColumn)
            ends.extend(new.changed_cells(old))
    return np.unique(np.concatenate(ends))


def _put(old: AnyArray, rows: Ints, new: AnyArray) -> AnyArray:
    changed = old.copy()
    changed[rows] = new
    return changed
