"""Estimate the round trips of unmeasured pairs from coordinates and from what was measured nearby.

Coordinates miss what routing adds: a detour that packets take between two regions is the same for every pair of nodes
in them. So the estimate of a pair is corrected by the residuals (logarithm of measured over estimated) of measured
pairs whose ends are near its own ends, weighted by exp(−distance / bandwidth) at both ends and drawn towards none
(Nadaraya 1964, Watson 1964, over both ends). Bandwidth and draw are chosen by leave-one-out error, so nothing is tuned
to one network.

A pair's interval is as wide as the residuals of measured pairs that are estimated without themselves, times two things
that distinguish pairs: how much was measured near it (with nothing nearby the error of the coordinates remains), and
how well the measured pairs of both ends determine their places (their leverage: a node with five pairs has as many
parameters, of which the priors are those that the coordinates were fitted with). The same leverage makes the residuals
of measured pairs as large as they would be without themselves. Where few pairs are measured, their residuals say
little: the usual error of coordinates counts beside them, and the interval is Student's instead of the normal's. Pure,
numpy only.
"""

from __future__ import annotations

import math
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
_NORMAL: Final = 1.645  # half of its width, of a normal with the deviation 1
FREEDOM: Final = 1.1  # a parameter counts for more than one: the fit chooses among arrangements of the nodes
MAX_LEVERAGE: Final = 0.95  # of a pair whose ends have fewer pairs than parameters
USUAL_RESIDUAL: Final = 0.1  # of coordinates between hosts of the internet (8 to 11 % in published matrices)
USUAL_PAIRS: Final = 4  # that this counts for, beside the residuals' degrees of freedom: networks differ by a half
PLACE_SPREAD: Final = 0.2  # of places, along each dimension, in long round trips: the prior of the fit
LONG: Final = 0.75  # quantile: of round trips half of which are to the nearest nodes, the median of the others
HEIGHT_SPREAD: Final = 1.0  # of heights, in logarithms
HEIGHT_PRIOR: Final = (USUAL_RESIDUAL / HEIGHT_SPREAD) ** 2  # beside 1 for a measured pair
EXACT: Final = 1e-4  # the least residual: round trips are not measured better than that
WIDEST: Final = 3.0  # half of the widest interval, in logarithms: a factor of 20
SHRINK_PAIRS: Final = 4  # of the whole swarm's error are in the error of each node
_SEED: Final = 1
_TINY: Final = 1e-12
_Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PairEstimates:
    """Estimates of all pairs of n nodes."""

    rtt_ms: _Matrix  # (n, n), symmetric
    half_width: _Matrix  # (n, n): of the interval, in logarithms

    def interval_of(self, src: Ints, dst: Ints) -> tuple[Floats, Floats]:
        """Return (low, high) in ms; COVERED of the pairs lie between. In the shape of `src`."""
        factor = self.factor_of(src, dst)
        estimate = self.rtt_ms[src, dst].astype(np.float64)
        return estimate / factor, estimate * factor

    def factor_of(self, src: Ints, dst: Ints) -> Floats:
        """Return by what factor the ends of the interval are above and below the estimate."""
        factor: Floats = np.exp(self.half_width[src, dst].astype(np.float64))
        return factor


def estimate_pairs(place: Floats, height: Floats, src: Ints, dst: Ints, rtt_ms: Floats) -> PairEstimates | None:
    """Estimate every pair. `place` (n, dimensions) and `height` (n,) in ms; the measured pairs once each, above 0 ms.
    None: nothing is measured."""
    if not len(src):
        return None
    nodes = len(height)
    apart = _apart(place)
    estimate = apart + height[:, None].astype(np.float32) + height[None].astype(np.float32)
    residual = np.log(rtt_ms / estimate[src, dst])
    most = ABSURD * float(np.median(np.abs(residual)))
    near = _Neighbours.of(apart, height)
    field = _Field(nodes, src, dst, np.clip(residual, -most, most))
    bandwidth, draw = _chosen(near, field, src, dst, residual, float(np.median(rtt_ms)))
    weight = near.weights(bandwidth)
    places = _Places.of(place, height, src, dst, place_prior(rtt_ms))
    freedom = 1 - places.leverage(src, dst)
    correction, unknown = field.without(near.rows, weight, draw, src, dst)
    before, left = (np.abs(each) / np.sqrt(freedom) for each in (residual, residual - correction))
    least = _least_variance(before, left, unknown)
    left = np.maximum(left / np.sqrt(least + (1 - least) * unknown), EXACT)
    error = _error_of_nodes(nodes, src, dst, left)
    width = float(np.quantile(2 * left / (error[src] + error[dst]), COVERED))
    width *= _with_usual(float(left.mean()), float(freedom.sum()))
    corrections, unknown_everywhere = field.smoothed(near.rows, weight, draw)
    variance = (least + (1 - least) * unknown_everywhere) / (1 - places.leverage_of_unmeasured())
    half_width = width * (error[:, None] + error[None]) / 2 * np.sqrt(variance)
    return PairEstimates(estimate * np.exp(corrections), np.minimum(half_width, WIDEST).astype(np.float32))


