"""Keep the state of many quiet series in columns, and take the samples that are evidence of nothing. Pure.

Nearly all windows are: a hundred of them together cost a twentieth of what they cost singly. What they do is what
`Level.add` and `LossLevel.add` do with them; a test compares the two. Every other sample is taken by the series itself,
which is made of its row.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarm_collector.changes.change_thresholds import LOSS, Figure
from swarm_collector.changes.series.level import (
    BASELINE,
    BATCH,
    GATE,
    RARITY_SAMPLES,
    SMALL,
    SPREAD_NS,
    BatchedLevel,
    Level,
    LevelState,
)
from swarm_collector.changes.series.loss_level import MIN_REMEMBERED, REMEMBERED, LossLevel, LossState

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_FIRST_ROWS: Final = 64
_GROW: Final = 1.25  # a large table must not double


class Columns:
    """Arrays of one row each; a new row is zeros, which is what a new series is."""

    def __init__(self, **columns: tuple[type[np.generic], tuple[int, ...]]) -> None:
        self._columns: dict[str, npt.NDArray[Any]] = {
            name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in columns.items()
        }

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        columns = self._columns
        for name, column in columns.items():
            if rows > len(column):
                columns[name] = np.zeros(
                    (max(rows, _FIRST_ROWS, int(len(column) * _GROW)), *column.shape[1:]), column.dtype
                )
                columns[name][: len(column)] = column

    def clear(self, rows: Ints) -> None:
        """Make these rows new."""
        for column in self._columns.values():
            column[rows] = 0

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]


class LevelColumns:
    """Quiet levels of one figure."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.columns = Columns(
            values=(np.float32, (BASELINE,)), count=(np.uint8, ()), median=(np.float64, ()), kept_ns=(np.int64, ()),
            at_ns=(np.int64, ()), counts=(np.float32, (3,)),
        )  # fmt: skip

    def is_usual(self, rows: Ints, values: Floats) -> Mask:
        """Return which of these values are evidence of nothing."""
        x, median = np.log(np.maximum(values, SMALL)), self.columns["median"][rows]
        usual = np.abs(x - median) < self.figure.least_log_ratio * GATE
        usual |= np.abs(np.exp(x) - np.exp(median)) < self.figure.least_step * GATE
        usual |= self.columns["count"][rows] < self.figure.least_baseline
        return np.asarray(usual)

    def add(self, rows: Ints, values: Floats, at_ns: Ints) -> None:
        """Take samples that are evidence of nothing and later than all before, each of another row."""
        columns = self.columns
        columns["at_ns"][rows] = at_ns
        counts = columns["counts"]
        counts[rows, 0] += 1
        many = rows[counts[rows, 0] > RARITY_SAMPLES]
        counts[many] /= 2
        kept = (columns["count"][rows] < BASELINE) | (at_ns >= columns["kept_ns"][rows] + SPREAD_NS)
        if kept.any():
            self._keep(rows[kept], np.log(np.maximum(values[kept], SMALL)), at_ns[kept])

    def _keep(self, rows: Ints, x: Floats, at_ns: Ints) -> None:
        columns = self.columns
        columns["kept_ns"][rows] = at_ns
        values, count = columns["values"][rows], columns["count"][rows].astype(np.int64)
        full = count == BASELINE
        values[full, :-1] = values[full, 1:]
        values[np.arange(len(rows)), np.where(full, BASELINE - 1, count)] = x
        count = np.minimum(count + 1, BASELINE)
        columns["values"][rows], columns["count"][rows] = values, count
        columns["median"][rows] = _middles(values, count)

    def load(self, row: int, level: Level) -> None:
        """Make a new level the one of this row."""
        values, count, median, kept_ns, at_ns, counts = (column[row] for column in self.columns._columns.values())
        level.resume(
            LevelState(
                array("f", values[:count].tobytes()), float(median), int(kept_ns), int(at_ns), tuple(counts.tolist())
            )
        )

    def store(self, row: int, level: Level) -> None:
        """Keep a quiet level in this row."""
        columns, state = self.columns, level.state
        columns["values"][row, : len(state.values)] = state.values
        columns["count"][row], columns["median"][row] = len(state.values), state.median
        columns["kept_ns"][row], columns["at_ns"][row], columns["counts"][row] = (
            state.kept_ns,
            state.at_ns,
            state.counts,
        )


