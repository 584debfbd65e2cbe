"""File descriptors of this process: raise the limit at the start, keep some for the store, count what is left.

accept(2) hands out the lowest free number. So a connection whose number is below the reserve's first leaves the whole
reserve free, and no counting is needed to know it.
"""

from __future__ import annotations

import os
import resource
from typing import Final

MAX_SOFT: Final = 65_536  # several times the connections that are taken; some systems' hard limit is a billion
RESERVE: Final = 64  # for the store: its files, its readers, a backup, the other collectors of a database


def raise_limit(most: int = MAX_SOFT) -> int:
    """Raise the soft limit to the hard one, `most` at most; the soft limit from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS has a further limit, kern.maxfilesperproc, below an unlimited hard one
            return soft
    return limit()


def limit() -> int:
    """The soft limit; `MAX_SOFT` where there is none."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_SOFT if soft == resource.RLIM_INFINITY else soft


def reserve(of_limit: int) -> int:
    """How many are kept for the store: a quarter of a small limit."""
    return min(RESERVE, of_limit // 4)


def in_use() -> int | None:
    """How many are open; None where the system does not tell."""
    try:
        return len(os.listdir("/dev/fd")) - 1  # one is the listing's own
    except OSError:
        return None


def left() -> int | None:
    """How many more can be opened, the reserve among them; None where the system does not tell."""
    used = in_use()
    return None if used is None else max(0, limit() - used)
