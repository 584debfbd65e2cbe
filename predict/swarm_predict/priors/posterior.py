"""Compute medians and correlated draws of machines' quantities from the fitted coefficients.

A quantity is the exponential of a sum of effects (`factors`). Effects that two quantities share make them vary
together; an effect that no published result has (a class, a device, an engine nobody published) varies as its kind
does. Coefficients are stored as data (`fitted.json`), read at the first need.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from swarm_predict.priors import individual_effects
from swarm_predict.priors.factors import group_of
from swarm_protocol.snapshot.swarm import Floats

Effects = tuple[str, ...]


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of `fitted.json`."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    root: tuple[tuple[float, ...], ...]  # lower triangle of the covariance's Cholesky factor, row by row
    spread: dict[str, float]  # standard deviation of a new level of each kind of effect
    node: dict[str, Annotated[float, Meta(ge=0)]]  # of one machine about its kind: decode, prefill
    left: dict[str, Annotated[float, Meta(ge=0)]]  # of one model and engine about both: decode, prefill
    results: int
    table: str  # digest of the table they were fitted to


@dataclass(frozen=True, eq=False)
class Priors:
    """Fitted effects. `neutral` takes data sheets as exact and software as free: the arithmetic alone."""

    names: tuple[str, ...]
    mean: Floats
    covariance: Floats
    spread: dict[str, float]
    node: dict[str, float]
    left: dict[str, float]
    neutral: bool = False
    learnt: tuple[str, ...] = ()  # the runs that they were conditioned on, in words
    _at: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._at.update({name: k for k, name in enumerate(self.names)})

    def knows(self, effect: str) -> bool:
        return effect in self._at

    def width(self, effect: str) -> float:
        """Return the standard deviation of an effect that no result has."""
        group = group_of(effect)
        known = self.spread.get(group)
        return individual_effects.width(group, effect, self.node, self.left) if known is None else known

    def log_median(self, effects: Effects) -> float:
        return float(sum(self.mean[self._at[name]] for name in effects if name in self._at))

    def log_covariance(self, quantities: Sequence[Effects]) -> Floats:
        """Return the covariance of the logarithms from shared effects, without those of one machine alone."""
        known = np.zeros((len(quantities), len(self.names)))
        fresh: dict[str, list[int]] = {}
        for k, effects in enumerate(quantities):
            for name in effects:
                at = self._at.get(name)
                if at is None:
                    fresh.setdefault(name, []).append(k)
                else:
                    known[k, at] += 1.0
        used = np.flatnonzero(known.any(axis=0))
        small = known[:, used]
        total = small @ self.covariance[np.ix_(used, used)] @ small.T
        for name, where in fresh.items():
            total[np.ix_(where, where)] += self.width(name) ** 2
        return np.asarray(total)


NEUTRAL: Final = Priors((), np.zeros(0), np.zeros((0, 0)), {}, {}, {}, neutral=True)


@lru_cache(maxsize=1)
def fitted() -> Priors:
    """Return the priors fitted to published results; read once."""
    text = importlib.resources.files(__package__).joinpath("fitted.json").read_bytes()
    return of_fitted(msgspec.json.decode(text, type=Fitted))


def chosen(priors: Priors | None) -> Priors:
    """Return the given priors, or those of published results."""
    return fitted() if priors is None else priors


def of_fitted(found: Fitted) -> Priors:
    root = np.zeros((len(found.names), len(found.names)))
    for k, row in enumerate(found.root):
        root[k, : k + 1] = row
    return Priors(found.names, np.array(found.mean), root @ root.T, found.spread, found.node, found.left)
