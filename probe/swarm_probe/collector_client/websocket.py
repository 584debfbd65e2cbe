"""Open the WebSocket to the collector, on a connection whose every byte and frame is counted before it is parsed.

`websockets` keeps the protocol (RFC 6455). Its `connect`, which also knows proxies and redirects and loads 0.7 MB for
them (urllib.request, http.client, email), is imported only where a proxy leads to the collector.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from websockets.asyncio.connection import Connection
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.protocol import CONNECTING, Event
from websockets.uri import parse_uri

from swarm_probe.collector_client.traffic_meter import Breach, Meter
from swarm_probe.light_imports import encoded, proxies_set, small_tls_buffers

if TYPE_CHECKING:
    import ssl

SLICE_BYTES: Final = 4096  # parsed at once: 2,048 empty frames


class Opening(msgspec.Struct, frozen=True):
    """How a connection to the collector is opened and kept."""

    url: str
    tls: ssl.SSLContext | None  # None: plain text
    max_bytes: int  # of one message
    open_s: float = 10.0
    ping_s: float | None = 20.0  # None: no pings
    ping_wait_s: float | None = 20.0
    close_s: float = 10.0


class ClientConnection(Connection):
    """The client's side of a WebSocket: its handshake, then frames."""

    protocol: ClientProtocol

    def __init__(self, protocol: ClientProtocol, **times: Any) -> None:
        super().__init__(protocol, **times)
        self._answered: asyncio.Future[None] = self.loop.create_future()

    async def handshake(self, _headers: object = None, _user_agent: str | None = None) -> None:
        """Send the request and wait for the response. Raises WebSocketException."""
        self.request = self.protocol.connect()
        async with self.send_context(expected_state=CONNECTING):
            self.protocol.send_request(self.request)
        await asyncio.wait([self._answered, self.connection_lost_waiter], return_when=asyncio.FIRST_COMPLETED)
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    def process_event(self, event: Event) -> None:
        if self.response is None:
            self.response = cast(Any, event)
            self._answered.set_result(None)
        else:
            super().process_event(event)


class MeteredConnection(ClientConnection):
    """Hangs up when the meter says so, before the received bytes are parsed."""

    def __init__(self, meter: Meter, protocol: ClientProtocol, **times: Any) -> None:
        super().__init__(protocol, **times)
        self._meter = meter

    def data_received(self, data: bytes) -> None:
        if self._hung_up(self._meter.received(len(data), self.transport.get_extra_info("socket"))):
            return
        for at in range(0, len(data), SLICE_BYTES):
            super().data_received(data[at : at + SLICE_BYTES])
            if self._meter.breach is not None:
                return

    def process_event(self, event: Event) -> None:
        if not self._hung_up(self._meter.frame()):
            super().process_event(event)

    def look(self) -> None:
        """Check periodically, whether or not anything came out of TLS."""
        self._hung_up(self._meter.look(self.transport.get_extra_info("socket")))

    def _hung_up(self, breach: Breach | None) -> bool:
        if breach is not None:
            self.transport.abort()
        return breach is not None


async def open_websocket(how: Opening, meter: Meter | None, own: socket.socket | None) -> ClientConnection:
    """Return the connection after its handshake. `own`: a connected socket, which is closed with it; None: a proxy
    leads there. Redirects are refused: a collector must not send this probe elsewhere.

    Raises OSError (TimeoutError after `open_s`), WebSocketException, and ImportError for a SOCKS proxy whose package is
    missing.
    """
    if how.tls is not None:
        small_tls_buffers()
    make = functools.partial(MeteredConnection, meter) if meter is not None else ClientConnection
    if own is None:
        return await _through_proxy(how, make)
    uri = parse_uri(how.url)

    def made() -> ClientConnection:
        protocol = ClientProtocol(uri, max_size=how.max_bytes)
        return make(protocol, ping_interval=how.ping_s, ping_timeout=how.ping_wait_s, close_timeout=how.close_s)

    async with asyncio.timeout(how.open_s):
        name = cast(str, encoded(uri.host)) if how.tls is not None else None  # asyncio hands it on to ssl
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(made, sock=own, ssl=how.tls, server_hostname=name)
        except BaseException:
            own.close()
            raise
        try:
            await connection.handshake()
        except BaseException:
            connection.transport.abort()
            raise
    connection.start_keepalive()
    return connection


async def _through_proxy(how: Opening, make: Any) -> ClientConnection:
    from websockets.asyncio.client import connect  # late: see above

    class DirectConnect(connect):
        def process_redirect(self, exc: Exception) -> Exception | str:
            """Refuse every redirect."""
            return exc

    connection = await DirectConnect(
        how.url,
        create_connection=make,
        ssl=how.tls,
        compression=None,  # samples are small and this daemon is light
        open_timeout=how.open_s,
        ping_interval=how.ping_s,
        ping_timeout=how.ping_wait_s,
        close_timeout=how.close_s,
        max_size=how.max_bytes,
        user_agent_header=None,
    )
    return cast(ClientConnection, connection)


def by_proxy(url: str) -> bool:
    """Return whether a proxy leads to this URL."""
    if not proxies_set():
        return False
    from websockets.proxy import get_proxy

    try:
        return get_proxy(parse_uri(url)) is not None
    except InvalidURI:  # reported when it is opened
        return False
