"""The promises to volunteers in probe/README.md hold, whatever a collector or a stranger requests."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_probe.measure import hop_rounds, slot_scheduler
from swarm_probe.measure.paths import Paths, PathsConfig
from swarm_probe.owner_limits.idle_policy import HOLD_NS, IdlePolicy
from swarm_probe.owner_limits.traffic_budget import (
    FREE_SHARE,
    HOUR_NS,
    LOG_BYTES,
    LOG_FILES,
    TrafficBudget,
    parse_daily,
)
from swarm_probe.sockets import target
from swarm_protocol.messages.probe_messages import Peer, Plan, UplinkLease
from swarm_protocol.messages.samples import LinkSample, Sample
from swarm_protocol.rate_limit import TokenBucket
from swarm_protocol.units import NS_PER_S

T0 = 1_764_000_000 * NS_PER_S
DAY_NS = 24 * HOUR_NS
KEY = bytes(range(32))
ME, OTHER = "a" * 16, "b" * 16

# ---------------------------------------------------------------- 50 MB a day, kept across restarts


def test_fifty_megabytes_a_day_are_the_default() -> None:
    assert TrafficBudget().limit_bytes == 50_000_000


@given(
    st.lists(st.tuples(st.integers(0, 3 * DAY_NS), st.integers(1, 4_000_000)), max_size=60),
    st.one_of(st.none(), st.integers(0, 100_000_000)),
)
def test_in_no_24_hours_more_is_spent_than_the_lower_of_both_limits(
    asked: list[tuple[int, int]], collector: int | None
) -> None:
    """Whoever asks `room_bytes` before each test keeps the promise, however the asking is spread."""
    traffic_budget = TrafficBudget(50_000_000)
    traffic_budget.lower(collector)
    limit = min(50_000_000, collector if collector is not None else 50_000_000)
    spent: list[tuple[int, int]] = []
    for at_ns, size in sorted(asked):
        if size <= traffic_budget.room_bytes(T0 + at_ns):
            traffic_budget.spend_tcp("uplink", "x", sent=size, received=0, now_ns=T0 + at_ns)
            spent.append((at_ns, size))
    for at_ns, _ in spent:
        assert sum(size for when, size in spent if at_ns - DAY_NS < when <= at_ns) <= limit


def test_the_collector_may_lower_the_limit_and_never_raise_it() -> None:
    traffic_budget = TrafficBudget(50_000_000)
    traffic_budget.lower(10_000_000)
    assert traffic_budget.limit_bytes == 10_000_000
    traffic_budget.lower(5_000_000_000)
    assert traffic_budget.limit_bytes == 50_000_000
    traffic_budget.lower(None)
    assert traffic_budget.limit_bytes == 50_000_000


def test_the_days_bytes_are_remembered_across_a_restart_and_forgotten_a_day_later(tmp_path: Path) -> None:
    before = TrafficBudget.open(50_000_000, tmp_path, T0)
    before.spend("hop", "kiln-07", 20_000_000, 15_000_000, T0)
    before.write(T0)
    after = TrafficBudget.open(50_000_000, tmp_path, T0 + HOUR_NS)
    assert after.used_bytes(T0 + HOUR_NS) == 35_000_000
    assert after.level(T0 + HOUR_NS) == "thrifty"
    assert after.level(T0 + DAY_NS + 2 * HOUR_NS) == "free"


def test_setting_the_clock_back_wins_nothing() -> None:
    traffic_budget = TrafficBudget(50_000_000)
    traffic_budget.spend("hop", "", 49_500_000, 0, T0)
    assert traffic_budget.level(T0 - 5 * DAY_NS) == "spent"


def test_a_damaged_record_counts_as_a_days_worth(tmp_path: Path) -> None:
    (tmp_path / "traffic.json").write_text("{")
    traffic_budget = TrafficBudget.open(50_000_000, tmp_path, T0)
    assert traffic_budget.level(T0) == "spent"
    assert traffic_budget.trouble is not None
    assert "counted as a day's worth" in traffic_budget.trouble


@pytest.mark.parametrize(
    ("text", "size"), [("50MB", 50_000_000), ("2g", 2_000_000_000), ("1.5 GB", 1_500_000_000), ("12345", 12345)]
)
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    assert parse_daily(text) == size


def test_none_is_no_limit_and_invalid_text_is_reported() -> None:
    assert parse_daily("none") is None
    with pytest.raises(ValueError, match=r"lots is not a size; give 50MB, 16MiB or 2GiB"):
        parse_daily("lots")


# ---------------------------------------------------------------- a local log of every byte


def test_every_byte_is_in_the_log_by_kind_and_peer(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(50_000_000, tmp_path, T0)
    traffic_budget.spend_udp("stamp", "kiln-07", sent=112, version=4, now_ns=T0)
    traffic_budget.spend_udp("stamp", "kiln-07", received=112, version=6, now_ns=T0)
    traffic_budget.spend("collector", "", 1000, 300, T0)
    traffic_budget.write(T0)
    lines = (tmp_path / "traffic.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "collector - sent 1000 received 300",
        "stamp kiln-07 sent 140 received 160",
    ]
    assert traffic_budget.totals(T0) == {"collector": (1000, 300), "stamp": (140, 160)}
    traffic_budget.write(T0 + 60 * NS_PER_S)  # nothing happened: no line
    assert len((tmp_path / "traffic.log").read_text().splitlines()) == 2


def test_the_log_is_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(None, tmp_path, T0)
    for minute in range(700):
        for peer in range(50):
            traffic_budget.spend("stamp", f"node-with-a-long-name-{peer:02}", minute, 1, T0 + minute)
        traffic_budget.write(T0 + minute)
    files = sorted(tmp_path.glob("traffic.log*"))
    assert len(files) == LOG_FILES
    assert all(file.stat().st_size <= LOG_BYTES for file in files)
    assert "sent 699 " in (tmp_path / "traffic.log").read_text()


def test_a_folder_that_cannot_be_written_is_reported_and_does_not_stop_the_counting(tmp_path: Path) -> None:
    traffic_budget = TrafficBudget.open(50_000_000, tmp_path / "gone", T0)
    traffic_budget.spend("hop", "", 1000, 0, T0)
    traffic_budget.write(T0)
    assert traffic_budget.trouble == "the record of traffic cannot be written (No such file or directory)"
    assert traffic_budget.used_bytes(T0) == 1000


# ---------------------------------------------------------------- other people's traffic, and the battery


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


# ---------------------------------------------------------------- two probes, one of which keeps its promises


class Node:
    def __init__(self, traffic_budget: TrafficBudget | None = None, idle_policy: IdlePolicy | None = None) -> None:
        self.samples: list[Sample] = []
        self.more = asyncio.Event()
        self.paths = Paths(PathsConfig("127.0.0.1"), self._emit, traffic_budget=traffic_budget, idle_policy=idle_policy)

    def _emit(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.more.set()

    async def counts(self, name: str, least: int = 1) -> int:
        async with asyncio.timeout(10):
            while (count := self.paths.counters().get(name, 0)) < least:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        return count

    def peer(self, node_id: str, out: int, into: int) -> Peer:
        return Peer(
            node_id=node_id, name=node_id[:4], hosts=("127.0.0.1",), udp_port=self.paths.udp_port,
            tcp_port=self.paths.tcp_port, stamp_key=KEY, ssid_out=out, ssid_in=into,
        )  # fmt: skip


def plan(*peers: Peer, interval_ms: float = 30.0, hop_every_ms: float = 1000.0) -> Plan:
    return Plan(
        revision=1, peers=peers, stamp_interval_ms=interval_ms, window_ms=300.0, hop_bytes=4096, hop_cadence_ms=1.0,
        hop_every_ms=hop_every_ms, host_every_ms=1000.0,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hop_rounds, "FIRST_HOP_S", 0.02)
    monkeypatch.setattr("swarm_probe.measure.hop.IDLE_NS", 1_000_000)


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    made: list[Node] = []
    yield made
    for node in made:
        await node.paths.close()


async def introduced(nodes: list[Node], me: Node, **planned: float) -> Node:
    other = Node()
    nodes += [me, other]
    for node in (me, other):
        await node.paths.start()
    me.paths.update(plan(other.peer(OTHER, 1, 2), **planned))
    other.paths.update(plan(me.peer(ME, 2, 1), **planned))
    return other


def lease(peer: str = OTHER, expires_ms: float = 500.0) -> UplinkLease:
    return UplinkLease(lease_id=1, peer=peer, max_bytes=4 << 20, expires_ms=expires_ms)


async def test_with_the_days_bytes_used_nothing_is_begun_and_nothing_answered(nodes: list[Node]) -> None:
    import time

    traffic_budget = TrafficBudget(1_000_000)
    traffic_budget.spend("hop", "", 990_000, 0, time.time_ns())
    me = Node(traffic_budget)
    other = await introduced(nodes, me)
    assert await me.counts("stamp_held_back") > 0
    assert await me.counts("ignored_budget") > 0
    assert await me.counts("hops_postponed") > 0
    ok, why, _ = await me.paths.run_uplink(lease())
    assert (ok, why) == (False, "bbbb: the tests' share of 1 MB a day is used; raise --daily-bytes or wait")
    ok, why, _ = await other.paths.run_uplink(lease(ME, 3000.0))
    assert not ok
    assert "the peer is paused" in why
    counted = me.paths.counters()
    assert counted.get("stamp_sent", 0) == counted.get("stamp_answered", 0) == counted.get("hops_measured", 0) == 0
    assert counted.get("udp_packets_sent", 0) == 0


async def test_above_the_free_share_round_trips_are_thrifty_and_tests_rest(nodes: list[Node]) -> None:
    import time

    traffic_budget = TrafficBudget(10_000_000)
    traffic_budget.spend("hop", "", int(FREE_SHARE * 10_000_000), 0, time.time_ns())
    me = Node(traffic_budget)
    await introduced(nodes, me)
    assert await me.counts("stamp_held_back", 10) >= 10
    counted = me.paths.counters()
    assert 1 <= counted["stamp_sent"] <= 4
    assert counted["stamp_answered"] > counted["stamp_sent"]  # others are still answered
    assert counted.get("hops_measured", 0) == 0


async def test_on_battery_nothing_is_begun_but_others_are_answered(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_me = iter([64.0])  # who starts first asks first; the next look is half a minute away
    monkeypatch.setattr(slot_scheduler, "system_battery", lambda: next(only_me, None))
    me = Node()
    await introduced(nodes, me)
    assert await me.counts("stamp_answered", 3) >= 3
    assert await me.counts("hops_postponed") > 0
    assert me.paths.counters().get("stamp_sent", 0) == 0
    ok, why, _ = await me.paths.run_uplink(lease())
    assert (ok, why) == (False, "bbbb: the machine runs on battery (64 %)")


async def test_while_the_owner_uses_the_line_tests_wait_and_windows_are_marked(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    total = 0

    def busy() -> dict[str, tuple[int, int]]:
        nonlocal total
        total += 2_000_000
        return {"eth0": (total, 0)}

    monkeypatch.setattr(slot_scheduler, "system_counters", busy)
    monkeypatch.setattr(slot_scheduler, "ATTEND_S", 0.51)
    me = Node()
    await introduced(nodes, me, hop_every_ms=60_000.0)
    async with asyncio.timeout(10):
        while not any(isinstance(sample, LinkSample) and sample.loaded for sample in me.samples):
            me.more.clear()
            await me.more.wait()
    ok, why, _ = await me.paths.run_uplink(lease())
    assert not ok
    assert why.startswith("bbbb: other programs use the line (")


async def test_no_plan_makes_a_probe_send_more_than_100_packets_a_second(nodes: list[Node]) -> None:
    """40 peers to be asked every 10 ms, who all ask back."""
    me, other = Node(), Node()
    nodes += [me, other]
    for node in (me, other):
        await node.paths.start()
    many = [msgspec.structs.replace(other.peer(f"{k:016x}", k, 1000 + k), often=16) for k in range(1, 41)]
    me.paths.update(plan(*many, interval_ms=10.0, hop_every_ms=3_600_000.0))
    back = [msgspec.structs.replace(me.peer(f"{k:016x}", 1000 + k, k), often=16) for k in range(1, 41)]
    other.paths.update(plan(*back, interval_ms=10.0, hop_every_ms=3_600_000.0))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await me.counts("stamp_sent", 60)
    took = loop.time() - began
    counted = me.paths.counters()
    assert counted["stamp_sent"] + counted.get("stamp_answered", 0) <= 100 + 100 * took  # a second's worth at once


def test_the_packet_bucket_holds_a_second_at_most() -> None:
    bucket = TokenBucket(100.0, 100.0)
    sent = sum(bucket.take(at * 1_000_000) for at in range(10_000) for _ in range(5))
    assert sent <= 100 + 10 * 100


@pytest.mark.parametrize("host", ["example.org", "224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "localhost"])
def test_a_probe_sends_to_plain_unicast_addresses_only(host: str) -> None:
    assert target(host, 9) is None


async def test_the_only_open_ports_are_the_two_announced_and_both_answer_members_only(nodes: list[Node]) -> None:
    me = Node()
    nodes.append(me)
    before = {c.laddr for c in psutil.Process(os.getpid()).net_connections()}
    await me.paths.start()
    opened = [c for c in psutil.Process(os.getpid()).net_connections() if c.laddr not in before]
    assert {(c.type, c.laddr.port) for c in opened} == {
        (socket.SOCK_DGRAM, me.paths.udp_port),
        (socket.SOCK_STREAM, me.paths.tcp_port),
    }


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
        await real_sleep(0)

    real_sleep = asyncio.sleep
    monkeypatch.setattr(slot_scheduler, "system_counters", counters)
    monkeypatch.setattr(slot_scheduler, "system_battery", lambda: None)
    monkeypatch.setattr(slot_scheduler.asyncio, "sleep", next_look)
    own = slot_scheduler.SlotScheduler(_Trips(), TrafficBudget(None), IdlePolicy(), Counter(), clocks)  # type: ignore[arg-type]
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
    monkeypatch.setattr(slot_scheduler.asyncio, "sleep", a_second_later)
    idle_policy, clocks = IdlePolicy(), SimpleNamespace(mono_ns=lambda: looks * NS_PER_S, wall_ns=lambda: T0)
    own = slot_scheduler.SlotScheduler(_Trips(), TrafficBudget(None), idle_policy, Counter(), clocks)  # type: ignore[arg-type]
    own.link_carried = lambda: (carried, 0)
    with pytest.raises(asyncio.CancelledError):
        await own.attend()
    assert 0 < idle_policy.busy_mbps < 0.1  # headers
    assert own.why_waiting(1) is None


async def test_a_transfer_is_over_when_its_queue_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a second of it is left in a home's modem: a hop begun at once would read hundreds of milliseconds."""
    monkeypatch.setattr(slot_scheduler, "DRAIN_S", 0.05)
    trips, clocks = _Trips(), SimpleNamespace(mono_ns=lambda: T0, wall_ns=lambda: T0)
    own = slot_scheduler.SlotScheduler(trips, TrafficBudget(None), IdlePolicy(), Counter(), clocks)  # type: ignore[arg-type]
    with own.transfer():
        pass
    assert own.transferring
    assert trips.loaded == [True]
    await own.no_transfer.wait()
    assert not own.transferring
    assert trips.loaded == [True, False]
