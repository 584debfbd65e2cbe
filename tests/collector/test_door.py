"""A connection's first moments: TLS or plain text, from where, for how long, and what one address may hold."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from asyncio import sslproto
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from swarm_collector.transport import certificate, tls_listener
from swarm_collector.transport.connection_limits import Limits
from swarm_collector.transport.tls_listener import TlsListener

WAIT_S = 10.0


class Session(asyncio.Protocol):
    """What a connection becomes: says how it was taken, and what it heard."""

    def __init__(self, connection_limiter: FakeGuard) -> None:
        self._connection_limiter = connection_limiter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        kind = "tls" if transport.get_extra_info("ssl_object") else "plain"
        self._transport = transport
        self._connection_limiter.sessions.append(kind)
        self._connection_limiter.news.set()

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(b"heard " + data)


class FakeGuard:
    def __init__(self, http_s: float) -> None:
        self.limits = Limits(http_s=http_s)
        self.refused: Counter[str] = Counter()
        self.sessions: list[str] = []
        self.waiting: list[tuple[str, int]] = []  # as it was asked
        self.most = 1000
        self.news = asyncio.Event()

    def __call__(self) -> Session:
        return Session(self)

    def may_come(self, address: str, waiting: int) -> bool:
        self.waiting.append((address, waiting))
        self.news.set()
        return waiting < self.most


class Listening:
    """A listening socket that refuses when it is told to; the loop knows the real one."""

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
    def __init__(self, connection_limiter: FakeGuard, listening: Listening, opened: TlsListener, port: int) -> None:
        self.connection_limiter, self.listening, self.listener, self.port = connection_limiter, listening, opened, port

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                self.connection_limiter.news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.connection_limiter.news.wait(), 0.02)


@pytest.fixture
def own_certificate(tmp_path: Path) -> certificate.Certificate:
    return certificate.load_or_make(tmp_path)


@contextlib.asynccontextmanager
async def opened(own: certificate.Certificate, *, plain: bool = False, http_s: float = 5.0) -> AsyncIterator[Rig]:
    real = socket.create_server(("127.0.0.1", 0))
    real.setblocking(False)
    connection_limiter, listening = FakeGuard(http_s), Listening(real)
    made = TlsListener(listening, connection_limiter, own.context, plain=plain)  # type: ignore[arg-type]
    errors: list[dict[str, object]] = []  # in what the loop calls, where nobody hears of them
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    made.open()
    try:
        yield Rig(connection_limiter, listening, made, real.getsockname()[1])
    finally:
        if real.fileno() >= 0:
            made.close()
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


async def test_the_first_byte_tells_tls_from_plain_text(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig:
        async with rig.connected() as (reader, writer):
            assert await answered(reader, writer) == b"heard GET"  # nothing of it was swallowed
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=anyone())
        assert await answered(reader, writer) == b"heard GET"
        writer.close()
        assert rig.connection_limiter.sessions == ["plain", "tls"]
        assert not rig.connection_limiter.refused


async def test_plain_text_from_another_machine_is_told_what_to_do(
    own_certificate: certificate.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(tls_listener, "is_loopback", lambda address: bool(asked.append(address)))
    async with opened(own_certificate) as rig, rig.connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(WAIT_S):
            said = await reader.read()
        head, body = said.split(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"HTTP/1.1 426 Upgrade Required",
            b"Upgrade: TLS/1.3",
            b"Connection: close",
            b"Content-Type: text/plain",
        ]
        assert body == b"this collector takes only TLS from other machines: join with HOST:PORT, or https://\n"
        assert asked == ["127.0.0.1"]
        assert rig.connection_limiter.refused == {"plain text from another machine": 1}
        assert rig.connection_limiter.sessions == []
        assert not rig.listener._addresses


async def test_plain_text_from_anywhere_where_that_was_asked_for(
    own_certificate: certificate.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "is_loopback", lambda _: False)
    async with opened(own_certificate, plain=True) as rig, rig.connected() as (reader, writer):
        assert await answered(reader, writer) == b"heard GET"
        assert rig.connection_limiter.sessions == ["plain"]


async def test_each_connection_that_waits_counts_for_its_address_until_it_is_a_session(
    own_certificate: certificate.Certificate,
) -> None:
    async with opened(own_certificate) as rig, contextlib.AsyncExitStack() as stack:
        ends = [await stack.enter_async_context(rig.connected()) for _ in range(3)]
        await rig.until(lambda: len(rig.connection_limiter.waiting) == 3)
        assert rig.connection_limiter.waiting == [("127.0.0.1", 0), ("127.0.0.1", 1), ("127.0.0.1", 2)]
        assert not any(each.getblocking() for each in rig.listening.taken)
        for left, (reader, writer) in zip((2, 1, 0), ends, strict=True):
            assert await answered(reader, writer) == b"heard GET"
            await rig.until(lambda: not rig.listener._tasks)
            assert dict(rig.listener._addresses) == ({"127.0.0.1": left} if left else {})
        await stack.enter_async_context(rig.connected())
        await rig.until(lambda: len(rig.connection_limiter.waiting) == 4)
        assert rig.connection_limiter.waiting[3] == ("127.0.0.1", 0)
        assert not rig.connection_limiter.refused


async def test_who_may_not_come_is_cut_at_once_and_holds_nothing(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig:
        rig.connection_limiter.most = 1
        async with rig.connected(), rig.connected() as (reader, _):
            async with asyncio.timeout(WAIT_S):
                assert await reader.read() == b""
            assert dict(rig.listener._addresses) == {"127.0.0.1": 1}
            async with rig.connected() as (third, _), asyncio.timeout(WAIT_S):
                assert await third.read() == b""


async def test_who_says_nothing_in_time_is_cut_and_counted(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate, http_s=0.2) as rig, rig.connected() as (reader, _):
        await rig.until(lambda: rig.listening.taken)
        number = rig.listening.taken[0].fileno()
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == b""
        assert not asyncio.get_running_loop().remove_reader(number)  # the number is free for the next connection
        assert rig.connection_limiter.refused == {"not a session in time": 1}
        assert not rig.listener._addresses
        assert not rig.listener._waiting


async def test_who_goes_without_a_word_is_no_refusal(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate, http_s=0.5) as rig:
        async with rig.connected():
            await rig.until(lambda: rig.listener._waiting)
        await rig.until(lambda: not rig.listener._waiting)
        assert not rig.listener._addresses
        await asyncio.sleep(0.6)  # past the time it would have had: its timer is gone too
        assert not rig.connection_limiter.refused


async def test_a_look_without_a_byte_changes_nothing(own_certificate: certificate.Certificate) -> None:
    """The system may say that there is something to read where there is not (select(2))."""
    async with opened(own_certificate) as rig, rig.connected() as (reader, writer):
        await rig.until(lambda: rig.listener._waiting)
        (connected,) = rig.listener._waiting
        rig.listener._look(connected, "127.0.0.1")
        assert connected in rig.listener._waiting
        assert await answered(reader, writer) == b"heard GET"


async def test_a_reset_is_no_error_of_ours(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig:
        end = socket.create_connection(("127.0.0.1", rig.port))
        await rig.until(lambda: rig.listener._waiting)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        end.close()
        await rig.until(lambda: not rig.listener._waiting)
        assert not rig.listener._addresses


@pytest.mark.parametrize("said", [b"\x16\x03\x01\x00\x05hello", b"\x16"])
async def test_a_handshake_that_comes_to_nothing_is_cut_and_counted(
    said: bytes, own_certificate: certificate.Certificate
) -> None:
    async with opened(own_certificate, http_s=0.3) as rig, rig.connected() as (reader, writer):
        writer.write(said)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(WAIT_S):
                await reader.read()
        await rig.until(lambda: rig.connection_limiter.refused)
        assert rig.connection_limiter.refused == {"TLS not agreed": 1}
        await rig.until(lambda: not rig.listener._addresses)
        assert not rig.listener._tasks


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_descriptors_it_waits_says_so_and_goes_on(
    number: int,
    own_certificate: certificate.Certificate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It does not ask again and again meanwhile: a listening socket stays readable."""
    assert tls_listener.PAUSE_S == 1.0  # what its line says
    monkeypatch.setattr(tls_listener, "PAUSE_S", 0.2)
    async with opened(own_certificate) as rig:
        rig.listening.troubles = [number]
        with caplog.at_level(logging.ERROR):
            async with rig.connected() as (reader, writer):
                assert await answered(reader, writer) == b"heard GET"
        assert [record.getMessage() for record in caplog.records] == [
            f"no connection can be taken ({os.strerror(number)}); trying again in a second"
        ]
        assert rig.listening.accepts == 3  # refused, taken, and none left


