"""Floods of pings, half-open connections and STUN against a real collector: their cost, and that others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from collector_rig import WAIT_S, collector, note, probe_at
from recorded_transport import Transport, sent
from websockets.frames import Opcode

from swarm_collector.ingest.quotas import (
    FRAME_BURST,
    SOURCE_CONNECTION_BURST,
    SOURCE_FRAME_BURST,
    STRANGER_FRAME_BURST,
    FrameQuota,
    Sources,
    source_of,
)
from swarm_collector.process import file_descriptors
from swarm_collector.transport.connection_limits import HALF_OPEN_S, ConnectionLimiter, Limits
from swarm_collector.transport.framing import FrameCutter
from swarm_collector.transport.stun_server import MAX_SOURCES, SOURCE_BURST, STRANGER_ANSWERS_PER_S, StunServer
from swarm_collector.transport.websocket import FRAMES_AT_ONCE, UNREAD_BYTES, WebSocketConnection
from swarm_protocol.packets import stun_packet

PING = sent(Opcode.PING, b"")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the limits of a child are set with prlimit")


def wire(*, joined: bool = True) -> tuple[WebSocketConnection, Transport]:
    transport = Transport()
    made = WebSocketConnection(transport, max_bytes=1 << 20)
    if joined:
        made.admitted()
    return made, transport


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize(
    "frame",
    [PING, sent(Opcode.PONG, b"x" * 125), sent(Opcode.PING, b"y" * 125)],
    ids=["empty pings", "pongs nobody asked for", "long pings"],
)
async def test_control_frames_are_parsed_at_the_rate_of_messages_and_the_rest_waits(frame):
    flooded, transport = wire()
    flooded.data_received(frame * 20_000)
    assert not transport.reading
    assert len(flooded._pending) >= len(frame) * (20_000 - FRAME_BURST - 2 * FRAMES_AT_ONCE)
    assert len(transport.written) <= (FRAME_BURST + 2 * FRAMES_AT_ONCE) * len(frame)
    flooded.connection_lost(None)


async def test_empty_pieces_of_a_message_count_and_are_not_kept():
    flooded, transport = wire()
    flooded.data_received(sent(Opcode.BINARY, b"", fin=False) + sent(Opcode.CONT, b"", fin=False) * 20_000)
    assert not transport.reading
    assert flooded._parts == b""
    flooded.connection_lost(None)


async def test_before_the_hello_little_is_accepted():
    flooded, transport = wire(joined=False)
    flooded.data_received(PING * 1_000)
    assert len(transport.frames()) <= STRANGER_FRAME_BURST + 2 * FRAMES_AT_ONCE
    flooded.connection_lost(None)
    large, transport = wire(joined=False)
    large.data_received(sent(Opcode.BINARY, bytes(100_000)))
    assert transport.gone
    large.connection_lost(None)


async def test_what_had_to_wait_is_parsed_later_in_order_and_nothing_is_lost():
    slow, transport = wire()
    slow._quota = FrameQuota()
    slow._quota.own.per_s = 10_000.0
    messages = [str(i).encode() for i in range(300)]
    stream = b"".join(PING + sent(Opcode.BINARY, message) for message in messages)
    for at in range(0, len(stream), 7):  # headers are cut, too
        slow.data_received(stream[at : at + 7])
    async with asyncio.timeout(WAIT_S):
        assert [await slow.receive() for _ in messages] == messages
        while not transport.reading:  # noqa: ASYNC110 - a timer of the wire ends it
            await asyncio.sleep(0.01)
    slow.connection_lost(None)


async def test_pongs_that_are_not_read_are_few_and_end_the_session():
    transport = Transport()
    deaf = WebSocketConnection(transport, max_bytes=1 << 20, send_s=0.05)
    deaf.admitted()
    deaf.pause_writing()  # as a transport does whose buffer is full
    for _ in range(1_000):
        deaf.data_received(sent(Opcode.PING, b"z" * 125))
    assert transport.written == b""
    assert not transport.reading
    with pytest.raises(Exception, match=r"read nothing for 0\.05 s"):
        await deaf.receive()
    deaf.connection_lost(None)


async def test_nothing_is_written_to_a_connection_that_is_gone():
    """asyncio logs each such write: 53,573 lines of three connections."""
    gone, transport = wire()
    transport.gone = True
    gone.data_received(PING * 500)
    gone.post(b"plan")
    assert transport.written == b""
    gone.connection_lost(None)


def test_all_connections_of_a_source_share_a_rate():
    shared = Sources().of("192.0.2.1").frames
    quotas = [FrameQuota(shared) for _ in range(256)]
    for quota in quotas:
        quota.admitted()
    taken, waits = 0.0, 0
    for quota in quotas:
        for _ in range(10):
            taken += FRAMES_AT_ONCE
            if quota.wait_s(FRAMES_AT_ONCE, 1):
                waits += 1
                break
    assert waits > 200
    assert taken < SOURCE_FRAME_BURST + 257 * FRAMES_AT_ONCE


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_stream_is_split_where_frames_end(size):
    frame = sent(Opcode.BINARY, bytes(size))
    cutter = FrameCutter()
    stream = frame * 3
    end, cost = cutter.cut(stream, 1)
    assert (end, cost) == (len(frame), 1 + size // 65_536)
    for cut in range(min(len(frame), 20)):  # in the middle of a header or of what follows it
        cutter = FrameCutter()
        first, _ = cutter.cut(frame[:cut], 5)
        assert cutter.cut(frame[first:] + frame, 1.0 if first == 0 else 0.0)[0] == len(frame) - first


# ---------------------------------------------------------------- connections


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_source_is_what_one_machine_cannot_choose(host, source):
    assert source_of(host) == source


def test_one_source_can_only_open_so_many_connections_and_others_come_in():
    connection_limiter = ConnectionLimiter(Limits(), lambda: pytest.fail("no handler is asked for"))
    accepted = 0
    for i in range(5_000):
        connection = connection_limiter.accept(f"2001:db8::{i:x}", 0.0)  # addresses of one /64
        if connection is not None:
            accepted += 1
            connection_limiter.release(connection)
    assert accepted == SOURCE_CONNECTION_BURST
    assert connection_limiter.accept("192.0.2.9", 0.0) is not None
    assert (len(connection_limiter), connection_limiter.half_open) == (1, 1)


def test_behind_a_proxy_clients_are_not_distinguished_by_address():
    connection_limiter = ConnectionLimiter(
        Limits(total=3_000), lambda: pytest.fail("no handler is asked for"), proxied=True
    )
    assert all(connection_limiter.accept("127.0.0.1", 0.0) is not None for _ in range(3_000))
    assert connection_limiter.accept("127.0.0.1", 1.0) is None
    assert connection_limiter.refused == {"too many connections": 1}


def test_without_room_the_oldest_half_open_connection_is_closed():
    connection_limiter = ConnectionLimiter(Limits(total=3), lambda: pytest.fail("no handler is asked for"))
    cut = []
    for i in range(3):
        connection = connection_limiter.accept(f"192.0.2.{i}", float(i))
        assert connection is not None
        connection.cut = lambda i=i: cut.append(i)
    assert connection_limiter.accept("192.0.2.9", 1.5) is None  # all have only just come
    assert connection_limiter.accept("192.0.2.9", HALF_OPEN_S + 0.5) is not None
    assert cut == [0]
    assert len(connection_limiter) == 3


async def test_many_requests_in_one_packet_are_answered_once(tmp_path):
    async with collector(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000)
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                assert (await reader.read()).count(b"HTTP/1.1 404") == 1
        endless, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"POST /operate HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + bytes(200_000))
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                await endless.read()
        async with rig.probe("kiln") as probe:
            await probe.welcome()


async def test_a_probe_is_acknowledged_while_other_sessions_ping_endlessly(tmp_path):
    """Fifty of them took acknowledgements from 20 ms to 1.5 s."""

    async def flood(connection: socket.socket) -> None:
        blob = PING * 2_000
        with contextlib.suppress(OSError):
            while True:
                await asyncio.get_running_loop().sock_sendall(connection, blob)

    async with collector(tmp_path) as rig, contextlib.AsyncExitStack() as stack:
        probes = [await stack.enter_async_context(probe_at(rig.port, f"flood-{i}")) for i in range(20)]
        pinging = []
        for probe in probes:
            await probe.welcome()
            raw = probe.connection.transport.get_extra_info("socket").dup()
            pinging.append(asyncio.ensure_future(flood(raw)))
            stack.callback(raw.close)
        await asyncio.sleep(0)
        honest = await stack.enter_async_context(rig.probe("kiln"))
        await honest.welcome()
        for seq in range(1, 21):
            await honest.batch(seq, note(time.time_ns(), str(seq)))
            await honest.acked(seq)
        paused = sum(not session._wire._reading for session in rig.swarm_state.sessions.probes.values())
        assert paused >= 10  # the kernel holds back what they send
        for task in pinging:
            task.cancel()
        await asyncio.gather(*pinging, return_exceptions=True)
        for probe in probes:  # their goodbyes would wait behind megabytes of pings
            probe.connection.transport.abort()


# ---------------------------------------------------------------- STUN


def asked(server: StunServer, host: str, times: int) -> int:
    return sum(server.answer(stun_packet.encode_request(bytes(12)), (host, 7)) is not None for _ in range(times))


def test_one_source_cannot_use_up_the_answers_of_all():
    server = StunServer(lambda: 1)
    assert asked(server, "192.0.2.1", 5_000) == SOURCE_BURST
    assert sum(asked(server, f"2001:db8::{i:x}", 1) for i in range(5_000)) == SOURCE_BURST
    assert asked(server, "192.0.2.2", 1) == 1


def test_forged_sources_take_nothing_from_members_and_memory_is_bounded():
    server = StunServer(lambda: 1)
    server.member_came(5, "198.51.100.7")
    forged = sum(asked(server, f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 1) for i in range(3 * MAX_SOURCES))
    assert forged == STRANGER_ANSWERS_PER_S
    assert asked(server, "198.51.100.7", 20) == 20
    assert len(server._sources) <= MAX_SOURCES
    server.member_gone(5)
    server.member_gone(5)
    assert asked(server, "198.51.100.7", 1) == 0
    assert not server._member_sources


async def test_the_source_of_a_session_is_a_members_as_long_as_it_lasts(tmp_path):
    async with collector(tmp_path) as rig:
        async with rig.probe("kiln") as kiln, rig.probe("oven") as oven:
            await kiln.welcome()
            await oven.welcome()
            assert set(rig.swarm_state.stun._member_sources) == {"127.0.0.1"}
        async with asyncio.timeout(WAIT_S):
            while rig.swarm_state.stun._member_sources:  # noqa: ASYNC110 - no event says this
                await asyncio.sleep(0.01)


# ---------------------------------------------------------------- descriptors


def test_the_reserve_is_a_quarter_of_a_small_limit():
    assert (file_descriptors.reserve(64), file_descriptors.reserve(1_024)) == (16, file_descriptors.RESERVE)
    used, left = file_descriptors.in_use(), file_descriptors.left()
    assert used is not None
    assert left == file_descriptors.limit() - used


def started(folder: Path, soft: int, hard: int, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    ready = folder / "ready"
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "swarm_collector", "--state", str(folder), "--listen", "127.0.0.1:0",
             "--ready-file", str(ready)],
            stderr=file, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        )  # fmt: skip
    until = time.monotonic() + 60
    while not ready.exists():
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < until
        time.sleep(0.05)
    return child, int(ready.read_text().strip().rpartition(":")[2])


async def health_of(port: int) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health") as answer:
        return dict(json.loads(await answer.text()))


@linux_only
async def test_the_soft_limit_is_raised_and_health_says_what_is_left(tmp_path):
    child, port = started(tmp_path, 256, 4_000, tmp_path / "log")
    try:
        health = await health_of(port)
        assert health["descriptors_limit"] == 4_000
        left = health["descriptors_left"]
        assert isinstance(left, int)
        assert 3_900 < left < 4_000
        held = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)) for _ in range(100)]
        now_left = (await health_of(port))["descriptors_left"]
        assert isinstance(now_left, int)
        assert left - 105 <= now_left <= left - 95
        for _, writer in held:
            writer.close()
    finally:
        child.terminate()
        assert child.wait(30) == 0


@linux_only
async def test_out_of_descriptors_the_listener_rests_the_store_continues_and_the_log_stays_short(tmp_path):
    """asyncio's own listener wrote a traceback for each connection that waited: 150 MB."""
    log = tmp_path / "log"
    child, port = started(tmp_path, 128, 128, log)
    loop = asyncio.get_running_loop()
    waiting: list[socket.socket] = []
    try:
        async with probe_at(port, "kiln") as kiln:
            await kiln.welcome()
            for i in range(300):
                made = socket.socket()
                made.setblocking(False)
                made.bind((f"127.0.0.{2 + i % 100}", 0))
                await loop.sock_connect(made, ("127.0.0.1", port))
                waiting.append(made)
            async with asyncio.timeout(90):
                while "no new connections are accepted" not in log.read_text():  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.02)
            assert len(os.listdir(f"/proc/{child.pid}/fd")) <= 112  # 32 are kept, of which the store may take some
            for seq in range(1, 21):
                await kiln.batch(seq, note(time.time_ns(), str(seq)))
                await kiln.acked(seq)
            assert len(log.read_bytes()) < 20_000
            for made in waiting:
                made.close()
            async with asyncio.timeout(90), probe_at(port, "oven") as oven:
                assert (await oven.welcome()).name == "oven"
            left = (await health_of(port))["descriptors_left"]
            assert isinstance(left, int)
            assert left > file_descriptors.reserve(128)
    finally:
        for made in waiting:
            made.close()
        child.terminate()
        assert child.wait(30) == 0
    assert len(log.read_bytes()) < 20_000


async def test_unread_messages_and_unread_pings_are_both_bounded():
    flooded, _ = wire()
    flooded.data_received((sent(Opcode.BINARY, bytes(1_000)) + PING) * 1_000)
    assert flooded._unread <= UNREAD_BYTES + FRAMES_AT_ONCE * 1_100
    flooded.connection_lost(None)
