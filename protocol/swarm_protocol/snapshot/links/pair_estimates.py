"""Estimate the round trips of unmeasured pairs from coordinates and from what was measured nearby.

Coordinates miss what routing adds: a detour that packets take between two regions is the same for every pair of nodes
in them. So the estimate of a pair is corrected by the residuals (logarithm of measured over estimated) of measured
pairs whose ends are near its own ends, weighted by exp(−distance / bandwidth) at both ends and drawn towards none
(Nadaraya 1964, Watson 1964, over both ends). Bandwidth and draw are chosen by leave-one-out error, so nothing is tuned
to one network.

The same residuals without itself give the interval. They are divided by 1 − leverage, because the pair itself was used
to fit the coordinates; the parameters of a node are shared evenly by its pairs. A parameter counts for more than one
(FREEDOM), because the fit is not linear: it chooses among several arrangements of the nodes the one that suits the
pairs best. Pure, numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from swarm_protocol.snapshot.swarm import Floats, Ints

NEIGHBOURS: Final = 8  # of each end, in addition to the end itself
BANDWIDTHS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)  # of the median round trip
DRAWS: Final = (0.1, 0.3, 1.0)  # weight of "no correction", beside 1 for a pair that has the same ends
TRIED: Final = 4_000  # measured pairs that bandwidth and draw are chosen by
ABSURD: Final = 5.0  # median residuals: beyond, a path says nothing about its neighbours
COVERED: Final = 0.9  # of the pairs lie within the interval
LEAST_PAIRS: Final = 2  # for each parameter of the coordinates; with fewer their residuals say little
FREEDOM: Final = 1.5  # intervals of made swarms (tests/collector/scheduling/test_survey.py) then hold what they say
MOST_LEVERAGE: Final = 0.8  # a node with as many parameters as pairs fits them all
SHRINK_PAIRS: Final = 4  # of the whole swarm's error are in the error of each node
_SEED: Final = 1
_Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PairEstimates:
    """Estimates of all pairs of n nodes."""

    rtt_ms: _Matrix  # (n, n), symmetric
    error: Floats  # (n,): mean size of the residuals of each node's pairs, each estimated without itself
    width: float  # times the mean of both ends' errors: the interval, in logarithms

    def interval_of(self, src: Ints, dst: Ints) -> tuple[Floats, Floats]:
        """Return (low, high) in ms; COVERED of the pairs lie between. In the shape of `src`."""
        factor = self.factor_of(src, dst)
        estimate = self.rtt_ms[src, dst].astype(np.float64)
        return estimate / factor, estimate * factor

    def factor_of(self, src: Ints, dst: Ints) -> Floats:
        """Return by what factor the ends of the interval are above and below the estimate."""
        factor: Floats = np.exp(self.width * (self.error[src] + self.error[dst]) / 2)
        return factor


def estimate_pairs(place: Floats, height: Floats, src: Ints, dst: Ints, rtt_ms: Floats) -> PairEstimates | None:
    """Estimate every pair. `place` (n, dimensions) and `height` (n,) in ms; the measured pairs once each, above 0 ms.
    None: too few are measured to correct anything."""
    nodes, parameters = len(height), place.size + height.size
    if len(src) < LEAST_PAIRS * parameters:
        return None
    apart = _apart(place)
    estimate = apart + height[:, None].astype(np.float32) + height[None].astype(np.float32)
    residual = np.log(rtt_ms / estimate[src, dst])
    most = ABSURD * float(np.median(np.abs(residual)))
    near = _Neighbours.of(apart, height)
    field = _Field(nodes, src, dst, np.clip(residual, -most, most))
    bandwidth, draw = _chosen(near, field, src, dst, residual, float(np.median(rtt_ms)))
    weight = near.weights(bandwidth)
    left = np.abs(residual - field.without(near.rows, weight, draw, src, dst))
    left /= 1 - _leverage(nodes, src, dst, parameters / nodes)
    error = _error_of_nodes(nodes, src, dst, left)
    width = float(np.quantile(left / np.maximum((error[src] + error[dst]) / 2, 1e-9), COVERED))
    return PairEstimates(estimate * np.exp(field.smoothed(near.rows, weight, draw)), error, width)


def _apart(place: Floats) -> _Matrix:
    """Return the distances of all pairs."""
    squares = np.zeros((len(place), len(place)), np.float32)
    for along in place.T.astype(np.float32):
        squares += (along[:, None] - along[None]) ** 2
    return np.sqrt(squares, out=squares)


@dataclass(frozen=True, slots=True)
class _Neighbours:
    rows: Ints  # (n, NEIGHBOURS + 1), the node itself first
    distance: Floats  # to each of them: of the places, and of the access links

    @classmethod
    def of(cls, apart: _Matrix, height: Floats) -> _Neighbours:
        distance = apart + np.abs(height[:, None] - height[None]).astype(np.float32)
        np.fill_diagonal(distance, -1.0)
        count = min(NEIGHBOURS + 1, len(height))
        rows = np.argpartition(distance, count - 1, axis=1)[:, :count]
        rows = np.take_along_axis(rows, np.argsort(np.take_along_axis(distance, rows, 1), axis=1), 1)
        return cls(rows, np.maximum(np.take_along_axis(distance, rows, 1), 0.0).astype(np.float64))

    def weights(self, bandwidth_ms: float) -> Floats:
        found: Floats = np.exp(-self.distance / max(bandwidth_ms, 1e-9))
        return found


class _Field:
    """The residuals of the measured pairs as a matrix, 0 if nothing was measured."""

    def __init__(self, nodes: int, src: Ints, dst: Ints, residual: Floats) -> None:
        self._value, self._known = (np.zeros((nodes, nodes), np.float32) for _ in range(2))
        for one, other in ((src, dst), (dst, src)):
            self._value[one, other] = residual
            self._known[one, other] = 1.0

    def smoothed(self, near: Ints, weight: Floats, draw: float) -> _Matrix:
        """Return the correction of every pair."""
        value, known = (_spread(_spread(each, near, weight).T, near, weight).T for each in (self._value, self._known))
        return value / (known + np.float32(draw))

    def without(self, near: Ints, weight: Floats, draw: float, src: Ints, dst: Ints) -> Floats:
        """Return the correction of these pairs from all others."""
        value, known = self.sums_without(near, weight, src, dst)
        found: Floats = value / (known + draw)
        return found

    def sums_without(self, near: Ints, weight: Floats, src: Ints, dst: Ints) -> tuple[Floats, Floats]:
        """Return (weighted residuals, weights) of the pairs around each of these, without itself."""
        value, known = np.zeros(len(src)), np.zeros(len(src))
        for a in range(near.shape[1]):
            for b in range(near.shape[1]):
                one, other = near[src, a], near[dst, b]
                itself = ((one == src) & (other == dst)) | ((one == dst) & (other == src))
                each = np.where(itself, 0.0, weight[src, a] * weight[dst, b] * self._known[one, other])
                value += each * self._value[one, other]
                known += each
        return value, known


def _spread(matrix: _Matrix, near: Ints, weight: Floats) -> _Matrix:
    """Return, for each row, the weighted sum of its neighbours' rows."""
    total = np.zeros_like(matrix)
    for k, each in enumerate(weight.T.astype(np.float32)):
        total += each[:, None] * matrix[near[:, k]]
    return total


