"""A real collector on an ephemeral port, and real clients that speak the protocol to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from collector_fixtures import FOCUS, hello, id_of
from websockets.asyncio.client import ClientConnection, connect

from swarm_collector.clock import Clock
from swarm_collector.ingest.store_client import StoreClient
from swarm_collector.server import Server
from swarm_collector.services.health import health
from swarm_collector.settings import Settings
from swarm_collector.state import SwarmState
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import (
    COLLECTOR_HEADER,
    NONCE_HEADER,
    Ack,
    Batch,
    CollectorMessage,
    Plan,
    Welcome,
    decode_from_collector,
)
from swarm_protocol.messages.samples import EventSample, LinkSample, Sample, UplinkSample
from swarm_protocol.messages.viewer_messages import (
    MAX_STREAM_BYTES,
    Diff,
    Keyframe,
    StreamMessage,
    Subscribe,
    decode_from_stream,
)
from swarm_protocol.snapshot.frames import apply_diff, decode_keyframe
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.trust.signing import Handshake, certificate_binding, plain_text_binding
from swarm_storage.store import open_store

WAIT_S = 25.0  # what a test gives up after, before the times after which a collector ends what is silent
SECRET = bytes(range(32))
_M = TypeVar("_M", bound=CollectorMessage)


@dataclass
class Rig:
    swarm_state: SwarmState
    server: Server
    port: int

    def health(self) -> dict[str, Any]:
        return health(self.swarm_state)

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    @contextlib.asynccontextmanager
    async def probe(self, name: str, **changes: Any) -> AsyncIterator[Probe]:
        async with probe_at(self.port, name, **changes) as probe:
            yield probe

    @contextlib.asynccontextmanager
    async def viewer(self, **changes: Any) -> AsyncIterator[Viewer]:
        async with connect(self.url("/view"), max_size=MAX_STREAM_BYTES, compression=None, proxy=None) as connection:
            fields: dict[str, Any] = {"protocol": 1, "rate_hz": 10.0}
            await connection.send(encode(Subscribe(**(fields | changes))))
            yield Viewer(connection)


@contextlib.asynccontextmanager
async def collector(folder: Path, store: str | None = None, **changes: Any) -> AsyncIterator[Rig]:
    """`store`: its URL, if not a file in `folder`."""
    settings = replace(Settings(focus=FOCUS, secret=SECRET), **changes)
    with contextlib.closing(StoreClient(store or f"sqlite:///{folder / 'swarm.db'}")) as store_client:
        swarm_state = SwarmState(settings, store_client, Clock(), random.Random(1))
        server = Server(swarm_state)
        _, port = await server.start("127.0.0.1", 0)
        broken = asyncio.ensure_future(server.failed())
        try:
            yield Rig(swarm_state, server, port)
        finally:
            if broken.done():
                broken.result()  # a test passes with all of the collector alive, or not at all
            broken.cancel()
            await server.stop()


@contextlib.asynccontextmanager
async def probe_at(port: int, name: str, **changes: Any) -> AsyncIterator[Probe]:
    async with connect(f"ws://127.0.0.1:{port}/probe", compression=None, proxy=None) as connection:
        probe = Probe(connection, name)
        await connection.send(encode(hello(name, handshake=handshake_of(connection), **changes)))
        yield probe


def handshake_of(connection: ClientConnection) -> Handshake:
    """As an honest probe sees it."""
    assert connection.response is not None
    headers = connection.response.headers
    tls = connection.transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return Handshake(
        nonce=bytes.fromhex(headers[NONCE_HEADER]),
        collector=bytes.fromhex(headers[COLLECTOR_HEADER]),
        bound_to=certificate_binding(certificate) if certificate else plain_text_binding(*connection.remote_address),
    )


class Probe:
    def __init__(self, connection: ClientConnection, name: str) -> None:
        self.connection = connection
        self.node_id = id_of(name)
        self._unread: list[CollectorMessage] = []

    async def next(self, kind: type[_M]) -> _M:
        """The next message of this kind; others are kept for later."""
        for i, message in enumerate(self._unread):
            if isinstance(message, kind):
                del self._unread[i]
                return message
        async with asyncio.timeout(WAIT_S):
            while True:
                data = await self.connection.recv()
                assert isinstance(data, bytes)
                message = decode_from_collector(data)
                if isinstance(message, kind):
                    return message
                self._unread.append(message)

    async def welcome(self) -> Welcome:
        return await self.next(Welcome)

    async def plan_with(self, *names: str) -> Plan:
        """The first plan in which exactly these are peers."""
        while True:
            plan = await self.next(Plan)
            if {peer.name for peer in plan.peers} == set(names):
                return plan

    async def send(self, message: Any) -> None:
        await self.connection.send(encode(message))

    async def batch(self, seq: int, *samples: Sample, epoch: int = 7) -> None:
        await self.send(Batch(epoch=epoch, seq=seq, samples=samples))

    async def acked(self, seq: int) -> None:
        while (await self.next(Ack)).seq < seq:
            pass

    async def closed(self) -> tuple[int, str]:
        async with asyncio.timeout(WAIT_S):
            await self.connection.wait_closed()
        return self.connection.close_code or 0, self.connection.close_reason or ""


class Viewer:
    """Follows the stream as a dashboard does."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.swarm: Swarm | None = None
        self.seq = 0

    async def message(self) -> StreamMessage:
        async with asyncio.timeout(WAIT_S):
            data = await self.connection.recv()
        assert isinstance(data, bytes)
        return decode_from_stream(data)

    async def frame(self) -> Swarm:
        while True:
            message = await self.message()
            if isinstance(message, Keyframe):
                self.swarm, self.seq = decode_keyframe(message.body), message.seq
                return self.swarm
            if isinstance(message, Diff):
                assert self.swarm is not None
                assert message.seq == self.seq + 1
                self.swarm, self.seq = apply_diff(self.swarm, message.body), message.seq
                return self.swarm

    async def until(self, condition: Any) -> Swarm:
        swarm = self.swarm or await self.frame()
        while not condition(swarm):
            swarm = await self.frame()
        return swarm

    async def next(self, kind: type[Any]) -> Any:
        while True:
            message = await self.message()
            if isinstance(message, kind):
                return message


def note(at_ns: int, detail: str) -> EventSample:
    return EventSample(at_ns=at_ns, kind="note", detail=detail)


def link(at_ns: int, peer: str, rtt_ms: float = 12.5) -> LinkSample:
    return LinkSample(
        at_ns=at_ns,
        peer=peer,
        path="direct",
        sent=20,
        lost=0,
        rtt_min_ms=rtt_ms,
        rtt_p50_ms=rtt_ms,
        rtt_p95_ms=rtt_ms,
        rtt_p99_ms=rtt_ms,
        pdv_ms=0.0,
    )


def uplink(at_ns: int, peer: str, sent_bytes: int = 1 << 20) -> UplinkSample:
    return UplinkSample(at_ns=at_ns, peer=peer, sent_bytes=sent_bytes, mbps=40.0, bound=False, seconds=1.0)


def stored(folder: Path, kind: str = "event") -> list[tuple[str, Sample]]:
    """What the database in `folder` has of one kind of sample, each with its node."""
    store = open_store(f"sqlite:///{folder / 'swarm.db'}", read_only=True)
    with contextlib.closing(store):
        return [(node_id, sample) for node_id, sample in store.reader.samples(kinds=(kind,))]
