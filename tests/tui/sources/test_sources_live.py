"""Claims about following a running collector. The dashboard and every command with --connect rely on them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.viewer_messages import (
    Diff,
    ExportChunk,
    ExportRequest,
    Focus,
    HistoryReply,
    HistoryRequest,
    Keyframe,
    KeyframeRequest,
    Notice,
    StreamMessage,
    Subscribe,
    ViewerMessage,
    decode_from_viewer,
)
from swarm_protocol.snapshot.frames import encode_diff, encode_keyframe
from swarm_protocol.snapshot.swarm import NodeFacts, Swarm
from swarmtop.sources.backoff import RETRY_CAP_S, Backoff
from swarmtop.sources.frame_follower import FrameFollower
from swarmtop.sources.live import LiveSource
from swarmtop.sources.source import SourceError, first_frame

NODE = "00112233445566aa"
LAYER = LayerShape(architecture="llama", hidden=64, intermediate=128, heads=4, kv_heads=4, head_dim=16)


def swarm_of(up_mbps: float, at_ns: int) -> Swarm:
    swarm = Swarm.empty((NodeFacts(node_id=NODE, name="kiln-07"),), at_ns=at_ns, source="test")
    swarm.nodes["up_mbps"][0] = up_mbps
    return swarm


STATES = [swarm_of(10.0 * k, 1_000 + k) for k in range(1, 8)]


def keyframe(k: int) -> Keyframe:
    return Keyframe(seq=k, at_ns=STATES[k].at_ns, body=encode_keyframe(STATES[k]))


def diff(k: int) -> Diff:
    return Diff(seq=k, at_ns=STATES[k].at_ns, body=encode_diff(STATES[k - 1], STATES[k]))


def up(swarm: Swarm) -> float:
    return float(swarm.nodes["up_mbps"][0])


class Now(random.Random):
    """Retries at once: the tests wait on events, not on clocks."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


