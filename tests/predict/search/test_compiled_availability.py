"""The compiled search after an upgrade in place: code that numba kept of another version."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planning import tables_of

from swarm_predict.search import solve
from swarm_predict.search.compiled import availability
from swarm_predict.search.solvers import descent


@pytest.mark.parametrize("error", [AttributeError("no attribute 'Ways'"), ModuleNotFoundError("no module 'kernel'")])
def test_code_of_another_version_is_discarded_and_compiled_anew(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def loaded() -> str:
        done.append("load")
        if len(done) == 1:
            raise error
        return "the search"

    monkeypatch.setattr(availability, "_loaded", loaded)
    monkeypatch.setattr(availability, "_discard_machine_code", lambda: done.append("discard"))
    assert availability.fast.__wrapped__() == "the search"
    assert done == ["load", "discard", "load"]


def test_without_numba_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert availability.fast.__wrapped__() is None


def test_only_code_of_these_modules_is_removed(tmp_path: Path) -> None:
    ours = tmp_path / "deep" / "walk_kernel.walk-169.py311.nbi"
    ours.parent.mkdir()
    for file in (ours, tmp_path / "librosa.core-1.py311.nbi", tmp_path / "walk_kernel.cpython-311.pyc"):
        file.touch()
    assert list(availability.machine_code([tmp_path, tmp_path / "absent"], {"walk_kernel"})) == [ours]


@pytest.mark.parametrize(("serving", "loads"), [(12, False), (30, True)])
def test_it_is_loaded_only_where_many_could_serve(serving: int, loads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 105 MB, and most of a large swarm may have no layer time yet."""
    loaded = []
    for module in (solve, descent):
        monkeypatch.setattr(module, "fast", lambda: loaded.append("fast"))
    tables = tables_of(1, 30, 8, "chain", False, 9.0)
    timed = np.where(np.arange(30) < serving, tables.layer_ms, np.inf)
    solve.solve(replace(tables, layer_ms=timed), prove=False)
    assert bool(loaded) is loads
