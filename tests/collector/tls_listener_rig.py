"""A TlsListener on a loopback port, with sessions that answer what they hear in place of aiohttp's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable

from swarm_collector.transport import certificate
from swarm_collector.transport.connection_limits import ConnectionLimiter, Limits
from swarm_collector.transport.tls_listener import TlsListener

WAIT_S = 25.0


class Session(asyncio.Protocol):
    """Stand in for aiohttp's handler: record how the connection was accepted, and what it received."""

    def __init__(self, sessions: list[str], transports: list[asyncio.Transport]) -> None:
        self._sessions, self._transports = sessions, transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sessions.append("tls" if transport.get_extra_info("ssl_object") else "plain")
        self._transports.append(transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"heard " + data)


class Listening:
    """A listening socket that can be made to refuse; the loop watches the real one."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self.troubles: list[int] = []
        self.accepts = 0
        self.taken: list[socket.socket] = []  # held here, so that only closing closes them

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        self.accepts += 1
        if self.troubles:
            number = self.troubles.pop(0)
            raise OSError(number, os.strerror(number))
        connected, peer = self._real.accept()
        self.taken.append(connected)
        return connected, peer

    def fileno(self) -> int:
        return self._real.fileno()

    def close(self) -> None:
        self._real.close()


class Rig:
    def __init__(self, real: socket.socket, context: ssl.SSLContext | None, plain: bool, limits: Limits) -> None:
        self.sessions: list[str] = []
        self.transports: list[asyncio.Transport] = []
        self.listening = Listening(real)
        self.port: int = real.getsockname()[1]
        make_handler = lambda: Session(self.sessions, self.transports)  # noqa: E731
        self.limiter = ConnectionLimiter(limits, make_handler)  # type: ignore[arg-type]
        self.listener = TlsListener(self.listening, self.limiter, context, plain=plain)  # type: ignore[arg-type]

    def held(self) -> dict[str, int]:
        """Connections that are counted, by source; as often as there are any at all."""
        assert sum(self.limiter._per_source.values()) == len(self.limiter)
        return dict(self.limiter._per_source)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():  # noqa: ASYNC110 - of what no event tells
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def opened(
    own: certificate.Certificate | None, *, plain: bool = False, http_s: float = 5.0, per_address: int = 256
) -> AsyncIterator[Rig]:
    real = socket.create_server(("127.0.0.1", 0))
    real.setblocking(False)
    rig = Rig(real, own.context if own else None, plain, Limits(http_s=http_s, per_address=per_address))
    errors: list[dict[str, object]] = []  # in what the loop calls, where nobody hears of them
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    rig.listener.open()
    try:
        yield rig
    finally:
        if real.fileno() >= 0:
            rig.listener.close()
    assert errors == []


def anyone() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET")
    async with asyncio.timeout(WAIT_S):
        return await reader.read(100)
