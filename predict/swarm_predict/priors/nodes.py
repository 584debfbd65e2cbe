"""Assumed figures of a swarm's machines: medians for the tables, draws for intervals.

Machines of one class, and everything that one engine does, vary together from draw to draw; what is particular
to one machine varies alone. Measured layers and visits do not use these figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np

from swarm_predict.priors.factors import FASTEST, Kind, Load, Machine, effects, machine_of
from swarm_predict.priors.posterior import HOST_SPREAD, Effects, Priors
from swarm_protocol.snapshot.swarm import Floats, Ints, Swarm

Rate = Literal["decode", "prefill"]
_KINDS: Final[dict[Rate, tuple[Kind, ...]]] = {
    "decode": ("decode", "launch", "visit", "reduce"),
    "prefill": ("prefill", "launch", "visit", "reduce"),
}
_RATE, _LAUNCH, _VISIT, _REDUCE = range(4)
_TINY: Final = 1e-9  # keeps a covariance of equal quantities positive


@dataclass(frozen=True, slots=True)
class Sample:
    """(draws, rows) each."""

    rate: Floats  # how many times the data sheet's time
    launch_ms: Floats  # of one layer
    visit_ms: Floats  # software of one message at its receiver
    reduce_ms: Floats  # software of one round of an all-reduce


@dataclass(frozen=True, slots=True)
class Assumed:
    """Over some rows of a swarm, for one question. Medians are (rows,)."""

    priors: Priors
    kind: Rate
    quantities: tuple[Effects, ...]  # each once
    at: Ints  # (4, rows): rate, launch, visit, reduce of each row among the quantities
    median: Floats  # (4, rows)

    @property
    def rate(self) -> Floats:
        return np.asarray(self.median[_RATE])

    @property
    def launch_ms(self) -> Floats:
        return np.asarray(self.median[_LAUNCH])

    @property
    def visit_ms(self) -> Floats:
        return np.asarray(self.median[_VISIT])

    @property
    def reduce_ms(self) -> Floats:
        return np.asarray(self.median[_REDUCE])

    @property
    def usual(self) -> Sample:
        """One draw: the medians."""
        return Sample(*(line[None, :] for line in self.median))

    def sample(self, rng: np.random.Generator, draws: int, rows: Sequence[int] | None = None) -> Sample:
        """Draw for some rows (None: all), in pairs of opposite sign so that medians stay."""
        at = self.at if rows is None else self.at[:, list(rows)]
        median = self.median if rows is None else self.median[:, list(rows)]
        count = at.shape[1]
        if self.priors.neutral or not count:
            return Sample(*(np.broadcast_to(line, (draws, count)) for line in median))
        used, where = np.unique(at, return_inverse=True)
        where = where.reshape(at.shape)
        shared = self.priors.log_covariance([self.quantities[k] for k in used])
        root = np.linalg.cholesky(shared + _TINY * np.eye(len(used)))
        half = (draws + 1) // 2
        common = rng.standard_normal((half, len(used))) @ root.T
        alone = rng.standard_normal((2, half, count))
        left = rng.standard_normal((half, 1)) * self.priors.left.get(self.kind, 0.0)
        several = rng.standard_normal((half, 1)) * (self.priors.node.get("several", 0.0) if count > 1 else 0.0)
        machine = alone[0] * self.priors.node.get(self.kind, 0.0) + left + several
        host = alone[1] * HOST_SPREAD + several

        def mirrored(logs: Floats) -> Floats:
            return np.asarray(np.exp(np.concatenate([logs, -logs])[:draws]))

        least = _least(self.kind)
        rate = least + (median[_RATE] - least) * mirrored(common[:, where[_RATE]])
        return Sample(
            rate=np.maximum(rate * mirrored(machine), least),
            launch_ms=median[_LAUNCH] * mirrored(common[:, where[_LAUNCH]] + machine),
            visit_ms=median[_VISIT] * mirrored(common[:, where[_VISIT]] + host),
            reduce_ms=median[_REDUCE] * mirrored(common[:, where[_REDUCE]] + host),
        )


def to_median(drawn: Floats, median: float) -> float:
    """Return the factor that brings the median of a sum's draws to the sum of the parts' medians.

    The fit to published results is of that sum; the plain sum of independent skewed parts has a higher median."""
    middle = float(np.median(drawn))
    return median / middle if middle > 0 and median > 0 else 1.0


def assume(swarm: Swarm, rows: Sequence[int], load: Load, kind: Rate, priors: Priors) -> Assumed:
    """Return what is assumed of the machines at `rows`, by their device names and classes."""
    position: dict[Effects, int] = {}
    seen: dict[Machine, tuple[int, ...]] = {}
    columns = []
    for row in rows:
        machine = machine_of(swarm.facts[row])
        if machine not in seen:
            named = [effects(each, machine, load) for each in _KINDS[kind]]
            seen[machine] = tuple(position.setdefault(name, len(position)) for name in named)
        columns.append(seen[machine])
    at = np.array(columns, dtype=np.int64).reshape(len(rows), 4).T
    if priors.neutral:
        median = np.zeros((4, len(rows)))
        median[_RATE] = 1.0
        return Assumed(priors, kind, tuple(position), at, median)
    medians = np.exp([_log_median(priors, name) for name in position])
    median = medians[at] if len(rows) else np.zeros((4, 0))
    median[_RATE] += _least(kind)
    return Assumed(priors, kind, tuple(position), at, median)


def _least(kind: Rate) -> float:
    """Return the least multiple of the data sheet's time; effects add to it. Only reading is bounded by it."""
    return FASTEST if kind == "decode" else 0.0


@lru_cache(maxsize=4096)
def _log_median(priors: Priors, named: Effects) -> float:
    return priors.log_median(named)


def compute_rate(swarm: Swarm, rows: Sequence[int], load: Load, priors: Priors) -> Floats:
    """Return (rows,): the multiple of the matrix rate's time, for decode steps of many sequences."""
    return assume(swarm, rows, load, "prefill", priors).rate
