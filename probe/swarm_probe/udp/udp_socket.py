"""Send and receive datagrams on the probe's UDP port, with the moment the kernel saw each of them.

A raw socket with `add_reader` and `recvmsg`, because asyncio's DatagramProtocol hides ancillary data. On Linux arrivals
are stamped by the kernel (SO_TIMESTAMPNS), and departures on request through the socket's error queue, which is drained
at once so that it never keeps the event loop awake. Elsewhere the time is taken in user space, and marked so. What a
datagram means is up to `stamp_sender` and `stamp_reflector`.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from swarm_probe.clocks import Clocks
from swarm_probe.owner_limits.egress_policy import EgressPolicy
from swarm_probe.sockets import SO_TIMESTAMPNS, Target, bind_all, kernel_stamp_ns
from swarm_protocol.units import NS_PER_S

MAX_DATAGRAM_BYTES: Final = 2048  # more than any STAMP packet; longer ones are cut and then refused by their length
MAX_DEPARTING: Final = 64  # departures whose stamp has not come yet
RECEIVE_BUFFER_BYTES: Final = 1 << 20  # the system may allow less; a train comes faster than this process is scheduled
READ_AT_ONCE: Final = 64  # datagrams, before others of this program have a turn
STAMP_AGE_NS: Final = 60 * NS_PER_S  # an arrival's stamp older than this (or of the future): the clock was set

_LINUX: Final = sys.platform == "linux"
# <linux/in.h>, <asm-generic/socket.h>, <linux/net_tstamp.h>, <linux/errqueue.h>: Python 3.11 names none of these
_IP_PKTINFO: Final = 8
_IP_RECVTTL: Final = 12
_IP_TTL: Final = 2
_SO_TIMESTAMPING: Final = 37
_TX_SOFTWARE: Final = 1 << 1
_SOFTWARE: Final = 1 << 4
_OPT_ID: Final = 1 << 7
_OPT_TSONLY: Final = 1 << 11
_EE_ORIGIN_TIMESTAMPING: Final = 4
_ERR_LEVELS: Final = ((socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25))  # IP_RECVERR, IPV6_RECVERR
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("@9I")  # SK_MEMINFO_VARS of <linux/sock_diag.h>; the last is the datagrams dropped
_TIMESPEC: Final = struct.Struct("@ll")
_INT: Final = struct.Struct("@i")
_FLAGS: Final = struct.Struct("@I")
_EXTENDED_ERR: Final = struct.Struct("@IBBBBII")
_ANCILLARY_BYTES: Final = 256  # stamps of two kinds (16 and 48 bytes), address, TTL, each with its header

Cmsg = tuple[int, int, bytes]
_STAMP_DEPARTURE: Final[Cmsg] = (socket.SOL_SOCKET, _SO_TIMESTAMPING, _FLAGS.pack(_TX_SOFTWARE))
_NO_CMSGS: Final[tuple[Cmsg, ...]] = ()


class Arrival(msgspec.Struct, frozen=True):
    data: bytes
    source: Target
    wall_ns: int
    kernel: bool  # stamped by the kernel; else after this process woke up
    ttl: int  # or hop limit; 0 if the platform does not tell
    reply_with: tuple[Cmsg, ...]  # makes an answer leave from the queried address
    interface: int = 0  # the kernel's number of the one it came by; 0: unknown


class _Bound:
    """The socket of one address family, and the departures whose stamp has not come yet."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.family = socket.AddressFamily(made.family)
        self.fd = made.fileno()  # the event loop looks a socket object up by formatting it, with two system calls
        self.departing: dict[int, int] | None = None  # kernel's key → token; None: the kernel stamps no departures
        self.key = 0  # of the next departure


