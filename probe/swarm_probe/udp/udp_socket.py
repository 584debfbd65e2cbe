"""Send and receive datagrams on the probe's UDP port, with the moment the kernel saw each of them.

A raw socket with `add_reader` and `recvmsg`, because asyncio's DatagramProtocol hides ancillary data. On Linux arrivals
are stamped by the kernel (SO_TIMESTAMPNS), and departures on request through the socket's error queue, which is drained
at once so that it never keeps the event loop awake. Elsewhere the time is taken in user space, and marked so. What a
datagram means is up to `stamp_sender` and `stamp_reflector`.
"""

from __future__ import annotations

import asyncio
import errno
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


class Arrival(msgspec.Struct, frozen=True):
    data: bytes
    source: Target
    wall_ns: int
    kernel: bool  # stamped by the kernel; else after this process woke up
    ttl: int  # or hop limit; 0 if the platform does not tell
    reply_with: tuple[Cmsg, ...]  # makes an answer leave from the queried address
    interface: int = 0  # the kernel's number of the one it came by; 0: unknown


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
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._departing: dict[socket.AddressFamily, dict[int, int]] = {}  # kernel's key → token
        self._keys: dict[socket.AddressFamily, int] = {}
        self.port = 0
        self.kernel_stamps = False
        self.many_expected = False  # datagrams come in trains
        self.read_all: Callable[[], None] = lambda: None  # called when a wake-up for datagrams has handed them on
        self.backlog = False  # more had come than was read at once
        self._listening = False

    def open(self, bind_host: str, port: int, interface: str = "") -> None:
        """Open the port. Raises OSError if no UDP socket can be opened."""
        for made in bind_all(socket.SOCK_DGRAM, bind_host, port, interface):
            family = socket.AddressFamily(made.family)
            self._sockets[family] = made
            self.port = made.getsockname()[1]
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            self.kernel_stamps = _ask_for_ancillary(made)
            self._arm_departures(family)
        self.listen(True)

    def close(self) -> None:
        self.listen(False)
        for made in self._sockets.values():
            made.close()
        self._sockets.clear()

    def listen(self, listening: bool) -> None:
        """Wake up for datagrams, or not: then they wait for `read`, in the system's buffer."""
        if listening == self._listening:
            return
        self._listening = listening
        loop = asyncio.get_running_loop()
        for family, made in self._sockets.items():
            if listening:
                loop.add_reader(made, self._readable, family)
            else:
                loop.remove_reader(made)

    def read(self) -> None:
        """Hand on what has arrived."""
        self.backlog = False
        for family in tuple(self._sockets):
            self.backlog |= self._read(family)

    def has(self, family: socket.AddressFamily) -> bool:
        return family in self._sockets

    def send(
        self, data: bytes, to: Target, *, token: int | None = None, ancillary: tuple[Cmsg, ...] = ()
    ) -> OSError | None:
        """Send now or not at all; return the error if not. With a `token`, `departed` will report when (Linux)."""
        made = self._sockets.get(to.family)
        if made is None:
            return OSError(f"no {to.family.name} socket")
        if self.allowed is not None and not self.allowed.permits(to):  # the last check, which no caller can bypass
            self._counts["udp_not_allowed"] += 1
            return OSError(errno.EADDRNOTAVAIL, "no address that this probe sends to")
        keys = self._departing.get(to.family) if token is not None else None
        if keys is not None:
            if len(keys) >= MAX_DEPARTING:  # this network driver gives none
                keys.clear()
            ancillary = (*ancillary, (socket.SOL_SOCKET, _SO_TIMESTAMPING, _FLAGS.pack(_TX_SOFTWARE)))
        try:
            made.sendmsg([data], ancillary, 0, to.sockaddr)
        except OSError as error:
            if keys is not None:  # the kernel may have counted it or not: restart the count
                self._arm_departures(to.family)
            return error
        self._counts["udp_packets_sent"] += 1
        self._counts["udp_bytes_sent"] += len(data)
        if keys is not None and token is not None:
            keys[self._keys[to.family]] = token
            self._keys[to.family] = (self._keys[to.family] + 1) % (1 << 32)
            self._drain_errors(to.family)  # most drivers take it from the sending call itself
        return None

    def send_many(self, packets: Sequence[bytes], to: Target) -> int:
        """Send what the system takes of these at once; return how many. Raises OSError where it refuses the first."""
        made = self._sockets.get(to.family)
        if made is None:
            raise OSError(errno.EAFNOSUPPORT, f"no {to.family.name} socket")
        if self.allowed is not None and not self.allowed.permits(to):
            self._counts["udp_not_allowed"] += 1
            raise OSError(errno.EADDRNOTAVAIL, "no address that this probe sends to")
        sent = 0
        for data in packets:
            try:
                made.sendto(data, to.sockaddr)
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
        infos = [made.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size) for made in self._sockets.values()]
        return sum(_MEMINFO.unpack(info)[-1] for info in infos if len(info) == _MEMINFO.size)

    def _readable(self, family: socket.AddressFamily) -> None:
        self.backlog = self._read(family)
        self.read_all()

    def _read(self, family: socket.AddressFamily) -> bool:
        """Hand on what has arrived; return whether there may be more."""
        made = self._sockets[family]
        if self._departing.get(family):  # before the replies, which need to know when their requests left
            self._drain_errors(family)
        for number in range(READ_AT_ONCE):  # epoll calls again while there is more
            try:
                data, ancillary, _, sockaddr = made.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                if not number:  # what made the socket readable is in its error queue, until it is read
                    self._drain_errors(family)
                return False
            except OSError as error:  # an ICMP error of an earlier datagram; the socket itself is fine
                self._counts[f"udp_error_{error.errno}"] += 1
                return True
            self._counts["udp_packets_received"] += 1
            self._counts["udp_bytes_received"] += len(data)
            self._receive(self._arrival(family, data, ancillary, sockaddr))
        return True

    def _arrival(self, family: socket.AddressFamily, data: bytes, ancillary: list[Cmsg], sockaddr: Any) -> Arrival:
        now_ns = self._clocks.wall_ns()
        at_ns, kernel, ttl, local, interface = now_ns, False, 0, None, 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET:
                stamped_ns = kernel_stamp_ns(level, kind, value)
                if stamped_ns is not None and 0 <= now_ns - stamped_ns <= STAMP_AGE_NS:
                    at_ns, kernel = stamped_ns, True
            elif level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(value) >= 12:
                local = (level, kind, bytes(4) + value[4:8] + bytes(4))  # any interface, from that address
                (interface,) = _INT.unpack_from(value)
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(value) >= 20:
                (interface,) = _INT.unpack_from(value, 16)
                scoped = value[0] == 0xFE and value[1] & 0xC0 == 0x80  # link-local: the interface belongs to it
                local = (level, kind, value[:20] if scoped else value[:16] + bytes(4))
            elif (level, kind) in _TTL_KINDS and len(value) >= _INT.size:
                (ttl,) = _INT.unpack_from(value)
        return Arrival(data, Target(family, sockaddr), at_ns, kernel, ttl & 0xFF, (local,) if local else (), interface)

    def _arm_departures(self, family: socket.AddressFamily) -> None:
        """Ask for departure stamps counted from 0: setting OPT_ID again restarts the kernel's counter."""
        if not _LINUX:
            return
        made = self._sockets[family]
        try:
            made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, 0)
            made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _SOFTWARE | _OPT_ID | _OPT_TSONLY)
        except OSError:  # old or foreign kernel: T1 is then taken in user space
            self._departing.pop(family, None)
            return
        self._keys[family] = 0
        self._departing[family] = {}

    def _drain_errors(self, family: socket.AddressFamily) -> None:
        keys = self._departing.get(family)
        while True:
            try:
                _, ancillary, _, _ = self._sockets[family].recvmsg(0, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
            except OSError:  # BlockingIOError: empty
                return
            key, at_ns = _departure(ancillary)
            if keys and key is not None and (token := keys.pop(key, None)) is not None:
                for older in [k for k in keys if k < key]:
                    del keys[older]
                self._departed(token, at_ns)
                if not keys:
                    return


_TTL_KINDS: Final = frozenset(
    {(socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, getattr(socket, "IPV6_HOPLIMIT", 52))}
)


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
