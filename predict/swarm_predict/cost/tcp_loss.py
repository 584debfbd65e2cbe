"""Lost packets: how often a message meets one, by all that was seen, and what TCP takes to mend it.

A round of a dozen hops says little of what happens once in thirty: one retransmission in it makes the p95 a second, and
none makes it nothing. So the two are told apart. A hop later than its median by more than the path's own variation
explains, and by a retransmission at least, is one; it is counted with the round trips that were lost, and taken out of
the hop's tail. What is left varies as packets do that arrive, and losses come by their own chance.

What one costs (Linux, which runs RACK and TLP, RFC 8985), after the moment the packet should have arrived:
    a packet that others follow      a round trip until they are acknowledged, and a reordering window: 1.25 RTT (§6.2)
    the last of several              a tail loss probe, 2 RTT, or the timeout where that is sooner (§7.2)
    alone in flight                  the retransmission timeout, RTT + 200 ms (RFC 6298, Linux's least variance term)
    the retransmission too           a timeout more
"""

from __future__ import annotations

from typing import Final

import numpy as np

from swarm_protocol.hop_round import MESSAGES, MESSAGES_MIN, MSS_BYTES, ROUND_BYTES
from swarm_protocol.snapshot.swarm import Floats, Ints

RTO_MIN_MS: Final = 200.0  # Linux TCP_RTO_MIN; RFC 6298 has 1 s
FAST_RTTS: Final = 1.25
_LEAST_SHARE: Final = 0.9  # of the cheapest retransmission: clocks and rounding
_BEYOND_JITTER: Final = 3.0  # times what the path varies by above its median


def settled(
    rtt_p50: Floats, rtt_p95: Floats, rtt_p99: Floats, loss: Floats, sent: Ints,
    hop_bytes: Floats, hop_p50: Floats, hop_p95: Floats, hop_p99: Floats,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """(loss of a round trip, p95 and p99 of hops without retransmissions), of matrices over pairs. Whatever is not
    known stays as it is."""
    late, varies = hop_p95 - hop_p50, np.fmax(rtt_p99, rtt_p95) - rtt_p50
    with np.errstate(invalid="ignore", divide="ignore"):
        mended = (late > _LEAST_SHARE * FAST_RTTS * rtt_p50) & (late > _BEYOND_JITTER * varies) & (hop_bytes > 0)
        messages = np.clip(ROUND_BYTES // np.fmax(hop_bytes, 1), MESSAGES_MIN, MESSAGES)  # fewer of large ones
        packets = np.maximum(1, np.ceil(hop_bytes / MSS_BYTES)) * messages
        # each way of a round trip is a packet's chance; a lost acknowledgement is made up for by the next
        lost = np.nan_to_num(loss) * sent + mended
        pooled = 1 - (1 - np.minimum(lost / (2 * sent + packets), 1.0)) ** 2
    out = [np.where(mended, pooled, loss)]
    for tail, of_path in ((hop_p95, rtt_p95), (hop_p99, rtt_p99)):
        out.append(np.where(mended, np.fmin(tail, hop_p50 + np.fmax(of_path - rtt_p50, 0.0)), tail))
    return out[0], out[1], out[2]


def retransmission(loss: Floats, sizes: Floats, rtt_ms: Floats) -> tuple[Floats, Floats, Floats]:
    """(chance that any packet is lost, that the last one is, ms that this costs); any other costs FAST_RTTS."""
    packets = np.maximum(1, np.ceil(sizes / MSS_BYTES))
    any_lost = 1 - np.sqrt(1 - loss) ** packets
    timeout = rtt_ms + RTO_MIN_MS
    tail = np.where(packets == 1, timeout, np.minimum(2 * rtt_ms, timeout))
    return any_lost, any_lost / packets, np.maximum(tail, FAST_RTTS * rtt_ms)


def draw_lost(
    loss: Floats, seen: Ints | None, sizes: Floats, rtt_ms: Floats, rng: np.random.Generator, draws: int
) -> Floats:
    """Extra delay by retransmission, (draws, messages). `seen`: of how many round trips the loss is, which says how
    sure it is (a beta distribution with the figure as its mean); None: the figure is taken at its word."""
    chance = np.broadcast_to(loss, (draws, len(loss)))
    if seen is not None:
        some = np.flatnonzero((loss > 0) & (loss < 1) & (seen > 0))
        if len(some):
            chance = chance.copy()
            n = np.maximum(seen[some], 1)
            chance[:, some] = rng.beta(loss[some] * n, (1 - loss[some]) * n, (draws, len(some)))
    any_lost, last_lost, tail = retransmission(chance, sizes, rtt_ms)
    uniform = rng.random((draws, len(sizes)))  # the smallest ones: the last packet; then: any other; the rest: none
    once = np.where(uniform < any_lost, np.where(uniform < last_lost, tail, FAST_RTTS * rtt_ms), 0.0)
    again = (once > 0) & (rng.random(once.shape) < 1 - np.sqrt(1 - chance))
    return once + np.where(again, rtt_ms + RTO_MIN_MS, 0.0)