class Peer:
    """One viewer, as the collector in a test sees it."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def hear(self) -> ViewerMessage:
        data = await self._connection.recv()
        assert isinstance(data, bytes)
        return decode_from_viewer(data)

    async def say(self, *messages: StreamMessage) -> None:
        for message in messages:
            await self._connection.send(encode(message))

    async def send_raw(self, data: bytes) -> None:
        await self._connection.send(data)

    async def hang_up(self) -> None:
        await self._connection.close()


@contextlib.asynccontextmanager
async def collector(script: Callable[[Peer], Awaitable[None]], port: int = 0) -> AsyncIterator[int]:
    """A collector on a free port that does `script` with each viewer, then keeps the connection."""

    async def handle(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await script(Peer(connection))
            await connection.wait_closed()

    server: Server = await serve(handle, "127.0.0.1", port, compression=None)
    try:
        yield int(next(iter(server.sockets)).getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def viewing(port: int, token: str = "") -> AsyncIterator[LiveSource]:
    source = LiveSource("127.0.0.1", port, token=token, rng=Now(), wall_ns=lambda: 77)
    try:
        yield source
    finally:
        await source.close()


def unused_port() -> int:
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


async def test_a_viewer_says_its_token_and_sees_keyframe_and_diffs() -> None:
    heard: list[ViewerMessage] = []
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        heard.append(await peer.hear())
        await peer.say(keyframe(0))
        await go_on.wait()
        await peer.say(diff(1), diff(2))

    async with collector(script) as port, viewing(port, token="s3cret") as source:
        frames = source.frames()
        assert up(await anext(frames)) == 10.0
        go_on.set()
        async for swarm in frames:
            if up(swarm) == 30.0:
                break
    assert heard == [Subscribe(protocol=1, token="s3cret", rate_hz=4.0)]


async def test_a_gap_asks_for_one_keyframe_and_shows_nothing_until_it_comes() -> None:
    asked: list[ViewerMessage] = []

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(keyframe(0), diff(2), diff(3))
        asked.append(await peer.hear())
        await peer.say(diff(4), keyframe(5))

    async with collector(script) as port, viewing(port) as source:
        seen = []
        async for swarm in source.frames():
            seen.append(up(swarm))
            if seen[-1] == 60.0:
                break
    assert asked == [KeyframeRequest()]
    assert set(seen) <= {10.0, 60.0}


async def test_a_refused_first_connection_says_what_to_do_and_is_unreachable() -> None:
    port = unused_port()
    async with viewing(port) as source:
        with pytest.raises(SourceError) as caught:
            await first_frame(source)
    assert str(caught.value) == (
        f"cannot reach 127.0.0.1:{port} (refused); start swarm-collector there or correct --connect"
    )
    assert caught.value.exit_code == 3


async def test_a_wrong_token_is_reported_in_the_collectors_words_and_never_tried_again() -> None:
    tries = 0

    async def script(peer: Peer) -> None:
        nonlocal tries
        tries += 1
        await peer.hear()
        await peer.say(Notice(text="wrong token; correct --token", final=True))
        await peer.hang_up()

    async with collector(script) as port, viewing(port, token="no") as source:
        with pytest.raises(SourceError) as caught:
            await first_frame(source)
    assert str(caught.value) == f"127.0.0.1:{port} refuses: wrong token; correct --token"
    assert (caught.value.exit_code, tries) == (2, 1)


async def test_a_web_server_that_is_no_collector_is_named_as_such() -> None:
    async def not_found(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(not_found, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with viewing(port) as source:
            with pytest.raises(SourceError) as caught:
                await first_frame(source)
    assert str(caught.value) == f"127.0.0.1:{port} answers with HTTP 404: no swarm-collector; correct --connect"


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"\x81\xa4type\xa5never", encode(Keyframe(seq=1, at_ns=1, body=b"?"))]
)
async def test_bytes_that_are_no_stream_end_with_one_line_and_no_retry(data: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.send_raw(data)

    async with collector(script) as port, viewing(port) as source:
        with pytest.raises(SourceError, match="sends what this version cannot read") as caught:
            await first_frame(source)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


async def test_a_lost_connection_is_noted_and_the_view_continues_after_the_restart() -> None:
    sessions = 0
    noted = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal sessions
        sessions += 1
        await peer.hear()
        if sessions == 1:
            await peer.say(keyframe(1))
            await peer.hang_up()
        else:
            await noted.wait()
            await peer.say(keyframe(2))

    notes = []
    async with collector(script) as port, viewing(port) as source:
        async for swarm in source.frames():
            for event in swarm.events:
                notes.append((event.at_ns, event.kind, event.detail))
                noted.set()
            if up(swarm) == 30.0:
                break
    assert notes == [(77, "note", f"connection to 127.0.0.1:{port} lost (closed by the collector); trying again")]
    assert sessions == 2


async def test_history_is_asked_again_after_a_reconnection_so_that_it_is_late_rather_than_wrong() -> None:
    asked: list[HistoryRequest] = []

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(keyframe(0))
        request = await peer.hear()
        assert isinstance(request, HistoryRequest)
        asked.append(request)
        if len(asked) == 1:
            await peer.hang_up()
        else:
            await peer.say(HistoryReply(request_id=request.request_id, at_ns=(1, 2), values=(5.0, None)))

    async with collector(script) as port, viewing(port) as source:
        await first_frame(source)
        past = await source.history("rtt_p50", NODE, None, 0, 10, 2)
    assert past.values == (5.0, None)
    assert [request.metric for request in asked] == ["rtt_p50", "rtt_p50"]


async def test_an_export_comes_in_pieces_and_one_cut_short_is_an_error_not_a_short_file() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(keyframe(0))
        for last in (True, False):
            request = await peer.hear()
            assert isinstance(request, ExportRequest)
            await peer.say(ExportChunk(request_id=request.request_id, text="time,src\n", done=False))
            if last:
                await peer.say(ExportChunk(request_id=request.request_id, text="1,a\n", done=True))
        await peer.hang_up()

    async with collector(script) as port, viewing(port) as source:
        assert [piece async for piece in source.export("link", 0, 9)] == ["time,src\n", "1,a\n"]
        with pytest.raises(SourceError, match=r"ended during the export .*run it again") as caught:
            async for _ in source.export("link", 0, 9):
                pass
    assert caught.value.exit_code == 3


async def test_an_export_that_is_not_read_does_not_stop_the_frames() -> None:
    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(keyframe(0))
        request = await peer.hear()
        assert isinstance(request, ExportRequest)
        for _ in range(500):
            await peer.say(ExportChunk(request_id=request.request_id, text="row\n", done=False))
        await peer.say(diff(1))

    async with collector(script) as port, viewing(port) as source:
        async for _ in source.export("link", 0, 9):
            break
        async for swarm in source.frames():
            if up(swarm) == 20.0:
                break


async def test_the_focus_is_said_again_after_a_reconnection() -> None:
    said: list[ViewerMessage] = []
    again = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(keyframe(0))
        said.append(await peer.hear())
        if len(said) == 1:
            await peer.hang_up()
        again.set() if len(said) == 2 else None

    async with collector(script) as port, viewing(port) as source:
        await first_frame(source)
        await source.focus("llama-3.1-8b", LAYER, "fp16", 8192)
        await again.wait()
    assert said == [Focus(model="llama-3.1-8b", layer=LAYER, dtype="fp16", hop_bytes=8192, chosen=True)] * 2


async def test_models_chosen_in_quick_succession_are_sent_apart_and_the_last_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collector refuses the second change within two seconds, and would go on to measure what nobody looks at."""
    monkeypatch.setattr("swarmtop.sources.live.FOCUS_APART_S", 0.2)
    heard: asyncio.Queue[tuple[str, float]] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.hear()
        await peer.say(keyframe(0))
        for _ in range(2):
            message = await peer.hear()
            assert isinstance(message, Focus)
            heard.put_nowait((message.dtype, asyncio.get_running_loop().time()))

    async with collector(script) as port, viewing(port) as source:
        await first_frame(source)
        await asyncio.gather(*(source.focus("llama-3.1-8b", LAYER, dtype, 8192) for dtype in ("fp16", "int8", "q8_0")))
        (first, first_s), (second, second_s) = await heard.get(), await heard.get()
    assert (first, second) == ("fp16", "q8_0")
    assert second_s - first_s > 0.15


