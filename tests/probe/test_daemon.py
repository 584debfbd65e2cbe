"""The daemon connects the parts: measurements reach the collector, even if it is away in the meantime."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_collector import NODE_ID, FakeCollector

from swarm_probe.collector_client.client_times import ClientTimes
from swarm_probe.compute.limits import ComputeLimits
from swarm_probe.daemon import Daemon
from swarm_probe.daemon_config import ProbeConfig
from swarm_probe.machine.gpu import Gpus
from swarm_probe.measure.transfers.leased_transfers import Outcome
from swarm_probe.owner_limits.idle_policy import IdlePolicy
from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_probe.owner_reports.status import read_status
from swarm_probe.owner_reports.status_lines import plan_line
from swarm_probe.sample_check import admissible
from swarm_probe.udp.nat_discovery import Finding
from swarm_probe.wake_ups import WakeUps
from swarm_protocol import supervisor as supervisor_module
from swarm_protocol.messages.probe_messages import (
    Batch,
    Heartbeat,
    Hello,
    LeaseDone,
    Leaving,
    Peer,
    Plan,
    Refused,
    Relay,
    UplinkLease,
)
from swarm_protocol.messages.running import MAX_DETAIL
from swarm_protocol.messages.samples import EventSample, HostSample, RooflineSample, Sample
from swarm_protocol.packets.stun_packet import Endpoint
from swarm_protocol.supervisor import PartFailed, Supervisor
from swarm_protocol.trust import signing
from swarm_protocol.trust.identity import load_or_create_node_key

QUICK = ClientTimes(retry_base_s=0.01, retry_cap_s=0.05, leave_s=2.0)


class NoGpus(Gpus):
    def __init__(self) -> None:
        super().__init__(nvml=None)
        self._nvml = None


class FakePaths:
    """Measure nothing; record the requests."""

    def __init__(self, emit: Callable[[Sample], None]) -> None:
        self.emit = emit
        self.udp_port, self.tcp_port = 4001, 4002
        self.udp_error: str | None = None
        self.finding = Finding("symmetric", Endpoint("203.0.113.9", 40_000), 12_500_000)
        self.plans: list[Plan] = []
        self.relays: list[Relay] = []
        self.leases: list[UplinkLease] = []
        self.outcome: Outcome | Exception = Outcome(True, "peer: 10.0 Mbit/s", begun=True)
        self.closed = False
        self.wake_ups = WakeUps()

    def supervise(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def start(self) -> None:
        self.started = True

    def joined(self, collector: str, stun_ports: tuple[int, ...], on_reach: Callable[[Finding], None]) -> None:
        self.stun = collector, stun_ports
        on_reach(self.finding)

    def grant(self, grant: object) -> None:
        pass  # the daemon hands it on; Transfers is tested with real paths

    def linked(self, send: Any, carried: Any) -> None:
        self.relay_send, self.carried = send, carried

    def relayed(self, message: Relay) -> None:
        self.relays.append(message)

    def update(self, plan: Plan) -> None:
        self.plans.append(plan)

    async def run_uplink(self, lease: UplinkLease) -> Outcome:
        self.leases.append(lease)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def usual_away_s(self) -> float | None:
        return None

    def counters(self) -> dict[str, int]:
        return {"packets_sent": 3}

    async def close(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, collector: FakeCollector, state: Path, **config: Any) -> None:
        self.collector = collector
        self.paths: FakePaths | None = None
        self.daemon = Daemon(
            ProbeConfig(
                url=collector.url,
                name="kiln-07",
                state=state,
                times=QUICK,
                compute=ComputeLimits(lock_path="", command=("/nonexistent/python",), settle_s=0.01),
                **config,
            ),
            make_paths=self.make_paths,
            gpus=NoGpus(),
        )

    def make_paths(
        self, emit: Callable[[Sample], None], traffic_budget: TrafficBudget, idle_policy: IdlePolicy
    ) -> FakePaths:
        self.paths = FakePaths(emit)
        return self.paths

    def note(self, detail: str) -> None:
        self.daemon.emit(EventSample(at_ns=1, kind="note", detail=detail))

    def notes(self) -> list[str]:
        samples = [sample for batch in self.collector.of(Batch) for sample in batch.samples]
        return [sample.detail for sample in samples if isinstance(sample, EventSample) and sample.kind == "note"]


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Task[str | None]]:
    task = asyncio.create_task(rig.daemon.run())
    try:
        yield task
    finally:
        rig.daemon.stop()
        async with asyncio.timeout(10):
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def collector() -> AsyncIterator[FakeCollector]:
    fake = await FakeCollector().start()
    yield fake
    await fake.stop()


def plan(*peers: Peer, **more: Any) -> Plan:
    usual = {"stamp_interval_ms": 1000.0, "window_ms": 1000.0, "hop_bytes": 16384, "hop_cadence_ms": 150.0}
    return Plan(**{**usual, "revision": 1, "peers": peers, "hop_every_ms": 1e6, "host_every_ms": 1000.0, **more})


PEER = Peer(
    node_id="ff" * 8,
    name="barn",
    hosts=("192.0.2.1",),
    udp_port=1,
    tcp_port=1,
    stamp_key=b"k" * 16,
    ssid_out=1,
    ssid_in=2,
)


async def test_it_says_who_it_is_and_sends_its_host_figures(collector: FakeCollector, tmp_path: Path) -> None:
    rig = Rig(collector, tmp_path, token="secret-token", offer_bytes=5 << 30)
    async with running(rig):
        (hello,) = await collector.hears(Hello)
        (batch, *_) = await collector.hears(Batch)
    assert (hello.name, hello.token, hello.udp_port, hello.tcp_port) == ("kiln-07", "secret-token", 4001, 4002)
    key = load_or_create_node_key(tmp_path / "node.key", tuple)
    assert hello.public_key == signing.public_key(key.seed)
    reached = signing.plain_text_binding("127.0.0.1", collector.port)
    assert hello.bound_to == reached
    assert signing.verified(
        hello.public_key, signing.Handshake(bytes(32), bytes(16), reached).signed("join"), hello.proof
    )
    assert hello.facts.offer_bytes == 5 << 30
    assert isinstance(batch.samples[0], HostSample)
    assert batch.epoch == hello.epoch


async def test_a_plan_reaches_the_paths_and_the_layer_timing(collector: FakeCollector, tmp_path: Path) -> None:
    rig = Rig(collector, tmp_path)
    async with running(rig):
        await collector.hears(Heartbeat)
        wanted = plan(PEER)
        await collector.send(wanted)
        await collector.hears(Batch, 2)  # the new host pace is applied at once
        assert rig.paths is not None
        assert rig.paths.plans == [wanted]
        assert rig.daemon.status().plan == "measure 1 of 1 members every 1000 ms"
    assert rig.paths.closed


@pytest.mark.parametrize(
    "outcome",
    [Outcome(True, "barn: 10.0 Mbit/s", begun=True), Outcome(False, "barn: unreachable", begun=False)],
)
async def test_a_lease_is_run_and_its_end_is_reported(
    collector: FakeCollector, tmp_path: Path, outcome: Outcome
) -> None:
    rig = Rig(collector, tmp_path)
    async with running(rig):
        await collector.hears(Heartbeat)
        assert rig.paths is not None
        rig.paths.outcome = outcome
        lease = UplinkLease(lease_id=7, peer=NODE_ID, max_bytes=1000, expires_ms=5000)
        await collector.send(lease)
        (done,) = await collector.hears(LeaseDone)
        assert done == LeaseDone(lease_id=7, ok=outcome.ok, detail=outcome.detail, begun=outcome.begun)
        assert rig.paths.leases == [lease]


async def test_an_unforeseen_error_ends_the_whole_daemon(collector: FakeCollector, tmp_path: Path) -> None:
    rig = Rig(collector, tmp_path)
    async with running(rig) as task:
        await collector.hears(Heartbeat)
        assert rig.paths is not None
        rig.paths.outcome = ZeroDivisionError("a bug")
        await collector.send(UplinkLease(lease_id=7, peer=NODE_ID, max_bytes=1000, expires_ms=5000))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await task


LASTING = ["storing samples", "reading this machine's state", "timing layers"]


@pytest.mark.parametrize("name", LASTING)
async def test_a_part_that_ends_is_reported_in_the_status_and_restarted(
    name: str, collector: FakeCollector, tmp_path: Path
) -> None:
    rig = Rig(collector, tmp_path)
    async with running(rig) as task:
        await collector.hears(Heartbeat)
        assert rig.paths is not None
        supervisor = rig.paths.supervisor
        supervisor._tasks[name].cancel()
        await collector.until(lambda: name in supervisor.troubles and not supervisor.down)
        rig.note("after")
        await collector.until(lambda: rig.notes() == ["after"])
        assert rig.daemon.status().restarted.startswith(f"{name} ended 1 times")
        assert not task.done()


async def test_a_part_that_ends_again_and_again_ends_the_daemon(
    collector: FakeCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "RESTART_DELAY_S", 0.0)
    rig = Rig(collector, tmp_path)

    async def broken() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(rig.daemon, "_watch_host", broken)
    async with running(rig) as task, asyncio.timeout(10):
        with pytest.raises(PartFailed, match="reading this machine's state kept failing, last with ZeroDivision"):
            await task


async def test_measuring_continues_while_the_collector_is_away(collector: FakeCollector, tmp_path: Path) -> None:
    rig = Rig(collector, tmp_path)
    async with running(rig):
        await collector.hears(Heartbeat)
        rig.note("before")
        await collector.until(lambda: rig.notes() == ["before"])
        await collector.stop()
        rig.note("meanwhile")
        assert rig.paths is not None
        assert not rig.paths.closed
        await collector.start()
        await collector.until(lambda: rig.notes() == ["before", "meanwhile"])


async def test_what_was_not_sent_is_sent_by_the_next_start(collector: FakeCollector, tmp_path: Path) -> None:
    await collector.stop()
    first = Rig(collector, tmp_path)
    async with running(first):
        first.note("alone")
    await collector.start()
    second = Rig(collector, tmp_path)
    async with running(second):
        await collector.until(lambda: "alone" in second.notes())


async def test_stopping_hands_in_the_last_samples_and_says_goodbye(collector: FakeCollector, tmp_path: Path) -> None:
    rig = Rig(collector, tmp_path)
    async with running(rig):
        await collector.hears(Heartbeat)
        rig.note("last")
    assert rig.notes() == ["last"]
    assert collector.of(Leaving)
    status = read_status(tmp_path)
    assert status is not None
    assert status.spool_batches == 0


async def test_a_final_refusal_ends_it_with_the_reason(collector: FakeCollector, tmp_path: Path) -> None:
    collector.refuse = Refused(reason="wrong token", final=True)
    rig = Rig(collector, tmp_path)
    async with running(rig) as task:
        assert await task == f"127.0.0.1:{collector.port} refused this probe: wrong token"


async def test_blocked_udp_is_reported_once(collector: FakeCollector, tmp_path: Path) -> None:
    rig = Rig(collector, tmp_path)
    assert rig.paths is not None
    rig.paths.udp_error = "no UDP here"
    async with running(rig):
        await collector.hears(Batch, 1)
        rig.note("later")
        await collector.until(lambda: "later" in rig.notes())
    events = [s for b in collector.of(Batch) for s in b.samples if isinstance(s, EventSample) and s.kind == "udp_off"]
    assert [event.detail for event in events] == ["no UDP here"]


async def test_a_sample_that_no_collector_would_take_does_not_stop_the_others(
    collector: FakeCollector, tmp_path: Path
) -> None:
    rig = Rig(collector, tmp_path)
    async with running(rig):
        await collector.hears(Heartbeat)
        rig.daemon.emit(RooflineSample(at_ns=1, device="d", dtype="fp32", mem_gbps=float("nan"), tflops=1.0))
        rig.note("good")
        await collector.until(lambda: rig.notes() == ["good"])
        assert rig.daemon.status().counters["samples_left_out"] == 1
    assert not [s for b in collector.of(Batch) for s in b.samples if isinstance(s, RooflineSample)]


def test_admit_says_why_a_sample_is_left_out() -> None:
    good = EventSample(at_ns=1, kind="note", detail="")
    negative = EventSample(at_ns=-1, kind="note", detail="")
    long = EventSample(at_ns=1, kind="note", detail="x" * (MAX_DETAIL + 1))
    taken, refused = admissible([good, negative, long])
    assert taken == [good]
    assert [line.split(" - ")[0] for line in refused] == [
        "EventSample: Expected `int` >= 0",
        f"EventSample: Expected `str` of length <= {MAX_DETAIL}",
    ]


def test_a_plan_is_one_line_for_people() -> None:
    assert plan_line(plan()) == "measure 0 of 0 members every 1000 ms"


def test_the_daemon_carries_no_heavy_library() -> None:
    """A fresh interpreter that has imported all a running probe imports, paths and all. The second half of the names
    are what its libraries load for uses that it does not have: a tenth of its memory."""
    script = (
        "import sys, swarm_probe.cli, swarm_probe.daemon, swarm_probe.measure.paths, swarm_probe.owner_reports.status\n"
        "heavy = {'textual', 'rich', 'numpy', 'torch', 'aiohttp', 'sqlite3', 'pynvml', 'aioquic', 'cryptography'}\n"
        "heavy |= {'importlib.metadata', 'zipfile', 'email', 'http.client', 'urllib.request', 'typing_extensions',\n"
        "          'shutil', 'tempfile', 'statistics', 'fractions', 'websockets.asyncio.client'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_layer_timing_leaves_nothing_of_torch_in_this_process() -> None:
    script = "import sys, swarm_probe.compute.supervisor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_no_child_of_this_module_is_left() -> None:
    _, alive = psutil.wait_procs(psutil.Process().children(), timeout=5)
    assert alive == []
