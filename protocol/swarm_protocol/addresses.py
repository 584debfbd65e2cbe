"""Parse addresses that people type for flags, settings and rules, and define the default port.

    HOST, HOST:PORT, :PORT, [IPV6], [IPV6]:PORT, or one of these after ws:// wss:// http:// https://

Errors are ValueError with a line that begins with what was typed and ends with what to type instead; the caller puts
the name of the option before it. Imports nothing heavy: `--help` needs this module.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from swarm_protocol.text import safe

DEFAULT_PORT: Final = 9470  # of everything that listens
SCHEMES: Final = {"ws": False, "http": False, "wss": True, "https": True}  # whether it is TLS
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_EXAMPLE: Final = f"give HOST:PORT, e.g. 203.0.113.7:{DEFAULT_PORT}"
_SHOWN: Final = 80  # characters of the input


class Address(NamedTuple):
    host: str  # IPv6 without brackets
    port: int
    tls: bool | None = None  # as the scheme says; None: no scheme was given


def parse_address(text: str, *, any_host: str = "127.0.0.1", least_port: int = 1) -> Address:
    """Return the address in `text`. `any_host` replaces the host of `:PORT`; `least_port` 0 admits "any free port".

    A missing port is DEFAULT_PORT, or 80 and 443 after a scheme. Raises ValueError.
    """
    shown = safe(text, _SHOWN)
    scheme, separator, rest = text.partition("://")
    tls = None
    if separator:
        if scheme.lower() not in SCHEMES:
            raise ValueError(f"{shown} is neither HOST:PORT nor a ws:// or wss:// URL; leave out {safe(scheme, 20)}://")
        tls = SCHEMES[scheme.lower()]
        rest = rest.rstrip("/")
    else:
        rest = text
    if "@" in rest:  # not shown: it may be a password
        raise ValueError("an address takes no user or password; leave them out")
    if any(char in rest for char in "/?#"):
        raise ValueError(f"{shown} holds more than HOST:PORT; leave out the path")
    host, port_text = _split(rest, shown)
    port = DEFAULT_PORT if tls is None else 443 if tls else 80
    if port_text is not None:
        if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
            raise ValueError(f"{shown} is not HOST:PORT; a port is a number from {least_port} to 65535")
        port = int(port_text)
    if not least_port <= port <= 65535:
        raise ValueError(
            f"{shown} has no port from {least_port} to 65535; give HOST:PORT, e.g. 203.0.113.7:{DEFAULT_PORT}"
        )
    return Address(host or any_host, port, tls)


def _split(rest: str, shown: str) -> tuple[str, str | None]:
    """Return (host without brackets, port or None)."""
    if rest.startswith("["):
        inside, bracket, after = rest[1:].partition("]")
        if not bracket or (after and not after.startswith(":")) or not _is_ipv6(inside):
            raise ValueError(f"{shown} is not an IPv6 address; write it as [::1]:{DEFAULT_PORT}")
        return inside, after[1:] if after else None
    if rest.count(":") > 1:
        raise ValueError(f"{shown} is not HOST:PORT; put an IPv6 address in brackets, as in [::1]:{DEFAULT_PORT}")
    host, colon, port = rest.partition(":")
    if (host and _HOST.fullmatch(host) is None) or not (host or colon):
        raise ValueError(f"{shown or 'nothing'} names no host; {_EXAMPLE}")
    if host.isdigit() and not colon:  # resolvers take it for an address: 9470 is 0.0.36.254
        raise ValueError(f"{shown} names no host; give HOST:{host}, or :{host} for this machine")
    return host, port if colon else None


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def address_text(host: str, port: int) -> str:
    """Return `HOST:PORT`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
