"""Draws of message deliveries, from measured quantiles, losses and the age of each measurement.

Means add but quantiles do not, so every delivery and every layer time is drawn, and quantiles are taken of the sums.

Lost packets are drawn separately (`tcp_loss`); measured hops come without the retransmissions that they met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.cost.layer_times import DOUBT_PER_ROOT_HOUR, NS_PER_HOUR
from swarm_predict.cost.network import Links
from swarm_predict.cost.path_quantiles import LN20, P95, PROBABILITIES, at_uniform, one_way_grid, quantile_grid
from swarm_predict.cost.tcp_loss import draw_lost
from swarm_predict.forecast.access_links import late_together
from swarm_protocol.snapshot.swarm import Floats, Ints

# Uncertainty (standard deviation of the log) of a live figure. Assumptions: they widen intervals and keep medians.
DOUBT_ESTIMATED_RTT: Final = 0.15  # coordinates: 10 % median error on PlanetLab is 0.15 for a normal
DOUBT_RATE: Final = 0.05  # what uplink tests promise
DOUBT_BOUND: Final = 0.25  # one-sided: the rate is at least the bound
HOURS_MAX: Final = 24.0 * 30

FIRST_TOKEN_SHARE: Final = 4  # one draw of the first token for so many of a step: fewer figures are made of it


@dataclass(frozen=True, slots=True)
class Trip:
    """One message of one step: positions in the rows of `Links`, and the stage it reaches (None: the client)."""

    src: int
    dst: int
    size_bytes: float
    stage: int | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """Draws of deliveries, (draws, trips), and the means of their parts, (trips,)."""

    ms: Floats
    rtt_ms: Floats  # the idle path
    upload_ms: Floats  # serialisation, and what a measured hop has above the one-way trip
    jitter_ms: Floats  # all the rest: delay variation and retransmissions


def draw_trips(
    paths: Links,
    trips: Sequence[Trip],
    rng: np.random.Generator,
    draws: int,
    at_ns: int | None,
    slow_start: bool,
    share: Floats | None = None,
) -> Drawn:
    """Draw the deliveries of one step's messages, which must all be known (finite).

    `at_ns` is None for figures written by hand, which are taken as exact. `share` is from `access_share`; without it
    all messages vary independently."""
    if not trips:
        none = np.zeros(0)
        return Drawn(np.zeros((draws, 0)), none, none, none)
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    sizes = np.array([t.size_bytes for t in trips])
    least, p50 = paths.rtt_min_ms[src, dst], paths.rtt_p50_ms[src, dst]
    hop = paths.hop_known[src, dst]
    serial, slow, hop_p50 = (np.zeros(len(trips)) for _ in range(3))
    hop_grid = np.zeros((len(trips), len(PROBABILITIES)))
    for size in np.unique(sizes):
        of = sizes == size
        serial[of] = paths.serialisation_ms(float(size))[src[of], dst[of]]
        if slow_start:
            slow[of] = paths.slow_start_ms(float(size))[src[of], dst[of]]
        if np.any(hop[of]):
            hop_p50[of] = paths.hop_delivery_ms(float(size), paths.hop_p50_ms)[src[of], dst[of]]
    if np.any(hop):
        hop_grid = _hop_grid(paths, src, dst, sizes, hop)
    grid = quantile_grid(least, p50, paths.rtt_p95_ms[src, dst], paths.rtt_p99_ms[src, dst], paths.jitter_ms[src, dst])
    pairs = [(trip.src, trip.dst) for trip in trips]
    uniform = rng.random((draws, len(trips))) if share is None else late_together(share, pairs, rng, draws)
    oneway = at_uniform(one_way_grid(grid), uniform)
    serials = np.broadcast_to(serial + slow, oneway.shape)
    if at_ns is not None:
        oneway, serials = _doubted(paths, src, dst, oneway, serials, grid, rng, at_ns)
    ms = oneway + serials
    if np.any(hop):
        ms = np.where(hop, at_uniform(hop_grid, uniform), ms)
    idle = np.where(np.isnan(least), paths.hop_min_ms[src, dst] / 2, least / 2)
    upload = np.where(hop, np.maximum(hop_p50 - np.where(np.isnan(p50), idle, p50 / 2), 0.0), serial)
    if np.any(slow):
        idle = idle + np.where(hop, 0.0, slow)  # a window that has to be waited for is round trips
    loss = np.nan_to_num(paths.loss[src, dst], nan=0.0)
    if np.any(loss > 0):
        seen = None if at_ns is None else paths.sent[src, dst]
        ms = ms + draw_lost(loss, seen, sizes, np.where(np.isnan(p50), 2 * idle, p50), rng, draws)
    rest = np.maximum(ms.mean(axis=0) - idle - upload, 0.0)
    return Drawn(ms, idle, upload, rest)


def mirrored_normal(rng: np.random.Generator, draws: int) -> Floats:
    """Draw standard normal numbers in pairs of opposite sign.

    Their median is 0 for every seed, so a figure with symmetric noise keeps its median."""
    half = rng.standard_normal((draws + 1) // 2)
    return np.concatenate([half, -half])[:draws] if draws > 1 else np.zeros(draws)


def _hop_grid(
    paths: Links, src: Ints, dst: Ints, sizes: Floats, hop: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Floats:
    """Return quantiles of delivery by measured hops: the hop's quantiles without the acknowledgement's return."""
    none = np.full(len(sizes), np.nan)
    at = (src, dst)
    least = np.fmin(paths.hop_min_ms[at], paths.hop_p50_ms[at])
    grid = quantile_grid(least, paths.hop_p50_ms[at], paths.hop_p95_ms[at], paths.hop_p99_ms[at], none)
    out = np.zeros_like(grid)
    full = np.zeros_like(paths.hop_p50_ms)
    for k in range(grid.shape[1]):
        for size in np.unique(sizes[hop]):
            of = hop & (sizes == size)
            full[src[of], dst[of]] = grid[of, k]
            out[of, k] = paths.hop_delivery_ms(float(size), full)[src[of], dst[of]]
    return out


def _doubted(
    paths: Links,
    src: Ints,
    dst: Ints,
    oneway: Floats,
    serials: Floats,
    grid: Floats,
    rng: np.random.Generator,
    at_ns: int,
) -> tuple[Floats, Floats]:
    """Widen draws by the uncertainty of each measurement: estimates, bounds, few samples, age."""
    shape = oneway.shape
    hours = np.clip((at_ns - paths.at_ns[src, dst]) / NS_PER_HOUR, 0.0, HOURS_MAX)
    hours = np.where(paths.at_ns[src, dst] > 0, hours, 0.0)
    sigma = np.hypot(
        np.where(paths.estimated[src, dst], DOUBT_ESTIMATED_RTT, 0.0), DOUBT_PER_ROOT_HOUR * np.sqrt(hours)
    )
    spread = (grid[:, P95] - grid[:, 0]) / LN20  # the standard deviation, were it exponential
    error = spread / 2 / np.sqrt(np.maximum(paths.sent[src, dst], 1))
    wider = oneway * np.exp(sigma * rng.standard_normal(shape)) + error * rng.standard_normal(shape)
    least = grid[:, 0] / 2
    wider = np.where(paths.estimated[src, dst], np.maximum(wider, 0.0), np.maximum(wider, least))
    normal = rng.standard_normal(shape)
    faster = np.exp(-DOUBT_BOUND * np.abs(normal))
    factor = np.where(paths.rate_bound[src, dst], faster, np.exp(DOUBT_RATE * normal))
    return wider, serials * factor
