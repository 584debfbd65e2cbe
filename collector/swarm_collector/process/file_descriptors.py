"""Manage this process's file descriptors: raise the limit at the start, reserve some for the store, count the rest.

accept(2) returns the lowest free number. So a connection with a number below the reserve's first leaves the whole
reserve free, and nothing has to be counted to know it.
"""

from __future__ import annotations

import os
import resource
from typing import Final

MAX_SOFT: Final = 65_536  # several times the accepted connections; some systems' hard limit is a billion
RESERVE: Final = 64  # for the store: its files, its readers, a backup, the other collectors of a database


def raise_limit(most: int = MAX_SOFT) -> int:
    """Raise the soft limit to the hard one, `most` at most; return the new soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS has a further limit, kern.maxfilesperproc, below an unlimited hard one
            return soft
    return limit()


def limit() -> int:
    """Return the soft limit; `MAX_SOFT` if there is none."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_SOFT if soft == resource.RLIM_INFINITY else soft


def reserve(of_limit: int) -> int:
    """Return how many are reserved for the store: a quarter of a small limit."""
    return min(RESERVE, of_limit // 4)


def in_use() -> int | None:
    """Return how many are open; None if the system does not report it."""
    try:
        return len(os.listdir("/dev/fd")) - 1  # one belongs to the listing itself
    except OSError:
        return None


def left() -> int | None:
    """Return how many more can be opened, including the reserve; None if the system does not report it."""
    used = in_use()
    return None if used is None else max(0, limit() - used)
