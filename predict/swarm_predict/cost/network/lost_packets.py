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
The packets that follow take their time in any case, so that the message is delayed by what is left: on a slow line a
loss early in a long message delays it by nothing.

A path that has lost nothing so far may lose packets all the same: of 40 round trips at 0.5 % none is lost two times of
three. Its loss is a mixture: nothing is ever lost, or the rate has the prior of `UNSEEN`, given what came through
(`draw_unseen`). The chance of the latter is below a half, so it widens the slow end and leaves medians where they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_protocol.hop_round import MESSAGES, MESSAGES_MIN, MSS_BYTES, ROUND_BYTES
from swarm_protocol.snapshot.swarm import Floats, Ints
from swarm_protocol.units import BITS_PER_BYTE

RTO_MIN_MS: Final = 200.0  # Linux TCP_RTO_MIN; RFC 6298 has 1 s
FAST_RTTS: Final = 1.0
REORDERING_RTTS: Final = 0.25
FOLLOWERS: Final = 3  # acknowledged packets that stand for the reordering window (DupThresh)
CLEAN: Final = 0.5  # of paths that have shown no loss, before any packet: never lose any; an assumption
UNSEEN: Final = (0.5, 200.0)  # Beta of the others' loss of round trips: a quarter of a percent on average; likewise
BETA_STEPS: Final = 1024  # of a distribution function
BETA_LOGITS: Final = 40.0  # beyond, a chance is 0 or 1
BETA_NARROW: Final = 0.9  # quantiles below it end before 1
_MIN_SHARE: Final = 0.9  # of the cheapest retransmission: clocks and rounding
_BEYOND_JITTER: Final = 3.0  # times what the path varies by above its median