def _chosen(
    near: _Neighbours, field: _Field, src: Ints, dst: Ints, residual: Floats, scale_ms: float
) -> tuple[float, float]:
    """Return the bandwidth in ms and the draw that leave the least error on pairs estimated without themselves."""
    some = np.random.default_rng(_SEED).permutation(len(src))[:TRIED]
    tried = {}
    for bandwidth in (share * scale_ms for share in BANDWIDTHS):
        value, known = field.sums_without(near.rows, near.weights(bandwidth), src[some], dst[some])
        for draw in DRAWS:
            tried[bandwidth, draw] = float(np.median(np.abs(residual[some] - value / (known + draw))))
    return min(tried, key=lambda each: tried[each])


def _leverage(nodes: int, src: Ints, dst: Ints, each: float) -> Floats:
    """Return how much of each pair's own figure is in the estimate that the coordinates give it. `each`: parameters of
    a node."""
    share = each / np.maximum(1, np.bincount(src, minlength=nodes) + np.bincount(dst, minlength=nodes))
    found: Floats = np.minimum(FREEDOM * (share[src] + share[dst]), MOST_LEVERAGE)
    return found


def _error_of_nodes(nodes: int, src: Ints, dst: Ints, left: Floats) -> Floats:
    """Return the mean error at each node, drawn towards the swarm's where few of its pairs are measured."""
    ends, both = np.concatenate((src, dst)), np.concatenate((left, left))
    count = np.bincount(ends, minlength=nodes)
    error: Floats = (np.bincount(ends, both, nodes) + SHRINK_PAIRS * left.mean()) / (count + SHRINK_PAIRS)
    return error