async def test_a_collector_that_stays_away_is_noted_once() -> None:
    """The list of events is short on a screen, and the header says that there is no collector."""
    tries = itertools.count()
    enough = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.hear()
        number = next(tries)
        if number == 0:
            await peer.say(keyframe(0))
        if number < 4:
            await peer.hang_up()
        enough.set() if number == 4 else None

    async with collector(script) as port, viewing(port) as source:
        await first_frame(source)
        await enough.wait()
        swarm = await first_frame(source)
    assert [event.kind for event in swarm.events] == ["note"]


@given(lost=st.sets(st.integers(1, 6)), order=st.permutations(range(1, 7)))
def test_whatever_is_lost_or_reordered_a_viewer_never_shows_a_state_that_was_not(
    lost: set[int], order: list[int]
) -> None:
    follower = FrameFollower()
    follower.take(keyframe(0))
    for k in order:
        if k not in lost:
            shown = follower.take(diff(k))
            assert shown is None or up(shown) == 10.0 * (k + 1)
    whole = follower.take(keyframe(6))
    assert whole is not None
    assert np.array_equal(whole.nodes["up_mbps"], STATES[6].nodes["up_mbps"])


@given(seed=st.integers(0, 1000), attempts=st.integers(1, 2000))
def test_retries_are_spread_over_the_whole_interval_and_capped(seed: int, attempts: int) -> None:
    backoff = Backoff(random.Random(seed))
    delays = [backoff.delay_s() for _ in range(attempts)]
    assert all(0 <= delay <= RETRY_CAP_S for delay in delays)
    backoff.reset()
    assert backoff.delay_s() <= 0.5
