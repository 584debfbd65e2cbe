"""Detect changes of nodes and links: a change-point test for each series, one event for each subject. Pure.

`add` takes each committed sample, `advance` returns what has changed up to a moment. Times are those of the samples, so
a recording gives the same changes as the live swarm.

False alarms: a series changes when 8 decades of evidence come in a row, which has a probability of 10⁻⁸ under a steady
level with heavy tails. A watched link gives 75,000 windows a week, a node of 32 links 5 million: 0.05 false alarms per
node and week, against a goal of one. `python -m bench changes` measures it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from swarm_collector.changes.change_thresholds import LAYER, OF_LINKS, UPLINK, VISIT, Figure
from swarm_collector.changes.detected_change import Found, Kind, Move
from swarm_collector.changes.series.series_table import MAX_LINKS, Pool, Series, SeriesTable, Unit
from swarm_collector.changes.subjects import HINT, NODE_SHARE, SWARM, Subject, subjects
from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import Sample
from swarm_protocol.units import NS_PER_S

Category = Literal["worse", "better", "return"]

HOLD_NS: Final = 3 * NS_PER_S  # how long to wait for other pairs, to tell a node's change from a link's
LONG_HOLD_NS: Final = 8 * NS_PER_S  # where other pairs change too: by then every node has reported its next window
ABSORB_NS: Final = 60 * NS_PER_S  # a change of the same subject within this time is the same change, reported already
USUAL_AFTER_NS: Final = 3600 * NS_PER_S  # after an hour it is no longer "worse than in the last hour"


@dataclass(slots=True)
class _Change:
    """A change that was reported and has not ended."""

    subject: Subject
    kind: Kind
    figure: Figure  # the change ends when this figure returns
    units: set[Unit]
    opened_ns: int
    ended_ns: int = 0  # end reported; the remaining units may still follow


_OPENS: Final[tuple[tuple[Category, Kind], ...]] = (("worse", "degraded"), ("better", "improved"))
_LINK_NAMES: Final = frozenset(figure.name for figure in OF_LINKS)


class ChangeDetector:
    def __init__(self, most_links: int = MAX_LINKS) -> None:
        self._table = SeriesTable(most_links)
        self._changes: list[_Change] = []
        self._waiting: dict[tuple[str, Category, Subject], int] = {}  # since when there is enough evidence

    def add(self, node: str, sample: Sample) -> None:
        self._table.add(node, sample)

    def add_windows(self, node: str, links: LinkColumns, since_ns: int = 0) -> None:
        self._table.add_windows(node, links, since_ns)

    def away(self, node: str) -> None:
        """The node left or is lost, which is reported elsewhere; its changes end with that."""
        self._table.away(node)
        for change in self._changes:
            change.units = {unit for unit in change.units if node not in unit[1:]}
        self._changes = [change for change in self._changes if change.units]

    def ignore_evidence(self, node: str) -> None:
        """The node may be about to be lost: do not take what its links report now for changes."""
        self._table.ignore_evidence(node)

    def forget(self, node: str) -> None:
        self.away(node)
        self._table.forget(node)

    @property
    def measured(self) -> tuple[str, ...]:
        """Return the nodes that have links."""
        return self._table.measured

    @property
    def quiet(self) -> bool:
        """Return whether there is no evidence of a change and no open change."""
        self._table.settle()
        return not self._table.hot and not self._changes

    # ------------------------------------------------------------ what has changed

    def advance(self, now_ns: int) -> list[Found]:
        self._table.settle()
        found, self._table.throttled = self._table.throttled, []
        pools = self._pools()
        if self._changes:
            found += self._ends(now_ns, pools["return"])
            self._absorb(now_ns, pools)
            found += self._left_over(now_ns)
        for category, kind in _OPENS:
            found += self._opened(now_ns, category, kind, pools[category])
        return found

    def _pools(self) -> dict[Category, dict[Unit, Pool]]:
        pools: dict[Category, dict[Unit, Pool]] = {"worse": {}, "better": {}, "return": {}}
        for unit in list(self._table.hot):
            warm = False
            for one in self._table.of_unit(unit):
                if not (one.worse or one.better):
                    continue
                warm = True
                category: Category = "return" if one.returning else "worse" if one.worse >= one.better else "better"
                pools[category].setdefault(unit, Pool()).take(one)
            if not warm:
                del self._table.hot[unit]
        return pools

    def _opened(self, now_ns: int, category: Category, kind: Kind, pools: dict[Unit, Pool]) -> list[Found]:
        candidates: list[tuple[Subject, Figure, tuple[Unit, ...]]] = []
        for figure in OF_LINKS:
            ready = {unit[1:]: pool.decades for unit, pool in pools.items() if unit[0] == figure.name}
            if not any(decades >= HINT * figure.alarm_decades for decades in ready.values()):
                continue
            peers = self._table.peers(now_ns)
            links = sum(peers.values()) // 2
            of = subjects(ready, figure.alarm_decades, peers, links, len(peers))
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
            spread = others or who == SWARM or not self._table.is_clear(who, [pools[unit] for unit in units])
            all_in = not figure.of_link or (not spread and self._table.all_in(who, units, now_ns))
            if all_in or now_ns >= since_ns + (LONG_HOLD_NS if spread else HOLD_NS):
                due[who].append((figure, units))
        self._waiting = {key: ns for key, ns in self._waiting.items() if key[1] != category} | waiting
        return [self._open(now_ns, kind, who, figures, pools) for who, figures in due.items()]

    def _since(self, key: tuple[str, Category, Subject], now_ns: int) -> int:
        """Return since when there is enough evidence. Evidence of a link counts for its node without a new wait."""
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
        pools: dict[Unit, Pool],
    ) -> Found:  # fmt: skip
        main, units = figures[0]
        chosen = [unit for _, of in figures for unit in of]
        reported = {figure for figure, _ in figures}
        for figure in OF_LINKS if main.of_link else ():  # a figure with half of the evidence belongs to the same change
            related = [u for unit in units if (u := (figure.name, *unit[1:])) in pools and figure not in reported]
            if sum(pools[unit].decades for unit in related) >= figure.alarm_decades / 2:
                chosen += related
                reported.add(figure)
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
        return Found(now_ns, kind, who, tuple(moves), pairs, self._table.of_pairs(who, now_ns) if pairs else 0)

    def _absorb(self, now_ns: int, pools: dict[Category, dict[Unit, Pool]]) -> None:
        """Assign to a reported change what belongs to it: the other direction of its pairs, pairs of its node, and
        other figures of the same subject that follow within a minute."""
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

    def _ends(self, now_ns: int, returning: dict[Unit, Pool]) -> list[Found]:
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
                of_pairs = max(pairs, self._table.of_pairs(change.subject, now_ns)) if pairs else 0
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
                levels = [one for unit in main for one in self._table.of_unit(unit) if one.reference is not None]
                now = _median(one.usual for one in levels)
                before = _median(one.reference or 0.0 for one in levels)
                for unit in change.units:
                    for one in self._table.of_unit(unit):
                        one.settle()
                pairs = len({unit[1:] for unit in main}) if change.figure.of_link else 0
                of_pairs = max(pairs, self._table.of_pairs(change.subject, now_ns)) if pairs else 0
                usual = (Move(change.figure, before, now),)
                if change.kind == "degraded":
                    found.append(Found(now_ns, "settled", change.subject, usual, pairs, of_pairs, usual=True))
        return found

    def _returned(self, change: _Change, returning: dict[Unit, Pool]) -> None:
        for unit in change.units:
            if (pool := returning.get(unit)) is not None:
                for one in pool.series:
                    if one.evidence >= HINT * one.figure.alarm_decades:
                        one.confirm()

    def _left_over(self, now_ns: int) -> list[Found]:
        """Return units that stayed changed a minute after the rest recovered: each is a change of its own."""
        found: list[Found] = []
        for change in [c for c in self._changes if c.ended_ns and now_ns >= c.ended_ns + ABSORB_NS]:
            self._changes.remove(change)
            for unit in change.units:
                levels = [one for one in self._table.of_unit(unit) if one.reference is not None]
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
        return any(one.reference is not None for one in self._table.of_unit(unit))


def _is_worth(series: Series) -> bool:
    """Return whether the level is still a minimum effect away from the previous one."""
    if series.reference is None:
        return False
    low, high = sorted((series.usual, series.reference))
    return high - low >= series.figure.least_step and high >= series.figure.least_ratio * low


def _is_sound(figure: Figure, pools: list[Pool]) -> bool:
    """Return whether there is more than one sample, from more than one moment or from a whole window."""
    span_ns = max(pool.until_ns for pool in pools) - min(pool.since_ns for pool in pools)
    return sum(pool.samples for pool in pools) >= 2 and (
        any(pool.whole for pool in pools) or span_ns >= figure.least_span_s * NS_PER_S
    )


def _move(figure: Figure, pools: list[Pool], *, returning: bool = False) -> Move:
    series = [one for pool in pools for one in pool.series]
    before = _median(one.usual if returning or one.reference is None else one.reference for one in series)
    return Move(figure, before, _median(one.now for one in series))


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        return float("nan")
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
