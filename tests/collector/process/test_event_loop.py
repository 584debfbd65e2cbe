"""Events of many connections gather: fewer wake-ups, and nothing is lost or kept waiting when there is work to do."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from swarm_collector.process import event_loop
from swarm_collector.process.event_loop import GATHER_A_FILE_S, GatheringSelector


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the selector makes, each noted instead of made."""
    made: list[float] = []
    monkeypatch.setattr(event_loop.time, "sleep", made.append)
    return made


@pytest.fixture
def selector() -> Iterator[tuple[GatheringSelector, list[tuple[socket.socket, socket.socket]]]]:
    pairs = [socket.socketpair() for _ in range(3)]
    with GatheringSelector() as made:
        for near, _ in pairs:
            made.register(near, selectors.EVENT_READ)
        yield made, pairs
    for pair in pairs:
        for end in pair:
            end.close()


def test_few_connections_are_looked_at_without_a_pause(selector, pauses):
    watched, pairs = selector
    pairs[1][1].send(b"x")
    assert [key.fileobj for key, _ in watched.select(1.0)] == [pairs[1][0]]
    assert pauses == []


def test_events_of_many_connections_are_returned_together_after_a_pause(selector, pauses, monkeypatch):
    monkeypatch.setattr(event_loop, "MANY", 3)
    watched, pairs = selector
    monkeypatch.setattr(event_loop.time, "sleep", lambda s: (pauses.append(s), [far.send(b"x") for _, far in pairs]))
    assert {key.fileobj for key, _ in watched.select(None)} == {near for near, _ in pairs}
    assert pauses == [3 * GATHER_A_FILE_S]


def test_a_timer_that_is_due_sooner_is_not_kept_waiting(selector, pauses, monkeypatch):
    monkeypatch.setattr(event_loop, "MANY", 3)
    watched, _ = selector
    assert watched.select(GATHER_A_FILE_S / 4) == []
    assert watched.select(0) == []
    assert watched.select(-1) == []
    assert pauses == [GATHER_A_FILE_S / 4]
