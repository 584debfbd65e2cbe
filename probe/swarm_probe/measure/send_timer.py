"""Provide one timer for all sessions' packets; arrivals wait for it instead of waking this process.

A wake-up costs more than the packet it is for: the processor has to fetch this program again. Arrivals are stamped by
the kernel, and an answer states when its request came and when it left, so no figure depends on when a packet is read.
So while packets of ours are due soon, the socket is not listened to: one wake-up reads what has come and sends what is
due, and nothing waits for longer than MAX_REST_NS. That bounds what clocks can add to a round trip: the time from a
request to its answer is taken off by the answering end's clock, and 10 ppm of it are 2.5 µs. If a packet is due a
little later than that, there is a wake-up in between, at a varying time so as not to lock onto periodic traffic:
listening would cost a wake-up for each arrival, and peers measure about as often as this probe does. So there is after
packets that were sent, whenever the next is due: it reads their answers together. Nothing waits
without the kernel's stamps, while others need datagrams at once (a train, a QUIC connection), or while more comes than
one wake-up reads.

Packets that leave together queue behind each other in a slow uplink, and their round trips would be longer. So nothing
is done together before this machine was seen to send at FROM_MBPS.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from swarm_probe.udp.udp_socket import UdpPort
from swarm_protocol.units import NS_PER_MS, NS_PER_S

MAX_REST_NS: Final = 250 * NS_PER_MS
REST_VARIES: Final = 0.25  # share of it by which a wake-up in between may come earlier
SOON_RESTS: Final = 3  # a packet that is due within so many rests is waited for without listening
# a packet of 180 bytes is on the wire for 29 µs, about as long as the next one takes to be made
FROM_MBPS: Final = 50.0


class SendTimer:
    def __init__(
        self,
        udp: UdpPort,
        mono_ns: Callable[[], int],
        rng: random.Random,
        tick: Callable[[], None],
        urgent: Callable[[], bool],
    ) -> None:
        """Create it. `tick` is called when a packet may be due, after what has arrived was handed on. `urgent`:
        whether datagrams have to be read at once."""
        self._rng = rng
        self._urgent = urgent
        self._udp = udp
        self._mono_ns = mono_ns
        self._tick = tick
        self._timer: asyncio.TimerHandle | None = None
        self.due_ns = 0  # when it fires, while it is armed
        self._least_mbps = 0.0  # 0: nothing was measured
        udp.read_all = self.rest

    def arm(self, first_ns: int | None, not_before_ns: int = 0, *, answers: bool = False) -> None:
        """Fire by `first_ns`, the latest time for the first packet (None: none is due), but not before the other.
        `answers`: some are on their way."""
        if first_ns is None:
            self.cancel()
        elif self._timer is None or max(first_ns, not_before_ns) < self.due_ns or not_before_ns:
            self.cancel()
            now_ns = self._mono_ns()
            self.due_ns = max(first_ns, not_before_ns)
            soon = answers or self.due_ns - now_ns <= SOON_RESTS * MAX_REST_NS
            if self.groups and soon and self.due_ns - now_ns > MAX_REST_NS:
                self.due_ns = now_ns + int(MAX_REST_NS * (1 - REST_VARIES * self._rng.random()))
            delay_s = max(0, self.due_ns - now_ns) / NS_PER_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._fire)
        self.rest()

    def uplink(self, mbps: float) -> None:
        """Note a rate, measured or a lower bound, at which this machine has sent; the least one counts, since members
        nearby are reached faster than others."""
        self._least_mbps = min(mbps, self._least_mbps or mbps)

    @property
    def groups(self) -> bool:
        """Return whether several packets may leave together."""
        return self._least_mbps >= FROM_MBPS

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def rest(self) -> None:
        """Listen to the socket, or let arrivals wait if the timer fires soon."""
        soon = self.groups and self._timer is not None and self.due_ns - self._mono_ns() <= MAX_REST_NS
        udp = self._udp
        at_once = udp.backlog or udp.many_expected or not udp.kernel_stamps or self._urgent()
        udp.listen(at_once or not soon)

    def _fire(self) -> None:
        self._timer = None
        self._udp.read()
        self._tick()
