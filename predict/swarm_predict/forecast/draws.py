"""Draw message deliveries, from measured quantiles, losses and the age of each measurement.

Means add but quantiles do not, so every delivery and every layer time is drawn, and quantiles are taken of the sums.

Lost packets are drawn separately, with the windows that they leave (`lost_packets`, `window_after_loss`);
retransmissions are removed from measured hops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.machine.layer_times import DOUBT_PER_ROOT_HOUR, NS_PER_HOUR
from swarm_predict.cost.network.bbr_pacing import after_losses_ms, startup_ended
from swarm_predict.cost.network.delivery_times import Links
from swarm_predict.cost.network.lost_packets import draw_chances, draw_lost, one_way
from swarm_predict.cost.network.path_quantiles import LN20, P95, PROBABILITIES, at_uniform, one_way_grid, quantile_grid
from swarm_predict.cost.network.window_after_loss import (
    CUBIC,
    MAX_HALVINGS,
    RENO,
    SEGMENT_BYTES,
    draw_flights,
    flights_ms,
    segments_of,
)
from swarm_predict.forecast.access_links import late_together
from swarm_protocol.snapshot.estimates.one_way import USUAL_ASYMMETRY
from swarm_protocol.snapshot.swarm import Floats, Ints

# Uncertainty (standard deviation of the log) of a live figure. Assumptions: they widen intervals and keep medians.
DOUBT_ESTIMATED_RTT: Final = 0.15  # coordinates: 10 % median error on PlanetLab is 0.15 for a normal
DOUBT_RATE: Final = 0.05  # what uplink tests promise
DOUBT_BOUND: Final = 0.25  # one-sided: the rate is at least the bound
HOURS_MAX: Final = 24.0 * 30

# one draw of the first token for so many of a step, since fewer of its figures are reported
FIRST_TOKEN_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class Trip:
    """One message of one step: positions in the rows of `Links`, and the stage it reaches (None: the client)."""

    src: int
    dst: int
    size_bytes: float
    stage: int | None
    packets: int = 0  # small packets that it sends besides full ones: TCP's window counts packets

    @property
    def window_bytes(self) -> float:
        """Return how much of TCP's window it takes."""
        return self.size_bytes + self.packets * SEGMENT_BYTES


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
    rest_ms: Floats | float = 0.0,
) -> Drawn:
    """Draw the deliveries of one step's messages, which must all be known (finite).

    `at_ns` is None for figures written by hand, which are taken as exact, unless they are estimates from cities.
    `share` is from `access_share`; without it all messages vary independently. `rest_ms`: since the connection of each
    message last sent; it counts where losses limit the window (elsewhere `Links.restart_ms` says what it costs)."""
    if not trips:
        none = np.zeros(0)
        return Drawn(np.zeros((draws, 0)), none, none, none)
    src, dst = np.array([t.src for t in trips]), np.array([t.dst for t in trips])
    sizes = np.array([t.size_bytes for t in trips])
    least, p50 = paths.rtt_min_ms[src, dst], paths.rtt_p50_ms[src, dst]
    hop, limited = paths.hop_known[src, dst], paths.limited_by_loss[src, dst]
    serial, slow, hop_p50 = (np.zeros(len(trips)) for _ in range(3))
    hop_grid = np.zeros((len(trips), len(PROBABILITIES)))
    for size in np.unique(sizes):
        of = sizes == size
        serial[of] = paths.serialisation_ms(float(size))[src[of], dst[of]]
        slow[of] = paths.pacing_ms(float(size))[src[of], dst[of]]
        if slow_start:
            slow[of] += np.where(limited[of], 0.0, paths.slow_start_ms(float(size))[src[of], dst[of]])
        if np.any(hop[of]):
            hop_p50[of] = paths.hop_delivery_ms(float(size), paths.hop_p50_ms)[src[of], dst[of]]
    if np.any(hop):
        hop_grid = _hop_grid(paths, src, dst, sizes, hop)
    grid = quantile_grid(least, p50, paths.rtt_p95_ms[src, dst], paths.rtt_p99_ms[src, dst], paths.jitter_ms[src, dst])
    pairs = [(trip.src, trip.dst) for trip in trips]
    uniform = rng.random((draws, len(trips))) if share is None else late_together(share, pairs, rng, draws)
    ways = one_way_grid(grid) + paths.asymmetry_ms[src, dst][:, None]
    oneway = at_uniform(ways, uniform)
    slower: Floats | float = 1.0
    if at_ns is not None or np.any(paths.estimated[src, dst]):
        oneway, slower = _doubted(paths, src, dst, oneway, grid, rng, at_ns)
    ms = oneway + (serial + slow) * slower
    if np.any(hop):
        ms = np.where(hop, at_uniform(hop_grid, uniform), ms)
    idle = np.where(np.isnan(least), paths.hop_min_ms[src, dst] / 2, ways[:, 0])
    upload = np.where(hop, np.maximum(hop_p50 - paths.hop_oneway_ms()[src, dst], 0.0), serial)
    if np.any(slow):
        idle = idle + np.where(hop, 0.0, slow)  # waiting for a window takes round trips
    loss = np.nan_to_num(paths.loss[src, dst], nan=0.0)
    of_losses = rng.spawn(1)[0]  # numbers of its own: all others are the same with and without losses
    if np.any(loss > 0):
        seen = None if at_ns is None else paths.loss_of[src, dst]
        chance = draw_chances(loss, seen, pairs_of(paths, src, dst), of_losses, draws)
        rtt = np.where(np.isnan(p50), 2 * idle, p50)
        halvings = paths.halvings(src, dst, rest_ms)
        if slow_start:
            halvings = np.where(hop, halvings, MAX_HALVINGS)
        segments = segments_of(np.array([t.window_bytes for t in trips]))
        flights = drawn_flights(chance, segments, halvings, limited, paths.reno[src], of_losses)
        rate = paths.rate_mbps[src, dst] / slower
        ms = ms + draw_lost(chance, sizes, rtt, of_losses, flights, rate) + flights_ms(flights, sizes, rtt, rate)
        if np.any(slowed := paths.slowed_by_loss[src, dst]):
            ended = of_losses.random(chance.shape) < startup_ended(segments, one_way(chance))
            more = after_losses_ms(sizes, rtt, paths.rate_mbps[src, dst], slowed.astype(np.float64))
            ms = ms + ended * more
    rest = np.maximum(ms.mean(axis=0) - idle - upload, 0.0)
    return Drawn(ms, idle, upload, rest)


