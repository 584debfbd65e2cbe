"""Send and collect the packets of trains on the probe's UDP port, and account for them.

Packets go only where `udp_socket` lets them; to whom is up to the caller, who has a lease and the peer's consent. Those
that arrive count only while a test with their token is being collected.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from swarm_probe.clocks import Clocks
from swarm_probe.owner_limits.traffic_accounting import TrafficAccounting
from swarm_probe.sockets import Target
from swarm_probe.trains import wire
from swarm_probe.udp.udp_socket import Arrival, UdpPort

MAX_TRAINS: Final = 16  # of one test; more are not collected


class Collection(msgspec.Struct):
    """The packets of one test that have arrived."""

    token: bytes
    max_packets: int
    trains: dict[int, list[tuple[int, int]]] = msgspec.field(default_factory=dict)  # train → (number, wall ns)
    latest_ns: int = 0  # monotonic, when the latest was read
    packets: int = 0
    received_bytes: int = 0  # payload
    source: Target | None = None


class TrainPort:
    def __init__(self, udp: UdpPort, accounting: TrafficAccounting, counts: Counter[str], clocks: Clocks) -> None:
        self._udp = udp
        self._accounting = accounting
        self._counts = counts
        self._clocks = clocks
        self._collections: dict[bytes, Collection] = {}

    @property
    def dropped(self) -> int:
        """Return how many datagrams this machine has dropped at the port since it was opened; 0 if not reported."""
        return self._udp.dropped

    def send(self, packets: Sequence[bytes], to: Target, peer: str) -> int:
        """Send as many of these packets as the system takes at once; return how many. Raises OSError."""
        sent = self._udp.send_many(packets, to)
        self._accounting.train(peer, to, sent_packets=sent, sent=sum(map(len, packets[:sent])))
        return sent

    @contextmanager
    def collect(self, peer: str, max_packets: int) -> Iterator[Collection]:
        """Collect the packets of a test of this peer (its name), at most so many."""
        collection = Collection(secrets.token_bytes(wire.TOKEN_BYTES), max_packets)
        self._collections[collection.token] = collection
        self._udp.many_expected = True
        self._udp.listen(True)
        try:
            yield collection
        finally:
            del self._collections[collection.token]
            self._udp.many_expected = bool(self._collections)
            if collection.source is not None:
                self._accounting.train_received(peer, collection.source, collection.packets, collection.received_bytes)

    def receive(self, arrival: Arrival) -> bool:
        """Take a datagram; return whether it belongs to a test that is being collected."""
        if not wire.is_train(arrival.data):
            return False
        packet = wire.decode_packet(arrival.data)
        collection = self._collections.get(packet.token)
        if collection is None or collection.packets >= collection.max_packets:
            return False
        if packet.train not in collection.trains and len(collection.trains) >= MAX_TRAINS:
            return False
        collection.trains.setdefault(packet.train, []).append((packet.number, arrival.wall_ns))
        collection.packets += 1
        collection.received_bytes += len(arrival.data)
        collection.source = arrival.source
        collection.latest_ns = self._clocks.mono_ns()
        self._accounting.received_for_later(len(arrival.data))
        return True
