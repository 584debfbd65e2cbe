"""Set how the process manages memory, and hand back what it has freed: it runs for months.

Python's cycle collector scans all objects after some hundred new ones. With 2,000 probes that took 15 % of the
collector's CPU with pauses of up to 150 ms; with the thresholds here it is 4 %, and few objects are in cycles.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

GC_THRESHOLDS: Final = (20_000, 10, 10)  # objects, then rounds of the generation before; Python's own: 700, 10, 10


def settle() -> None:
    """Apply the settings; call it before any thread starts."""
    gc.set_threshold(*GC_THRESHOLDS)
    # The planner's compiled loops would cost 150 MB for the compiler; the collector's few searches use numpy.
    # sqlite-utils, which creates and migrates the schema, imports pandas if it is installed: 70 MB that are not needed.
    for needless in ("numba", "pandas"):
        sys.modules.setdefault(needless, None)  # type: ignore[arg-type]


def hand_back() -> bool:
    """Return freed memory to the system, where the C library can (glibc); return whether any was.

    It keeps what lies below blocks in use: after a burst of joins, or a search over a large swarm, up to half of what
    the process then has. A call takes some milliseconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return trim is not None and bool(trim(0))
