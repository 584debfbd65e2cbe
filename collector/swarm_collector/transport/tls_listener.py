"""Takes connections and sees from the first byte whether they are TLS; plain text only where it may come from.

One port for both: what runs on the collector's own machine (its dashboard, its probe, curl, a proxy) speaks plain
text over loopback, everybody else TLS. Somebody who may not is told so in the language they speak.

asyncio keeps a read buffer of 256 KiB for every TLS connection, 294 KiB in all (uvloop: 37); members send a few
hundred bytes at a time, so the buffer is made small here and a connection costs 54 KiB (18 in plain text), without
another event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from asyncio import sslproto
from collections import Counter
from typing import Final

from swarm_collector.transport.connection_limits import ConnectionLimiter
from swarm_protocol.trust.loopback import is_loopback

TLS_BUFFER_BYTES: Final = 16 << 10  # one TLS record
DRAINED_BYTES: Final = 64 << 10
ACCEPT_AT_ONCE: Final = 256
PAUSE_S: Final = 1.0  # after the system refused a connection: too many open files
_HANDSHAKE: Final = b"\x16"  # the first byte of a TLS record with a ClientHello (RFC 8446, 5.1)
_WANTS_TLS: Final = (
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"\r\nthis collector takes only TLS from other machines: join with HOST:PORT, or https://\n"
)

_log = logging.getLogger("swarm_collector.server")


class TlsListener:
    def __init__(
        self, listening: socket.socket, connection_limiter: ConnectionLimiter, context: ssl.SSLContext, *, plain: bool
    ) -> None:
        """`plain`: plain text from anywhere; else from this machine alone."""
        self._listening = listening
        self._connection_limiter = connection_limiter
        self._context = context
        self._plain = plain
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[socket.socket, asyncio.TimerHandle] = {}  # nothing has come of them yet
        self._addresses: Counter[str] = Counter()  # of those, and of handshakes
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        if hasattr(sslproto.SSLProtocol, "max_size"):
            sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for connected in tuple(self._waiting):
            self._drop(connected, "")
        for task in self._tasks:
            task.cancel()

    # ------------------------------------------------------------ a connection's first moments

    def _accept(self) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                connected, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            address = str(peer[0])
            if not self._connection_limiter.may_come(address, self._addresses[address]):
                connected.close()
                continue
            connected.setblocking(False)
            self._addresses[address] += 1
            self._waiting[connected] = self._loop.call_later(
                self._connection_limiter.limits.http_s, self._drop, connected, address, "not a session in time"
            )
            self._loop.add_reader(connected, self._look, connected, address)

    def _pause(self, error: OSError) -> None:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise error
        _log.error("no connection can be taken (%s); trying again in a second", error.strerror)
        self._loop.remove_reader(self._listening)
        self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _look(self, connected: socket.socket, address: str) -> None:
        try:
            first = connected.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if not first:
            self._drop(connected, address)
            return
        self._loop.remove_reader(connected)
        self._waiting.pop(connected).cancel()
        if first == _HANDSHAKE:
            self._spawn(connected, address, self._context)
        elif self._plain or is_loopback(address):
            self._spawn(connected, address, None)
        else:
            self._connection_limiter.refused["plain text from another machine"] += 1
            with contextlib.suppress(OSError):  # it has gone: there is nobody to tell
                connected.recv(DRAINED_BYTES)  # closing with bytes unread would reset the connection, answer and all
                connected.send(_WANTS_TLS)
            self._forget(connected, address)

    def _spawn(self, connected: socket.socket, address: str, context: ssl.SSLContext | None) -> None:
        task = self._loop.create_task(self._hand_over(connected, address, context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, connected: socket.socket, address: str, context: ssl.SSLContext | None) -> None:
        within_s = self._connection_limiter.limits.http_s if context is not None else None
        try:
            await self._loop.connect_accepted_socket(
                self._connection_limiter, connected, ssl=context, ssl_handshake_timeout=within_s
            )
        except (OSError, ssl.SSLError):  # ConnectionError and TimeoutError among them: the other end broke off
            self._connection_limiter.refused["TLS not agreed"] += 1
            connected.close()
        finally:
            self._uncount(address)

    def _drop(self, connected: socket.socket, address: str, why: str = "") -> None:
        if why:
            self._connection_limiter.refused[why] += 1
        self._loop.remove_reader(connected)
        self._waiting.pop(connected).cancel()
        self._forget(connected, address)

    def _forget(self, connected: socket.socket, address: str) -> None:
        connected.close()
        self._uncount(address)

    def _uncount(self, address: str) -> None:
        self._addresses[address] -= 1
        if self._addresses[address] <= 0:
            del self._addresses[address]
