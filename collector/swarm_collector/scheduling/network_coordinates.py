"""Estimate round trips of unmeasured pairs by fitting coordinates to the measured ones.

Each node gets a position in four dimensions and a height (its access link: paid on every path, whatever the direction);
a round trip is the distance of the two positions and both heights. Fitted in batch, on minimal round trips, to relative
errors with a Huber loss (so that a few absurd paths do not distort the rest), in a small swarm from several starts of
which the best is kept. Positions are drawn to the middle and heights to the usual one, as strongly as their spread in
a swarm tells: a node with five measured pairs has as many figures of its own, which would suit those five alone.
Vivaldi does it one packet at a time and is less exact (bench/collecting/coordinates.py).
Where there are more pairs than a step needs, each step takes another part of them.

Each node also gets a spread: the usual relative error of the paths measured from it. numpy only; nothing here knows
members, and the caller runs it outside of the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.snapshot.estimates.unmeasured_pairs import HEIGHT_PRIOR, place_prior
from swarm_protocol.snapshot.swarm import Floats, Ints

DIMENSIONS: Final = 4
STARTS: Final = 3
# Nodes above which one start is enough: of 1,000 to 10,000 nodes with 16 to 20 random pairs each, the errors of three
# starts were the same within a fiftieth. With three, the first fit of 10,000 took 2.5 s of CPU instead of 0.8.
ONE_START_ABOVE: Final = 1_000
STEPS: Final = 400
RESUME_STEPS: Final = 120  # from the result of a fit a minute ago
HUBER: Final = 0.2  # relative errors above this count linearly: routing changes distances by about a fifth
MIN_MS: Final = 0.05  # below, a round trip depends more on the two programs than on the path
# Pairs of one step. Of 10,000 nodes with 200,000 pairs, steps of all of them take five times as long as of these, for
# errors of 3.26 % (these: 3.23; half of these: 3.44, a quarter: 6.3).
STEP_PAIRS_A_NODE: Final = 4
MIN_STEP_PAIRS: Final = 1 << 14
FIRST_RATE: Final = 0.12  # of Adam, in logarithms of the swarm's size; falls to nothing by a cosine
MIN_SPREAD: Final = 0.03
SPREAD_PAIRS: Final = 4  # fewer measured paths than this: a node's spread is the swarm's


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Coordinates of nodes 0 to n − 1, in ms."""

    place: Floats  # (n, DIMENSIONS)
    height: Floats  # (n,), above 0
    spread: Floats  # (n,): median relative error of what was measured from or to the node
    known: Ints  # (n,): in how many measured pairs; 0: its position means nothing

    def rtt_ms(self, src: Ints, dst: Ints) -> Floats:
        """Return estimates for pairs, in the shape of `src`."""
        apart = np.sqrt(((self.place[src] - self.place[dst]) ** 2).sum(-1))
        estimated: Floats = apart + self.height[src] + self.height[dst]
        return estimated


def fit(
    nodes: int,
    src: Ints,
    dst: Ints,
    rtt_ms: Floats,
    rng: np.random.Generator,
    *,
    before: Coordinates | None = None,
) -> Coordinates:
    """Fit measured pairs (undirected; each once or twice). `before`: an earlier fit of these nodes, to begin with."""
    log_rtt = np.log(np.maximum(rtt_ms, MIN_MS))
    known = np.bincount(src, minlength=nodes) + np.bincount(dst, minlength=nodes)
    if before is not None and len(before.height) == nodes:
        starts = [(before.place, np.log(before.height), RESUME_STEPS, FIRST_RATE / 4)]
    else:
        scale = float(np.median(rtt_ms)) if len(rtt_ms) else 1.0
        least = _least_of_each(nodes, src, dst, rtt_ms, scale)
        starts = [
            (rng.normal(0.0, scale / 2, (nodes, DIMENSIONS)), np.log(least / 4 + MIN_MS), STEPS, FIRST_RATE)
            for _ in range(STARTS if nodes <= ONE_START_ABOVE else 1)
        ]
    parts = _parts(nodes, src, dst, log_rtt, rng)
    prior = place_prior(np.exp(log_rtt))
    fitted = [_descend(*start, parts, prior) for start in starts]
    errors = [_log_estimate(place, height, src, dst) - log_rtt for place, height in fitted]
    best = min(range(len(fitted)), key=lambda k: float(_huber(errors[k]).sum()))
    place, height = fitted[best]
    error = np.abs(np.expm1(errors[best]))
    return Coordinates(place, height, _spread(nodes, src, dst, error, known), known)


def _least_of_each(nodes: int, src: Ints, dst: Ints, rtt_ms: Floats, default: float) -> Floats:
    least = np.full(nodes, np.inf)
    np.minimum.at(least, src, rtt_ms)
    np.minimum.at(least, dst, rtt_ms)
    return np.where(np.isfinite(least), least, default)