class UdpPort:
    def __init__(
        self,
        receive: Callable[[Arrival], None],
        departed: Callable[[int, int], None],
        counts: Counter[str],
        clocks: Clocks,
    ) -> None:
        """Create it. `departed(token, wall_ns)` reports when the kernel sent the datagram with `token`."""
        self._receive = receive
        self._departed = departed
        self.allowed: EgressPolicy | None = None  # None: anywhere (tests of this file)
        self._counts = counts
        self._clocks = clocks
        self._bound: dict[socket.AddressFamily, _Bound] = {}
        self.port = 0
        self.kernel_stamps = False
        self.many_expected = False  # datagrams come in trains
        self.read_all: Callable[[], None] = lambda: None  # called when a wake-up for datagrams has handed them on
        self.backlog = False  # more had come than was read at once
        self._listening = False

    def open(self, bind_host: str, port: int, interface: str = "") -> None:
        """Open the port. Raises OSError if no UDP socket can be opened."""
        for made in bind_all(socket.SOCK_DGRAM, bind_host, port, interface):
            bound = _Bound(made)
            self._bound[bound.family] = bound
            self.port = made.getsockname()[1]
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            self.kernel_stamps = _ask_for_ancillary(made)
            _arm_departures(bound)
        self.listen(True)

    def close(self) -> None:
        self.listen(False)
        for bound in self._bound.values():
            bound.socket.close()
        self._bound.clear()

    def listen(self, listening: bool) -> None:
        """Wake up for datagrams, or not: then they wait for `read`, in the system's buffer."""
        if listening == self._listening:
            return
        self._listening = listening
        loop = asyncio.get_running_loop()
        for bound in self._bound.values():
            if listening:
                loop.add_reader(bound.fd, self._readable, bound)
            else:
                loop.remove_reader(bound.fd)

    def read(self) -> None:
        """Hand on what has arrived."""
        self.backlog = False
        for bound in tuple(self._bound.values()):
            self.backlog |= self._read(bound, woken=False)

    def has(self, family: socket.AddressFamily) -> bool:
        return family in self._bound

    def send(
        self, data: bytes, to: Target, *, token: int | None = None, ancillary: tuple[Cmsg, ...] = ()
    ) -> OSError | None:
        """Send now or not at all; return the error if not. With a `token`, `departed` will report when (Linux)."""
        bound = self._bound.get(to.family)
        if bound is None:
            return OSError(f"no {to.family.name} socket")
        if self.allowed is not None and not self.allowed.permits(to):  # the last check, which no caller can bypass
            self._counts["udp_not_allowed"] += 1
            return OSError(errno.EADDRNOTAVAIL, "no address that this probe sends to")
        departing = bound.departing if token is not None else None
        if departing is not None:
            if len(departing) >= MAX_DEPARTING:  # this network driver gives none
                departing.clear()
            ancillary = (*ancillary, _STAMP_DEPARTURE)
        try:
            bound.socket.sendmsg((data,), ancillary, 0, to.sockaddr)
        except OSError as error:
            if departing is not None:  # the kernel may have counted it or not: restart the count
                _arm_departures(bound)
            return error
        self._counts["udp_packets_sent"] += 1
        self._counts["udp_bytes_sent"] += len(data)
        if departing is not None and token is not None:
            departing[bound.key] = token
            bound.key = (bound.key + 1) % (1 << 32)
            self._drain_errors(bound)  # most drivers take it from the sending call itself
        return None

    def send_many(self, packets: Sequence[bytes], to: Target) -> int:
        """Send what the system takes of these at once; return how many. Raises OSError where it refuses the first."""
        bound = self._bound.get(to.family)
        if bound is None:
            raise OSError(errno.EAFNOSUPPORT, f"no {to.family.name} socket")
        if self.allowed is not None and not self.allowed.permits(to):
            self._counts["udp_not_allowed"] += 1
            raise OSError(errno.EADDRNOTAVAIL, "no address that this probe sends to")
        sent = 0
        for data in packets:
            try:
                bound.socket.sendto(data, to.sockaddr)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS or sent:  # the interface's queue is full; another error comes again
                    break
                raise
            sent += 1
            self._counts["udp_bytes_sent"] += len(data)
        self._counts["udp_packets_sent"] += sent
        return sent

    @property
    def dropped(self) -> int:
        """Return how many datagrams were dropped for a full buffer since the port was opened; 0 if the system does not
        report it."""
        if not _LINUX:
            return 0
        infos = [b.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size) for b in self._bound.values()]
        return sum(_MEMINFO.unpack(info)[-1] for info in infos if len(info) == _MEMINFO.size)

    def _readable(self, bound: _Bound) -> None:
        self.backlog = self._read(bound, woken=True)
        self.read_all()

    def _read(self, bound: _Bound, *, woken: bool) -> bool:
        """Hand on what has arrived; return whether there may be more. `woken`: by this socket."""
        if bound.departing:  # before the replies, which need to know when their requests left
            self._drain_errors(bound)
        for number in range(READ_AT_ONCE):  # epoll calls again while there is more
            try:
                data, ancillary, _, sockaddr = bound.socket.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                if woken and not number:  # what made the socket readable is in its error queue, until it is read
                    self._drain_errors(bound)
                return False
            except OSError as error:  # an ICMP error of an earlier datagram; the socket itself is fine
                self._counts[f"udp_error_{error.errno}"] += 1
                return True
            self._counts["udp_packets_received"] += 1
            self._counts["udp_bytes_received"] += len(data)
            self._receive(self._arrival(bound.family, data, ancillary, sockaddr))
        return True

    def _arrival(self, family: socket.AddressFamily, data: bytes, ancillary: list[Cmsg], sockaddr: Any) -> Arrival:
        now_ns = self._clocks.wall_ns()
        at_ns, kernel, ttl, reply_with, interface = now_ns, False, 0, _NO_CMSGS, 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET:
                stamped_ns = kernel_stamp_ns(level, kind, value)
                if stamped_ns is not None and 0 <= now_ns - stamped_ns <= STAMP_AGE_NS:
                    at_ns, kernel = stamped_ns, True
            elif (level, kind) in _TTL_KINDS:
                if len(value) >= _INT.size:
                    (ttl,) = _INT.unpack_from(value)
            elif (found := _asked_address(level, kind, value)) is not None:
                reply_with, interface = found
        return Arrival(data, Target(family, sockaddr), at_ns, kernel, ttl & 0xFF, reply_with, interface)

    def _drain_errors(self, bound: _Bound) -> None:
        departing = bound.departing
        while True:
            try:
                _, ancillary, _, _ = bound.socket.recvmsg(0, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
            except OSError:  # BlockingIOError: empty
                return
            key, at_ns = _departure(ancillary)
            if departing and key is not None and (token := departing.pop(key, None)) is not None:
                if departing:
                    for older in [k for k in departing if k < key]:
                        del departing[older]
                self._departed(token, at_ns)
                if not departing:
                    return


_TTL_KINDS: Final = frozenset(
    {(socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, getattr(socket, "IPV6_HOPLIMIT", 52))}
)


@functools.lru_cache(maxsize=16)  # the same few for every packet
def _asked_address(level: int, kind: int, value: bytes) -> tuple[tuple[Cmsg, ...], int] | None:
    """Return (what makes an answer leave from the address that was asked, number of the interface); None: this control
    message does not say it."""
    if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(value) >= 12:
        (interface,) = _INT.unpack_from(value)
        return ((level, kind, bytes(4) + value[4:8] + bytes(4)),), interface  # any interface, from that address
    if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(value) >= 20:
        (interface,) = _INT.unpack_from(value, 16)
        scoped = value[0] == 0xFE and value[1] & 0xC0 == 0x80  # link-local: the interface belongs to it
        return ((level, kind, value[:20] if scoped else value[:16] + bytes(4)),), interface
    return None


def _arm_departures(bound: _Bound) -> None:
    """Ask for departure stamps counted from 0: setting OPT_ID again restarts the kernel's counter."""
    bound.departing = None
    if not _LINUX:
        return
    try:
        bound.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, 0)
        bound.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _SOFTWARE | _OPT_ID | _OPT_TSONLY)
    except OSError:  # old or foreign kernel: T1 is then taken in user space
        return
    bound.key, bound.departing = 0, {}


def _ask_for_ancillary(made: socket.socket) -> bool:
    """Request stamps, TTL and local address with every arrival, as far as the platform has them. Return whether the
    kernel stamps."""
    # RFC 5357 §4.1.2, which STAMP follows: 255, so that the receiver can count the routers in between
    if made.family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    if not _LINUX:
        return False
    if made.family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        made.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def _departure(ancillary: list[Cmsg]) -> tuple[int | None, int]:
    """Return (kernel's key, wall time) of a departure stamp from the error queue; (None, 0) for anything else."""
    key, at_ns = None, 0
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING) and len(value) >= _TIMESPEC.size:
            seconds, rest_ns = _TIMESPEC.unpack_from(value)
            at_ns = seconds * NS_PER_S + rest_ns
        elif (level, kind) in _ERR_LEVELS and len(value) >= _EXTENDED_ERR.size:
            _, origin, _, _, _, _, data = _EXTENDED_ERR.unpack_from(value)
            if origin == _EE_ORIGIN_TIMESTAMPING:
                key = data
    return (key, at_ns) if at_ns else (None, 0)
