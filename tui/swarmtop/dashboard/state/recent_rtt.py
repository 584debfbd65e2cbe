"""Keep the last minute of every node's round trip, for the sparklines of the ranking.

Filled from the frames in buckets of equal width; a bucket without a figure is a gap. Rows are found by node id, so that
nodes may join, leave and change places.
"""

from __future__ import annotations

from swarm_protocol.snapshot.lazy_numpy import np
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
        self._values: Floats | None = None  # by row; None: no frame yet
        self._row: dict[str, int] = {}
        self._facts: tuple[NodeFacts, ...] | None = None  # of the newest frame, and their rows here
        self._of_facts: Ints
        self._bucket = 0  # number of the newest bucket; 0: nothing seen yet

    def is_new(self, at_ns: int) -> bool:
        """Return whether a frame of this moment would begin a bucket."""
        return at_ns // self._bucket_ns > self._bucket

    def add(self, swarm: Swarm, values: Floats) -> None:
        """Add a frame. A frame older than the newest bucket begins a new minute: a person went back in time."""
        bucket = swarm.at_ns // self._bucket_ns
        known = np.full((0, self._buckets), np.nan) if self._values is None else self._values
        if bucket < self._bucket:
            known[:] = np.nan
        elif bucket > self._bucket:
            known = self._shifted(known, min(bucket - self._bucket, self._buckets))
        self._bucket = bucket
        rows, fresh = self._rows(swarm)
        if fresh:
            known = np.vstack([known, np.full((fresh, self._buckets), np.nan)])
        known[rows, -1] = np.fmax(known[rows, -1], values)
        self._values = known

    def series(self, node_id: str) -> list[float | None]:
        row = self._row.get(node_id)
        if row is None or self._values is None:
            return [None] * self._buckets
        return [None if v != v else v for v in self._values[row].tolist()]

    def _shifted(self, known: Floats, count: int) -> Floats:
        moved = np.roll(known, -count, axis=1)
        moved[:, -count:] = np.nan
        return moved

    def _rows(self, swarm: Swarm) -> tuple[Ints, int]:
        """Return the row of each node, and how many are new."""
        if self._facts is swarm.facts:
            return self._of_facts, 0
        fresh = [f.node_id for f in swarm.facts if f.node_id not in self._row]
        self._row.update({node: len(self._row) + i for i, node in enumerate(fresh)})
        self._facts = swarm.facts
        self._of_facts = np.array([self._row[f.node_id] for f in swarm.facts], np.int64)
        return self._of_facts, len(fresh)