def pairs_of(paths: Links, src: Ints, dst: Ints) -> Ints:
    """Return one number for each path, whichever way a message takes it."""
    return np.minimum(src, dst) * len(paths.rows) + np.maximum(src, dst)


def drawn_flights(
    chance: Floats,
    segments: Ints,
    halvings: Ints,
    limited: npt.NDArray[np.bool_],
    reno: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Floats:
    """Draw the windows that each message waits for, (draws, messages), at `chance` of losing a round trip."""
    flights = np.zeros(chance.shape)
    for k, own in enumerate(rng.spawn(len(segments))):  # numbers of its own, whichever others are limited
        if limited[k]:
            control = RENO if reno[k] else CUBIC
            flights[:, k] = draw_flights(int(segments[k]), int(halvings[k]), one_way(chance[:, k]), own, control)
    return flights


def in_slow_half(times_ms: Floats, later_ms: Floats, rng: np.random.Generator) -> Floats:
    """Return the draws `times_ms`, the slower half of them later by the larger half of `later_ms`, in any order. The
    median and everything below it stay."""
    half = (len(times_ms) - 1) // 2
    found = times_ms.copy()
    if half:
        found[np.argsort(times_ms)[-half:]] += rng.permutation(np.sort(later_ms)[-half:])
    return found


def scaled(drawn: Drawn, factor: Floats) -> Drawn:
    """Return the deliveries times an engine's own factor, (draws, trips)."""
    mean = factor.mean(axis=0)
    return Drawn(drawn.ms * factor, drawn.rtt_ms * mean, drawn.upload_ms * mean, drawn.jitter_ms * mean)


def _unknown_ways(
    paths: Links, src: Ints, dst: Ints, least: Floats, rng: np.random.Generator, draws: int
) -> Floats | float:
    """Return (draws, trips): what one direction may take more, and the other less, on paths whose directions were not
    measured apart. A message there and one back share it, so that the round trip stays as measured."""
    unknown = np.flatnonzero(~paths.ways_known[src, dst] & (least > 0))
    if not len(unknown):
        return 0.0
    count = len(paths.rows)
    pairs, of_pair = np.unique(
        np.minimum(src, dst)[unknown] * count + np.maximum(src, dst)[unknown], return_inverse=True
    )
    share = np.stack([mirrored_normal(rng, draws) for _ in pairs], axis=1)
    half = least[unknown] / 2
    moved = np.clip(USUAL_ASYMMETRY * 2 * half * share[:, of_pair], -half, half)
    shift = np.zeros((draws, len(src)))
    shift[:, unknown] = np.where(src[unknown] < dst[unknown], moved, -moved)
    return shift


def mirrored_normal(rng: np.random.Generator, draws: int) -> Floats:
    """Draw standard normal numbers in pairs of opposite sign.

    Their median is 0 for every seed, so a figure with symmetric noise keeps its median."""
    half = rng.standard_normal((draws + 1) // 2)
    return np.concatenate([half, -half])[:draws] if draws > 1 else np.zeros(draws)


def mirrored_normals(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Do the same as `mirrored_normal` for (draws, …) numbers."""
    half = rng.standard_normal(((shape[0] + 1) // 2, *shape[1:]))
    return np.concatenate([half, -half])[: shape[0]] if shape[0] > 1 else np.zeros(shape)


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
    grid: Floats,
    rng: np.random.Generator,
    at_ns: int | None,
) -> tuple[Floats, Floats | float]:
    """Widen draws of one-way delays by the uncertainty of each measurement: estimates, bounds, few samples, age. Return
    them, and how many times longer bytes take than the rates say.

    `at_ns` None: only estimates are uncertain."""
    shape = oneway.shape
    if at_ns is None:
        sigma = np.where(paths.estimated[src, dst], DOUBT_ESTIMATED_RTT, 0.0)
        return oneway * np.exp(sigma * mirrored_normals(rng, shape)), 1.0
    hours = np.clip((at_ns - paths.at_ns[src, dst]) / NS_PER_HOUR, 0.0, HOURS_MAX)
    hours = np.where(paths.at_ns[src, dst] > 0, hours, 0.0)
    sigma = np.hypot(
        np.where(paths.estimated[src, dst], DOUBT_ESTIMATED_RTT, 0.0), DOUBT_PER_ROOT_HOUR * np.sqrt(hours)
    )
    spread = (grid[:, P95] - grid[:, 0]) / LN20  # the standard deviation, were it exponential
    error = spread / 2 / np.sqrt(np.maximum(paths.sent[src, dst], 1))
    shift = _unknown_ways(paths, src, dst, grid[:, 0], rng, shape[0])
    wider = shift + oneway * np.exp(sigma * rng.standard_normal(shape)) + error * rng.standard_normal(shape)
    least = grid[:, 0] / 2 + paths.asymmetry_ms[src, dst] + shift
    wider = np.where(paths.estimated[src, dst], np.maximum(wider, 0.0), np.maximum(wider, least))
    normal = rng.standard_normal(shape)
    faster = np.exp(-DOUBT_BOUND * np.abs(normal))
    factor = np.where(paths.rate_bound[src, dst], faster, np.exp(DOUBT_RATE * normal))
    return wider, factor
