"""Run TLS over an accepted socket: the handshake, records in and out, the orderly close.

An asyncio transport in which OpenSSL reads and writes the socket itself. asyncio's own has two transports, two memory
BIOs and a read buffer for each connection, 37 KiB more than plain text; here it is 15, and 14 of them are OpenSSL's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

RECORD_BYTES: Final = 16 << 10  # most of one TLS record: a read of so many leaves nothing decrypted behind
HIGH_WATER_BYTES: Final = 64 << 10  # not sent yet: above, the protocol is paused
LOW_WATER_BYTES: Final = 16 << 10  # below, it goes on


async def accept(
    connected: socket.socket, context: ssl.SSLContext, protocol: asyncio.Protocol, within_s: float
) -> TlsTransport:
    """Do the server's part of the handshake and connect `protocol`. `connected`: non-blocking; it is closed on failure.

    Raises OSError: TimeoutError if it takes too long, ssl.SSLError if no TLS can be agreed.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):  # not of TCP
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    secured = context.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    secured.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await _ready(loop.add_reader, loop.remove_reader, secured)
                except ssl.SSLWantWriteError:
                    await _ready(loop.add_writer, loop.remove_writer, secured)
        transport = TlsTransport(loop, secured, protocol)
    except BaseException:
        secured.close()
        raise
    protocol.connection_made(transport)
    transport.resume_reading()
    return transport


async def _ready(
    add: Callable[[socket.socket, Callable[[], None]], object],
    remove: Callable[[socket.socket], object],
    secured: ssl.SSLSocket,
) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(secured, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove(secured)


class TlsTransport(asyncio.Transport):
    """One connection after its handshake. Made by `accept`."""

    __slots__ = (
        "_backlog",
        "_closing",
        "_loop",
        "_lost",
        "_peer",
        "_protocol",
        "_protocol_paused",
        "_reading",
        "_socket",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, secured: ssl.SSLSocket, protocol: asyncio.Protocol) -> None:
        """Raises OSError if the peer has gone."""
        self._loop = loop
        self._socket = secured
        self._protocol = protocol
        self._peer = secured.getpeername()  # a connection that breaks has none any more
        self._backlog: bytearray | None = None  # not sent yet; most connections never have one
        self._reading = False
        self._protocol_paused = False
        self._closing = False  # nothing is read or accepted any more
        self._lost = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "peername":
                return self._peer
            case "sockname":
                return default if self._lost else self._socket.getsockname()
            case "socket" | "ssl_object":
                return self._socket
            case "sslcontext":
                return self._socket.context
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # ------------------------------------------------------------ reading

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        """Read one record; what else has come keeps the socket readable."""
        try:
            data = self._socket.recv(RECORD_BYTES)
        except ssl.SSLWantReadError:  # only a part of a record has come
            return
        except ssl.SSLWantWriteError:  # TLS answers its peer (a key update) and the socket is full
            self._loop.add_writer(self._socket, self._writable)
            return
        except OSError as error:
            self._cut(error)
            return
        try:
            if data:
                self._protocol.data_received(data)
            else:
                self._protocol.eof_received()
                self.close()
        except Exception as error:  # noqa: BLE001 - of whatever protocol: its connection ends, as asyncio's would
            self._loop.call_exception_handler(
                {"message": "a protocol failed on what it received", "exception": error, "protocol": self._protocol}
            )
            self._cut(error)

    # ------------------------------------------------------------ writing

    def get_write_buffer_size(self) -> int:
        return 0 if self._backlog is None else len(self._backlog)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return LOW_WATER_BYTES, HIGH_WATER_BYTES

    def can_write_eof(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        if self._backlog is not None:
            self._backlog += data
        else:
            with memoryview(data) as view:
                sent = self._send(view)
                if self._lost or sent == len(view):
                    return
                self._backlog = bytearray(view[sent:])
            self._loop.add_writer(self._socket, self._writable)
        if len(self._backlog) > HIGH_WATER_BYTES and not self._protocol_paused:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _send(self, data: memoryview) -> int:
        """Send what the socket takes; return how many bytes."""
        sent = 0
        try:
            while sent < len(data):
                sent += self._socket.send(data[sent:])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._cut(error)
        return sent

    def _writable(self) -> None:
        if self._backlog is not None:
            with memoryview(self._backlog) as view:
                sent = self._send(view)
            if self._lost:
                return
            del self._backlog[:sent]
            if self._protocol_paused and len(self._backlog) <= LOW_WATER_BYTES:
                self._protocol_paused = False
                self._protocol.resume_writing()
            if self._backlog:
                return
            self._backlog = None
        self._loop.remove_writer(self._socket)
        if self._closing:
            self._say_goodbye()
        elif self._reading:
            self._readable()  # its answer may have waited for this

    # ------------------------------------------------------------ the end

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Close once everything is sent."""
        if not self._closing:
            self.pause_reading()
            self._closing = True
            if self._backlog is None:
                self._say_goodbye()

    def abort(self) -> None:
        self._cut(None)

    def _say_goodbye(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # it raises SSLWantReadError: the peer's own is not waited for
            self._socket.unwrap()
        self._cut(None)

    def _cut(self, error: OSError | Exception | None) -> None:
        if self._lost:
            return
        self.pause_reading()
        self._loop.remove_writer(self._socket)
        self._closing = self._lost = True
        self._backlog = None
        self._loop.call_soon(self._end, error)

    def _end(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._socket.close()
