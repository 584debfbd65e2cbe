"""Relay hops through the collector, where neither TCP nor a punched hole connects two members.

Bytes travel as messages of the two probes' own connections, which the collector relays. They begin with the preamble
that every connection between members has, so the collector can neither pretend to be the peer nor request anything of
it. Only hops of a decode step's size are relayed, to spare the collector's uplink.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from swarm_probe.streams.channel import Channel, Unreachable
from swarm_probe.streams.tcp_endpoint import PREAMBLE_S, Caller, Purpose, introduce
from swarm_protocol.messages.probe_messages import MAX_RELAY_BYTES, Relay

MAX_FLOWS: Final = 8  # opened by others
MAX_WAITING_BYTES: Final = 256 << 10  # of one flow, not read yet: a round has less in flight
_FLOWS: Final = 1 << 32

Key = tuple[str, int, bool]  # peer, its or our number, whether we opened it

log = logging.getLogger(__name__)


class RelayPort:
    def __init__(
        self,
        send: Callable[[Relay], Awaitable[bool]],
        serve: Callable[[Channel], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        """Create it. `send` False: there is no collector now. `serve` handles what a peer has opened."""
        self._send = send
        self._serve = serve
        self._counts = counts
        self._flows: dict[Key, RelayStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(self, caller: Caller, purpose: Purpose, size: int) -> RelayStream:
        """Begin a flow and prove both ends. Raises PeerError. `caller` is this probe, as the other end knows it."""
        stream = self._begin((caller.peer, secrets.randbelow(_FLOWS), True))
        try:
            async with asyncio.timeout(PREAMBLE_S):
                await introduce(stream, caller, purpose, size)
        except TimeoutError as error:
            stream.close()
            raise Unreachable("no answer by way of the collector either") from error
        except BaseException:
            stream.close()
            raise
        return stream

    def receive(self, message: Relay) -> None:
        """Take relayed bytes of any sender; the preamble shows who it is."""
        key = (message.peer, message.flow, not message.opened_here)
        stream = self._flows.get(key)
        if stream is None:
            theirs = sum(not known[2] for known in self._flows)
            if not message.opened_here or message.end or theirs >= MAX_FLOWS:
                self._counts["relay_ignored"] += 1
                return
            stream = self._begin(key)
            self._spawn(self._converse(stream))
        self._counts["relay_bytes_received"] += len(message.data)
        stream.take(message)

    async def send(self, key: Key, data: bytes, *, end: bool = False) -> None:
        peer, flow, opened_here = key
        if not await self._send(Relay(peer=peer, flow=flow, opened_here=opened_here, data=data, end=end)):
            raise Unreachable("there is no collector to go through")
        self._counts["relay_bytes_sent"] += len(data)

    def end(self, key: Key) -> None:
        """Tell the other end, if there is a collector to relay it."""
        if self._flows.pop(key, None) is not None:
            peer, flow, opened_here = key
            self._spawn(self._send_end(Relay(peer=peer, flow=flow, opened_here=opened_here, end=True)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_end(self, message: Relay) -> None:
        await self._send(message)

    async def _converse(self, stream: RelayStream) -> None:
        try:
            await self._serve(stream)
        finally:
            stream.close()

    def _begin(self, key: Key) -> RelayStream:
        stream = self._flows[key] = RelayStream(self, key)
        return stream

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection by the collector ended with an internal error", exc_info=error)


class RelayStream:
    """A flow, as a `Channel`."""

    kernel = None

    def __init__(self, port: RelayPort, key: Key) -> None:
        self._port = port
        self._key = key
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._more = asyncio.Event()

    def take(self, message: Relay) -> None:
        self._waiting_bytes += len(message.data)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self._ended = True  # no probe of ours sends so far ahead
        elif message.data:
            self._waiting.append(memoryview(message.data))
        self._ended = self._ended or message.end
        self._more.set()

    async def write(self, data: bytes | memoryview) -> None:
        if self._ended:
            raise Unreachable("the peer ended the flow by way of the collector")
        for begin in range(0, len(data), MAX_RELAY_BYTES):
            await self._port.send(self._key, bytes(data[begin : begin + MAX_RELAY_BYTES]))

    async def read_into(self, buffer: memoryview) -> int:
        while not self._waiting:
            if self._ended:
                return 0
            self._more.clear()
            await self._more.wait()
        data = self._waiting.popleft()
        got = min(len(data), len(buffer))
        buffer[:got] = data[:got]
        if got < len(data):
            self._waiting.appendleft(data[got:])
        self._waiting_bytes -= got
        return got

    def stamp_arrivals(self) -> None:
        """Do nothing: relayed bytes have no time stamps, and the delay in hub and ends is part of the cost."""

    async def read_stamped(self, buffer: memoryview) -> tuple[int, int]:
        return await self.read_into(buffer), 0

    def finish_writing(self) -> None:
        self._port.end(self._key)

    def close(self) -> None:
        self._ended = True
        self._port.end(self._key)

    abort = close  # nothing is kept here
