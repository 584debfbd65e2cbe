"""A row of quiet series is, after any samples, what the object of the series would be."""

from __future__ import annotations

import random

import numpy as np
import pytest

from swarm_collector.changes.change_thresholds import JITTER, RTT
from swarm_collector.changes.series.level import BatchedLevel, Level
from swarm_collector.changes.series.level_columns import BatchedLevelColumns, LevelColumns, LossColumns
from swarm_collector.changes.series.loss_level import LossLevel
from swarm_protocol.units import NS_PER_S

ROWS, STEPS = 4, 1_900  # more than the samples after which counts are halved
T0 = 1_790_000_000 * NS_PER_S


def steps(rng: random.Random):
    """Yield (times, rows in random order): some links are measured every few seconds, some every few minutes."""
    at_ns = [T0] * ROWS
    for _ in range(STEPS):
        rows = rng.sample(range(ROWS), rng.randint(1, ROWS))
        for row in rows:
            at_ns[row] += rng.choice([8, 40, 160]) * NS_PER_S
        yield np.array([at_ns[row] for row in rows]), np.array(rows)


def same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return all(a == pytest.approx(b) if isinstance(b, tuple) else a == b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_levels(seed: int) -> None:
    rng = random.Random(seed)
    columns, levels, away = LevelColumns(RTT), [Level(RTT) for _ in range(ROWS)], 0
    columns.columns.reserve(ROWS)
    for at_ns, rows in steps(rng):
        values = np.array([rng.choice([20.0, 20.0, 24.0, 26.0]) + rng.random() for _ in rows])
        usual = columns.is_usual(rows, values)
        columns.add(rows[usual], values[usual], at_ns[usual])
        for row, value, ns, quiet in zip(rows.tolist(), values.tolist(), at_ns.tolist(), usual.tolist(), strict=True):
            levels[row].add(value, ns)
            assert levels[row].quiet == quiet
            if not quiet:  # an object takes it; it is put back when it is quiet again
                levels[row].drop_evidence()
                columns.store(row, levels[row])
                away += 1
            found = Level(RTT)
            columns.load(row, found)
            assert same(found.state, levels[row].state)
    assert away > 50


@pytest.mark.parametrize("seed", range(3))
def test_levels_of_batches(seed: int) -> None:
    rng = random.Random(seed)
    columns, levels, away = BatchedLevelColumns(JITTER), [BatchedLevel(JITTER) for _ in range(ROWS)], 0
    columns.columns.reserve(ROWS)
    columns.levels.columns.reserve(ROWS)
    for at_ns, rows in steps(rng):
        loud = rng.random() < 0.2
        values = np.array(
            [float("nan") if rng.random() < 0.1 else (60.0 if loud else 5.0) + rng.random() for _ in rows]
        )
        usual = columns.is_usual(rows, values)
        columns.add(rows[usual], values[usual], at_ns[usual])
        for row, value, ns, quiet in zip(rows.tolist(), values.tolist(), at_ns.tolist(), usual.tolist(), strict=True):
            if value == value:
                levels[row].collect(value, ns)
            assert levels[row].quiet == quiet
            if not quiet:
                levels[row].drop_evidence()
                columns.store(row, levels[row])
                away += 1
            found = BatchedLevel(JITTER)
            columns.load(row, found)
            assert same(found.state, levels[row].state)
            assert found.collected == levels[row].collected
    assert away


@pytest.mark.parametrize("seed", range(3))
def test_losses(seed: int) -> None:
    rng = random.Random(seed)
    columns, levels, counted = LossColumns(), [LossLevel() for _ in range(ROWS)], 0
    columns.columns.reserve(ROWS)
    for at_ns, rows in steps(rng):
        lost = np.array([rng.choice([0] * 12 + [1, 4, 17]) if row else 0 for row in rows.tolist()])
        sent = np.full(len(rows), 16)
        usual = columns.is_usual(rows, lost, sent)
        columns.add(rows[usual], lost[usual], sent[usual], at_ns[usual])
        for row, number, ns, quiet in zip(rows.tolist(), lost.tolist(), at_ns.tolist(), usual.tolist(), strict=True):
            levels[row].add(number, 16, ns)
            if not quiet:  # it may be evidence; what is none is left to the object too
                counted += 1
                levels[row].drop_evidence()
                columns.store(row, levels[row])
            assert levels[row].quiet
            found = LossLevel()
            columns.load(row, found)
            assert same(found.state, levels[row].state)
    assert counted > 50
