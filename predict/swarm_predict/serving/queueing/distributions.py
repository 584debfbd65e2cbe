"""Summarise and combine distributions of times over requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats

PROBABILITIES: Final = (np.arange(100) + 0.5) / 100


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of times, in ms."""

    mean: float
    points: tuple[float, ...]  # at evenly spaced probabilities

    @property
    def p50(self) -> float:
        return self.quantile(0.5)

    @property
    def p95(self) -> float:
        return self.quantile(0.95)

    def quantile(self, p: float) -> float:
        if not math.isfinite(self.mean):
            return math.inf
        return float(np.interp(p, PROBABILITIES, self.points))


NEVER: Final = Spread(math.inf, (math.inf,))


def spread(values: Floats, chance: Floats) -> Spread:
    """Return the distribution of values that have these chances, of any sum."""
    order = np.argsort(values)
    rising = np.cumsum(chance[order]) - chance[order] / 2
    total = float(chance.sum())
    points = np.interp(PROBABILITIES, rising / total, values[order])
    return Spread(float(chance @ values) / total, tuple(points.tolist()))


def scaled(found: Spread, mean: float) -> Spread:
    """Return the same shape with another mean."""
    if found.mean <= 0:
        return Spread(mean, (mean,) * len(PROBABILITIES))
    return Spread(mean, tuple(point * mean / found.mean for point in found.points))


def mixed(spreads: Sequence[Spread], shares: Sequence[float]) -> Spread:
    """Return the distribution over several groups of requests, by their shares of them."""
    if len(spreads) == 1:
        return spreads[0]
    if not all(math.isfinite(each.mean) for each in spreads):
        return NEVER
    values = np.concatenate([each.points for each in spreads])
    chance = np.concatenate([np.full(len(each.points), share) for each, share in zip(spreads, shares, strict=True)])
    points = spread(values, chance).points
    return Spread(math.fsum(each.mean * share for each, share in zip(spreads, shares, strict=True)), points)
