"""A machine that does not report its state is measured all the same; the status says what is missing, and why.

Each case hides a part of the system from a real `swarm-probe` in a mount namespace of its own. Needs root on Linux.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from fake_collector import FakeCollector

from swarm_probe.compute import child
from swarm_probe.machine import host as host_module
from swarm_probe.machine.gpu import Gpus
from swarm_probe.machine.host import Host
from swarm_probe.operating_system import processes, system
from swarm_probe.operating_system.cpu_quota import quota_of_this_process
from swarm_probe.operating_system.interfaces import addresses
from swarm_probe.owner_reports.status import read_status
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import Batch, Hello, decode_from_probe
from swarm_protocol.messages.samples import HostSample
from swarm_protocol.snapshot.nodes.node_figures import host_figures, memory_bytes

CAN_UNSHARE = sys.platform.startswith("linux") and os.geteuid() == 0 and (
    subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0
)  # fmt: skip
EMPTY = "e=$(mktemp); "  # a file that says nothing
GARBAGE = "g=$(mktemp); printf '\\377\\000cpu x y\\nMemTotal: lots\\n' > $g; "

CASES = {
    "no /sys": ("mount -t tmpfs none /sys", ["battery – (/sys/class/power_supply: no such file or directory)"]),
    "no power supplies": (
        "mount -t tmpfs none /sys/class",
        ["battery – (/sys/class/power_supply: no such file or directory)"],
    ),
    "no /proc": (
        "mount -t tmpfs none /proc",
        ["processor – (/proc/stat: no", "memory – (/proc/meminfo: no", "other programs' traffic – (/proc/net/dev: no"],
    ),
    "neither": ("mount -t tmpfs none /sys; mount -t tmpfs none /proc", ["processor – (", "memory – (", "battery – ("]),
    "/proc/stat empty": (EMPTY + "mount --bind $e /proc/stat", ["processor – ("]),
    "/proc/stat garbage": (GARBAGE + "mount --bind $g /proc/stat", ["processor – ("]),
    "/proc/stat stands still": ("s=$(mktemp); cat /proc/stat > $s; mount --bind $s /proc/stat", ["processor – (the"]),
    "/proc/meminfo empty": (EMPTY + "mount --bind $e /proc/meminfo", ["memory – ("]),
    "/proc/meminfo garbage": (GARBAGE + "mount --bind $g /proc/meminfo", ["memory – ("]),
    "/proc/net/dev empty": (EMPTY + "mount --bind $e /proc/self/net/dev", ["processor "]),
    "/proc/cpuinfo garbage": (GARBAGE + "mount --bind $g /proc/cpuinfo", ["memory "]),
    "cgroups garbage": ("mount -t tmpfs none /sys/fs/cgroup; echo max x y > /sys/fs/cgroup/memory.max", ["memory "]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.root
@pytest.mark.skipif(not CAN_UNSHARE, reason="needs root and mount namespaces")
async def test_a_probe_continues_if_the_system_does_not_report(case: str, tmp_path: Path) -> None:
    hide, shown = CASES[case]
    collector = await FakeCollector().start()
    state = tmp_path / "state"
    command = f"{hide}; exec {sys.executable} -m swarm_probe --join 127.0.0.1:{collector.port} --state {state}"
    probe = await asyncio.create_subprocess_exec("unshare", "-m", "sh", "-c", command, stderr=subprocess.PIPE)
    try:
        (hello,) = await collector.hears(Hello)
        batches = await collector.hears(Batch)
        hosts = [sample for batch in batches for sample in batch.samples if isinstance(sample, HostSample)]
        assert hosts
        async with asyncio.timeout(25):
            while not all(each in (said := _machine(state)) for each in shown):
                assert probe.returncode is None
                await asyncio.sleep(0.2)
        if "processor – (/proc" in said:
            assert hosts[0].cpu_percent is None
        if "memory – (" in said:
            assert hosts[0].ram_free_bytes is hosts[0].ram_total_bytes is None
            assert hello.facts.ram_bytes == 0
    finally:
        probe.send_signal(signal.SIGTERM)
        async with asyncio.timeout(90):
            _, stderr = await probe.communicate()
        await collector.stop()
    assert probe.returncode == 0, stderr
    assert not (state / "crash.log").exists()


def _machine(state: Path) -> str:
    status = read_status(state)
    return status.machine if status is not None else ""


# ---------------------------------------------------------------- the system raising anything


RAISES = [OSError(13, "Permission denied"), KeyError("MemTotal"), IndexError(), ValueError("x"), RuntimeError(),
          NotImplementedError(), psutil.AccessDenied(1), ZeroDivisionError(), AttributeError("x")]  # fmt: skip


@pytest.mark.parametrize("error", RAISES, ids=lambda error: type(error).__name__)
def test_whatever_is_raised_the_sample_comes_and_the_reason_is_shown(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    for name in ("cpu_times", "memory_bytes", "battery", "interface_addresses"):
        monkeypatch.setattr(system, name, fails)
    host = Host(Gpus(nvml=_NoCards()))
    (sample,) = host.samples(7)
    assert isinstance(sample, HostSample)
    assert (sample.cpu_percent, sample.ram_free_bytes, sample.ram_total_bytes, sample.on_battery) == (None,) * 4
    said = host.lines()
    assert all(f"{what} – (" in said for what in ("processor", "memory", "battery"))
    assert decode_from_probe(encode(Batch(epoch=1, seq=1, samples=(sample,))))
    assert addresses(interfaces=fails) == ()
    assert host.facts().ram_bytes == 0


def test_a_driver_that_raises_anything_is_a_problem_and_one_figure_that_does_is_missing() -> None:
    class Odd(_NoCards):
        def nvmlDeviceGetCount(self) -> int:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")

    gpus = Gpus(nvml=Odd())
    assert gpus.read() == ()
    assert gpus.problem is not None
    assert gpus.problem.startswith("NVML: UnicodeDecodeError")


class _NoCards:
    """pynvml, of a machine whose driver knows no card."""

    NVMLError = NVMLError_NotSupported = NVMLError_NoPermission = NVMLError_FunctionNotFound = LookupError

    def nvmlInit(self) -> None:
        pass

    def nvmlSystemGetDriverVersion(self) -> str:
        return "1"

    def nvmlDeviceGetCount(self) -> int:
        return 0


@pytest.mark.parametrize("text", ["", "0::", "nonsense\n", "0::/\n1:cpu\n", "\xff\n", "0::/a/b\n"])
@pytest.mark.parametrize("limit", ["", "max", "100000", "x 100000", "0 0", "100000 0", "-1 100000", "50000 100000"])
def test_odd_cgroups_are_no_quota(text: str, limit: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text(text, encoding="latin-1")
    (tmp_path / "cgroup.controllers").write_text("cpu")
    (tmp_path / "cpu.max").write_text(limit)
    quota = quota_of_this_process(tmp_path, own)
    assert quota is None or (quota.cores, quota.period_s) == (0.5, 0.1)


def test_memory_that_is_not_known_is_none_in_every_figure_made_of_it() -> None:
    facts = Host(Gpus(nvml=_NoCards())).facts()
    unknown = msgspec.structs.replace(facts, ram_bytes=0)
    assert memory_bytes(unknown) != memory_bytes(unknown)  # NaN
    figures = host_figures([HostSample(at_ns=1)], unknown)
    assert figures["cpu_percent"] is figures["ram_free_bytes"] is figures["vram_free_bytes"] is None


def test_without_meminfo_layers_may_take_half_of_the_unused_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Any:
        raise KeyError("MemTotal")

    known = host_module.memory().free_bytes
    monkeypatch.setattr(child, "memory", fails)
    free, why = child.free_bytes()
    assert why == "KeyError: 'MemTotal'"
    assert free is None or 0 < free <= 1.1 * known


def test_if_processes_cannot_be_watched_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ProcessLookupError("no process 1")

    assert child.why_unwatched() is None
    monkeypatch.setattr(processes, "tree_s", fails)
    assert "cannot be watched here" in (child.why_unwatched() or "")
