"""One WebSocket after its handshake: messages in and out, and an end that is clean whoever ends it.

aiohttp answers the handshake and is then left: what it keeps of a request for as long as the connection lasts was
more than half of a session's memory (13 KB of 24). From there on the frames are read and written by `websockets`'
Protocol, which knows the rules (RFC 6455) and no sockets.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from aiohttp import WSCloseCode
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from swarm_collector.transport.keepalive import SessionOver
from swarm_protocol.text import safe

CLOSE_WITHIN_S: Final = 2.0  # a peer that does not answer a close is not waited for any longer
UNREAD_BYTES: Final = 256 << 10  # then its sender waits
MESSAGE_BYTES: Final = 64  # of memory beside its data: an empty one costs something too

_log = logging.getLogger("swarm_collector.transport.websocket")
_log.setLevel(logging.ERROR)  # what ends a session is told by the session


class WebSocketConnection:
    """What a transport calls, and what a session asks. `ping_s`: how often it is asked whether it is there; 0: never.

    `receive` raises SessionOver for what is no message, `send` and `drain` for a peer that takes nothing.
    """

    __slots__ = (
        "_closed", "_heard", "_messages", "_over", "_parts", "_pinger", "_protocol", "_reader", "_unread", "_writer",
        "ping_s", "transport",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, max_bytes: int, ping_s: float = 0.0) -> None:
        self.transport = transport
        self.ping_s = ping_s
        self._protocol = Protocol(SERVER, state=OPEN, max_size=max_bytes, logger=_log)
        self._messages: deque[bytes] = deque()
        self._unread = 0  # bytes in them
        self._parts: list[bytes] = []  # of a message that comes in several frames
        self._reader: asyncio.Future[None] | None = None  # who waits for a message
        self._writer: asyncio.Future[None] | None = None  # done when the transport takes more; None: it does
        self._closed: asyncio.Future[None] | None = None  # who waits for the end
        self._over: SessionOver | bool = False  # nothing more comes: why, or True for an orderly close
        self._heard = True  # anything since the last ping
        self._pinger: asyncio.TimerHandle | None = None
        if ping_s:
            self._pinger = asyncio.get_running_loop().call_later(ping_s, self._ping)

    # ------------------------------------------------------------ what a session asks

    async def receive(self, within_s: float | None = None) -> bytes | None:
        """The next message; None when the peer has closed."""
        if not self._messages and not self._over:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                if within_s is None:  # of every message: a timeout is a fifth of its price
                    await self._reader
                else:
                    async with asyncio.timeout(within_s):
                        await self._reader
            except TimeoutError:
                raise SessionOver(f"nothing came for {within_s:g} s") from None
            finally:
                self._reader = None
        if self._messages:
            message = self._messages.popleft()
            self._unread -= len(message) + MESSAGE_BYTES
            if not self._messages and not self._over:
                self.transport.resume_reading()
            return message
        if isinstance(self._over, SessionOver):
            raise self._over
        return None

    def post(self, data: bytes) -> None:
        """Into the connection's buffer. A wire that is closing takes nothing any more."""
        if self._protocol.state is OPEN and not self.transport.is_closing():
            self._protocol.send_binary(data)
            self._flush()

    async def send(self, data: bytes, within_s: float) -> None:
        """Raises SessionOver where the peer does not take it, or is gone."""
        if self.transport.is_closing():
            raise SessionOver("connection lost", WSCloseCode.ABNORMAL_CLOSURE)
        self.post(data)
        if self._writer is not None:
            try:
                async with asyncio.timeout(within_s):
                    await asyncio.shield(self._writer)
            except TimeoutError:
                raise SessionOver(f"took nothing for {within_s:g} s", WSCloseCode.TRY_AGAIN_LATER) from None

    async def close(self, over: SessionOver | None) -> None:
        """Says why, and lets go. A peer that takes nothing is not asked to take a farewell either."""
        if self._pinger is not None:
            self._pinger.cancel()
        if over is not None and over.code in (WSCloseCode.ABNORMAL_CLOSURE, WSCloseCode.TRY_AGAIN_LATER):
            self.transport.abort()
            return
        if self._protocol.state is OPEN and not self.transport.is_closing():
            code, reason = (WSCloseCode.OK, "") if over is None else (over.code, safe(str(over), limit=100))
            self._protocol.send_close(code, reason.encode()[:120].decode(errors="ignore"))
            self._flush()
        if self._closed is None:
            self._over = self._over or True  # what still comes is dropped: nobody reads it
            self._messages.clear()
            self._parts.clear()
            self.transport.resume_reading()  # the answer to the close is behind what nobody reads any more
            self._closed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._closed], timeout=CLOSE_WITHIN_S)
        self.transport.abort()

    # ------------------------------------------------------------ what its transport calls

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)  # of a connection that is open
            self._take(frame)
        self._flush()
        if self._protocol.parser_exc is not None:
            self._end(SessionOver(safe(str(self._protocol.parser_exc), limit=100), WSCloseCode.PROTOCOL_ERROR))
        if self._unread > UNREAD_BYTES and self._closed is None:
            self.transport.pause_reading()

    def eof_received(self) -> bool | None:
        self._protocol.receive_eof()
        self._flush()
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._pinger is not None:
            self._pinger.cancel()
        self._end(True)
        self.resume_writing()
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._writer = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writer is not None:
            self._writer.set_result(None)
            self._writer = None

    # ------------------------------------------------------------ small parts

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT:
            self._end(
                SessionOver("a text message; messages are MessagePack in binary frames", WSCloseCode.UNSUPPORTED_DATA)
            )
        elif frame.opcode is Opcode.CLOSE:
            self._end(True)
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT) and not self._over:
            self._parts.append(bytes(frame.data))
            frame.data = b""  # the parser holds its last frame until the next: 14 MB of ten thousand probes
            if frame.fin:
                message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts = []
                self._messages.append(message)
                self._unread += len(message) + MESSAGE_BYTES
                self._wake()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:  # a server closes first
                self.transport.close()

    def _end(self, over: SessionOver | bool) -> None:
        self._over = self._over or over
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _ping(self) -> None:
        """Half of the time for the answer: whatever comes is one."""
        if self._protocol.state is OPEN and not self.transport.is_closing():
            self._heard = False
            self._protocol.send_ping(b"")
            self._flush()
            self._pinger = asyncio.get_running_loop().call_later(self.ping_s / 2, self._answered)

    def _answered(self) -> None:
        if self._heard:
            self._pinger = asyncio.get_running_loop().call_later(self.ping_s / 2, self._ping)
            return
        self._end(SessionOver(f"no answer to a ping for {self.ping_s / 2:g} s", WSCloseCode.ABNORMAL_CLOSURE))
