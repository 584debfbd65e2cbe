"""A collector on an ephemeral port that sends what the test requests, and records what it received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    Ack,
    Batch,
    CollectorMessage,
    Hello,
    ProbeMessage,
    Refused,
    Welcome,
    decode_from_probe,
)

M = TypeVar("M")
NODE_ID = "00112233445566aa"


class FakeCollector:
    def __init__(self) -> None:
        self.heard: list[ProbeMessage] = []
        self.committed: dict[int, int] = {}  # epoch → seq
        self.acknowledge = True
        self.refuse: Refused | None = None
        self.heartbeat_ms = 60_000.0
        self.port = 0
        self.headers = {NONCE_HEADER: bytes(32).hex(), COLLECTOR_HEADER: bytes(16).hex()}
        self.columns = False  # takes batches in columns
        self._news = asyncio.Condition()
        self._server: Server | None = None
        self._connections: set[ServerConnection] = set()

    async def start(self) -> FakeCollector:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            self.port,
            compression=None,
            close_timeout=0.2,
            process_response=self._introduce,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close(close_connections=True)
            await self._server.wait_closed()
            self._server = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/probe"

    async def send(self, message: CollectorMessage | bytes | str) -> None:
        data = message if isinstance(message, bytes | str) else encode(message)
        for ws in self._connections:
            await ws.send(data)

    async def drop(self) -> None:
        """Cuts every connection without a word."""
        for ws in self._connections:
            ws.transport.abort()

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def until(self, true: Callable[[], Any]) -> None:
        """Waits until what was heard makes it true."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(true)

    async def hears(self, kind: type[M], count: int = 1) -> list[M]:
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    def _introduce(self, ws: ServerConnection, request: Request, response: Response) -> None:
        response.headers.update(self.headers)

    async def _handle(self, ws: ServerConnection) -> None:
        self._connections.add(ws)
        try:
            async for data in ws:
                assert isinstance(data, bytes)
                message = decode_from_probe(data)
                await self._answer(ws, message)
                async with self._news:
                    self.heard.append(message)
                    self._news.notify_all()
        except ConnectionClosed:
            pass  # the test cut it
        finally:
            self._connections.discard(ws)

    async def _answer(self, ws: ServerConnection, message: ProbeMessage) -> None:
        if isinstance(message, Hello):
            if self.refuse is not None:
                await ws.send(encode(self.refuse))
                await ws.close()
                return
            welcome = Welcome(
                node_id=NODE_ID,
                name=message.name,
                committed_seq=self.committed.get(message.epoch, 0),
                heartbeat_ms=self.heartbeat_ms,
                observed_host="127.0.0.1",
                columns=self.columns,
            )
            await ws.send(encode(welcome))
        if isinstance(message, Batch | ColumnBatch) and self.acknowledge:
            self.committed[message.epoch] = max(self.committed.get(message.epoch, 0), message.seq)
            await ws.send(encode(Ack(epoch=message.epoch, seq=self.committed[message.epoch])))
