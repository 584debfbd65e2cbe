"""Hold every tested series: put samples into levels, and list those with evidence of a change. Pure."""

from __future__ import annotations

import operator
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import compress
from typing import Final

from swarm_collector.changes.detected_change import Found
from swarm_collector.changes.figures import JITTER, LAYER, LOSS, RTT, UPLINK, VISIT, Figure
from swarm_collector.changes.level import PLATEAU, BatchedLevel, Level
from swarm_collector.changes.loss_level import LossLevel
from swarm_collector.changes.subjects import Pair, Subject
from swarm_collector.changes.throttle import Throttle
from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import ComputeSample, HostSample, LinkSample, Sample, UplinkSample
from swarm_protocol.units import NS_PER_S

Unit = tuple[str, str, str]  # figure, and the two ends in order; of a node's figure: figure, node, what was measured

ACTIVE_NS: Final = 180 * NS_PER_S  # a pair measured within this time counts for its nodes
MOST_LINKS: Final = 40_000  # directed; some 50 MB
MOST_KEYS: Final = 64  # layer times followed for one node
TRUSTED_SHARE: Final = 0.15  # of a window: a shorter transfer does not move its median
QUEUED_SHARE: Final = 0.5  # a shorter one, with the seconds in which its queue drains, does not move the minimum

_OF_LINK: Final = {RTT.name: 0, LOSS.name: 1, JITTER.name: 2}  # the order of the three series of a link

_WINDOW: Final = (
    "peer", "at_ns", "path", "sent", "lost", "loaded", "rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "pdv_ms",
)  # fmt: skip
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