async def test_a_door_that_was_closed_meanwhile_stays_closed(
    own_certificate: certificate.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "PAUSE_S", 0.05)
    async with opened(own_certificate) as rig:
        rig.listening.troubles = [errno.EMFILE]
        async with rig.connected() as (reader, _):
            await rig.until(lambda: rig.listening.accepts)
            rig.listener.close()
            rig.listener._resume()
            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(WAIT_S):
                    assert await reader.read() == b""
        assert rig.listening.accepts == 1


async def test_any_other_refusal_of_the_system_is_an_error(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig:
        rig.listening.troubles = [errno.EINVAL]
        with pytest.raises(OSError, match="Invalid argument"):
            rig.listener._accept()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINTR, errno.ECONNABORTED])
async def test_a_connection_that_is_gone_before_it_is_taken_is_nothing(
    number: int, own_certificate: certificate.Certificate
) -> None:
    async with opened(own_certificate) as rig:
        rig.listening.troubles = [number]
        async with rig.connected() as (reader, writer):
            assert await answered(reader, writer) == b"heard GET"


async def test_no_more_than_a_few_hundred_are_taken_at_once(own_certificate: certificate.Certificate) -> None:
    """The loop has other things to do between them."""
    async with opened(own_certificate) as rig:
        rig.connection_limiter.most = 0
        taken = 0

        def accept() -> tuple[socket.socket, tuple[str, int]]:
            nonlocal taken
            taken += 1
            return socket.socketpair()[0], ("127.0.0.1", 1)

        rig.listening.accept = accept  # type: ignore[method-assign]
        rig.listener._accept()
        assert taken == 256


async def test_closing_cuts_those_that_wait_and_those_that_shake_hands(
    own_certificate: certificate.Certificate,
) -> None:
    async with opened(own_certificate) as rig, rig.connected() as silent, rig.connected() as shaking:
        shaking[1].write(b"\x16")
        await rig.until(lambda: rig.listener._tasks and rig.listener._waiting)
        task = next(iter(rig.listener._tasks))
        rig.listener.close()
        async with asyncio.timeout(WAIT_S):
            assert await silent[0].read() == b""
        assert not rig.connection_limiter.refused
        assert not rig.listener._waiting
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", rig.port)


async def test_opening_makes_the_buffer_of_a_tls_connection_small(
    own_certificate: certificate.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", 256 << 10)
    async with opened(own_certificate):
        assert sslproto.SSLProtocol.max_size == 16_384
