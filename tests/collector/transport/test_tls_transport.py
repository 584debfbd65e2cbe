"""A TLS connection of the collector: the handshake, flow control, and every way it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tls_listener_rig import WAIT_S, anyone

from swarm_collector.transport import certificate, tls_transport
from swarm_collector.transport.tls_transport import HIGH_WATER_BYTES, LOW_WATER_BYTES, RECORD_BYTES, TlsTransport

LARGE = bytes(range(256)) * 16_384  # 4 MiB: more than the kernel's buffers take


class Session(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard = bytearray()
        self.largest = 0
        self.told: list[str] = []
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        if data == b"fail":
            raise RuntimeError("this is a test")
        self.largest = max(self.largest, len(data))
        self.heard += data

    def eof_received(self) -> None:
        self.told.append("eof")

    def pause_writing(self) -> None:
        self.told.append("paused")

    def resume_writing(self) -> None:
        self.told.append("resumed")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.ended.set_result(exc)


class Both:
    """The two ends of one connection: ours, and a client that reads on request."""

    def __init__(self, transport: TlsTransport, session: Session, client: ssl.SSLSocket) -> None:
        self.transport, self.session, self.client = transport, session, client

    async def read(self, size: int) -> bytes:
        def all_of_it() -> bytes:
            data = bytearray()
            while len(data) < size and (more := self.client.recv(size - len(data))):
                data += more
            return bytes(data)

        return await asyncio.wait_for(asyncio.to_thread(all_of_it), WAIT_S)

    async def until(self, size: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.session.heard) < size:  # noqa: ASYNC110 - of what no event tells
                await asyncio.sleep(0.005)


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    return certificate.load_or_make(tmp_path).context


@contextlib.asynccontextmanager
async def connected(context: ssl.SSLContext, within_s: float = WAIT_S) -> AsyncIterator[Both]:
    ours, theirs = tcp_pair()
    theirs.settimeout(WAIT_S)
    session = Session()
    shaking = asyncio.create_task(asyncio.to_thread(lambda: anyone().wrap_socket(theirs, suppress_ragged_eofs=False)))
    transport = await tls_transport.accept(ours, context, session, within_s)
    both = Both(transport, session, await shaking)
    try:
        yield both
    finally:
        both.client.close()
        transport.abort()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    ours.setblocking(False)
    return ours, theirs


async def test_it_names_both_ends_even_after_the_connection_is_gone(context: ssl.SSLContext) -> None:
    async with connected(context) as both:
        peer, own = both.client.getsockname(), both.client.getpeername()
        assert both.transport.get_extra_info("peername") == peer
        assert both.transport.get_extra_info("sockname") == own
        assert both.transport.get_extra_info("sslcontext") is context
        assert both.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert both.transport.get_extra_info("nothing", 7) == 7
        both.transport.abort()
        assert await both.session.ended is None
        assert both.transport.get_extra_info("peername") == peer
        assert both.transport.get_extra_info("sockname") is None


async def test_what_is_larger_than_a_record_and_the_kernels_buffers_arrives_whole(context: ssl.SSLContext) -> None:
    async with connected(context) as both:
        sending = asyncio.create_task(asyncio.to_thread(both.client.sendall, LARGE))
        await both.until(len(LARGE))
        await sending
        assert both.session.heard == LARGE
        assert both.session.largest == RECORD_BYTES


async def test_a_protocol_is_paused_while_its_peer_does_not_read_and_goes_on_when_it_does(
    context: ssl.SSLContext,
) -> None:
    async with connected(context) as both:
        written = 0
        while "paused" not in both.session.told:
            both.transport.write(LARGE[written : written + 10_000])
            written += 10_000
        both.transport.write(LARGE[written:])
        assert both.transport.get_write_buffer_size() > HIGH_WATER_BYTES
        assert await both.read(len(LARGE)) == LARGE
        assert both.session.told == ["made", "paused", "resumed"]
        assert both.transport.get_write_buffer_size() <= LOW_WATER_BYTES


async def test_nothing_is_read_while_reading_is_paused(context: ssl.SSLContext) -> None:
    async with connected(context) as both:
        both.transport.pause_reading()
        assert not both.transport.is_reading()
        await asyncio.to_thread(both.client.sendall, b"first")
        await asyncio.sleep(0.05)
        assert both.session.heard == b""
        both.transport.resume_reading()
        await both.until(5)
        assert both.session.heard == b"first"


async def test_closing_sends_everything_first_and_says_that_it_was_the_end(context: ssl.SSLContext) -> None:
    """A client that were only cut off would raise here: it takes no end without a close_notify."""
    async with connected(context) as both:
        both.transport.write(LARGE)
        both.transport.close()
        both.transport.write(b"too late")
        assert both.transport.is_closing()
        assert await both.read(len(LARGE) + 1) == LARGE
        assert await both.session.ended is None
        assert both.transport.get_extra_info("socket").fileno() == -1


async def test_a_peer_that_closes_ends_the_connection_in_order(context: ssl.SSLContext) -> None:
    async with connected(context) as both:
        with contextlib.suppress(ssl.SSLError, OSError):
            await asyncio.to_thread(both.client.unwrap)
        async with asyncio.timeout(WAIT_S):
            assert await both.session.ended is None
        assert both.session.told == ["made", "eof", "lost"]


async def test_a_peer_that_is_gone_without_a_word_ends_it_too(context: ssl.SSLContext) -> None:
    async with connected(context) as both:
        both.client.close()
        async with asyncio.timeout(WAIT_S):
            await both.session.ended
        both.transport.write(b"nobody hears this")
        assert both.session.told[-1] == "lost"


async def test_a_protocol_that_fails_is_reported_and_loses_its_connection(context: ssl.SSLContext) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: reported.append(told))
    async with connected(context) as both:
        await asyncio.to_thread(both.client.sendall, b"fail")
        async with asyncio.timeout(WAIT_S):
            assert isinstance(await both.session.ended, RuntimeError)
    assert [str(told["exception"]) for told in reported] == ["this is a test"]


async def test_a_client_without_tls_gets_no_connection(context: ssl.SSLContext) -> None:
    ours, theirs = tcp_pair()
    with theirs:
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        session = Session()
        with pytest.raises(ssl.SSLError):
            await tls_transport.accept(ours, context, session, WAIT_S)
        assert session.told == []
        theirs.settimeout(WAIT_S)
        with contextlib.suppress(ConnectionResetError):
            while theirs.recv(1000):  # the alert, and then the end: the socket was closed
                pass


async def test_a_handshake_ends_after_its_time(context: ssl.SSLContext) -> None:
    ours, theirs = tcp_pair()
    with theirs:
        with pytest.raises(TimeoutError):
            await tls_transport.accept(ours, context, Session(), 0.01)
        theirs.settimeout(WAIT_S)
        assert theirs.recv(1) == b""


async def test_a_connection_keeps_no_large_buffer(context: ssl.SSLContext) -> None:
    """Both ends of 40 connections are in this process. A read buffer of asyncio's size would be 256 KiB at each."""
    import psutil

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(connected(context))  # what is loaded once
        before = psutil.Process().memory_info().rss
        for _ in range(40):
            both = await stack.enter_async_context(connected(context))
            await asyncio.to_thread(both.client.sendall, bytes(20_000))
            await both.until(20_000)
        assert (psutil.Process().memory_info().rss - before) / 40 < 200 << 10
