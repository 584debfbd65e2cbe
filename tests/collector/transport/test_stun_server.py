"""The collector's STUN ports: what another implementation receives, and how little an attacker can gain."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from swarm_collector.transport.stun_server import BARE_PER_S, StunServer
from swarm_protocol.packets import stun_packet

TURNUTILS = shutil.which("turnutils_stunclient")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[StunServer]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = StunServer(lambda: 1)
    await made.start("127.0.0.1", port)
    yield made
    made.close()


@pytest.mark.skipif(TURNUTILS is None, reason="turnutils_stunclient is missing; apt install coturn")
async def test_turnutils_gets_its_address_from_both_ports(server: StunServer):
    for port in server.ports:
        client = await asyncio.create_subprocess_exec(
            str(TURNUTILS), "-p", str(port), "127.0.0.1", stdout=-1, stderr=-2
        )  # fmt: skip
        assert client.stdout is not None
        async with asyncio.timeout(90):
            said = (await client.stdout.readline()).decode()
        client.kill()
        await client.wait()
        assert "UDP reflexive addr: 127.0.0.1:" in said
    assert server.answered >= 2
    assert not server.proven  # loopback says nothing of what firewalls let through


async def test_a_port_that_is_taken_is_replaced_by_another():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        made = StunServer(lambda: 1)
        await made.start("127.0.0.1", port)
        assert len(set(made.ports)) == 2
        assert port not in made.ports
        made.close()


def test_of_bare_requests_only_a_few_are_answered_and_padded_ones_continue():
    server = StunServer(lambda: 1)
    bare = bytes.fromhex("000100002112a442") + bytes(12)
    answered = sum(server.answer(bare, ("192.0.2.9", 7)) is not None for _ in range(100))
    assert answered == BARE_PER_S
    assert server.refused == 100 - BARE_PER_S
    assert server.answer(stun_packet.encode_request(bytes(12)), ("192.0.2.9", 7)) is not None
    assert server.proven
