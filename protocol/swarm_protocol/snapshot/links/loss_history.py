"""Keep the latest windows' counts of sent and lost packets of every measured link: what `pooled_loss` is given.

One ring of HISTORY windows a link, in arrays: 512 bytes a link, and nothing to be collected as garbage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.links.pooled_loss import pooled
from swarm_protocol.snapshot.swarm import Ints
from swarm_protocol.units import NS_PER_S

HISTORY: Final = 32  # windows of each end: some 500 packets, where nobody watches in half an hour
AGE_NS: Final = 3600 * NS_PER_S  # before the newest window of the path; an idle swarm measures each link twice in it
LOADED_HOLD_NS: Final = 60 * NS_PER_S  # so long after an idle window, losses during our own transfers are its queue's
_FIRST_ROWS: Final = 64
_MOST_WAITING: Final = 4_096  # windows since the last read: put into their rings together they cost a tenth
_DTYPE: Final = np.dtype([("at_ns", np.int64), ("lost", np.uint32), ("sent", np.uint32)])
_MOST: Final = 1_000_000  # packets of a window that count: a probe sends far fewer

LossWindow = tuple[int, int, int, bool]  # its end in ns, lost, sent, loaded


class LossHistory:
    def __init__(self) -> None:
        self._rows: dict[tuple[int, int], int] = {}
        self._rings = np.zeros((_FIRST_ROWS, HISTORY), _DTYPE)
        self._count = np.zeros(_FIRST_ROWS, np.int64)  # windows that each ring has taken
        self._waiting: list[tuple[int, int, int, int, bool]] = []  # (row, at_ns, lost, sent, loaded), as they came
        self._fresh: set[int] = set()  # rows with new windows

    def add(self, src: int, dst: int, sample: LinkSample) -> None:
        """Add one window, if its packets were sent over the path itself."""
        if sample.path in ("direct", "punched") or (sample.path == "none" and sample.why is None):
            self._put(src, dst, (sample.at_ns, sample.lost, sample.sent, sample.loaded))

    def restore(self, src: int, dst: int, windows: Sequence[LossWindow]) -> None:
        """Replace what is known of a link by these windows, oldest first."""
        self._settle()
        row = self._row(src, dst)
        self._rings[row], self._count[row] = np.zeros(HISTORY, _DTYPE), 0
        for window in windows:
            self._put(src, dst, window)

    def _put(self, src: int, dst: int, window: LossWindow) -> None:
        at_ns, lost, sent, loaded = window
        if sent > 0:
            sent = min(sent, _MOST)
            self._waiting.append((self._row(src, dst), at_ns, min(lost, sent), sent, loaded))
            if len(self._waiting) >= _MOST_WAITING:
                self._settle()

    def _settle(self) -> None:
        """Put the waiting windows into their rings, each row's one by one in the order in which they came."""
        if not self._waiting:
            return
        waiting = np.array(self._waiting, np.int64)
        self._waiting.clear()
        while len(waiting):
            rows, first = np.unique(waiting[:, 0], return_index=True)
            self._take(rows, *waiting[first, 1:].T)
            waiting = np.delete(waiting, first, axis=0)

    def _take(self, rows: Ints, at_ns: Ints, lost: Ints, sent: Ints, loaded: Ints) -> None:
        """Take one window of each of these rows."""
        times = self._rings["at_ns"][rows]
        since_ns = at_ns - times.max(axis=1)
        repeated = (times == at_ns[:, None]).any(axis=1)  # a batch that came twice
        queued = (loaded != 0) & (since_ns >= 0) & (since_ns <= LOADED_HOLD_NS)
        taken = ~(repeated | queued)
        rows = rows[taken]
        slots = self._count[rows] % HISTORY
        for name, column in (("at_ns", at_ns), ("lost", lost), ("sent", sent)):
            self._rings[name][rows, slots] = column[taken]
        self._count[rows] += 1
        self._fresh.update(rows.tolist())

    def _row(self, src: int, dst: int) -> int:
        row = self._rows.setdefault((src, dst), len(self._rows))
        if row == len(self._count):
            self._rings = np.concatenate((self._rings, np.zeros_like(self._rings)))
            self._count = np.concatenate((self._count, np.zeros_like(self._count)))
        return row

    def forget(self, node: int) -> None:
        """Remove a node's links; nodes after it move up by one."""
        self._settle()
        rows, rings, counts, fresh = self._rows, self._rings, self._count, self._fresh
        self.__init__()  # type: ignore[misc] # a new one, filled from the old one
        kept = [(_moved(ends, node), row) for ends, row in rows.items() if node not in ends]
        if kept:
            self._rows = {ends: number for number, (ends, _) in enumerate(kept)}
            self._rings = rings[[row for _, row in kept]]
            self._count = counts[[row for _, row in kept]]
        self._fresh = {number for number, (_, row) in enumerate(kept) if row in fresh}

    def changed(self) -> Iterator[tuple[int, int, float, float]]:
        """Yield (one end, the other, loss of round trips, effective packets) of paths with new windows."""
        self._settle()
        if not self._fresh:
            return
        ends = list(self._rows)  # by row
        pairs = sorted({(min(ends[row]), max(ends[row])) for row in self._fresh})
        self._fresh = set()
        lost, sent = self._windows(pairs)
        shares, packets = pooled(lost, sent)
        for (low, high), share, count in zip(pairs, shares.tolist(), packets.tolist(), strict=True):
            yield low, high, share, count

    def _windows(self, pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
        """Return (lost, sent) of the windows of both ends, (pairs, windows), in the order of their ends."""
        both = np.zeros((len(pairs), 2 * HISTORY), _DTYPE)
        for number, (low, high) in enumerate(pairs):
            for first, ends in ((0, (low, high)), (HISTORY, (high, low))):
                if (row := self._rows.get(ends)) is not None:
                    both[number, first : first + HISTORY] = self._rings[row]
        both = np.take_along_axis(both, np.argsort(both["at_ns"], axis=1, kind="stable"), axis=1)
        counts = both["at_ns"] > both["at_ns"][:, -1:] - AGE_NS
        lost, sent = (np.where(counts, both[name], 0).astype(np.int64) for name in ("lost", "sent"))
        return lost, sent


def _moved(ends: tuple[int, int], gone: int) -> tuple[int, int]:
    return ends[0] - (ends[0] > gone), ends[1] - (ends[1] > gone)
