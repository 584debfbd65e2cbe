"""Leased transfers between two probes: their rate, their marks, and which leases are refused."""

from __future__ import annotations

import asyncio

import pytest
from paths_rig import ID_B, PATIENCE_S, Node, introduce

from swarm_protocol.messages.probe_messages import UplinkLease
from swarm_protocol.messages.samples import HopSample, LinkSample, UplinkSample

pytestmark = pytest.mark.usefixtures("hurry")


async def test_a_leased_transfer_gives_a_rate_and_marks_the_windows_of_both_ends(pair: tuple[Node, Node]) -> None:
    a, b = pair
    introduce(a, b)
    ok, detail, _ = await a.paths.run_uplink(
        UplinkLease(lease_id=1, peer=ID_B, max_bytes=4 << 20, expires_ms=PATIENCE_S * 1000)
    )
    assert ok, detail
    sample = await a.first(UplinkSample)
    assert sample.peer == ID_B
    assert 256 << 10 <= sample.sent_bytes <= 4 << 20
    assert sample.mbps > 10.0  # loopback, on a machine that may be busy
    assert sample.rtt_idle_ms is not None
    assert 0 < sample.rtt_idle_ms < 50.0
    assert 0 < sample.seconds < PATIENCE_S
    for node in (a, b):
        assert (await node.first(LinkSample, lambda s: s.loaded)).loaded
        assert not (await node.first(LinkSample, lambda s: not s.loaded)).loaded


async def test_both_ends_refuse_a_second_transfer_at_the_same_time(pair: tuple[Node, Node]) -> None:
    """The collector leases slots; the probes hold to it even when it errs."""
    a, b = pair
    introduce(a, b)
    lease = UplinkLease(lease_id=1, peer=ID_B, max_bytes=4 << 20, expires_ms=PATIENCE_S * 1000)
    first, second = await asyncio.gather(a.paths.run_uplink(lease), a.paths.run_uplink(lease))
    assert first[0], first[1]
    assert second == (False, "another transfer runs at this node", False)


@pytest.mark.parametrize("end", [0, 1])
async def test_a_lease_that_comes_before_the_last_transfer_is_over_waits_for_it(
    end: int, pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_again = asyncio.Event()
    sleep = asyncio.sleep

    async def quick_sleep(delay_s: float) -> None:
        asked_again.set()
        await sleep(min(delay_s, 0.02))

    monkeypatch.setattr("swarm_probe.measure.transfers.leased_transfers.asyncio.sleep", quick_sleep)
    a, b = pair
    introduce(a, b)
    await a.first(HopSample)
    with pair[end].paths._line.transfer():  # it has not seen the end of the last one
        waiting = asyncio.ensure_future(
            a.paths.run_uplink(UplinkLease(lease_id=1, peer=ID_B, max_bytes=1 << 20, expires_ms=PATIENCE_S * 1000))
        )
        asked_again.clear()
        await asked_again.wait()
        if end == 1:
            while not b.paths.counters().get("tcp_refused_busy"):
                await sleep(0.01)
        assert not waiting.done()
    outcome = await waiting
    assert outcome.ok, outcome.detail


async def test_a_lease_for_a_stranger_is_refused_in_one_line(pair: tuple[Node, Node]) -> None:
    a, b = pair
    introduce(a, b)
    lease = UplinkLease(lease_id=1, peer="c" * 16, max_bytes=1 << 20, expires_ms=1000.0)
    assert await a.paths.run_uplink(lease) == (False, "cccccccccccccccc is not in the plan of this probe", False)


async def test_a_lease_that_ran_out_measures_nothing(pair: tuple[Node, Node]) -> None:
    a, b = pair
    introduce(a, b)
    await a.first(LinkSample)
    ok, detail, begun = await a.paths.run_uplink(UplinkLease(lease_id=1, peer=ID_B, max_bytes=1 << 20, expires_ms=0.0))
    assert not ok
    assert not begun
    assert detail == "bbbb: the lease ran out after 0 ms"
    assert not [s for s in a.samples if isinstance(s, UplinkSample)]
