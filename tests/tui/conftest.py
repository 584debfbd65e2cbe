"""Test modules here may import `dash_fakes` beside them (importlib mode puts no folder on the path)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def no_state_of_this_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and state of a test never touch those of the person who runs it, nor does that person's token count."""
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("SWARMTOP_TOKEN", raising=False)
    for name in ("COLUMNS", "LINES"):  # a size that the runner exports would go before that of a test's terminal
        monkeypatch.delenv(name, raising=False)
