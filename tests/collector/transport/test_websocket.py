"""A WebSocket after its handshake: fragments are joined, violations end it, and no read waits for long."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace

import pytest
from recorded_transport import Transport, sent
from websockets.frames import CloseCode, Frame, Opcode

from swarm_collector.transport import websocket
from swarm_collector.transport.framing import binary_frame, is_begun, whole_message
from swarm_collector.transport.keepalive import SessionOver
from swarm_collector.transport.websocket import UNREAD_BYTES, WebSocketConnection


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


async def test_a_waiting_receive_gets_the_next_message(wire):
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
    ids=["unknown opcode", "unmasked", "continuation of nothing", "too long", "message inside a message"],
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
    with pytest.raises(SessionOver, match="read nothing"):
        await wire.send(b"frame", within_s=0.01)


async def test_a_farewell_says_why_and_is_cut_to_what_fits(wire):
    closing = asyncio.ensure_future(wire.close(SessionOver("wrong token " * 40)))
    await asyncio.sleep(0)
    assert wire.transport.frames() == [Opcode.CLOSE]
    assert b"wrong token" in wire.transport.written
    wire.connection_lost(None)
    await closing


def any_frames(rng: random.Random) -> bytes:
    """Return a stream of a few dozen frames: mostly whole messages, with everything else that may stand between."""
    stream = b""
    for _ in range(rng.randrange(1, 40)):
        payload = rng.randbytes(rng.choice((0, 1, 125, 126, 127, 400, 70_000)))
        kind = rng.choices(
            ("whole", "pieces", "ping", "text", "unmasked", "reserved", "close", "large"), (60, 9, 9, 1, 1, 1, 1, 1)
        )
        match kind[0]:
            case "pieces":
                stream += sent(Opcode.BINARY, payload, fin=False) + sent(Opcode.PING, b"between")
                stream += sent(Opcode.CONT, payload, fin=rng.random() < 0.9)
            case "ping":
                stream += sent(Opcode.PING, payload[:100])
            case "text":
                stream += sent(Opcode.TEXT, b"text")
            case "unmasked":
                stream += Frame(Opcode.BINARY, payload).serialize(mask=False)
            case "reserved":
                stream += b"\xc2" + sent(Opcode.BINARY, payload)[1:]
            case "close":
                stream += sent(Opcode.CLOSE, b"\x03\xe8")
            case "large":
                stream += sent(Opcode.BINARY, bytes(300_000))
            case _:
                stream += sent(Opcode.BINARY, payload)
    return stream


async def heard(stream: bytes, cuts: list[int]) -> tuple[list[bytes], str, list[int]]:
    """Return the messages, how it ended, and the opcodes of what was answered."""
    wire = WebSocketConnection(Transport(), max_bytes=200_000)
    wire.admitted()
    messages: list[bytes] = []
    ended = ""
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        wire.data_received(stream[begin:end])
        while wire._messages:
            message = await wire.receive()
            assert message is not None
            messages.append(message)
    if wire._over:
        ended = str(wire._over)
    return messages, ended, wire.transport.frames()


@pytest.mark.parametrize("seed", range(60))
async def test_whole_messages_past_the_parser_are_what_the_parser_makes_of_them(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    stream = any_frames(rng)
    cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randrange(12)))
    fast = await heard(stream, cuts)
    with monkeypatch.context() as patch:
        patch.setattr(websocket, "whole_message", lambda *_: None)
        assert fast == await heard(stream, cuts)


def test_a_whole_message_is_recognised_only_when_all_of_it_is_there() -> None:
    for size in (0, 1, 125, 126, 65_535):
        frame = sent(Opcode.BINARY, bytes(size))
        assert whole_message(frame + b"next", 1 << 20) == (bytes(size), len(frame))
        cuts = [end for end in (0, 1, 2, 3, 4, 5, 7, len(frame) - 1) if end < len(frame)]
        assert all(whole_message(frame[:end], 1 << 20) is None for end in cuts)
        assert all(is_begun(frame[:end], size) for end in cuts if end > 3)  # before, its size is not known
        assert not is_begun(frame, size)
        if size:
            assert whole_message(frame, size - 1) is None
            assert not is_begun(frame[:-1], size - 1)
    assert whole_message(sent(Opcode.BINARY, bytes(65_536)), 1 << 20) is None


async def test_a_peer_that_sends_by_itself_is_not_pinged_and_one_that_falls_silent_is(monkeypatch):
    timers = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda wait_s, then: timers.append((wait_s, then)))
    wire = WebSocketConnection(Transport(), max_bytes=1 << 20, ping_s=10.0)
    for _ in range(3):
        wire.data_received(sent(Opcode.BINARY, b"a heartbeat"))
        timers.pop()[1]()
    assert (wire.transport.frames(), await wire.receive()) == ([], b"a heartbeat")
    wait_s, then = timers.pop()
    then()  # nothing came since
    assert (wait_s, wire.transport.frames()) == (5.0, [Opcode.PING])
    wire.data_received(sent(Opcode.PONG, b""))
    timers.pop()[1]()  # answered
    timers.pop()[1]()  # silent again
    assert wire.transport.frames() == [Opcode.PING, Opcode.PING]
    timers.pop()[1]()  # and not answered
    assert timers == []
    for _ in range(2):
        await wire.receive()
    with pytest.raises(SessionOver, match="no answer to a ping for 5 s"):
        await wire.receive()


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_binary_frame_is_what_the_parser_would_make(size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert binary_frame(message) == Frame(Opcode.BINARY, message).serialize(mask=False)


async def test_a_message_in_segments_needs_no_parser_and_what_is_not_a_message_does(wire):
    stream = sent(Opcode.BINARY, bytes(5_000)) + sent(Opcode.BINARY, b"second")
    for begin in range(0, len(stream), 1_460):
        wire.data_received(stream[begin : begin + 1_460])
    assert [await wire.receive(), await wire.receive()] == [bytes(5_000), b"second"]
    assert wire._protocol is None
    wire.data_received(sent(Opcode.PING, b"?"))
    assert wire.transport.frames() == [Opcode.PONG]


async def test_each_message_is_passed_on_at_once_and_in_order(wire):
    wire.data_received(sent(Opcode.BINARY, b"before"))
    taken: list[bytes] = []
    task = asyncio.ensure_future(wire.each(lambda message: taken.append(message) or 0.0))
    await asyncio.sleep(0)
    wire.data_received(sent(Opcode.BINARY, b"one") + sent(Opcode.BINARY, b"two"))
    assert taken == [b"before", b"one", b"two"]  # nobody had to be woken up
    wire.connection_lost(None)
    await task


async def test_a_taker_that_rests_gets_the_next_message_afterwards_and_the_end_after_the_last(wire, monkeypatch):
    timers = []

    def call_later(wait_s, then):
        timers.append((wait_s, then))
        return SimpleNamespace(cancel=lambda: None)

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    taken: list[bytes] = []
    task = asyncio.ensure_future(wire.each(lambda message: taken.append(message) or 3.0))
    await asyncio.sleep(0)
    wire.data_received(b"".join(sent(Opcode.BINARY, text) for text in (b"one", b"two", b"three")))
    wire.data_received(sent(Opcode.CLOSE, CloseCode.NORMAL_CLOSURE.to_bytes(2, "big")))
    for expected in ([b"one"], [b"one", b"two"]):
        await asyncio.sleep(0)
        assert (taken, [wait_s for wait_s, _ in timers], task.done()) == (expected, [3.0], False)
        _, then = timers.pop()
        then()
    await task
    assert taken == [b"one", b"two", b"three"]


async def test_a_resting_taker_stops_a_peer_that_goes_on_sending(wire):
    task = asyncio.ensure_future(wire.each(lambda _: 60.0))
    await asyncio.sleep(0)
    for _ in range(2 + UNREAD_BYTES // 60_000):
        wire.data_received(sent(Opcode.BINARY, bytes(60_000)))
    assert not wire._reading
    task.cancel()


async def test_what_a_taker_raises_ends_it_and_none_does_too(wire):
    def refuse(message: bytes) -> float | None:
        if message == b"last":
            return None
        raise SessionOver("not like this")

    for message, raised in ((b"bad", True), (b"last", False)):
        task = asyncio.ensure_future(wire.each(refuse))
        await asyncio.sleep(0)
        wire.data_received(sent(Opcode.BINARY, message) + sent(Opcode.BINARY, b"bad"))
        await asyncio.wait([task])
        assert (task.exception() is not None) is raised
        assert await wire.receive() == b"bad"  # nothing behind it was passed on
