"""AMD, Intel and Apple: named with their memory, from what their drivers and systems show (recorded readings)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swarm_probe.machine.gpu import Gpus
from swarm_probe.machine.host import Host
from swarm_probe.machine.system_gpus import AllGpus, SystemGpus
from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import ComputeSample, HostSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import Swarm

A = "a" * 16
GIB = 1 << 30
IDS = "# List of AMDGPU IDs\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tAMD Radeon RX 7900 XT\n"
# /sys/class/drm/card*/device, as read on such machines: only the files that are asked for
XTX = {
    "vendor": "0x1002", "device": "0x744c", "revision": "0xc8", "mem_info_vram_total": "25753026560",
    "mem_info_vram_used": "1610612736", "gpu_busy_percent": "7", "hwmon/hwmon3/temp1_input": "48000",
    "hwmon/hwmon3/power1_average": "61000000",
}  # fmt: skip
MI300X = {
    "vendor": "0x1002", "device": "0x74a1", "revision": "0x00", "mem_info_vram_total": "206141652992",
    "mem_info_vram_used": "297000000", "product_name": "AMD Instinct MI300X OAM",
}  # fmt: skip
RAPHAEL = {"vendor": "0x1002", "device": "0x164e", "mem_info_vram_total": "2147483648", "mem_info_vram_used": "0"}
STRIX_HALO = {"vendor": "0x1002", "device": "0x1586", "mem_info_vram_total": "536870912", "mem_info_vram_used": "0"}
ARC = {
    "vendor": "0x8086", "device": "0xe20b",
    "resource": "0x6001000000 0x6001ffffff 0x140204\n0x0 0x0 0x0\n0x6000000000 0x62ffffffff 0x14220c\n",
}  # fmt: skip
IRIS = {"vendor": "0x8086", "device": "0x9a49"}


def system(root: Path, *cards: dict[str, str], ids: str = IDS) -> SystemGpus:
    for i, files in enumerate(cards):
        for name, text in files.items():
            path = root / f"sys/class/drm/card{i}/device" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
    (root / "sys/class/drm/card0-DP-1").mkdir(parents=True, exist_ok=True)  # a connector is no card
    table = root / "usr/share/libdrm/amdgpu.ids"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(ids)
    return SystemGpus(root)


def test_an_amd_card_has_its_name_memory_heat_and_power(tmp_path: Path) -> None:
    (card,) = system(tmp_path, XTX).read()
    assert (card.name, card.vram_total_bytes) == ("AMD Radeon RX 7900 XTX", 25753026560)
    assert card.vram_free_bytes == 25753026560 - 1610612736
    assert (card.util_percent, card.temp_c, card.power_w) == (7, 48, 61)


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


def test_integrated_gpus_and_broken_files_are_no_cards(tmp_path: Path) -> None:
    broken = {"vendor": "0x1002", "device": "what", "mem_info_vram_total": "24"}
    assert system(tmp_path, RAPHAEL, IRIS, broken).read() == ()
    assert SystemGpus(tmp_path / "nowhere").read() == ()


def test_several_cards_are_numbered(tmp_path: Path) -> None:
    names = [card.name for card in system(tmp_path, XTX, RAPHAEL, XTX).read()]
    assert names == ["AMD Radeon RX 7900 XTX #0", "AMD Radeon RX 7900 XTX #1"]


def test_a_macs_gpu_is_its_chip() -> None:
    (card,) = SystemGpus(chip="Apple M2 Max").read()
    assert (card.name, card.vram_total_bytes) == ("Apple M2 Max", None)


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
    assert (sample.gpu, sample.vram_total_bytes) == ("AMD Radeon RX 7900 XTX", 25753026560)


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
