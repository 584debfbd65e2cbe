"""A curve through the layer times of one node: t(batch, context), and how far the measured points lie from it.

Time is a sum of what does not change, what each sequence adds, what each cached token of each sequence adds, and (with
routed experts) the experts that a batch wakes up; none of these is negative. Coefficients minimise relative errors.
Between the measured points the curve is bent to pass through them, so that a kernel that changes with the batch is not
smoothed away; the residual of the unbent curve is the doubt about everything that was not measured itself.
"""

from __future__ import annotations

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
    """What the time of one layer is a sum of. Scaled so that each is about one for one token."""
    layer = model.layer

    def terms(batch: int, tokens: int, seen: float) -> tuple[float, ...]:
        rows = batch * (tokens if phase == "prefill" else 1)
        found = (1.0, float(rows), rows * seen / 1024)
        if not layer.experts:
            return found
        return (*found, shape_touched(layer, weights, rows) / shape_touched(layer, weights, 1))

    return terms


def fit(points: dict[Place, float], terms: Terms) -> Curve | None:
    """Through points (batch, tokens) → ms, each of a layer that looks back at all its tokens. None: too few of them."""
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
