"""Follow the round trip, loss and jitter of every link: in columns while it is quiet, as objects while it is not. Pure.

A link whose windows are evidence of nothing is a row of a few hundred bytes, and takes its windows together with other
links'. With the first window that says more it becomes three objects (`level`, `loss_level`), until evidence and change
are over. Where few windows come at once, objects are the quicker ones; some are kept for that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from swarm_collector.changes.change_thresholds import JITTER, RTT
from swarm_collector.changes.series.level import BatchedLevel, Level
from swarm_collector.changes.series.level_columns import (
    BatchedLevelColumns,
    Columns,
    Floats,
    Ints,
    LevelColumns,
    LossColumns,
    Mask,
)
from swarm_collector.changes.series.loss_level import LossLevel

MAX_AWAKE: Final = 2_000  # links that are objects although they are quiet: 2 MB


class LinkObjects(NamedTuple):
    rtt: Level
    loss: LossLevel
    jitter: BatchedLevel

    @property
    def quiet(self) -> bool:
        return self.rtt.quiet and self.loss.quiet and self.jitter.quiet


class QuietWindows(NamedTuple):
    """Windows, each of another link, in columns; NaN: not measured."""

    at_ns: Ints
    sent: Ints
    lost: Ints
    p50_ms: Floats
    pdv_ms: Floats


class LinkSeries:
    def __init__(self) -> None:
        self._rtt, self._loss, self._jitter = LevelColumns(RTT), LossColumns(), BatchedLevelColumns(JITTER)
        self._state = Columns(awake=(np.bool_, ()), loaded_ns=(np.int64, ()))
        self._awake: dict[int, LinkObjects] = {}
        self._tables = (
            self._rtt.columns, self._loss.columns, self._jitter.columns, self._jitter.levels.columns, self._state,
        )  # fmt: skip

    def reserve(self, rows: int) -> None:
        for columns in self._tables:
            columns.reserve(rows)

    def take(self, rows: Ints, windows: QuietWindows, asked: Mask) -> Mask:
        """Take those of the windows that are `asked` for and evidence of nothing; return which were taken."""
        at_ns = windows.at_ns
        newest = np.maximum(self._rtt.columns["at_ns"][rows], self._loss.columns["at_ns"][rows])
        newest = np.maximum(newest, self._jitter.levels.columns["at_ns"][rows])
        taken = asked & ~self._state["awake"][rows] & (at_ns > newest)
        taken &= self._rtt.is_usual(rows, windows.p50_ms)
        taken &= self._loss.is_usual(rows, windows.lost, windows.sent)
        taken &= self._jitter.is_usual(rows, windows.pdv_ms)
        if not taken.all():
            rows, at_ns = rows[taken], at_ns[taken]
            windows = QuietWindows(*(column[taken] for column in windows))
        self._rtt.add(rows, windows.p50_ms, at_ns)
        self._loss.add(rows, windows.lost, windows.sent, at_ns)
        self._jitter.add(rows, windows.pdv_ms, at_ns)
        return np.asarray(taken)

    # ------------------------------------------------------------ one link

    def wake(self, row: int) -> LinkObjects:
        """Return a link as objects; it stays so until `rest`."""
        link = self._awake.get(row)
        if link is None:
            link = self._awake[row] = LinkObjects(Level(RTT), LossLevel(), BatchedLevel(JITTER))
            self._rtt.load(row, link.rtt)
            self._loss.load(row, link.loss)
            self._jitter.load(row, link.jitter)
            self._state["awake"][row] = True
        return link

    def awake(self, row: int) -> LinkObjects | None:
        """Return a link as objects; None: it has neither evidence nor an open change."""
        return self._awake.get(row)

    def loaded_ns(self, row: int) -> int:
        """Return when a window ended that no series may have taken."""
        return int(self._state["loaded_ns"][row])

    def loaded(self, row: int, at_ns: int) -> None:
        self._state["loaded_ns"][row] = at_ns

    def rest(self, row: int) -> None:
        """Put a link back into its row if it is quiet."""
        link = self._awake[row]
        if link.quiet:
            self._rtt.store(row, link.rtt)
            self._loss.store(row, link.loss)
            self._jitter.store(row, link.jitter)
            self._state["awake"][row] = False
            del self._awake[row]

    def rest_if_many(self) -> None:
        """Put quiet links back if there are many."""
        if len(self._awake) > MAX_AWAKE:
            for row in list(self._awake):
                self.rest(row)

    @property
    def all_awake(self) -> dict[int, LinkObjects]:
        return self._awake

    def forget(self, rows: Ints) -> None:
        for row in rows.tolist():
            self._awake.pop(row, None)
        for columns in self._tables:
            columns.clear(rows)
