"""Probes of one machine find each other's lock without the modules that usually choose its folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from swarm_probe.compute.limits import ComputeLimits


@pytest.mark.parametrize("named", ["there", "missing", ""])
def test_the_lock_is_in_the_folder_that_every_program_takes(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / named) if named else "")
    monkeypatch.setattr(tempfile, "tempdir", None)  # it remembers
    assert Path(ComputeLimits().lock_path).parent == Path(tempfile.gettempdir())
