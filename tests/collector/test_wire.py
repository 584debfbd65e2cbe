"""A WebSocket after its handshake: pieces are made whole, what breaks a rule ends it, nobody waits for long."""

from __future__ import annotations

import asyncio

import pytest
from websockets.frames import CloseCode, Frame, Opcode

from swarm_collector.transport.keepalive import SessionOver
from swarm_collector.transport.websocket import UNREAD_BYTES, WebSocketConnection


class Transport(asyncio.Transport):
    """Keeps what is written and what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.gone = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.gone

    def close(self) -> None:
        self.gone = True

    def abort(self) -> None:
        self.gone = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def frames(self) -> list[int]:
        """Opcodes of what was written, all of it short."""
        found, at = [], 0
        while at < len(self.written):
            found.append(self.written[at] & 0x0F)
            at += 2 + self.written[at + 1]
        return found


def sent(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@pytest.fixture
async def wire():
    made = WebSocketConnection(Transport(), max_bytes=1 << 20)
    made.admitted()
    return made


async def test_a_message_in_many_pieces_is_one(wire):
    stream = sent(Opcode.BINARY, b"one ", fin=False) + sent(Opcode.PING, b"?") + sent(Opcode.CONT, b"message")
    for byte in stream:
        wire.data_received(bytes([byte]))
    assert await wire.receive() == b"one message"
    assert wire.transport.frames() == [Opcode.PONG]


async def test_who_waits_gets_what_comes(wire):
    waiting = asyncio.ensure_future(wire.receive())
    await asyncio.sleep(0)
    wire.data_received(sent(Opcode.BINARY, b"late"))
    assert await waiting == b"late"


async def test_a_text_message_ends_it_with_the_reason(wire):
    wire.data_received(sent(Opcode.BINARY, b"before") + sent(Opcode.TEXT, b"{}"))
    assert await wire.receive() == b"before"
    with pytest.raises(SessionOver, match="a text message") as over:
        await wire.receive()
    assert over.value.code == CloseCode.UNSUPPORTED_DATA


@pytest.mark.parametrize(
    "broken",
    [
        b"\x83\x80\0\0\0\0",  # an opcode that does not exist
        b"\x82\x01x",  # not masked
        sent(Opcode.CONT, b"of nothing"),
        sent(Opcode.BINARY, bytes((1 << 20) + 1)),
        sent(Opcode.BINARY, b"a", fin=False) + sent(Opcode.BINARY, b"b"),
    ],
)
async def test_what_breaks_the_rules_ends_it_and_closes_the_connection(wire, broken):
    wire.data_received(broken)
    with pytest.raises(SessionOver):
        await wire.receive()
    assert wire.transport.frames() == [Opcode.CLOSE]
    assert wire.transport.gone


async def test_a_close_is_answered_and_the_messages_before_it_still_come(wire):
    wire.data_received(sent(Opcode.BINARY, b"last") + sent(Opcode.CLOSE, b"\x03\xe8"))
    assert await wire.receive() == b"last"
    assert await wire.receive() is None
    assert wire.transport.frames() == [Opcode.CLOSE]
    wire.post(b"too late")
    assert wire.transport.frames() == [Opcode.CLOSE]


async def test_a_lost_connection_wakes_everybody(wire):
    waiting = asyncio.ensure_future(wire.receive())
    wire.pause_writing()
    sending = asyncio.ensure_future(wire.send(b"frame", within_s=10.0))
    await asyncio.sleep(0)
    wire.connection_lost(None)
    assert await waiting is None
    await sending


async def test_a_sender_that_is_not_read_waits(wire):
    message = bytes(UNREAD_BYTES // 2)
    wire.data_received(sent(Opcode.BINARY, message) * 3)
    assert not wire.transport.reading
    for _ in range(3):
        await wire.receive()
    assert wire.transport.reading


async def test_empty_messages_fill_up_what_waits_too(wire):
    wire.data_received(sent(Opcode.BINARY, b"") * 5_000)
    assert not wire.transport.reading


async def test_what_comes_while_it_closes_is_not_kept(wire):
    closing = asyncio.ensure_future(wire.close(SessionOver("a flood")))
    await asyncio.sleep(0)
    for _ in range(50):
        wire.data_received(sent(Opcode.BINARY, bytes(UNREAD_BYTES)))
    assert not wire._messages
    assert not wire._parts
    wire.connection_lost(None)
    await closing


async def test_a_peer_that_takes_nothing_is_let_go(wire):
    wire.pause_writing()
    with pytest.raises(SessionOver, match="took nothing"):
        await wire.send(b"frame", within_s=0.01)


async def test_a_farewell_says_why_and_is_cut_to_what_fits(wire):
    closing = asyncio.ensure_future(wire.close(SessionOver("wrong token " * 40)))
    await asyncio.sleep(0)
    assert wire.transport.frames() == [Opcode.CLOSE]
    assert b"wrong token" in wire.transport.written
    wire.connection_lost(None)
    await closing
