"""Describe token counts of requests as a distribution: one number, a lognormal by its median and p95, or a list.

Every distribution is held as equally likely values, so that a mean over it is a plain mean. Lengths of prompts and
answers of chat traffic are close to lognormal (Zheng et al., LMSYS-Chat-1M, arXiv 2309.11998).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from swarm_predict.errors import PredictError

POINTS: Final = 200  # of a lognormal: its mean is then within one percent up to a p95 of eight medians
Z95: Final = NormalDist().inv_cdf(0.95)
MAX_TOKENS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Lengths:
    """Equally likely numbers of tokens, ascending, each at least 1."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def square(self) -> float:
        """Return the mean of the squares."""
        return math.fsum(value * value for value in self.values) / len(self.values)

    @property
    def varies(self) -> bool:
        return self.values[0] != self.values[-1]

    def quantile(self, p: float) -> float:
        return self.values[min(int(p * len(self.values)), len(self.values) - 1)]

    def thinned(self, points: int) -> Lengths:
        """Return at most so many values, each the mean of its neighbours; the mean stays."""
        if len(self.values) <= points:
            return self
        edges = [round(i * len(self.values) / points) for i in range(points + 1)]
        parts = [self.values[a:b] for a, b in itertools.pairwise(edges)]
        means = [math.fsum(part) / len(part) for part in parts]
        scale = self.mean * points / math.fsum(means)  # parts differ in size by one
        return Lengths(tuple(value * scale for value in means))


def exactly(tokens: float) -> Lengths:
    return listed([tokens])


def lognormal(median: float, p95: float) -> Lengths:
    """Raises PredictError unless 1 ≤ median ≤ p95."""
    if not 1 <= median <= p95 <= MAX_TOKENS:
        raise PredictError(f"lognormal:{median:g}:{p95:g} takes a median of 1 or more and a p95 of no less")
    sigma = math.log(p95 / median) / Z95
    normal = NormalDist(math.log(median), sigma) if sigma else None
    if normal is None:
        return exactly(median)
    return listed(max(1.0, math.exp(normal.inv_cdf((i + 0.5) / POINTS))) for i in range(POINTS))


def listed(values: Iterable[float]) -> Lengths:
    """Raises PredictError for an empty list, or a value that is not a number of tokens."""
    found = tuple(sorted(values))
    if not found:
        raise PredictError("no lengths are given; write one number of tokens on each line")
    for value in found:
        if not 1 <= value <= MAX_TOKENS:
            raise PredictError(f"{value:g} is not a number of tokens; write 1 to {MAX_TOKENS}")
    return Lengths(found)


def parse_lengths(text: str) -> Lengths | None:
    """Return what `512` or `lognormal:512:2000` means; None for other text, which may name a file.

    Raises PredictError for numbers out of range."""
    kind, *parts = text.split(":")
    try:
        if not parts:
            return exactly(float(kind))
        if kind == "lognormal" and len(parts) == 2:
            return lognormal(float(parts[0]), float(parts[1]))
    except ValueError as error:
        if isinstance(error, PredictError):
            raise
    if kind == "lognormal":
        raise PredictError(f"{text!r} is not a distribution; write it like lognormal:512:2000 (median and p95)")
    return None
