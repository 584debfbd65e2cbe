"""SQLite does what every store must do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from replay_contract import REPLAY_CHECKS
from store_contract import CHECKS, Maker

from swarm_storage.store import open_store


@pytest.mark.parametrize("check", [*CHECKS, *REPLAY_CHECKS], ids=lambda check: check.__name__)
def test_sqlite(check: Callable[[Maker], None], tmp_path: Path):
    check(lambda: open_store(f"sqlite:///{tmp_path}/swarm.db"))
