"""A connection's first moments: TLS or plain text, from where, for how long, and what one address may hold."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from pathlib import Path

import pytest
from tls_listener_rig import WAIT_S, answered, anyone, opened

from swarm_collector.process import file_descriptors
from swarm_collector.transport import certificate, tls_listener
from swarm_collector.transport.connection_limits import HALF_OPEN_S


@pytest.fixture
def own_certificate(tmp_path: Path) -> certificate.Certificate:
    return certificate.load_or_make(tmp_path)


async def test_the_first_byte_tells_tls_from_plain_text(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig:
        async with rig.connected() as (reader, writer):
            assert await answered(reader, writer) == b"heard GET"  # nothing of it was swallowed
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=anyone())
        assert await answered(reader, writer) == b"heard GET"
        writer.close()
        assert rig.sessions == ["plain", "tls"]
        assert not rig.limiter.refused


async def test_plain_text_from_another_machine_gets_an_explanation(
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
        assert rig.limiter.refused == {"plain text from another machine": 1}
        assert rig.sessions == []
        assert not rig.held()


async def test_plain_text_from_anywhere_if_that_was_set(
    own_certificate: certificate.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "is_loopback", lambda _: False)
    async with opened(own_certificate, plain=True) as rig, rig.connected() as (reader, writer):
        assert await answered(reader, writer) == b"heard GET"
        assert rig.sessions == ["plain"]


async def test_each_connection_counts_for_its_address_from_accept_to_its_end(
    own_certificate: certificate.Certificate,
) -> None:
    async with opened(own_certificate) as rig, contextlib.AsyncExitStack() as stack:
        ends = [await stack.enter_async_context(rig.connected()) for _ in range(3)]
        await rig.until(lambda: len(rig.listener._waiting) == 3)
        assert rig.held() == {"127.0.0.1": 3}
        assert not any(each.getblocking() for each in rig.listening.taken)
        for reader, writer in ends:
            assert await answered(reader, writer) == b"heard GET"
        await rig.until(lambda: not rig.listener._tasks)
        assert not rig.listener._waiting
        assert rig.held() == {"127.0.0.1": 3}
        for left, (_, writer) in zip((2, 1, 0), ends, strict=True):
            writer.close()
            await rig.until(lambda left=left: len(rig.limiter) == left)
            assert rig.held() == ({"127.0.0.1": left} if left else {})
        assert not rig.limiter.refused


async def test_a_forbidden_client_is_cut_at_once_and_holds_nothing(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate, per_address=1) as rig, rig.connected():
        for count in (1, 2):
            async with rig.connected() as (reader, _), asyncio.timeout(WAIT_S):
                assert await reader.read() == b""
            assert rig.held() == {"127.0.0.1": 1}
            assert rig.limiter.refused == {"too many connections of one address": count}


async def test_a_waiting_connection_can_be_cut_to_make_room(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig, rig.connected() as (reader, _):
        await rig.until(lambda: rig.listener._waiting)
        assert rig.limiter.make_room(asyncio.get_running_loop().time() + HALF_OPEN_S)
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == b""
        assert not rig.listener._waiting
        assert not rig.held()
        assert rig.limiter.refused == {"half open, and others needed the slot": 1}


async def test_a_connection_in_its_handshake_can_be_cut_to_make_room(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig, rig.connected() as (reader, writer):
        writer.write(b"\x16")
        await rig.until(lambda: rig.listener._tasks and not rig.listener._waiting)
        assert rig.limiter.make_room(asyncio.get_running_loop().time() + HALF_OPEN_S)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(WAIT_S):
                assert await reader.read() == b""
        await rig.until(lambda: not rig.listener._tasks)
        assert not rig.held()
        assert rig.limiter.refused == {"half open, and others needed the slot": 1}


async def test_without_a_certificate_a_connection_is_handed_over_at_once() -> None:
    """It need not send anything: there is only one protocol to choose."""
    async with opened(None) as rig, rig.connected() as (reader, writer):
        await rig.until(lambda: rig.sessions)
        assert rig.sessions == ["plain"]
        assert await answered(reader, writer) == b"heard GET"
        assert rig.held() == {"127.0.0.1": 1}


async def test_the_read_buffer_of_a_plain_connection_is_small() -> None:
    async with opened(None) as rig, rig.connected():
        await rig.until(lambda: rig.transports and not rig.listener._tasks)
        assert rig.transports[0].max_size == 32_768  # type: ignore[attr-defined]


async def test_a_silent_client_is_cut_in_time_and_counted(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate, http_s=0.2) as rig, rig.connected() as (reader, _):
        await rig.until(lambda: rig.listening.taken)
        number = rig.listening.taken[0].fileno()
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == b""
        assert not asyncio.get_running_loop().remove_reader(number)  # the number is free for the next connection
        assert rig.limiter.refused == {"not a session in time": 1}
        assert not rig.held()
        assert not rig.listener._waiting


async def test_a_client_that_leaves_silently_is_no_refusal(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate, http_s=0.5) as rig:
        async with rig.connected():
            await rig.until(lambda: rig.listener._waiting)
        await rig.until(lambda: not rig.listener._waiting)
        assert not rig.held()
        await asyncio.sleep(0.6)  # past the time it would have had: its timer is gone too
        assert not rig.limiter.refused


async def test_a_look_without_a_byte_changes_nothing(own_certificate: certificate.Certificate) -> None:
    """The system may report readability without data (select(2))."""
    async with opened(own_certificate) as rig, rig.connected() as (reader, writer):
        await rig.until(lambda: rig.listener._waiting)
        (connected,) = rig.listener._waiting
        (connection,) = rig.limiter._held
        rig.listener._look(connected, connection, "127.0.0.1")
        assert connected in rig.listener._waiting
        assert await answered(reader, writer) == b"heard GET"


async def test_a_reset_is_no_error_of_ours(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig:
        end = socket.create_connection(("127.0.0.1", rig.port))
        await rig.until(lambda: rig.listener._waiting)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        end.close()
        await rig.until(lambda: not rig.listener._waiting)
        assert not rig.held()


@pytest.mark.parametrize("said", [b"\x16\x03\x01\x00\x05hello", b"\x16"])
async def test_a_handshake_that_comes_to_nothing_is_cut_and_counted(
    said: bytes, own_certificate: certificate.Certificate
) -> None:
    async with opened(own_certificate, http_s=0.3) as rig, rig.connected() as (reader, writer):
        writer.write(said)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(WAIT_S):
                await reader.read()
        await rig.until(lambda: rig.limiter.refused)
        assert rig.limiter.refused == {"TLS not agreed": 1}
        await rig.until(lambda: not rig.held())
        assert not rig.listener._tasks


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_descriptors_it_waits_says_so_and_continues(
    number: int,
    own_certificate: certificate.Certificate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It does not ask again and again meanwhile: a listening socket stays readable."""
    assert tls_listener.RESUME_S == 0.1  # nobody who connects notices it
    async with opened(own_certificate) as rig:
        rig.listening.troubles = [number]
        with caplog.at_level(logging.INFO, "swarm_collector.server"):
            async with rig.connected() as (reader, writer):
                await rig.until(lambda: rig.listener.paused)
                assert await answered(reader, writer) == b"heard GET"
                assert not rig.listener.paused
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("WARNING", f"no new connections are accepted: the system refuses one ({os.strerror(number)})"),
            ("INFO", "new connections are accepted again"),
        ]
        assert rig.listening.accepts == 3  # refused, taken, and none left


