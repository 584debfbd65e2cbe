"""Claims about a collector that stops and comes back while it is watched."""

from __future__ import annotations

import asyncio
import http
import random

from websockets.asyncio.server import Request, Response, ServerConnection, serve

from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.viewer_messages import Keyframe
from swarm_protocol.snapshot.frames import encode_keyframe
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.sources.live import LiveSource
from swarmtop.sources.source import first_frame


class Now(random.Random):
    """Retries at once."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


async def test_who_answers_for_a_collector_that_stops_does_not_end_a_dashboard() -> None:
    """A collector on its way out, or a proxy in front of it, has an HTTP status for the one who comes back."""
    asked = 0
    back = asyncio.Event()

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        nonlocal asked
        asked += 1
        return connection.respond(http.HTTPStatus.NOT_FOUND, "") if asked in (2, 3) else None

    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(encode(Keyframe(seq=0, at_ns=asked, body=encode_keyframe(Swarm.empty((), at_ns=asked)))))
        if asked == 1:
            await connection.close()
            return
        back.set()
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, compression=None, process_request=answer) as server:
        source = LiveSource("127.0.0.1", next(iter(server.sockets)).getsockname()[1], rng=Now())
        await first_frame(source)
        await back.wait()
        async for swarm in source.frames():
            if swarm.at_ns == 4:
                break
        await source.close()
    assert asked == 4
