"""Parse addresses, sizes and durations: one grammar for every flag, setting, rule and time that a person types.

    address    HOST, HOST:PORT, :PORT, [IPV6], [IPV6]:PORT, or one of these after ws:// wss:// http:// https://
    size       4096, 50MB, 16MiB, 1.5 GB       (KB is 1000 bytes, KiB is 1024; B may be left out, case does not matter)
    duration   500ms, 90s, 15m, 2h, 7d, 4w, 1h30m

Errors are ValueError with a line that begins with what was typed and ends with what to type instead; the caller puts
the name of the option before it. Imports nothing heavy: `--help` needs this module.
"""

from __future__ import annotations

import ipaddress
import math
import re
from typing import Final, NamedTuple

from swarm_protocol.ports import DEFAULT_PORT
from swarm_protocol.text import safe

SCHEMES: Final = {"ws": False, "http": False, "wss": True, "https": True}  # whether it is TLS
MAX_BYTES: Final = 1 << 60
MAX_SECONDS: Final = 100 * 366 * 86_400.0

# patterns are compiled by their first use, which `re` remembers: most starts use none
_HOST: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?"
_SIZE: Final = r"(?i)(\d+(?:\.\d+)?)\s*(?:([KMGT])(I?))?B?"
_DURATION: Final = r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d|w)\s*)+"
_PART: Final = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)"
_UNIT_S: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_POWER: Final = {"K": 1, "M": 2, "G": 3, "T": 4}
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
    if (host and re.fullmatch(_HOST, host) is None) or not (host or colon):
        raise ValueError(f"{shown or 'nothing'} names no host; {_EXAMPLE}")
    return host, port if colon else None


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def address_text(host: str, port: int) -> str:
    """Return `HOST:PORT`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_size(text: str, *, least: int = 1, most: int = MAX_BYTES) -> int:
    """Return bytes. KB, MB, GB, TB are decimal; KiB, MiB, GiB, TiB binary. Raises ValueError."""
    found = re.fullmatch(_SIZE, text.strip())
    if found is None or not text.isascii():
        raise ValueError(f"{safe(text, _SHOWN) or 'nothing'} is not a size; give 50MB, 16MiB or 2GiB")
    unit = (1024 if found[3] else 1000) ** _POWER[found[2].upper()] if found[2] else 1
    size = float(found[1]) * unit if "." in found[1] else int(found[1]) * unit
    if not least <= size <= most:
        bound = f"less than {size_text(least)}" if size < least else f"more than {size_text(most)}"
        raise ValueError(f"{safe(text, _SHOWN)} is {bound}")
    return round(size)


def size_text(size_bytes: int) -> str:
    """Return the shortest exact form that `parse_size` accepts: 16MiB, 50MB, 1234."""
    for base, infix in ((1024, "i"), (1000, "")):
        for unit, power in sorted(_POWER.items(), key=lambda item: -item[1]):
            if size_bytes and size_bytes % base**power == 0:
                return f"{size_bytes // base**power}{unit}{infix}B"
    return str(size_bytes)


def parse_duration_s(text: str, *, least_s: float = 0.0, most_s: float = MAX_SECONDS) -> float:
    """Return seconds. Raises ValueError."""
    words = text.strip().lower()
    if not text.isascii() or re.fullmatch(_DURATION, words) is None:
        raise ValueError(f"{safe(text, _SHOWN) or 'nothing'} is not a duration; give 90s, 15m, 2h, 7d or 4w")
    seconds = math.fsum(float(number) * _UNIT_S[unit] for number, unit in re.findall(_PART, words))
    if not least_s <= seconds <= most_s:
        bound = f"less than {duration_text(least_s)}" if seconds < least_s else f"more than {duration_text(most_s)}"
        raise ValueError(f"{safe(text, _SHOWN)} is {bound}")
    return seconds


def duration_text(seconds: float) -> str:
    """Return the duration in the largest unit without a fraction: 90s, 15m, 2h, 7d."""
    for unit in ("w", "d", "h", "m", "s"):
        if seconds and seconds % _UNIT_S[unit] == 0:
            return f"{seconds / _UNIT_S[unit]:.12g}{unit}"
    return f"{seconds * 1e3:.12g}ms" if seconds else "0s"
