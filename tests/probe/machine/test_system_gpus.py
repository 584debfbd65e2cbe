"""AMD, Intel and Apple: named with their memory, from what their drivers and systems show (recorded readings)."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from swarm_probe.machine.gpu import Gpus
from swarm_probe.machine.host import Host
from swarm_probe.machine.system_gpus import AllGpus, SystemGpus
from swarm_probe.machine.vendors.apple import AppleGpu, LastAnswer, load_percent
from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import ComputeSample, HostSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import Swarm

A = "a" * 16
GIB = 1 << 30
IDS = "# List of AMDGPU IDs\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tAMD Radeon RX 7900 XT\n"
# /sys/class/drm/card*/device (".." is the card) as kernel 6.8 to 6.17 lay it out: the files that are asked for
XTX = {
    "vendor": "0x1002", "device": "0x744c", "revision": "0xc8", "unique_id": "c3a5d1f0b2e49786",
    "mem_info_vram_total": "25753026560", "mem_info_vram_used": "1610612736", "gpu_busy_percent": "7",
    "pp_dpm_sclk": "0: 500Mhz \n1: 2304Mhz *\n2: 2525Mhz \n",
    "hwmon/hwmon3/name": "amdgpu",
    "hwmon/hwmon3/temp1_input": "48000", "hwmon/hwmon3/temp1_label": "edge",
    "hwmon/hwmon3/temp2_input": "56000", "hwmon/hwmon3/temp2_label": "junction",
    "hwmon/hwmon3/temp3_input": "60000", "hwmon/hwmon3/temp3_label": "mem",
    "hwmon/hwmon3/power1_average": "61000000", "hwmon/hwmon3/power1_label": "PPT",
    "hwmon/hwmon3/power1_cap": "339000000",
    "hwmon/hwmon3/freq1_input": "2304000000", "hwmon/hwmon3/freq1_label": "sclk",
    "hwmon/hwmon3/freq2_input": "1249000000", "hwmon/hwmon3/freq2_label": "mclk",
}  # fmt: skip
MI300X = {  # no edge sensor, and power as it is at the moment
    "vendor": "0x1002", "device": "0x74a1", "revision": "0x00", "mem_info_vram_total": "206141652992",
    "mem_info_vram_used": "297000000", "product_name": "AMD Instinct MI300X OAM", "gpu_busy_percent": "0",
    "pp_dpm_sclk": "S: 132Mhz *\n0: 500Mhz \n1: 2100Mhz \n",
    "hwmon/hwmon7/name": "amdgpu",
    "hwmon/hwmon7/temp2_input": "41000", "hwmon/hwmon7/temp2_label": "junction",
    "hwmon/hwmon7/temp3_input": "35000", "hwmon/hwmon7/temp3_label": "mem",
    "hwmon/hwmon7/power1_input": "134000000", "hwmon/hwmon7/power1_cap": "750000000",
}  # fmt: skip
RAPHAEL = {"vendor": "0x1002", "device": "0x164e", "mem_info_vram_total": "2147483648", "mem_info_vram_used": "0"}
STRIX_HALO = {
    "vendor": "0x1002", "device": "0x1586", "mem_info_vram_total": "536870912", "mem_info_vram_used": "0",
    "gpu_busy_percent": "63", "hwmon/hwmon2/name": "amdgpu", "hwmon/hwmon2/temp1_input": "55000",
    "hwmon/hwmon2/temp1_label": "edge", "hwmon/hwmon2/power1_input": "71000000",
    "hwmon/hwmon2/freq1_input": "2740000000", "hwmon/hwmon2/freq1_label": "sclk",
}  # fmt: skip
B580 = {  # xe
    "vendor": "0x8086", "device": "0xe20b", "tile0/physical_vram_size_bytes": "12884901888",
    "resource": "0x6001000000 0x6001ffffff 0x140204\n0x0 0x0 0x0\n0x6000000000 0x62ffffffff 0x14220c\n",
    "tile0/gt0/freq0/act_freq": "2400", "tile0/gt0/freq0/cur_freq": "2850",
    "tile0/gt0/freq0/throttle/status": "0", "tile0/gt0/freq0/throttle/reason_pl1": "0",
    "tile0/gt0/freq0/throttle/reason_thermal": "0", "tile0/gt1/freq0/act_freq": "0",
    "hwmon/hwmon5/name": "xe", "hwmon/hwmon5/energy1_input": "100000000", "hwmon/hwmon5/energy1_label": "card",
    "hwmon/hwmon5/energy2_input": "70000000", "hwmon/hwmon5/energy2_label": "pkg",
    "hwmon/hwmon5/temp2_input": "52000", "hwmon/hwmon5/temp2_label": "pkg",
    "hwmon/hwmon5/temp3_input": "58000", "hwmon/hwmon5/temp3_label": "vram",
    "hwmon/hwmon5/power1_max": "0", "hwmon/hwmon5/power2_max": "190000000",
}  # fmt: skip
A770 = {  # i915; a second folder of sensors for its GT
    "vendor": "0x8086", "device": "0x56a0", "../lmem_total_bytes": "17079205888",
    "../lmem_avail_bytes": "16079205888", "../gt_act_freq_mhz": "2400", "../gt/gt0/rps_act_freq_mhz": "2400",
    "../gt/gt0/throttle_reason_status": "1", "../gt/gt0/throttle_reason_pl1": "1",
    "../gt/gt0/throttle_reason_thermal": "1", "../gt/gt0/throttle_reason_prochot": "0",
    "hwmon/hwmon2/name": "i915_gt0", "hwmon/hwmon2/energy1_input": "1",
    "hwmon/hwmon4/name": "i915", "hwmon/hwmon4/energy1_input": "500000000", "hwmon/hwmon4/temp1_input": "61000",
    "hwmon/hwmon4/power1_max": "190000000",
}  # fmt: skip
ARC = {key: B580[key] for key in ("vendor", "device", "resource")}  # what old kernels give
IRIS = {"vendor": "0x8086", "device": "0x9a49"}
IOREG = """\
+-o AGXAcceleratorG14X  <class AGXAcceleratorG14X, id 0x100000503, registered, matched, active, busy 0, retain 97>
    {
      "IOClass" = "AGXAcceleratorG14X"
      "model" = "Apple M2 Max"
      "gpu-core-count" = 38
      "PerformanceStatistics" = {"In use system memory (driver)"=0,"Alloc system memory"=5296701440,"Tiler Utilization \
%"=21,"recoveryCount"=0,"Renderer Utilization %"=36,"Device Utilization %"=37,"In use system memory"=1236380160}
    }
