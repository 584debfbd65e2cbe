"""Fixtures of the tests of the collector client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fake_collector import FakeCollector


@pytest.fixture
async def collector() -> AsyncIterator[FakeCollector]:
    fake = await FakeCollector().start()
    yield fake
    await fake.stop()
