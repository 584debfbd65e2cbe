"""Delivery times of a message of some bytes between nodes, as matrices over the nodes in question.

    d(i→j) = one-way + bytes·8/min(up_i, down_j) + protocol        one-way is half the round trip
    d(i→j) = hop − half the round trip                             where a hop of a like size was measured

A hop that was measured when the path had another round trip is moved by the difference first (`_hops_now`): of the two
figures the round trip is the newer one by far, hops come once a minute. How far it was moved is doubt, in its tail.

A measured hop runs until its acknowledgement is back, which takes one one-way trip. Sizes between nothing and the
measured one are interpolated, larger ones pay serialisation on top. NaN is "not known"; so is an infinite delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.layer_times import by_hand
from swarm_predict.cost.tcp_loss import RTO_MIN_MS, settled
from swarm_protocol.hop_round import MSS_BYTES
from swarm_protocol.snapshot.swarm import Floats, Ints, Kind, Path, State, Swarm, Transport
from swarm_protocol.units import BITS_PER_BYTE

Mask = npt.NDArray[np.bool_]

PATH_CHANGED: Final = 0.1  # of a round trip, and
PATH_CHANGED_MS: Final = 1.0  # at least this: smaller differences are noise of the two measurements
MOVED_DOUBT: Final = 0.1  # of how far a hop was moved
INITIAL_WINDOW_BYTES: Final = 10 * MSS_BYTES  # RFC 6928


@dataclass(frozen=True, slots=True)
class Links:
    """Matrices over `rows` × `rows`, [src, dst]; diagonals are a node's way to itself: free."""

    rows: Ints  # of the swarm
    rtt_min_ms: Floats
    rtt_p50_ms: Floats
    rtt_p95_ms: Floats  # NaN: no spread known
    rtt_p99_ms: Floats
    jitter_ms: Floats
    loss: Floats  # round trip; NaN: not known
    sent: Ints
    at_ns: Ints
    estimated: Mask
    mirrored: Mask  # the round trip was measured from the other end
    rate_mbps: Floats  # the slower of the two ends (or of the path itself); infinity: counted as free
    rate_bound: Mask  # the rate is at least this
    rate_free: Mask  # not known, in a swarm written by hand
    hop_bytes: Floats  # 0: no hop measured
    hop_min_ms: Floats
    hop_p50_ms: Floats
    hop_p95_ms: Floats
    hop_p99_ms: Floats
    hop_at_ns: Ints
    hop_moved_ms: Floats  # by a change of the round trip since the hop was measured; 0: as measured

    @property
    def oneway_ms(self) -> Floats:
        return self.rtt_p50_ms / 2

    def serialisation_ms(self, size_bytes: float) -> Floats:
        """Return the serialisation time; infinite if the rate is not known and the message exceeds one packet."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ms = size_bytes * BITS_PER_BYTE / (self.rate_mbps * 1e3)
        ms = np.where(np.isnan(ms), 0.0 if size_bytes <= MSS_BYTES else np.inf, ms)
        np.fill_diagonal(ms, 0.0)
        return ms

    def slow_start_ms(self, size_bytes: float) -> Floats:
        """What TCP adds when the window has shrunk to its initial size: a round trip for each window it must wait for,
        less the time that window took to send. Against measured hops over 40 ms each way at 50 Mbit/s it is within 2 ms
        for 16, 32 and 128 KB (RFC 5681 §4.1, restart after idle; RFC 6928, initial window)."""
        extra = np.zeros_like(self.rtt_p50_ms)
        window, left = float(INITIAL_WINDOW_BYTES), size_bytes - INITIAL_WINDOW_BYTES
        while left > 0:
            extra += np.maximum(0.0, np.nan_to_num(self.rtt_p50_ms - self.serialisation_ms(window), nan=0.0))
            window *= 2
            left -= window
        np.fill_diagonal(extra, 0.0)
        return extra

    def restart_ms(self, src: Ints, dst: Ints, sizes: Floats, step_ms: Floats, slow_start: bool) -> Floats:
        """For each message of a step of `step_ms`: what TCP adds because its connection rests for so long, and forgets
        after a timeout how much it may send at once (RFC 5681 §4.1). Hops are measured at a shorter cadence.
        `slow_start`: counted already where no hop was measured."""
        extra = np.zeros(len(sizes))
        rests = (sizes > INITIAL_WINDOW_BYTES) & (step_ms > self.rtt_p50_ms[src, dst] + RTO_MIN_MS)
        if slow_start:
            rests &= self.hop_known[src, dst]
        for size in np.unique(sizes[rests]):
            of = rests & (sizes == size)
            extra[of] = self.slow_start_ms(float(size))[src[of], dst[of]]
        return extra

    @property
    def hop_known(self) -> Mask:
        return (self.hop_bytes > 0) & np.isfinite(self.hop_p50_ms)

    def hop_oneway_ms(self) -> Floats:
        """Of the acknowledgement of a measured hop; half of its fastest where there is no round trip."""
        return np.where(np.isnan(self.rtt_p50_ms), self.hop_min_ms / 2, self.rtt_p50_ms / 2)

    def hop_delivery_ms(self, size_bytes: float, hop_ms: Floats) -> Floats:
        """Delivery of `size_bytes` by a hop of `hop_bytes` that took `hop_ms` until its acknowledgement."""
        oneway = self.hop_oneway_ms()
        floor = np.fmin(self.rtt_min_ms / 2, oneway)
        delivered = np.fmax(hop_ms - oneway, floor)
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
        plain = self.oneway_ms + self.serialisation_ms(size_bytes)
        if slow_start:
            plain = plain + self.slow_start_ms(size_bytes)
        plain = np.where(np.isnan(plain), np.inf, plain)
        if np.any(self.hop_known):
            plain = np.where(self.hop_known, self.hop_delivery_ms(size_bytes, self.hop_p50_ms), plain)
        np.fill_diagonal(plain, 0.0)
        return plain


_USED: Final = (
    "kind", "path", "at_ns", "sent", "rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "jitter_ms", "loss",
    "hop_bytes", "hop_min_ms", "hop_p50_ms", "hop_p95_ms", "hop_p99_ms", "hop_at_ns", "hop_transport", "hop_rtt_ms",
    "mbps", "mbps_kind",
)  # fmt: skip


def links(swarm: Swarm, rows: Sequence[int]) -> Links:
    """Return what is known of the paths between `rows`."""
    at = np.array(rows, np.int64)
    everyone = len(at) == len(swarm) and bool(np.all(at == np.arange(len(swarm))))
    grid = np.ix_(at, at)
    column = {name: swarm.links[name] if everyone else swarm.links[name][grid] for name in _USED}
    p50 = np.where(np.isnan(column["rtt_p50_ms"]), column["rtt_min_ms"], column["rtt_p50_ms"])
    hop_bytes = np.where(column["hop_transport"] == Transport.RELAY, 0, column["hop_bytes"])
    p50 = np.where(column["path"] == Path.RELAYED, np.nan, p50)  # the detour by the collector: engines have no such way
    mirrored = np.isnan(p50) & ~np.isnan(p50.T)  # a round trip is the same both ways
    rtt = {name: _both_ways(column[f"rtt_{name}_ms"], mirrored) for name in ("min", "p95", "p99")}
    p50 = _both_ways(p50, mirrored)
    rtt["min"] = np.fmin(np.where(np.isnan(rtt["min"]), p50, rtt["min"]), p50)
    for matrix in (p50, rtt["min"]):
        np.fill_diagonal(matrix, 0.0)
    rate, bound, free = _rates(swarm, at, column)
    loss, sent = _both_ways(column["loss"], mirrored), _both_ways(column["sent"], mirrored)
    hops, moved = _hops_now(column, p50)
    loss, hop_p95, hop_p99 = settled(
        p50, rtt["p95"], rtt["p99"], loss, sent, column["hop_bytes"], hops["p50"], hops["p95"], hops["p99"]
    )
    return Links(
        rows=at,
        rtt_min_ms=rtt["min"],
        rtt_p50_ms=p50,
        rtt_p95_ms=rtt["p95"],
        rtt_p99_ms=rtt["p99"],
        jitter_ms=_both_ways(column["jitter_ms"], mirrored),
        loss=loss,
        sent=sent,
        at_ns=_both_ways(column["at_ns"], mirrored),
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


def _hops_now(column: dict[str, npt.NDArray[Any]], rtt_ms: Floats) -> tuple[dict[str, Floats], Floats]:
    """(hop times by quantile, moved to the present round trip; by how much). A hop runs until its acknowledgement: it
    contains one whole round trip, whatever else it waits for."""
    was = column["hop_rtt_ms"]
    with np.errstate(invalid="ignore"):
        moved = rtt_ms - was
        changed = np.abs(moved) > np.maximum(PATH_CHANGED_MS, PATH_CHANGED * np.fmin(rtt_ms, was))
    moved = np.where(changed & (column["at_ns"] >= column["hop_at_ns"]), moved, 0.0)
    doubt = MOVED_DOUBT * np.abs(moved)
    hops = {}
    for name, times in (("min", 0), ("p50", 0), ("p95", 1), ("p99", 2)):
        measured = column[f"hop_{name}_ms"]
        hops[name] = np.where(moved != 0, np.maximum(measured + moved, rtt_ms) + times * doubt, measured)
    return hops, moved


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
    # a transfer that filled this very path knows of bottlenecks between the two ends
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