"""
POWERMETRICS = """\
**** GPU usage ****

GPU HW active frequency: 1398 MHz
GPU HW active residency:  87.66% (444 MHz:   0% 612 MHz:   0% 808 MHz:   0% 1398 MHz:  88%)
GPU idle residency:  12.34%
GPU Power: 21874 mW
"""


def system(
    root: Path, *cards: dict[str, str], ids: str = IDS, clock_s: Callable[[], float] = time.monotonic
) -> SystemGpus:
    for i, files in enumerate(cards):
        for name, text in files.items():
            path = root / f"sys/class/drm/card{i}/device" / name
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            (root / f"sys/class/drm/card{i}/device").mkdir(exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
    (root / "sys/class/drm/card0-DP-1").mkdir(parents=True, exist_ok=True)  # a connector is no card
    table = root / "usr/share/libdrm/amdgpu.ids"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(ids)
    return SystemGpus(root, clock_s=clock_s)


def metrics_1_3(reasons: int) -> bytes:
    """Return a `struct gpu_metrics_v1_3`: its header, and at byte 112 what holds the clock down."""
    return struct.pack("<HBB108xQ", 120, 1, 3, reasons)


def test_an_amd_card_gives_every_figure(tmp_path: Path) -> None:
    (card,) = system(tmp_path, XTX).read()
    assert (card.name, card.vram_total_bytes) == ("AMD Radeon RX 7900 XTX", 25753026560)
    assert card.vram_free_bytes == 25753026560 - 1610612736
    assert (card.util_percent, card.temp_c, card.power_w, card.power_limit_w) == (7, 48, 61, 339)
    assert (card.sm_clock_mhz, card.mem_clock_mhz, card.uuid) == (2304, 1249, "c3a5d1f0b2e49786")
    assert card.untold == ""
    assert card.throttled is None  # no gpu_metrics


def test_an_instinct_has_its_junction_and_its_momentary_power(tmp_path: Path) -> None:
    (card,) = system(tmp_path, MI300X).read()
    assert (card.temp_c, card.power_w, card.sm_clock_mhz, card.util_percent) == (41, 134, 132, 0)
    assert card.untold == ""


@pytest.mark.parametrize(
    ("reasons", "throttled", "words"),
    [
        (0, False, ""),
        (1 << 0, False, "power limit"),
        (1 << 16 | 1 << 36, True, "current limit, heat (software)"),
        (1 << 47, True, "heat (hardware)"),
        (2**64 - 1, None, None),  # the firmware does not fill it
    ],
)
def test_what_holds_an_amd_clock_down(tmp_path: Path, reasons: int, throttled: bool | None, words: str | None) -> None:
    gpus = system(tmp_path, XTX)
    metrics = tmp_path / "sys/class/drm/card0/device/gpu_metrics"
    metrics.write_bytes(metrics_1_3(reasons))
    assert (gpus.read()[0].throttled, gpus.read()[0].throttle) == (throttled, words)
    metrics.write_bytes(struct.pack("<HBB132x", 136, 1, 4))  # of an Instinct: its bits mean other things
    assert (gpus.read()[0].throttled, gpus.read()[0].throttle) == (None, None)


def test_an_intel_card_of_xe_gives_power_from_its_energy(tmp_path: Path) -> None:
    now = [10.0]
    gpus = system(tmp_path, B580, clock_s=lambda: now[0])
    (first,) = gpus.read()
    assert (first.name, first.vram_total_bytes, first.temp_c) == ("Intel Arc B580", 12 * GIB, 52)
    assert (first.sm_clock_mhz, first.power_limit_w, first.power_w) == (2400, 190, None)
    assert (first.throttled, first.throttle) == (False, "")
    now[0] = 12.0
    (tmp_path / "sys/class/drm/card0/device/hwmon/hwmon5/energy1_input").write_text("340000000\n")
    (second,) = gpus.read()
    assert second.power_w == 120
    assert second.untold == "load, memory: Intel's drivers count it for each process"
    now[0] = 14.0
    (tmp_path / "sys/class/drm/card0/device/hwmon/hwmon5/energy1_input").write_text("5\n")  # driver reloaded
    assert gpus.read()[0].power_w is None


def test_an_intel_card_of_i915_says_what_it_can(tmp_path: Path) -> None:
    (card,) = system(tmp_path, A770).read()
    assert (card.name, card.vram_total_bytes, card.vram_free_bytes) == ("Intel Arc A770", 17079205888, 16079205888)
    assert (card.temp_c, card.sm_clock_mhz, card.power_limit_w) == (61, 2400, 190)
    assert (card.throttled, card.throttle) == (True, "heat (software), power limit")
    assert card.untold == "load: Intel's drivers count it for each process"


@pytest.mark.parametrize(
    ("files", "name", "gib"),
    [
        (MI300X, "AMD Instinct MI300X OAM", 192),
        (STRIX_HALO, "AMD Radeon 8060S Graphics", None),
        (ARC, "Intel Arc B580", 12),
        ({**ARC, "resource": "0x0 0xffffff 0x1\n0x0 0x0 0x0\n0x0 0xfffffff 0x1\n"}, "Intel Arc B580", None),
        ({**XTX, "revision": "0x11"}, "AMD GPU 744c", 24),
    ],
)
def test_cards_of_other_makers(tmp_path: Path, files: dict[str, str], name: str, gib: float | None) -> None:
    (card,) = system(tmp_path, files).read()
    assert card.name == name
    assert card.vram_total_bytes == (None if gib is None else pytest.approx(gib * GIB, rel=0.01))


def test_a_card_that_gives_nothing_says_why(tmp_path: Path) -> None:
    (card,) = system(tmp_path, ARC).read()
    assert card.untold == (
        "load, memory: Intel's drivers count it for each process; "
        "temperature, power, clock: its driver (i915) does not show it"
    )


def test_integrated_gpus_and_broken_files_are_no_cards(tmp_path: Path) -> None:
    broken = {"vendor": "0x1002", "device": "what", "mem_info_vram_total": "24"}
    assert system(tmp_path, RAPHAEL, IRIS, broken).read() == ()
    assert SystemGpus(tmp_path / "nowhere").read() == ()


def test_several_cards_are_numbered(tmp_path: Path) -> None:
    names = [card.name for card in system(tmp_path, XTX, RAPHAEL, XTX).read()]
    assert names == ["AMD Radeon RX 7900 XTX #0", "AMD Radeon RX 7900 XTX #1"]


class Told(LastAnswer):
    """A program that has answered."""

    def __init__(self, text: str) -> None:
        self._said = text

    def take(self) -> str:
        return self._said


def test_a_macs_gpu_is_its_chip_with_the_load_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 501)
    (card,) = SystemGpus(apple=AppleGpu("Apple M2 Max", Told(IOREG))).read()
    assert (card.name, card.vram_total_bytes, card.util_percent, card.power_w) == ("Apple M2 Max", None, 37, None)
    assert card.untold == (
        "memory: it is the machine's; temperature: macOS reports it to no program; "
        "power, clock: macOS reports it to root only"
    )


@pytest.mark.parametrize("old", [False, True])
def test_root_on_a_mac_reads_power_and_clock(old: bool) -> None:
    printed = POWERMETRICS.replace("GPU HW ", "GPU ") if old else POWERMETRICS
    (card,) = SystemGpus(apple=AppleGpu("Apple M1", Told(IOREG), Told(printed))).read()
    assert (card.power_w, card.sm_clock_mhz) == (21.874, 1398)


@pytest.mark.parametrize("registry", ["", '"Device Utilization %"=101', IOREG + IOREG])
def test_a_registry_that_does_not_say_gives_no_load(registry: str) -> None:
    assert load_percent(registry) is None


def test_the_last_answer_comes_without_waiting(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = LastAnswer(["/bin/sh", "-c", f"read x < {gate}; echo $x"])
    assert program.take() == ""  # it has only begun
    assert program.take() == ""  # and waits
    gate.write_text("37\n")
    assert until(program.take) == "37\n"
    gate.write_text("\n")  # so that its second run ends too
    assert LastAnswer(["/nowhere/ioreg"]).take() == ""


def until(take: Callable[[], str]) -> str:
    deadline = time.monotonic() + 30
    while not (said := take()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return said


class NoNvml(Gpus):
    def __init__(self) -> None:
        self.problem = None

    def read(self) -> tuple[()]:
        return ()


def test_the_probes_facts_and_samples_carry_them(tmp_path: Path) -> None:
    host = Host(AllGpus(NoNvml(), system(tmp_path, XTX)))
    assert host.facts().gpus == (GpuFacts(name="AMD Radeon RX 7900 XTX", vram_bytes=25753026560),)
    (sample,) = host.samples(1)
    assert isinstance(sample, HostSample)
    assert (sample.gpu, sample.vram_total_bytes, sample.clock_mhz) == ("AMD Radeon RX 7900 XTX", 25753026560, 2304)


def test_the_reasons_reach_the_swarm(tmp_path: Path) -> None:
    (gpu,) = Host(AllGpus(NoNvml(), system(tmp_path, A770))).facts().gpus
    _, swarm = seen(gpu)
    assert swarm.facts[0].untold == "load: Intel's drivers count it for each process"


# ---------------------------------------------------------------- what the collector makes of them


def seen(*gpus: GpuFacts, cpu: str = "c", ram_gib: float = 64.0) -> tuple[SwarmBuilder, Swarm]:
    builder = SwarmBuilder()
    facts = HostFacts(system="s", cpu=cpu, cores=8, ram_bytes=int(ram_gib * GIB), gpus=gpus)
    builder.node(A, "a", facts, seen_ns=1)
    return builder, builder.snapshot(1)


def test_a_mac_offers_what_metal_recommends() -> None:
    _, swarm = seen(GpuFacts(name="Apple M2 Max", vram_bytes=0), cpu="Apple M2 Max")
    assert (swarm.nodes["vram_bytes"][0], swarm.nodes["mem_gbps"][0]) == (48 * GIB, 400)
    assert (swarm.facts[0].device, swarm.facts[0].device_class) == ("Apple M2 Max (unified memory)", "apple")


def test_a_card_whose_driver_states_no_memory_has_its_data_sheets() -> None:
    _, swarm = seen(GpuFacts(name="Intel Arc B580", vram_bytes=0))
    assert (swarm.nodes["vram_bytes"][0], swarm.facts[0].device) == (12 * GIB, "Intel Arc B580")


def test_a_card_that_only_torch_sees_is_not_called_cpu() -> None:
    builder, before = seen(cpu="AMD EPYC")
    assert before.facts[0].device == "cpu: AMD EPYC"
    timed = ComputeSample(
        at_ns=2, device="AMD Radeon RX 7900 XTX", model="m", dtype="fp16", phase="decode", batch=1, context=128,
        ms_per_layer=1.0, ms_p95=1.1, n=9,
    )  # fmt: skip
    builder.sample(A, timed)
    assert builder.snapshot(2).facts[0].device == "AMD Radeon RX 7900 XTX"


def test_an_unknown_card_without_memory_stays_unknown() -> None:
    _, swarm = seen(GpuFacts(name="AMD GPU 744c", vram_bytes=0))
    assert np.isnan(swarm.nodes["vram_bytes"][0])
