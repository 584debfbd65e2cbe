"""Batches of a running collector's probes: what is acknowledged, refused or delayed, and that it is stored once."""

from __future__ import annotations

import asyncio
import time

import pytest
from collector_rig import collector, note, probe_at, stored

from swarm_collector.ingest.store_client import StoreClient
from swarm_protocol.messages.probe_messages import (
    Ack,
    SlowDown,
)
from swarm_storage.errors import Full


async def test_a_repeated_batch_is_acknowledged_and_stored_once(rig, tmp_path):
    at_ns = time.time_ns()
    async with rig.probe("kiln") as probe:
        for _ in range(3):
            await probe.batch(1, note(at_ns, "once"))
            await probe.acked(1)
    assert [sample.detail for _, sample in stored(tmp_path)].count("once") == 1


async def test_a_spool_that_dropped_the_refused_batch_continues_in_a_new_session(rig, monkeypatch, tmp_path):
    """The store waits for the refused batch; a hello states that nothing older is left."""
    real, failures = rig.swarm_state.store_client._writer.offer, iter([True])

    def once(batch, answer):
        if next(failures, False):
            rig.swarm_state.store_client._writer._batch_order._expected[batch.node_id, batch.epoch] = (
                batch.seq,
                float("inf"),
            )
            raise Full("no space left")
        return real(batch, answer)

    monkeypatch.setattr(rig.swarm_state.store_client._writer, "offer", once)
    async with rig.probe("kiln") as probe:
        await probe.batch(1, note(time.time_ns(), "one"))
        await probe.next(SlowDown)
    async with rig.probe("kiln") as probe:
        await probe.batch(3, note(time.time_ns(), "three"))
        await probe.acked(3)


async def test_a_full_disk_is_told_to_probes_viewers_and_log_and_ends(rig, monkeypatch, caplog):
    trouble = Full("no space left for swarm.db; free some, nothing that was acknowledged is lost")

    def full(batch, answer):
        raise trouble

    async with rig.probe("kiln") as probe, rig.viewer() as viewer:
        await viewer.until(lambda swarm: len(swarm) == 1)
        with monkeypatch.context() as broken:
            broken.setattr(rig.swarm_state.intake, "submit", full)
            # the store's watch looks each second: a store that says it is well would end the trouble
            broken.setattr(StoreClient, "condition", trouble)
            for _ in range(2):
                await probe.batch(1, note(time.time_ns(), "kept"))
                slow = await probe.next(SlowDown)
                assert slow.retry_ms > 1000
            await viewer.until(lambda swarm: any("no space left" in event.detail for event in swarm.events))
            assert rig.health()["status"] == "store"
        await probe.batch(1, note(time.time_ns(), "kept"))
        await probe.acked(1)
        await viewer.until(lambda swarm: any("storing again" in event.detail for event in swarm.events))
    assert caplog.text.count("nothing is stored now") == 1


async def test_a_batch_behind_a_refused_one_is_not_taken(rig, monkeypatch, tmp_path):
    """Its acknowledgement would cover the refused one, and the probe would drop it."""
    real, failures = rig.swarm_state.intake.submit, iter([True])

    def once(batch, answer):
        if next(failures, False):
            raise Full("no space left")
        return real(batch, answer)

    monkeypatch.setattr(rig.swarm_state.intake, "submit", once)
    at_ns = time.time_ns()
    async with rig.probe("kiln") as probe:
        await probe.welcome()
        for seq in (1, 2, 3):
            await probe.batch(seq, note(at_ns, f"batch {seq}"))
        await probe.next(SlowDown)
        for seq in (1, 2, 3):
            await probe.batch(seq, note(at_ns, f"batch {seq}"))
        await probe.acked(3)
    details = [sample.detail for _, sample in stored(tmp_path) if sample.kind == "note"]
    assert sorted(details) == ["batch 1", "batch 2", "batch 3"]


@pytest.mark.parametrize(("fullness", "credit"), [(0.0, 8), (0.2, 4), (0.4, 2), (0.9, 1)])
async def test_credit_shrinks_as_the_writers_queue_fills(rig, fullness, credit):
    rig.swarm_state.intake.fullness = lambda: fullness
    async with rig.probe("kiln") as kiln:
        await kiln.batch(1, note(time.time_ns(), "x"))
        assert (await kiln.next(Ack)).credit == credit


async def test_the_collectors_end_is_reported_and_what_was_taken_is_kept(tmp_path):
    async with collector(tmp_path) as rig, probe_at(rig.port, "kiln") as probe:
        await probe.batch(1, note(time.time_ns(), "last words"))
        await probe.acked(1)
        await rig.server.stop()
        assert await probe.closed() == (1001, "the collector is stopping; reconnect shortly")
    assert "last words" in [sample.detail for _, sample in stored(tmp_path)]


async def test_batches_of_one_commit_have_one_acknowledgement(rig, monkeypatch):
    """A write to a socket costs more than the rest of an acknowledgement."""
    held, all_in = [], asyncio.Event()

    def hold(batch, done):
        held.append((batch.seq, done))
        if len(held) == 3:
            all_in.set()

    async with rig.probe("kiln") as probe:
        await probe.welcome()
        monkeypatch.setattr(type(rig.swarm_state.intake), "commit", lambda _, batch, done: hold(batch, done))
        for seq in (1, 2, 3):
            await probe.batch(seq, note(time.time_ns(), "kept"))
        await asyncio.wait_for(all_in.wait(), 10)
        for seq, done in held:
            done(seq)
        assert (await probe.next(Ack)).seq == 3
