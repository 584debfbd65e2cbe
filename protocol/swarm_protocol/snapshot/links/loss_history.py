"""Keep the counts of sent and lost packets of the latest windows of every measured link, for `pooled_loss`.

A link has room for as many windows as count, in blocks: 80 bytes in a swarm that nobody watches, where each link is
measured twice an hour, 416 where it is measured every minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.estimates.pooled_loss import pooled
from swarm_protocol.snapshot.links.link_rows import LinkRows, grown
from swarm_protocol.snapshot.swarm import Ints
from swarm_protocol.units import NS_PER_S

HISTORY: Final = 32  # windows of each end: some 500 packets, where nobody watches in half an hour
AGE_NS: Final = 3600 * NS_PER_S  # before the newest window of the path; an idle swarm measures each link twice in it
LOADED_HOLD_NS: Final = 60 * NS_PER_S  # so long after an idle window, losses during our own transfers are its queue's
_MAX_WAITING: Final = 4_096  # windows since the last read: put into their blocks together they cost a tenth
_BLOCK: Final = 4  # windows
_BLOCKS: Final = HISTORY // _BLOCK  # of one link, at most
_MAX_PACKETS: Final = 65_535  # packets of a window that count: a probe sends far fewer
_PAIRS_AT_ONCE: Final = 2_048  # paths whose windows are pooled together: some 2 MB

LossWindow = tuple[int, int, int, bool]  # its end in ns, lost, sent, loaded


class LossHistory:
    def __init__(self, links: LinkRows | None = None) -> None:
        """Create it. `links`: the rows of links, shared with other tables."""
        self._links = LinkRows() if links is None else links
        self._blocks = np.zeros((0, _BLOCKS), np.uint32)  # of each row, filled one after the other; 0: none
        self._at_ns = np.zeros((0, _BLOCK), np.int64)  # of the windows of each block; 0: empty, as block 0 always is
        self._lost, self._sent = np.zeros((0, _BLOCK), np.uint16), np.zeros((0, _BLOCK), np.uint16)
        self._used = 1  # blocks
        self._waiting: list[tuple[int, int, int, int, bool]] = []  # (row, at_ns, lost, sent, loaded), as they came
        self._waits: set[int] = set()  # their rows
        self._fresh: set[int] = set()  # rows with new windows

    def add(self, src: int, dst: int, sample: LinkSample) -> None:
        """Add one window, if its packets were sent over the path itself."""
        if sample.path in ("direct", "punched") or (sample.path == "none" and sample.why is None):
            self._put(src, dst, (sample.at_ns, sample.lost, sample.sent, sample.loaded))

    def add_many(self, rows: Ints, at_ns: Ints, lost: Ints, sent: Ints, loaded: Ints) -> None:
        """Add windows whose packets were sent over the paths themselves, one of each of these rows."""
        self._settle()
        some = sent > 0
        sent = np.minimum(sent[some], _MAX_PACKETS)
        self._take(rows[some], at_ns[some], np.minimum(lost[some], sent), sent, loaded[some])

    def restore(self, src: int, dst: int, windows: Sequence[LossWindow]) -> None:
        """Replace what is known of a link by these windows, oldest first."""
        row = self._links.add(src, dst)
        if row in self._waits:
            self._settle()
        self._reserve()
        if row < len(self._blocks):
            self._at_ns[self._blocks[row]] = 0
        for window in windows:
            self._put(src, dst, window)

    def _put(self, src: int, dst: int, window: LossWindow) -> None:
        at_ns, lost, sent, loaded = window
        if sent > 0:
            sent = min(sent, _MAX_PACKETS)
            row = self._links.add(src, dst)
            self._waiting.append((row, at_ns, min(lost, sent), sent, loaded))
            self._waits.add(row)
            if len(self._waiting) >= _MAX_WAITING:
                self._settle()

    def _settle(self) -> None:
        """Put the waiting windows into their blocks, each row's one by one in the order in which they came."""
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
        self._reserve()
        blocks = self._blocks[rows]
        times = self._at_ns[blocks].reshape(len(rows), HISTORY)
        since_ns = at_ns - times.max(axis=1)
        repeated = (times == at_ns[:, None]).any(axis=1)  # a batch that was sent again
        queued = (loaded != 0) & (since_ns >= 0) & (since_ns <= LOADED_HOLD_NS)
        taken = ~(repeated | queued)
        rows, blocks, times, at_ns = rows[taken], blocks[taken], times[taken], at_ns[taken]
        each = np.arange(len(rows))
        slot = self._slots(blocks, times, at_ns)
        number, position = slot // _BLOCK, slot % _BLOCK
        new = np.flatnonzero(blocks[each, number] == 0)
        blocks[new, number[new]] = self._used + np.arange(len(new))
        self._blocks[rows[new], number[new]] = blocks[new, number[new]]
        self._used += len(new)
        self._reserve()
        block = blocks[each, number]
        self._at_ns[block, position] = at_ns
        self._lost[block, position], self._sent[block, position] = lost[taken], sent[taken]
        self._fresh.update(rows.tolist())

    def _slots(self, blocks: Ints, times: Ints, at_ns: Ints) -> Ints:
        """Return where each new window goes: into an empty slot of a block; over the oldest window, if that no longer
        counts or there is no more room; else into the first slot of another block."""
        first_empty = np.where((times == 0).any(axis=1), (times == 0).argmax(axis=1), HISTORY)
        oldest = np.where(times == 0, np.iinfo(np.int64).max, times).argmin(axis=1)
        has_room = first_empty < _BLOCK * (blocks != 0).sum(axis=1)
        over = (times[np.arange(len(times)), oldest] <= at_ns - AGE_NS) & (blocks[:, 0] != 0)
        return np.asarray(np.where(~has_room & (over | (first_empty == HISTORY)), oldest, first_empty), np.int64)

    def _reserve(self) -> None:
        """Make room for all rows and blocks there are."""
        self._blocks = grown(self._blocks, len(self._links))
        if self._used > len(self._at_ns):
            self._at_ns, self._lost, self._sent = (
                grown(column, self._used) for column in (self._at_ns, self._lost, self._sent)
            )

    def keep(self, former: Ints) -> None:
        """Keep the windows of these rows alone, in this order; `links` has been renumbered likewise."""
        self._reserve()  # where nothing was put yet, block 0 is missing too
        fresh = self._fresh
        self._fresh = {row for row, before in enumerate(former.tolist()) if before in fresh}
        used, numbers = np.unique(
            np.append(self._blocks[former[former < len(self._blocks)]].ravel(), np.uint32(0)), return_inverse=True
        )
        self._blocks = numbers[:-1].reshape(-1, _BLOCKS).astype(np.uint32)
        self._at_ns, self._lost, self._sent = self._at_ns[used], self._lost[used], self._sent[used]
        self._used = len(used)

    def settle(self) -> None:
        """Take what waits, before rows are renumbered."""
        self._settle()

    def changed(self) -> Iterator[tuple[int, int, float, float]]:
        """Yield (one end, the other, loss of round trips, effective packets) of paths with new windows."""
        self._settle()
        if not self._fresh:
            return
        src, dst = self._links.ends(np.fromiter(self._fresh, np.int64, len(self._fresh)))
        low, high = np.minimum(src, dst).tolist(), np.maximum(src, dst).tolist()
        pairs = sorted(set(zip(low, high, strict=True)))
        self._fresh = set()
        for first in range(0, len(pairs), _PAIRS_AT_ONCE):
            some = pairs[first : first + _PAIRS_AT_ONCE]
            shares, packets = pooled(*self._windows(some))
            for (low, high), share, count in zip(some, shares.tolist(), packets.tolist(), strict=True):
                yield low, high, share, count

    def _windows(self, pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
        """Return (lost, sent) of the windows of both ends, (pairs, windows), in the order of their ends."""
        find = self._links.find
        rows = np.array([(find(low, high), find(high, low)) for low, high in pairs], np.float64)  # NaN: not measured
        known = ~np.isnan(rows)
        blocks = np.zeros((len(pairs), 2, _BLOCKS), np.uint32)
        self._reserve()
        blocks[known] = self._blocks[rows[known].astype(np.int64)]
        at_ns = self._at_ns[blocks].reshape(len(pairs), 2 * HISTORY)
        order = np.argsort(at_ns, axis=1, kind="stable")
        at_ns = np.take_along_axis(at_ns, order, axis=1)
        counts = at_ns > at_ns[:, -1:] - AGE_NS
        lost, sent = (
            np.where(counts, np.take_along_axis(column[blocks].reshape(order.shape), order, axis=1), 0)
            for column in (self._lost, self._sent)
        )
        return lost.astype(np.int64), sent.astype(np.int64)
