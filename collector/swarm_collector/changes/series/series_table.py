"""Hold every tested series: put samples into levels, and list those with evidence of a change. Pure.

Windows of links wait until somebody asks, or until there are many, because together they cost a fraction. What else
comes meanwhile does not depend on them, except transfers, which are taken behind the windows before them.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

import numpy as np

from swarm_collector.changes.change_thresholds import JITTER, LAYER, LOSS, RTT, UPLINK, VISIT, Figure
from swarm_collector.changes.detected_change import Found
from swarm_collector.changes.series.level import PLATEAU, Level
from swarm_collector.changes.series.level_columns import Ints
from swarm_collector.changes.series.link_rows import LinkRows
from swarm_collector.changes.series.link_series import LinkSeries, QuietWindows
from swarm_collector.changes.series.loss_level import LossLevel
from swarm_collector.changes.subjects import Subject
from swarm_collector.changes.throttle import Throttle
from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import ComputeSample, HostSample, LinkSample, Sample, UplinkSample
from swarm_protocol.snapshot.links.window_columns import joined
from swarm_protocol.units import NS_PER_S

Unit = tuple[str, str, str]  # figure, and the two ends in order; of a node's figure: figure, node, what was measured

MAX_LINKS: Final = 40_000  # directed; some 20 MB
MAX_KEYS: Final = 64  # layer times followed for one node
TRUSTED_SHARE: Final = 0.15  # of a window: a shorter transfer does not move its median
QUEUED_SHARE: Final = 0.5  # a shorter one, with the seconds in which its queue drains, does not move the minimum
MAX_WAITING: Final = 4_096  # windows: 2 MB
AT_ONCE: Final = 64  # windows from which on it is quicker to take them together

_OF_LINK: Final = {RTT.name: 0, LOSS.name: 1, JITTER.name: 2}  # the order of the three series of a link
_PATHS: Final = frozenset(("direct", "punched"))
_WINDOW: Final = ("at_ns", "sent", "lost", "loaded", "rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "pdv_ms")
_window: Final = operator.attrgetter(*_WINDOW)

Series = Level | LossLevel


@dataclass(slots=True)
class Pool:
    """The evidence of one unit, from both directions of a pair."""

    decades: float = 0.0
    samples: int = 0
    whole: int = 0
    since_ns: int = 0
    until_ns: int = 0
    series: list[Series] = field(default_factory=list)

    def take(self, one: Series) -> None:
        self.decades += one.evidence
        self.samples += one.samples
        self.whole += one.whole
        self.since_ns = min(self.since_ns or one.since_ns, one.since_ns)
        self.until_ns = max(self.until_ns, one.at_ns)
        self.series.append(one)


class _Waiting(NamedTuple):
    """Windows of one node that have not been taken yet."""

    rows: Sequence[int]
    columns: Sequence[Sequence[Any] | None]  # those of _WINDOW; None: the field's default

    def window(self, i: int) -> tuple[Any, ...]:
        return tuple([None if cells is None else cells[i] for cells in self.columns])


_DEFAULTS: Final = (0, 0, 0, False, math.nan, math.nan, math.nan, math.nan)


class SeriesTable:
    """All series. `add` takes each committed sample; `hot` holds those with evidence now."""

    def __init__(self, most_links: int = MAX_LINKS) -> None:
        self._rows = LinkRows(most_links)
        self._links = LinkSeries()
        self._waiting: list[_Waiting] = []
        self._count = 0  # of windows in them
        self._of_nodes: dict[str, dict[tuple[str, str], Level]] = {}  # node → (figure, what) → series
        self._throttles: dict[tuple[str, str], Throttle] = {}
        self.hot: dict[Unit, None] = {}
        self.throttled: list[Found] = []  # to be reported
        self._transfer_ns: dict[str, int] = {}  # the longest recent one of each node
        self._away: set[str] = set()

    # ------------------------------------------------------------ samples

    def add(self, node: str, sample: Sample) -> None:
        self._away.discard(node)
        if isinstance(sample, HostSample):
            if sample.throttled is not None:
                self._add_throttle(node, sample)
        elif isinstance(sample, LinkSample):
            if sample.sent and sample.path in _PATHS and sample.peer not in self._away:
                (row,) = self._rows.rows(node, (sample.peer,))
                if row is not None:
                    self._wait(_Waiting((row,), [(cell,) for cell in _window(sample)]))
        elif isinstance(sample, UplinkSample):
            self.settle()
            self._add_uplink(node, sample)
        elif isinstance(sample, ComputeSample):
            self._add_compute(node, sample)

    def add_windows(self, node: str, links: LinkColumns, since_ns: int = 0) -> None:
        """Take committed windows of a node, those that ended before `since_ns` left out."""
        if max(links.at_ns) < since_ns:
            return
        self._away.discard(node)
        if self._rows.none_followed(node, links.peer):  # as of most links of a large swarm
            return
        peers: Sequence[str] = links.peer
        columns: Sequence[Sequence[Any] | None] = _window(links)
        if not (
            min(links.at_ns) >= since_ns
            and 0 not in links.sent
            and _PATHS.issuperset(links.path)
            and self._away.isdisjoint(peers)
        ):
            of = zip(links.at_ns, links.sent, links.path, peers, strict=True)
            chosen = [
                i
                for i, (at_ns, sent, path, peer) in enumerate(of)
                if at_ns >= since_ns and sent and path in _PATHS and peer not in self._away
            ]
            peers, columns = [peers[i] for i in chosen], _of(columns, chosen)
        rows = self._rows.rows(node, peers)
        if None in rows:  # more links than are followed
            chosen = [i for i, row in enumerate(rows) if row is not None]
            rows, columns = [row for row in rows if row is not None], _of(columns, chosen)
        if rows:
            self._wait(_Waiting(rows, columns))  # type: ignore[arg-type] # none is None

    def _wait(self, windows: _Waiting) -> None:
        self._waiting.append(windows)
        self._count += len(windows.rows)
        if self._count >= MAX_WAITING:
            self.settle()

    def settle(self) -> None:
        """Take the windows that wait."""
        if not self._waiting:
            return
        waiting, count = self._waiting, self._count
        self._waiting, self._count = [], 0
        self._links.reserve(len(self._rows))
        rows = np.fromiter(chain.from_iterable([each.rows for each in waiting]), np.int64, count)
        at_ns = np.fromiter(chain.from_iterable([each.columns[0] or () for each in waiting]), np.int64, count)
        self._rows.measured_at(rows, at_ns)
        if count < AT_ONCE:
            for each in waiting:
                for i, row in enumerate(each.rows):
                    self._add_window(row, *each.window(i))
            self._links.rest_if_many()
            return
        self._take(waiting, rows, at_ns)

    def _take(self, waiting: list[_Waiting], rows: Ints, at_ns: Ints) -> None:
        """Take windows together, in their order where they are of one link."""

        sizes = [len(each.rows) for each in waiting]

        def column(k: int, dtype: type[np.generic]) -> Any:
            return joined([each.columns[k] for each in waiting], sizes, dtype, _DEFAULTS[k])

        windows = QuietWindows(
            at_ns, column(1, np.int64), column(2, np.int64), column(5, np.float64), column(7, np.float64)
        )
        asked = ~(column(3, np.bool_) | np.isnan(column(4, np.float64)) | np.isnan(windows.p50_ms))
        ends = list(accumulate(sizes))

        def singly(left: Ints) -> None:
            for i in left.tolist():
                which = bisect_right(ends, i)
                each = waiting[which]
                at = i - ends[which]  # from its end
                row = each.rows[at]
                link = self._links.wake(row)
                quiet = link.quiet
                self._add_window(row, *each.window(at))
                if quiet:  # twice in a row: on a noisy link evidence comes and goes
                    self._links.rest(row)

        left, number = np.arange(len(rows)), np.empty(len(self._rows), np.int64)
        while len(left) >= AT_ONCE:  # one window of each link at a time
            number[rows[left[::-1]]] = left[::-1]
            first = number[rows[left]] == left
            of = left[first]
            taken = self._links.take(rows[of], QuietWindows(*(cells[of] for cells in windows)), asked[of])
            singly(of[~taken])
            left = left[~first]
        singly(left)

    def _add_window(
        self, row: int, at_ns: int, sent: int, lost: int, loaded: bool, least: float | None, p50: float | None,
        p95: float | None, pdv: float | None,
    ) -> None:  # fmt: skip
        link = self._links.wake(row)
        rtt, loss, jitter = link
        if p50 is not None and least is not None:
            p95 = p95 if p95 is not None else p50
            if not loaded:
                rtt.add(p50, at_ns, window=(least, p95))
                if pdv is not None:
                    jitter.collect(pdv, at_ns)
            else:
                before_ns = max(rtt.at_ns or loss.at_ns, self._links.loaded_ns(row))
                share = self._transfer_share(*self._rows.ends(row), at_ns - before_ns)
                if share <= TRUSTED_SHARE:
                    rtt.add(p50, at_ns, window=(least, p95))
                elif not rtt.known:
                    rtt.add(least, at_ns, window=(least, p95))
                elif p50 <= rtt.usual or p95 - least <= PLATEAU * (least - rtt.usual):
                    rtt.add(p50, at_ns, window=(least, p95))  # a queue only adds delay, of every length
                elif share <= QUEUED_SHARE and rtt.is_away(least):
                    rtt.add(least, at_ns, window=(least, least))  # a queue does not last for the whole window
        if loaded:
            self._links.loaded(row, at_ns)
        if not loaded or lost == sent:
            loss.add(lost, sent, at_ns)
        if rtt.worse or rtt.better or loss.worse or loss.better or jitter.worse or jitter.better:
            ends = self._rows.ends(row)
            for one in link:
                if one.worse or one.better:
                    self.hot[_link_unit(one.figure, *ends)] = None

    def _transfer_share(self, src: str, dst: str, window_ns: int) -> float:
        """Return which part of the window a transfer of either end takes, by the longest recent one."""
        longest_ns = max(self._transfer_ns.get(src, window_ns), self._transfer_ns.get(dst, window_ns))
        return longest_ns / max(1, window_ns)

    def _add_uplink(self, src: str, sample: UplinkSample) -> None:
        took_ns = round(sample.seconds * NS_PER_S)
        for end in (src, sample.peer):  # decay slowly
            self._transfer_ns[end] = max(took_ns, self._transfer_ns.get(end, 0) * 7 // 8)
        series = self._of_node(src, UPLINK, sample.peer)
        if (
            series is not None
            and sample.mbps > 0
            and not (sample.bound and series.known and sample.mbps < series.usual)
        ):
            series.add(sample.mbps, sample.at_ns)
            self._heat(src, UPLINK, sample.peer, series)

    def _add_compute(self, node: str, sample: ComputeSample) -> None:
        if sample.phase in ("head", "embed"):  # they take microseconds on a processor, which is the timer's noise
            return
        figure = VISIT if sample.phase == "visit" else LAYER
        what = f"{sample.device} {sample.model} {sample.dtype} {sample.phase} {sample.batch} {sample.context}"
        if sample.stage_layers is not None:
            what += f" {sample.stage_layers}"  # visits to stages of two sizes are two series
        series = self._of_node(node, figure, what)
        if series is not None:
            series.add(sample.ms_per_layer, sample.at_ns)
            self._heat(node, figure, what, series)

    def _add_throttle(self, node: str, sample: HostSample) -> None:
        gpu = sample.gpu or ""
        throttle = self._throttles.setdefault((node, gpu), Throttle())
        for detail, kind, lasted_ns in throttle.add(sample):
            self.throttled.append(Found(sample.at_ns, kind, Subject(node), (), lasted_ns=lasted_ns, detail=detail))

    def _of_node(self, node: str, figure: Figure, what: str) -> Level | None:
        known = self._of_nodes.setdefault(node, {})
        series = known.get((figure.name, what))
        if series is None:
            if len(known) >= MAX_KEYS:
                return None
            series = known[figure.name, what] = Level(figure)
        return series

    def of_unit(self, unit: Unit) -> list[Series]:
        """Return the series of a unit that have evidence or an open change: of a pair one for each direction."""
        name, one, other = unit
        if (number := _OF_LINK.get(name)) is not None:
            rows = [row for row in (self._rows.find(one, other), self._rows.find(other, one)) if row is not None]
            return [link[number] for link in map(self._links.awake, rows) if link is not None]
        known = self._of_nodes.get(one, {}).get((name, other))
        return [] if known is None else [known]

    def _heat(self, node: str, figure: Figure, what: str, series: Level) -> None:
        if series.worse or series.better:
            self.hot[figure.name, node, what] = None

    # ------------------------------------------------------------ nodes that come and go

    def away(self, node: str) -> None:
        """The node left or is lost, which is reported elsewhere: until it is heard again, what its peers measure is no
        change of their links."""
        self.settle()
        self._away.add(node)
        self._rows.away(node)
        for series in self._with_evidence(node):
            series.drop_evidence()
            if series.reference is not None:
                series.restart()
        for series in self._of_nodes.get(node, {}).values():
            series.drop_evidence()
            series.settle()

    def forget(self, node: str) -> None:
        self.away(node)
        self._away.discard(node)
        self._links.forget(self._rows.forget(node))
        for unit in [unit for unit in self.hot if node in unit[1:]]:
            del self.hot[unit]
        self._of_nodes.pop(node, None)
        for known in self._of_nodes.values():
            known.pop((UPLINK.name, node), None)
        self._transfer_ns.pop(node, None)
        self._throttles = {key: one for key, one in self._throttles.items() if key[0] != node}

    def ignore_evidence(self, node: str) -> None:
        """The node may be about to be lost: do not take what its links report now for changes."""
        self.settle()
        for series in self._with_evidence(node):
            series.drop_evidence()

    def _with_evidence(self, node: str) -> Iterable[Series]:
        """Return the series of a node's links, of those that are not quiet."""
        awake = self._links.all_awake
        return [series for row in self._rows.of_node(node, awake) for series in awake[row]]

    @property
    def measured(self) -> tuple[str, ...]:
        """Return the nodes that have links."""
        self.settle()
        return self._rows.measured

    # ------------------------------------------------------------ who measures whom

    def peers(self, now_ns: int) -> dict[str, int]:
        """Return how many peers each node has that are measured now; nodes without one are left out."""
        self.settle()
        return self._rows.counts(now_ns)

    def of_pairs(self, who: Subject, now_ns: int) -> int:
        """Return how many pairs of the subject are measured now."""
        if who.peer is not None:
            return 1
        peers = self.peers(now_ns)
        return sum(peers.values()) // 2 if who.node is None else peers.get(who.node, 0)

    def is_clear(self, who: Subject, pools: list[Pool]) -> bool:
        """Return whether half of the node's peers have reported since its change began, without a change of their
        own."""
        if who.node is None or who.peer is not None:
            return True
        heard, peers = self._rows.heard_since(who.node, min(pool.since_ns for pool in pools))
        return 2 * heard >= peers

    def all_in(self, who: Subject, units: tuple[Unit, ...], now_ns: int) -> bool:
        """Return whether all pairs that could join have reported."""
        if who.peer is None:
            return len(units) >= self.of_pairs(who, now_ns)
        peers = self.peers(now_ns)
        return peers.get(who.node or "", 0) <= 1 and peers.get(who.peer, 0) <= 1


def _of(columns: Sequence[Sequence[Any] | None], chosen: list[int]) -> list[Sequence[Any] | None]:
    """Return these rows of columns."""
    return [None if cells is None else [cells[i] for i in chosen] for cells in columns]


def _link_unit(figure: Figure, src: str, dst: str) -> Unit:
    return (figure.name, src, dst) if src < dst else (figure.name, dst, src)
