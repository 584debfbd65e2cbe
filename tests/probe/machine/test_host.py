"""The machine's own state: figures that are there, None for those that are not, never an invented zero."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from swarm_probe.machine.contention import CALM_LOOKS, PATIENCE_LOOKS, Contention
from swarm_probe.machine.gpu import Gpus
from swarm_probe.machine.host import Host, cpu_name, memory, torch_version
from swarm_probe.operating_system.interfaces import addresses
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.probe_messages import Hello, decode_from_probe
from swarm_protocol.messages.samples import EventSample, HostSample


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class FakeNvml:
    """The calls of pynvml that we make, on cards the test describes."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupported
    NVMLError_NoPermission = NotSupported
    NVMLError_FunctionNotFound = NotSupported
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    def __init__(self, *cards: dict[str, Any]) -> None:
        self.cards = cards
        self.lost = False

    def nvmlInit(self) -> None:
        pass

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.1"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.cards[index]

    def _ask(self, handle: dict[str, Any], key: str) -> Any:
        if self.lost:
            raise NVMLError("GPU is lost")
        if key not in handle:
            raise NotSupported("Not Supported")
        return handle[key]

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> str:
        return str(self._ask(handle, "name"))

    def nvmlDeviceGetUtilizationRates(self, handle: dict[str, Any]) -> Any:
        return SimpleNamespace(gpu=self._ask(handle, "util"))

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:
        free, total = self._ask(handle, "memory")
        return SimpleNamespace(free=free, total=total)

    def nvmlDeviceGetTemperature(self, handle: dict[str, Any], sensor: int) -> int:
        return int(self._ask(handle, "temp"))

    def nvmlDeviceGetPowerUsage(self, handle: dict[str, Any]) -> int:
        return int(self._ask(handle, "power_mw"))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: dict[str, Any]) -> int:
        return int(self._ask(handle, "reasons"))

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: dict[str, Any]) -> int:
        return int(self._ask(handle, "limit_mw"))

    def nvmlDeviceGetClockInfo(self, handle: dict[str, Any], which: int) -> int:
        return int(self._ask(handle, "clocks")[which - 1])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: dict[str, Any]) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self._ask(handle, "pids")]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: dict[str, Any]) -> list[Any]:
        return []

    def nvmlDeviceGetUUID(self, handle: dict[str, Any]) -> str:
        return str(self._ask(handle, "uuid"))


def card(**more: Any) -> dict[str, Any]:
    usual = {"name": "RTX 3090", "util": 40, "memory": (10 << 30, 24 << 30), "temp": 61, "power_mw": 250_500}
    state = {"limit_mw": 350_000, "clocks": (1695, 9751), "pids": (), "uuid": "GPU-1"}
    return {**usual, **state, "reasons": 0, **more}


def test_a_machine_without_a_card_gives_one_sample_without_gpu_fields() -> None:
    (sample,) = Host(Gpus(FakeNvml())).samples(5)
    assert isinstance(sample, HostSample)
    assert sample.at_ns == 5
    assert 0 < sample.ram_free_bytes < sample.ram_total_bytes
    assert (sample.gpu, sample.vram_total_bytes, sample.power_w, sample.throttled) == (None, None, None, None)


def test_every_card_is_a_sample_with_its_own_name() -> None:
    samples = Host(Gpus(FakeNvml(card(), card(util=90)))).samples(5)
    assert [(s.gpu, s.gpu_util_percent) for s in samples if isinstance(s, HostSample)] == [
        ("RTX 3090 #0", 40.0),
        ("RTX 3090 #1", 90.0),
    ]
    first = samples[0]
    assert isinstance(first, HostSample)
    assert (first.vram_free_bytes, first.vram_total_bytes, first.temp_c) == (10 << 30, 24 << 30, 61.0)
    assert first.power_w == 250.5
    assert first.throttled is False


def test_a_figure_the_card_does_not_give_is_none_and_the_others_stay() -> None:
    bare = {"name": "Orin", "util": 3}
    (sample,) = Host(Gpus(FakeNvml(bare))).samples(5)
    assert isinstance(sample, HostSample)
    assert (sample.gpu, sample.gpu_util_percent) == ("Orin", 3.0)
    assert (sample.vram_free_bytes, sample.temp_c, sample.power_w, sample.throttled) == (None, None, None, None)


