"""Addresses and bound sockets: one of each address family on one port number, for UDP and for TCP."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

from swarm_protocol.units import NS_PER_S

SO_TIMESTAMPNS: Final = 35  # <asm-generic/socket.h>; Python 3.11 does not name it
_TIMESPEC: Final = struct.Struct("@ll")
_PORT_TRIES: Final = 8  # a port free in IPv4 may be taken in IPv6


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one peer, as the kernel wants it."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


def why(error: OSError) -> str:
    """The system's words for it; asyncio puts its own in their place, and an address that belongs elsewhere."""
    if isinstance(error, TimeoutError):
        return "no answer"
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


def kernel_stamp_ns(level: int, kind: int, value: bytes) -> int | None:
    """When the kernel took the packet in (wall clock), from one control message of recvmsg; None for other ones."""
    if level != socket.SOL_SOCKET or kind != SO_TIMESTAMPNS or len(value) < _TIMESPEC.size:
        return None
    seconds, rest_ns = _TIMESPEC.unpack_from(value)
    return int(seconds) * NS_PER_S + int(rest_ns)


def target(host: str, port: int) -> Target | None:
    """None where `host` is no plain unicast IP address: a probe looks up no names and sends to no groups."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        return None
    try:
        found = socket.getaddrinfo(str(address), port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # an IPv6 zone that this machine has not
        return None
    family, _, _, _, sockaddr = found[0]
    return Target(family, sockaddr)


def bind_all(kind: socket.SocketKind, bind_host: str, port: int) -> list[socket.socket]:
    """Non-blocking sockets on `port` (0: any one that is free): both families for an empty host, else the host's.

    Raises OSError, its text one line for people. A missing IPv6 is no error.
    """
    if bind_host:
        where = target(bind_host, port)
        if where is None and bind_host not in ("0.0.0.0", "::"):
            raise OSError(errno.EINVAL, f"{bind_host!r} is no IP address of this machine")
        family = where.family if where else socket.AF_INET6 if ":" in bind_host else socket.AF_INET
        return [_bind(kind, family, where.sockaddr if where else (bind_host, port))]
    tries = _PORT_TRIES if port == 0 else 1
    for attempt in range(tries):
        bound: list[socket.socket] = []
        try:
            bound.append(_bind(kind, socket.AF_INET, ("0.0.0.0", port)))
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
        same_port = bound[0].getsockname()[1] if bound else port
        try:
            bound.append(_bind(kind, socket.AF_INET6, ("::", same_port)))
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


def _bind(kind: socket.SocketKind, family: socket.AddressFamily, sockaddr: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, kind)
    try:
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
