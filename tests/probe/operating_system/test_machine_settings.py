"""What the probe reads of its machine's TCP and of the pressure on its processors, and how viewers show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_probe.operating_system.pressure import cpu_pressure_percent, cpu_waited_s
from swarm_probe.operating_system.readings import Unreadable
from swarm_probe.operating_system.tcp_settings import TcpSettings, tcp_settings
from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.nodes.node_figures import tcp_of
from swarm_protocol.snapshot.swarm import Tcp

PSI = "some avg10={0:.2f} avg60=93.21 avg300=81.23 total={1}\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=7\n"


@pytest.mark.parametrize(
    ("congestion", "after_idle", "shown"),
    [("cubic", "1", Tcp.SHRINKS), ("reno", "0", Tcp.KEEPS), ("bbr", "1", Tcp.PACES), ("bbr3", "0", Tcp.PACES)],
)
def test_the_congestion_control_of_the_machine_is_read_and_reported(congestion, after_idle, shown, tmp_path: Path):
    (tmp_path / "tcp_congestion_control").write_text(f"{congestion}\n")
    (tmp_path / "tcp_slow_start_after_idle").write_text(f"{after_idle}\n")
    found = tcp_settings(tmp_path)
    assert found == TcpSettings(congestion, after_idle == "1")
    sample = HostSample(at_ns=1, tcp=found.congestion, tcp_slow_start_after_idle=found.slow_start_after_idle)
    assert tcp_of(sample) is shown


def test_a_machine_that_does_not_say_is_unknown(tmp_path: Path):
    with pytest.raises(Unreadable):
        tcp_settings(tmp_path)
    assert tcp_of(HostSample(at_ns=1)) is Tcp.UNKNOWN
    with pytest.raises(Unreadable):
        cpu_pressure_percent([tmp_path / "cpu"])


def test_pressure_is_the_machines_or_the_containers_whichever_is_more(tmp_path: Path):
    machine, container, missing = tmp_path / "cpu", tmp_path / "cpu.pressure", tmp_path / "none"
    machine.write_text(PSI.format(12.5, 3_000_000))
    container.write_text(PSI.format(80.0, 1_500_000))
    assert cpu_pressure_percent([machine, missing]) == 12.5
    assert cpu_pressure_percent([machine, container]) == 80.0
    assert cpu_waited_s([machine, container]) == [3.0, 1.5]
