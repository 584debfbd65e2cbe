"""Who may hold a connection before it has become a session.

aiohttp gives a client all the time it wants to send its request, so 500 slow ones hold 500 connections for hours.
This stands between the socket and aiohttp: a connection that has not become a session within its time is cut,
whatever it drips; one address cannot hold more than its share, nor all together more than the process can carry.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from aiohttp import web

from swarm_collector.transport.websocket import WebSocketConnection


@dataclass(frozen=True, slots=True)
class Limits:
    http_s: float = 10.0  # from accept to an upgraded connection; also all an HTTP client of /health gets
    hello_s: float = 10.0  # from there to the first message, whole
    per_address: int = 256  # a lab or a household behind one address is far below
    total: int = 20_000


@dataclass(slots=True)
class ConnectionLimiter:
    """One per server: makes the protocol of each connection, and counts them."""

    limits: Limits
    make_handler: Callable[[], web.RequestHandler]  # aiohttp's web.Server
    refused: Counter[str] = field(default_factory=Counter)  # why → how often
    _per_address: Counter[str] = field(default_factory=Counter)
    _open: dict[asyncio.BaseTransport, _Watched] = field(default_factory=dict)

    def __call__(self) -> asyncio.Protocol:
        return _Watched(self)

    def __len__(self) -> int:
        return len(self._open)

    def hand_over(self, request: web.Request, wire: WebSocketConnection) -> None:
        """This connection has become a session: its own timeouts hold from here, and aiohttp is told that it is gone.
        The request's handler must end by being cancelled: there is nobody to answer any more."""
        self._open[wire.transport].become(wire)

    def may_come(self, address: str, waiting: int) -> bool:
        """Asked before a connection is one: `waiting` of this address are on the way here."""
        if self._per_address[address] + waiting >= self.limits.per_address:
            self.refused["too many connections of one address"] += 1
            return False
        return True

    def admit(self, transport: asyncio.BaseTransport, watched: _Watched) -> str | None:
        """The address it counts for, or None: no more."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if len(self._open) >= self.limits.total:
            self.refused["too many connections"] += 1
            return None
        if self._per_address[address] >= self.limits.per_address:
            self.refused["too many connections of one address"] += 1
            return None
        self._per_address[address] += 1
        self._open[transport] = watched
        return address

    def release(self, transport: asyncio.BaseTransport, address: str) -> None:
        self._open.pop(transport, None)
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]


class _Watched(asyncio.Protocol):
    def __init__(self, connection_limiter: ConnectionLimiter) -> None:
        self._connection_limiter = connection_limiter
        self._inner: web.RequestHandler | WebSocketConnection | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None

    def become(self, wire: WebSocketConnection) -> None:
        self._settle()
        asked, self._inner = self._inner, wire
        assert isinstance(asked, web.RequestHandler)
        asked.transport = None  # or it would close it
        asked.connection_lost(None)

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address = self._connection_limiter.admit(transport, self)
        if address is None:
            cast(asyncio.Transport, transport).abort()
            return
        self._address, self._transport = address, transport
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._connection_limiter.limits.http_s, self._cut)
        self._inner = handler = self._connection_limiter.make_handler()
        handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle()
        if self._inner is not None and self._transport is not None:
            self._connection_limiter.release(self._transport, self._address)
            self._inner.connection_lost(exc)
            self._inner = None

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def _cut(self) -> None:
        self._connection_limiter.refused["not a session in time"] += 1
        if self._transport is not None:
            cast(asyncio.Transport, self._transport).abort()
