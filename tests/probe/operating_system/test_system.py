"""Figures read from Linux's own files are those that psutil reads there."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import psutil
import pytest

from swarm_probe.machine.host import Host
from swarm_probe.operating_system import system
from swarm_probe.operating_system.readings import Unreadable
from swarm_probe.operating_system.system import Battery, _sysfs_battery
from swarm_protocol.messages.samples import HostSample

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="read from Linux's files")


@on_linux
def test_processor_times_are_between_two_readings_of_psutil() -> None:
    def by_psutil() -> tuple[float, float]:
        times = psutil.cpu_times()
        every = sum(times) - times.guest - times.guest_nice  # they are in user and nice as well
        return every - times.idle - times.iowait, every

    before, (busy, every), after = by_psutil(), system.cpu_times(), by_psutil()
    ticks = 100  # a second (USER_HZ), on all systems that there are
    assert before[0] - 0.1 <= busy / ticks <= after[0] + 0.1
    assert before[1] - 0.1 <= every / ticks <= after[1] + 0.1


@on_linux
def test_memory_is_that_of_psutil() -> None:
    available, total = system.memory_bytes()
    assert total == psutil.virtual_memory().total
    assert available == pytest.approx(psutil.virtual_memory().available, abs=256 << 20)  # others take and free some


@on_linux
@pytest.mark.parametrize(
    ("available", "found"),
    [("MemAvailable: 600 kB\n", 600), ("MemAvailable: 0 kB\n", 100), ("MemAvailable: 5000 kB\n", 100), ("", 100)],
)
def test_available_memory_that_cannot_be_is_the_free_memory(
    available: str, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text(f"MemTotal:       1000 kB\nMemFree:   100 kB\n{available}Buffers: 1 kB\n")
    assert system.memory_bytes() == (found * 1024, 1000 * 1024)


@on_linux
@pytest.mark.parametrize("said", ["", "intr 1 2\n", "cpu0 1 2 3 4 5 6 7\n"])
def test_other_text_than_the_processors_times_is_unreadable(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "STAT", tmp_path / "stat")
    (tmp_path / "stat").write_text(said)
    with pytest.raises(Unreadable):
        system.cpu_times()


def test_the_processors_share_is_what_passed_since_the_last_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(100.0, 1000.0), (150.0, 1200.0), (150.0, 1300.0)])
    monkeypatch.setattr(system, "cpu_times", lambda: next(times))
    host = Host()
    shares = [sample.cpu_percent for _ in range(2) for sample in host.samples(1)[:1] if isinstance(sample, HostSample)]
    assert shares == [25.0, 0.0]


@on_linux
def test_addresses_are_those_of_psutil() -> None:
    found = {(n, a.family, a.address) for n, of in system.interface_addresses().items() for a in of}
    expected = {
        (name, each.family, each.address.partition("%")[0])
        for name, of in psutil.net_if_addrs().items()
        for each in of
        if each.family in (socket.AF_INET, socket.AF_INET6)
    }
    assert found == expected
    assert ("lo", socket.AF_INET, "127.0.0.1") in found


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, None),
        ({"AC/online": "1"}, None),
        ({"BAT0/capacity": "80", "BAT0/status": "Discharging"}, Battery(80.0, False)),
        ({"BAT0/capacity": "80", "BAT0/status": "Charging"}, Battery(80.0, True)),
        ({"BAT0/capacity": "100", "BAT0/status": "Full"}, Battery(100.0, True)),
        ({"BAT0/capacity": "80", "BAT0/status": "Not charging"}, Battery(80.0, None)),
        ({"BAT0/capacity": "80", "BAT0/status": "Discharging", "AC/online": "1"}, Battery(80.0, True)),
        ({"BAT0/capacity": "80", "BAT0/status": "Full", "AC0/online": "0"}, Battery(80.0, False)),
        ({"BAT1/energy_now": "30", "BAT1/energy_full": "40", "BAT1/capacity": "7"}, Battery(75.0, None)),
        ({"BAT0/charge_now": "0", "BAT0/charge_full": "0", "BAT0/capacity": "9"}, Battery(9.0, None)),
        ({"BAT1/capacity": "1", "BAT0/capacity": "2"}, Battery(2.0, None)),
        ({"macsmc-battery/capacity": "50"}, Battery(50.0, None)),
        ({"BAT0/capacity": "lots"}, None),
    ],
)
def test_the_battery_is_the_first_and_its_mains_adapter_comes_first(
    files: dict[str, str], found: Battery | None, tmp_path: Path
) -> None:
    for name, said in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(said + "\n")
    assert _sysfs_battery(tmp_path) == found


def test_a_system_without_power_supplies_raises_what_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        _sysfs_battery(tmp_path / "none")
