"""Decide which trains to send to a peer, and combine their results. Pure.

The first train is a short one, as fast as this machine sends: it gives a rough rate. The next one takes the rest of
2 MiB, because a shaper's bucket fills again between two, and what is shown while it is not empty is not the rate. It is
sent a little faster than the path carries, so that a queue stands before the bottleneck and does not overflow: RFC 9097
§8 searches for the rate in the same way, with more bytes. It begins with a burst, which uses up what a shaper lets
through unshaped and leaves a queue for the case that the rate is a little higher.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from swarm_probe.trains.dispersion import SATURATED, Rate, Train, estimate
from swarm_protocol.units import BITS_PER_BYTE

PACKET_BYTES: Final = 1400  # of IP, where the path takes as much: fragments would be lost and carried apart
MIN_PACKET_BYTES: Final = 1200
TCP_SHARE: Final = 1448 / 1500  # of an Ethernet path's IP bytes that TCP delivers, which is what transfers report
FIRST_PACKETS: Final = 200  # 273 KiB
BURST_PACKETS: Final = 190  # 260 KiB: empties the bucket of a shaper of up to 256
LONG_PACKETS: Final = 1300  # 1.7 MiB: in one train they empty a bucket of 0.9 at twice its rate, of 1.5 at ten times
MIN_PACKETS: Final = 200  # with fewer left no train is sent
GROWTH_S: Final = 0.05  # by which a train lets the queue grow
FASTER: Final = (1.12, 1.3)  # the least and the most, compared with the rate that is expected
SEARCH_FASTER: Final = 1.5  # after a train that was not faster than the path
VAGUE: Final = 0.5  # relative half-width above which a rate needs another look before the long train
GOAL: Final = 0.03  # relative half-width of a measurement
SEARCH_PACKETS: Final = 350
SHOWN_PACKETS: Final = 450  # that arrived of one train: 256 KiB of them may be a burst, at twice the rate 512 KiB
MAX_ROUNDS: Final = 5
TRAIN_S: Final = 2.0  # the longest train: other people use the line too


class Round(msgspec.Struct, frozen=True):
    packets: int
    burst: int  # packets at the beginning that are sent at once
    mbps: float  # of IP, for the others; inf: as fast as this machine sends


class Outcome(msgspec.Struct, frozen=True):
    """What the trains showed. `mbps`: what TCP would deliver. `bound`: it is at least so much."""

    mbps: float
    bound: bool
    half_width: float  # relative, of the interval


class TrainTest(msgspec.Struct):
    """The trains of one test, of at most so many bytes of IP packets. `tcp_share`: of the IP bytes TCP delivers."""

    max_bytes: int
    sent_packets: int = 0
    rates: list[Rate | None] = msgspec.field(default_factory=list)
    packet_bytes: int = PACKET_BYTES
    tcp_share: float = TCP_SHARE

    @property
    def too_fast(self) -> bool:
        """Return whether the path is faster than this machine sends trains: a transfer says more."""
        if len(self.rates) != self._unpaced or (latest := self.rates[-1]) is None:
            return False
        return latest.mbps >= SATURATED * latest.sent_mbps and not self._again

    @property
    def _again(self) -> bool:
        """Return whether the first train has to be repeated: this machine paused while it sent that."""
        return len(self.rates) == 1 and (first := self.rates[0]) is not None and first.paused

    @property
    def _unpaced(self) -> int:
        """Return how many trains were sent as fast as this machine can."""
        return 2 if len(self.rates) > 1 and (first := self.rates[0]) is not None and first.paused else 1

    @property
    def lost(self) -> bool:
        """Return whether nothing of use arrived: there is no way for these packets, or someone discards them."""
        return self.rates == [None]

    def next_round(self) -> Round | None:
        """Return the next train; None: there is nothing to gain from another one."""
        left = self.max_bytes // self.packet_bytes - self.sent_packets
        if not self.rates:
            return Round(FIRST_PACKETS, FIRST_PACKETS, math.inf) if left >= FIRST_PACKETS else None
        if self.too_fast or self.lost or left < MIN_PACKETS or len(self.rates) >= MAX_ROUNDS:
            return None
        outcome = self.outcome()
        if self._again:
            return Round(FIRST_PACKETS, FIRST_PACKETS, math.inf)
        paced = len(self.rates) > self._unpaced
        if paced and outcome is not None and not outcome.bound:
            return None
        known = next((rate for rate in reversed(self.rates) if rate is not None), None)
        if known is None:
            return None
        if paced and not known.saturated:
            # one that this machine was slow to send says less than an earlier one
            found = [rate for rate in self.rates if rate is not None]
            faster = max(rate.mbps * (FASTER[0] if rate.saturated else SEARCH_FASTER) for rate in found)
            return self._paced(min(left, SEARCH_PACKETS if left >= 2 * SEARCH_PACKETS else left), faster, 1.0)
        if known.half_width > VAGUE and left >= 2 * SEARCH_PACKETS:
            return self._paced(SEARCH_PACKETS, known.mbps, FASTER[1])
        return self._paced(min(left, LONG_PACKETS), (self._combined() or known).mbps)

    def take(self, sent: int, train: Train | None) -> None:
        """Take the result of a train of `sent` packets. None: nothing of it is known."""
        self.sent_packets += sent
        self.rates.append(estimate(train) if train is not None else None)

    def outcome(self) -> Outcome | None:
        """Return what is known by now; None: nothing. Short trains may be a shaper's burst."""
        long = [rate for rate in self.rates if rate is not None and rate.arrived >= SHOWN_PACKETS]
        if not long and self.max_bytes // self.packet_bytes - self.sent_packets < MIN_PACKETS:
            # a short queue let few through, and nothing is left for a transfer: a bound is better than nothing
            long = [r for r in self.rates[1:] if r is not None and r.saturated and r.half_width <= VAGUE]
        if not long:
            return None
        best = self._combined()
        longest = max(long, key=lambda rate: rate.arrived)
        left_mbps = self._left_by_others(best or longest)
        if best is not None and best.half_width <= GOAL and not self._slower_before(best) and left_mbps is None:
            return Outcome(best.mbps * self.tcp_share, False, best.half_width)
        # a train that was faster than the path shows more than a slower one that a shaper's burst let through
        clear = [rate for rate in self.rates[1:] if rate is not None and rate.saturated and rate.half_width <= VAGUE]
        slower = [rate.least_mbps for rate in clear]
        slower += [left_mbps] if left_mbps is not None else []
        return Outcome(min([longest.least_mbps, *slower]) * self.tcp_share, True, longest.half_width)

    def _paced(self, packets: int, mbps: float, faster: float | None = None) -> Round:
        """Return a train for a path of about this rate, `faster` than it or by what lets the queue grow as intended."""
        packet_s = self.packet_bytes * BITS_PER_BYTE / (mbps * 1e6)
        packets = min(packets, max(MIN_PACKETS, int(TRAIN_S / packet_s)))
        if faster is None:
            faster = min(FASTER[1], max(FASTER[0], 1 + GROWTH_S / (packets * packet_s)))
        return Round(packets, min(BURST_PACKETS, packets // 4), mbps * faster)

    def _slower_before(self, best: Rate) -> bool:
        """Return whether a shorter train was slower beyond doubt: the long one met a shaper's bucket full again."""
        least = best.mbps * (1 - best.half_width)
        return any(r.mbps * (1 + r.half_width) < least for r in self.rates if r is not None and r.saturated)

    def _left_by_others(self, best: Rate) -> float | None:
        """Return what others leave of the path, if a train that was sent faster than `best` shows that they use it.

        In one queue each has its share of what comes: a train sent at s beside others at x leaves a bottleneck of C at
        C s / (s + x), which is the more the faster it is sent; two trains give C and x (TOPP: Melander, Björkman,
        Gunningberg: "A new end-to-end probing and analysis method", 2000). A shaper's burst makes the first train
        faster too: where no x below C explains it, it was that.
        """
        for fast in self.rates:
            if fast is None or not fast.saturated or fast.sent_mbps <= best.sent_mbps:
                continue
            if fast.mbps * (1 - fast.half_width) <= best.mbps * (1 + best.half_width):
                continue
            if _left(fast.sent_mbps, fast.mbps, best.sent_mbps, best.mbps) > 0:
                most, least = fast.mbps * (1 + fast.half_width), best.mbps * (1 - best.half_width)
                return max(0.0, _left(fast.sent_mbps, most, best.sent_mbps, least))
        return None

    def _combined(self) -> Rate | None:
        """Return the mean of the trains that were faster than the path, weighted by how sure each is; None where there
        is none, or two contradict each other."""
        found = [r for r in self.rates if r is not None and r.saturated and r.arrived >= SHOWN_PACKETS]
        if not found:
            return None
        weights = [rate.half_width**-2 for rate in found]
        mbps = sum(w * rate.mbps for w, rate in zip(weights, found, strict=True)) / sum(weights)
        if any(abs(rate.mbps - mbps) > (rate.half_width + GOAL) * mbps for rate in found):
            return None
        longest = max(found, key=lambda rate: rate.packets)
        return msgspec.structs.replace(longest, mbps=mbps, half_width=sum(weights) ** -0.5)


def _left(fast_sent: float, fast: float, slow_sent: float, slow: float) -> float:
    """Return what others leave of a bottleneck that two trains shared with them; 0 or less: nothing, or no others."""
    slower = fast_sent / fast - slow_sent / slow
    if slower <= 0:
        return 0.0
    capacity = (fast_sent - slow_sent) / slower
    return slow_sent - capacity * (slow_sent / slow - 1)
