"""Probes whose clock is wrong, and a collector whose own clock is set."""

from __future__ import annotations

import time

import pytest
from collector_rig import collector, note, stored

from swarm_protocol.messages.probe_messages import (
    Heartbeat,
)

YEAR_NS = 365 * 86_400 * 10**9


@pytest.mark.parametrize(("off_ns", "said"), [(YEAR_NS, "365.0 days ahead"), (-YEAR_NS, "365.0 days behind")])
async def test_a_clock_a_year_off_is_reported_once_and_its_times_are_moved(rig, tmp_path, off_ns, said):
    """Rows of a year ago would be pruned at once, rows of next year would stretch the recording."""
    began_ns = time.time_ns()
    async with rig.probe("kiln", at_ns=began_ns + off_ns) as probe:
        await probe.send(Heartbeat(at_ns=time.time_ns() + off_ns, spooled=0))
        for seq in (1, 2):
            await probe.batch(seq, note(began_ns + off_ns - seq * 10**9, f"a second apart {seq}"))
            await probe.acked(seq)
    events = [sample for _, sample in stored(tmp_path)]
    first, second = (e.at_ns for e in sorted(events, key=lambda e: e.detail) if e.detail.startswith("a second apart"))
    assert first - second == 10**9
    assert abs(first - began_ns) < 10 * 10**9
    assert [sample.detail for sample in events if sample.kind == "clock"] == [
        f"this node's clock is {said}; its times are corrected by that much"
    ]


async def test_the_clock_of_an_older_probe_is_checked_too(rig, tmp_path):
    now_ns = time.time_ns()
    async with rig.probe("kiln") as probe:
        for seq in (1, 2):
            await probe.batch(seq, note(now_ns + YEAR_NS, f"from the future {seq}"))
            await probe.acked(seq)
    events = [sample for _, sample in stored(tmp_path)]
    assert all(abs(sample.at_ns - now_ns) < 60 * 10**9 for sample in events)
    assert [sample.detail for sample in events if sample.kind == "clock"] == [
        "samples of this node are dated 365.0 days ahead; they get the time of their arrival"
    ]


async def test_the_collectors_own_clock_set_by_a_year_is_reported_once_and_no_probe_is_blamed(tmp_path, monkeypatch):
    async with collector(tmp_path) as rig, rig.probe("kiln", at_ns=time.time_ns()) as probe:
        await probe.welcome()
        real = rig.swarm_state.clock.wall_ns
        monkeypatch.setattr(rig.swarm_state.clock, "wall_ns", lambda: real() + YEAR_NS)
        await probe.send(Heartbeat(at_ns=time.time_ns(), spooled=0))
        await probe.batch(1, note(time.time_ns(), "just now"))
        await probe.acked(1)
    events = [sample for _, sample in stored(tmp_path)]
    assert [sample.detail for sample in events if sample.kind == "clock"] == [
        "the collector's own clock was set: it is 365.0 days ahead of what it was"
    ]
    (kept,) = (sample for sample in events if sample.kind == "note")
    assert abs(kept.at_ns - time.time_ns() - YEAR_NS) < 60 * 10**9
