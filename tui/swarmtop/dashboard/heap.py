"""Tell the C library to return large freed arrays to the system.

glibc raises the size from which a block has pages of its own each time that such a block is freed. After the first
frame of a large swarm its arrays, freed four times a second, would stay in the heap for good: 9 MB at 1,000 nodes.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

LARGE_BYTES: Final = 4 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h; setting one also keeps it from rising


def return_large_blocks() -> None:
    """Does nothing where the C library is another than glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
