"""Decide which window of round trips and which hop a link shows.

A window during one of our own transfers shows that transfer's queue, not the path: it replaces an idle window only
where that is old, or where no queue explains the difference. A hop keeps the round trip that the path had meanwhile
(`hop_rtt_ms`), so that combining it with a later round trip shows by how much the path has changed.

Which round trip a hop had is not certain where the path changed in the window in which the hop was measured. A hop
takes a round trip and what its bytes and the software take, and the latter are the same as in the hop before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarm_protocol.messages.samples import HopSample, LinkSample, UplinkSample
from swarm_protocol.snapshot.links.first_windows import FirstWindows
from swarm_protocol.snapshot.links.link_table import LinkTable
from swarm_protocol.snapshot.links.loss_history import LOADED_HOLD_NS, LossHistory, LossWindow
from swarm_protocol.snapshot.links.stamp_history import StampedWindow, StampHistory
from swarm_protocol.snapshot.links.window_columns import PATHS, WHY, WindowColumns, Windows, window_columns
from swarm_protocol.snapshot.swarm import Ints, Kind, Transport
from swarm_protocol.units import NS_PER_S

STEP_SHARE: Final = 0.1  # of a round trip: a difference larger than its noise
PLATEAU: Final = 0.25  # of a step: the spread of a window that is all at one level
HOP_SLACK: Final = 1.05
RAISED_NS: Final = 60 * NS_PER_S  # two windows further apart are not "in a row"
RECENT_RATE_NS: Final = 15 * 60 * NS_PER_S  # the collector leases each node's transfers more often than this
CLOCK_SLACK_NS: Final = 5 * NS_PER_S  # clocks kept by NTP differ by far less
AT_ONCE: Final = 64  # windows from which on it is quicker to take them together


def is_later(seen_ns: int, known_ns: int, at_ns: int, *, loaded: bool = False) -> bool:
    """Decide whether a figure of `at_ns`, of a node last heard at `seen_ns`, replaces the one of `known_ns`."""
    if known_ns == 0:
        return True
    if known_ns > seen_ns + CLOCK_SLACK_NS and seen_ns > 0 and at_ns != known_ns:
        return True
    return at_ns > known_ns + (LOADED_HOLD_NS if loaded else 0)


class _Finder:
    """Finds one of many windows, for the few that are looked at singly."""

    def __init__(self, windows: Sequence[Windows]) -> None:
        self._windows = windows
        self._ends = list(accumulate(len(each.dst) for each in windows))

    def find(self, i: int) -> tuple[int, int, LinkSample, int]:
        """Return (source, target, sample, when the source was last heard) of number `i` of all windows."""
        which = bisect_right(self._ends, i)
        each, at = self._windows[which], i - self._ends[which]  # from its end
        return each.src, each.dst[at], each.sample(at), each.seen_ns


class LinkFigures:
    def __init__(self, links: LinkTable, seen_ns: Callable[[int], int]) -> None:
        """`seen_ns`: when a node was last heard. It must not hold the builder: a cycle would keep the figures of a
        thousand nodes, 20 MB, until the cycle collector comes."""
        self._links = links
        self._stamps = StampHistory(links.rows)
        self._losses = LossHistory(links.rows)
        self._estimating = True
        self._seen_ns = seen_ns
        self._raised: dict[tuple[int, int], int] = {}  # link → when its whole window was above what is known

    def estimate_if(self, estimating: bool) -> None:
        """Set whether losses and one-way delays are estimated. Where they are not, nothing is kept for them: of links
        that are too many to be shown, those of ten thousand nodes, it was 70 MB."""
        if estimating != self._estimating:
            self._estimating = estimating
            self._stamps, self._losses = StampHistory(self._links.rows), LossHistory(self._links.rows)

    def link(self, src: int, dst: int, sample: LinkSample, seen_ns: int) -> bool:
        """Take a window of node `src`, last heard at `seen_ns`. Return whether it is shown."""
        if self._estimating:
            self._losses.add(src, dst, sample)
        known_ns = self._links.at_ns("path", src, dst)
        if not is_later(seen_ns, known_ns, sample.at_ns, loaded=sample.loaded) and not (
            sample.loaded and sample.at_ns > known_ns and self._beyond_queue(src, dst, sample)
        ):
            if self._estimating and sample.at_ns > known_ns:
                self._stamps.add(src, dst, sample)  # its round trips are not shown; its least stamps may be of no queue
            return False
        self._raised.pop((src, dst), None)
        if known_ns < self._links.at_ns("hop", src, dst) <= sample.at_ns:
            self._date_hop(src, dst, sample)
        # over a detour via the collector nothing is sent; packets sent without a path are not lost on one
        nothing = sample.sent == 0 or (sample.path == "none" and sample.why is not None)
        estimated = sample.path in ("estimated", "relayed")
        cells = (
            Kind.ESTIMATE if estimated else Kind.NONE if nothing else Kind.MEASURED,
            PATHS[sample.path],
            WHY[sample.why],
            sample.at_ns,
            sample.sent,
            sample.rtt_min_ms,
            sample.rtt_p50_ms,
            sample.rtt_p95_ms,
            sample.rtt_p99_ms,
            sample.pdv_ms,
            sample.jitter_rfc3550_ms,
            None if nothing else min(1.0, sample.lost / sample.sent),
        )
        self._links.put("path", src, dst, sample.at_ns, cells)
        if self._estimating:
            self._stamps.add(src, dst, sample)
        return True

    def links(self, windows: Sequence[Windows]) -> npt.NDArray[np.bool_]:
        """Take windows, in their order, and return which of them are shown: what `link` does for each, in a fifth of
        its time for thousands."""
        count = sum([len(each.dst) for each in windows])
        shown = np.zeros(count, bool)
        if count < AT_ONCE:
            shown[:] = [
                self.link(each.src, dst, each.sample(i), each.seen_ns)
                for each in windows
                for i, dst in enumerate(each.dst)
            ]
            return shown
        numbers = self._rows(windows)
        columns = window_columns(windows)
        of_rare = _Finder(windows)
        left = np.arange(count)
        while len(left):  # one window of each link at a time
            _, first = np.unique(numbers[left], return_index=True)
            self._links_once(of_rare, left[first], numbers[left[first]], columns.of(left[first]), shown)
            left = np.delete(left, first)
        return shown

    def _rows(self, windows: Sequence[Windows]) -> Ints:
        """Return the row of each window's link."""
        links, found = self._links.rows, list[int]()
        for each in windows:
            rows = list(map(links.of(each.src).get, each.dst))
            if None in rows:
                rows = [links.add(each.src, dst) for dst in each.dst]
            found += rows  # type: ignore[arg-type]
        return np.array(found, np.int64)

    def _links_once(
        self, windows: _Finder, at: Ints, rows: Ints, columns: WindowColumns, shown: npt.NDArray[np.bool_]
    ) -> None:
        """Take the windows `at` of `rows`, each of another link."""
        known_ns, at_ns = self._links.known_of("path", rows), columns.at_ns
        later = (
            (known_ns == 0)
            | ((known_ns > columns.seen_ns + CLOCK_SLACK_NS) & (columns.seen_ns > 0) & (at_ns != known_ns))
            | (at_ns > known_ns + np.where(columns.loaded, LOADED_HOLD_NS, 0))
        )
        hop_ns = self._links.known_of("hop", rows)
        rare = (~later & (at_ns > known_ns)) | (later & (known_ns < hop_ns) & (hop_ns <= at_ns))
        rare |= columns.loaded & columns.stamped
        for i in at[rare].tolist():
            shown[i] = self.link(*windows.find(i))
        if self._estimating:
            counted = columns.counted & ~rare
            self._losses.add_many(rows[counted], *(each[counted] for each in columns.losses))
        plain = later & ~rare
        shown[at[plain]] = True
        if self._raised:
            for ends in zip(*(each.tolist() for each in self._links.rows.ends(rows[plain])), strict=True):
                self._raised.pop(ends, None)
        self._links.put_paths(rows[plain], at_ns[plain], [each[plain] for each in columns.cells])
        if self._estimating:
            stamped = plain & columns.stamped
            self._stamps.add_many(rows[stamped], *(each[stamped] for each in columns.stamps))

    def first(self, windows: FirstWindows) -> None:
        """Take the first window of many links."""
        numbers = (self._links.rows.add(src, dst) for src, dst in zip(windows.src, windows.dst, strict=True))
        rows, columns = np.fromiter(numbers, np.int64, len(windows.src)), windows.columns()
        self._links.put_paths(rows, columns.at_ns, columns.cells)
        if not self._estimating:
            return
        counted, stamped = np.flatnonzero(columns.counted), np.flatnonzero(columns.stamped)
        at_ns, lost, sent, loaded = columns.of(counted).losses
        self._losses.add_many(rows[counted], at_ns, lost, sent, loaded.astype(np.int64))
        self._stamps.add_many(rows[stamped], *columns.of(stamped).stamps)

    def earlier(self, src: int, dst: int, stamps: Sequence[StampedWindow], losses: Sequence[LossWindow]) -> None:
        if self._estimating:
            self._stamps.restore(src, dst, stamps)
            self._losses.restore(src, dst, losses)

    def estimate(self, nodes: int, now_ns: int) -> None:
        """Estimate losses of paths with new windows, and one-way delays if they are due."""
        if not self._estimating:
            return
        losses = list(self._losses.changed())
        both_ways = [ends for low, high, _, _ in losses for ends in ((low, high), (high, low))]
        shares = np.repeat(np.array([each[2:] for each in losses], np.float64).reshape(-1, 2), 2, axis=0)
        self._links.put_many("losses", both_ways, now_ns, tuple(shares.T))
        delays = list(self._stamps.changed(nodes, now_ns))
        found = np.array([each[2:] for each in delays], np.float64).reshape(-1, 2)
        self._links.put_many("oneway", [each[:2] for each in delays], now_ns, tuple(found.T))

    def forget(self, node: int) -> None:
        self._losses.settle()
        former = self._links.forget(node)
        self._stamps.keep(former)
        self._losses.keep(former)
        self._raised.clear()  # rows move up

    def _beyond_queue(self, src: int, dst: int, sample: LinkSample) -> bool:
        """Return whether a window shows the path itself. A queue only adds delay, and delay of every length, and not
        for long: no transfer explains a window lower than what is known, all at one other level, or the second in a row
        that is all above what is known."""
        known_ms = self._links.cells("path", src, dst).get("rtt_p50_ms", np.nan)
        if sample.rtt_p50_ms is None or sample.rtt_min_ms is None or sample.rtt_p95_ms is None or np.isnan(known_ms):
            return False
        step_ms = sample.rtt_p50_ms - known_ms
        if abs(step_ms) < STEP_SHARE * known_ms:
            return False
        if step_ms < 0 or sample.rtt_p95_ms - sample.rtt_min_ms <= PLATEAU * step_ms:
            return True
        if sample.rtt_min_ms - known_ms < STEP_SHARE * known_ms:
            self._raised.pop((src, dst), None)
            return False
        before_ns = self._raised.get((src, dst), 0)
        self._raised[src, dst] = sample.at_ns
        return 0 < sample.at_ns - before_ns <= RAISED_NS

    def _date_hop(self, src: int, dst: int, sample: LinkSample) -> None:
        """Decide, for a hop measured before this window ended, which round trip was the hop's: the one known before, or
        one of this window's."""
        cells = self._links.cells("hop", src, dst)
        before_ms = self._links.cells("path", src, dst).get("rtt_p50_ms", np.nan)
        after_ms, least_ms = sample.rtt_p50_ms, sample.rtt_min_ms
        expected_ms, hop_ms = cells["hop_rtt_ms"], cells["hop_p50_ms"]
        if after_ms is None or least_ms is None:
            return
        most_ms = after_ms if sample.rtt_p95_ms is None else sample.rtt_p95_ms
        levels = (before_ms, after_ms, least_ms, most_ms)  # a window in which the path changed is at two
        if np.isnan(before_ms):
            rtt_ms = after_ms
        elif not np.isnan(expected_ms) and expected_ms != before_ms:
            rtt_ms = min(levels, key=lambda ms: abs(expected_ms - ms))
        elif after_ms <= HOP_SLACK * hop_ms and _is_whole(sample, before_ms):
            rtt_ms = after_ms  # the first hop of its size, in a window that is all of one level
        else:  # no hop is faster than its round trip
            rtt_ms = max((ms for ms in levels[:3] if ms <= HOP_SLACK * hop_ms), default=least_ms)
        cells["hop_rtt_ms"] = rtt_ms
        self._links.put("hop", src, dst, int(cells["hop_at_ns"]), tuple(cells.values()))

    def _hop_rtt_ms(self, src: int, dst: int, sample: HopSample) -> float:
        """Return the round trip in which a hop was measured: what it took, less what the hop before took beyond its
        round trip; the path's latest if there is none of this size."""
        before = self._links.cells("hop", src, dst)
        if before and before["hop_bytes"] == sample.size_bytes and not np.isnan(before["hop_rtt_ms"]):
            return sample.p50_ms - (before["hop_p50_ms"] - before["hop_rtt_ms"])
        return self._links.cells("path", src, dst).get("rtt_p50_ms", np.nan)

    def hop(self, src: int, dst: int, sample: HopSample) -> bool:
        """Take a hop. The live figure is a decode step's; prefill chunks belong to the history."""
        if sample.phase != "decode":
            return False
        if not is_later(self._seen_ns(src), self._links.at_ns("hop", src, dst), sample.at_ns, loaded=sample.loaded):
            return False
        cells = (
            sample.size_bytes, sample.min_ms, sample.p50_ms, sample.p95_ms, sample.p99_ms, sample.first_ms,
            sample.at_ns, self._hop_rtt_ms(src, dst, sample), self._rate_mbps(src, dst),
            Transport[sample.transport.upper()],
        )  # fmt: skip
        self._links.put("hop", src, dst, sample.at_ns, cells)
        return True

    def uplink(self, src: int, dst: int, sample: UplinkSample) -> bool:
        if not is_later(self._seen_ns(src), self._links.at_ns("rate", src, dst), sample.at_ns):
            return False
        kind = Kind.BOUND if sample.bound else Kind.MEASURED
        transport = Transport[sample.transport.upper()]
        self._links.put(
            "rate", src, dst, sample.at_ns, (sample.mbps, kind, sample.rtt_loaded_ms, sample.at_ns, transport)
        )
        return True

    def _rate_mbps(self, src: int, dst: int) -> float:
        """Return the lower of the two ends' rates; NaN if neither was measured, or the lower is only a bound."""
        ends = ((src, True), (dst, False))
        best = [self.best_transfer(i, out=out) for i, out in ends if len(self._links.rates(i, out=out))]
        slower = min(best, key=lambda transfer: float(transfer["mbps"]), default=None)
        return float(slower["mbps"]) if slower is not None and slower["mbps_kind"] == Kind.MEASURED else np.nan

    def best_transfer(self, i: int, *, out: bool) -> npt.NDArray[Any]:
        """Return the best of the latest transfers of a node, in one direction; a measured one before an equal bound,
        and of equals the newest."""
        transfers = self._links.rates(i, out=out)
        recent = transfers[transfers["mbps_at_ns"] >= transfers["mbps_at_ns"].max() - RECENT_RATE_NS]
        order = np.lexsort((recent["mbps_at_ns"], recent["mbps_kind"] == Kind.MEASURED, recent["mbps"]))
        return recent[order[-1]]  # type: ignore[no-any-return]


def _is_whole(sample: LinkSample, before_ms: float) -> bool:
    """Return whether a window is nearer to its own median than to the round trip before from its first packet on: its
    lowest shows that where the path got longer, its highest where it got shorter."""
    after_ms = sample.rtt_p50_ms
    end_ms = sample.rtt_min_ms if after_ms is None or after_ms > before_ms else sample.rtt_p95_ms
    return after_ms is not None and end_ms is not None and abs(end_ms - before_ms) > abs(end_ms - after_ms)
