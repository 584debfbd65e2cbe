"""Cards that NVML does not know: AMD and Intel as Linux shows them in sysfs, and Apple's chips.

AMD's driver states memory, use, heat and power in files of each card; its name is looked up in the table that comes
with libdrm, by device and revision. Intel's states little: memory is the size of its window where all of it is mapped.
The GPU of an Apple chip has the machine's memory and the chip's name. Integrated GPUs beside a processor are left out,
but for the one that people buy for its memory (Strix Halo), which like Apple's states no memory of its own.

Pure of vendors' libraries: reads files, runs nothing, never raises.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_probe.machine.gpu import GpuReading, Gpus

AMD, INTEL = 0x1002, 0x8086
LEAST_BYTES: Final = 1 << 30  # a smaller memory is a window, or belongs to a GPU that no layer runs on
AMDGPU_IDS: Final = ("usr/share/libdrm/amdgpu.ids", "opt/amdgpu/share/libdrm/amdgpu.ids")
# Integrated, of Renoir to Strix Point and Krackan: their memory is the processor's, and torch hardly runs on them.
AMD_INTEGRATED: Final = frozenset({
    0x15D8, 0x15DD, 0x1636, 0x1638, 0x163F, 0x164C, 0x164D, 0x164E, 0x1681, 0x1506, 0x15BF, 0x15C8, 0x1900, 0x1901,
    0x150E, 0x1114, 0x13C0, 0x15E7,
})  # fmt: skip
AMD_UNIFIED: Final = {0x1586: "AMD Radeon 8060S Graphics"}
INTEL_CARDS: Final = {
    0x56A0: "Intel Arc A770", 0x56A1: "Intel Arc A750", 0x56A2: "Intel Arc A580", 0x56A5: "Intel Arc A380",
    0x56A6: "Intel Arc A310", 0x5690: "Intel Arc A770M", 0x5691: "Intel Arc A730M", 0x5692: "Intel Arc A550M",
    0x5693: "Intel Arc A370M", 0xE20B: "Intel Arc B580", 0xE20C: "Intel Arc B570", 0xE211: "Intel Arc Pro B60",
    0xE212: "Intel Arc Pro B50", 0x0BD5: "Intel Data Center GPU Max 1550", 0x0BDA: "Intel Data Center GPU Max 1100",
    0x56C0: "Intel Data Center GPU Flex 170", 0x56C1: "Intel Data Center GPU Flex 140",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SystemGpus:
    """`read` gives one reading a card. `root` holds sys and usr; `chip` is the name of an Apple chip."""

    root: Path = Path("/")
    chip: str = ""

    def read(self) -> tuple[GpuReading, ...]:
        if self.chip:
            return (_reading(self.chip),)
        found = [reading for folder in self._cards() if (reading := self._card(folder)) is not None]
        if len(found) > 1:
            return tuple(_numbered(reading, i) for i, reading in enumerate(found))
        return tuple(found)

    def _cards(self) -> list[Path]:
        folder = self.root / "sys/class/drm"
        try:
            names = sorted((path for path in folder.glob("card*") if re.fullmatch(r"card\d+", path.name)),
                           key=lambda path: int(path.name[4:]))  # fmt: skip
        except OSError:
            return []
        return [path / "device" for path in names]

    def _card(self, folder: Path) -> GpuReading | None:
        vendor, device = _number(folder / "vendor"), _number(folder / "device")
        if device is None or vendor not in (AMD, INTEL):
            return None
        return self._amd(folder, device) if vendor == AMD else _intel(folder, device)

    def _amd(self, folder: Path, device: int) -> GpuReading | None:
        if device in AMD_INTEGRATED:
            return None
        total, used = _number(folder / "mem_info_vram_total"), _number(folder / "mem_info_vram_used")
        unified = AMD_UNIFIED.get(device)
        if unified is None and (total is None or total < LEAST_BYTES):
            return None
        free = max(0, total - used) if total is not None and used is not None else None
        name = unified or _text(folder / "product_name") or self._marketing_name(device, _number(folder / "revision"))
        sensors = _sensors(folder)
        return _reading(
            name or f"AMD GPU {device:04x}",
            total=None if unified else total,
            free=None if unified else free,
            util=_number(folder / "gpu_busy_percent"),
            temp_c=_thousandths(sensors, "temp1_input", 1e3),
            power_w=_thousandths(sensors, "power1_average", 1e6) or _thousandths(sensors, "power1_input", 1e6),
        )

    def _marketing_name(self, device: int, revision: int | None) -> str:
        """Of libdrm's table: `744C, C8, AMD Radeon RX 7900 XTX`."""
        wanted = f"{device:04X}", f"{revision or 0:02X}"
        for path in AMDGPU_IDS:
            try:
                lines = (self.root / path).read_text(errors="replace").splitlines()
            except OSError:
                continue
            for line in lines:
                parts = [part.strip() for part in line.split(",", 2)]
                if len(parts) == 3 and (parts[0].upper(), parts[1].upper()) == wanted:
                    return parts[2]
        return ""


