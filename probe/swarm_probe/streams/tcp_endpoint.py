"""Serve the one TCP port for hops and transfers: who may use it, for what, and for how long.

Every connection begins with a preamble in which both ends prove, over fresh nonces, that they hold the pair's key. The
calling side speaks first and is signed from the first byte: a port scanner gets a closed connection, not a byte.
Nothing here is secret and nothing after the preamble is signed; it carries random bytes and their count.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hmac
import logging
import secrets
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from swarm_probe.sockets import ANY_WAY, SO_TIMESTAMPNS, Leave, Target, bind_all, kernel_stamp_ns, why
from swarm_probe.streams.channel import Busy, Channel, NoAnswer, NotMember, PeerError, Unreachable, read_exactly
from swarm_protocol.supervisor import Supervisor
from swarm_protocol.units import NS_PER_S

PREAMBLE_S: Final = 5.0  # for all of it: a slow path needs three round trips, a slow-loris gets no more
DIAL_S: Final = 5.0  # a lost SYN is sent again after one second and after three
MAX_STRANGERS: Final = 16  # connections that have not proven anything yet
MAX_PER_PEER: Final = 4  # one of each kind, and the ones just closing
ACCEPT_PAUSE_S: Final = 1.0  # after the system refused us a connection (too many open files)

STAMP_AGE_NS: Final = 1 * NS_PER_S  # no program of ours is delayed longer: the clock was set
_ANCILLARY_BYTES: Final = 64  # one time stamp

_MAGIC: Final = b"SwTP"
_VERSION: Final = 2  # 2: reports of a transfer include trains
_MAC_BYTES: Final = 16
_HELLO: Final = struct.Struct("!4sBBH16s")  # magic, version, purpose, SSID, nonce
_REPLY: Final = struct.Struct("!16sB")  # nonce, status
_NO_LINGER: Final = struct.pack("@ii", 1, 0)  # close(2) resets the connection: socket(7)
_GO: Final = struct.Struct("!I")  # size: of each message of a hop, of the whole transfer

log = logging.getLogger(__name__)


class Purpose(enum.IntEnum):
    HOP = 1
    UPLINK = 2
    TRAINS = 3  # orders and reports of trains; a transfer may follow. Only of members that announce support


class _Status(enum.IntEnum):
    OK = 0
    BUSY = 1  # or paused: no bytes left today, other traffic, on battery


class Caller(msgspec.Struct, frozen=True):
    """A member that may call, and the key it must hold."""

    peer: str
    ssid: int  # the one it sends with
    key: bytes


class Stream:
    """A connected TCP socket that counts its bytes. Errors of the connection are Unreachable."""

    def __init__(self, connected: socket.socket, counts: Counter[str]) -> None:
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:  # reset before we handled it
            raise Unreachable(f"the connection broke at once ({why(error)})") from error
        self.socket = connected
        self.sent_bytes = 0
        self.received_bytes = 0
        self._counts = counts
        self._loop = asyncio.get_running_loop()

    @property
    def kernel(self) -> socket.socket:
        return self.socket

    async def write(self, data: bytes | memoryview) -> None:
        try:
            await self._loop.sock_sendall(self.socket, data)
        except OSError as error:
            raise Unreachable(f"the connection broke while sending ({why(error)})") from error
        self._counts["tcp_bytes_sent"] += len(data)
        self.sent_bytes += len(data)

    async def read_into(self, buffer: memoryview) -> int:
        """Return the number of bytes read, 0 at the end of the stream."""
        try:
            got = await self._loop.sock_recv_into(self.socket, buffer)
        except OSError as error:
            raise Unreachable(f"the connection broke while receiving ({why(error)})") from error
        self._counts["tcp_bytes_received"] += got
        self.received_bytes += got
        return got

    def stamp_arrivals(self) -> None:
        """Make `read_stamped` return arrival times, if the kernel reports them (Linux)."""
        if sys.platform == "linux":
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    async def read_stamped(self, buffer: memoryview) -> tuple[int, int]:
        """Return bytes read (0 at the end of the stream), and how long ago the last of them arrived at this machine, in
        ns.

        The time that this program takes to run is no property of the path: 0.1 to 0.3 ms on an idle machine. 0 where
        the kernel does not report it.
        """
        while True:
            try:
                got, ancillary, _, _ = self.socket.recvmsg_into([buffer], _ANCILLARY_BYTES)
                break
            except BlockingIOError:
                await self._readable()
            except OSError as error:
                raise Unreachable(f"the connection broke while receiving ({why(error)})") from error
        self._counts["tcp_bytes_received"] += got
        self.received_bytes += got
        now_ns = time.time_ns()
        stamps = (kernel_stamp_ns(*message) for message in ancillary)
        waited_ns = now_ns - next((stamp for stamp in stamps if stamp is not None), now_ns)
        # a clock that was set in between makes the difference meaningless
        return got, waited_ns if 0 <= waited_ns < STAMP_AGE_NS else 0

    async def _readable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        handle = self.socket.fileno()
        self._loop.add_reader(handle, _resolve, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(handle)

    def finish_writing(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Unreachable(f"the connection broke ({why(error)})") from error

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        with contextlib.suppress(OSError):  # it is broken already
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


# ---------------------------------------------------------------- the preamble


def _mac(key: bytes, label: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, label + b"".join(parts), "sha256")[:_MAC_BYTES]


def _require(key: bytes, label: bytes, parts: tuple[bytes, ...], mac: bytes) -> None:
    if not hmac.compare_digest(_mac(key, label, *parts), mac):
        raise NotMember("the other end signs with another key; the next plan brings the right one")


async def dial(
    to: Target,
    caller: Caller,
    purpose: Purpose,
    size: int,
    counts: Counter[str],
    within_s: float = DIAL_S,
    leave: Leave = ANY_WAY,
) -> Stream:
    """Connect and prove both ends. Raises PeerError. `caller` is this probe, as the other end knows it."""
    made = socket.socket(to.family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        leave.prepare(made)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().sock_connect(made, to.sockaddr)
        except OSError as error:  # TimeoutError is one
            where = f"{to.sockaddr[0]} TCP port {to.sockaddr[1]}"
            raise NoAnswer(f"cannot reach {where} ({why(error)})") from error
        stream = Stream(made, counts)
        async with asyncio.timeout(PREAMBLE_S):
            await introduce(stream, caller, purpose, size)
    except OSError as error:  # TimeoutError is one
        made.close()
        raise Unreachable(f"cannot reach {to.sockaddr[0]} TCP port {to.sockaddr[1]} ({why(error)})") from error
    except BaseException:
        made.close()
        raise
    return stream


async def introduce(stream: Channel, caller: Caller, purpose: Purpose, size: int) -> None:
    hello = _HELLO.pack(_MAGIC, _VERSION, purpose, caller.ssid, secrets.token_bytes(16))
    await stream.write(hello + _mac(caller.key, b"hello", hello))
    answer = await read_exactly(stream, _REPLY.size + _MAC_BYTES)
    reply = answer[: _REPLY.size]
    _require(caller.key, b"reply", (hello, reply), answer[_REPLY.size :])
    if _REPLY.unpack(reply)[1] != _Status.OK:
        raise Busy("the peer is paused or runs another test; trying again later")
    go = _GO.pack(size)
    await stream.write(go + _mac(caller.key, b"go", hello, reply, go))


Serve = Callable[[Channel, str, int], Awaitable[None]]  # stream, peer, size


class Service(msgspec.Struct, frozen=True):
    """How calls for one purpose are served."""

    serve: Serve
    max_size: int
    busy: Callable[[], bool]


class TcpPeer:
    def __init__(self, services: Mapping[Purpose, Service], counts: Counter[str]) -> None:
        self._services = services
        self._counts = counts
        self._callers: dict[int, tuple[Caller, ...]] = {}
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers = 0
        self._served: Counter[str] = Counter()
        self.supervisor = Supervisor(log)
        self.port = 0

    def open(self, bind_host: str, port: int, interface: str = "") -> None:
        """Open the port. Raises OSError if that fails."""
        self._sockets = bind_all(socket.SOCK_STREAM, bind_host, port, interface)
        for listening in self._sockets:
            listening.listen(MAX_STRANGERS)
            name = f"taking TCP connections ({socket.AddressFamily(listening.family).name})"
            self.supervisor.task(name, partial(self._accept, listening))
        self.port = self._sockets[0].getsockname()[1]

    def announce(self, callers: list[Caller]) -> None:
        """Allow these members to call from now on, and no others."""
        self._callers = {}
        for caller in callers:
            self._callers[caller.ssid] = (*self._callers.get(caller.ssid, ()), caller)

    async def close(self) -> None:
        await self.supervisor.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        self._sockets = []

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a TCP connection ended with an internal error", exc_info=error)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, _ = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("cannot accept a TCP connection (%s); trying again shortly", why(error))
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            if self._strangers >= MAX_STRANGERS:
                self._counts["tcp_refused_full"] += 1
                connected.close()
                continue
            self._strangers += 1
            self._spawn(self._converse(connected))

    async def _converse(self, connected: socket.socket) -> None:
        try:
            stream = Stream(connected, self._counts)
        except Unreachable:
            self._counts["tcp_refused_unreachable"] += 1
            self._strangers -= 1
            connected.close()
            return
        try:
            await self._converse_over(stream)
        finally:
            connected.close()

    async def converse(self, stream: Channel) -> None:
        """Serve a stream that a member opened by other means than TCP; the caller closes it."""
        self._strangers += 1
        await self._converse_over(stream)

    async def _converse_over(self, stream: Channel) -> None:
        try:
            async with asyncio.timeout(PREAMBLE_S):
                caller, service, size = await self._admit(stream)
        except TimeoutError:
            self._counts["tcp_refused_slow"] += 1
            return
        except PeerError as error:
            self._counts[f"tcp_refused_{type(error).__name__.lower()}"] += 1
            return
        finally:
            self._strangers -= 1
        self._counts["tcp_connections_served"] += 1
        self._served[caller.peer] += 1
        try:
            await service.serve(stream, caller.peer, size)
        except (PeerError, TimeoutError):
            self._counts["tcp_connections_broken"] += 1
        finally:
            self._served[caller.peer] -= 1

    async def _admit(self, stream: Channel) -> tuple[Caller, Service, int]:
        opening = await read_exactly(stream, _HELLO.size + _MAC_BYTES)
        hello, mac = opening[: _HELLO.size], opening[_HELLO.size :]
        magic, version, purpose, ssid, _ = _HELLO.unpack(hello)
        if magic != _MAGIC or version != _VERSION:
            raise NotMember("invalid preamble")
        caller = next(
            (c for c in self._callers.get(ssid, ()) if hmac.compare_digest(_mac(c.key, b"hello", hello), mac)), None
        )
        if caller is None:
            raise NotMember("signed by no member")
        try:
            service = self._services[Purpose(purpose)]
        except (KeyError, ValueError):
            raise NotMember(f"purpose {purpose} is unknown here") from None
        busy = service.busy() or self._served[caller.peer] >= MAX_PER_PEER
        reply = _REPLY.pack(secrets.token_bytes(16), _Status.BUSY if busy else _Status.OK)
        await stream.write(reply + _mac(caller.key, b"reply", hello, reply))
        if busy:
            raise Busy("the caller has to try again later")
        closing = await read_exactly(stream, _GO.size + _MAC_BYTES)
        go = closing[: _GO.size]
        _require(caller.key, b"go", (hello, reply, go), closing[_GO.size :])
        (size,) = _GO.unpack(go)
        if not 1 <= size <= service.max_size:
            raise NotMember(f"a size of {size}; 1 to {service.max_size} are taken")
        return caller, service, size
