"""Decide when to send packets that open a NAT's hole to a peer, and when to send keepalives.

A hole is punched when both ends send within the time their routers remember it, each to where the other is seen from.
So while nothing answers, packets go out in bursts, which both ends begin when the collector tells either of something
new; later ones come ever more rarely, for what does not open at the tenth try hardly will at the hundredth. What
answers is kept open by a datagram that asks for nothing, whenever the plan's own packets are too far apart. Pure.
"""

from __future__ import annotations

from typing import Final

from swarm_protocol.units import NS_PER_MS, NS_PER_S

KNOCK_NS: Final = 200 * NS_PER_MS  # between packets of a burst
BURST_NS: Final = 5 * NS_PER_S  # the two ends hear of each other within a second
FIRST_PAUSE_NS: Final = 15 * NS_PER_S  # within the 30 s that the strictest routers remember: bursts need not coincide
LAST_PAUSE_NS: Final = 600 * NS_PER_S
KEEP_NS: Final = 20 * NS_PER_S


class HolePunch:
    def __init__(self, now_ns: int) -> None:
        self._burst_ns = now_ns  # when the latest burst began
        self._pause_ns = FIRST_PAUSE_NS
        self._open_ns = now_ns  # when our side was last written through

    def begin(self, now_ns: int) -> None:
        """Something new is known of the peer or of our own side: knock as if for the first time."""
        self._burst_ns, self._pause_ns = now_ns, FIRST_PAUSE_NS

    def knocking(self, now_ns: int) -> bool:
        """Whether to send at the pace of a burst now; ask only while nothing answers."""
        if now_ns < self._burst_ns + BURST_NS:
            return True
        if now_ns < self._burst_ns + BURST_NS + self._pause_ns:
            return False
        self._burst_ns, self._pause_ns = now_ns, min(2 * self._pause_ns, LAST_PAUSE_NS)
        return True

    def sent(self, now_ns: int) -> None:
        self._open_ns = now_ns

    def due(self, now_ns: int) -> bool:
        """Whether a keepalive has to go out now; ask only while it is open."""
        return now_ns >= self._open_ns + KEEP_NS
