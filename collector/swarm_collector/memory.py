"""How memory is looked after, set once at the start of a process that lives for months and holds ten thousand sessions.

Python's collector of cycles looks at all objects whenever some have come; with ten thousand sessions that is a sixth of
the CPU and a pause of hundreds of milliseconds at a time. Next to nothing here is in a cycle, so it looks far less
often.

The live picture is made of arrays of some hundred kilobytes that come and go many times a second, in several threads.
glibc learns from the first few to keep such blocks in its heaps, one heap a thread, where they leave holes: a collector
of 200 nodes grew from 140 to 310 MB within minutes (bench.soak) while Python itself held no more than before.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

GC_THRESHOLDS: Final = (20_000, 10, 10)  # objects, then rounds of the generation before; Python's own: 700, 10, 10
MMAP_FROM_BYTES: Final = 256 << 10  # larger blocks are the system's: given back when freed
HEAPS: Final = 2
_M_MMAP_THRESHOLD: Final = -3  # of malloc.h
_M_ARENA_MAX: Final = -8


def settle() -> None:
    """To be called before any thread is begun."""
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()  # what has been imported stays
    # The planner's compiled loops: 150 MB of compiler for a search of some seconds an hour, which numpy does as well.
    sys.modules.setdefault("numba", None)  # type: ignore[arg-type]
    _keep_heaps_small()


def _keep_heaps_small() -> bool:
    """False: not glibc, which does as it likes."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MMAP_FROM_BYTES)) and bool(mallopt(_M_ARENA_MAX, HEAPS))
