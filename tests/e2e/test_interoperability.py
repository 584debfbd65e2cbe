"""Our figures beside irtt's and iperf3's, over the same emulated paths in the same seconds.

irtt takes its times in user space, so on a busy machine its medians are milliseconds off and only its least figure can
be compared with ours, of packets of the same size; how close the others come on a quiet machine is `python -m bench
paths`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from swarm_lab.emulation import netns
from swarm_lab.emulation.emulator import public_address
from swarm_lab.emulation.scenario import parse_scenario
from swarm_lab.lab import Lab
from swarm_lab.verification.report import stored_samples
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.packets.stamp_packet import EXTENDED_BYTES

WHY_NOT = netns.why_unavailable()
pytestmark = [
    pytest.mark.quiet,
    pytest.mark.root,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.timeout(120),
]

DELAY_MS = 20.0  # each way, by the two accesses below
SCENARIO = """
title = "one path"
[[host]]
name = "a"
access = { up_mbps = 20.0, down_mbps = 100.0, delay_ms = 10.0, queue_ms = 100.0 }
[[host]]
name = "b"
access = { up_mbps = 50.0, down_mbps = 100.0, delay_ms = 10.0, queue_ms = 100.0 }
"""


def on(lab: Lab, host: str, *command: str) -> subprocess.Popen[str]:
    prepare = netns.in_host(lab.hosts[host].net.namespace_fd)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=prepare)


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (apt-get install {program})")


def windows_of(lab: Lab) -> list[LinkSample]:
    """What probe a has reported of its path to b."""
    return [
        sample
        for src, dst, sample in stored_samples(lab.database)
        if isinstance(sample, LinkSample) and (src, dst) == ("a", "b") and sample.rtt_min_ms is not None
    ]


async def until_reported(lab: Lab, at_ns: int) -> list[LinkSample]:
    """Wait for a window that was measured after `at_ns`; return all."""
    found = windows_of(lab)
    async with asyncio.timeout(60):
        while not any(sample.at_ns > at_ns for sample in found):
            await asyncio.sleep(0.2)
            found = windows_of(lab)
    return found


async def test_irtt_sees_the_round_trip_that_we_see(tmp_path: Path) -> None:
    needs("irtt")
    scenario = parse_scenario(SCENARIO)
    address = public_address(scenario.names().index("b"))
    async with Lab(scenario, SCENARIO, tmp_path, lambda _: None) as lab:
        server = on(lab, "b", "irtt", "server", "-b", f"{address}:2112")
        await until_reported(lab, 0)  # both probes run; on a busy machine that takes a while
        began_ns = time.time_ns()
        size = ("-l", str(EXTENDED_BYTES))  # each byte takes its time on the way up
        client = on(lab, "a", "irtt", "client", "-q", "-i", "50ms", "-d", "6s", *size, "-o", "-", f"{address}:2112")
        out, _ = await asyncio.to_thread(client.communicate)
        ours = await until_reported(lab, began_ns)
        server.kill()
        server.wait()
    theirs = json.loads(out[out.index("{") :])["stats"]
    least_ms = min(sample.rtt_min_ms or 0 for sample in ours)
    assert least_ms >= 2 * DELAY_MS  # the emulator delivers nothing earlier
    assert least_ms == pytest.approx(theirs["rtt"]["min"] / 1e6, abs=0.5)
    assert sum(sample.lost for sample in ours) == 0
    assert all(sample.timestamps == "kernel" for sample in ours)
    assert all(sample.ttl_out == sample.ttl_back == 255 for sample in ours)  # the emulator is no router


async def test_iperf3_carries_as_much_as_our_trains_and_our_transfer_say(tmp_path: Path) -> None:
    needs("iperf3")
    text = SCENARIO.replace('"a"\n', '"a"\nprobe = false\n').replace('"b"\n', '"b"\nprobe = false\n')
    scenario = parse_scenario(text)
    own, address = (public_address(scenario.names().index(name)) for name in "ab")
    async with Lab(scenario, text, tmp_path, lambda _: None) as lab:
        lab.start("b", ["-m", "bench.support.processes.uplink_end", "serve", address], "end.log")
        server = on(lab, "b", "iperf3", "-s", "-1")
        await asyncio.sleep(1.5)
        client = on(lab, "a", "iperf3", "-c", address, "-t", "2", "-O", "1", "-J")
        out, _ = await asyncio.to_thread(client.communicate)
        server.wait()
        said = {}
        for way, options in (("udp", []), ("tcp", ["--no-trains"])):
            arguments = ["-m", "bench.support.processes.uplink_end", "send", own, address, str(4 << 20), *options]
            ours = lab.start("a", arguments, "x", talk=True)
            said[way], _ = await asyncio.to_thread(ours.communicate)
    theirs_mbps = json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e6
    for way, line in said.items():
        transfer = json.loads(line)
        assert (transfer["transport"], transfer["bound"]) == (way, False)
        assert transfer["mbps"] == pytest.approx(theirs_mbps, rel=0.05)
