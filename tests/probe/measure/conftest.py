"""Fixtures of the tests of measuring."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from paths_rig import Node

from swarm_probe.measure.paths import PathsConfig


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here waits for what a satellite path may take."""
    monkeypatch.setattr("swarm_probe.measure.hop_rounds.FIRST_HOP_S", 0.05)
    monkeypatch.setattr("swarm_probe.measure.hop.IDLE_NS", 1_000_000)
    monkeypatch.setattr("swarm_probe.udp.stamp.stamp_sender.REPLY_WAIT_NS", 1_000_000_000)


@pytest.fixture
async def pair(hurry: None) -> AsyncIterator[tuple[Node, Node]]:
    a, b = Node(PathsConfig("127.0.0.1")), Node(PathsConfig("127.0.0.1"))
    await a.paths.start()
    await b.paths.start()
    yield a, b
    await a.paths.close()
    await b.paths.close()
