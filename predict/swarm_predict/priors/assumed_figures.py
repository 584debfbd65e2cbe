"""Compute assumed figures of a swarm's machines: medians for the tables, draws for intervals.

Machines of one class, and everything that one engine does, vary together from draw to draw; what is particular to one
machine varies alone, unless a run showed something of it (`conditioning`). Measured layers and visits use none of these
figures but the multiples of what was measured: how far engines stay behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from swarm_predict.priors import individual_effects
from swarm_predict.priors.factors import (
    FASTEST,
    RDMA_SHARE,
    Kind,
    Load,
    Machine,
    effects,
    key_of,
    launch_rounds,
    machine_of,
    over_rdma,
)
from swarm_predict.priors.individual_effects import Rate
from swarm_predict.priors.posterior import Effects, Priors
from swarm_protocol.snapshot.swarm import Floats, Ints, Swarm

_KINDS: Final[dict[Rate, tuple[Kind, ...]]] = {
    "decode": ("decode", "launch", "visit", "reduce"),
    "prefill": ("prefill", "launch", "visit", "reduce"),
}
# which quantity is in which line: of kinds of machine, then of each machine, then of what was measured
_RATE, _LAUNCH, _VISIT, _REDUCE, _OWN, _HOST, _LAYERS, _PATHS = range(8)
_LINES: Final = 7 + len(individual_effects.PATH_KINDS)  # the last ones are for paths, one a kind
_MIN_OF_MEASURED: Final = 0.1  # no engine takes less than a tenth of what was measured
_TINY: Final = 1e-9  # keeps a covariance of equal quantities positive


@dataclass(frozen=True, slots=True)
class Sample:
    """(draws, rows) each."""

    rate: Floats  # how many times the data sheet's time
    launch_ms: Floats  # of one layer
    visit_ms: Floats  # software of one message at its receiver
    reduce_ms: Floats  # software of one round of an all-reduce
    layers: Floats  # measured layers, as a multiple of their median
    paths: Floats  # (draws, kinds of path): paths, as a multiple of their median


@dataclass(frozen=True, slots=True)
class Assumed:
    """Over some rows of a swarm, for one question."""

    priors: Priors
    kind: Rate
    quantities: tuple[Effects, ...]  # each once
    at: Ints  # (_LINES, rows): positions among the quantities
    median: Floats  # (_LINES, rows)
    alone: Floats  # (2, rows): standard deviation of what only this machine, and its host, have for themselves
    noise: float  # standard deviation of one run
    measured_noise: float  # the same, of measured machines and paths; 0 for what a person wrote down
    pace_noise: float  # the same, of what computes alone

    @property
    def rate(self) -> Floats:
        median = self.median
        return np.asarray((_least(self.kind) + median[_RATE]) * median[_OWN])

    @property
    def launch_ms(self) -> Floats:
        return np.asarray(self.median[_LAUNCH] * self.median[_OWN])

    @property
    def visit_ms(self) -> Floats:
        return np.asarray(self.median[_VISIT] * self.median[_HOST])

    @property
    def reduce_ms(self) -> Floats:
        return np.asarray(self.median[_REDUCE] * self.median[_HOST])

    @property
    def layers(self) -> Floats:
        """Return the time of engines over that of measured layers."""
        return np.asarray(self.median[_LAYERS])

    @property
    def paths(self) -> Floats:
        """Return the time of engines' messages over that of paths, (kinds of path,)."""
        return np.asarray(
            self.median[_PATHS:, 0] if self.median.shape[1] else np.ones(len(individual_effects.PATH_KINDS))
        )

    @property
    def usual(self) -> Sample:
        """One draw: the medians."""
        rows = self.median.shape[1]
        one = np.ones((1, rows))
        return Sample(
            self.rate[None, :], self.launch_ms[None, :], self.visit_ms[None, :], self.reduce_ms[None, :],
            one, np.ones((1, len(individual_effects.PATH_KINDS))),
        )  # fmt: skip

    def sample(self, rng: np.random.Generator, draws: int) -> Sample:
        """Draw for all rows, in pairs of opposite sign so that medians stay."""
        count = self.at.shape[1]
        if self.priors.neutral or not count:
            usual = self.usual
            wide = (np.broadcast_to(line, (draws, line.shape[1])) for line in (
                usual.rate, usual.launch_ms, usual.visit_ms, usual.reduce_ms, usual.layers, usual.paths
            ))  # fmt: skip
            return Sample(*wide)
        shared = self.priors.log_covariance(self.quantities)
        root = np.linalg.cholesky(shared + _TINY * np.eye(len(self.quantities)))
        half = (draws + 1) // 2
        common = rng.standard_normal((half, len(self.quantities))) @ root.T
        alone = rng.standard_normal((2, half, count)) * self.alone[:, None, :]
        run = rng.standard_normal((half, 1)) * self.noise
        own, host = common[:, self.at[_OWN]] + alone[0] + run, common[:, self.at[_HOST]] + alone[1] + run
        again = rng.standard_normal((half, 1)) * self.measured_noise
        pace = rng.standard_normal((half, 1)) * self.pace_noise if self.pace_noise else np.zeros((half, 1))
        # what a person wrote down of paths has its width from the fit, which includes that until a run is known
        repeats = again if self.measured_noise else run if self.priors.learnt else 0.0 * run

        def mirrored(logs: Floats) -> Floats:
            return np.asarray(np.exp(np.concatenate([logs, -logs])[:draws]))

        def about_one(off: Floats) -> Floats:  # the mean of what was measured stays as well
            return np.asarray(np.maximum(1.0 + np.concatenate([off, -off])[:draws], _MIN_OF_MEASURED))

        least, median = _least(self.kind), self.median
        rate = (least + median[_RATE] * mirrored(common[:, self.at[_RATE]])) * median[_OWN] * mirrored(own)
        return Sample(
            rate=np.maximum(rate, least),
            launch_ms=self.launch_ms * mirrored(common[:, self.at[_LAUNCH]] + own),
            visit_ms=self.visit_ms * mirrored(common[:, self.at[_VISIT]] + host + pace),
            reduce_ms=self.reduce_ms * mirrored(common[:, self.at[_REDUCE]] + host + pace),
            layers=about_one(common[:, self.at[_LAYERS]] + repeats + pace),
            paths=about_one(common[:, self.at[_PATHS:, 0]] + repeats),
        )


