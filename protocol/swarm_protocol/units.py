"""Define units and their conversions, so that no module repeats a power of ten.

Times are `_ns` or `_ms`, rates `_mbps` (decimal megabits a second), sizes `_bytes`; wall-clock is UTC nanoseconds.
"""

from __future__ import annotations

import datetime as dt

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BYTES_PER_GIB = 1 << 30
BITS_PER_BYTE = 8


def ms_from_ns(ns: float) -> float:
    return ns / NS_PER_MS


def mbps(size_bytes: float, seconds: float) -> float:
    """Return decimal megabits a second. `seconds` must be positive."""
    return size_bytes * BITS_PER_BYTE / seconds / 1e6


def transfer_ms(size_bytes: float, rate_mbps: float) -> float:
    """Return the milliseconds that `size_bytes` occupy a link of `rate_mbps` (serialisation only)."""
    return size_bytes * BITS_PER_BYTE / (rate_mbps * 1e3)


def gib(size_bytes: float) -> float:
    return size_bytes / BYTES_PER_GIB


def gib_apart(needed_bytes: float, has_bytes: float) -> tuple[str, str]:
    """Return both in GiB, `41.2` and `16.0`, with as many digits as tell them apart: `0.0102` and `0.0090`."""
    for digits in (1, 2, 3, 4):
        texts = f"{gib(needed_bytes):.{digits}f}", f"{gib(has_bytes):.{digits}f}"
        if texts[0] != texts[1]:
            break
    return texts


def iso_utc(at_ns: int) -> str:
    """Return UTC ISO 8601 with microseconds, `2026-11-23T14:02:17.123456Z`, as in every CSV cell."""
    seconds, rest_ns = divmod(at_ns, NS_PER_S)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"


def ns_from_iso(text: str) -> int:
    """Parse the output of `iso_utc`; also a date, a missing zone (UTC) and `+hh:mm`.

    Raises ValueError on anything else.
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * NS_PER_S + moment.microsecond * 1000
