"""Discover what NAT this probe's UDP port is behind, by querying the collector's two STUN ports.

Pure: bytes and monotonic time in, bytes and findings out; `nat_status` owns the clock, `udp_socket` the socket. The
first port is queried again before a home router forgets (that keeps this mapping alive, and detects a restarted
router), the second one rarely: only a NAT that maps by destination shows there. A NAT that maps by address alone and
not by port passes for the easy kind; two addresses would be needed to tell (RFC 5780), and such are rare.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from swarm_protocol.messages.samples import NatKind
from swarm_protocol.packets import stun_packet
from swarm_protocol.packets.stun_packet import Endpoint
from swarm_protocol.units import NS_PER_MS, NS_PER_S

RETRY_NS: Final = (500 * NS_PER_MS, 1 * NS_PER_S, 2 * NS_PER_S)  # RFC 8489 §6.2.1, cut short: a verdict within 3.5 s
KEEP_NS: Final = 20 * NS_PER_S  # routers forget a silent mapping after 30 s at the earliest
SECOND_NS: Final = 300 * NS_PER_S  # the kind of NAT hardly ever changes while its mapping does not
FAILED_NS: Final = 30 * NS_PER_S  # without an answer, until the next try
VALID_NS: Final = 60 * NS_PER_S  # two queries missed: then nothing is known any more
RTTS: Final = 9
PORTS: Final = 2


class Finding(msgspec.Struct, frozen=True):
    """What is known of this probe's UDP port now."""

    nat: NatKind | None  # None: not known
    mapped: Endpoint | None = None
    rtt_ns: int | None = None  # to the collector and back, the recent lowest, without the delay of its program


class Query(msgspec.Struct, frozen=True):
    """A request to send to this STUN port."""

    server: int
    data: bytes


class _Server(msgspec.Struct):
    due_ns: int
    tries: int = 0  # of the present query
    transaction: bytes = b""
    sent_ns: int = 0
    mapped: Endpoint | None = None
    answered_ns: int | None = None
    silent: bool = False  # the last query ended without an answer


class NatWatch(msgspec.Struct):
    """The discovery. `ports`: the number of the collector's STUN ports; `own`: this probe's endpoints by the system."""

    random_bytes: Callable[[int], bytes]
    _servers: list[_Server] = msgspec.field(default_factory=list)
    _own: frozenset[Endpoint] = frozenset()
    _loopback: bool = False
    _rtts: deque[int] = msgspec.field(default_factory=lambda: deque(maxlen=RTTS))

    def start(self, ports: int, own: Collection[Endpoint], now_ns: int, *, loopback: bool) -> None:
        """Start over. `loopback`: the collector is on this machine, so it cannot see any NAT in front of it."""
        self._servers = [_Server(now_ns) for _ in range(min(ports, PORTS))]
        self._own = frozenset(own)
        self._loopback = loopback
        self._rtts.clear()

    @property
    def pending(self) -> bool:
        """Return whether answers are pending that may change what was found."""
        return any(server.tries > 0 for server in self._servers)

    def recheck(self, now_ns: int) -> None:
        """Query at once, unless a query is pending: a path to a peer has trouble."""
        for server in self._servers:
            if not server.tries:
                server.due_ns = min(server.due_ns, now_ns)

    def next_ns(self) -> int | None:
        """Return when `poll` next has something to do; None: never."""
        return min((server.due_ns for server in self._servers), default=None)

    def poll(self, now_ns: int) -> list[Query]:
        queries = []
        for index, server in enumerate(self._servers):
            if now_ns < server.due_ns:
                continue
            if server.tries > len(RETRY_NS) - 1:  # waited for the last one too
                server.tries, server.silent = 0, True
                server.due_ns = now_ns + FAILED_NS
                self._recheck_others(server, now_ns)
                continue
            if server.tries == 0:
                server.transaction = self.random_bytes(stun_packet.ID_BYTES)
            server.due_ns = now_ns + RETRY_NS[server.tries]
            server.tries += 1
            server.sent_ns = now_ns
            queries.append(Query(index, stun_packet.encode_request(server.transaction)))
        return queries

    def receive(self, data: bytes, at_ns: int) -> bool:
        """Take a datagram of any sender; return whether it answers a query."""
        try:
            message = stun_packet.decode(data)
        except stun_packet.StunError:
            return False
        if message.kind != "success" or message.mapped is None:
            return False
        for index, server in enumerate(self._servers):
            if not server.tries or message.transaction != server.transaction:
                continue
            if server.tries == 1:  # after a retransmission it is ambiguous which request was answered (Karn)
                self._rtts.append(max(0, at_ns - server.sent_ns))
            # a query caused by the other port's change is no reason to query that one again
            moved = server.answered_ns is not None and server.mapped != message.mapped
            server.mapped, server.answered_ns, server.silent, server.tries = message.mapped, at_ns, False, 0
            server.due_ns = at_ns + (KEEP_NS if index == 0 else SECOND_NS)
            if moved:
                self._recheck_others(server, at_ns)
            return True
        return False

    def _recheck_others(self, server: _Server, now_ns: int) -> None:
        """Query the other port again: its answer is from another time."""
        for other in self._servers:
            if other is not server and not other.tries and not other.silent:
                other.due_ns, other.answered_ns = now_ns, None

    def finding(self, now_ns: int, *, peers_answer: bool) -> Finding:
        """Return what was found. `peers_answer`: other members did so lately, over the same port: UDP is not
        blocked."""
        rtt_ns = min(self._rtts, default=None)
        answered = [server for server in self._servers if server.answered_ns is not None]
        first = answered[0] if answered else None
        if first is None or first.answered_ns is None or now_ns - first.answered_ns > VALID_NS:
            blocked = bool(self._servers) and all(server.silent for server in self._servers) and not peers_answer
            return Finding("udp-blocked" if blocked and not self._loopback else None)
        if self._loopback:
            return Finding(None, rtt_ns=rtt_ns)
        if first.mapped in self._own:
            return Finding("none", first.mapped, rtt_ns)
        if len(answered) < PORTS:
            return Finding(None, first.mapped, rtt_ns)  # one answer shows that there is a NAT, not of which kind
        easy = answered[1].mapped == first.mapped
        return Finding("endpoint-independent" if easy else "symmetric", first.mapped, rtt_ns)