def to_median(drawn: Floats, median: float) -> float:
    """Return the factor that brings the median of a sum's draws to the sum of the parts' medians.

    The fit to published results is of that sum; the plain sum of independent skewed parts has a higher median."""
    middle = float(np.median(drawn))
    return median / middle if middle > 0 and median > 0 else 1.0


def own_effects(rate: Rate, key: str, device_class: str, load: Load, *, several: bool) -> tuple[Effects, Effects]:
    """Return what a machine has beyond its kind under one question, as effects: in computing, and in its messages."""
    both = individual_effects.several(load) if several else ()
    return (
        (
            individual_effects.machine(rate, key, device_class),
            individual_effects.model(rate, load),
            individual_effects.question(rate, key, load),
            *both,
        ),
        (individual_effects.host(key), *both),
    )


def assume(
    swarm: Swarm,
    rows: Sequence[int],
    load: Load,
    kind: Rate,
    priors: Priors,
    *,
    written: bool = True,
    cards: Sequence[int] = (),
) -> Assumed:
    """Return what is assumed of the machines at `rows`, by their device names and classes.

    `written`: what was measured of them was written down by a person. `cards` of each machine split every layer;
    empty: one."""
    position: dict[Effects, int] = {}
    kinds: dict[Machine, tuple[Effects, ...]] = {}
    columns, alone = [], np.zeros((2, len(rows)))
    by_kind = (individual_effects.paths(load, kind, written=written) for kind in individual_effects.PATH_KINDS)
    paths: tuple[Effects, ...] = tuple(by_kind)
    for k, row in enumerate(rows):
        machine = machine_of(swarm.facts[row])
        if cards and cards[k] > 1:
            machine = replace(machine, cards=cards[k])
        if machine not in kinds:
            kinds[machine] = tuple(effects(each, machine, load) for each in _KINDS[kind])
        # without runs all machines are strangers, and are called alike
        key = key_of(swarm.facts[row]) if priors.learnt else ""
        layers = individual_effects.layers(load, machine.device_class, written=written)
        own, widths = _own(priors, kind, key, machine.device_class, load, len(rows) > 1)
        alone[:, k] = widths
        columns.append([position.setdefault(name, len(position)) for name in (*kinds[machine], *own, layers, *paths)])
    at = np.array(columns, dtype=np.int64).reshape(len(rows), _LINES).T
    if priors.neutral:
        median = np.ones((_LINES, len(rows)))
        median[_LAUNCH : _REDUCE + 1] = 0.0
        median[_RATE] -= _least(kind)
        return Assumed(priors, kind, tuple(position), at, median, alone, 0.0, 0.0, 0.0)
    medians = np.exp([_log_median(priors, name) for name in position])
    median = medians[at] if len(rows) else np.zeros((_LINES, 0))
    if cards and median.size:
        median[_LAUNCH] *= [launch_rounds(count) for count in cards]
    if over_rdma(load.engine, swarm, rows):
        median[[_VISIT, _REDUCE]] *= RDMA_SHARE
    noise = individual_effects.run_noise(kind, priors.left)
    again, pace = (
        (0.0, 0.0) if written else (individual_effects.measured_noise(load), individual_effects.pace_noise(load))
    )
    return Assumed(priors, kind, tuple(position), at, median, alone, noise, again, pace)


def _least(kind: Rate) -> float:
    """Return the least multiple of the data sheet's time; effects add to it. Only reading is bounded by it."""
    return FASTEST if kind == "decode" else 0.0


@lru_cache(maxsize=4096)
def _own(
    priors: Priors, rate: Rate, key: str, device_class: str, load: Load, several: bool
) -> tuple[tuple[Effects, Effects], tuple[float, float]]:
    """Return a machine's own effects by name, and the widths of those that no run has shown: these vary
    alone, so that large swarms need no quantity for each machine."""
    named, widths = [], []
    for own in own_effects(rate, key, device_class, load, several=several):
        alone = {name for name in own if name.partition(".")[0] in ("machine", "question") and not priors.knows(name)}
        named.append(tuple(name for name in own if name not in alone))
        widths.append(math.sqrt(sum(priors.width(name) ** 2 for name in alone)))
    return (named[0], named[1]), (widths[0], widths[1])


@lru_cache(maxsize=4096)
def _log_median(priors: Priors, named: Effects) -> float:
    return priors.log_median(named)


def compute_rate(swarm: Swarm, rows: Sequence[int], load: Load, priors: Priors) -> Floats:
    """Return (rows,): the multiple of the matrix rate's time, for decode steps of many sequences."""
    return assume(swarm, rows, load, "prefill", priors).rate