def next_number() -> int:
    """The descriptor that the system hands out next: the lowest free one."""
    number = os.dup(0)
    os.close(number)
    return number


def keep_from(monkeypatch: pytest.MonkeyPatch, first_kept: int) -> None:
    """Make this the first descriptor of the reserve."""
    monkeypatch.setattr(file_descriptors, "reserve", lambda _: 5)
    monkeypatch.setattr(file_descriptors, "limit", lambda: first_kept + 5)


@pytest.mark.parametrize(("below", "taken", "paused"), [(0, False, True), (1, True, True), (2, True, False)])
async def test_the_reserve_is_not_touched_and_the_last_number_before_it_is_used(
    below: int,
    taken: bool,
    paused: bool,
    own_certificate: certificate.Certificate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tls_listener, "RESUME_S", 60.0)
    ours, theirs = socket.socketpair()
    with theirs:
        async with opened(own_certificate) as rig:
            offered = [ours]
            asked_again: list[bool] = []

            def accept() -> tuple[socket.socket, tuple[str, int]]:
                if not offered:
                    asked_again.append(True)
                    raise BlockingIOError
                return offered.pop(), ("127.0.0.1", 1)

            rig.listening.accept = accept  # type: ignore[method-assign]
            keep_from(monkeypatch, ours.fileno() + below)
            rig.listener._accept()
            assert (ours.fileno() >= 0) == taken == (ours in rig.listener._waiting)
            assert rig.held() == ({"127.0.0.1": 1} if taken else {})
            assert rig.listener.paused == paused
            assert bool(asked_again) != paused
            said = (
                f"no new connections are accepted: the last 5 of {file_descriptors.limit()} file descriptors are kept"
            )
            assert [r.getMessage() for r in caplog.records] == ([f"{said} for the store"] if paused else [])


