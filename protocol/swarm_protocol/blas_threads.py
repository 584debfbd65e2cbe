"""Limit numpy's matrix products (BLAS) to one thread.

OpenBLAS starts a thread for each core and lets them spin between products. Ours are small and frequent: a fit that
takes 2.9 s of CPU on one thread took 9.5 s on two (measured on two busy cores).
"""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "OPENBLAS_NUM_THREADS"


def use_one() -> None:
    """Set it, which takes effect if numpy has not been imported yet; a value that the user has set stays."""
    os.environ.setdefault(VARIABLE, "1")
