"""Explain in a few words why there is no connection to the collector. Pure."""

from __future__ import annotations

import os
import re
import socket
import sys
from typing import Final

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S, iso_utc

_UPGRADE_REQUIRED: Final = 426


def closing_words(error: ConnectionClosed) -> str:
    """Return why, as far as the other side or our own pings show it."""
    if error.rcvd is not None and error.rcvd.reason:
        return f" ({safe(error.rcvd.reason, 100)})"
    if error.sent is not None and error.rcvd is None and error.sent.reason:
        return f" ({safe(error.sent.reason, 100)})"
    return ""


def resting_words(who: str, why: str, now_ns: int, wait_s: float) -> str:
    """Return that the probe stays away from a collector for so long, and why."""
    again = iso_utc(now_ns + round(wait_s * NS_PER_S))
    return f"hung up on {who}: {why}; tries again at {again[11:16]} UTC on {again[:10]}"


def why_not(error: Exception) -> str:
    """Return one short phrase; never the peer's own words unchecked."""
    if isinstance(error, InvalidStatus):
        if error.response.status_code == _UPGRADE_REQUIRED:
            return "it takes only TLS from other machines; leave out ws:// and --insecure"
        return f"HTTP {error.response.status_code}: no collector at this address"
    if isinstance(error, TimeoutError):
        return "no answer"
    tls = sys.modules.get("ssl")  # not loaded for plain text
    if tls is not None and isinstance(error, tls.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
            return "it does not speak TLS: not a collector, or one with plain text (--insecure)"
        return f"TLS: {safe(error.reason or str(error), 100)}"
    if isinstance(error, socket.gaierror):
        return f"the name is not known: {error.strerror}"
    if isinstance(error, OSError):
        # asyncio words it differently, and for several addresses puts them all into one text without a number
        found = re.search(r"\[Errno (\d+)\]", str(error))
        number = error.errno or (int(found[1]) if found else None)
        return os.strerror(number) if number else safe(str(error), 100)
    if isinstance(error, WebSocketException):
        return f"not a collector: {safe(str(error), 100)}"
    return safe(str(error), 120)


class Ended(Exception):
    """The connection has ended; the text says why."""

    def __init__(self, text: str, *, final: bool = False, retry_ms: float = 0.0) -> None:
        super().__init__(text)
        self.final = final
        self.retry_ms = retry_ms
