"""Open the TCP connection to the collector, so that handshake bytes are counted even if it fails."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import msgspec

from swarm_probe.collector_client.traffic_meter import RECEIVE_BUFFER_BYTES
from swarm_probe.collector_client.websocket import by_proxy
from swarm_probe.light_imports import encoded

PORTS = {"ws": 80, "wss": 443}


class Dialled(msgspec.Struct, frozen=True):
    own: socket.socket  # for the connection, which closes it
    seen: socket.socket  # a duplicate, to be read afterwards; the caller closes it


async def dial(url: str, within_s: float) -> Dialled | None:
    """Connect to the host of this URL, at its first address that answers; return None if a proxy leads there, which
    `open_websocket` calls. Raises OSError, of the last address."""
    if by_proxy(url):
        return None
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(within_s):
        found = await loop.getaddrinfo(
            encoded(parts.hostname or ""), parts.port or PORTS.get(parts.scheme, 443), type=socket.SOCK_STREAM
        )
        failed: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in found:
            try:
                made = socket.socket(family, kind, protocol)
            except OSError as error:
                failed = error
                continue
            try:
                made.setblocking(False)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                await loop.sock_connect(made, address)
                return Dialled(made, made.dup())
            except OSError as error:
                made.close()
                failed = error
            except BaseException:
                made.close()
                raise
    raise failed
