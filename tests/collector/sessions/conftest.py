"""Fixtures of the tests of sessions."""

from __future__ import annotations

import pytest
from collector_rig import collector


@pytest.fixture
async def rig(tmp_path):
    async with collector(tmp_path) as rig:
        yield rig
