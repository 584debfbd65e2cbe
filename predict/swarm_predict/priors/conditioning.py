"""Condition priors on runs: what was observed of some machines narrows their effects, and by the covariance all others.

A run is one equation, and its logarithm has normal noise:

    log observed = log( Σ parts · exp(Σ effects) + fixed ) + own + noise

`own` is what the run's own network may have added, beyond what was known of it: losses that no probe had seen. It is
not normal (mostly nothing, seldom a round trip), so it is taken out before: by how well each of its values explains
what was observed (`without_own`). A run that its network explains better than the engine tells little of the engine.

Effects are normal before it, correlated as the fit left them. They are normal after it to first order about the most
probable values (Gauss-Newton; an iterated Kalman update). Nothing is copied from a run into one effect: each moves by
its share of what was not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.priors.posterior import Effects, Priors
from swarm_protocol.snapshot.swarm import Floats

STEPS: Final = 60
HALVINGS: Final = 12
CLOSE: Final = 1e-6  # of a logarithm: the steps have arrived
MIN_SHARE: Final = 0.1  # of the expected time, that a run takes however much sooner its network may be
_TINY: Final = 1e-12  # keeps a covariance of effects that no longer vary positive


@dataclass(frozen=True, slots=True)
class Part:
    """So many milliseconds (or messages), times the exponential of the sum of these effects."""

    times: float
    effects: Effects


@dataclass(frozen=True, slots=True)
class Observation:
    """One run."""

    observed_ms: float
    parts: tuple[Part, ...]
    fixed_ms: float  # of its time, what no effect changes
    noise: float  # standard deviation of the logarithm, from run to run
    own_ms: tuple[float, ...] = ()  # equally likely delays by what is not known of its own network


def condition(priors: Priors, runs: Sequence[Observation], learnt: Sequence[str]) -> Priors:
    """Return the priors after these runs. `learnt` says in words which they were."""
    if not runs:
        return priors
    wider = _with_effects(priors, runs)
    runs = [without_own(wider, run)[0] for run in runs]
    model = _Model(wider, runs)
    mean, slopes = model.most_probable()
    noise = np.diag([run.noise**2 for run in runs])
    reach = wider.covariance @ slopes.T
    gain = np.linalg.solve(slopes @ reach + noise, reach.T).T
    covariance = wider.covariance - gain @ reach.T
    return replace(
        wider, mean=mean, covariance=(covariance + covariance.T) / 2, learnt=(*priors.learnt, *learnt), _at={}
    )


def expected_ms(priors: Priors, run: Observation) -> tuple[float, float]:
    """Return (median, standard deviation of the logarithm) of a run's time under these priors, its noise included."""
    wider = _with_effects(priors, [run])
    values, slopes = _Model(wider, [run]).at(wider.mean)
    variance = float((slopes @ wider.covariance @ slopes.T)[0, 0]) + run.noise**2
    return float(np.exp(values[0])), variance**0.5


def without_own(priors: Priors, run: Observation) -> tuple[Observation, float]:
    """Return the run without what its own network is expected to have added, and the logarithm of its chance.

    The chance is that of the observed time, as a density over its logarithm, under these priors."""
    median, deviation = expected_ms(priors, run)
    own = np.array(run.own_ms or (0.0,))
    shifts = np.log(np.maximum(median + own, MIN_SHARE * median) / median)
    chances = -(((math.log(run.observed_ms / median) - shifts) / deviation) ** 2) / 2
    most = chances.max()
    weights = np.exp(chances - most)
    log_chance = float(most + math.log(weights.mean()) - math.log(deviation))
    weights /= weights.sum()
    shift = float(weights @ shifts)
    variance = float(weights @ (shifts - shift) ** 2)
    noise = math.hypot(run.noise, math.sqrt(variance))
    return replace(run, observed_ms=run.observed_ms * math.exp(-shift), noise=noise, own_ms=()), log_chance


def _with_effects(priors: Priors, runs: Sequence[Observation]) -> Priors:
    """Add the effects of these runs that no result had, with their widths."""
    named = dict.fromkeys(name for run in runs for part in run.parts for name in part.effects)
    fresh = [name for name in named if not priors.knows(name)]
    count = len(priors.names)
    covariance = np.zeros((count + len(fresh), count + len(fresh)))
    covariance[:count, :count] = priors.covariance
    covariance[range(count, len(covariance)), range(count, len(covariance))] = [priors.width(n) ** 2 for n in fresh]
    mean = np.concatenate([priors.mean, np.zeros(len(fresh))])
    return replace(priors, names=(*priors.names, *fresh), mean=mean, covariance=covariance, _at={})


class _Model:
    """The logarithms of the runs' times as functions of the effects."""

    def __init__(self, priors: Priors, runs: Sequence[Observation]) -> None:
        self.priors, self.runs = priors, runs
        at = {name: k for k, name in enumerate(priors.names)}
        self.counts = []  # of each run: (parts, effects)
        for run in runs:
            counts = np.zeros((len(run.parts), len(at)))
            for k, part in enumerate(run.parts):
                for name in part.effects:
                    counts[k, at[name]] += 1.0
            self.counts.append(counts)
        self.observed = np.log([run.observed_ms for run in runs])

    def at(self, effects: Floats) -> tuple[Floats, Floats]:
        """Return (log times, their slopes)."""
        values, slopes = np.zeros(len(self.runs)), np.zeros((len(self.runs), len(effects)))
        for k, (run, counts) in enumerate(zip(self.runs, self.counts, strict=True)):
            parts = np.array([part.times for part in run.parts]) * np.exp(counts @ effects)
            total = float(parts.sum()) + run.fixed_ms
            values[k], slopes[k] = np.log(total), parts @ counts / total
        return values, slopes

    def most_probable(self) -> tuple[Floats, Floats]:
        """Return the effects of highest posterior density, and the slopes there."""
        start, covariance = self.priors.mean, self.priors.covariance
        weights = np.array([run.noise**-2 for run in self.runs])
        inverse = np.linalg.inv(covariance + _TINY * np.eye(len(start)))

        def surprise(effects: Floats) -> float:
            off = effects - start
            return float(off @ inverse @ off + weights @ (self.observed - self.at(effects)[0]) ** 2)

        here = start.copy()
        for _ in range(STEPS):
            values, slopes = self.at(here)
            reach = covariance @ slopes.T
            missing = self.observed - values + slopes @ (here - start)
            target = start + reach @ np.linalg.solve(slopes @ reach + np.diag(1 / weights), missing)
            step, before = target - here, surprise(here)
            for _ in range(HALVINGS):
                if surprise(here + step) <= before:
                    break
                step = step / 2
            here = here + step
            if np.abs(step).max() < CLOSE:
                break
        return here, self.at(here)[1]