def place_prior(rtt_ms: Floats) -> float:
    """Return how much the prior of a place counts beside 1 for a measured pair, per ms² from the middle."""
    return float((USUAL_RESIDUAL / (PLACE_SPREAD * max(np.quantile(rtt_ms, LONG), _TINY))) ** 2) if len(rtt_ms) else 0.0


def _least_variance(before: Floats, left: Floats, unknown: Floats) -> float:
    """Return the variance of a pair with much measured nearby, as a share of that of one with nothing nearby.
    `before`, `left`: sizes of the residuals without and with corrections; `unknown`: share of the draw in each."""
    share = (float(left.mean()) / max(float(before.mean()), _TINY)) ** 2
    usual = float(unknown.mean())
    return float(np.clip((share - usual) / max(1 - usual, _TINY), 0.0, 1.0))


def _with_usual(size: float, freedom: float) -> float:
    """Return by what factor an interval is wider than residuals of this mean size tell: the usual size counts for some
    pairs (scaled inverse χ²), and so many in all leave the size uncertain (Student's t, to the first order)."""
    pairs = freedom + USUAL_PAIRS
    student = 1 + (_NORMAL**2 + 1) / (4 * pairs)
    return math.sqrt((USUAL_PAIRS * USUAL_RESIDUAL**2 + freedom * size**2) / pairs) / size * student


@dataclass(frozen=True, slots=True)
class _Places:
    """How well the measured pairs of each node determine its place and height: the posterior covariance of these, the
    other nodes being where they are, in units of a residual's variance. The prior is that of the fit."""

    place: Floats
    height: Floats
    covariance: Floats  # (n, parameters, parameters)

    @classmethod
    def of(cls, place: Floats, height: Floats, src: Ints, dst: Ints, prior_of_place: float) -> _Places:
        nodes, parameters = len(height), place.shape[1] + 1
        prior = np.diag([prior_of_place] * (parameters - 1) + [HEIGHT_PRIOR])
        unknown = cls(place, height, np.zeros((nodes, parameters, parameters)))
        information = np.tile(prior, (nodes, 1, 1))
        for one, other in ((src, dst), (dst, src)):
            slope = unknown._slope(one, other)
            for a in range(parameters):
                for b in range(parameters):
                    information[:, a, b] += np.bincount(one, slope[:, a] * slope[:, b], nodes)
        return cls(place, height, np.linalg.inv(information))

    def leverage(self, src: Ints, dst: Ints) -> Floats:
        """Return the share of each measured pair's own figure in the estimate of it: 1 less this is what is left of its
        residual's variance, and 1 over that the variance of an estimate made without the pair."""
        return self._share(self._variance(src, dst) + self._variance(dst, src))

    def leverage_of_unmeasured(self) -> Floats:
        """Return the same of all pairs, had each been measured too."""
        everyone = np.arange(len(self.height))
        variance = np.stack([self._variance(np.full_like(everyone, node), everyone) for node in everyone])
        share = variance / (1 + variance)
        return self._share(share + share.T)

    def _share(self, leverage: Floats) -> Floats:
        found: Floats = np.minimum(FREEDOM * leverage, MAX_LEVERAGE)
        return found

    def _variance(self, src: Ints, dst: Ints) -> Floats:
        """Return what the first end of each pair adds to the variance of the estimate's logarithm."""
        slope = self._slope(src, dst)
        found: Floats = np.einsum("pa,pab,pb->p", slope, self.covariance[src], slope)
        return found

    def _slope(self, src: Ints, dst: Ints) -> Floats:
        """Return the derivative of the logarithm of each estimate by the place of the first end and by the logarithm of
        its height."""
        gap = self.place[src] - self.place[dst]
        apart = np.sqrt((gap**2).sum(-1))
        estimate = apart + self.height[src] + self.height[dst]
        along = gap / np.maximum(apart, _TINY)[:, None]
        found: Floats = np.column_stack((along, self.height[src])) / estimate[:, None]
        return found


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

    def smoothed(self, near: Ints, weight: Floats, draw: float) -> tuple[_Matrix, _Matrix]:
        """Return (correction, share of the draw in its weights: 1 where nothing was measured nearby) of every pair."""
        value, known = (_spread(_spread(each, near, weight).T, near, weight).T for each in (self._value, self._known))
        return value / (known + np.float32(draw)), draw / (known + np.float32(draw))

    def without(self, near: Ints, weight: Floats, draw: float, src: Ints, dst: Ints) -> tuple[Floats, Floats]:
        """Return the same of these pairs from all others."""
        value, known = self.sums_without(near, weight, src, dst)
        return value / (known + draw), draw / (known + draw)

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


def _error_of_nodes(nodes: int, src: Ints, dst: Ints, left: Floats) -> Floats:
    """Return the mean error at each node, drawn towards the swarm's where few of its pairs are measured."""
    ends, both = np.concatenate((src, dst)), np.concatenate((left, left))
    count = np.bincount(ends, minlength=nodes)
    error: Floats = (np.bincount(ends, both, nodes) + SHRINK_PAIRS * left.mean()) / (count + SHRINK_PAIRS)
    return error
