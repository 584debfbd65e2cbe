"""Members behind home routers, with real packets: holes punched, reasons reported, and a router that restarts.

Needs root (or user namespaces) on Linux; elsewhere this is skipped with the reason shown.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import nat_run
import pytest
from nat_run import KINDS, PORT_FOUND, PUNCHED, RESTARTED

from swarm_lab.emulation import netns
from swarm_protocol.messages.samples import HopSample, HostSample, LinkSample
from swarm_storage.store import open_store

WHY_NOT = netns.why_unavailable()
pytestmark = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)), pytest.mark.timeout(240)]

SCENARIO = """
title = "two usual routers, two hard ones"
model = "tiny"
[[host]]
name = "cone-1"
nat = "endpoint-independent"
access = { up_mbps = 50.0, down_mbps = 100.0, delay_ms = 8.0, queue_ms = 100.0 }
[[host]]
name = "cone-2"
nat = "endpoint-independent"
access = { up_mbps = 20.0, down_mbps = 100.0, delay_ms = 14.0, queue_ms = 100.0 }
[[host]]
name = "hard-1"
nat = "symmetric"
access = { up_mbps = 50.0, down_mbps = 100.0, delay_ms = 10.0, queue_ms = 100.0 }
[[host]]
name = "hard-2"
nat = "symmetric"
access = { up_mbps = 50.0, down_mbps = 100.0, delay_ms = 5.0, queue_ms = 100.0 }
[[host]]
name = "collector"
probe = false
access = { up_mbps = 1000.0, down_mbps = 1000.0, delay_ms = 2.0, queue_ms = 100.0 }
[[event]]
at_s = 0
action = "rebind"
host = "cone-1"
"""


@dataclass(frozen=True)
class Played:
    rows: list[dict[str, object]]  # what was compared with the truth
    restarted_ns: int  # when the router of RESTARTED was
    folder: Path


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("nats")
    command = [sys.executable, nat_run.__file__, str(folder), SCENARIO]
    done = subprocess.run(command, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return Played(told["rows"], told["restarted_ns"], folder)


@pytest.fixture(scope="module")
def samples(played: Played) -> dict[tuple[str, str], list[object]]:
    """(src, dst or kind) → samples, in order of time."""
    with contextlib.closing(open_store(str(played.folder / "swarm.db"), read_only=True)) as store:
        names = {row.node_id: row.name for row in store.reader.nodes()}
        found: dict[tuple[str, str], list[object]] = defaultdict(list)
        for node_id, sample in store.reader.samples(0, 2**62, ("link", "hop", "host")):
            to = "host" if isinstance(sample, HostSample) else names[sample.peer]  # type: ignore[union-attr]
            found[names[node_id], to].append(sample)
    return found


def links(samples: dict[tuple[str, str], list[object]], src: str, dst: str) -> list[LinkSample]:
    return [sample for sample in samples[src, dst] if isinstance(sample, LinkSample)]


def test_each_probe_learns_what_router_it_is_behind(samples: dict[tuple[str, str], list[object]]):
    for name, nat in KINDS.items():
        last = samples[name, "host"][-1]
        assert isinstance(last, HostSample)
        assert last.nat == nat


def test_two_usual_routers_are_punched_through_and_the_round_trip_is_the_truth(
    played: Played, samples: dict[tuple[str, str], list[object]]
):
    for src, dst in PUNCHED:
        first = links(samples, src, dst)[0]
        assert (first.path, first.lost) == ("punched", 0)  # knocking before the hole was there is no loss of it
        (row,) = [r for r in played.rows if (r["src"], r["dst"], r["metric"]) == (src, dst, "rtt_p50_ms")]
        assert row["ok"], row
        assert row["truth"] == pytest.approx(44.0, abs=1.5)  # 2 x (8 + 14) ms of wire


def test_a_hop_between_them_went_over_quic(played: Played, samples: dict[tuple[str, str], list[object]]):
    for pair in PUNCHED:
        hops = [sample for sample in samples[pair] if isinstance(sample, HopSample)]
        assert hops[0].transport == "quic"
        # while the router's new port is looked for there is no hole, and the collector is the way that is left
        for hop in hops:
            assert hop.transport == "quic" or hop.at_ns > played.restarted_ns
            assert hop.transport == "relay" or 44.0 < hop.min_ms < 60.0


@pytest.mark.parametrize(
    ("src", "dst", "detour_ms"),
    [("hard-1", "hard-2", 38.0), ("hard-2", "hard-1", 38.0), ("cone-1", "hard-1", 44.0), ("hard-2", "cone-2", 46.0)],
)
def test_no_path_has_a_reason_and_the_way_by_the_collector_as_an_estimate(
    src: str, dst: str, detour_ms: float, samples: dict[tuple[str, str], list[object]]
):
    """Until both ends know their routers and their ways to the collector, there is no path and no reason to give."""
    windows = links(samples, src, dst)
    assert not any(window.path in ("direct", "punched") for window in windows)
    told = [(window.path, window.why, window.sent) for window in windows]
    reason = ("relayed", "hard-nats", 0)
    assert reason in told
    assert set(told[told.index(reason) :]) == {reason}
    assert windows[-1].rtt_p50_ms == pytest.approx(detour_ms, abs=4.0)  # two round trips, each with a program's turn
    assert windows[-1].rtt_p99_ms is None


def test_a_restarted_router_is_noticed_and_the_path_comes_back(
    played: Played, samples: dict[tuple[str, str], list[object]]
):
    """The probe finds its new outside port, the peer learns it, and both ends hear each other again.

    How many packets are lost meanwhile depends on when the next STUN keepalive is due: none to 20 s of them.
    """
    log = (played.folder / RESTARTED / "probe.log").read_text()
    assert log.count(PORT_FOUND) >= 2, log
    for pair in PUNCHED:
        after = [link for link in links(samples, *pair) if link.at_ns > played.restarted_ns]
        assert any(nat_run.is_back(link, played.restarted_ns) for link in after), after
