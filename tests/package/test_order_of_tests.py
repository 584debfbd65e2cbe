"""The order in which test files begin names files that exist: a renamed one would quietly begin last."""

from __future__ import annotations

import runpy
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_the_files_that_begin_first_exist() -> None:
    first = runpy.run_path(str(TESTS / "conftest.py"))["LONGEST"]
    assert sorted(set(first) - {path.name for path in TESTS.rglob("test_*.py")}) == []
