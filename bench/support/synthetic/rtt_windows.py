"""Generate windows of round trips as probes report them: a floor, a heavy-tailed delay a packet, losses in bursts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import NS_PER_S

PACKETS = 16  # of a window under a dashboard
WINDOW_S = 8.0


@dataclass(frozen=True, slots=True)
class Line:
    """The delays and losses of one link."""

    rtt_ms: float
    jitter_ms: float = 0.3  # scale of the delay that a packet has beyond the floor
    tail: float = 2.0  # its Pareto index: below 2 it has no variance
    burst: float = 0.0  # share of windows that a burst of cross traffic delays, all packets together
    burst_ms: float = 0.0
    loss: float = 0.002
    loss_run: float = 2.0  # packets lost one after the other, on average


def rtts(line: Line, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return (round trips (count, PACKETS), NaN where lost; number lost)."""
    delay = line.rtt_ms + line.jitter_ms * rng.pareto(line.tail, (count, PACKETS))
    if line.burst:
        hit = rng.random(count) < line.burst
        delay[hit] += line.burst_ms * rng.random((int(hit.sum()), PACKETS))
    starts = rng.random((count, PACKETS)) < line.loss / line.loss_run
    lost = starts.copy()
    for k in range(1, PACKETS):
        lost[:, k] |= lost[:, k - 1] & (rng.random(count) < 1 - 1 / line.loss_run)
    delay[lost] = np.nan
    return delay, lost.sum(1)


def windows(line: Line, peer: str, first_ns: int, count: int, rng: np.random.Generator) -> Iterator[LinkSample]:
    """Yield consecutive windows, the first of which ends at `first_ns`."""
    delay, lost = rtts(line, count, rng)
    ordered = np.sort(delay, axis=1)  # NaN last
    answered = PACKETS - lost
    for k in range(count):
        yield window(ordered[k], int(answered[k]), peer, first_ns + round(k * WINDOW_S * NS_PER_S))


def window(ordered: Floats, answered: int, peer: str, at_ns: int) -> LinkSample:
    """Return a window. `ordered`: its round trips, ascending, the lost ones last."""
    at = [ordered[max(0, int(np.ceil(q * answered)) - 1)].item() for q in (0, 0.5, 0.95, 0.99)] if answered else None
    least, p50, p95, p99 = at if at is not None else (None,) * 4
    return LinkSample(
        at_ns=at_ns,
        peer=peer,
        path="direct",
        sent=PACKETS,
        lost=PACKETS - answered,
        rtt_min_ms=least,
        rtt_p50_ms=p50,
        rtt_p95_ms=p95,
        rtt_p99_ms=p99,
        pdv_ms=p95 - least if p95 is not None and least is not None else None,
    )
