"""Read GPUs that NVML does not know: AMD and Intel as Linux shows them in sysfs, and Apple's chips.

Integrated GPUs are left out, except the one that people buy for its memory (Strix Halo), which like Apple's has no
memory of its own. No vendor libraries; it never raises.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from swarm_probe.machine.gpu import GpuReading, Gpus
from swarm_probe.machine.vendors import amd, intel
from swarm_probe.machine.vendors.apple import AppleGpu
from swarm_probe.operating_system.sysfs import number

AMD: Final = 0x1002
INTEL: Final = 0x8086


class SystemGpus:
    """`read` returns one reading for each GPU. `root` holds sys and usr; `apple` reads the GPU of an Apple chip."""

    def __init__(
        self,
        root: Path = Path("/"),
        apple: AppleGpu | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._apple = apple
        self._meter = intel.EnergyMeter(clock_s)

    def read(self) -> tuple[GpuReading, ...]:
        if self._apple is not None:
            return (self._apple.read(),)
        found = [reading for device in self._devices() if (reading := self._card(device)) is not None]
        if len(found) > 1:
            return tuple(
                msgspec.structs.replace(reading, name=f"{reading.name} #{i}") for i, reading in enumerate(found)
            )
        return tuple(found)

    def _devices(self) -> list[Path]:
        folder = self._root / "sys/class/drm"
        try:
            cards = [path for path in folder.glob("card*") if re.fullmatch(r"card\d+", path.name)]
        except OSError:
            return []
        return [path / "device" for path in sorted(cards, key=lambda path: int(path.name[4:]))]

    def _card(self, device: Path) -> GpuReading | None:
        vendor = number(device / "vendor")
        if vendor == AMD:
            return amd.read(device, self._root)
        return intel.read(device, self._meter) if vendor == INTEL else None


class AllGpus(msgspec.Struct):
    """NVIDIA's GPUs and those of the system, with the interface of `Gpus`."""

    nvidia: Gpus
    system: SystemGpus
    _others: int = 0  # GPUs that the system showed at the latest look

    @property
    def count(self) -> int:
        """Return how many GPUs there are, as of the latest reading."""
        return self.nvidia.count + self._others

    @property
    def problem(self) -> str | None:
        return self.nvidia.problem

    def read(self) -> tuple[GpuReading, ...]:
        others = self.system.read()
        self._others = len(others)
        return (*self.nvidia.read(), *others)


def all_gpus(ours: Callable[[], frozenset[int]] = frozenset, cpu: Callable[[], str] | None = None) -> AllGpus:
    """Return all GPUs. `cpu` names the processor; on a Mac that is the GPU's name too."""
    chip = cpu() if cpu is not None and sys.platform == "darwin" else ""
    return AllGpus(Gpus(ours=ours), SystemGpus(apple=AppleGpu(chip) if chip.startswith("Apple") else None))
