"""Whether the compiled loops are there: numba is an extra (`pip install swarmtop[fast]`), numpy does without it.

Loading takes a quarter of a second, and the first time after an installation as long as compiling takes, so only
swarms too large to be solved exactly ask for it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True, slots=True)
class Fast:
    relaxation: ModuleType  # search_compiled
    local: ModuleType  # search_kernel_local


@functools.cache
def fast() -> Fast | None:
    """None without numba."""
    try:
        from swarm_predict import search_compiled, search_kernel_local
    except ImportError:
        return None
    return Fast(search_compiled, search_kernel_local)
