"""Finds changes of nodes and links in samples: a change-point test per series, and one event per subject. Pure.

`add` takes each committed sample, `advance` tells what has changed by a moment. Times are those of the samples, so a
recording gives the changes that the live swarm gave.

False alarms: a series changes when 8 decades of evidence come in a row, that is when what was seen has a probability of
10⁻⁸ under a steady level with heavy tails. A watched link gives 75,000 windows a week, a node of 32 links 5 million:
0.05 false alarms per node and week, against a goal of one. `python -m bench changes` measures it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from swarm_collector.changes.figures import (
    JITTER,
    LAYER,
    OF_LINKS,
    RTT,
    UPLINK,
    VISIT,
    Figure,
)
from swarm_collector.changes.found import Found, Kind, Move
from swarm_collector.changes.level import PLATEAU, BatchedLevel, Level
from swarm_collector.changes.loss import LossLevel
from swarm_collector.changes.subjects import HINT, NODE_SHARE, SWARM, Pair, Subject, subjects
from swarm_collector.changes.throttle import Throttle
from swarm_protocol.messages.samples import ComputeSample, HostSample, LinkSample, Sample, UplinkSample
from swarm_protocol.units import NS_PER_S

Category = Literal["worse", "better", "return"]
Unit = tuple[str, str, str]  # figure, and the two ends in order; of a node's figure: figure, node, what was measured

HOLD_NS: Final = 3 * NS_PER_S  # so long other pairs may join before it is told whose change it is
LONG_HOLD_NS: Final = 8 * NS_PER_S  # where others change too: every node's next window is in
ABSORB_NS: Final = 60 * NS_PER_S  # a change of the same subject so soon after is the same change, told already
USUAL_AFTER_NS: Final = 3600 * NS_PER_S  # "clearly worse than its own last hour" has an end
ACTIVE_NS: Final = 180 * NS_PER_S  # a pair measured in the last so long counts as one of its node's
MOST_LINKS: Final = 40_000  # directed; some 50 MB
MOST_KEYS: Final = 64  # layer times that are followed for one node
TRUSTED_SHARE: Final = 0.15  # of a window: a transfer so short leaves its median alone

Series = Level | LossLevel


@dataclass(slots=True)
class _Change:
    """One that was told and has not ended."""

    subject: Subject
    kind: Kind
    figure: Figure  # whose return ends it
    units: set[Unit]
    opened_ns: int
    ended_ns: int = 0  # told; the rest of its units may still follow


@dataclass(slots=True)
class _Pool:
    """The evidence of one unit: of both directions of a pair."""

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


class ChangeDetector:
    def __init__(self, most_links: int = MOST_LINKS) -> None:
        self._most_links = most_links
        self._links: dict[Pair, tuple[Level, LossLevel, BatchedLevel]] = {}  # directed
        self._of_nodes: dict[str, dict[tuple[str, str], Level]] = {}  # node → (figure, what) → series
        self._throttles: dict[tuple[str, str], Throttle] = {}
        self._units: defaultdict[Unit, list[Series]] = defaultdict(list)
        self._hot: dict[Unit, None] = {}
        self._active: dict[str, dict[str, int]] = defaultdict(dict)  # node → peer → when last measured
        self._transfer_ns: dict[str, int] = {}  # the longest of late, of each node
        self._changes: list[_Change] = []
        self._waiting: dict[tuple[str, Category, Subject], int] = {}  # since when there is enough evidence
        self._told: list[Found] = []
        self._away: set[str] = set()
        self._reported_ns: dict[str, int] = {}  # node → its newest window

    # ------------------------------------------------------------ samples

    def add(self, node: str, sample: Sample) -> None:
        self._away.discard(node)
        if isinstance(sample, LinkSample):
            self._add_link(node, sample)
        elif isinstance(sample, UplinkSample):
            self._add_uplink(node, sample)
        elif isinstance(sample, ComputeSample):
            self._add_compute(node, sample)
        elif isinstance(sample, HostSample) and sample.throttled is not None:
            self._add_throttle(node, sample)

    def _add_link(self, src: str, sample: LinkSample) -> None:
        if sample.sent == 0 or sample.path not in ("direct", "punched") or sample.peer in self._away:
            return
        series = self._links.get((src, sample.peer))
        if series is None:
            if len(self._links) >= self._most_links:
                return
            series = self._links[src, sample.peer] = (Level(RTT), LossLevel(), BatchedLevel(JITTER))
            for one in series:
                self._units[_link_unit(one.figure, src, sample.peer)].append(one)
        rtt, loss, jitter = series
        before_ns = rtt.at_ns or loss.at_ns
        at_ns = sample.at_ns
        self._reported_ns[src] = at_ns
        self._active[src][sample.peer] = self._active[sample.peer][src] = at_ns
        if sample.rtt_p50_ms is not None and sample.rtt_min_ms is not None:
            p50, least = sample.rtt_p50_ms, sample.rtt_min_ms
            p95 = sample.rtt_p95_ms if sample.rtt_p95_ms is not None else p50
            if not sample.loaded or self._brief(src, sample.peer, at_ns - before_ns):
                rtt.add(p50, at_ns, window=(least, p95))
            elif not rtt.known:
                rtt.add(least, at_ns, window=(least, p95))
            elif p50 <= rtt.usual or p95 - least <= PLATEAU * (least - rtt.usual):
                rtt.add(p50, at_ns, window=(least, p95))  # a queue only adds, and delay of every length
            if sample.pdv_ms is not None and not sample.loaded:
                jitter.collect(sample.pdv_ms, at_ns)
        if not sample.loaded or sample.lost == sample.sent:
            loss.add(sample.lost, sample.sent, at_ns)
        for one in series:
            if one.worse or one.better:
                self._hot[_link_unit(one.figure, src, sample.peer)] = None

    def _brief(self, src: str, dst: str, window_ns: int) -> bool:
        """A transfer of either end takes too small a part of a window to move its median."""
        longest_ns = max(self._transfer_ns.get(src, window_ns), self._transfer_ns.get(dst, window_ns))
        return longest_ns <= TRUSTED_SHARE * window_ns

    def _add_uplink(self, src: str, sample: UplinkSample) -> None:
        took_ns = round(sample.seconds * NS_PER_S)
        for end in (src, sample.peer):  # slowly forgotten
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
        if sample.phase in ("head", "embed"):  # microseconds on a processor: their noise is the timer's
            return
        figure = VISIT if sample.phase == "visit" else LAYER
        what = f"{sample.device} {sample.model} {sample.dtype} {sample.phase} {sample.batch} {sample.context}"
        series = self._of_node(node, figure, what)
        if series is not None:
            series.add(sample.ms_per_layer, sample.at_ns)
            self._heat(node, figure, what, series)

    def _add_throttle(self, node: str, sample: HostSample) -> None:
        gpu = sample.gpu or ""
        throttle = self._throttles.setdefault((node, gpu), Throttle())
        for detail, kind, lasted_ns in throttle.add(sample):
            self._told.append(Found(sample.at_ns, kind, Subject(node), (), lasted_ns=lasted_ns, detail=detail))

    def _of_node(self, node: str, figure: Figure, what: str) -> Level | None:
        known = self._of_nodes.setdefault(node, {})
        series = known.get((figure.name, what))
        if series is None:
            if len(known) >= MOST_KEYS:
                return None
            series = known[figure.name, what] = Level(figure)
            self._units[figure.name, node, what].append(series)
        return series

    def _heat(self, node: str, figure: Figure, what: str, series: Level) -> None:
        if series.worse or series.better:
            self._hot[figure.name, node, what] = None

    # ------------------------------------------------------------ nodes that come and go

    def away(self, node: str) -> None:
        """It has left or is lost, which is told elsewhere: until it is heard again, what its peers measure is no change
        of their links."""
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
        for change in self._changes:
            change.units = {unit for unit in change.units if node not in unit[1:]}
        self._changes = [change for change in self._changes if change.units]

    def forget(self, node: str) -> None:
        self.away(node)
        self._away.discard(node)
        for pair in [pair for pair in self._links if node in pair]:
            del self._links[pair]
        for unit in [unit for unit in self._units if node in unit[1:]]:
            del self._units[unit]
            self._hot.pop(unit, None)
        self._of_nodes.pop(node, None)
        self._transfer_ns.pop(node, None)
        self._reported_ns.pop(node, None)
        self._throttles = {key: one for key, one in self._throttles.items() if key[0] != node}

    def ignore_evidence(self, node: str) -> None:
        """It may be about to be lost: what its links say now is not taken for a change of theirs."""
        for peer in self._active.get(node, {}):
            for pair in ((node, peer), (peer, node)):
                for one in self._links.get(pair, ()):
                    one.drop_evidence()

    @property
    def measured(self) -> tuple[str, ...]:
        """Nodes with links."""
        return tuple(self._active)

    @property
    def quiet(self) -> bool:
        """Nothing is under way: no evidence, no open change."""
        return not self._hot and not self._changes

    # ------------------------------------------------------------ what has changed

    def advance(self, now_ns: int) -> list[Found]:
        found, self._told = self._told, []
        pools = self._pools()
        if self._changes:
            found += self._ends(now_ns, pools["return"])
            self._absorb(now_ns, pools)
            found += self._left_over(now_ns)
        for category, kind in _OPENS:
            found += self._opened(now_ns, category, kind, pools[category])
        return found

    def _pools(self) -> dict[Category, dict[Unit, _Pool]]:
        pools: dict[Category, dict[Unit, _Pool]] = {"worse": {}, "better": {}, "return": {}}
        for unit in list(self._hot):
            warm = False
            for one in self._units.get(unit, ()):
                if not (one.worse or one.better):
                    continue
                warm = True
                category: Category = "return" if one.returning else "worse" if one.worse >= one.better else "better"
                pools[category].setdefault(unit, _Pool()).take(one)
            if not warm:
                del self._hot[unit]
        return pools

    def _opened(self, now_ns: int, category: Category, kind: Kind, pools: dict[Unit, _Pool]) -> list[Found]:
        candidates: list[tuple[Subject, Figure, tuple[Unit, ...]]] = []
        for figure in OF_LINKS:
            ready = {unit[1:]: pool.decades for unit, pool in pools.items() if unit[0] == figure.name}
            nodes, links = self._size(now_ns) if ready else (0, 0)
            of = subjects(ready, figure.alarm_decades, lambda node: self._peers(node, now_ns), links, nodes)
            candidates += [(who, figure, tuple((figure.name, *pair) for pair in pairs)) for who, pairs in of]
        for figure in (UPLINK, LAYER, VISIT):
            of_node: dict[str, list[Unit]] = defaultdict(list)
            for unit in pools:
                if unit[0] == figure.name:
                    of_node[unit[1]].append(unit)
            candidates += [
                (Subject(node), figure, tuple(units))
                for node, units in of_node.items()
                if sum(pools[unit].decades for unit in units) >= figure.alarm_decades
            ]
        waiting: dict[tuple[str, Category, Subject], int] = {}
        due: dict[Subject, list[tuple[Figure, tuple[Unit, ...]]]] = defaultdict(list)
        for who, figure, units in candidates:
            if not _is_sound(figure, [pools[unit] for unit in units]):
                continue
            key = (figure.name, category, who)
            since_ns = waiting[key] = self._since(key, now_ns)
            others = figure.of_link and any(
                unit[0] == figure.name and unit not in units and pool.decades >= HINT * figure.alarm_decades
                for unit, pool in pools.items()
            )
            spread = others or who == SWARM or not self._is_clear(who, [pools[unit] for unit in units])
            all_in = not figure.of_link or (not spread and self._all_in(who, units, now_ns))
            if all_in or now_ns >= since_ns + (LONG_HOLD_NS if spread else HOLD_NS):
                due[who].append((figure, units))
        self._waiting = {key: ns for key, ns in self._waiting.items() if key[1] != category} | waiting
        return [self._open(now_ns, kind, who, figures, pools) for who, figures in due.items()]

    def _since(self, key: tuple[str, Category, Subject], now_ns: int) -> int:
        """Since when there is enough evidence: a link's turns into its node's without waiting again."""
        name, category, who = key
        known = [
            ns
            for (other, of, subject), ns in self._waiting.items()
            if (other, of) == (name, category)
            and (subject == who or who == SWARM or who.node in (subject.node, subject.peer))
        ]
        return min(known, default=now_ns)

    def _open(
        self, now_ns: int, kind: Kind, who: Subject, figures: list[tuple[Figure, tuple[Unit, ...]]],
        pools: dict[Unit, _Pool],
    ) -> Found:  # fmt: skip
        main, units = figures[0]
        chosen = [unit for _, of in figures for unit in of]
        told = {figure for figure, _ in figures}
        for figure in OF_LINKS if main.of_link else ():  # what has half of the evidence beside it belongs to it
            beside = [u for unit in units if (u := (figure.name, *unit[1:])) in pools and figure not in told]
            if sum(pools[unit].decades for unit in beside) >= figure.alarm_decades / 2:
                chosen += beside
                told.add(figure)
        moves = []
        for figure in (*OF_LINKS, UPLINK, LAYER, VISIT):
            of = [pools[unit] for unit in chosen if unit[0] == figure.name]
            if of:
                moves.append(_move(figure, of))
        for unit in chosen:
            for one in pools[unit].series:
                one.confirm()
        known = next(
            (
                c
                for c in self._changes
                if (c.subject, c.kind) == (who, kind)
                and not c.ended_ns
                and (c.figure == main or (c.figure.of_link and main.of_link))
            ),
            None,
        )
        if known is not None:
            known.units |= set(chosen)
        else:
            self._changes.append(_Change(who, kind, main, set(chosen), now_ns))
        pairs = len({unit[1:] for unit in units}) if main.of_link else 0
        return Found(now_ns, kind, who, tuple(moves), pairs, self._of_pairs(who, now_ns) if pairs else 0)

    def _absorb(self, now_ns: int, pools: dict[Category, dict[Unit, _Pool]]) -> None:
        """What belongs to a change that was told: the other direction of its pairs, pairs of its node, and other
        figures of the same subject that follow within a minute."""
        for category, kind in _OPENS:
            for unit, pool in list(pools[category].items()):
                fresh = [one for one in pool.series if one.reference is None]
                change = next(
                    (
                        change
                        for change in self._changes
                        if change.kind == kind and not change.ended_ns and self._belongs(unit, change, now_ns)
                    ),
                    None,
                )
                if change is None or not fresh:
                    continue
                for one in fresh:
                    if one.evidence >= HINT * one.figure.alarm_decades:
                        one.confirm()
                        change.units.add(unit)
                del pools[category][unit]

    def _belongs(self, unit: Unit, change: _Change, now_ns: int) -> bool:
        if unit in change.units:
            return True
        if now_ns >= change.opened_ns + ABSORB_NS:
            return False
        if unit[0] in _LINK_NAMES:
            return change.figure.of_link and (
                change.subject in (SWARM, Subject(*unit[1:]))
                or (change.subject.peer is None and change.subject.node in unit[1:])
            )
        return change.subject == Subject(unit[1])

    # ------------------------------------------------------------ how changes end

    def _ends(self, now_ns: int, returning: dict[Unit, _Pool]) -> list[Found]:
        found = []
        for change in self._changes:
            if change.ended_ns:
                self._returned(change, returning)
                continue
            main = [unit for unit in change.units if unit[0] == change.figure.name]
            back = {unit: returning[unit] for unit in main if unit in returning}
            gone = [unit for unit in main if unit not in back and not self._is_changed(unit)]
            enough = sum(pool.decades for pool in back.values()) >= change.figure.alarm_decades
            most = len(back) + len(gone) >= NODE_SHARE * len(main)
            if back and most and enough and _is_sound(change.figure, list(back.values())):
                key = (change.figure.name, "return", change.subject)
                since_ns = self._waiting.setdefault(key, now_ns)  # type: ignore[arg-type]
                if now_ns < since_ns + HOLD_NS and len(back) + len(gone) < len(main):
                    continue
                del self._waiting[key]  # type: ignore[arg-type]
                move = _move(change.figure, list(back.values()), returning=True)
                self._returned(change, returning)
                change.ended_ns = now_ns
                kind: Kind = "recovered" if change.kind == "degraded" else "settled"
                pairs = len({unit[1:] for unit in main}) if change.figure.of_link else 0
                of_pairs = max(pairs, self._of_pairs(change.subject, now_ns)) if pairs else 0
                lasted_ns = now_ns - change.opened_ns
                found.append(
                    Found(
                        now_ns,
                        kind,
                        change.subject,
                        (move,),
                        len(back) + len(gone) if pairs else 0,
                        of_pairs,
                        lasted_ns,
                    )
                )
            elif now_ns >= change.opened_ns + USUAL_AFTER_NS:
                change.ended_ns = now_ns
                levels = [one for unit in main for one in self._units[unit] if one.reference is not None]
                now = _median(one.usual for one in levels)
                before = _median(one.reference or 0.0 for one in levels)
                for unit in change.units:
                    for one in self._units[unit]:
                        one.settle()
                pairs = len({unit[1:] for unit in main}) if change.figure.of_link else 0
                of_pairs = max(pairs, self._of_pairs(change.subject, now_ns)) if pairs else 0
                usual = (Move(change.figure, before, now),)
                if change.kind == "degraded":
                    found.append(Found(now_ns, "settled", change.subject, usual, pairs, of_pairs, usual=True))
        return found

    def _returned(self, change: _Change, returning: dict[Unit, _Pool]) -> None:
        for unit in change.units:
            if (pool := returning.get(unit)) is not None:
                for one in pool.series:
                    if one.evidence >= HINT * one.figure.alarm_decades:
                        one.confirm()

    def _left_over(self, now_ns: int) -> list[Found]:
        """Units that stayed as they are a minute after the rest went back: each is a change of its own."""
        found: list[Found] = []
        for change in [c for c in self._changes if c.ended_ns and now_ns >= c.ended_ns + ABSORB_NS]:
            self._changes.remove(change)
            for unit in change.units:
                levels = [one for one in self._units[unit] if one.reference is not None]
                if not levels or change.kind != "degraded" or not any(map(_is_worth, levels)):
                    for one in levels:
                        one.settle()
                    continue
                figure = levels[0].figure
                who = Subject(*unit[1:]) if figure.of_link else Subject(unit[1])
                known = next(
                    (c for c in self._changes if c.subject == who and c.kind == "degraded" and not c.ended_ns), None
                )
                if known is not None:
                    known.units.add(unit)
                    continue
                self._changes.append(_Change(who, "degraded", figure, {unit}, now_ns))
                move = Move(figure, _median(o.reference or 0.0 for o in levels), _median(o.usual for o in levels))
                found.append(Found(now_ns, "degraded", who, (move,), int(figure.of_link), int(figure.of_link)))
        return found

    def _is_changed(self, unit: Unit) -> bool:
        return any(one.reference is not None for one in self._units[unit])

    # ------------------------------------------------------------ who measures whom

    def _peers(self, node: str, now_ns: int) -> int:
        return sum(at_ns >= now_ns - ACTIVE_NS for at_ns in self._active.get(node, {}).values())

    def _size(self, now_ns: int) -> tuple[int, int]:
        """(nodes, pairs) that are measured now."""
        counts = [count for node in self._active if (count := self._peers(node, now_ns))]
        return len(counts), sum(counts) // 2

    def _of_pairs(self, who: Subject, now_ns: int) -> int:
        if who.peer is not None:
            return 1
        return self._size(now_ns)[1] if who.node is None else self._peers(who.node, now_ns)

    def _is_clear(self, who: Subject, pools: list[_Pool]) -> bool:
        """Half of the node's peers have reported since its change began: had theirs changed too, they had said so."""
        if who.node is None or who.peer is not None:
            return True
        since_ns = min(pool.since_ns for pool in pools)
        peers = self._active.get(who.node, {})
        return 2 * sum(self._reported_ns.get(peer, 0) >= since_ns for peer in peers) >= len(peers)

    def _all_in(self, who: Subject, units: tuple[Unit, ...], now_ns: int) -> bool:
        """All pairs that could join have."""
        if who.peer is None:
            return len(units) >= self._of_pairs(who, now_ns)
        return self._peers(who.node or "", now_ns) <= 1 and self._peers(who.peer, now_ns) <= 1


