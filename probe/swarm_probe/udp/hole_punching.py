"""Decide when to send packets that open a NAT's hole to a peer, and when to send keepalives.

A hole is punched when both ends send within the lifetime of a NAT mapping, each to the address the other is seen
from. So while nothing answers, packets go out in bursts, which both ends begin when the collector tells either of a
change; later ones become rarer, since what fails ten times will hardly succeed at the hundredth. An open hole is kept
open by a datagram that needs no answer, whenever the plan's own packets are too far apart. Pure.
"""

from __future__ import annotations

from typing import Final

from swarm_protocol.units import NS_PER_MS, NS_PER_S

PUNCH_EVERY_NS: Final = 200 * NS_PER_MS  # between packets of a burst
BURST_NS: Final = 5 * NS_PER_S  # the two ends learn of each other within a second
FIRST_PAUSE_NS: Final = 15 * NS_PER_S  # within the 30 s that the strictest routers remember: bursts need not coincide
LAST_PAUSE_NS: Final = 600 * NS_PER_S
KEEP_NS: Final = 20 * NS_PER_S


class HolePunch:
    def __init__(self, now_ns: int) -> None:
        self._burst_ns = now_ns  # when the latest burst began
        self._pause_ns = FIRST_PAUSE_NS
        self._open_ns = now_ns  # when our side last sent through it

    def begin(self, now_ns: int) -> None:
        """Start over: something new is known of the peer or of our own side."""
        self._burst_ns, self._pause_ns = now_ns, FIRST_PAUSE_NS

    def punching_now(self, now_ns: int) -> bool:
        """Return whether to send at the pace of a burst now; call it only while nothing answers."""
        if now_ns < self._burst_ns + BURST_NS:
            return True
        if now_ns < self._burst_ns + BURST_NS + self._pause_ns:
            return False
        self._burst_ns, self._pause_ns = now_ns, min(2 * self._pause_ns, LAST_PAUSE_NS)
        return True

    def sent(self, now_ns: int) -> None:
        self._open_ns = now_ns

    def due(self, now_ns: int) -> bool:
        """Return whether a keepalive is due; call it only while the hole is open."""
        return now_ns >= self._open_ns + KEEP_NS
