"""Fixtures of the tests of measuring."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from paths_rig import Node

from swarm_probe.measure.paths import PathsConfig
from swarm_probe.streams.tcp_endpoint import Stream


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


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Stream, Stream]]:
    """Yield the two ends of one TCP connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    called = socket.create_connection(listening.getsockname())
    answered, _ = listening.accept()
    called.setblocking(False)
    answered.setblocking(False)
    yield Stream(called, Counter()), Stream(answered, Counter())
    for one in (listening, called, answered):
        one.close()
