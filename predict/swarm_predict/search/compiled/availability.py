"""Load the compiled loops if they are installed: numba, and HiGHS for linear programmes, are the extra `fast`.

Loading takes a third of a second, and the first time after an installation as long as compiling takes, so only swarms
too large to be solved exactly ask for it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from swarm_predict.search.chain import Chain

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True, slots=True)
class Fast:
    compiled: ModuleType
    descent: ModuleType  # kernel_descent


@functools.cache
def fast() -> Fast | None:
    """Return the compiled search, None without numba or HiGHS. Compiles here, so that no time limit pays for it."""
    try:
        from swarm_predict.search.compiled import anchored, compiled_walks, cuts, descent_kernel, master_problem
    except ImportError:
        return None
    tiny = _tiny()
    relaxation = compiled_walks.Compiled(tiny, compiled_walks.all_states(tiny))
    relaxation.forward(np.zeros(len(tiny)))
    relaxation.sieve(np.zeros(len(tiny)), np.inf)
    zeros, states = np.zeros(len(tiny)), anchored.all_ring_states(tiny, 0)
    ring = anchored.Anchored(tiny, 0, states, zeros, np.zeros((len(tiny), len(tiny))), 0.0)
    ring.walks()
    ring.sieve(np.inf)
    cuts.missed(np.ones((3, 3)), np.ones(3), 0)
    master_problem.Master(len(tiny), frozenset(), 1.0, 1.0).solve()
    descent_kernel.descend(np.array([0, 1]), np.array([2]), descent_kernel.problem_of(tiny))
    return Fast(compiled_walks, descent_kernel)


def _tiny() -> Chain:
    ones, whole = np.ones(3), np.full(3, 2)
    return Chain(
        rows=np.arange(3),
        total=4,
        layer=ones,
        overhead=ones,
        middle=whole,
        first=whole,
        last=whole,
        only=whole,
        hop=np.ones((3, 3)) + np.diag(np.full(3, np.inf)),
        start=ones,
        end=ones,
        close=np.ones((3, 3)),
        constant=0.0,
        required=np.zeros(3, dtype=np.bool_),
        max_stages=3,
    )
