"""Accept connections, and distinguish TLS from plain text by the first byte; plain text only where it is allowed.

One port for both: programs on the collector's own machine (its dashboard, its probe, curl, a proxy) use plain text over
loopback, everybody else TLS. A client that may not connect is told so in the protocol it uses. A collector without a
certificate accepts plain text only, also here, because asyncio's own server logs a traceback for each waiting
connection when it runs out of descriptors.

asyncio reads up to 256 KiB at once from every connection; members send a few hundred bytes at a time, so the limit is
lower here. `tls_transport` describes how much memory TLS takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from typing import Final

from swarm_collector.process import file_descriptors
from swarm_collector.transport import tls_transport
from swarm_collector.transport.connection_limits import Connection, ConnectionLimiter, Watched
from swarm_protocol.trust.loopback import is_loopback

PLAIN_BUFFER_BYTES: Final = 32 << 10  # the most that one read passes on
DRAINED_BYTES: Final = 64 << 10
ACCEPT_AT_ONCE: Final = 32  # before other tasks run
CUT_AT_ONCE: Final = 64  # half-open connections cut to make room while a listener is paused
RESUME_S: Final = 0.1  # how often a paused listener checks for free descriptors
_HANDSHAKE: Final = b"\x16"  # the first byte of a TLS record with a ClientHello (RFC 8446, 5.1)
_OUT_OF_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_WANTS_TLS: Final = (
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"\r\nthis collector takes only TLS from other machines: join with HOST:PORT, or https://\n"
)

_log = logging.getLogger("swarm_collector.server")


class TlsListener:
    def __init__(
        self,
        listening: socket.socket,
        connection_limiter: ConnectionLimiter,
        context: ssl.SSLContext | None,
        *,
        plain: bool,
    ) -> None:
        """Create a listener. `context`: None for plain text alone. `plain`: plain text from anywhere, else loopback
        only."""
        self.listening = listening
        self._connection_limiter = connection_limiter
        self._context = context
        self._plain = plain
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[socket.socket, asyncio.TimerHandle] = {}  # nothing received yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None  # paused

    def open(self) -> None:
        self._loop.add_reader(self.listening, self._accept)

    def close(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
        if self.listening.fileno() >= 0:
            self._loop.remove_reader(self.listening)
            self.listening.close()
        for connected in tuple(self._waiting):
            self._stop_waiting(connected)
            connected.close()
        for task in self._tasks:
            task.cancel()

    # ------------------------------------------------------------ descriptors

    @property
    def paused(self) -> bool:
        """Return whether connections are not accepted now because descriptors are short."""
        return self._resuming is not None

    def _pause(self, why: str) -> None:
        """Pause accepting: connections wait in the kernel's queue; the store and open connections go on."""
        _log.warning("no new connections are accepted: %s", why)
        self._loop.remove_reader(self.listening)
        self._resuming = self._loop.call_later(RESUME_S, self._resume)

    def _resume(self) -> None:
        try:
            number = os.dup(self.listening.fileno())
            os.close(number)
        except OSError:  # not even one
            number = file_descriptors.limit()
        if number >= _first_kept():
            for _ in range(CUT_AT_ONCE):
                if not self._connection_limiter.make_room(self._loop.time()):
                    break
            self._resuming = self._loop.call_later(RESUME_S, self._resume)
            return
        self._resuming = None
        _log.info("new connections are accepted again")
        self._loop.add_reader(self.listening, self._accept)

    # ------------------------------------------------------------ a connection's first moments

    def _accept(self) -> None:
        first_kept = _first_kept()
        for _ in range(ACCEPT_AT_ONCE):
            try:
                connected, peer = self.listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_ROOM:
                    raise
                self._pause(f"the system refuses one ({error.strerror})")
                return
            number = connected.fileno()
            if number >= first_kept:  # in the reserve
                connected.close()
            else:
                self._take(connected, str(peer[0]))
            if number >= first_kept - 1:
                kept = file_descriptors.limit() - first_kept
                self._pause(f"the last {kept} of {file_descriptors.limit()} file descriptors are kept for the store")
                return

    def _take(self, connected: socket.socket, address: str) -> None:
        connection = self._connection_limiter.accept(address, self._loop.time())
        if connection is None:
            connected.close()
            return
        connected.setblocking(False)
        if self._context is None:
            self._spawn(connected, connection, None)
            return
        self._waiting[connected] = self._loop.call_later(
            self._connection_limiter.limits.http_s, self._drop, connected, connection, "not a session in time"
        )
        connection.cut = lambda: self._drop(connected, connection)
        self._loop.add_reader(connected, self._look, connected, connection, address)

    def _look(self, connected: socket.socket, connection: Connection, address: str) -> None:
        try:
            first = connected.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if not first:
            self._drop(connected, connection)
            return
        self._stop_waiting(connected)
        if first == _HANDSHAKE:
            self._spawn(connected, connection, self._context)
        elif self._plain or is_loopback(address):
            self._spawn(connected, connection, None)
        else:
            self._connection_limiter.refused["plain text from another machine"] += 1
            with contextlib.suppress(OSError):  # the client is gone
                # closing with unread bytes would reset the connection together with the answer
                connected.recv(DRAINED_BYTES)
                connected.send(_WANTS_TLS)
            connected.close()
            self._connection_limiter.release(connection)

    def _spawn(self, connected: socket.socket, connection: Connection, context: ssl.SSLContext | None) -> None:
        task = self._loop.create_task(self._hand_over(connected, connection, context))
        connection.cut = lambda: (task.cancel(), None)[1]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(
        self, connected: socket.socket, connection: Connection, context: ssl.SSLContext | None
    ) -> None:
        watched = Watched(self._connection_limiter, connection)
        try:
            if context is not None:
                await tls_transport.accept(connected, context, watched, self._connection_limiter.limits.http_s)
            else:
                transport, _ = await self._loop.connect_accepted_socket(lambda: watched, connected)
                if hasattr(transport, "max_size"):
                    transport.max_size = PLAIN_BUFFER_BYTES
        except OSError:  # ssl.SSLError, ConnectionError and TimeoutError among them: the other end closed
            self._connection_limiter.refused["TLS not agreed"] += 1
            connected.close()
            self._connection_limiter.release(connection)
        except asyncio.CancelledError:
            connected.close()
            self._connection_limiter.release(connection)
            raise

    def _drop(self, connected: socket.socket, connection: Connection, why: str = "") -> None:
        if why:
            self._connection_limiter.refused[why] += 1
        self._stop_waiting(connected)
        connected.close()
        self._connection_limiter.release(connection)

    def _stop_waiting(self, connected: socket.socket) -> None:
        self._loop.remove_reader(connected)
        self._waiting.pop(connected).cancel()


def _first_kept() -> int:
    """Return the first descriptor of the reserve. Read each time: prlimit(1) may change a running process's limit."""
    limit = file_descriptors.limit()
    return limit - file_descriptors.reserve(limit)
