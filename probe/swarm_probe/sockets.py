"""Parse addresses and bind sockets: one of each address family on one port number, for UDP and for TCP."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import sys
from typing import Any, Final

import msgspec

from swarm_probe.light_imports import encoded
from swarm_protocol.units import NS_PER_S

SO_TIMESTAMPNS: Final = 35  # <asm-generic/socket.h>; Python 3.11 does not name it
_TIMESPEC: Final = struct.Struct("@ll")
_BOUND_IF: Final = ((socket.IPPROTO_IP, 25), (socket.IPPROTO_IPV6, 125))  # IP_BOUND_IF, IPV6_BOUND_IF of macOS
_PORT_TRIES: Final = 8  # a port free in IPv4 may be taken in IPv6


class Target(msgspec.Struct, frozen=True):
    """One address of one peer, in the kernel's form."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


class Leave(msgspec.Struct, frozen=True):
    """What connections leave by, if the owner has chosen: an address of this machine, an interface, or both."""

    bind_host: str = ""
    interface: str = ""

    def prepare(self, made: socket.socket) -> None:
        """Prepare this socket before it connects. Raises OSError."""
        keep_to(made, self.interface)
        if self.bind_host and (where := target(self.bind_host, 0)) is not None and where.family == made.family:
            made.bind(where.sockaddr)


ANY_WAY: Final = Leave()


def why(error: OSError) -> str:
    """Return the system's words for an error; asyncio replaces them by its own, with an unrelated address."""
    if isinstance(error, TimeoutError):
        return "no answer"
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


def kernel_stamp_ns(level: int, kind: int, value: bytes) -> int | None:
    """Return when the kernel received the packet (wall clock), from one control message of recvmsg; None for others."""
    if level != socket.SOL_SOCKET or kind != SO_TIMESTAMPNS or len(value) < _TIMESPEC.size:
        return None
    seconds, rest_ns = _TIMESPEC.unpack_from(value)
    return int(seconds) * NS_PER_S + int(rest_ns)


def target(host: str, port: int) -> Target | None:
    """Return the target; None where `host` is not a plain unicast IP address: a probe looks up no names."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        return None
    try:
        found = socket.getaddrinfo(encoded(str(address)), port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # an IPv6 zone that this machine does not have
        return None
    family, _, _, _, sockaddr = found[0]
    return Target(family, sockaddr)


def bind_all(kind: socket.SocketKind, bind_host: str, port: int, interface: str = "") -> list[socket.socket]:
    """Return non-blocking sockets on `port` (0: any free one): both families for an empty host, else the host's.
    `interface`: nothing goes out or comes in by another one.

    Raises OSError, its text one line for people. Missing IPv6 is no error.
    """
    if bind_host:
        where = target(bind_host, port)
        if where is None and bind_host not in ("0.0.0.0", "::"):
            raise OSError(errno.EINVAL, f"{bind_host!r} is not an IP address of this machine")
        family = where.family if where else socket.AF_INET6 if ":" in bind_host else socket.AF_INET
        return [_bind(kind, family, where.sockaddr if where else (bind_host, port), interface)]
    tries = _PORT_TRIES if port == 0 else 1
    for attempt in range(tries):
        bound: list[socket.socket] = []
        try:
            bound.append(_bind(kind, socket.AF_INET, ("0.0.0.0", port), interface))
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
        same_port = bound[0].getsockname()[1] if bound else port
        try:
            bound.append(_bind(kind, socket.AF_INET6, ("::", same_port), interface))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and bound:
                if attempt + 1 < tries:
                    bound[0].close()
                    continue
            elif error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPERM) or not bound:
                for one in bound:
                    one.close()
                raise
        return bound
    raise AssertionError("unreachable: the last attempt returns")


def keep_to(made: socket.socket, interface: str) -> None:
    """Keep this socket to one interface. Raises OSError if the system has no such option, or none for this user (Linux
    before 5.7)."""
    if not interface:
        return
    if hasattr(socket, "SO_BINDTODEVICE"):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    elif sys.platform == "darwin":
        index = socket.if_nametoindex(interface)
        level, option = _BOUND_IF[made.family == socket.AF_INET6]
        made.setsockopt(level, option, index)
    else:
        raise OSError(errno.ENOPROTOOPT, "--interface works on Linux and macOS only")


def _bind(
    kind: socket.SocketKind, family: socket.AddressFamily, sockaddr: tuple[Any, ...], interface: str
) -> socket.socket:
    made = socket.socket(family, kind)
    try:
        keep_to(made, interface)
        made.setblocking(False)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # a probe killed and started again gets its port back at once
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(sockaddr)
    except OSError:
        made.close()
        raise
    return made
