"""Load the compiled loops if they are installed: numba, and HiGHS for linear programmes, are the extra `fast`.

Loading takes a third of a second and 105 MB (78 of them clean pages of LLVM's library), and the first time after an
installation as long as compiling takes, so only swarms too large to be solved exactly ask for it.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import numpy as np

from swarm_predict.search.chain import Chain

if TYPE_CHECKING:
    from types import ModuleType


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fast:
    compiled: ModuleType
    descent: ModuleType  # kernel_descent


@functools.cache
def fast() -> Fast | None:
    """Return the compiled search, None without numba or HiGHS. Compiles here, so that no time limit pays for it."""
    try:
        for needed in ("numba", "highspy"):
            importlib.import_module(needed)
    except ImportError:  # or numba refuses this numpy
        return None
    try:
        return _loaded()
    except (AttributeError, ImportError, EOFError, UnpicklingError) as error:
        # numba finds kept code by the names of its types, which another version may not have
        _log.info("machine code of another version is compiled anew: %r", error)
        _discard_machine_code()
        return _loaded()


def _loaded() -> Fast:
    from swarm_predict.search.compiled import anchored, compiled_walks, cuts, descent_kernel, master_problem

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


def _discard_machine_code() -> None:
    """Remove what numba kept for these modules, and forget those that were imported."""
    from numba.core import caching, config

    folder = Path(__file__).parent
    wide = config.CACHE_DIR or caching.AppDirs(appname="numba", appauthor=False).user_cache_dir
    for kept in machine_code([folder / "__pycache__", Path(wide)], {module.stem for module in folder.glob("*.py")}):
        kept.unlink(missing_ok=True)
    for name in [name for name in sys.modules if name.startswith(f"{__package__}.") and name != __name__]:
        del sys.modules[name]


def machine_code(places: Iterable[Path], modules: Collection[str]) -> Iterator[Path]:
    """Yield the files in which numba keeps the functions of these modules."""
    for place in places:
        yield from (file for file in place.rglob("*.nb[ic]") if file.name.split(".")[0] in modules)


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
