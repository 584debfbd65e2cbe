"""Estimate round trips of unmeasured pairs by fitting coordinates to the measured ones.

Each node gets a position in four dimensions and a height (its access link: paid on every path, whatever the direction);
a round trip is the distance of the two positions and both heights. Fitted in batch, on minimal round trips, to relative
errors with a Huber loss (so that a few absurd paths do not distort the rest), from several starts of which the best is
kept. Vivaldi does it one packet at a time and is less exact (bench/collecting/coordinates.py).

Each node also gets a spread: the usual relative error of the paths measured from it. numpy only; nothing here knows
members, and the caller runs it outside of the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Ints

DIMENSIONS: Final = 4
STARTS: Final = 3
STEPS: Final = 400
RESUME_STEPS: Final = 120  # from the result of a fit a minute ago
HUBER: Final = 0.2  # relative errors above this count linearly: routing changes distances by about a fifth
LEAST_MS: Final = 0.05  # below, a round trip depends more on the two programs than on the path
FIRST_RATE: Final = 0.12  # of Adam, in logarithms of the swarm's size; falls to nothing by a cosine
SPREAD_LEAST: Final = 0.03
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

    def spread_of(self, src: Ints, dst: Ints) -> Floats:
        """Return the relative spread: half of the pairs lie within this of their estimate."""
        larger: Floats = np.maximum(self.spread[src], self.spread[dst])
        return larger


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
    log_rtt = np.log(np.maximum(rtt_ms, LEAST_MS))
    known = np.bincount(src, minlength=nodes) + np.bincount(dst, minlength=nodes)
    if before is not None and len(before.height) == nodes:
        starts = [(before.place, np.log(before.height), RESUME_STEPS, FIRST_RATE / 4)]
    else:
        scale = float(np.median(rtt_ms)) if len(rtt_ms) else 1.0
        least = _least_of_each(nodes, src, dst, rtt_ms, scale)
        starts = [
            (rng.normal(0.0, scale / 2, (nodes, DIMENSIONS)), np.log(least / 4 + LEAST_MS), STEPS, FIRST_RATE)
            for _ in range(STARTS)
        ]
    fitted = [_descend(*start, src, dst, log_rtt) for start in starts]
    _, place, height = min(fitted, key=lambda each: each[0])
    error = np.abs(np.expm1(_log_estimate(place, height, src, dst) - log_rtt))
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


def _descend(
    place: Floats, log_height: Floats, steps: int, rate: float, src: Ints, dst: Ints, log_rtt: Floats
) -> tuple[float, Floats, Floats]:
    """Return (loss, place, height) after `steps` of Adam on all pairs at once."""
    nodes = len(log_height)
    scale = float(np.exp(np.median(log_rtt))) if len(log_rtt) else 1.0
    place, log_height = place / scale, log_height - np.log(scale)  # so that one rate suits both
    target = log_rtt - np.log(scale)
    moments = [np.zeros_like(each) for each in (place, place, log_height, log_height)]
    weight = 1.0 / np.maximum(1, np.bincount(src, minlength=nodes) + np.bincount(dst, minlength=nodes))
    loss = 0.0
    for step in range(1, steps + 1):
        height = np.exp(log_height)
        gap = place[src] - place[dst]
        apart = np.sqrt((gap**2).sum(-1)) + 1e-9
        estimate = apart + height[src] + height[dst]
        residual = np.log(estimate) - target
        loss = float(np.where(abs(residual) < HUBER, residual**2 / 2, HUBER * (abs(residual) - HUBER / 2)).sum())
        slope = np.clip(residual, -HUBER, HUBER) / estimate
        along = gap * (slope / apart)[:, None]
        pull = np.stack(
            [
                np.bincount(src, along[:, k], nodes) - np.bincount(dst, along[:, k], nodes)
                for k in range(place.shape[1])
            ],
            axis=1,
        )
        lift = (np.bincount(src, slope, nodes) + np.bincount(dst, slope, nodes)) * height
        now = rate * (1 + np.cos(np.pi * step / steps)) / 2
        place = place - now * _adam(moments, 0, pull * weight[:, None], step)
        log_height = log_height - now * _adam(moments, 2, lift * weight, step)
    return loss, place * scale, np.exp(log_height) * scale


def _adam(moments: list[Floats], at: int, gradient: Floats, step: int) -> Floats:
    """Return the step of Adam: each coordinate by the size of its own gradients (Kingma and Ba 2015)."""
    moments[at] = 0.9 * moments[at] + 0.1 * gradient
    moments[at + 1] = 0.99 * moments[at + 1] + 0.01 * gradient**2
    direction: Floats = moments[at] / (1 - 0.9**step) / (np.sqrt(moments[at + 1] / (1 - 0.99**step)) + 1e-8)
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
    spread: Floats = np.maximum(np.where(known >= SPREAD_PAIRS, median, max(overall, SPREAD_LEAST)), SPREAD_LEAST)
    return spread
