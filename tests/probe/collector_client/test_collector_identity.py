"""Which collector this is: another one at the same address, and redirects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from client_rig import Rig, running

from swarm_probe.collector_client.data_requests import AboutError, ask
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    Hello,
)


async def test_an_older_collector_is_reported_in_one_line_and_shown_nothing(collector, tmp_path):
    """What is signed for it would be of use elsewhere."""
    collector.headers = {NONCE_HEADER: bytes(32).hex()}
    rig = Rig(collector.url, tmp_path)
    async with asyncio.timeout(10):
        said = await rig.link.run()
    assert said == (
        "127.0.0.1 is of an older swarmtop, or not a collector: this machine cannot authenticate to it; ask its "
        "operator to update it"
    )
    assert collector.heard == []


async def test_another_collector_at_the_same_address_is_refused_in_one_line(collector, tmp_path):
    rig = Rig(collector.url, tmp_path)
    running = asyncio.create_task(rig.link.run())
    await rig.until("joined")
    rig.link.leave()
    await running
    rig.spool.close()
    collector.headers = collector.headers | {COLLECTOR_HEADER: (b"\x01" * 16).hex()}
    again = Rig(collector.url, tmp_path)
    async with asyncio.timeout(10):
        said = await again.link.run()
    assert said == (
        f"at 127.0.0.1 is another collector than the one known (id {'01' * 16}, not {'00' * 16}); if its operator says "
        f"that it was set up again, remove the line 127.0.0.1/id from {tmp_path / 'known_collectors'}"
    )
    assert len(collector.of(Hello)) == 1


@contextlib.asynccontextmanager
async def redirecting(status: int) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that sends everybody to another one, and who came there."""
    came: list[str] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append((await reader.readline()).decode())
        writer.close()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        where = f"ws://127.0.0.1:{victim.sockets[0].getsockname()[1]}/probe"
        writer.write(f"HTTP/1.1 {status} Go\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(elsewhere, "127.0.0.1", 0) as victim,
        await asyncio.start_server(speak, "127.0.0.1", 0) as server,
    ):
        yield server.sockets[0].getsockname()[1], came


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, tmp_path: Path) -> None:
    """Whoever answers at the collector's address must not send a probe, with its invite, to a third machine."""
    async with redirecting(status) as (port, came):
        rig = Rig(f"ws://127.0.0.1:{port}/probe", tmp_path)
        async with running(rig):
            away = await rig.until("away", 2)
        assert away.text == f"cannot reach 127.0.0.1:{port} (HTTP {status}: no collector at this address)"
        assert came == []


async def test_questions_about_oneself_follow_no_redirect_either(tmp_path: Path) -> None:
    """`status --data` and `forget` bring a proof of the node's key."""
    async with redirecting(302) as (port, came):
        with pytest.raises(AboutError, match=r"^cannot ask 127\.0\.0\.1:"):
            await asyncio.to_thread(ask, f"ws://127.0.0.1:{port}/probe", tmp_path, tmp_path / "key", forget=False)
        assert came == []
