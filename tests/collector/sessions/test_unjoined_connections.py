"""Connections that never become a session: slow clients, half-open ones, browsers."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp
import pytest
from collector_fixtures import hello
from collector_rig import collector, note
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus

from swarm_collector.transport.connection_limits import Limits
from swarm_collector.transport.keepalive import KeepaliveTimes
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
)
from swarm_protocol.trust.signing import Handshake, plain_text_binding

QUICK = Limits(http_s=0.3, hello_s=0.3, per_address=8)


async def drip(port: int, address: str) -> float:
    """Sends a request header one byte at a time for ever; the seconds until the collector cuts it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    began = asyncio.get_running_loop().time()

    async def send() -> None:
        for byte in b"GET /probe HTTP/1.1\r\nHost: x\r\n" + b"X-Slow: 1\r\n" * 10_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)

    sending = asyncio.ensure_future(send())
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 20)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()
    return asyncio.get_running_loop().time() - began


async def test_five_hundred_slow_clients_are_cut_in_time_and_a_probe_joins_meanwhile(tmp_path):
    """aiohttp alone lets each of them hold its connection for hours."""
    async with collector(tmp_path, limits=Limits(http_s=3.0, per_address=256)) as rig:
        dripping = [asyncio.ensure_future(drip(rig.port, f"127.0.0.{2 + i // 200}")) for i in range(500)]
        async with rig.probe("kiln") as probe:
            await probe.welcome()
            await probe.batch(1, note(time.time_ns(), "undisturbed"))
            await probe.acked(1)
            assert max(await asyncio.gather(*dripping)) < 15
            await probe.batch(2, note(time.time_ns(), "still there"))
            await probe.acked(2)
        assert rig.server.connection_limiter.refused["not a session in time"] == 500


async def test_a_socket_that_says_no_hello_is_closed(tmp_path):
    async with (
        collector(tmp_path, limits=QUICK) as rig,
        connect(rig.url("/probe"), compression=None, proxy=None) as silent,
    ):
        await asyncio.wait_for(silent.wait_closed(), 10)
        assert silent.close_reason == "nothing received for 0.3 s"


async def test_one_address_cannot_hold_more_than_its_share(tmp_path):
    async with collector(tmp_path, limits=Limits(per_address=2)) as rig:
        async with rig.probe("a") as a, rig.probe("b") as b:
            await a.welcome()
            await b.welcome()
            with pytest.raises((OSError, InvalidMessage)):
                await connect(rig.url("/probe"), proxy=None)
            assert rig.server.connection_limiter.refused["too many connections of one address"] == 1
        async with rig.probe("c") as c:
            await c.welcome()


async def upgraded(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket that answers no ping: what a machine that lost its power leaves behind."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /probe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    nonce, own = (
        bytes.fromhex(line.split(": ")[1])
        for name in (NONCE_HEADER, COLLECTOR_HEADER)
        for line in head.splitlines()
        if line.startswith(name)
    )
    body = encode(hello("ghost", handshake=Handshake(nonce, own, plain_text_binding("127.0.0.1", port))))
    writer.write(bytes([0x82, 0x80 | 126]) + len(body).to_bytes(2, "big") + bytes(4) + body)
    return reader, writer


async def test_a_half_open_connection_is_noticed(tmp_path):
    async with collector(tmp_path, pulse=KeepaliveTimes(ping_s=0.2, silence_s=60)) as rig:
        reader, writer = await upgraded(rig.port)
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        async with rig.viewer() as viewer:
            await viewer.until(lambda swarm: len(swarm) == 1)
        assert rig.health()["probes"] == 0


async def test_a_probe_that_only_answers_pings_is_let_go(tmp_path):
    async with collector(tmp_path, pulse=KeepaliveTimes(ping_s=0.1, silence_s=0.4)) as rig, rig.probe("stuck") as probe:
        await probe.welcome()
        assert await probe.closed() == (1008, "nothing received for 0.4 s")


async def test_a_web_page_is_kept_out(rig):
    with pytest.raises(InvalidStatus) as refused:
        async with connect(rig.url("/view"), origin="http://evil.example", proxy=None):
            pass
    assert refused.value.response.status_code == 403


async def test_health_says_how_it_is(rig):
    async with rig.probe("kiln") as probe, aiohttp.ClientSession() as session:
        await probe.batch(1, note(time.time_ns(), "x"))
        await probe.acked(1)
        async with session.get(f"http://127.0.0.1:{rig.port}/health") as response:
            assert response.status == 200
            health = await response.json()
    assert (health["status"], health["members"], health["probes"], health["batches"]) == ("ok", 1, 1, 1)


async def test_a_browser_at_the_collectors_port_gets_an_explanation(rig):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{rig.port}/probe") as response:
        assert (response.status, "swarm-probe --join" in await response.text()) == (426, True)
