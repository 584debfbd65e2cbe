"""Set how the process manages memory, once at its start: it runs for months.

Python's collector of cycles looks at all objects whenever some hundred have come. With 2,000 probes that was 15 % of
the collector's CPU and pauses of up to 150 ms; with the thresholds here it is 4 %, and little is ever in a cycle.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

GC_THRESHOLDS: Final = (20_000, 10, 10)  # objects, then rounds of the generation before; Python's own: 700, 10, 10


def settle() -> None:
    """To be called before any thread is begun."""
    gc.set_threshold(*GC_THRESHOLDS)
    # The planner's compiled loops cost 150 MB of compiler; what the collector searches a minute, numpy does without.
    # sqlite-utils, which makes and migrates the schema, loads pandas where it is installed: 70 MB for nothing here.
    for needless in ("numba", "pandas"):
        sys.modules.setdefault(needless, None)  # type: ignore[arg-type]
