"""Explain in a few words why a connection could not be opened, in the same words for every library."""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import Final

from swarm_protocol.text import safe

LONGEST: Final = 100  # characters of a text that is not ours

_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


def why_unreachable(error: BaseException) -> str:
    """Return `refused`, `unknown host name`, `no route to host`, …; the error's own text, cleaned, if it has no
    number."""
    inner = getattr(error, "os_error", None) or getattr(error, "reason", None)  # of aiohttp, of urllib
    if isinstance(inner, OSError):
        error = inner
    if isinstance(error, socket.gaierror):
        return "unknown host name"
    found = _ERRNO.search(str(error))  # asyncio hides the number in the text where it tried several addresses
    number = getattr(error, "errno", None) or (int(found[1]) if found else 0)
    if number == errno.ECONNREFUSED:
        return "refused"
    known = isinstance(number, int) and number in errno.errorcode
    return os.strerror(number).lower() if known else safe(str(error) or type(error).__name__, LONGEST)
