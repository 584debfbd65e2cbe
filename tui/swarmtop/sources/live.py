"""Use a running collector as a source: keep one WebSocket open, follow its frames, and ask it questions.

`frame_follower` decodes the frames and is imported, with numpy, once the collector was asked for them: the dashboard is
painted meanwhile. `collector_connection` opens the socket; the task that reads it is here. A slow reader
sees the newest state, never a queue of old ones. The first connection must succeed; later ones are retried for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from swarm_protocol.addresses import address_text
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.codec import DecodeError
from swarm_protocol.messages.operator_messages import Operator
from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.messages.viewer_messages import (
    VIEW_PROTOCOL_VERSION,
    Diff,
    ExportChunk,
    ExportRequest,
    Focus,
    HistoryReply,
    HistoryRequest,
    Keyframe,
    KeyframeRequest,
    Notice,
    RunKept,
    RunningReport,
    RunReport,
    Subscribe,
    ViewerMessage,
    decode_from_stream,
)
from swarm_protocol.snapshot.swarm import Event, Swarm
from swarm_protocol.text import safe
from swarm_protocol.trust.identity import default_state_dir
from swarm_protocol.trust.loopback import is_loopback
from swarm_protocol.units import NS_PER_S
from swarmtop.sources.backoff import Backoff
from swarmtop.sources.collector_connection import CollectorConnector, Lost, NoCollector, closed_reason, send
from swarmtop.sources.source import History, Mode, SourceError

if TYPE_CHECKING:
    from swarm_protocol.snapshot.links.fill_unmeasured import Completer
    from swarmtop.sources.frame_follower import FrameFollower

FIRST_FRAME_WITHIN_S: Final = 20.0  # a large keyframe over a thin line
LISTEN_EVERY_S: Final = 0.5
QUIET_S: Final = 1.5  # seconds of silence before the collector is pinged
PONG_WITHIN_S: Final = 2.0  # there and back over a satellite, with a frame before it
FOCUS_APART_S: Final = 2.5  # a collector refuses changes of the model that follow each other within two seconds
CHUNKS_AHEAD: Final = 32  # of an export; more are left in the socket, which slows the sender


class LiveSource:
    mode: Mode = "live"

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str = "",
        pin: str | None = None,
        insecure: bool = False,
        pins_folder: Path | None = None,
        rate_hz: float = 4.0,
        compact: bool = False,
        operator: Callable[[], Operator | None] | None = None,
        advice: str = "start swarm-collector there or correct --connect",
        rng: random.Random | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`compact`: hold links in as few bytes as a screen needs. `operator`: reads what this user's
        collector on this machine has left; it makes up another secret at each start. `advice`:
        what to do if it cannot be reached."""
        self._advice = advice
        self._compact = compact
        self.title = address_text(host, port)
        self._operator = operator
        self._loopback = is_loopback(host)
        tls = not (insecure or is_loopback(host))
        self._connector = CollectorConnector(self.title, tls, pin, pins_folder or default_state_dir())
        self._subscribe = Subscribe(protocol=VIEW_PROTOCOL_VERSION, token=token, rate_hz=rate_hz)
        self._backoff = Backoff(rng or random.Random())
        self._wall_ns = wall_ns
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # replaced at each change: waiters of the old one wake
        self._latest: Swarm | None = None
        self._completer: Completer | None = None
        self._failure: BaseException | None = None
        self._connection: ClientConnection | None = None
        self._reached = False  # a frame has come at least once
        self._ids = itertools.count(1)
        self._histories: dict[int, asyncio.Future[HistoryReply]] = {}
        self._exports: dict[int, asyncio.Queue[ExportChunk | Lost]] = {}
        self._runs: dict[int, asyncio.Future[RunKept]] = {}
        self._focus: Focus | None = None
        self._focus_next_s = 0.0  # of the loop's clock: a focus is sent no earlier
        self._lost = ""  # why the connection was lost, as last noted; empty: it is there
        self.silent_since_ns: int | None = None
        self._heard_ns = 0

    @property
    def shown_pin(self) -> str:
        """The fingerprint of the collector's certificate, once it was seen."""
        return self._connector.shown_pin

    # ------------------------------------------------------------ the Source contract

    async def frames(self) -> AsyncIterator[Swarm]:
        self._start()
        shown: Swarm | None = None
        while True:
            news = self._news
            if self._latest is not None and self._latest is not shown:
                shown = self._latest
                yield shown
            elif self._failure is not None:
                raise self._failure
            else:
                await news.wait()

    async def history(
        self, metric: str, node_id: str, peer_id: str | None, since_ns: int, until_ns: int, points: int
    ) -> History:
        """Asks again after a reconnection, so that a chart is late rather than wrong."""
        while True:
            connection = await self._connected()
            request_id = next(self._ids)
            answer: asyncio.Future[HistoryReply] = asyncio.get_running_loop().create_future()
            self._histories[request_id] = answer
            request = HistoryRequest(
                request_id=request_id,
                metric=metric,
                node=node_id,
                peer=peer_id,
                since_ns=since_ns,
                until_ns=until_ns,
                points=points,
            )
            try:
                await send(connection, request)
                reply = await answer
            except Lost:
                continue
            finally:
                self._histories.pop(request_id, None)
            return History(reply.at_ns, reply.values, reply.rolled_until_ns)

    async def export(self, kind: str, since_ns: int, until_ns: int) -> AsyncIterator[str]:
        connection = await self._connected()
        request_id = next(self._ids)
        chunks: asyncio.Queue[ExportChunk | Lost] = asyncio.Queue(CHUNKS_AHEAD)
        self._exports[request_id] = chunks
        try:
            await send(
                connection, ExportRequest(request_id=request_id, kind=kind, since_ns=since_ns, until_ns=until_ns)
            )
            while True:
                chunk = await chunks.get()
                if isinstance(chunk, Lost):
                    raise chunk
                if chunk.text:
                    yield chunk.text
                if chunk.done:
                    return
        except Lost as lost:
            raise SourceError(
                f"the connection to {self.title} ended during the export ({lost}); run it again", 3
            ) from lost
        finally:
            del self._exports[request_id]
            while not chunks.empty():  # lets go a reader that waits for room
                chunks.get_nowait()

    async def focus(
        self, model: str, layer: LayerShape, dtype: str, hop_bytes: int, vocab: int = 0, *, chosen: bool = True
    ) -> None:
        """Said again after each reconnection. Of several in a short time the last is sent."""
        self._focus = asked = Focus(
            model=model, layer=layer, dtype=dtype, hop_bytes=hop_bytes, vocab=vocab, chosen=chosen
        )
        if (wait_s := self._focus_next_s - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait_s)
        if self._connection is not None and self._focus is asked:
            with contextlib.suppress(Lost):  # the next session begins with it
                await self._send_focus(self._connection, asked)

    async def _send_focus(self, connection: ClientConnection, focus: Focus) -> None:
        self._focus_next_s = asyncio.get_running_loop().time() + FOCUS_APART_S
        await send(connection, focus)

    async def report(self, run: RunSample) -> None:
        """Gives a watched run to the collector; returns once it is committed. Raises SourceError if it is not."""
        await self._told(lambda request_id: RunReport(request_id=request_id, run=run), "a run")

    async def tell_running(self, running: Running) -> None:
        """Tells everybody what the swarm runs from now on. Raises SourceError if the collector does not take it."""
        await self._told(lambda number: RunningReport(request_id=number, running=running), "the running placement")

    async def _told(self, message: Callable[[int], ViewerMessage], what: str) -> None:
        connection = await self._connected()
        request_id = next(self._ids)
        answer: asyncio.Future[RunKept] = asyncio.get_running_loop().create_future()
        self._runs[request_id] = answer
        try:
            await send(connection, message(request_id))
            kept = await answer
        except Lost as lost:
            raise SourceError(f"{self.title} was lost while it kept {what} ({lost})", 3) from lost
        finally:
            del self._runs[request_id]
        if kept.refused:
            raise SourceError(f"{self.title} did not keep {what}: {safe(kept.refused)}", 3)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # ------------------------------------------------------------ the connection

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._failure = task.exception()
            self._drop_questions(self._failure or Lost("closed"))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _connected(self) -> ClientConnection:
        self._start()
        while self._connection is None:
            if self._failure is not None:
                raise self._failure
            await self._news.wait()
        return self._connection

    async def _run(self) -> None:
        while True:
            try:
                await self._session()
            except Lost as lost:
                if not self._reached and isinstance(lost, NoCollector):
                    raise SourceError(f"{self.title} {lost}: no swarm-collector; correct --connect", 3) from lost
                if not self._reached:
                    raise SourceError(f"cannot reach {self.title} ({lost}); {self._advice}", 3) from lost
                self.silent_since_ns = self.silent_since_ns or self._heard_ns
                self._drop_questions(lost)
                why = f"connection to {self.title} lost ({lost}); trying again"
                if why != self._lost:  # each try fails alike, and other events are to stay in sight
                    self._lost = why
                    self._note(why)
            finally:
                self._connection = None
            await asyncio.sleep(self._backoff.delay_s())

    async def _session(self) -> None:
        """One connection from opening to its end, which is always an exception: Lost or SourceError."""
        async with contextlib.AsyncExitStack() as stack:
            connection = await self._connector.open(stack)
            await send(connection, self._introduction())
            if self._focus is not None:
                await self._send_focus(connection, self._focus)
            self._connection = connection
            self._wake()
            stream = await asyncio.to_thread(importlib.import_module, "swarmtop.sources.frame_follower")
            follower: FrameFollower = stream.FrameFollower(compact=self._compact)
            listener = asyncio.create_task(self._listen(connection))
            stack.callback(listener.cancel)
            while True:
                # an established stream may be silent for long; websockets' own pings notice a dead one
                patience = None if follower.swarm is not None else FIRST_FRAME_WITHIN_S
                await self._receive(connection, follower, patience)

    def _introduction(self) -> Subscribe:
        """With the operator's secret where it is surely the operator's collector that hears it."""
        mine = self._operator() if self._operator is not None else None
        if mine is None or not (self._loopback or (self.shown_pin and self.shown_pin == mine.pin)):
            return self._subscribe
        return msgspec.structs.replace(self._subscribe, operator=mine.secret)

    async def _listen(self, connection: ClientConnection) -> None:
        """Notices a collector that is not heard any more, long before the connection is given up. Whatever comes is a
        sign of life: a slow line that carries a large frame answers no ping in time."""
        while True:
            await asyncio.sleep(LISTEN_EVERY_S)
            if self._wall_ns() - self._heard_ns < QUIET_S * NS_PER_S:
                continue
            heard_ns = self._heard_ns
            with contextlib.suppress(TimeoutError, ConnectionClosed):
                async with asyncio.timeout(PONG_WITHIN_S):
                    await (await connection.ping())
                self._heard()
                continue
            if self._heard_ns == heard_ns and self.silent_since_ns is None:
                self.silent_since_ns = heard_ns
                self._wake()

    def _heard(self) -> None:
        self._heard_ns = self._wall_ns()
        if self.silent_since_ns is not None:
            self.silent_since_ns = None
            self._wake()

    async def _receive(self, connection: ClientConnection, follower: FrameFollower, patience_s: float | None) -> None:
        try:
            async with asyncio.timeout(patience_s):
                data = await connection.recv()
        except TimeoutError as error:
            raise Lost(f"connected, but nothing came within {FIRST_FRAME_WITHIN_S:.0f} s") from error
        except ConnectionClosed as error:
            raise Lost(closed_reason(error)) from error
        self._heard()
        from swarm_protocol.snapshot.frames import FrameError  # imported with the follower

        try:
            message = decode_from_stream(data if isinstance(data, bytes) else data.encode())
            if isinstance(message, Keyframe | Diff):
                swarm = follower.take(message)
                if follower.must_ask():
                    await send(connection, KeyframeRequest())
                if swarm is not None:
                    self._show(swarm)
                return
        except (DecodeError, FrameError) as error:
            raise SourceError(
                f"{self.title} sends what this version cannot read ({safe(str(error), 120)}); update both ends", 3
            ) from error
        if isinstance(message, HistoryReply):
            waiting = self._histories.get(message.request_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif isinstance(message, RunKept):
            kept = self._runs.get(message.request_id)
            if kept is not None and not kept.done():
                kept.set_result(message)
        elif isinstance(message, ExportChunk):
            if (chunks := self._exports.get(message.request_id)) is not None:
                await chunks.put(message)
        elif isinstance(message, Notice):
            self._noticed(message, follower)

    def _noticed(self, notice: Notice, follower: FrameFollower) -> None:
        if notice.final and follower.swarm is None:
            raise SourceError(f"{self.title} refuses: {safe(notice.text)}", 2)
        self._note(f"{self.title}: {safe(notice.text)}")

    def _show(self, swarm: Swarm) -> None:
        self._reached = True
        self._lost = ""
        self._backoff.reset()
        if self._completer is None:
            from swarm_protocol.snapshot.links.fill_unmeasured import Completer

            self._completer = Completer()
        self._latest = self._completer.completed(swarm)
        self._wake()
        if self._connector.first_seen:
            line, self._connector.first_seen = self._connector.first_seen, ""
            self._note(line)

    def _note(self, text: str) -> None:
        """Add an event to the state that is shown."""
        if self._latest is not None:
            event = Event(at_ns=self._wall_ns(), node="", kind="note", detail=text)
            self._latest = dataclasses.replace(self._latest, events=(*self._latest.events, event))
            self._wake()

    def _drop_questions(self, why: BaseException) -> None:
        questions: list[asyncio.Future[Any]] = [*self._histories.values(), *self._runs.values()]
        for waiting in questions:
            if not waiting.done():
                waiting.set_exception(why)
        for chunks in self._exports.values():
            while chunks.full():  # an export cut short is an error anyway; the reason must fit
                chunks.get_nowait()
            chunks.put_nowait(why if isinstance(why, Lost) else Lost(str(why)))