def _log_estimate(place: Floats, height: Floats, src: Ints, dst: Ints) -> Floats:
    apart = np.sqrt(((place[src] - place[dst]) ** 2).sum(-1))
    found: Floats = np.log(apart + height[src] + height[dst])
    return found


def _huber(residual: Floats) -> Floats:
    away = np.abs(residual)
    loss: Floats = np.where(away < HUBER, away**2 / 2, HUBER * (away - HUBER / 2))
    return loss


@dataclass(frozen=True, slots=True)
class _Part:
    """Pairs of one step."""

    src: Ints
    dst: Ints
    log_rtt: Floats
    weight: Floats  # (n,): one over each node's number of pairs


def _parts(nodes: int, src: Ints, dst: Ints, log_rtt: Floats, rng: np.random.Generator) -> list[_Part]:
    """Deal the pairs at random to the parts that steps take in turn; one part if there are few."""
    count = max(1, len(src) // max(MIN_STEP_PAIRS, STEP_PAIRS_A_NODE * nodes))
    # each node's steps are as long in every part, although it has more pairs in one than in another
    weight = count / np.maximum(1, np.bincount(src, minlength=nodes) + np.bincount(dst, minlength=nodes))
    if count == 1:
        return [_Part(src, dst, log_rtt, weight)]
    # each in the order in which the pairs came, by node: their figures lie closer together
    dealt = map(np.sort, np.array_split(rng.permutation(len(src)), count))
    return [_Part(src[some], dst[some], log_rtt[some], weight) for some in dealt]


def _descend(
    place: Floats, log_height: Floats, steps: int, rate: float, parts: list[_Part], prior: float
) -> tuple[Floats, Floats]:
    """Return (place, height) after `steps` of Adam, each on the next part of the pairs. `prior`: of places, per ms²."""
    nodes = len(log_height)
    first = parts[0].log_rtt
    scale = float(np.exp(np.median(first))) if len(first) else 1.0
    # A row for each dimension, and one for the heights: numpy needs a third of the time for whole rows that it needs
    # for columns of four. Relative to `scale`, so that one rate suits both.
    at = np.vstack((place.T / scale, log_height - np.log(scale)))
    gradient, moments = np.empty_like(at), (np.zeros_like(at), np.zeros_like(at))
    places, heights = slice(0, -1), len(at) - 1
    for step in range(1, steps + 1):
        part = parts[step % len(parts)]
        src, dst = part.src, part.dst
        height = np.exp(at[heights])
        gaps = [row.take(src) - row.take(dst) for row in at[places]]
        apart = np.sqrt(sum(gap * gap for gap in gaps)) + 1e-9
        estimate = apart + height.take(src) + height.take(dst)
        residual = np.log(estimate) - (part.log_rtt - np.log(scale))
        slope = np.minimum(np.maximum(residual, -HUBER), HUBER) / estimate
        pull = slope / apart
        for k, gap in enumerate(gaps):
            along = gap * pull
            gradient[k] = np.bincount(src, along, nodes) - np.bincount(dst, along, nodes)
        gradient[heights] = (np.bincount(src, slope, nodes) + np.bincount(dst, slope, nodes)) * height
        gradient[places] += prior * scale**2 / len(parts) * at[places]
        gradient[heights] += HEIGHT_PRIOR / len(parts) * (at[heights] - at[heights].mean())
        gradient *= part.weight
        at -= rate * (1 + np.cos(np.pi * step / steps)) / 2 * _adam(moments, gradient, step)
    return np.ascontiguousarray(at[places].T) * scale, np.exp(at[heights]) * scale


def _adam(moments: tuple[Floats, Floats], gradient: Floats, step: int) -> Floats:
    """Return the step of Adam: each coordinate by the size of its own gradients (Kingma and Ba 2015)."""
    mean, square = moments
    mean *= 0.9
    mean += 0.1 * gradient
    square *= 0.99
    square += 0.01 * (gradient * gradient)
    direction: Floats = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
    return direction


def _spread(nodes: int, src: Ints, dst: Ints, error: Floats, known: Ints) -> Floats:
    """Return the median relative error at each node; the swarm's where a node has few measured paths."""
    overall = float(np.median(error)) if len(error) else 1.0
    both = np.concatenate((src, dst))
    order = np.lexsort((np.concatenate((error, error)), both))
    sorted_error = np.concatenate((error, error))[order]
    ends = np.cumsum(known)
    middle = ends - known + known // 2
    median = sorted_error[np.minimum(middle, max(0, len(sorted_error) - 1))] if len(error) else np.zeros(nodes)
    spread: Floats = np.maximum(np.where(known >= SPREAD_PAIRS, median, max(overall, MIN_SPREAD)), MIN_SPREAD)
    return spread
