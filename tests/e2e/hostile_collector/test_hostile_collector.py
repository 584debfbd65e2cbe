"""A real probe, joined to a collector that wants it to attack others: every packet that leaves its machine is checked.

The probe runs in a network namespace whose only way out is a TUN that this test holds; the collector is in the same
namespace at a public address. Needs root (or user namespaces) on Linux.
"""

from __future__ import annotations

import ipaddress
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from swarm_lab.emulation import netns
from swarm_probe.owner_limits.egress_policy import (
    ALL_DIALS,
    ALL_DIALS_PER_S,
    ALL_TRIES,
    ALL_TRIES_PER_S,
    DIALS,
    DIALS_PER_S,
    TRIES,
    TRIES_PER_S,
)
from swarm_protocol.packets import stamp_packet

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "lab")]
import wire  # noqa: E402 - its folder has just been named
from hostile_collector import FORBIDDEN, KEY, REFLECTED_TO, SSID_IN, VICTIMS  # noqa: E402

WHY_NOT = netns.why_unavailable()
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.skipif(shutil.which("ip") is None, reason="ip is not installed (apt-get install iproute2)"),
    pytest.mark.timeout(90),
]
ATTACK_S = 10.0
OWN = "198.18.0.10"
COLLECTOR = "8.8.8.8"


def test_a_hostile_collector_cannot_aim_a_probe(tmp_path: Path) -> None:
    net = netns.make_host(OWN)
    inside = netns.in_host(net.namespace_fd)
    subprocess.run(["ip", "addr", "add", f"{COLLECTOR}/32", "dev", "lo"], preexec_fn=inside, check=True)
    script = Path(__file__).with_name("hostile_collector.py")
    collector = subprocess.Popen(
        [sys.executable, str(script), COLLECTOR, "9470"], preexec_fn=inside, stdout=subprocess.PIPE, text=True
    )
    assert collector.stdout is not None
    assert collector.stdout.readline() == "ready\n"
    command = ["-m", "swarm_probe", "--join", f"{COLLECTOR}:9470", "--insecure", "--state", str(tmp_path / "state")]
    began = time.monotonic()
    with (tmp_path / "probe.log").open("wb") as log:
        probe = subprocess.Popen([sys.executable, *command], preexec_fn=inside, stdout=log, stderr=log)
    try:
        words = collector.stdout.readline().split()
        sent, injected = capture(net.tun_fd, int(words[1]), ATTACK_S)
        lasted_s = time.monotonic() - began  # of which some packets waited in the TUN
        assert probe.poll() is None, (tmp_path / "probe.log").read_text()
    finally:
        for process in (probe, collector):
            process.kill()
            process.wait()
        collector.stdout.close()
        os.close(net.tun_fd)
        os.close(net.namespace_fd)

    asked: Counter[str] = Counter()
    dialled: set[tuple[str, int]] = set()  # one port of ours a connection, however often the kernel repeats its SYN
    reflected_bytes = 0
    for packet in sent:
        protocol, dst = packet[9], socket.inet_ntoa(packet[16:20])
        assert protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP), f"protocol {protocol} to {dst}"
        own_port, port = struct.unpack_from("!HH", packet, 20)
        assert ipaddress.ip_address(dst).is_global, f"a packet to {dst} left"
        assert dst not in FORBIDDEN
        assert dst in (*VICTIMS, REFLECTED_TO, COLLECTOR), f"a packet to {dst} left"
        assert port >= 1024, f"a packet to {dst} port {port} left"
        if dst == REFLECTED_TO:
            reflected_bytes += len(packet)
        elif protocol == socket.IPPROTO_UDP:
            asked[dst] += 1
        else:
            dialled.add((dst, own_port))
    assert asked.total() > 20, "the probe asked nobody: this proved nothing"
    assert 0 < reflected_bytes <= injected, f"{reflected_bytes} bytes out for {injected} in"
    assert max(asked.values()) <= TRIES + lasted_s * TRIES_PER_S
    assert asked.total() <= ALL_TRIES + lasted_s * ALL_TRIES_PER_S
    assert len(dialled) > 20, "the probe called nobody: this proved nothing"
    assert max(Counter(dst for dst, _ in dialled).values()) <= DIALS + lasted_s * DIALS_PER_S
    assert len(dialled) <= ALL_DIALS + lasted_s * ALL_DIALS_PER_S


def capture(tun_fd: int, udp_port: int, seconds: float) -> tuple[list[bytes], int]:
    """(IPv4 packets that left, bytes that were put in): requests signed with a key that the collector knows, which seem
    to come from somebody who asked for nothing."""
    os.set_blocking(tun_fd, False)
    sent: list[bytes] = []
    injected = seq = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        request = stamp_packet.encode_sender(
            stamp_packet.SenderPacket(
                seq=seq, sent_ntp=stamp_packet.ntp_from_ns(time.time_ns()), error=0, ssid=SSID_IN
            ),
            KEY,
        )
        packet = wire.udp((REFLECTED_TO, 9470), (OWN, udp_port), request)
        os.write(tun_fd, packet)
        injected, seq = injected + len(packet), seq + 1
        while select.select([tun_fd], [], [], 0.005)[0]:
            data = os.read(tun_fd, 4096)
            if data[0] >> 4 == 4:
                sent.append(data)
    return sent, injected