@pytest.mark.parametrize("no_descriptor_at_all", [False, True])
async def test_a_paused_listener_cuts_half_open_connections_until_there_are_descriptors(
    no_descriptor_at_all: bool, own_certificate: certificate.Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "RESUME_S", 60.0)
    loop = asyncio.get_running_loop()
    async with opened(own_certificate) as rig:
        for number in range(70):
            assert rig.limiter.accept(f"10.0.0.{number}", loop.time() - HALF_OPEN_S)
        assert rig.limiter.accept("10.0.1.1", loop.time() + 60)  # has only just come
        rig.listener._pause("this is a test")
        with monkeypatch.context() as patch:
            free = next_number()
            keep_from(patch, free)
            if no_descriptor_at_all:

                def refuse(number: int) -> int:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

                patch.setattr(os, "dup", refuse)
            for half_open in (7, 1, 1):
                before = rig.listener._resuming
                rig.listener._resume()
                assert rig.listener.paused
                assert rig.listener._resuming is not before  # it looks again
                assert rig.limiter.half_open == half_open
        assert next_number() == free
        keep_from(monkeypatch, next_number() + 1)
        rig.listener._resume()
        assert not rig.listener.paused
        monkeypatch.undo()
        async with rig.connected() as (reader, writer):
            assert await answered(reader, writer) == b"heard GET"


async def test_no_connection_is_cut_when_there_are_descriptors_again(own_certificate: certificate.Certificate) -> None:
    async with opened(own_certificate) as rig:
        assert rig.limiter.accept("10.0.0.1", asyncio.get_running_loop().time() - HALF_OPEN_S)
        rig.listener._pause("this is a test")
        await rig.until(lambda: not rig.listener.paused)
        assert rig.limiter.half_open == 1


async def test_a_listener_that_was_closed_while_paused_stays_closed(
    own_certificate: certificate.Certificate,
) -> None:
    async with opened(own_certificate) as rig:
        rig.listening.troubles = [errno.EMFILE]
        async with rig.connected() as (reader, _):
            await rig.until(lambda: rig.listener.paused)
            resuming = rig.listener._resuming
            rig.listener.close()
            assert resuming is not None
            assert resuming.cancelled()
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


async def test_no_more_than_a_few_dozen_are_taken_at_once(own_certificate: certificate.Certificate) -> None:
    """The loop has other things to do between them."""
    async with opened(own_certificate, per_address=0) as rig:
        taken = 0

        def accept() -> tuple[socket.socket, tuple[str, int]]:
            nonlocal taken
            taken += 1
            return socket.socketpair()[0], ("127.0.0.1", 1)

        rig.listening.accept = accept  # type: ignore[method-assign]
        rig.listener._accept()
        assert taken == 32


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
        assert not rig.limiter.refused
        assert not rig.listener._waiting
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", rig.port)
