"""Run one viewer's session: send frames at its rate, and answer requests for history and exports.

A viewer that reads slowly gets fewer frames, one that reads nothing is disconnected; neither slows down others.
History and exports are read from the store in threads, piece by piece, as fast as the viewer reads them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from aiohttp import WSCloseCode

from swarm_collector.members.membership import token_matches
from swarm_collector.scheduling.measurement_plan import FocusError
from swarm_collector.sessions.interfaces import ViewerSwarm
from swarm_collector.sessions.viewer_stream import Feed, Outbox
from swarm_collector.transport import keepalive
from swarm_collector.transport.keepalive import SessionOver
from swarm_collector.transport.websocket import WebSocketConnection
from swarm_protocol.messages.codec import DecodeError, encode
from swarm_protocol.messages.viewer_messages import (
    VIEW_PROTOCOL_VERSION,
    ExportChunk,
    ExportRequest,
    Focus,
    HistoryReply,
    HistoryRequest,
    KeyframeRequest,
    Notice,
    RunKept,
    RunningReport,
    RunReport,
    StreamMessage,
    Subscribe,
    ViewerMessage,
    decode_from_viewer,
)
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S
from swarm_storage.csv_format import CSV_KINDS
from swarm_storage.errors import StoreError

MAX_ASKED: Final = 8  # requests of one viewer that are being answered
RUN_EVERY_NS: Final = NS_PER_S  # a real answer takes longer; more would only fill the store
MAX_ANSWERS: Final = 4  # answers it has not read yet; the readers wait

_log = logging.getLogger("swarm_collector.viewer")


class ViewerSession:
    def __init__(
        self, swarm: ViewerSwarm, number: int, wire: WebSocketConnection, is_operators: Callable[[str], bool]
    ) -> None:
        """Create a session. `is_operators`: whether a secret is that of the collector's operator."""
        self.number = number
        self._is_operators = is_operators
        self._operator = False
        self._swarm = swarm
        self._wire = wire
        self._outbox = Outbox()
        self._answers: asyncio.Queue[bytes] = asyncio.Queue(MAX_ANSWERS)
        self._asked: set[asyncio.Task[None]] = set()
        self._run_ns: int | None = None  # when the last run was accepted
        self._running_ns: int | None = None  # when the last running placement was accepted
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def notice(self, text: str) -> None:
        """Send a line to the viewer, or drop it if the queue is full: the events of the next frame say it too."""
        if not self._answers.full():
            self._answers.put_nowait(encode(Notice(text=safe(text))))
            self._outbox.wake.set()

    def end(self, over: SessionOver) -> None:
        if not self._over.done():
            self._over.set_exception(over)

    async def run(self) -> None:
        over: SessionOver | None = None
        try:
            subscribe = await self._subscribe()
            self._wire.admitted()
            feed = self._swarm.viewer_joined(self, self._outbox, subscribe.rate_hz)
            try:
                await keepalive.together(self._read(), self._write(feed), self._wait_over())
            finally:
                self._swarm.viewer_left(self, self._outbox, feed)
                for task in self._asked:
                    task.cancel()
                await asyncio.gather(*self._asked, return_exceptions=True)
        except SessionOver as error:
            over = error
            self._swarm.session_line(f"viewer {self.number} ends: {safe(str(over))}")
        finally:
            if self._over.done():
                self._over.exception()  # seen
            else:
                self._over.cancel()
            await self._wire.close(over)

    async def _subscribe(self) -> Subscribe:
        data = await self._wire.receive(self._swarm.limits.hello_s)
        if data is None:
            raise SessionOver("closed before it subscribed")
        message = _decoded(data)
        if not isinstance(message, Subscribe):
            raise SessionOver("the first message must be a subscribe")
        refusal = None
        operator = self._is_operators(message.operator)  # who needs no token
        if message.protocol != VIEW_PROTOCOL_VERSION:
            refusal = (
                f"this viewer speaks protocol {message.protocol}, the collector {VIEW_PROTOCOL_VERSION}; update both"
            )
        elif not operator and not token_matches(self._swarm.token, message.token):
            refusal = "wrong or missing token; ask the swarm's operator and give it with --token"
        if refusal is not None:
            await self._send(Notice(text=refusal, final=True))
            raise SessionOver(refusal)
        self._operator = operator
        return message

    # ------------------------------------------------------------ the two tasks

    async def _read(self) -> None:
        while (data := await self._wire.receive()) is not None:
            message = _decoded(data)
            if isinstance(message, KeyframeRequest):
                self._outbox.start_over()
            elif isinstance(message, Focus):
                await self._focus(message)
            elif isinstance(message, HistoryRequest):
                await self._answer(self._history(message))
            elif isinstance(message, ExportRequest):
                await self._answer(self._export(message))
            elif isinstance(message, RunReport):
                await self._answer(self._run(message))
            elif isinstance(message, RunningReport):
                await self._running(message)
            else:
                raise SessionOver("a second subscribe in one session")

    async def _write(self, feed: Feed) -> None:
        """Write answers and frames in turn, so that neither waits for the other."""
        while True:
            self._outbox.wake.clear()
            sent = False
            if not self._answers.empty():
                await self._wire.send(self._answers.get_nowait(), self._swarm.pulse.send_s)
                sent = True
            frame = self._outbox.take()
            if frame is None and self._outbox.take_keyframe():
                frame = await feed.keyframe()
            if frame is not None:
                await self._wire.send(frame, self._swarm.pulse.send_s)
                sent = True
            if not sent:
                await self._outbox.wake.wait()

    async def _wait_over(self) -> None:
        await asyncio.shield(self._over)

    async def _send(self, message: StreamMessage) -> None:
        await self._wire.send(encode(message), self._swarm.pulse.send_s)

    # ------------------------------------------------------------ requests

    async def _focus(self, focus: Focus) -> None:
        try:
            refusal = self._swarm.set_focus(focus, operator=self._operator)
        except FocusError as error:
            refusal = f"cannot measure that model: {error}"
        if refusal is not None:
            await self._queue(Notice(text=safe(refusal)))

    async def _answer(self, answering: Coroutine[Any, Any, None]) -> None:
        while len(self._asked) >= MAX_ASKED:  # a viewer slows down when it is not read
            await asyncio.wait(self._asked, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(answering)
        self._asked.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._asked.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an answer to viewer %d failed", self.number, exc_info=error)
            self.end(SessionOver("an internal error; the collector's log has it", WSCloseCode.INTERNAL_ERROR))

    async def _queue(self, message: StreamMessage) -> None:
        await self._answers.put(encode(message))
        self._outbox.wake.set()

    async def _history(self, request: HistoryRequest) -> None:
        reply = HistoryReply(request_id=request.request_id, at_ns=(), values=())
        store_client = self._swarm.store_client
        try:
            history = await store_client.reading(lambda: store_client.history(request))
            reply = HistoryReply(
                request_id=request.request_id,
                at_ns=history.at_ns,
                values=history.values,
                rolled_until_ns=history.rolled_until_ns,
            )
        except StoreError as error:
            await self._queue(Notice(text=safe(f"no history: {error}")))
        await self._queue(reply)

    async def _run(self, report: RunReport) -> None:
        refused = ""
        now_ns = self._swarm.clock.steady_ns()
        if self._run_ns is not None and now_ns - self._run_ns < RUN_EVERY_NS:
            refused = "more than one run a second; report less often"
        else:
            self._run_ns = now_ns
            try:
                await self._swarm.keep_run(report.run)
            except StoreError as error:
                refused = safe(str(error), limit=300)
        await self._queue(RunKept(request_id=report.request_id, refused=refused))

    async def _running(self, report: RunningReport) -> None:
        refused = "more than one placement a second; report it again"
        now_ns = self._swarm.clock.steady_ns()
        if self._running_ns is None or now_ns - self._running_ns >= RUN_EVERY_NS:
            self._running_ns = now_ns
            refused = self._swarm.set_running(report.running)
        await self._queue(RunKept(request_id=report.request_id, refused=refused))

    async def _export(self, request: ExportRequest) -> None:
        """Send an export in pieces. One that fails midway ends the session: it must not look complete."""
        store_client, rows = self._swarm.store_client, 0
        if request.kind in CSV_KINDS:
            pieces = store_client.csv(request.kind, request.since_ns, request.until_ns)
            try:
                while (piece := await store_client.reading(lambda: next(pieces, None))) is not None:
                    text, rows = piece
                    await self._queue(ExportChunk(request_id=request.request_id, text=text, done=False))
            except StoreError as error:
                self.end(SessionOver(f"the export failed: {error}", WSCloseCode.INTERNAL_ERROR))
                return
        else:
            await self._queue(Notice(text=safe(f"nothing of the kind {request.kind} to export")))
        await self._queue(ExportChunk(request_id=request.request_id, text="", done=True, rows_total=rows))


def _decoded(data: bytes) -> ViewerMessage:
    try:
        return decode_from_viewer(data)
    except DecodeError as error:
        raise SessionOver(f"invalid message ({safe(str(error), limit=80)})", WSCloseCode.INVALID_TEXT) from error
