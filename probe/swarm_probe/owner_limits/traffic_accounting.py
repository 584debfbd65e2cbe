"""Account each datagram of the UDP port to the peer it belongs to.

Traffic through the port that was no STAMP packet (STUN, other protocols that share it) is accounted as the difference
to the port's own counters, so that the record covers every byte whoever sent it.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import Literal

from swarm_probe.clocks import Clocks
from swarm_probe.owner_limits.traffic_budget import UDP_HEADERS, Level, TrafficBudget
from swarm_probe.sockets import Target


class TrafficAccounting:
    def __init__(self, traffic_budget: TrafficBudget, counts: Counter[str], clocks: Clocks) -> None:
        self.names: dict[str, str] = {}  # node id → name, of the present plan
        self._traffic_budget = traffic_budget
        self._counts = counts  # of the port: udp_bytes_…, udp_packets_…
        self._clocks = clocks
        self._booked: Counter[str] = Counter()  # what of it is in the traffic budget

    def level(self) -> Level:
        return self._traffic_budget.level(self._clocks.wall_ns())

    def stamp(self, peer: str, where: Target, *, sent: int = 0, received: int = 0) -> None:
        """Account for one datagram, out or in; payload in bytes."""
        self._count(sent, received)
        version, now_ns = _version(where), self._clocks.wall_ns()
        self._traffic_budget.spend_udp("stamp", peer, sent=sent, received=received, version=version, now_ns=now_ns)

    def train(self, peer: str, where: Target, *, sent_packets: int, sent: int) -> None:
        """Account for sent packets of a train, `sent` bytes of payload in all."""
        self._booked["udp_packets_sent"] += sent_packets
        self._booked["udp_bytes_sent"] += sent
        size = sent + sent_packets * UDP_HEADERS[_version(where)]
        self._traffic_budget.spend("uplink", peer, size, 0, self._clocks.wall_ns())

    def received_for_later(self, size: int) -> None:
        """Leave one received datagram of a train to `train_received`: it comes too fast to account for each."""
        self._count(0, size)

    def train_received(self, peer: str, where: Target, packets: int, size: int) -> None:
        """Account for received packets of trains, `size` bytes of payload in all."""
        size += packets * UDP_HEADERS[_version(where)]
        self._traffic_budget.spend("uplink", peer, 0, size, self._clocks.wall_ns())

    def stranger(self, where: Target, received: int) -> None:
        """Account for datagrams that no peer of the plan sent, or that are malformed."""
        self._count(0, received)
        version, now_ns = _version(where), self._clocks.wall_ns()
        self._traffic_budget.spend_udp("stranger", "", received=received, version=version, now_ns=now_ns)

    def others(self) -> None:
        """Account for what is not accounted for yet."""
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


def _version(where: Target) -> Literal[4, 6]:
    return 6 if where.family == socket.AF_INET6 else 4