class SeriesTable:
    """All series. `add` takes each committed sample; `hot` holds those with evidence now."""

    def __init__(self, most_links: int = MOST_LINKS) -> None:
        self._most_links = most_links
        self._links: dict[Pair, tuple[Level, LossLevel, BatchedLevel]] = {}  # directed
        self._of_nodes: dict[str, dict[tuple[str, str], Level]] = {}  # node → (figure, what) → series
        self._throttles: dict[tuple[str, str], Throttle] = {}
        self.hot: dict[Unit, None] = {}
        self.throttled: list[Found] = []  # to be reported
        self._active: dict[str, dict[str, int]] = defaultdict(dict)  # node → peer → when last measured
        self._transfer_ns: dict[str, int] = {}  # the longest recent one of each node
        self._reported_ns: dict[str, int] = {}  # node → its newest window
        self._loaded_ns: dict[Pair, int] = {}  # when a window ended that no series may have taken
        self._away: set[str] = set()

    # ------------------------------------------------------------ samples

    def add(self, node: str, sample: Sample) -> None:
        self._away.discard(node)
        if isinstance(sample, LinkSample):
            self._add_window(node, *_window(sample))
        elif isinstance(sample, UplinkSample):
            self._add_uplink(node, sample)
        elif isinstance(sample, ComputeSample):
            self._add_compute(node, sample)
        elif isinstance(sample, HostSample) and sample.throttled is not None:
            self._add_throttle(node, sample)

    def add_windows(self, node: str, links: LinkColumns, since_ns: int = 0) -> None:
        """Take committed windows of a node, those that ended before `since_ns` left out."""
        windows = zip(*map(links.cells, _WINDOW), strict=True)
        for window in windows if min(links.at_ns) >= since_ns else compress(windows, map(since_ns.__le__, links.at_ns)):
            self._away.discard(node)
            self._add_window(node, *window)

    def _add_window(
        self, src: str, peer: str, at_ns: int, path: str, sent: int, lost: int, loaded: bool, least: float | None,
        p50: float | None, p95: float | None, pdv: float | None,
    ) -> None:  # fmt: skip
        if sent == 0 or path not in ("direct", "punched") or peer in self._away:
            return
        pair = (src, peer)
        series = self._links.get(pair)
        if series is None:
            if len(self._links) >= self._most_links:
                return
            series = self._links[pair] = (Level(RTT), LossLevel(), BatchedLevel(JITTER))
        rtt, loss, jitter = series
        before_ns = max(rtt.at_ns or loss.at_ns, self._loaded_ns.get(pair, 0))
        if loaded:
            self._loaded_ns[pair] = at_ns
        self._reported_ns[src] = at_ns
        self._active[src][peer] = self._active[peer][src] = at_ns
        if p50 is not None and least is not None:
            p95 = p95 if p95 is not None else p50
            share = self._transfer_share(src, peer, at_ns - before_ns) if loaded else 0.0
            if share <= TRUSTED_SHARE:
                rtt.add(p50, at_ns, window=(least, p95))
            elif not rtt.known:
                rtt.add(least, at_ns, window=(least, p95))
            elif p50 <= rtt.usual or p95 - least <= PLATEAU * (least - rtt.usual):
                rtt.add(p50, at_ns, window=(least, p95))  # a queue only adds delay, of every length
            elif share <= QUEUED_SHARE and rtt.is_away(least):
                rtt.add(least, at_ns, window=(least, least))  # a queue does not last for the whole window
            if pdv is not None and not loaded:
                jitter.collect(pdv, at_ns)
        if not loaded or lost == sent:
            loss.add(lost, sent, at_ns)
        if rtt.worse or rtt.better or loss.worse or loss.better or jitter.worse or jitter.better:
            for one in series:
                if one.worse or one.better:
                    self.hot[_link_unit(one.figure, src, peer)] = None

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
            if len(known) >= MOST_KEYS:
                return None
            series = known[figure.name, what] = Level(figure)
        return series

    def of_unit(self, unit: Unit) -> list[Series]:
        """Return the series of a unit: of a pair one for each direction that is measured. They are looked up: a list of
        them for each unit took a third of the table's memory."""
        name, one, other = unit
        if (number := _OF_LINK.get(name)) is not None:
            found = (self._links.get(pair) for pair in ((one, other), (other, one)))
            return [series[number] for series in found if series is not None]
        known = self._of_nodes.get(one, {}).get((name, other))
        return [] if known is None else [known]

    def _heat(self, node: str, figure: Figure, what: str, series: Level) -> None:
        if series.worse or series.better:
            self.hot[figure.name, node, what] = None

    # ------------------------------------------------------------ nodes that come and go

    def away(self, node: str) -> None:
        """The node left or is lost, which is reported elsewhere: until it is heard again, what its peers measure is no
        change of their links."""
        self._away.add(node)
        peers = self._active.pop(node, {})
        for peer in peers:
            self._active[peer].pop(node, None)
            for pair in ((node, peer), (peer, node)):
                for one in self._links.get(pair, ()):
                    one.drop_evidence()
                    if one.reference is not None:
                        one.restart()
        for series in self._of_nodes.get(node, {}).values():
            series.drop_evidence()
            series.settle()

    def forget(self, node: str) -> None:
        self.away(node)
        self._away.discard(node)
        for pair in [pair for pair in self._links if node in pair]:
            del self._links[pair]
            self._loaded_ns.pop(pair, None)
        for unit in [unit for unit in self.hot if node in unit[1:]]:
            del self.hot[unit]
        self._of_nodes.pop(node, None)
        for known in self._of_nodes.values():
            known.pop((UPLINK.name, node), None)
        self._transfer_ns.pop(node, None)
        self._reported_ns.pop(node, None)
        self._throttles = {key: one for key, one in self._throttles.items() if key[0] != node}

    def ignore_evidence(self, node: str) -> None:
        """The node may be about to be lost: do not take what its links report now for changes."""
        for peer in self._active.get(node, {}):
            for pair in ((node, peer), (peer, node)):
                for one in self._links.get(pair, ()):
                    one.drop_evidence()

    @property
    def measured(self) -> tuple[str, ...]:
        """Return the nodes that have links."""
        return tuple(self._active)

    # ------------------------------------------------------------ who measures whom

    def peers(self, node: str, now_ns: int) -> int:
        return sum(at_ns >= now_ns - ACTIVE_NS for at_ns in self._active.get(node, {}).values())

    def size(self, now_ns: int) -> tuple[int, int]:
        """Return (nodes, pairs) that are measured now."""
        counts = [count for node in self._active if (count := self.peers(node, now_ns))]
        return len(counts), sum(counts) // 2

    def of_pairs(self, who: Subject, now_ns: int) -> int:
        if who.peer is not None:
            return 1
        return self.size(now_ns)[1] if who.node is None else self.peers(who.node, now_ns)

    def is_clear(self, who: Subject, pools: list[Pool]) -> bool:
        """Return whether half of the node's peers have reported since its change began, without a change of their
        own."""
        if who.node is None or who.peer is not None:
            return True
        since_ns = min(pool.since_ns for pool in pools)
        peers = self._active.get(who.node, {})
        return 2 * sum(self._reported_ns.get(peer, 0) >= since_ns for peer in peers) >= len(peers)

    def all_in(self, who: Subject, units: tuple[Unit, ...], now_ns: int) -> bool:
        """Return whether all pairs that could join have reported."""
        if who.peer is None:
            return len(units) >= self.of_pairs(who, now_ns)
        return self.peers(who.node or "", now_ns) <= 1 and self.peers(who.peer, now_ns) <= 1


def _link_unit(figure: Figure, src: str, dst: str) -> Unit:
    return (figure.name, src, dst) if src < dst else (figure.name, dst, src)
