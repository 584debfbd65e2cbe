"""How the C library keeps freed memory, set once at the start for a process that lives for months.

The live picture is made of arrays of some hundred kilobytes that come and go many times a second, in several threads.
glibc learns from the first few to keep such blocks in its heaps, one heap a thread, where they leave holes: a collector
of 200 nodes grew from 140 to 310 MB within minutes (bench.soak) while Python itself held no more than before.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

MMAP_FROM_BYTES: Final = 256 << 10  # larger blocks are the system's: given back when freed
HEAPS: Final = 2
_M_MMAP_THRESHOLD: Final = -3  # of malloc.h
_M_ARENA_MAX: Final = -8


def settle() -> bool:
    """To be called before any thread is begun. False: not glibc, which does as it likes."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MMAP_FROM_BYTES)) and bool(mallopt(_M_ARENA_MAX, HEAPS))
