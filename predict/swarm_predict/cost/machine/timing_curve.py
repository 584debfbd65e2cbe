"""Fit a curve through the layer times of one node, t(batch, context), with the residual of the measured points.

Time is a sum of a constant, a part for each sequence, a part for each cached token of each sequence, and (with routed
experts) a part for the experts that a batch uses; none of these is negative. Coefficients minimise relative errors.
Between the measured points the curve is bent to pass through them, so that a kernel that changes with the batch is not
smoothed away; the residual of the unbent curve is the uncertainty of everything that was not measured itself.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.model.shapes import ModelShape, shape_touched
from swarm_protocol.layer_shape import Phase
from swarm_protocol.snapshot.swarm import Floats

Place = tuple[int, int]  # batch, tokens
Terms = Callable[[int, int, float], tuple[float, ...]]  # of batch, tokens, and tokens that a layer looks back at

SPARE: Final = 1  # more points than coefficients: otherwise any curve fits and the residual says nothing


@dataclass(frozen=True, slots=True)
class Curve:
    coefficients: Floats
    terms: Terms
    residual: float  # standard deviation of the relative error at the measured points

    def ms(self, batch: int, tokens: int, seen: float) -> float:
        return float(self.coefficients @ np.array(self.terms(batch, tokens, seen)))


def terms_of(model: ModelShape, weights: str, phase: Phase) -> Terms:
    """Return the terms of the time of one layer, scaled so that each is about one for one token."""
    layer = model.layer

    def terms(batch: int, tokens: int, seen: float) -> tuple[float, ...]:
        rows = batch * (tokens if phase == "prefill" else 1)
        found = (1.0, float(rows), rows * seen / 1024)
        if not layer.experts:
            return found
        return (*found, shape_touched(layer, weights, rows) / shape_touched(layer, weights, 1))

    return terms


def fit(points: dict[Place, float], terms: Terms) -> Curve | None:
    """Fit points (batch, tokens) → ms, each of a layer that looks back at all its tokens. None: too few of them."""
    rows = np.array([terms(batch, tokens, float(tokens)) for batch, tokens in points])
    times = np.array(list(points.values()))
    rows = rows / times[:, None]  # relative errors
    left = [i for i in range(rows.shape[1]) if np.ptp(rows[:, i] * times) > 0 or i == 0]
    coefficients = np.zeros(rows.shape[1])
    while left:
        if len(points) < len(left) + SPARE or np.linalg.matrix_rank(rows[:, left]) < len(left):
            return None
        found = np.linalg.lstsq(rows[:, left], np.ones(len(times)), rcond=None)[0]
        if found.min() >= 0:
            coefficients[left] = found
            break
        left.pop(int(np.argmin(found * np.abs(rows[:, left]).mean(axis=0))))
    off = rows @ coefficients - 1
    free = max(1, len(points) - len(left))
    return Curve(coefficients, terms, math.sqrt(float(off @ off) / free)) if left else None


def interpolate(
    points: dict[Place, float], batch: int, tokens: int, ratio: Callable[[Place, Place], float]
) -> tuple[float, bool]:
    """Return (value, whether the point is between measured ones): over tokens at each batch, then over batches."""
    by_batch: dict[int, tuple[float, bool]] = {}
    for size in sorted({b for b, _ in points}):
        here = sorted((c, value) for (b, c), value in points.items() if b == size)
        by_batch[size] = _along(here, tokens, lambda to, at, b=size: ratio((b, to), (b, at)))  # type: ignore[misc]
    line = [(b, value) for b, (value, _) in by_batch.items()]
    value, inside = _along(line, batch, lambda to, at: ratio((to, tokens), (at, tokens)))
    used = [b for b, _ in line if b <= batch][-1:] + [b for b, _ in line if b >= batch][:1]
    return value, inside and all(by_batch[b][1] for b in used)


def _along(line: list[tuple[int, float]], x: int, ratio: Callable[[int, int], float]) -> tuple[float, bool]:
    xs = [at for at, _ in line]
    k = bisect.bisect_left(xs, x)
    if k < len(xs) and xs[k] == x:
        return line[k][1], True
    if k == 0 or k == len(xs):
        at, ms = line[0] if k == 0 else line[-1]
        return ms * ratio(x, at), False
    (x0, y0), (x1, y1) = line[k - 1], line[k]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0), True
