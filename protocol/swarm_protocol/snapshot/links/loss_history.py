"""Keep the counts of sent and lost packets of the latest windows of every measured link, for `pooled_loss`.

HISTORY windows take 512 bytes a link.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.links.first_windows import FirstWindows
from swarm_protocol.snapshot.links.one_way import Mask
from swarm_protocol.snapshot.links.pooled_loss import pooled
from swarm_protocol.snapshot.links.window_rings import WindowRings
from swarm_protocol.snapshot.swarm import Ints
from swarm_protocol.units import NS_PER_S

HISTORY: Final = 32  # windows of each end: some 500 packets, where nobody watches in half an hour
AGE_NS: Final = 3600 * NS_PER_S  # before the newest window of the path; an idle swarm measures each link twice in it
LOADED_HOLD_NS: Final = 60 * NS_PER_S  # so long after an idle window, losses during our own transfers are its queue's
_MOST_WAITING: Final = 4_096  # windows since the last read: put into their rings together they cost a tenth
_PAIRS_AT_ONCE: Final = 2_048  # paths whose windows are pooled together: some 2 MB
_DTYPE: Final = np.dtype([("at_ns", np.int64), ("lost", np.uint32), ("sent", np.uint32)])
_MOST: Final = 1_000_000  # packets of a window that count: a probe sends far fewer

LossWindow = tuple[int, int, int, bool]  # its end in ns, lost, sent, loaded


class LossHistory:
    def __init__(self) -> None:
        self._rings = WindowRings(HISTORY, _DTYPE)
        self._waiting: list[tuple[int, int, int, int, bool]] = []  # (row, at_ns, lost, sent, loaded), as they came
        self._waits: set[int] = set()  # their rows
        self._fresh: set[int] = set()  # rows with new windows

    def add(self, src: int, dst: int, sample: LinkSample) -> None:
        """Add one window, if its packets were sent over the path itself."""
        if sample.path in ("direct", "punched") or (sample.path == "none" and sample.why is None):
            self._put(src, dst, (sample.at_ns, sample.lost, sample.sent, sample.loaded))

    def first(self, windows: FirstWindows, counts: Mask) -> None:
        """Add one window each of many links, of those that count as sent over the path itself."""
        for at in np.flatnonzero(counts).tolist():
            self._put(windows.src[at], windows.dst[at], (windows.at_ns[at], windows.lost[at], windows.sent[at], False))

    def restore(self, src: int, dst: int, windows: Sequence[LossWindow]) -> None:
        """Replace what is known of a link by these windows, oldest first."""
        row = self._rings.row(src, dst)
        if row in self._waits:
            self._settle()
        self._rings.clear(row)
        for window in windows:
            self._put(src, dst, window)

    def _put(self, src: int, dst: int, window: LossWindow) -> None:
        at_ns, lost, sent, loaded = window
        if sent > 0:
            sent = min(sent, _MOST)
            row = self._rings.row(src, dst)
            self._waiting.append((row, at_ns, min(lost, sent), sent, loaded))
            self._waits.add(row)
            if len(self._waiting) >= _MOST_WAITING:
                self._settle()

    def _settle(self) -> None:
        """Put the waiting windows into their rings, each row's one by one in the order in which they came."""
        if not self._waiting:
            return
        waiting = np.array(self._waiting, np.int64)
        self._waiting.clear()
        self._waits.clear()
        while len(waiting):
            rows, first = np.unique(waiting[:, 0], return_index=True)
            self._take(rows, *waiting[first, 1:].T)
            waiting = np.delete(waiting, first, axis=0)

    def _take(self, rows: Ints, at_ns: Ints, lost: Ints, sent: Ints, loaded: Ints) -> None:
        """Take one window of each of these rows."""
        records, counts = self._rings.records, self._rings.counts
        times = records["at_ns"][rows]
        since_ns = at_ns - times.max(axis=1)
        repeated = (times == at_ns[:, None]).any(axis=1)  # a batch that was sent again
        queued = (loaded != 0) & (since_ns >= 0) & (since_ns <= LOADED_HOLD_NS)
        taken = ~(repeated | queued)
        rows = rows[taken]
        slots = counts[rows] % HISTORY
        for name, column in (("at_ns", at_ns), ("lost", lost), ("sent", sent)):
            records[name][rows, slots] = column[taken]
        counts[rows] += 1
        self._fresh.update(rows.tolist())

    def forget(self, node: int) -> None:
        """Remove a node's links; nodes after it move up by one."""
        self._settle()
        former = self._rings.forget(node)
        self._fresh = {row for row, before in enumerate(former) if before in self._fresh}

    def changed(self) -> Iterator[tuple[int, int, float, float]]:
        """Yield (one end, the other, loss of round trips, effective packets) of paths with new windows."""
        self._settle()
        if not self._fresh:
            return
        ends = list(self._rings.rows)  # by row
        pairs = sorted({(min(ends[row]), max(ends[row])) for row in self._fresh})
        self._fresh = set()
        for first in range(0, len(pairs), _PAIRS_AT_ONCE):
            some = pairs[first : first + _PAIRS_AT_ONCE]
            shares, packets = pooled(*self._windows(some))
            for (low, high), share, count in zip(some, shares.tolist(), packets.tolist(), strict=True):
                yield low, high, share, count

    def _windows(self, pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
        """Return (lost, sent) of the windows of both ends, (pairs, windows), in the order of their ends."""
        row_of = self._rings.rows
        rows = np.array([(row_of.get((low, high), -1), row_of.get((high, low), -1)) for low, high in pairs], np.int64)
        both = self._rings.records[rows]
        both[rows < 0] = 0  # one end has not measured it
        both = both.reshape(len(pairs), 2 * HISTORY)
        both = np.take_along_axis(both, np.argsort(both["at_ns"], axis=1, kind="stable"), axis=1)
        counts = both["at_ns"] > both["at_ns"][:, -1:] - AGE_NS
        lost, sent = (np.where(counts, both[name], 0).astype(np.int64) for name in ("lost", "sent"))
        return lost, sent
