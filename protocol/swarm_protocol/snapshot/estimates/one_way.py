"""Estimate one-way delays from the STAMP stamps of all pairs together. Pure: numbers in, numbers out.

A window of round trips i → j gives the least T2 − T1 and the least T4 − T3 by the two ends' clocks. Half of their
difference, the skew, is

    skew(i, j) = asymmetry(i, j) + clock(j) − clock(i),    asymmetry(i, j) = (delay(i → j) − delay(j → i)) / 2

Offset and drift of each clock are unknowns. Around a closed loop the clocks cancel, so the sum of delays around any
loop is exact, whatever is assumed. Which direction of a single path is the slower one is not: it is known up to a shift
of each node's clock. That shift is chosen by least squares: paths are taken to be as symmetric as the loops allow, in
proportion to their round trips, with outliers counted less (Huber), and no delay is below 0 or above the round trip.

Windows are filtered as NTP does (RFC 5905 §10): of the latest HISTORY ones those with the lowest round trips count
most, and those that the newest one contradicts (another route, a clock that was set) are dropped.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from swarm_protocol.snapshot.swarm import Floats, Ints
from swarm_protocol.units import NS_PER_S

HISTORY: Final = 8  # RFC 5905: stages of the clock filter
PAIR_AGE_S: Final = 600.0  # older windows, counted from the newest one, say nothing about the clocks now
DRIFT_PPM: Final = 100.0  # crystals without discipline differ by less
NOISE_MS: Final = 0.05  # of a window's least stamps, where the kernel takes them
CHANGED_SHARE: Final = 0.1  # of the round trip: a window that differs from the newest by more took another route
CHANGED_MS: Final = 1.0
USUAL_ASYMMETRY: Final = 0.1  # of a round trip, standard deviation: assumed until loops say more
USUAL_WEIGHT: Final = 3.0  # the assumption counts like so many loops
HUBER: Final = 1.0  # standard deviations from which a path counts less
ROUNDS: Final = 12  # of re-weighting
OUTSIDE_WEIGHT: Final = 1e3  # of a delay that would lie outside 0 … round trip, against the same path's symmetry
SOLVER_STEPS: Final = 400

Mask = npt.NDArray[np.bool_]


class Windows(msgspec.Struct, frozen=True):
    """Windows of round trips, one row each, in any order."""

    src: Ints
    dst: Ints
    at_ns: Ints
    skew_ms: Floats
    rtt_ms: Floats  # least

    def __len__(self) -> int:
        return len(self.src)


class OneWay(msgspec.Struct, frozen=True):
    """One row for each pair, `low` < `high`."""

    low: Ints
    high: Ints
    out_ms: Floats  # low → high
    back_ms: Floats
    error_ms: Floats  # standard deviation of either; their sum, and sums around loops, are surer than this


def estimate(nodes: int, windows: Windows) -> OneWay:
    """Estimate the delays of every recently measured pair. `nodes`: how many rows `windows` may refer to."""
    if not len(windows):
        none = np.zeros(0)
        return OneWay(none.astype(np.int64), none.astype(np.int64), none, none, none)
    turned = windows.src > windows.dst
    low, high = np.minimum(windows.src, windows.dst), np.maximum(windows.src, windows.dst)
    skew = np.where(turned, -windows.skew_ms, windows.skew_ms)
    keys, pair = np.unique(low * nodes + high, return_inverse=True)
    # by what they are, not by when they came: both ends may send a window of the same moment
    order = np.lexsort((skew, windows.rtt_ms, windows.at_ns, pair))
    pair, at_ns, skew, rtt = pair[order], windows.at_ns[order], skew[order], windows.rtt_ms[order]
    at_s = (at_ns - at_ns.max()) / NS_PER_S
    low, high = keys // nodes, keys % nodes

    kept = _filter(pair, at_s, skew, rtt)
    pair, at_s, skew, rtt = pair[kept], at_s[kept], skew[kept], rtt[kept]
    least = _least(pair, len(keys), rtt)
    weight = 1 / (NOISE_MS + (rtt - least[pair]) / 2) ** 2
    drift = _drift(nodes, low, high, pair, at_s, skew, weight)  # ms a second

    moved = skew - (drift[high] - drift[low])[pair] * at_s  # what the window would show now
    mean = _sum(pair, len(keys), weight * moved) / _sum(pair, len(keys), weight)
    last_s = np.full(len(keys), -np.inf)
    np.maximum.at(last_s, pair, at_s)
    fresh = last_s >= -PAIR_AGE_S
    low, high, mean, least = low[fresh], high[fresh], mean[fresh], least[fresh]
    usual = np.maximum(USUAL_ASYMMETRY * least, NOISE_MS)
    clock, share = _clocks(nodes, low, high, mean, least, usual)
    asymmetry = np.clip(mean - (clock[high] - clock[low]), -least / 2, least / 2)
    degree = _sum(low, nodes, 1 / usual**2) + _sum(high, nodes, 1 / usual**2)
    gauge = np.minimum(1 / degree[low] + 1 / degree[high], usual**2)
    error = np.minimum(share * np.sqrt(gauge), least / np.sqrt(12))  # at most: anywhere within the round trip
    return OneWay(low, high, least / 2 + asymmetry, least / 2 - asymmetry, error)


def _filter(pair: Ints, at_s: Floats, skew: Floats, rtt: Floats) -> Mask:
    """Drop windows that the newest one of their pair, the last of it, contradicts."""
    newest = np.searchsorted(pair, pair, side="right") - 1
    apart_s = at_s[newest] - at_s
    noise = np.maximum(CHANGED_MS, CHANGED_SHARE * rtt[newest])
    same_route = np.abs(rtt - rtt[newest]) <= noise
    same_clock = np.abs(skew - skew[newest]) <= noise + 2 * DRIFT_PPM * 1e-3 * apart_s
    return np.asarray(same_route & same_clock)


def _drift(nodes: int, low: Ints, high: Ints, pair: Ints, at_s: Floats, skew: Floats, weight: Floats) -> Floats:
    """Return the drift of each clock in ms a second, against their mean: slopes of all pairs by least squares, shrunk
    towards 0 where the windows span too little time."""
    pairs = len(low)
    total = _sum(pair, pairs, weight)
    mean_s, mean = _sum(pair, pairs, weight * at_s) / total, _sum(pair, pairs, weight * skew) / total
    spread = at_s - mean_s[pair]
    known = _sum(pair, pairs, weight * spread**2)
    slope = _sum(pair, pairs, weight * spread * (skew - mean[pair])) / np.where(known > 0, known, 1)
    towards_zero = np.full(nodes, (DRIFT_PPM * 1e-3) ** -2)
    return _solve(nodes, low, high, slope, known, towards_zero, np.zeros(nodes))


def _clocks(nodes: int, low: Ints, high: Ints, skew: Floats, rtt: Floats, usual: Floats) -> tuple[Floats, float]:
    """Return (offset of each clock, asymmetry found in loops as a multiple of `usual`)."""
    clock, half = np.zeros(nodes), rtt / 2
    none = np.zeros(nodes)
    weight, target = usual**-2, skew
    loops = max(0, len(low) - _joined(nodes, low, high))
    for _ in range(ROUNDS):
        clock = _solve(nodes, low, high, target, weight, none, clock)
        left = skew - (clock[high] - clock[low])
        outside = np.abs(left) > half
        weight = np.where(outside, OUTSIDE_WEIGHT, 1 / np.maximum(1, np.abs(left) / usual / HUBER)) / usual**2
        target = np.where(outside, skew - np.copysign(half, left), skew)
    clock = _within(nodes, low, high, half + skew, half - skew, clock)
    left = np.abs(skew - (clock[high] - clock[low])) / usual
    found = (USUAL_WEIGHT + float(np.sum(left**2))) / (USUAL_WEIGHT + loops)
    return clock, float(np.sqrt(found))


def _within(nodes: int, low: Ints, high: Ints, out: Floats, back: Floats, clock: Floats) -> Floats:
    """Return the nearest offsets below `clock` with which no delay is negative: clock(j) ≤ clock(i) + stamped(i → j),
    by shortest paths (Bellman and Ford). They exist where no loop of stamps is negative, which noise alone can make
    it."""
    for _ in range(nodes):
        after = clock.copy()
        np.minimum.at(after, high, clock[low] + out)
        np.minimum.at(after, low, clock[high] + back)
        if np.array_equal(after, clock):
            break
        clock = after
    return clock


def _joined(nodes: int, low: Ints, high: Ints) -> int:
    """Count the pairs of a spanning forest: every further pair closes a loop."""
    group = np.arange(nodes)
    while True:
        least = np.minimum(group[low], group[high])
        after = group.copy()
        np.minimum.at(after, low, least)
        np.minimum.at(after, high, least)
        if np.array_equal(after, group):
            break
        group = after
    named = np.unique(np.concatenate((low, high)))
    return len(named) - len(np.unique(group[named]))


def _solve(nodes: int, low: Ints, high: Ints, value: Floats, weight: Floats, ridge: Floats, start: Floats) -> Floats:
    """Return the node figures x that minimise Σ weight · (value − (x[high] − x[low]))² + Σ ridge · x², of mean 0 in
    each part of the graph that `start` has mean 0 in. Conjugate gradients with a diagonal preconditioner: pairs are few
    of n²."""

    def gradient(flow: Floats) -> Floats:
        return _sum(high, nodes, flow) - _sum(low, nodes, flow)

    diagonal = _sum(high, nodes, weight) + _sum(low, nodes, weight) + ridge
    inverse = 1 / np.where(diagonal > 0, diagonal, 1)
    x = start.copy()
    residual = gradient(weight * (value - (x[high] - x[low]))) - ridge * x
    z = inverse * residual
    step = z.copy()
    rho = float(residual @ z)
    enough = 1e-20 * max(float(gradient(weight * value) @ (inverse * gradient(weight * value))), 1e-30)
    for _ in range(min(SOLVER_STEPS, 4 * nodes + 8)):
        if rho <= enough:
            break
        along = gradient(weight * (step[high] - step[low])) + ridge * step
        x = x + (rho / float(step @ along)) * step
        residual = residual - (rho / float(step @ along)) * along
        z = inverse * residual
        rho, before = float(residual @ z), rho
        step = z + (rho / before) * step
    return x


def _sum(at: Ints, count: int, values: Floats) -> Floats:
    return np.bincount(at, values, count).astype(np.float64)


def _least(at: Ints, count: int, values: Floats) -> Floats:
    least = np.full(count, np.inf)
    np.minimum.at(least, at, values)
    return least
