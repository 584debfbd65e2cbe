"""STUN (RFC 8489) on two UDP ports: report to each member the address that its datagrams come from.

Two ports, because one answer does not tell a NAT that maps by destination from one that does not. Requests of our
probes are padded to the length of the answer; bare ones of other programs get one that is twelve bytes longer, so of
those only a few a second are answered, to all the world together. One source gets so many answers a second and no
more, and half of all answers are kept for the addresses that members' sessions come from: a flood of forged sources
takes nothing from them.
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
READ_AT_ONCE: Final = 64  # datagrams of one port between two turns of everything else
RECEIVE_BYTES: Final = 2_048  # of a datagram; a request has 20 to 50
RECEIVE_BUFFER_BYTES: Final = 1 << 20  # in the kernel: what comes in bursts waits there
BARE_PER_S: Final = 20.0  # answers longer than their requests: nothing to be gained by making us send those
PORTS: Final = 2

log = logging.getLogger("swarm_collector.transport.stun_server")


class StunServer:
    def __init__(self, steady_ns: Callable[[], int]) -> None:
        self.ports: tuple[int, ...] = ()  # empty: nobody can be told its address
        self.answered = 0
        self.refused = 0  # requests over a rate
        self.proven = False  # a datagram came in from another machine: what lies before this one lets UDP through
        self._steady_ns = steady_ns
        self._members = TokenBucket(MEMBER_ANSWERS_PER_S, MEMBER_ANSWERS_PER_S)
        self._strangers = TokenBucket(STRANGER_ANSWERS_PER_S, STRANGER_ANSWERS_PER_S)
        self._bare = TokenBucket(BARE_PER_S, BARE_PER_S)
        self._sources: OrderedDict[str, TokenBucket] = OrderedDict()  # of strangers, those of the longest ago forgotten
        self._member_sources: dict[str, TokenBucket] = {}
        self._sessions: dict[int, str] = {}  # → the source of that member
        self._sessions_of: Counter[str] = Counter()
        self._sockets: list[socket.socket] = []

    async def start(self, host: str, port: int) -> None:
        """Listens on `port` and the one after it, on any free ones where those are taken. Without UDP it says so."""
        loop = asyncio.get_running_loop()
        for wanted in range(port, port + PORTS):
            made = _bound(host, wanted if wanted < 1 << 16 else 0)
            if made is None:
                continue
            loop.add_reader(made, self._read, made)
            self._sockets.append(made)
        self.ports = tuple(made.getsockname()[1] for made in self._sockets)
        if self.ports != tuple(range(port, port + PORTS)):
            told = " and ".join(map(str, self.ports)) or "no port"
            log.warning("STUN answers on UDP %s instead of %d and %d; open those in the firewall", told, port, port + 1)

    def close(self) -> None:
        for made in self._sockets:
            asyncio.get_running_loop().remove_reader(made)
            made.close()
        self._sockets.clear()

    # ------------------------------------------------------------ who is a member

    def member_came(self, session: int, host: str) -> None:
        """A member's session comes from `host`: what is kept for members is for it too."""
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
        """What to send back to `source`; None: nothing."""
        name, now_ns = source_of(source[0]), self._steady_ns()
        own = self._member_sources.get(name)
        member = own is not None
        if own is None:
            own = self._sources.pop(name, None) or TokenBucket(SOURCE_ANSWERS_PER_S, SOURCE_BURST)
            self._sources[name] = own
            if len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)
        if not own.allows(now_ns):  # before anything is made of it: a flood is mostly this
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
        """Some of what waits: asyncio's own takes one datagram a turn, and those of members are lost behind a flood."""
        for _ in range(READ_AT_ONCE):
            try:
                data, source = port.recvfrom(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an answer of before could not be delivered
                continue
            made = self.answer(data, source)
            if made is not None:
                with contextlib.suppress(OSError):  # no room or no way back: it will ask again
                    port.sendto(made, source)


def _bound(host: str, port: int) -> socket.socket | None:
    """A UDP socket on `port`, on any other where that is taken, None where there is none to be had."""
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
