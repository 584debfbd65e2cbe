"""Model lost packets: how often a message loses one, by all observations, and how long TCP takes to recover.

A round of a dozen hops is poor evidence of what happens once in thirty: one retransmission in it makes the p95 a
second, and none leaves it unchanged. So the two are separated. A hop that exceeds its median by more than the path's
own variation explains, and by at least a retransmission, counts as one: it is added to the lost round trips and removed
from the hop's tail. The rest varies as arriving packets do, and losses are drawn separately.

What one costs (Linux, which runs RACK and TLP, RFC 8985), after the moment the packet should have arrived:
    a packet that three others follow  a round trip, until they are acknowledged (§6.2)
    one that fewer follow            a reordering window more: 1.25 RTT
    the last of several              a tail loss probe, 2 RTT, or the timeout if that is sooner (§7.2)
    alone in flight                  the retransmission timeout, RTT + 200 ms (RFC 6298, Linux's least variance term)
    the retransmission too           a timeout more

A path that has lost nothing so far may lose packets all the same: of 40 round trips at 0.5 % none is lost two times of
three. Its loss is a mixture: nothing is ever lost, or the rate has the prior of `UNSEEN`, given what came through
(`draw_unseen`). The chance of the latter is below a half, so it widens the slow end and leaves medians where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.hop_round import MESSAGES, MESSAGES_MIN, MSS_BYTES, ROUND_BYTES
from swarm_protocol.snapshot.swarm import Floats, Ints

RTO_MIN_MS: Final = 200.0  # Linux TCP_RTO_MIN; RFC 6298 has 1 s
FAST_RTTS: Final = 1.0
REORDERING_RTTS: Final = 0.25
FOLLOWERS: Final = 3  # acknowledged packets that stand for the reordering window (DupThresh)
CLEAN: Final = 0.5  # of paths that have shown no loss, before any packet: never lose any; an assumption
UNSEEN: Final = (0.5, 200.0)  # Beta of the others' loss of round trips: a quarter of a percent on average; likewise
_LEAST_SHARE: Final = 0.9  # of the cheapest retransmission: clocks and rounding
_BEYOND_JITTER: Final = 3.0  # times what the path varies by above its median


def settled(
    rtt_p50: Floats, rtt_p95: Floats, rtt_p99: Floats, loss: Floats, sent: Floats,
    hop_bytes: Floats, hop_p50: Floats, hop_p95: Floats, hop_p99: Floats,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """Return (loss of a round trip, p95 and p99 of hops without retransmissions), of matrices over pairs. Unknown
    values stay as they are."""
    late, varies = hop_p95 - hop_p50, np.fmax(rtt_p99, rtt_p95) - rtt_p50
    with np.errstate(invalid="ignore", divide="ignore"):
        mended = (late > _LEAST_SHARE * FAST_RTTS * rtt_p50) & (late > _BEYOND_JITTER * varies) & (hop_bytes > 0)
        messages = np.clip(ROUND_BYTES // np.fmax(hop_bytes, 1), MESSAGES_MIN, MESSAGES)  # fewer of large ones
        packets = np.maximum(1, np.ceil(hop_bytes / MSS_BYTES)) * messages
        # a packet may be lost in either direction; a lost acknowledgement is made up for by the next
        lost = np.nan_to_num(loss) * sent + mended
        pooled = 1 - (1 - np.minimum(lost / (2 * sent + packets), 1.0)) ** 2
    out = [np.where(mended, pooled, loss)]
    for tail, of_path in ((hop_p95, rtt_p95), (hop_p99, rtt_p99)):
        out.append(np.where(mended, np.fmin(tail, hop_p50 + np.fmax(of_path - rtt_p50, 0.0)), tail))
    return out[0], out[1], out[2]


@dataclass(frozen=True, slots=True)
class Retransmission:
    """The chances of losses in the last flight of each message, and the delays of recovering from them."""

    any_lost: Floats
    late_lost: Floats  # one of the last, which fewer than FOLLOWERS follow
    last_lost: Floats
    fast_ms: Floats  # any
    late_ms: Floats
    last_ms: Floats

    @property
    def mean_ms(self) -> Floats:
        fast, late = self.any_lost - self.late_lost, self.late_lost - self.last_lost
        return np.asarray(fast * self.fast_ms + late * self.late_ms + self.last_lost * self.last_ms)


def retransmission(loss: Floats, sizes: Floats, rtt_ms: Floats, flights: Floats | float = 0.0) -> Retransmission:
    """Price losses of `loss` of the round trips. `flights`: windows that the message waits for, so that its packets are
    spread over one more; what is lost in the earlier ones is sent again beside the later ones."""
    packets = np.maximum(1, np.ceil(np.ceil(sizes / MSS_BYTES) / (flights + 1)))
    any_lost = 1 - np.sqrt(1 - loss) ** packets
    timeout = rtt_ms + RTO_MIN_MS
    late_ms = (FAST_RTTS + REORDERING_RTTS) * rtt_ms
    tail = np.where(packets == 1, timeout, np.minimum(2 * rtt_ms, timeout))
    return Retransmission(
        any_lost=any_lost,
        late_lost=any_lost * np.minimum(FOLLOWERS / packets, 1.0),
        last_lost=any_lost / packets,
        fast_ms=FAST_RTTS * rtt_ms,
        late_ms=late_ms,
        last_ms=np.maximum(tail, late_ms),
    )


def one_way(loss: Floats) -> Floats:
    """Return the loss of a packet one way, of that of a round trip; unknown is none."""
    return np.asarray(1 - np.sqrt(1 - np.clip(np.nan_to_num(loss, nan=0.0), 0.0, 1.0)))


def draw_chances(loss: Floats, seen: Floats | None, path: Ints, rng: np.random.Generator, draws: int) -> Floats:
    """Draw the loss of round trips, (draws, messages). `seen`: how many round trips say so, which is how certain it is
    (a beta distribution with the figure as its mean); None: the figure is taken as exact. `path`: which messages share
    a path, and so its loss rate in each draw."""
    if seen is None or not np.any((loss > 0) & (loss < 1) & (seen > 0)):
        return np.broadcast_to(loss, (draws, len(loss)))
    of_path, message = np.unique(np.stack([path, loss, seen]), axis=1, return_inverse=True)
    _, mean, packets = of_path
    chance = np.tile(mean, (draws, 1))
    some = np.flatnonzero((mean > 0) & (mean < 1) & (packets > 0))
    n = np.maximum(packets[some], 1)
    chance[:, some] = rng.beta(mean[some] * n, (1 - mean[some]) * n, (draws, len(some)))
    return chance[:, message.reshape(-1)]


def lossy_share(seen: Floats) -> Floats:
    """Return the chance that a path which lost none of `seen` round trips loses some later on."""
    a, b = UNSEEN
    came_through = (b / (b + seen)) ** a  # all of them, if it does: Γ(b + n) / Γ(b + n + a) is close to (b + n)^-a
    return np.asarray((1 - CLEAN) * came_through / (CLEAN + (1 - CLEAN) * came_through))


def draw_unseen(seen: Floats, path: Ints, rng: np.random.Generator, draws: int) -> Floats:
    """Draw the loss of round trips of paths that lost none of `seen`, (draws, messages); `path` as in
    `draw_chances`."""
    of_path, message = np.unique(np.stack([path, seen]), axis=1, return_inverse=True)
    shape = (draws, of_path.shape[1])
    a, b = UNSEEN
    losing = rng.random(shape) < lossy_share(of_path[1])
    chance = np.where(losing, rng.beta(a, b + of_path[1], shape), 0.0)
    return np.asarray(chance[:, message.reshape(-1)])


def draw_lost(
    chance: Floats, sizes: Floats, rtt_ms: Floats, rng: np.random.Generator, flights: Floats | float = 0.0
) -> Floats:
    """Draw the extra delay by retransmission, (draws, messages), at `chance` of losing a round trip."""
    found = retransmission(chance, sizes, rtt_ms, flights)
    # the smallest ones: the last packet; then: one of the last; any other; the rest: none
    uniform = rng.random(chance.shape)
    once = np.where(uniform < found.any_lost, found.fast_ms, 0.0)
    once = np.where(uniform < found.late_lost, found.late_ms, once)
    once = np.where(uniform < found.last_lost, found.last_ms, once)
    again = (once > 0) & (rng.random(once.shape) < 1 - np.sqrt(1 - chance))
    return once + np.where(again, rtt_ms + RTO_MIN_MS, 0.0)
