"""Serve one WebSocket after its handshake: receive and send messages, and close cleanly from either side.

aiohttp answers the handshake and then gives up the connection: the request state that it keeps for the connection's
lifetime was more than half of a session's memory (13 KB of 24). From then on `websockets`' Protocol reads and writes
the frames; it implements RFC 6455 without sockets.

Frames of every kind are counted before they are parsed. If a peer sends too many, sends more than is read here, or does
not read its answers, its connection is not read until that changes, so that TCP slows it down.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp import WSCloseCode
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from swarm_collector.ingest.quotas import FRAME_BYTES, FrameQuota
from swarm_collector.transport.framing import FrameCutter, binary_frame, is_begun, whole_message
from swarm_collector.transport.keepalive import KeepaliveTimes, SessionOver
from swarm_protocol.text import safe

CLOSE_WITHIN_S: Final = 2.0  # then the connection is cut
UNREAD_BYTES: Final = 256 << 10  # then its sender waits
MESSAGE_BYTES: Final = 64  # of memory in addition to its data: empty messages cost something too
AWAITED_BYTES: Final = 16 << 10  # of a message whose rest is awaited here, and not by the parser; a batch has 4 KB
FRAMES_AT_ONCE: Final = 16.0  # parsed between two checks of the quota
HELD_S: Final = 0.25  # at least, once over the rate: what comes meanwhile is read with one wake-up
FIRST_MESSAGE_BYTES: Final = 64 << 10  # before a session is admitted; a hello has a few hundred

Take = Callable[[bytes], float | None]  # a message → seconds until the next one is taken; None: no more

_log = logging.getLogger("swarm_collector.transport.websocket")
_log.setLevel(logging.ERROR)  # the session reports why it ended


class WebSocketConnection:
    """The transport's protocol and the session's interface. `ping_s`: interval of pings; 0: never.

    `receive` and `each` raise SessionOver for invalid messages, `send` for a peer that reads nothing.
    """

    __slots__ = (
        "_closed", "_cutter", "_full", "_heard", "_max_bytes", "_messages", "_most_bytes", "_on_admitted", "_over",
        "_parts", "_pending", "_pinger", "_protocol", "_quota", "_reader", "_reading", "_resting", "_send_s",
        "_stuck", "_taker", "_unread", "_waiting", "_writer", "ping_s", "transport",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        max_bytes: int,
        ping_s: float = 0.0,
        *,
        quota: FrameQuota | None = None,
        send_s: float = KeepaliveTimes().send_s,
        on_admitted: Callable[[], None] | None = None,
    ) -> None:
        self.transport = transport
        self.ping_s = ping_s
        self._max_bytes = max_bytes
        self._quota = quota or FrameQuota()
        self._send_s = send_s
        self._on_admitted = on_admitted
        self._most_bytes = min(max_bytes, FIRST_MESSAGE_BYTES)  # of a message
        self._protocol: Protocol | None = None  # made for the first frame that needs it: it takes 1.3 KB
        self._cutter = FrameCutter()
        self._pending = b""  # not parsed yet: part of a header, or what has to wait
        self._waiting: asyncio.TimerHandle | None = None  # until its frames are within the rate again
        self._reading = True  # the transport hands on what comes
        self._messages: list[bytes] = []  # an empty deque takes 600 bytes, and nearly all are empty
        self._unread = 0  # bytes in them
        self._full = False  # more came than was read; until all is read
        self._parts: bytearray | None = None  # of a message that comes in several frames
        self._reader: asyncio.Future[None] | None = None  # who waits for a message, or for the end of them
        self._taker: Take | None = None  # gets each message as it comes
        self._resting: asyncio.TimerHandle | None = None  # until it takes the next one
        self._writer: asyncio.Future[None] | None = None  # done when the transport takes more; None: it does
        self._stuck: asyncio.TimerHandle | None = None  # until a peer that reads nothing is disconnected
        self._closed: asyncio.Future[None] | None = None  # who waits for the end
        self._over: SessionOver | bool = False  # nothing more comes: why, or True for an orderly close
        self._heard = True  # whether anything came since the last ping
        self._pinger: asyncio.TimerHandle | None = None
        if ping_s:
            self._pinger = asyncio.get_running_loop().call_later(ping_s, self._ping)

    # ------------------------------------------------------------ the session's interface

    async def receive(self, within_s: float | None = None) -> bytes | None:
        """Return the next message; None when the peer has closed."""
        if not self._messages and not self._over:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                if within_s is None:  # for every message: a timeout would cost a fifth of handling one
                    await self._reader
                else:
                    async with asyncio.timeout(within_s):
                        await self._reader
            except TimeoutError:
                raise SessionOver(f"nothing received for {within_s:g} s") from None
            finally:
                self._reader = None
        if self._messages:
            return self._next()
        if isinstance(self._over, SessionOver):
            raise self._over
        return None

    async def each(self, take: Take) -> None:
        """Pass every message to `take` as it comes, until the peer has closed or `take` wants no more. Raises what it
        raises. Nobody is woken up for a message: with ten thousand connections that cost as much as handling it."""
        self._reader = asyncio.get_running_loop().create_future()
        self._taker = take
        try:
            self._hand_on()
            await self._reader
        finally:
            self._reader = self._taker = None
            if self._resting is not None:
                self._resting.cancel()
        if isinstance(self._over, SessionOver):
            raise self._over

    def _next(self) -> bytes:
        message = self._messages.pop(0)
        self._unread -= len(message) + MESSAGE_BYTES
        if not self._messages and (self._full or not self._reading):
            self._full = False
            self._parse()
        return message

    def _hand_on(self) -> None:
        """Pass on the messages that have come, until `take` needs time; end when there will be no more."""
        self._resting = None
        while self._messages and self._taker is not None and self._resting is None:
            self._pass_on(self._next())
        if self._over and not self._messages:
            self._wake()

    def _pass_on(self, message: bytes) -> None:
        assert self._taker is not None
        try:
            wait_s = self._taker(message)
        except Exception as error:  # noqa: BLE001 - `each` raises it
            self._taker = None
            if self._reader is not None and not self._reader.done():
                self._reader.set_exception(error)
            return
        if wait_s is None:
            self._taker = None
            self._wake()
        elif wait_s:
            self._resting = asyncio.get_running_loop().call_later(wait_s, self._hand_on)

    def admitted(self) -> None:
        """Grant the size and rate of messages that a member or viewer has."""
        self._most_bytes = self._max_bytes
        if self._protocol is not None:
            self._protocol.max_message_size = self._max_bytes
        self._quota.admitted()
        if self._on_admitted is not None:
            self._on_admitted()
            self._on_admitted = None

    def post(self, data: bytes) -> None:
        """Write into the connection's buffer. A closing connection drops it."""
        if self._is_open and not self.transport.is_closing():
            self.transport.write(binary_frame(data))

    async def send(self, data: bytes, within_s: float) -> None:
        """Send a message. Raises SessionOver where the peer does not read it, or is gone."""
        if self.transport.is_closing():
            raise SessionOver("connection lost", WSCloseCode.ABNORMAL_CLOSURE)
        self.post(data)
        if self._writer is not None:
            try:
                async with asyncio.timeout(within_s):
                    await asyncio.shield(self._writer)
            except TimeoutError:
                raise SessionOver(f"read nothing for {within_s:g} s", WSCloseCode.TRY_AGAIN_LATER) from None

    async def close(self, over: SessionOver | None) -> None:
        """Send the reason and close. A peer that reads nothing gets no close frame either."""
        if self._pinger is not None:
            self._pinger.cancel()
        if over is not None and over.code in (WSCloseCode.ABNORMAL_CLOSURE, WSCloseCode.TRY_AGAIN_LATER):
            self.transport.abort()
            return
        if self._is_open and not self.transport.is_closing():
            code, reason = (WSCloseCode.OK, "") if over is None else (over.code, safe(str(over), limit=100))
            self._parser().send_close(code, reason.encode()[:120].decode(errors="ignore"))
            self._flush()
        if self._closed is None:
            self._over = self._over or True  # what still comes is dropped: nobody reads it
            self._messages.clear()
            self._parts = None
            self._full = False
            self._closed = asyncio.get_running_loop().create_future()
            self._parse()  # the answer to the close is behind unread messages
            await asyncio.wait([self._closed], timeout=CLOSE_WITHIN_S)
        self.transport.abort()

    # ------------------------------------------------------------ asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._pending = self._pending + data if self._pending else data
        self._parse()

    def eof_received(self) -> bool | None:
        self._parser().receive_eof()
        self._flush()
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._pinger, self._waiting, self._stuck):
            if timer is not None:
                timer.cancel()
        self._pending = b""
        self._end(True)
        self.resume_writing()
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        loop = asyncio.get_running_loop()
        self._writer = loop.create_future()
        self._stuck = loop.call_later(self._send_s, self._not_taken)

    def resume_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        if self._writer is not None:
            self._writer.set_result(None)
            self._writer = None
            self._parse()

    # ------------------------------------------------------------ reading within the quota

    def _parse(self) -> None:
        """Parse what has come, a few frames at a time, and read on unless there is a reason to wait."""
        while self._pending and not self._held():
            if self.transport.is_closing():
                self._pending = b""
                break
            cost = self._take_whole()
            if cost is None:
                break
            if not cost:
                end, cost = self._cutter.cut(self._pending, FRAMES_AT_ONCE)
                if not end:  # an incomplete header
                    break
                data, self._pending = self._pending[:end], self._pending[end:]
                self._feed(data)
            if cost and (wait_s := self._quota.wait_s(cost, time.monotonic_ns())):
                self._waiting = asyncio.get_running_loop().call_later(max(wait_s, HELD_S), self._go_on)
        if self._reading is self._held():
            self._reading = not self._reading
            if self._reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _held(self) -> bool:
        return self._full or self._waiting is not None or self._writer is not None

    def _go_on(self) -> None:
        self._waiting = None
        self._parse()

    def _take_whole(self) -> float | None:
        """Take a message in one frame, past the parser, which needs three times as long for it; return what the frame
        costs. 0: the next frame is another; None: it has not come whole yet."""
        if self._over or self._parts is not None or not self._cutter.between_frames or not self._is_open:
            return 0.0
        whole = whole_message(self._pending, self._most_bytes)
        if whole is None:
            return None if is_begun(self._pending, min(self._most_bytes, AWAITED_BYTES)) else 0.0
        message, end = whole
        self._pending = self._pending[end:]
        self._message(message)
        self._limit_unread()
        return 1.0 + len(message) // FRAME_BYTES

    def _feed(self, data: bytes) -> None:
        protocol = self._parser()
        protocol.receive_data(data)
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)  # of an open connection
            self._take(frame)
        self._flush()
        if protocol.parser_exc is not None:
            self._end(SessionOver(safe(str(protocol.parser_exc), limit=100), WSCloseCode.PROTOCOL_ERROR))
        self._limit_unread()

    def _limit_unread(self) -> None:
        if self._unread > UNREAD_BYTES and self._closed is None:
            self._full = True

    def _not_taken(self) -> None:
        self._end(SessionOver(f"read nothing for {self._send_s:g} s", WSCloseCode.TRY_AGAIN_LATER))

    # ------------------------------------------------------------ small parts

    @property
    def _is_open(self) -> bool:
        return self._protocol is None or self._protocol.state is OPEN

    def _parser(self) -> Protocol:
        if self._protocol is None:
            self._protocol = Protocol(SERVER, state=OPEN, max_size=self._most_bytes, logger=_log)
        return self._protocol

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT:
            self._end(
                SessionOver("a text message; messages are MessagePack in binary frames", WSCloseCode.UNSUPPORTED_DATA)
            )
        elif frame.opcode is Opcode.CLOSE:
            self._end(True)
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT) and not self._over:
            data, frame.data = frame.data, b""  # the parser keeps its last frame: 14 MB with ten thousand probes
            if self._parts is None and frame.fin:
                self._message(bytes(data))
                return
            if self._parts is None:
                self._parts = bytearray()
            self._parts += data
            if frame.fin:
                message, self._parts = bytes(self._parts), None
                self._message(message)

    def _message(self, message: bytes) -> None:
        if self._taker is not None and self._resting is None and not self._messages:
            self._pass_on(message)
            return
        self._messages.append(message)
        self._unread += len(message) + MESSAGE_BYTES
        if self._taker is None:
            self._wake()

    def _flush(self) -> None:
        writes = self._parser().data_to_send()
        if not writes:
            return
        ends = not writes[-1]  # a server closes first
        if not self.transport.is_closing():  # asyncio logs each write to a closed connection
            # one write: a send(2) for each pong costs more than the pong
            data = writes[0] if len(writes) == 1 else b"".join(writes)
            if data:
                self.transport.write(data)
        if ends:
            self.transport.close()

    def _end(self, over: SessionOver | bool) -> None:
        self._over = self._over or over
        if self._taker is None or not self._messages:
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _ping(self) -> None:
        """Ping a peer that has been silent for half of the interval, and wait as long for an answer. Anything received
        counts as one, so that nothing is asked of a peer that sends by itself."""
        if not self._is_open or self.transport.is_closing():
            return
        then = self._ping if self._heard else self._answered
        if not self._heard:
            self._parser().send_ping(b"")
            self._flush()
        self._heard = False
        self._pinger = asyncio.get_running_loop().call_later(self.ping_s / 2, then)

    def _answered(self) -> None:
        if self._heard or not self._reading:
            self._ping()
            return
        self._end(SessionOver(f"no answer to a ping for {self.ping_s / 2:g} s", WSCloseCode.ABNORMAL_CLOSURE))
