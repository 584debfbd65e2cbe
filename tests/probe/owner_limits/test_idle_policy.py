"""Tests wait while the owner uses the line or the machine runs on battery, and our own bytes do not count as that."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from swarm_probe.measure import slot_scheduler
from swarm_probe.owner_limits.idle_policy import HOLD_NS, IdlePolicy, parse_proc_counters, system_counters
from swarm_probe.owner_limits.traffic_budget import (
    TrafficBudget,
)
from swarm_probe.wake_ups import WakeUps
from swarm_protocol.units import NS_PER_S

T0 = 1_764_000_000 * NS_PER_S


def looked(idle_policy: IdlePolicy, *sent_bytes: int, own: int = 0, testing: bool = False) -> IdlePolicy:
    """One look a second, `sent_bytes` more each time, `own` of them by this probe."""
    total = ours = 0
    for second, more in enumerate(sent_bytes):
        total, ours = total + more, ours + (own if second else 0)
        idle_policy.look(second * NS_PER_S, {"eth0": (total, 0), "veth1": (total, 0)}, (ours, 0), testing=testing)
    return idle_policy


def test_tests_wait_while_others_use_the_line_and_go_on_soon_after() -> None:
    idle_policy = looked(IdlePolicy(), 0, 500_000)  # 4 Mbit/s
    assert idle_policy.why_waiting(NS_PER_S) == "other programs use the line (4.0 Mbit/s)"
    assert idle_policy.why_waiting(NS_PER_S + HOLD_NS) is None


def test_linux_interface_counters_are_read_by_their_columns() -> None:
    text = (
        b"Inter-|   Receive                                                |  Transmit\n"
        b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls\n"
        b"    lo: 3844702738 6965793    0 2326    0     0          0         0 3844702738 6965793    0    0    0\n"
        b"enp4s0:255806321    7631    1    2    3     4          5         6   461354    3737    0    0    0     0\n"
    )
    found = parse_proc_counters(text)
    assert found == {"lo": (3_844_702_738, 3_844_702_738), "enp4s0": (461_354, 255_806_321)}


def test_the_counters_of_this_machine_are_those_that_psutil_reads() -> None:
    before, found, after = psutil.net_io_counters(pernic=True), system_counters(), psutil.net_io_counters(pernic=True)
    assert set(found) == set(after) - {"lo", "lo0"}
    for name, (sent, received) in found.items():
        assert before[name].bytes_sent <= sent <= after[name].bytes_sent
        assert before[name].bytes_recv <= received <= after[name].bytes_recv


def test_our_own_bytes_and_chatter_do_not_count_as_other_traffic() -> None:
    assert looked(IdlePolicy(), 0, 500_000, 520_000, own=490_000).why_waiting(2 * NS_PER_S) is None
    assert looked(IdlePolicy(), 0, 20_000, 30_000).why_waiting(2 * NS_PER_S) is None


def test_nothing_is_concluded_while_a_test_runs_or_after_a_sleep() -> None:
    assert looked(IdlePolicy(), 0, 500_000, testing=True).why_waiting(NS_PER_S) is None
    slept = IdlePolicy()
    slept.look(0, {"eth0": (0, 0)}, (0, 0), testing=False)
    slept.look(3600 * NS_PER_S, {"eth0": (10**12, 0)}, (0, 0), testing=False)
    assert slept.why_waiting(3600 * NS_PER_S) is None


def test_on_battery_tests_wait() -> None:
    idle_policy = IdlePolicy()
    idle_policy.battery(81.0)
    assert idle_policy.why_waiting(0) == "the machine runs on battery (81 %)"
    idle_policy.battery(None)
    assert idle_policy.why_waiting(0) is None


class _Trips:
    """What a Line asks of the round trips."""

    paused = False

    def __init__(self) -> None:
        self.loaded: list[bool] = []

    def set_loaded(self, loaded: bool) -> None:
        self.loaded.append(loaded)

    def book_others(self) -> None:
        """Nothing is carried here."""


@pytest.mark.parametrize(("after_s", "waits"), [(1, False), (30, True)])
async def test_bytes_after_the_end_of_a_transfer_do_not_count_as_other_traffic(
    after_s: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a megabyte of queue drains after an early end: a second later it is the test's own, long after it is not."""
    now = [100 * NS_PER_S]
    carried = iter([{"eth0": (0, 0)}, {"eth0": (0, 500_000)}])
    looked = asyncio.Event()
    clocks = SimpleNamespace(mono_ns=lambda: now[0], wall_ns=lambda: now[0])

    def counters() -> dict[str, tuple[int, int]]:
        found = next(carried, None)
        if found is None:
            looked.set()
            return {}
        return found

    async def next_look(seconds: float) -> None:
        now[0] += NS_PER_S
        await asyncio.sleep(0)

    monkeypatch.setattr(slot_scheduler, "system_counters", counters)
    monkeypatch.setattr(slot_scheduler, "system_battery", lambda: None)
    each_second: Any = SimpleNamespace(pause=next_look)
    own = slot_scheduler.SlotScheduler(_Trips(), TrafficBudget(None), IdlePolicy(), Counter(), clocks, each_second)  # type: ignore[arg-type]
    monkeypatch.setattr(slot_scheduler, "DRAIN_S", 0.0)
    with own.transfer():
        pass
    await own.no_transfer.wait()
    now[0] += (after_s - 1) * NS_PER_S
    attending = asyncio.create_task(own.attend())
    await looked.wait()
    attending.cancel()
    assert (own.why_waiting(0) is not None) is waits


async def test_the_collectors_connection_does_not_count_as_other_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a challenge once kept the tests of a machine waiting that nobody used."""
    carried, looks = 0, 0

    async def a_second_later(_: float) -> None:
        nonlocal carried, looks
        carried, looks = carried + 128_000, looks + 1
        if looks == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(slot_scheduler, "system_counters", lambda: {"eth0": (round(1.05 * carried), 0)})
    monkeypatch.setattr(slot_scheduler, "system_battery", lambda: None)
    idle_policy, clocks = IdlePolicy(), SimpleNamespace(mono_ns=lambda: looks * NS_PER_S, wall_ns=lambda: T0)
    each_second: Any = SimpleNamespace(pause=a_second_later)
    own = slot_scheduler.SlotScheduler(_Trips(), TrafficBudget(None), idle_policy, Counter(), clocks, each_second)  # type: ignore[arg-type]
    own.link_carried = lambda: (carried, 0)
    with pytest.raises(asyncio.CancelledError):
        await own.attend()
    assert 0 < idle_policy.busy_mbps < 0.1  # headers
    assert own.why_waiting(1) is None


async def test_a_transfer_is_over_when_its_queue_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a second of it is left in a home's modem: a hop begun at once would read hundreds of milliseconds."""
    monkeypatch.setattr(slot_scheduler, "DRAIN_S", 0.05)
    trips, clocks = _Trips(), SimpleNamespace(mono_ns=lambda: T0, wall_ns=lambda: T0)
    own = slot_scheduler.SlotScheduler(trips, TrafficBudget(None), IdlePolicy(), Counter(), clocks, WakeUps())  # type: ignore[arg-type]
    with own.transfer():
        pass
    assert own.transferring
    assert trips.loaded == [True]
    await own.no_transfer.wait()
    assert not own.transferring
    assert trips.loaded == [True, False]
