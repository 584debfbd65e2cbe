"""Keep the last minute of every node's round trip, for the sparklines of the ranking.

Filled from the frames in buckets of equal width; a bucket without a figure is a gap. Rows are found by node id, so that
nodes may join, leave and change places.
"""

from __future__ import annotations

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Ints, NodeFacts, Swarm
from swarm_protocol.units import NS_PER_S

BUCKETS = 12
BUCKET_NS = 5 * NS_PER_S
MINUTE_NS = BUCKETS * BUCKET_NS


class Recent:
    """`series(node_id)`: the worst value of each bucket, oldest first."""

    def __init__(self, buckets: int = BUCKETS, bucket_ns: int = BUCKET_NS) -> None:
        self._buckets = buckets
        self._bucket_ns = bucket_ns
        self._values: Floats = np.full((0, buckets), np.nan)
        self._row: dict[str, int] = {}
        self._facts: tuple[NodeFacts, ...] | None = None  # of the newest frame, and their rows here
        self._of_facts: Ints = np.zeros(0, np.int64)
        self._bucket = 0  # number of the newest bucket; 0: nothing seen yet

    def is_new(self, at_ns: int) -> bool:
        """Return whether a frame of this moment would begin a bucket."""
        return at_ns // self._bucket_ns > self._bucket

    def add(self, swarm: Swarm, values: Floats) -> None:
        """Add a frame. A frame older than the newest bucket begins a new minute: a person went back in time."""
        bucket = swarm.at_ns // self._bucket_ns
        if bucket < self._bucket:
            self._values[:] = np.nan
        elif bucket > self._bucket:
            self._shift(min(bucket - self._bucket, self._buckets))
        self._bucket = bucket
        rows = self._rows(swarm)
        self._values[rows, -1] = np.fmax(self._values[rows, -1], values)

    def series(self, node_id: str) -> list[float | None]:
        row = self._row.get(node_id)
        if row is None:
            return [None] * self._buckets
        return [None if v != v else v for v in self._values[row].tolist()]

    def _shift(self, count: int) -> None:
        self._values = np.roll(self._values, -count, axis=1)
        self._values[:, -count:] = np.nan

    def _rows(self, swarm: Swarm) -> Ints:
        if self._facts is swarm.facts:
            return self._of_facts
        fresh = [f.node_id for f in swarm.facts if f.node_id not in self._row]
        if fresh:
            self._row.update({node: len(self._row) + i for i, node in enumerate(fresh)})
            self._values = np.vstack([self._values, np.full((len(fresh), self._buckets), np.nan)])
        self._facts = swarm.facts
        self._of_facts = np.array([self._row[f.node_id] for f in swarm.facts], np.int64)
        return self._of_facts
