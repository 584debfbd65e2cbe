"""The one TCP port against strangers: no byte without the key, and no memory or time for slow senders."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm_probe.sockets import Target, target
from swarm_probe.streams import tcp_endpoint
from swarm_probe.streams.channel import Busy, NotMember, Unreachable, read_exactly
from swarm_probe.streams.tcp_endpoint import Caller, Purpose, Service, Stream, TcpPeer, dial

CALLER = Caller("a" * 16, 7, b"k" * 32)
HELLO_BYTES = 40


class Server:
    """A TCP port with one member, and what was served."""

    def __init__(self) -> None:
        self.served: list[tuple[str, int]] = []
        self.counts: Counter[str] = Counter()
        self.busy = False
        service = Service(self._serve, 1000, lambda: self.busy)
        self.port = TcpPeer({Purpose.HOP: service}, self.counts)

    async def _serve(self, stream: Stream, peer: str, size: int) -> None:
        self.served.append((peer, size))
        await stream.write(b"done")

    @property
    def target(self) -> Target:
        where = target("127.0.0.1", self.port.port)
        assert where is not None
        return where

    async def call(self, caller: Caller = CALLER, purpose: Purpose = Purpose.HOP, size: int = 10) -> bytes:
        stream = await dial(self.target, caller, purpose, size, Counter())
        try:
            return await read_exactly(stream, 4)
        finally:
            stream.close()

    async def raw(self, data: bytes) -> bytes:
        """What a stranger gets for these bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port.port)
        try:
            writer.write(data)
            if len(data) < HELLO_BYTES:
                writer.write_eof()
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    one = Server()
    one.port.open("127.0.0.1", 0)
    one.port.announce([CALLER])
    yield one
    await one.port.close()


async def test_a_member_is_served_with_the_size_it_asked_for(server: Server) -> None:
    assert await server.call(size=123) == b"done"
    assert server.served == [(CALLER.peer, 123)]


@pytest.mark.parametrize(
    "caller", [Caller("a" * 16, 7, b"x" * 32), Caller("a" * 16, 8, CALLER.key)], ids=["another key", "another session"]
)
async def test_whoever_signs_differently_is_closed_without_a_byte(server: Server, caller: Caller) -> None:
    with pytest.raises(Unreachable, match="closed"):
        await server.call(caller)
    assert server.served == []
    assert server.counts["tcp_refused_notmember"] == 1
    assert server.counts["tcp_bytes_sent"] == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100))
async def test_a_strangers_bytes_get_none_back(server: Server, junk: bytes) -> None:
    assert await server.raw(junk) == b""
    assert server.served == []


async def test_one_changed_byte_of_a_members_first_words_is_a_strangers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_endpoint, "PREAMBLE_S", 0.2)
    hello = signed_hello()
    assert len(await server.raw(hello)) == 33
    for at in range(len(hello)):
        broken = bytearray(hello)
        broken[at] ^= 1
        assert await server.raw(bytes(broken)) == b""


async def test_a_recorded_preamble_cannot_be_replayed(server: Server) -> None:
    """The server's nonce is new each time, so what closed the preamble once does not again."""
    recorded: list[bytes] = []

    async def tap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", server.port.port)
        hello = await reader.readexactly(HELLO_BYTES)
        up_writer.write(hello)
        writer.write(await up_reader.readexactly(33))
        go = await reader.readexactly(20)
        up_writer.write(go)
        recorded.append(hello + go)
        writer.write(await up_reader.readexactly(4))
        writer.close()
        up_writer.close()

    middle = await asyncio.start_server(tap, "127.0.0.1", 0)
    where = target("127.0.0.1", middle.sockets[0].getsockname()[1])
    assert where is not None
    stream = await dial(where, CALLER, Purpose.HOP, 10, Counter())
    await read_exactly(stream, 4)
    stream.close()
    assert len(server.served) == 1
    assert len(await server.raw(recorded[0])) == 33
    assert len(server.served) == 1
    assert server.counts["tcp_refused_notmember"] == 1
    middle.close()


async def test_a_size_beyond_the_service_is_refused(server: Server) -> None:
    with pytest.raises(Unreachable):
        await server.call(size=1001)
    assert server.served == []


async def test_a_purpose_that_is_not_offered_is_refused(server: Server) -> None:
    with pytest.raises(Unreachable, match="closed"):
        await server.call(purpose=Purpose.UPLINK)


async def test_a_busy_peer_says_so_to_members(server: Server) -> None:
    server.busy = True
    with pytest.raises(Busy, match="is paused or runs another test"):
        await server.call()


async def test_a_server_without_the_key_is_not_measured() -> None:
    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(HELLO_BYTES)
        writer.write(bytes(33))

    impostor = await asyncio.start_server(pretend, "127.0.0.1", 0)
    where = target("127.0.0.1", impostor.sockets[0].getsockname()[1])
    assert where is not None
    with pytest.raises(NotMember, match="signs with another key"):
        await dial(where, CALLER, Purpose.HOP, 10, Counter())
    impostor.close()


async def test_a_slow_loris_is_dropped_and_members_are_served_meanwhile(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_endpoint, "PREAMBLE_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port.port)
    writer.write(b"S")
    assert await server.call() == b"done"
    assert await reader.read() == b""
    assert server.counts["tcp_refused_slow"] == 1
    writer.close()


async def test_more_strangers_than_the_limit_are_turned_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_endpoint, "MAX_STRANGERS", 2)
    waiting = [await asyncio.open_connection("127.0.0.1", server.port.port) for _ in range(2)]
    assert await server.raw(b"") == b""
    assert server.counts["tcp_refused_full"] == 1
    for _, writer in waiting:
        writer.close()


async def test_a_closed_port_is_unreachable_in_one_line(server: Server) -> None:
    where = server.target
    await server.port.close()
    with pytest.raises(Unreachable) as caught:
        await dial(where, CALLER, Purpose.HOP, 10, Counter())
    assert str(caught.value) == f"cannot reach 127.0.0.1 TCP port {where.sockaddr[1]} (connection refused)"


def signed_hello() -> bytes:
    """Built by hand: magic, version, purpose, session, nonce, and the HMAC over a label and these."""
    import hmac

    hello = struct.pack("!4sBBH16s", b"SwTP", 2, 1, CALLER.ssid, b"n" * 16)
    return hello + hmac.digest(CALLER.key, b"hello" + hello, "sha256")[:16]