def test_throttling_is_an_event_when_it_begins_and_the_power_limit_is_not_throttling() -> None:
    nvml = FakeNvml(card(reasons=0x4))
    host = Host(Gpus(nvml))
    assert [type(s) for s in host.samples(1)] == [HostSample]
    nvml.cards[0]["reasons"] = 0x20
    sample, event = host.samples(2)
    assert isinstance(sample, HostSample)
    assert sample.throttled is True
    assert event == EventSample(
        at_ns=2, kind="throttled", detail="RTX 3090 is held below its power limit at 61 °C (heat (software))"
    )
    assert [type(s) for s in host.samples(3)] == [HostSample]


def test_a_lost_card_leaves_the_machines_own_figures_and_is_looked_for_again() -> None:
    nvml = FakeNvml(card())
    host = Host(Gpus(nvml))
    host.samples(1)
    nvml.lost = True
    (sample,) = host.samples(2)
    assert isinstance(sample, HostSample)
    assert sample.gpu is None
    assert host.gpu_problem == "NVML: GPU is lost"
    nvml.lost = False
    (sample,) = host.samples(3)
    assert isinstance(sample, HostSample)
    assert sample.gpu == "RTX 3090"
    assert host.gpu_problem is None


def test_facts_pass_the_collectors_gate() -> None:
    facts = Host(Gpus(FakeNvml(card(name="\x1b[31mcard")))).facts()
    hello = Hello(
        protocol=1,
        public_key=b"k" * 32,
        name="n",
        epoch=1,
        udp_port=0,
        tcp_port=0,
        addresses=addresses(),
        software="t",
        facts=facts,
    )
    assert decode_from_probe(encode(hello)) == hello
    assert facts.gpus[0].name == "?[31mcard"


def test_memory_is_that_of_the_container_if_less(tmp_path: Path) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text("1000000\n")
    used.write_text("400000\n")
    found = memory(((str(limit), str(used)),))
    assert (found.free_bytes, found.total_bytes) == (600_000, 1_000_000)
    limit.write_text("max\n")
    assert memory(((str(limit), str(used)),)).total_bytes == psutil.virtual_memory().total


def test_cpu_name_is_read_where_linux_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t: x\n")
    assert cpu_name(tmp_path / "cpuinfo") == "AMD EPYC 7B13"
    assert cpu_name(tmp_path / "nothing") != ""


def test_torch_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "version.py").write_text("__version__ = '9.8.7+cpu'\n")
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    assert torch_version() == "9.8.7+cpu"


def test_throttling_reasons_and_other_processes_on_the_card_are_reported() -> None:
    nvml = FakeNvml(card(reasons=0x4 | 0x40, pids=(os.getpid(), 17, 99)))
    (reading,) = Gpus(nvml, ours=lambda: frozenset({17})).read()
    assert reading.throttle == "power limit, heat (hardware)"
    assert (reading.sm_clock_mhz, reading.mem_clock_mhz, reading.power_limit_w) == (1695.0, 9751.0, 350.0)
    assert (reading.others, reading.driver, reading.uuid) == (1, "580.1", "GPU-1")
    (sample, _event) = Host(Gpus(nvml)).samples(1)
    assert isinstance(sample, HostSample)
    assert (sample.clock_mhz, sample.throttle, sample.others) == (1695.0, reading.throttle, 2)


def test_a_busy_card_is_waited_for_and_marked_where_it_stays_busy() -> None:
    nvml = FakeNvml(card(util=80))
    contention = Contention(Gpus(nvml))
    assert contention.in_the_way() == "RTX 3090, which others use at 80 %"
    looks: list[float] = []
    contention.wait_for_calm(looks.append)
    assert len(looks) == PATIENCE_LOOKS
    assert "contended" in contention.marks("GPU-1")

    def quieter(seconds: float) -> None:
        looks.append(seconds)
        nvml.cards[0]["util"] = 0

    looks.clear()
    contention.wait_for_calm(quieter)
    assert len(looks) == CALM_LOOKS
    nvml.cards[0]["reasons"] = 0x40
    assert "contended" not in contention.marks("GPU-1")
    assert "throttled" in contention.marks("GPU-1")
    assert "throttled" not in contention.marks("GPU-of-another")
