"""Assemble one metric's history: raw samples and rollups, put into the equal slots of a chart.

A slot that holds raw samples only shows their exact median; one that rollups reach shows the median of the merged
sketches. A rollup row is wider than a narrow slot and then counts in each slot it covers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from swarm_protocol.snapshot.metrics import METRICS
from swarm_storage.errors import Corrupt
from swarm_storage.history import sketch
from swarm_storage.history.rollup import HOUR, MINUTE, ROLLED, Rolled, Unit, counts_of

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
_LOSS: Final = ("lost", "sent")


class RolledRow(NamedTuple):
    t: int
    width_ns: int
    first: Any  # the median; of loss what was lost
    second: Any  # its sketch; of loss what was sent


class Slots:
    def __init__(self, since_ns: int, width_ns: int, points: int, *, of_loss: bool) -> None:
        self.until_ns = since_ns + width_ns * points
        self.centres = tuple(since_ns + width_ns * i + width_ns // 2 for i in range(points))
        self._since_ns = since_ns
        self._width_ns = width_ns
        self._points = points
        self._of_loss = of_loss
        self._raw: dict[int, list[float]] = {}
        self._counts: dict[int, sketch.Counts] = {}
        self._loss: dict[int, list[float]] = {}  # lost, sent

    def add_raw(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add (time, value), or (time, lost, sent)."""
        if not rows:
            return
        table = np.array([row[1:] for row in rows], np.float64)
        slots = np.array([(row[0] - self._since_ns) // self._width_ns for row in rows], np.int64)
        for slot in np.unique(slots).tolist():
            inside = table[slots == slot]
            if self._of_loss:
                self._add_loss(slot, float(inside[:, 0].sum()), float(inside[:, 1].sum()))
            else:
                self._raw[slot] = inside[:, 0].tolist()

    def add_rolled(self, row: RolledRow, store: str) -> None:
        """Add a rollup row. Raises Corrupt."""
        first = max(0, (row.t - self._since_ns) // self._width_ns)
        last = max(first, (row.t + row.width_ns - 1 - self._since_ns) // self._width_ns)
        if row.width_ns <= self._width_ns:
            last = first
        for slot in range(first, min(last, self._points - 1) + 1):
            if self._of_loss:
                self._add_loss(slot, row.first, row.second)
                continue
            try:
                sketch.add(self._counts.setdefault(slot, {}), counts_of(row.first, row.second))
            except ValueError as error:
                raise Corrupt(f"{store} has a rollup that cannot be read ({error}); it is damaged") from error

    def values(self) -> tuple[float | None, ...]:
        return tuple(map(self._value, range(self._points)))

    def _value(self, slot: int) -> float | None:
        if self._of_loss:
            lost, sent = self._loss.get(slot, (0.0, 0.0))
            return lost / sent if sent else None
        raw, counts = self._raw.get(slot), self._counts.get(slot)
        if not counts:
            return float(np.median(raw)) if raw else None
        sketch.add(counts, sketch.counted(raw or ()))
        return sketch.quantile(counts, 0.5)

    def _add_loss(self, slot: int, lost: float, sent: float) -> None:
        known = self._loss.setdefault(slot, [0.0, 0.0])
        known[0] += lost
        known[1] += sent


def rows(
    query: Query, metric: str, node: int, peer: int | None, since_ns: int, until_ns: int, width_ns: int
) -> list[RolledRow]:
    """Return rollups of [since, until): hours if there are no minutes any more, or where the slots are as wide."""
    about = METRICS[metric]
    rolled = ROLLED.get(about.kind)
    if rolled is None:  # layer times: few, and the newest is never removed
        return []
    if metric != "loss" and about.field not in rolled.figures:
        return []  # only the raw samples have it
    found: list[RolledRow] = []
    split_ns = _hours_until_ns(query, rolled, until_ns, width_ns)
    parts = ((HOUR, since_ns, min(split_ns, until_ns)), (MINUTE, max(since_ns, split_ns), until_ns))
    for unit, first_ns, last_ns in parts:
        if first_ns < last_ns:
            found += _of_unit(query, rolled, unit, metric, node, peer, first_ns, last_ns)
    return found


def _hours_until_ns(query: Query, rolled: Rolled, until_ns: int, width_ns: int) -> int:
    ((piece,),) = query(f"SELECT min(piece) FROM {rolled.table(MINUTE)}", ())
    minutes_ns = until_ns if piece is None else int(piece) * MINUTE.piece_ns
    if width_ns < HOUR.width_ns:
        return minutes_ns
    ((hour,),) = query("SELECT min(number) FROM pending WHERE unit = 'hour'", ())
    last_whole_ns = until_ns // HOUR.width_ns * HOUR.width_ns
    return max(minutes_ns, last_whole_ns if hour is None else min(last_whole_ns, int(hour) * HOUR.width_ns))


def _of_unit(
    query: Query, rolled: Rolled, unit: Unit, metric: str, node: int, peer: int | None, first_ns: int, last_ns: int
) -> list[RolledRow]:
    field = METRICS[metric].field
    first, second = _LOSS if metric == "loss" else (field, f"{field}_sketch")
    of_peer, arguments = ("", ()) if peer is None else (" AND dst = ?", (peer,))
    found = []
    # one seek for each piece of time
    for piece in range(first_ns // unit.piece_ns, (last_ns - 1) // unit.piece_ns + 1):
        found += query(
            f"SELECT t, {first}, {second} FROM {rolled.table(unit)} WHERE piece = ? AND {rolled.nodes[0]} = ?{of_peer}"
            " AND t >= ? AND t < ?",
            (piece, node, *arguments, first_ns - unit.width_ns + 1, last_ns),
        )
    return [RolledRow(t, unit.width_ns, one, other) for t, one, other in found]
