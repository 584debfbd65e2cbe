"""Answer STUN (RFC 8489) on two UDP ports: report to each member the address that its datagrams come from.

Two ports are needed to tell a NAT that maps by destination from one that does not. Our probes pad their requests to the
length of the answer; requests of other programs get one that is twelve bytes longer, so of those only a few a second
are answered, for all senders together. One source gets a limited number of answers a second, and half of all answers
are reserved for the addresses of members' sessions: a flood of forged sources takes nothing from them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

from swarm_collector.ingest.quotas import source_of
from swarm_protocol.packets import stun_packet
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.trust.loopback import is_loopback

MEMBER_ANSWERS_PER_S: Final = 2_000.0  # ten thousand members ask every twenty seconds
STRANGER_ANSWERS_PER_S: Final = 2_000.0
SOURCE_ANSWERS_PER_S: Final = 40.0  # two hundred machines behind one address ask twenty times a second
SOURCE_BURST: Final = 400.0
MAX_SOURCES: Final = 16_384
READ_AT_ONCE: Final = 64  # datagrams of one port before other tasks run
RECEIVE_BYTES: Final = 2_048  # of a datagram; a request has 20 to 50
RECEIVE_BUFFER_BYTES: Final = 1 << 20  # in the kernel: bursts wait there
BARE_PER_S: Final = 20.0  # answers longer than their requests must not be worth provoking
PORTS: Final = 2

log = logging.getLogger("swarm_collector.transport.stun_server")


class StunServer:
    def __init__(self, steady_ns: Callable[[], int]) -> None:
        self.ports: tuple[int, ...] = ()  # empty: nobody can learn its address
        self.answered = 0
        self.refused = 0  # requests over a rate
        # a datagram arrived from another machine: the network in front of this one lets UDP through
        self.proven = False
        self._steady_ns = steady_ns
        self._members = TokenBucket(MEMBER_ANSWERS_PER_S, MEMBER_ANSWERS_PER_S)
        self._strangers = TokenBucket(STRANGER_ANSWERS_PER_S, STRANGER_ANSWERS_PER_S)
        self._bare = TokenBucket(BARE_PER_S, BARE_PER_S)
        self._sources: OrderedDict[str, TokenBucket] = OrderedDict()  # of strangers; the least recent are forgotten
        self._member_sources: dict[str, TokenBucket] = {}
        self._sessions: dict[int, str] = {}  # → the source of that member
        self._sessions_of: Counter[str] = Counter()
        self._sockets: list[socket.socket] = []

    async def start(self, host: str, port: int) -> None:
        """Listen on `port` and the next one, on any free ones where those are taken. Log it if UDP is not possible."""
        loop = asyncio.get_running_loop()
        for wanted in range(port, port + PORTS):
            made = _bound(host, wanted if wanted < 1 << 16 else 0)
            if made is None:
                continue
            loop.add_reader(made, self._read, made)
            self._sockets.append(made)
        self.ports = tuple(made.getsockname()[1] for made in self._sockets)
        if self.ports != tuple(range(port, port + PORTS)):
            ports = " and ".join(map(str, self.ports)) or "no port"
            log.warning(
                "STUN answers on UDP %s instead of %d and %d; open those in the firewall", ports, port, port + 1
            )

    def close(self) -> None:
        for made in self._sockets:
            asyncio.get_running_loop().remove_reader(made)
            made.close()
        self._sockets.clear()

    # ------------------------------------------------------------ who is a member

    def member_came(self, session: int, host: str) -> None:
        """A member's session comes from `host`: it may use the reserve for members."""
        self.member_gone(session)
        source = source_of(host)
        self._sessions[session] = source
        self._sessions_of[source] += 1
        self._member_sources.setdefault(source, TokenBucket(SOURCE_ANSWERS_PER_S, SOURCE_BURST))

    def member_gone(self, session: int) -> None:
        source = self._sessions.pop(session, None)
        if source is None:
            return
        self._sessions_of[source] -= 1
        if not self._sessions_of[source]:
            del self._sessions_of[source], self._member_sources[source]

    # ------------------------------------------------------------ requests

    def answer(self, data: bytes, source: tuple[Any, ...]) -> bytes | None:
        """Return what to send back to `source`; None: nothing."""
        name, now_ns = source_of(source[0]), self._steady_ns()
        own = self._member_sources.get(name)
        member = own is not None
        if own is None:
            own = self._sources.pop(name, None) or TokenBucket(SOURCE_ANSWERS_PER_S, SOURCE_BURST)
            self._sources[name] = own
            if len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)
        if not own.allows(now_ns):  # before anything is parsed: a flood is mostly this
            self.refused += 1
            return None
        made = stun_packet.answer(data, stun_packet.Endpoint(source[0], source[1]))
        if made is None:
            return None
        shares = [self._members, self._strangers] if member else [self._strangers]
        if len(made) > len(data):
            shares = [self._bare]
        share = next((each for each in shares if each.allows(now_ns)), None)
        if share is None:
            self.refused += 1
            return None
        own.wait_s(now_ns)
        share.wait_s(now_ns)
        self.answered += 1
        self.proven = self.proven or not is_loopback(source[0])
        return made

    def _read(self, port: socket.socket) -> None:
        """Read some of what waits: asyncio reads one datagram a turn, and members' datagrams would be lost in a
        flood."""
        for _ in range(READ_AT_ONCE):
            try:
                data, source = port.recvfrom(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an earlier answer could not be delivered
                continue
            made = self.answer(data, source)
            if made is not None:
                with contextlib.suppress(OSError):  # no room or no way back: the client asks again
                    port.sendto(made, source)


def _bound(host: str, port: int) -> socket.socket | None:
    """Return a UDP socket on `port`, else on any other, else None."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for tried in (port, 0):
        made = socket.socket(family, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
            made.bind((host, tried))
        except OSError as error:
            made.close()
            log.info("UDP port %s of %s: %s", tried or "(any)", host, error.strerror)
            continue
        return made
    return None