_OPENS: Final[tuple[tuple[Category, Kind], ...]] = (("worse", "degraded"), ("better", "improved"))
_LINK_NAMES: Final = frozenset(figure.name for figure in OF_LINKS)


def _link_unit(figure: Figure, src: str, dst: str) -> Unit:
    return (figure.name, src, dst) if src < dst else (figure.name, dst, src)


def _is_worth(series: Series) -> bool:
    """Its level is still a minimum effect away from the one before."""
    if series.reference is None:
        return False
    low, high = sorted((series.usual, series.reference))
    return high - low >= series.figure.least_step and high >= series.figure.least_ratio * low


def _is_sound(figure: Figure, pools: list[_Pool]) -> bool:
    """More than one sample, over more than one moment or of a whole window."""
    span_ns = max(pool.until_ns for pool in pools) - min(pool.since_ns for pool in pools)
    return sum(pool.samples for pool in pools) >= 2 and (
        any(pool.whole for pool in pools) or span_ns >= figure.least_span_s * NS_PER_S
    )


def _move(figure: Figure, pools: list[_Pool], *, returning: bool = False) -> Move:
    series = [one for pool in pools for one in pool.series]
    before = _median(one.usual if returning or one.reference is None else one.reference for one in series)
    return Move(figure, before, _median(one.now for one in series))


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        return float("nan")
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
