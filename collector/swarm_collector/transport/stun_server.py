"""STUN (RFC 8489) on two UDP ports: tells each member the address its datagrams come from.

Two ports, because one answer does not tell a NAT that maps by destination from one that does not. Requests of our
probes are padded to the length of the answer; bare ones of other programs get one that is twelve bytes longer, so of
those only a few a second are answered, to all the world together.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from swarm_collector.bucket import Bucket
from swarm_protocol.packets import stun_packet
from swarm_protocol.trust.loopback import is_loopback

ANSWERS_PER_S: Final = 2_000.0  # ten thousand members ask every twenty seconds
BARE_PER_S: Final = 20.0  # answers longer than their requests: nothing to be gained by making us send those
PORTS: Final = 2

log = logging.getLogger("swarm_collector.transport.stun_server")


class StunServer:
    def __init__(self, steady_ns: Callable[[], int]) -> None:
        self.ports: tuple[int, ...] = ()  # empty: nobody can be told its address
        self.answered = 0
        self.refused = 0  # requests over the rate
        self.proven = False  # a datagram came in from another machine: what lies before this one lets UDP through
        self._steady_ns = steady_ns
        self._padded = Bucket(ANSWERS_PER_S, ANSWERS_PER_S)
        self._bare = Bucket(BARE_PER_S, BARE_PER_S)
        self._transports: list[asyncio.DatagramTransport] = []

    async def start(self, host: str, port: int) -> None:
        """Listens on `port` and the one after it, on any free ones where those are taken. Without UDP it says so."""
        loop = asyncio.get_running_loop()
        for wanted in range(port, port + PORTS):
            made = _bound(host, wanted if wanted < 1 << 16 else 0)
            if made is None:
                continue
            transport, _ = await loop.create_datagram_endpoint(lambda: _Port(self), sock=made)
            self._transports.append(transport)
        self.ports = tuple(transport.get_extra_info("sockname")[1] for transport in self._transports)
        if self.ports != tuple(range(port, port + PORTS)):
            told = " and ".join(map(str, self.ports)) or "no port"
            log.warning("STUN answers on UDP %s instead of %d and %d; open those in the firewall", told, port, port + 1)

    def close(self) -> None:
        for transport in self._transports:
            transport.close()
        self._transports.clear()

    def answer(self, data: bytes, source: tuple[Any, ...]) -> bytes | None:
        """What to send back to `source`; None: nothing."""
        made = stun_packet.answer(data, stun_packet.Endpoint(source[0], source[1]))
        if made is None:
            return None
        bucket = self._padded if len(made) <= len(data) else self._bare
        now_ns = self._steady_ns()
        if bucket.full(now_ns):
            self.refused += 1
            return None
        bucket.wait_s(now_ns)
        self.answered += 1
        self.proven = self.proven or not is_loopback(source[0])
        return made


class _Port(asyncio.DatagramProtocol):
    def __init__(self, server: StunServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # asyncio's own is no subclass of it in 3.11

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        made = self._server.answer(data, addr)
        if made is not None and self._transport is not None:
            self._transport.sendto(made, addr)


def _bound(host: str, port: int) -> socket.socket | None:
    """A UDP socket on `port`, on any other where that is taken, None where there is none to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for tried in (port, 0):
        made = socket.socket(family, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
            made.bind((host, tried))
        except OSError as error:
            made.close()
            log.info("UDP port %s of %s: %s", tried or "(any)", host, error.strerror)
            continue
        return made
    return None
