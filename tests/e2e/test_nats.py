"""Members behind home routers, with real packets: holes punched, reasons reported, and a router that restarts.

Needs root (or user namespaces) on Linux; elsewhere this is skipped with the reason shown.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from swarm_lab.emulation import netns
from swarm_protocol.messages.samples import HopSample, HostSample, LinkSample
from swarm_protocol.units import NS_PER_S
from swarm_storage.store import open_store

WHY_NOT = netns.why_unavailable()
pytestmark = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)), pytest.mark.timeout(120)]

SECONDS = 42
# after a first hop, also where probes start slowly; then up to 8 s of silence, the rest of that window, a whole one
REBOUND_S = 16.0
SCENARIO = f"""
title = "two usual routers, two hard ones"
model = "tiny"
[[host]]
name = "cone-1"
nat = "endpoint-independent"
access = {{ up_mbps = 50.0, down_mbps = 100.0, delay_ms = 8.0, queue_ms = 100.0 }}
[[host]]
name = "cone-2"
nat = "endpoint-independent"
access = {{ up_mbps = 20.0, down_mbps = 100.0, delay_ms = 14.0, queue_ms = 100.0 }}
[[host]]
name = "hard-1"
nat = "symmetric"
access = {{ up_mbps = 50.0, down_mbps = 100.0, delay_ms = 10.0, queue_ms = 100.0 }}
[[host]]
name = "hard-2"
nat = "symmetric"
access = {{ up_mbps = 50.0, down_mbps = 100.0, delay_ms = 5.0, queue_ms = 100.0 }}
[[host]]
name = "collector"
probe = false
access = {{ up_mbps = 1000.0, down_mbps = 1000.0, delay_ms = 2.0, queue_ms = 100.0 }}
[[event]]
at_s = {REBOUND_S}
action = "rebind"
host = "cone-1"
"""
WINDOW_NS = 6 * NS_PER_S
PORT_FOUND = "UDP as the collector sees it: a NAT that holes can be punched through"  # logged for each outside port
KINDS = {
    "cone-1": "endpoint-independent", "cone-2": "endpoint-independent", "hard-1": "symmetric", "hard-2": "symmetric",
}  # fmt: skip


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, object]], Path]:
    """(what `verify` compared with the truth, the database)."""
    folder = tmp_path_factory.mktemp("nats")
    (folder / "nats.toml").write_text(SCENARIO)
    command = [sys.executable, "-m", "swarmtop", "lab", "verify", str(folder / "nats.toml")]
    command += ["--seconds", str(SECONDS), "--json", "--keep", str(folder / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode in (0, 4), done.stderr  # 4: a jittery figure beyond its bound; what counts is asserted below
    return json.loads(done.stdout), folder / "run" / "swarm.db"


@pytest.fixture(scope="module")
def samples(played: tuple[list[dict[str, object]], Path]) -> dict[tuple[str, str], list[object]]:
    """(src, dst or kind) → samples, in order of time."""
    with contextlib.closing(open_store(str(played[1]), read_only=True)) as store:
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
    played: tuple[list[dict[str, object]], Path], samples: dict[tuple[str, str], list[object]]
):
    for src, dst in (("cone-1", "cone-2"), ("cone-2", "cone-1")):
        first = links(samples, src, dst)[0]
        assert (first.path, first.lost) == ("punched", 0)  # knocking before the hole was there is no loss of it
        (row,) = [r for r in played[0] if (r["src"], r["dst"], r["metric"]) == (src, dst, "rtt_p50_ms")]
        assert row["ok"], row
        assert row["truth"] == pytest.approx(44.0, abs=1.5)  # 2 x (8 + 14) ms of wire


def test_a_hop_between_them_went_over_quic(samples: dict[tuple[str, str], list[object]]):
    for pair in (("cone-1", "cone-2"), ("cone-2", "cone-1")):
        hops = [sample for sample in samples[pair] if isinstance(sample, HopSample)]
        assert hops[0].transport == "quic"
        # while the router's new port is looked for there is no hole, and the collector is the way that is left
        outage_ns = min((link.at_ns for link in links(samples, *pair) if link.lost), default=2**63) - WINDOW_NS
        for hop in hops:
            assert hop.transport == "quic" or hop.at_ns > outage_ns
            assert hop.transport == "relay" or 44.0 < hop.min_ms < 60.0


@pytest.mark.parametrize(
    ("src", "dst", "detour_ms"),
    [("hard-1", "hard-2", 38.0), ("hard-2", "hard-1", 38.0), ("cone-1", "hard-1", 44.0), ("hard-2", "cone-2", 46.0)],
)
def test_no_path_has_a_reason_and_the_way_by_the_collector_as_an_estimate(
    src: str, dst: str, detour_ms: float, samples: dict[tuple[str, str], list[object]]
):
    last = links(samples, src, dst)[-1]
    assert (last.path, last.why, last.sent) == ("relayed", "hard-nats", 0)
    assert last.rtt_p50_ms == pytest.approx(detour_ms, abs=4.0)  # two round trips, each with a program's turn in it
    assert last.rtt_p99_ms is None
    assert not any(link.path in ("direct", "punched") for link in links(samples, src, dst))


def test_a_restarted_router_is_noticed_and_the_path_comes_back(
    played: tuple[list[dict[str, object]], Path], samples: dict[tuple[str, str], list[object]]
):
    """The probe finds its new outside port, the peer learns it, and both ends hear each other again.

    How many packets are lost meanwhile depends on when the next STUN keepalive is due: none to 20 s of them.
    """
    log = (played[1].parent / "cone-1" / "probe.log").read_text()
    assert log.count(PORT_FOUND) >= 2, log
    for src, dst in (("cone-1", "cone-2"), ("cone-2", "cone-1")):
        last = links(samples, src, dst)[-1]
        assert last.path == "punched"
        assert 3 * last.lost <= last.sent
