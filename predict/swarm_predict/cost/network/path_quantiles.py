"""Compute quantiles of a round trip and of one way, from its measured min, median, p95, p99 or delay variation.

One way of a path, from the quantiles of its round trip Q with mean m:  m/2 + (Q − m)/√2, never under min/2. The two
directions then vary independently, and mean and variance of their sum are those of the round trip.
Where only a PDV is known (p95 − min), the round trip is min plus an exponential with that p95.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats

PROBABILITIES: Final = np.array([0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.85, 0.9, 0.95, 0.975, 0.99, 0.997, 1.0])
P95: Final = 9
_LAST: Final = len(PROBABILITIES) - 1
# of an exponential with mean 1; beyond the last finite one it continues with mean 1, so the end is 2 further
_EXPONENTIAL: Final = np.append(-np.log1p(-PROBABILITIES[:-1]), -math.log(0.003) + 2)
# all probabilities are whole thousandths: which segment each thousandth lies in
_SEGMENT: Final = np.searchsorted(PROBABILITIES, (np.arange(1000) + 0.5) / 1000) - 1
LN20: Final = math.log(20)


def quantile_grid(least: Floats, p50: Floats, p95: Floats, p99: Floats, jitter: Floats) -> Floats:
    """Return (trips, probabilities): the quantiles at PROBABILITIES; NaN inputs are unknown."""
    p95 = np.where(np.isnan(p95), np.where(jitter > 0, least + jitter, p50), p95)
    p95 = np.maximum(p95, p50)
    tail = p95 - p50
    p99 = np.fmax(np.where(np.isnan(p99), p95 + tail * (math.log(5) / math.log(10)), p99), p95)
    known = np.where(
        PROBABILITIES <= 0.5,
        least[:, None] + (p50 - least)[:, None] * np.minimum(PROBABILITIES / 0.5, 1),
        # above the median as exponentials fall: through p95, then through p99
        np.where(
            PROBABILITIES <= 0.95,
            p50[:, None] + tail[:, None] * (_EXPONENTIAL - math.log(2)) / math.log(10),
            p95[:, None] + (p99 - p95)[:, None] * (_EXPONENTIAL - LN20) / math.log(5),
        ),
    )
    idle = least[:, None] + (p95 - least)[:, None] / LN20 * _EXPONENTIAL
    return np.where(((p50 <= least) & (p95 > least))[:, None], idle, known)


def one_way_grid(grid: Floats) -> Floats:
    """Return quantiles of one way, from those of the round trip."""
    least, mean = grid[:, :1], grid_mean(grid)[:, None]
    excess = np.maximum(0.0, (mean - least) / 2 + (grid - mean) / math.sqrt(2))
    counted = grid_mean(excess)[:, None]  # cutting at the floor has raised the mean
    factor = np.where(counted > 0, (mean - least) / 2 / np.where(counted > 0, counted, 1), 1.0)
    return np.asarray(least / 2 + excess * factor)


def grid_mean(grid: Floats) -> Floats:
    return np.asarray(((grid[:, 1:] + grid[:, :-1]) / 2 * np.diff(PROBABILITIES)).sum(axis=1))


def at_uniform(grid: Floats, uniform: Floats) -> Floats:
    """Evaluate the piecewise linear quantile functions at `uniform`, (draws, trips)."""
    moving = np.flatnonzero(grid[:, -1] > grid[:, 0])
    out = np.broadcast_to(grid[:, 0], uniform.shape)
    if not len(moving):
        return out
    u = uniform[:, moving]
    slope = np.diff(grid[moving], axis=1) / np.diff(PROBABILITIES)
    start = grid[moving, :-1] - slope * PROBABILITIES[:-1]
    at = _SEGMENT[(u * len(_SEGMENT)).astype(np.int64)] + np.arange(len(moving)) * _LAST
    out = out.copy()
    out[:, moving] = start.ravel()[at] + slope.ravel()[at] * u
    return out


def mean_excess(least: Floats, p50: Floats, p95: Floats, jitter: Floats) -> Floats:
    """Return the mean above the minimum of `quantile_grid`'s distribution, in closed form (any shape, the last percent
    as the rest of the tail); 0 if nothing is known."""
    p95 = np.where(np.isnan(p95), np.where(jitter > 0, least + jitter, p50), p95)
    tail = np.maximum(p95 - p50, 0.0)
    idle = (p95 - least) / LN20
    known = 0.75 * (p50 - least) + 0.5 * tail / math.log(10)
    return np.nan_to_num(np.where((p50 <= least) & (p95 > least), idle, known), nan=0.0)
