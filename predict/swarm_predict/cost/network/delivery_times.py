"""Compute delivery times of a message of some bytes between nodes, as matrices over the nodes in question.

    d(i→j) = one-way + bytes·8/min(up_i, down_j) + protocol     and what BBR's own rate adds, where i has it
    d(i→j) = hop − one-way of its acknowledgement, j→i             where a hop of a like size was measured

One way is half the round trip plus the pair's asymmetry, (d(i→j) − d(j→i)) / 2, if it could be estimated from the
swarm's clocks (`snapshot.estimates.one_way`). Each direction's figure is an estimate; a token pays a closed
loop, and the sum of the estimates around a loop is exact.

Figures of one path are of different ages. Of two round trips, measured from either end, the newer one counts if they
contradict each other. A hop measured when the path had another round trip or rate is shifted by the change of these
(`_hops_now`), since hops come once a minute and round trips every few seconds. The shift widens its tail. One-way
delays of another round trip do not apply to the present one; they are unknown until estimated again.

A measured hop runs until its acknowledgement is back, which takes one one-way trip. Sizes between zero and the measured
one are interpolated, larger ones pay serialisation on top. NaN is "not known"; so is an infinite delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.machine.layer_times import by_hand
from swarm_predict.cost.network.bbr_pacing import after_losses_ms, pacing_ms, startup_ended
from swarm_predict.cost.network.lost_packets import one_way, settled
from swarm_predict.cost.network.window_after_idle import INITIAL_WINDOW_BYTES, halvings_of, waiting_ms, window_bytes
from swarm_predict.cost.network.window_after_loss import (
    CUBIC,
    MAX_HALVINGS,
    RENO,
    flights_ms,
    mean_flights,
    segments_of,
)
from swarm_predict.priors.individual_effects import PATH_KINDS
from swarm_protocol.hop_round import MSS_BYTES
from swarm_protocol.snapshot.estimates.one_way import CHANGED_SHARE
from swarm_protocol.snapshot.swarm import Congestion, Floats, Ints, Kind, Path, State, Swarm, Tcp, Transport
from swarm_protocol.units import BITS_PER_BYTE

Mask = npt.NDArray[np.bool_]

PATH_CHANGED: Final = 0.05  # of a round trip, and
RATE_CHANGED: Final = 1.5  # times: transfers of one line differ by less
PATH_CHANGED_MS: Final = 1.0  # at least this: smaller differences are noise of the two measurements
NEAR_RTT_MS: Final = 10.0  # below this a path is within a building or a town
LOSSY: Final = 1e-3  # from this share of lost packets on, windows are limited by retransmissions
HOP_SOFTWARE_MS: Final = 0.15  # of a hop, that the programs of its two ends took: probes on this project's hosts
MOVED_DOUBT: Final = 0.02  # of how far a hop was shifted: of 80 ms, twice, the lab recorded an error of 0.2


@dataclass(frozen=True, slots=True)
class Links:
    """Matrices over `rows` × `rows`, [src, dst]; diagonals are a node's path to itself: free."""

    rows: Ints  # of the swarm
    rtt_min_ms: Floats
    rtt_p50_ms: Floats
    rtt_p95_ms: Floats  # NaN: no spread known
    rtt_p99_ms: Floats
    jitter_ms: Floats
    loss: Floats  # round trip, pooled over recent windows where there are several; NaN: not known
    loss_of: Floats  # packets behind it, which give its certainty; 0: not known
    asymmetry_ms: Floats  # what i → j takes beyond half the round trip, and j → i less; 0: none, or not known
    ways_known: Mask  # losses are known for each direction
    shrinks: npt.NDArray[np.bool_]  # (rows,) whether a node's TCP halves the window of a connection that rests
    paces: Mask  # (rows,) whether its congestion control is BBR: losses do not shrink its window
    reno: Mask  # (rows,) whether it is reno
    assumed_cubic: Mask  # (rows,) whether it is not known, or one without a model: the default of all systems is cubic
    sent: Ints
    at_ns: Ints
    estimated: Mask
    mirrored: Mask  # the round trip was measured by the other end
    rate_mbps: Floats  # the slower of the two ends (or of the path itself); infinity: counted as free
    rate_bound: Mask  # the rate is at least this
    rate_free: Mask  # not known, in a swarm file
    hop_bytes: Floats  # 0: no hop measured
    hop_min_ms: Floats
    hop_p50_ms: Floats
    hop_p95_ms: Floats
    hop_p99_ms: Floats
    hop_at_ns: Ints
    hop_moved_ms: Floats  # by a change of the round trip or rate since the hop was measured; 0: as measured

    @property
    def oneway_ms(self) -> Floats:
        return self.rtt_p50_ms / 2 + self.asymmetry_ms

    @property
    def oneway_min_ms(self) -> Floats:
        return self.rtt_min_ms / 2 + self.asymmetry_ms

    @property
    def kinds(self) -> npt.NDArray[np.int8]:
        """Return the kind of each path, as positions in PATH_KINDS; a path of unknown round trip is a far one."""
        near, far, lossy = (PATH_KINDS.index(kind) for kind in ("near", "far", "lossy"))
        kind = np.where(self.rtt_p50_ms < NEAR_RTT_MS, near, far)
        return np.asarray(np.where(self.loss >= LOSSY, lossy, kind), np.int8)

    def mean_ways(self) -> Links:
        """Return the same with both directions of each path alike."""
        return replace(self, asymmetry_ms=np.zeros_like(self.asymmetry_ms), ways_known=np.ones_like(self.ways_known))

    def scaled_estimates(self, share: float) -> Links:
        """Return the same, with this share of round trips (and their spread) that were estimated, not measured."""
        factor = np.where(self.estimated, share, 1.0)
        names = ("rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "jitter_ms")
        return replace(self, **{name: getattr(self, name) * factor for name in names})

    def without_probes_software(self) -> Links:
        """Return the same, measured hops without the time of the probes' own programs, for engines whose software is
        counted apart (`cost.software_overhead`)."""
        own = self.hop_p50_ms - self.rtt_p50_ms - np.nan_to_num(self.hop_bytes * BITS_PER_BYTE / (self.rate_mbps * 1e3))
        own = np.nan_to_num(np.clip(own, 0.0, HOP_SOFTWARE_MS))
        names = ("hop_min_ms", "hop_p50_ms", "hop_p95_ms", "hop_p99_ms")
        return replace(self, **{name: getattr(self, name) - own for name in names})

    def serialisation_ms(self, size_bytes: float) -> Floats:
        """Return the serialisation time; infinite if the rate is not known and the message exceeds one packet."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ms = size_bytes * BITS_PER_BYTE / (self.rate_mbps * 1e3)
        ms = np.where(np.isnan(ms), 0.0 if size_bytes <= MSS_BYTES else np.inf, ms)
        np.fill_diagonal(ms, 0.0)
        return ms

    def slow_start_ms(self, size_bytes: float) -> Floats:
        """Return what TCP adds when the window has shrunk to its initial size. Compared with measured hops over 40 ms
        each way at 50 Mbit/s, it is within 2 ms for 16, 32 and 128 KB."""
        size = np.full_like(self.rtt_p50_ms, size_bytes)
        window = np.full_like(size, INITIAL_WINDOW_BYTES)
        extra = waiting_ms(size, window, self.rtt_p50_ms, self.rate_mbps)
        np.fill_diagonal(extra, 0.0)
        return np.where(self.shrinks[:, None], extra, 0.0)

    def pacing_ms(self, size_bytes: float) -> Floats:
        """Return the delay that a sender's pacing adds to a message (`bbr_pacing`); a measured hop contains it
        already."""
        extra = np.zeros_like(self.rtt_p50_ms)
        if np.any(self.paces) and size_bytes > 0:
            extra[self.paces] = pacing_ms(size_bytes, self.rtt_p50_ms[self.paces], self.rate_mbps[self.paces])
            np.fill_diagonal(extra, 0.0)
        return extra

    def restart_ms(self, src: Ints, dst: Ints, sizes: Floats, rest_ms: Floats, slow_start: bool) -> Floats:
        """Return for each message of a step what TCP adds because its connection was idle for `rest_ms`
        (`window_after_idle`). Hops are measured at a cadence at which windows stay open. `slow_start`: counted already
        if no hop was measured. Windows that losses limit are drawn with the losses (`halvings`)."""
        shrinks = self.shrinks[src] & ~self.limited_by_loss[src, dst]
        if slow_start:
            shrinks = shrinks & self.hop_known[src, dst]
        rtt = self.rtt_p50_ms[src, dst]
        window = window_bytes(sizes, rest_ms, rtt)
        return np.where(shrinks, waiting_ms(sizes, window, rtt, self.rate_mbps[src, dst]), 0.0)

    @property
    def limited_by_loss(self) -> Mask:
        """Paths whose losses keep windows small (`window_after_loss`)."""
        return (np.nan_to_num(self.loss, nan=0.0) > 0) & ~self.paces[:, None]

    @property
    def slowed_by_loss(self) -> Mask:
        """Paths whose losses make their sender pace more slowly (`bbr_pacing`)."""
        return (np.nan_to_num(self.loss, nan=0.0) > 0) & self.paces[:, None]

    def halvings(self, src: Ints, dst: Ints, rest_ms: Floats | float) -> Ints:
        """Return for each message how often its connection's window is halved before it, after `rest_ms` idle."""
        rest = np.broadcast_to(np.asarray(rest_ms, np.float64), src.shape)
        halved = np.where(self.shrinks[src], halvings_of(rest, self.rtt_p50_ms[src, dst]), 0)
        return halved.astype(np.int64)

    def lossy_window_ms(self, size_bytes: float, halvings: int = 0) -> Floats:
        """Return the mean wait of a message for windows that losses keep small, after idling for so many timeouts."""
        extra = np.zeros_like(self.rtt_p50_ms)
        limited = self.limited_by_loss & ~np.eye(len(extra), dtype=bool)
        for control, senders in ((CUBIC, ~self.reno), (RENO, self.reno)):
            at = np.nonzero(limited & senders[:, None])
            if size_bytes > 0 and len(at[0]):
                sizes = np.full(len(at[0]), size_bytes)
                flights = mean_flights(int(segments_of(sizes)[0]), halvings, one_way(self.loss[at]), control)
                extra[at] = flights_ms(flights, sizes, self.rtt_p50_ms[at], self.rate_mbps[at])
        at = np.nonzero(self.slowed_by_loss & ~np.eye(len(extra), dtype=bool))
        if size_bytes > 0 and len(at[0]):
            sizes = np.full(len(at[0]), size_bytes)
            ended = startup_ended(segments_of(sizes), one_way(self.loss[at]))
            extra[at] = after_losses_ms(sizes, self.rtt_p50_ms[at], self.rate_mbps[at], ended)
        return extra

    @property
    def hop_known(self) -> Mask:
        return (self.hop_bytes > 0) & np.isfinite(self.hop_p50_ms)

    def hop_oneway_ms(self) -> Floats:
        """Return the outward time of a measured hop; half of its fastest if there is no round trip."""
        return np.where(np.isnan(self.rtt_p50_ms), self.hop_min_ms / 2, self.oneway_ms)

    def hop_ack_ms(self) -> Floats:
        """Return the time of its acknowledgement's way back."""
        return np.where(np.isnan(self.rtt_p50_ms), self.hop_min_ms / 2, self.rtt_p50_ms / 2 - self.asymmetry_ms)

    def hop_delivery_ms(self, size_bytes: float, hop_ms: Floats) -> Floats:
        """Return the delivery of `size_bytes` by a hop of `hop_bytes` that took `hop_ms` until its acknowledgement."""
        oneway = self.hop_oneway_ms()
        floor = np.fmin(self.oneway_min_ms, oneway)
        delivered = np.fmax(hop_ms - self.hop_ack_ms(), floor)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.minimum(size_bytes / self.hop_bytes, 1.0)
            rest = np.maximum(size_bytes - self.hop_bytes, 0.0)
            by_rate = rest * BITS_PER_BYTE / (self.rate_mbps * 1e3)
            by_hop = (delivered - oneway).clip(min=0.0) * rest / self.hop_bytes
        rest_ms = np.where(np.isfinite(self.rate_mbps), by_rate, by_hop)
        least = np.minimum(oneway, delivered)
        return np.asarray(least + (delivered - least) * share + rest_ms)

    def delivery_ms(self, size_bytes: float, slow_start: bool = False) -> Floats:
        """p50 of a message of `size_bytes`, without software cost. The diagonal is 0."""
        plain = self.oneway_ms + self.serialisation_ms(size_bytes) + self.pacing_ms(size_bytes)
        if slow_start:
            plain = plain + self.slow_start_ms(size_bytes)
        plain = np.where(np.isnan(plain), np.inf, plain)
        if np.any(self.hop_known):
            plain = np.where(self.hop_known, self.hop_delivery_ms(size_bytes, self.hop_p50_ms), plain)
        np.fill_diagonal(plain, 0.0)
        return plain

    def usual_delivery_ms(self, size_bytes: float, slow_start: bool = False) -> Floats:
        """Return `delivery_ms` plus the wait for windows that losses keep small, which most tokens on such a path
        pay."""
        usual = self.delivery_ms(size_bytes) + self.lossy_window_ms(size_bytes)
        if not slow_start:
            return usual
        rested = self.delivery_ms(size_bytes) + self.lossy_window_ms(size_bytes, MAX_HALVINGS)
        rested = np.where(self.limited_by_loss, rested, self.delivery_ms(size_bytes, slow_start=True))
        return np.where(self.hop_known, usual, rested)


_USED: Final = (
    "kind", "path", "at_ns", "sent", "rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "jitter_ms", "loss",
    "hop_bytes", "hop_min_ms", "hop_p50_ms", "hop_p95_ms", "hop_p99_ms", "hop_at_ns", "hop_transport", "hop_rtt_ms",
    "hop_mbps",
    "mbps", "mbps_kind", "oneway_ms", "pooled_loss", "pooled_sent",
)  # fmt: skip


def links(swarm: Swarm, rows: Sequence[int]) -> Links:
    """Return what is known about the paths between `rows`."""
    at = np.array(rows, np.int64)
    everyone = len(at) == len(swarm) and bool(np.all(at == np.arange(len(swarm))))
    grid = np.ix_(at, at)
    column = {n: np.asarray(swarm.links[n] if everyone else swarm.links[n][grid]) for n in _USED}
    p50 = np.where(np.isnan(column["rtt_p50_ms"]), column["rtt_min_ms"], column["rtt_p50_ms"])
    hop_bytes = np.where(column["hop_transport"] == Transport.RELAY, 0, column["hop_bytes"])
    p50 = np.where(
        column["path"] == Path.RELAYED, np.nan, p50
    )  # the detour by the collector, which engines cannot take
    mirrored = _better_known_there(column, p50)
    rtt = {name: _both_ways(column[f"rtt_{name}_ms"], mirrored) for name in ("min", "p95", "p99")}
    p50 = _both_ways(p50, mirrored)
    rtt["min"] = np.fmin(np.where(np.isnan(rtt["min"]), p50, rtt["min"]), p50)
    for matrix in (p50, rtt["min"]):
        np.fill_diagonal(matrix, 0.0)
    oneway = _ways_now(column["oneway_ms"], rtt["min"])
    at_ns = _both_ways(column["at_ns"], mirrored)
    rate, bound, free = _rates(swarm, at, column)
    sent = _both_ways(column["sent"], mirrored)
    loss, loss_of = _losses(column, mirrored)
    hops, moved = _hops_now(column, p50, at_ns, np.where(bound | free | (rate <= 0), np.nan, rate))
    loss, hop_p95, hop_p99 = settled(
        p50, rtt["p95"], rtt["p99"], loss, loss_of, column["hop_bytes"], hops["p50"], hops["p95"], hops["p99"]
    )
    return Links(
        rows=at,
        rtt_min_ms=rtt["min"],
        rtt_p50_ms=p50,
        rtt_p95_ms=rtt["p95"],
        rtt_p99_ms=rtt["p99"],
        jitter_ms=_both_ways(column["jitter_ms"], mirrored),
        loss=loss,
        loss_of=loss_of,
        asymmetry_ms=_asymmetry(oneway, rtt["min"]),
        ways_known=np.isfinite(oneway + oneway.T),
        shrinks=np.isin(swarm.nodes["tcp"][at], (Tcp.UNKNOWN, Tcp.SHRINKS)),
        paces=swarm.nodes["tcp"][at] == Tcp.PACES,
        reno=swarm.nodes["congestion"][at] == Congestion.RENO,
        assumed_cubic=np.isin(swarm.nodes["congestion"][at], (Congestion.UNKNOWN, Congestion.OTHER)),
        sent=sent,
        at_ns=at_ns,
        estimated=_both_ways(column["kind"], mirrored) == Kind.ESTIMATE,
        mirrored=mirrored,
        rate_mbps=rate,
        rate_bound=bound,
        rate_free=free,
        hop_bytes=hop_bytes.astype(np.float64),
        hop_min_ms=hops["min"],
        hop_p50_ms=hops["p50"],
        hop_p95_ms=hop_p95,  # without the retransmissions they met
        hop_p99_ms=hop_p99,
        hop_at_ns=column["hop_at_ns"],
        hop_moved_ms=moved,
    )


def _losses(column: dict[str, npt.NDArray[Any]], mirrored: Mask) -> tuple[Floats, Floats]:
    """Return (loss of round trips, packets that say so): what the windows of both ends say together
    (`snapshot.estimates.pooled_loss`), or the newest window's if nothing was pooled. If one direction has no
    figure of its own, the other end's counts."""
    pooled = np.isfinite(column["pooled_loss"])
    loss = np.where(pooled, column["pooled_loss"], _both_ways(column["loss"], mirrored))
    packets = np.where(pooled, column["pooled_sent"], _both_ways(column["sent"], mirrored))
    return loss, packets


def _better_known_there(column: dict[str, npt.NDArray[Any]], p50: Floats) -> Mask:
    """Return for which links the other end has the better round trip, valid for both directions: because this end has
    none, or an older one that differs."""
    measured = column["kind"] == Kind.MEASURED
    newer = (column["at_ns"] < column["at_ns"].T) & measured & measured.T & _differs(p50, p50.T)
    return np.asarray((np.isnan(p50) | newer) & ~np.isnan(p50.T))


def _differs(one_ms: Floats, other_ms: Floats, share: float = PATH_CHANGED) -> Mask:
    """Return where two figures of a path come from different states of it."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(one_ms - other_ms) > np.maximum(PATH_CHANGED_MS, share * np.fmin(one_ms, other_ms)))


def _hops_now(
    column: dict[str, npt.NDArray[Any]], rtt_ms: Floats, at_ns: Ints, rate_mbps: Floats
) -> tuple[dict[str, Floats], Floats]:
    """(hop times by quantile, moved to the present round trip and rate; by how much). A hop runs until its
    acknowledgement: it contains one whole round trip, and the time that its bytes take to be sent."""
    was, was_mbps = column["hop_rtt_ms"], column["hop_mbps"]
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = rtt_ms - was
        per_mbps = column["hop_bytes"] * BITS_PER_BYTE / 1e3
        sent = per_mbps / rate_mbps - per_mbps / was_mbps
        faster = rate_mbps / was_mbps
    moved = np.where(_differs(rtt_ms, was) & (at_ns >= column["hop_at_ns"]), moved, 0.0)
    moved = moved + np.where(np.maximum(faster, 1 / faster) >= RATE_CHANGED, sent, 0.0)
    doubt = MOVED_DOUBT * np.abs(moved)
    hops = {}
    for name, times in (("min", 0), ("p50", 0), ("p95", 1), ("p99", 2)):
        measured = column[f"hop_{name}_ms"]
        hops[name] = np.where(moved != 0, np.maximum(measured + moved, rtt_ms) + times * doubt, measured)
    return hops, moved


def _ways_now(oneway: Floats, rtt_min: Floats) -> Floats:
    """Return the one-way delays, NaN if they belong to another round trip than the present one."""
    return np.where(_differs(oneway + oneway.T, rtt_min, CHANGED_SHARE), np.nan, oneway)


def _asymmetry(oneway: Floats, rtt_min: Floats) -> Floats:
    """Return half the difference of a pair's two delays, bounded so that neither direction is negative at the present
    round trip."""
    known = np.nan_to_num((oneway - oneway.T) / 2, nan=0.0)
    most = np.nan_to_num(np.fmin(rtt_min, rtt_min.T) / 2, nan=0.0)
    return np.asarray(np.clip(known, -most, most))


def _both_ways(matrix: npt.NDArray[Any], mirrored: Mask) -> npt.NDArray[Any]:
    return np.where(mirrored, matrix.T, matrix) if np.any(mirrored) else matrix


def _rates(swarm: Swarm, at: Ints, column: dict[str, npt.NDArray[Any]]) -> tuple[Floats, Mask, Mask]:
    """Return (rate of each pair, whether it is a lower bound, whether it is counted as free)."""
    up, down = swarm.nodes["up_mbps"][at], swarm.nodes["down_mbps"][at]
    by_up = np.broadcast_to(up[:, None], (len(at), len(at)))
    by_down = np.broadcast_to(down[None, :], (len(at), len(at)))
    rate = np.fmin(by_up, by_down)
    up_bound = (swarm.nodes["up_kind"][at] == Kind.BOUND)[:, None] & (rate == by_up)
    down_bound = (swarm.nodes["down_kind"][at] == Kind.BOUND)[None, :] & (rate == by_down)
    bound = up_bound | down_bound
    # a transfer that filled this very path accounts for bottlenecks between the two ends
    path = np.where(column["mbps_kind"] == Kind.MEASURED, column["mbps"], np.nan)
    bound &= ~(path <= rate)
    rate = np.fmin(rate, path)
    least = np.where(column["mbps_kind"] == Kind.BOUND, column["mbps"], np.nan)
    bound |= np.isnan(rate) & ~np.isnan(least)
    rate = np.where(np.isnan(rate), least, rate)
    free = np.isnan(rate) & by_hand(swarm)
    return np.where(free, np.inf, rate), bound, free


def absent(swarm: Swarm) -> Mask:
    """Return which nodes cannot serve now."""
    return np.isin(swarm.nodes["state"], (State.LOST, State.LEFT))