def settled(
    rtt_p50: Floats, rtt_p95: Floats, rtt_p99: Floats, loss: Floats, sent: Floats,
    hop_bytes: Floats, hop_p50: Floats, hop_p95: Floats, hop_p99: Floats,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """Return (loss of a round trip, p95 and p99 of hops without retransmissions), of matrices over pairs. Unknown
    values stay as they are."""
    late, varies = hop_p95 - hop_p50, np.fmax(rtt_p99, rtt_p95) - rtt_p50
    with np.errstate(invalid="ignore", divide="ignore"):
        mended = (late > _MIN_SHARE * FAST_RTTS * rtt_p50) & (late > _BEYOND_JITTER * varies) & (hop_bytes > 0)
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
    """The delay of a message by the last of its packets that is lost, by how many packets from the message's end that
    is: never longer farther from it, so that a draw that loses more is delayed by no less."""

    chance: Floats  # of a packet, one way
    packets: Floats  # of the message
    last_flight: Floats  # of them in its last flight; what is lost before is sent again beside those
    rtt_ms: Floats
    packet_ms: Floats  # serialisation of one

    @property
    def tail_ms(self) -> Floats:
        """Return the delay by the very last packet."""
        timeout = self.rtt_ms + RTO_MIN_MS
        alone = self.last_flight == 1
        return np.where(alone, timeout, np.clip(2 * self.rtt_ms, (FAST_RTTS + REORDERING_RTTS) * self.rtt_ms, timeout))

    def delay_ms(self, place: Floats) -> Floats:
        """Return the delay by the packet `place` from the end: 1 is the last, infinity none."""
        rtts = np.where(place <= FOLLOWERS, FAST_RTTS + REORDERING_RTTS, FAST_RTTS)
        counts, earlier = place <= self.last_flight, (place > self.last_flight) & (place <= self.packets)
        behind = np.where(counts, place - 1, 0.0)
        ms = np.where(counts, np.maximum(rtts * self.rtt_ms - behind * self.packet_ms, 0.0), 0.0)
        return np.where(place == 1, self.tail_ms, np.where(earlier, self._earlier_ms, ms))

    @property
    def _earlier_ms(self) -> Floats:
        """Return the delay by a packet of an earlier flight: in flights so small that none has three followers, what is
        sent again waits for the reordering window, and the next flight with it."""
        return np.where(self.last_flight <= FOLLOWERS, REORDERING_RTTS * self.rtt_ms, 0.0)

    @property
    def mean_ms(self) -> Floats:
        """Return the mean delay."""
        again = (1 - (1 - self.chance) ** self.packets) * self.chance
        earlier = np.maximum(
            (1 - self.chance) ** np.maximum(self.last_flight, FOLLOWERS) - (1 - self.chance) ** self.packets, 0
        )
        ms = self.chance * self.tail_ms + again * (self.rtt_ms + RTO_MIN_MS) + earlier * self._earlier_ms
        for place in range(2, FOLLOWERS + 1):
            ms = ms + self.chance * (1 - self.chance) ** (place - 1) * self.delay_ms(np.array(float(place)))
        # the rest: the chance of each times what is left of a round trip, an arithmetic-geometric series
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(self.packet_ms > 0, np.floor(FAST_RTTS * self.rtt_ms / self.packet_ms) + 1, np.inf)
            first, end = float(FOLLOWERS), np.maximum(np.minimum(self.last_flight, room), FOLLOWERS)
            kept = 1 - self.chance
            lost = kept**first - kept**end
            behind = first * kept**first - end * kept**end + np.where(self.chance > 0, kept / self.chance, 0.0) * lost
        rest = FAST_RTTS * self.rtt_ms * lost - self.packet_ms * behind
        return np.asarray(ms + np.where(self.chance > 0, np.maximum(rest, 0.0), 0.0))


def retransmission(
    loss: Floats, sizes: Floats, rtt_ms: Floats, flights: Floats | float = 0.0, rate_mbps: Floats | float = np.inf
) -> Retransmission:
    """Price losses of `loss` of the round trips. `flights`: windows that the message waits for, so that its packets are
    spread over one more. An unknown rate counts as an idle line."""
    packets = np.maximum(1, np.ceil(sizes / MSS_BYTES))
    rate = np.fmax(np.where(np.isnan(rate_mbps), np.inf, rate_mbps), 1e-9)
    sending_ms = sizes * BITS_PER_BYTE / (rate * 1e3)
    windows = flights + 1
    return Retransmission(
        chance=one_way(loss),
        packets=packets,
        # windows that take a round trip to send follow each other without a break
        last_flight=np.where(sending_ms / windows < rtt_ms, np.ceil(packets / windows), packets),
        rtt_ms=rtt_ms,
        packet_ms=sending_ms / packets,
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
    uniform = rng.random((draws, len(some)))
    for k, of in enumerate(some):
        chance[:, of] = beta_at(mean[of], max(packets[of], 1.0), uniform[:, k])
    return chance[:, message.reshape(-1)]


def beta_at(mean: float, count: float, uniform: Floats) -> Floats:
    """Return the quantiles at `uniform` of the beta distribution of this mean and sum of parameters. With the same
    random numbers they rise with the mean, and take no more of them.

    The distribution function is summed over the logit, in which the density is smooth and falls exponentially at both
    ends: as exp(a t) and exp(-b t)."""
    a, b = mean * count, (1 - mean) * count
    middle, most = math.log(mean / (1 - mean)), min((a + 10 * math.sqrt(a) + 40) / count, 1 - 1e-9)
    high = math.log(most / (1 - most)) if most < BETA_NARROW else middle + 20 / min(b, 1.0) + 1
    logit = np.linspace(max(middle - 20 / min(a, 1.0) - 1, -BETA_LOGITS), min(high, BETA_LOGITS), BETA_STEPS)
    log_density = -a * np.log1p(np.exp(-logit)) - b * np.log1p(np.exp(logit))
    density = np.exp(log_density - log_density.max())
    step = logit[1] - logit[0]
    below = np.cumsum((density[1:] + density[:-1]) / 2) * step
    below = np.concatenate([[0.0], below]) + density[0] / a
    return np.asarray(1 / (1 + np.exp(-np.interp(uniform * (below[-1] + density[-1] / b), below, logit))))


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
    chance: Floats,
    sizes: Floats,
    rtt_ms: Floats,
    rng: np.random.Generator,
    flights: Floats | float = 0.0,
    rate_mbps: Floats | float = np.inf,
) -> Floats:
    """Draw the extra delay by retransmission, (draws, messages), at `chance` of losing a round trip; the other
    arguments as in `retransmission`."""
    found = retransmission(chance, sizes, rtt_ms, flights, rate_mbps)
    arrives = np.broadcast_to(1 - found.chance, chance.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.ceil(np.log(1 - rng.random(chance.shape)) / np.log(arrives))
    place = np.where(arrives < 1, np.maximum(place, 1), np.inf)
    # whichever flight it was in: a second loss is too rare to tell them apart
    again = (place <= found.packets) & (rng.random(chance.shape) < found.chance)
    return found.delay_ms(place) + np.where(again, rtt_ms + RTO_MIN_MS, 0.0)
