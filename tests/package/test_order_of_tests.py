"""The order in which test files begin names files that exist: a renamed one would quietly begin last."""

from __future__ import annotations

import importlib.util
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_the_files_that_begin_first_exist() -> None:
    spec = importlib.util.spec_from_file_location("order_of_tests", TESTS / "conftest.py")
    assert spec is not None and spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    assert sorted(set(conftest.LONGEST) - {path.name for path in TESTS.rglob("test_*.py")}) == []
