"""Claims about the changes in a recording: those that the collector told, and those found when it is opened."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import time
from pathlib import Path

import pytest

from swarm_protocol.messages.samples import EventSample, LinkSample
from swarm_protocol.units import NS_PER_S, ns_from_iso
from swarm_storage.store import open_store
from swarm_storage.writer.transaction import NodeBatch
from swarmtop.sources import recorded_changes, replay
from swarmtop.sources.replay import ReplaySource

A, B = "a" * 16, "b" * 16
COMES_WITHIN_S = 60.0  # on a machine as busy as can be; nothing waits for it to pass
BEGAN = ns_from_iso("2026-11-23T14:00:00")


def with_a_detour(path: Path, *, told: bool) -> int:
    """Three nodes, one of which is 80 ms further away for a minute; when that began. `told`: the collector said so."""
    ids = {A: "kiln-07", B: "attic", "c" * 16: "oven"}
    store = open_store(str(path))
    writer = store.writer(retain_ns=None)
    for node, name in ids.items():
        writer.upsert_node(node, name, seen_ns=BEGAN).result()
    for number in range(30):
        at_ns = BEGAN + number * 8 * NS_PER_S
        for node in ids:
            rtts = {peer: 101.0 if 12 <= number < 20 and B in (node, peer) else 20.7 for peer in ids if peer != node}
            samples = [
                LinkSample(
                    at_ns=at_ns, peer=peer, path="direct", sent=16, lost=0, rtt_min_ms=ms, rtt_p50_ms=ms,
                    rtt_p95_ms=ms, rtt_p99_ms=ms, pdv_ms=0.1,
                )
                for peer, ms in rtts.items()
            ]  # fmt: skip
            writer.submit(NodeBatch(node, 1, number + 1, at_ns, samples)).result()
    if told:
        writer.event(
            EventSample(at_ns=BEGAN + 100 * NS_PER_S, kind="degraded", detail="as it was told then"), B
        ).result()
    store.close()
    return BEGAN + 12 * 8 * NS_PER_S


async def test_changes_of_an_older_recording_are_found_when_it_is_opened(tmp_path: Path) -> None:
    turned_ns = with_a_detour(tmp_path / "old.db", told=False)
    source = ReplaySource(str(tmp_path / "old.db"))
    shown = {
        seconds: [(e.node, e.kind, e.detail) for e in (await source.swarm_at(turned_ns + seconds * NS_PER_S)).events]
        for seconds in (-1, 30, 100)
    }
    await source.close()
    degraded = ("attic", "degraded", "RTT 21 → 101 ms to all peers")
    assert shown[-1] == []
    assert shown[30] == [degraded]
    assert [event[:2] for event in shown[100]] == [degraded[:2], ("attic", "recovered")]


async def test_screen_has_the_state_at_once_and_again_with_the_changes_that_were_found(tmp_path: Path) -> None:
    """Finding them takes seconds in a large recording; the first paint does not wait."""
    turned_ns = with_a_detour(tmp_path / "old.db", told=False)
    at = turned_ns + 30 * NS_PER_S
    moment = dt.datetime.fromtimestamp(at // NS_PER_S, dt.UTC).isoformat()
    source = ReplaySource(str(tmp_path / "old.db"), at=moment, for_screen=True)
    frames = [frame async for frame in source.frames()]
    await source.close()
    assert [[(e.node, e.kind) for e in frame.events] for frame in frames] == [[], [("attic", "degraded")]]
    assert frames[0].at_ns == frames[1].at_ns


async def test_changes_of_a_large_recording_are_found_in_a_worker_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the same, and the process ends with its answer."""
    turned_ns = with_a_detour(tmp_path / "old.db", told=False)
    found = {}
    monkeypatch.setattr(replay, "WAIT_S", COMES_WITHIN_S)
    for few in (10, 1000):
        monkeypatch.setattr(recorded_changes, "MANY_SAMPLES", few)
        source = ReplaySource(str(tmp_path / "old.db"), for_screen=True)
        found[few] = (await source.swarm_at(turned_ns + 100 * NS_PER_S)).events
        assert (source._worker is not None) == (few == 10)
        await source.close()
        deadline = time.monotonic() + COMES_WITHIN_S
        while source._worker is not None and source._worker.pid is not None:
            assert time.monotonic() < deadline, "it does not end"
            await asyncio.sleep(0.01)
    assert found[10] == found[1000] != ()


async def test_recording_is_shown_without_changes_if_their_worker_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned_ns = with_a_detour(tmp_path / "old.db", told=False)
    monkeypatch.setattr(recorded_changes, "MANY_SAMPLES", 10)
    monkeypatch.setattr(recorded_changes, "find_in", signal.raise_signal)
    monkeypatch.setattr(replay, "WAIT_S", COMES_WITHIN_S)
    source = ReplaySource(str(tmp_path / "old.db"), for_screen=True)
    source._file = signal.SIGKILL  # type: ignore[assignment]
    assert (await source.swarm_at(turned_ns + 100 * NS_PER_S)).events == ()
    await source.close()


async def test_leaving_does_not_wait_for_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned_ns = with_a_detour(tmp_path / "old.db", told=False)
    monkeypatch.setattr(recorded_changes, "MANY_SAMPLES", 10)
    monkeypatch.setattr(recorded_changes, "find_in", time.sleep)
    monkeypatch.setattr(replay, "WAIT_S", 0.0)
    source = ReplaySource(str(tmp_path / "old.db"), for_screen=True)
    source._file = 1000.0  # type: ignore[assignment]  # seconds
    assert (await source.swarm_at(turned_ns + 100 * NS_PER_S)).events == ()
    await source.close()


async def test_changes_that_the_collector_told_are_shown_as_it_told_them(tmp_path: Path) -> None:
    turned_ns = with_a_detour(tmp_path / "new.db", told=True)
    source = ReplaySource(str(tmp_path / "new.db"))
    swarm = await source.swarm_at(turned_ns + 100 * NS_PER_S)
    await source.close()
    assert [(event.kind, event.detail) for event in swarm.events] == [("degraded", "as it was told then")]
