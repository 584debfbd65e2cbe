"""Account each datagram of the UDP port to the peer it belongs to.

What passed through the port and was nobody's STAMP packet (STUN, other protocols that share it) is booked as the
difference to the port's own counters, so that the record says every byte whoever sent it.
"""

from __future__ import annotations

import socket
from collections import Counter

from swarm_probe.clocks import Clocks
from swarm_probe.owner_limits.traffic_budget import UDP_HEADERS, Level, TrafficBudget
from swarm_probe.sockets import Target


class TrafficAccounting:
    def __init__(self, traffic_budget: TrafficBudget, counts: Counter[str], clocks: Clocks) -> None:
        self.names: dict[str, str] = {}  # node id → name, of the present plan
        self._traffic_budget = traffic_budget
        self._counts = counts  # of the port: udp_bytes_…, udp_packets_…
        self._clocks = clocks
        self._booked: Counter[str] = Counter()  # of them, what is in the ledger

    def level(self) -> Level:
        return self._traffic_budget.level(self._clocks.wall_ns())

    def stamp(self, peer: str, where: Target, *, sent: int = 0, received: int = 0) -> None:
        """One datagram, out or in; payload in bytes."""
        self._count(sent, received)
        version = 6 if where.family == socket.AF_INET6 else 4
        now_ns = self._clocks.wall_ns()
        self._traffic_budget.spend_udp("stamp", peer, sent=sent, received=received, version=version, now_ns=now_ns)

    def stranger(self, where: Target, received: int) -> None:
        """Datagrams that no peer of the plan sent, or that are malformed."""
        self._count(0, received)
        version = 6 if where.family == socket.AF_INET6 else 4
        now_ns = self._clocks.wall_ns()
        self._traffic_budget.spend_udp("stranger", "", received=received, version=version, now_ns=now_ns)

    def others(self) -> None:
        """Books what is not booked yet."""
        rest = {}
        for way in ("sent", "received"):
            packets, size = f"udp_packets_{way}", f"udp_bytes_{way}"
            rest[way] = self._counts[size] - self._booked[size]
            rest[way] += (self._counts[packets] - self._booked[packets]) * UDP_HEADERS[4]
            for name in (packets, size):
                self._booked[name] = self._counts[name]
        if rest["sent"] or rest["received"]:
            self._traffic_budget.spend("other", "", rest["sent"], rest["received"], self._clocks.wall_ns())

    def _count(self, sent: int, received: int) -> None:
        for way, size in (("sent", sent), ("received", received)):
            if size:
                self._booked[f"udp_packets_{way}"] += 1
                self._booked[f"udp_bytes_{way}"] += size
