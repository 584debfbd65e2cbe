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
        # what of it is in the traffic budget: datagrams and bytes sent, and received
        self._packets_sent = self._bytes_sent = self._packets_received = self._bytes_received = 0

    def level(self) -> Level:
        return self._traffic_budget.level(self._clocks.wall_ns())

    def stamp(self, peer: str, where: Target, *, sent: int = 0, received: int = 0) -> None:
        """Account for one datagram, out or in; payload in bytes."""
        self._count(sent, received)
        version, now_ns = _version(where), self._clocks.wall_ns()
        self._traffic_budget.spend_udp("stamp", peer, sent=sent, received=received, version=version, now_ns=now_ns)

    def train(self, peer: str, where: Target, *, sent_packets: int, sent: int) -> None:
        """Account for sent packets of a train, `sent` bytes of payload in all."""
        self._packets_sent += sent_packets
        self._bytes_sent += sent
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
        sent = self._counts["udp_bytes_sent"] - self._bytes_sent
        sent += (self._counts["udp_packets_sent"] - self._packets_sent) * UDP_HEADERS[4]
        received = self._counts["udp_bytes_received"] - self._bytes_received
        received += (self._counts["udp_packets_received"] - self._packets_received) * UDP_HEADERS[4]
        self._packets_sent, self._bytes_sent = self._counts["udp_packets_sent"], self._counts["udp_bytes_sent"]
        self._packets_received = self._counts["udp_packets_received"]
        self._bytes_received = self._counts["udp_bytes_received"]
        if sent or received:
            self._traffic_budget.spend("other", "", sent, received, self._clocks.wall_ns())

    def _count(self, sent: int, received: int) -> None:
        if sent:
            self._packets_sent += 1
            self._bytes_sent += sent
        if received:
            self._packets_received += 1
            self._bytes_received += received


def _version(where: Target) -> Literal[4, 6]:
    return 6 if where.family == socket.AF_INET6 else 4
