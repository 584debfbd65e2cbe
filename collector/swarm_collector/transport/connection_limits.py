"""Limit connections that have not become sessions yet.

aiohttp sets no time limit for a request, so 500 slow clients can hold 500 connections for hours. This module sits
between the socket and aiohttp and counts every connection from accept to its end. One source can neither open them
faster nor hold more of them than its share, and all together no more than the process can carry. A connection that has
not become a session in time is cut, whatever it sends; when there is no room for another, the oldest half-open one is
cut first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from aiohttp import web

from swarm_collector.ingest.quotas import FrameQuota, Sources, source_of
from swarm_collector.transport.websocket import WebSocketConnection
from swarm_protocol.trust.loopback import is_loopback
from swarm_protocol.units import NS_PER_S

REQUEST_BYTES: Final = 64 << 10  # of all that comes before a session: a handshake has a few hundred
HALF_OPEN_S: Final = 2.0  # younger ones are not cut to make room: joining takes a second on a busy collector


@dataclass(frozen=True, slots=True)
class Limits:
    http_s: float = 10.0  # from accept to the upgrade; also the limit of an HTTP client of /health
    hello_s: float = 10.0  # from there to the complete first message
    per_address: int = 256  # a lab or a household behind one address has far fewer
    total: int = 20_000


@dataclass(slots=True, eq=False)
class Connection:
    """An accepted connection. `cut` ends it at any stage."""

    source: str
    local: bool  # comes from a proxy on this machine, on behalf of others
    accepted_at: float
    cut: Callable[[], None] = lambda: None


@dataclass(slots=True)
class ConnectionLimiter:
    """Make the protocol of each connection, and count connections; one per server."""

    limits: Limits
    make_handler: Callable[[], web.RequestHandler]  # aiohttp's web.Server
    proxied: bool = False  # connections over loopback may come from anybody, through a proxy on this machine
    refused: Counter[str] = field(default_factory=Counter)  # why → how often
    sources: Sources = field(default_factory=Sources)
    _per_source: Counter[str] = field(default_factory=Counter)
    _held: set[Connection] = field(default_factory=set)
    _half_open: dict[Connection, None] = field(default_factory=dict)  # in order of arrival
    _watched: dict[asyncio.BaseTransport, Watched] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def half_open(self) -> int:
        return len(self._half_open)

    def accept(self, address: str, now: float) -> Connection | None:
        """Count a connection that has just been accepted; None: close it."""
        local = self.proxied and is_loopback(address)
        source = source_of(address)
        if not local:
            if self._per_source[source] >= self.limits.per_address:
                self.refused["too many connections of one address"] += 1
                return None
            connections = self.sources.of(source).connections
            if not connections.allows(round(now * NS_PER_S)):
                self.refused["too many new connections of one address"] += 1
                return None
            connections.wait_s(round(now * NS_PER_S))
        if len(self._held) >= self.limits.total and not self.make_room(now):
            self.refused["too many connections"] += 1
            return None
        connection = Connection(source, local, now)
        self._per_source[source] += 1
        self._held.add(connection)
        self._half_open[connection] = None
        return connection

    def make_room(self, now: float) -> bool:
        """Cut the oldest half-open connection; False: all of them are too young."""
        oldest = next(iter(self._half_open), None)
        if oldest is None or now - oldest.accepted_at < HALF_OPEN_S:
            return False
        self.refused["half open, and others needed the slot"] += 1
        cut = oldest.cut
        self.release(oldest)
        cut()
        return True

    def release(self, connection: Connection) -> None:
        """Note that this connection has ended. May be called more than once."""
        if connection not in self._held:
            return
        self._held.remove(connection)
        self._half_open.pop(connection, None)
        self._per_source[connection.source] -= 1
        if not self._per_source[connection.source]:
            del self._per_source[connection.source]

    def quota(self, transport: asyncio.BaseTransport) -> FrameQuota:
        """Return the frame quota of this transport."""
        connection = self._watched[transport].connection
        return FrameQuota(None if connection.local else self.sources.of(connection.source).frames)

    def hand_over(self, request: web.Request, wire: WebSocketConnection) -> None:
        """This connection has become a WebSocket: its session's timeouts apply from here, and aiohttp is told that it
        is gone. The request's handler must end by being cancelled: there is nobody to answer any more."""
        self._watched[wire.transport].become(wire)

    def admitted(self, transport: asyncio.BaseTransport) -> None:
        """The session has sent its hello and was accepted: it is no longer half open."""
        if (watched := self._watched.get(transport)) is not None:
            self._half_open.pop(watched.connection, None)

    def may_last(self, transport: asyncio.BaseTransport, seconds: float) -> None:
        """This connection carries a large answer: it is cut `seconds` from now, and not to make room for others."""
        if (watched := self._watched.get(transport)) is not None:
            self._half_open.pop(watched.connection, None)
            watched.end_within(seconds)

    def watch(self, transport: asyncio.BaseTransport, watched: Watched) -> None:
        self._watched[transport] = watched

    def forget(self, transport: asyncio.BaseTransport) -> None:
        self._watched.pop(transport, None)


class Watched(asyncio.Protocol):
    """The protocol of one connection, for its whole life: first for aiohttp's handler, then for a WebSocket."""

    __slots__ = ("_connection_limiter", "_inner", "_received_bytes", "_timer", "_transport", "connection")

    def __init__(self, connection_limiter: ConnectionLimiter, connection: Connection) -> None:
        self.connection = connection
        self._connection_limiter = connection_limiter
        self._inner: web.RequestHandler | WebSocketConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received_bytes = 0  # before it became a session

    def become(self, wire: WebSocketConnection) -> None:
        self._settle()
        asked, self._inner = self._inner, wire
        assert isinstance(asked, web.RequestHandler)
        asked.transport = None  # or it would close it
        asked.connection_lost(None)

    def end_within(self, seconds: float) -> None:
        self._settle()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._cut, "not a session in time")

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connection_limiter.watch(transport, self)
        self.connection.cut = self._transport.abort
        self.end_within(self._connection_limiter.limits.http_s)
        self._inner = handler = self._connection_limiter.make_handler()
        handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle()
        self._connection_limiter.release(self.connection)
        if self._inner is not None and self._transport is not None:
            self._connection_limiter.forget(self._transport)
            self._inner.connection_lost(exc)
            self._inner = None

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._received_bytes += len(data)
            if self._received_bytes > REQUEST_BYTES:
                self._cut("too much before it was a session")
                return
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

    def _cut(self, why: str) -> None:
        self._settle()
        self._connection_limiter.refused[why] += 1
        if self._transport is not None:
            self._transport.abort()