@dataclass(slots=True)
class AllGpus:
    """NVIDIA's cards, and what the system shows besides; the same to its users as `Gpus`."""

    nvidia: Gpus
    system: SystemGpus
    _others: int = 0  # cards that the system showed at the latest look

    @property
    def count(self) -> int:
        """How many cards there are, as of the latest reading."""
        return self.nvidia.count + self._others

    @property
    def problem(self) -> str | None:
        return self.nvidia.problem

    def read(self) -> tuple[GpuReading, ...]:
        others = self.system.read()
        self._others = len(others)
        return (*self.nvidia.read(), *others)


def all_gpus(ours: Callable[[], frozenset[int]] = frozenset, cpu: Callable[[], str] | None = None) -> AllGpus:
    """`cpu` names the processor; on a Mac that is the GPU's name too."""
    chip = cpu() if cpu is not None and sys.platform == "darwin" else ""
    return AllGpus(Gpus(ours=ours), SystemGpus(chip=chip if chip.startswith("Apple") else ""))


def _intel(folder: Path, device: int) -> GpuReading | None:
    name = INTEL_CARDS.get(device)
    if name is None:
        return None
    total = _number(folder / "lmem_total_bytes") or _window_bytes(folder / "resource")
    sensors = _sensors(folder)
    return _reading(name, total=total, temp_c=_thousandths(sensors, "temp1_input", 1e3))


def _window_bytes(resource: Path) -> int | None:
    """The card's memory, where its third window (BAR 2) maps all of it; None where it is too small to be that."""
    try:
        begin, end, *_ = resource.read_text().splitlines()[2].split()
        size = int(end, 16) - int(begin, 16) + 1
    except (OSError, IndexError, ValueError):
        return None
    return size if size >= LEAST_BYTES else None


def _sensors(folder: Path) -> Path | None:
    try:
        return next(iter(sorted((folder / "hwmon").glob("hwmon*"))), None)
    except OSError:
        return None


def _thousandths(sensors: Path | None, name: str, scale: float) -> float | None:
    value = None if sensors is None else _number(sensors / name)
    return None if value is None else value / scale


def _number(path: Path) -> int | None:
    text = _text(path)
    try:
        return int(text, 0) if text else None
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _reading(
    name: str, *, total: int | None = None, free: int | None = None, util: float | None = None,
    temp_c: float | None = None, power_w: float | None = None,
) -> GpuReading:  # fmt: skip
    return GpuReading(
        name=name,
        util_percent=None if util is None else float(min(100, max(0, util))),
        vram_free_bytes=free,
        vram_total_bytes=total,
        temp_c=temp_c,
        power_w=power_w,
        throttled=None,
    )


def _numbered(reading: GpuReading, i: int) -> GpuReading:
    return _reading(
        f"{reading.name} #{i}", total=reading.vram_total_bytes, free=reading.vram_free_bytes, util=reading.util_percent,
        temp_c=reading.temp_c, power_w=reading.power_w,
    )  # fmt: skip