class BatchedLevelColumns:
    """Quiet levels of medians of BATCH samples."""

    def __init__(self, figure: Figure) -> None:
        self.levels = LevelColumns(figure)
        self.columns = Columns(batch=(np.float32, (BATCH,)), collected=(np.uint8, ()))

    def is_usual(self, rows: Ints, values: Floats) -> Mask:
        """Return which of these values are evidence of nothing; NaN: there is none."""
        usual = np.ones(len(rows), bool)
        full = np.flatnonzero((self.columns["collected"][rows] == BATCH - 1) & ~np.isnan(values))
        if len(full):
            usual[full] = self.levels.is_usual(rows[full], self._medians(rows[full], values[full]))
        return usual

    def add(self, rows: Ints, values: Floats, at_ns: Ints) -> None:
        """Take samples that are evidence of nothing; NaN: there is none."""
        some = ~np.isnan(values)
        if not some.all():
            rows, values, at_ns = rows[some], values[some], at_ns[some]
        collected = self.columns["collected"]
        full = collected[rows] == BATCH - 1
        if full.any():
            of = rows[full]
            self.levels.add(of, self._medians(of, values[full]), at_ns[full])
            collected[of] = 0
        rest = rows[~full]
        self.columns["batch"][rest, collected[rest]] = values[~full]
        collected[rest] += 1

    def _medians(self, rows: Ints, values: Floats) -> Floats:
        batch = self.columns["batch"][rows]
        batch[:, -1] = values
        batch.sort(axis=1)
        return np.asarray(batch[:, BATCH // 2].astype(np.float64))

    def load(self, row: int, level: BatchedLevel) -> None:
        self.levels.load(row, level)
        collected = int(self.columns["collected"][row])
        level.collected = array("f", self.columns["batch"][row, :collected].tobytes())

    def store(self, row: int, level: BatchedLevel) -> None:
        self.levels.store(row, level)
        collected = level.collected
        self.columns["batch"][row, : len(collected)] = collected
        self.columns["collected"][row] = len(collected)


class LossColumns:
    """Quiet losses."""

    def __init__(self) -> None:
        self.columns = Columns(
            lost=(np.float64, ()), sent=(np.float64, ()), at_ns=(np.int64, ()), counts=(np.float32, (2,))
        )

    def is_usual(self, rows: Ints, lost: Ints, sent: Ints) -> Mask:
        """Return which of these windows are evidence of nothing."""
        known_lost, known_sent = self.columns["lost"][rows], self.columns["sent"][rows]
        least = np.maximum(0.0, known_lost - 2 * np.sqrt(known_lost)) / np.maximum(1.0, known_sent)
        usual = (lost == 0) & (least <= LOSS.least_step / 100)
        return np.asarray((usual | (known_sent < MIN_REMEMBERED)) & (lost <= sent))

    def add(self, rows: Ints, lost: Ints, sent: Ints, at_ns: Ints) -> None:
        """Take windows that are evidence of nothing and later than all before, each of another row."""
        columns = self.columns
        columns["at_ns"][rows] = at_ns
        known_lost, known_sent = columns["lost"][rows], columns["sent"][rows]
        counted = rows[known_sent >= MIN_REMEMBERED]
        counts = columns["counts"]
        counts[counted, 0] += 1
        many = counted[counts[counted, 0] > RARITY_SAMPLES]
        counts[many] /= 2
        fade = np.where(known_sent + sent > REMEMBERED, REMEMBERED / (known_sent + sent), 1.0)
        columns["lost"][rows], columns["sent"][rows] = known_lost * fade + lost, known_sent * fade + sent

    def load(self, row: int, level: LossLevel) -> None:
        lost, sent, at_ns, counts = (column[row] for column in self.columns._columns.values())
        level.resume(LossState(float(lost), float(sent), int(at_ns), tuple(counts.tolist())))

    def store(self, row: int, level: LossLevel) -> None:
        columns, state = self.columns, level.state
        columns["lost"][row], columns["sent"][row] = state.lost, state.sent
        columns["at_ns"][row], columns["counts"][row] = state.at_ns, state.counts


def _middles(values: npt.NDArray[np.float32], count: Ints) -> Floats:
    """Return the medians of the first `count` values of each row."""
    ordered = np.where(np.arange(values.shape[1]) < count[:, None], values, np.float32(np.inf))
    ordered.sort(axis=1)
    at = np.arange(len(values))
    high, low = ordered[at, count // 2].astype(np.float64), ordered[at, (count - 1) // 2].astype(np.float64)
    return np.asarray((low + high) / 2)
