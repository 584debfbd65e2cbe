"""The connection to the collector is opened by a proxy where the owner has set one, and never follows a redirect."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from pathlib import Path

import pytest
from client_rig import Rig, running
from fake_collector import NODE_ID, FakeCollector
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from swarm_collector.transport.certificate import load_or_make
from swarm_probe.collector_client.websocket import Opening, by_proxy, open_websocket
from swarm_probe.light_imports import TLS_RECORD_BYTES, proxies_set
from swarm_protocol.trust import certificate_pins


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of an owner without proxies."""
    for name in ("http_proxy", "https_proxy", "socks_proxy", "all_proxy", "ws_proxy", "wss_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def test_it_joins_by_way_of_the_proxy_of_the_environment(
    collector: FakeCollector, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    """Owners behind a company's proxy rely on this: there is no other way out."""
    asked: list[str] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        inner, outer = await asyncio.open_connection("127.0.0.1", collector.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            while data := await source.read(4096):
                to.write(data)
            to.close()

        await asyncio.gather(copy(reader, outer), copy(inner, writer), return_exceptions=True)

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy:
        environment.setenv("http_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        rig = Rig(collector.url, tmp_path)
        async with running(rig):
            joined = await rig.until("joined")
    assert joined.text == f"joined 127.0.0.1:{collector.port} as kiln-07 (node {NODE_ID})"
    assert asked == [f"CONNECT 127.0.0.1:{collector.port} HTTP/1.1"]


def test_a_proxy_is_used_where_the_owner_has_set_one(environment: pytest.MonkeyPatch) -> None:
    assert not proxies_set()
    assert not by_proxy("ws://203.0.113.7:9470/probe")
    environment.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert proxies_set()
    assert by_proxy("wss://203.0.113.7:9470/probe")
    environment.setenv("no_proxy", "203.0.113.7")
    assert not by_proxy("wss://203.0.113.7:9470/probe")


async def test_a_redirect_is_an_error_not_another_collector(collector: FakeCollector, tmp_path: Path) -> None:
    """A hostile collector must not send a probe to a third machine."""

    def elsewhere(connection: ServerConnection, _: Request) -> Response:
        response = connection.respond(HTTPStatus.FOUND, "")
        response.headers["Location"] = collector.url
        return response

    async def nobody(_: ServerConnection) -> None:
        raise AssertionError("the handshake was refused")

    async with serve(nobody, "127.0.0.1", 0, process_request=elsewhere) as server:
        rig = Rig(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/probe", tmp_path)
        async with running(rig):
            away = await rig.until("away", 2)
    assert "HTTP 302: no collector at this address" in away.text
    assert not collector.heard


async def test_over_tls_long_messages_pass_and_the_buffer_holds_one_record(tmp_path: Path) -> None:
    """asyncio would keep 256 KiB for each connection."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    message = bytes(range(256)) * 2_000
    async with serve(echo, "127.0.0.1", 0, ssl=load_or_make(tmp_path).context, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        own = socket.create_connection(("127.0.0.1", port))
        own.setblocking(False)
        how = Opening(f"wss://127.0.0.1:{port}", certificate_pins.client_context(), max_bytes=1 << 20)
        connection = await open_websocket(how, None, own)
        await connection.send(message)
        assert await connection.recv() == message
        assert len(connection.transport._ssl_protocol._ssl_buffer) == TLS_RECORD_BYTES  # type: ignore[attr-defined]
        await connection.close()
