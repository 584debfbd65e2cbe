"""Estimate a path's loss from the recent windows of both its ends together. Pure: numbers in, numbers out.

A window has a few dozen packets: at 0.5 % it shows none or several per cent. Both ends of a path measure the same round
trips, and most windows before the newest one are of the same state of the path. Which ones is not known: the path may
have begun to lose packets, or have healed. So all ways to cut the windows into runs of one loss rate each are weighed
(Barry & Hartigan, JASA 88, 1993), and the rate now is a mixture over the possible lengths of the last run.

    a run     either nothing is ever lost, or the rate has the prior of Jeffreys, Beta(½, ½), with equal chances
    a change  one in CHANGES windows, before anything is seen
    a run has two windows at least: losses come in bursts, so one window alone is no change

The mixture is handed on as mean and effective number of packets: a Beta(mean · packets, (1 − mean) · packets) has its
mean and variance.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Ints

MIN_WINDOWS: Final = 2  # of a run
CHANGES: Final = 64  # windows from one change to the next, before anything is seen: as many as are kept of a path
NO_LOSS: Final = 1e-6  # a mean below it makes no difference to anything
_AT_ONCE: Final = 64  # paths whose runs are weighed together: some 6 MB
_SHIFT: Final = 8  # arguments that Stirling's series is used from: its error is below 1e-10 there


def pooled(lost: Ints, sent: Ints) -> tuple[Floats, Floats]:
    """Return (loss now, effective packets) of paths: each a row of windows of round trips, oldest first. `sent` is 0
    of the first ones where there are fewer; a path with none has NaN and 0."""
    shares, packets = np.full(len(sent), np.nan), np.zeros(len(sent))
    some = sent.sum(axis=1) > 0
    clean = some & ~lost.any(axis=1)
    shares[clean], packets[clean] = 0.0, sent[clean].sum(axis=1)
    lossy = np.flatnonzero(some & ~clean)
    for first in range(0, len(lossy), _AT_ONCE):
        rows = lossy[first : first + _AT_ONCE]
        shares[rows], packets[rows] = _mixed(lost[rows].astype(np.float64), sent[rows].astype(np.float64))
    return shares, packets


def loss_error(share: Floats | float, packets: Floats | float) -> Floats:
    """Return the standard deviation of a pooled loss."""
    share, packets = np.asarray(share), np.asarray(packets)
    return np.asarray(np.sqrt(share * (1 - share) / (packets + 1)))


def _mixed(lost: Floats, sent: Floats) -> tuple[Floats, Floats]:
    if sent.shape[1] < MIN_WINDOWS:
        lost, sent = (np.concatenate((np.zeros_like(each), each), axis=1) for each in (lost, sent))
    weight = _last_runs(lost, sent)
    last_lost, last_sent = (np.cumsum(each[:, ::-1], axis=1)[:, ::-1] for each in (lost, sent))
    some = last_lost > 0
    losing = np.where(some, 1.0, 1 - _clean_share(last_sent))  # the chance that a run loses at all
    a = last_lost + 0.5
    n = last_sent + 1.0
    mean = a / n
    square = mean * (a + 1) / (n + 1)
    first, second = (np.sum(weight * losing * each, axis=1) for each in (mean, square))
    nothing = first < NO_LOSS
    variance = np.maximum(second - first**2, 1e-300)
    packets = np.maximum(first * (1 - first) / variance - 1, 1.0)
    return np.where(nothing, 0.0, first), np.where(nothing, np.sum(weight * last_sent, axis=1), packets)


def _last_runs(lost: Floats, sent: Floats) -> Floats:
    """Return (paths, windows): the chance that the last run began with each window."""
    paths, count = sent.shape
    none = np.zeros((paths, 1))
    total_lost: Floats = np.concatenate((none, np.cumsum(lost, axis=1)), axis=1)
    total_sent: Floats = np.concatenate((none, np.cumsum(sent, axis=1)), axis=1)
    change, stay = np.log(1 / CHANGES), np.log1p(-1 / CHANGES)
    blank = (sent == 0).sum(axis=1)  # windows that there are not
    before = np.full((paths, count + 1), -np.inf)  # log chance of the first windows, and that a run ends with them
    before[np.arange(paths), blank] = 0.0
    few = count - blank < MIN_WINDOWS
    before[few, :] = -np.inf
    before[few, max(count - MIN_WINDOWS, 0)] = 0.0  # they are one run
    weight = np.zeros((paths, count))
    for end in range(MIN_WINDOWS, count + 1):
        starts = np.arange(end - MIN_WINDOWS + 1)
        run_lost = total_lost[:, end, None] - total_lost[:, starts]
        run_sent = total_sent[:, end, None] - total_sent[:, starts]
        runs = before[:, starts] + _log_chance(run_lost, run_sent) + (end - starts - 1) * stay + change
        highest = np.maximum(runs.max(axis=1, keepdims=True), -1e300)
        with np.errstate(divide="ignore"):
            ends = highest + np.log(np.exp(runs - highest).sum(axis=1, keepdims=True))
        before[:, end] = np.fmax(before[:, end], ends[:, 0])
        if end == count:
            weight[:, : runs.shape[1]] = np.exp(runs - ends)
    return weight


def _log_chance(lost: Floats, sent: Floats) -> Floats:
    """Return the log chance of a run's losses, in a given order, over its two priors."""
    jeffreys = _log_gamma(lost + 0.5) + _log_gamma(sent - lost + 0.5) - _log_gamma(sent + 1.0) - np.log(np.pi)
    return np.asarray(np.where(lost > 0, jeffreys, np.log1p(np.exp(jeffreys))) - np.log(2))


def _clean_share(sent: Floats) -> Floats:
    """Return the chance that a run which lost none of its packets never loses any."""
    none = _log_gamma(sent + 0.5) - _log_gamma(sent + 1.0) - 0.5 * np.log(np.pi)
    return np.asarray(1 / (1 + np.exp(none)))


def _log_gamma(x: Floats) -> Floats:
    """Return ln Γ(x) of x ≥ ½, by Stirling's series."""
    below = np.ones_like(x)
    for step in range(_SHIFT):
        below = below * np.where(x + step < _SHIFT, x + step, 1.0)
    z = np.where(x < _SHIFT, x + np.ceil(_SHIFT - x), x)
    series = 1 / (12 * z) - 1 / (360 * z**3) + 1 / (1260 * z**5) - 1 / (1680 * z**7)
    return np.asarray((z - 0.5) * np.log(z) - z + 0.5 * np.log(2 * np.pi) + series - np.log(below))
