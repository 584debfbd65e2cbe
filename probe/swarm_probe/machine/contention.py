"""Detect other programs on the devices and throttling, before torch starts and with each figure.

The probe waits for a busy GPU, within reason; figures measured during other use are marked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from swarm_probe.machine.gpu import GpuReading, Gpus
from swarm_probe.machine.host import cpu_throttles, on_battery
from swarm_probe.operating_system.readings import Readings

BUSY_PERCENT: Final = 10.0  # of a GPU's time, by others
CALM_LOOKS: Final = 3  # in a row: use comes in bursts
LOOK_S: Final = 1.0
PATIENCE_LOOKS: Final = 60


class Contention:
    def __init__(self, gpus: Gpus) -> None:
        """Create it before torch starts: afterwards our own work would count."""
        self._gpus = gpus
        self._before = gpus.read()
        self._cpu_throttles = cpu_throttles()
        self._contended = frozenset(gpu.uuid for gpu in self._before if _busy(gpu))

    def in_the_way(self) -> str | None:
        """Return the reason to wait, in words; None: there is none."""
        busy = [gpu for gpu in self._before if _busy(gpu)]
        if not busy:
            return None
        first = busy[0]
        return f"{first.name}, which others use at {first.util_percent:.0f} %"

    def wait_for_calm(self, sleep: Callable[[float], None]) -> None:
        """Wait until no GPU is busy, or the longest wait has passed: those still busy are then contended."""
        calm = 0
        for _ in range(PATIENCE_LOOKS):
            sleep(LOOK_S)
            busy = frozenset(gpu.uuid for gpu in self._gpus.read() if _busy(gpu))
            calm = 0 if busy else calm + 1
            self._contended = busy
            if calm >= CALM_LOOKS:
                return

    def marks(self, uuid: str) -> tuple[str, ...]:
        """Return the marks of a figure taken just now. `uuid` empty: the processor, or a GPU unknown to NVML."""
        found = ["battery"] * bool(Readings().ask("battery", on_battery))
        if not uuid:
            found += ["throttled"] * (cpu_throttles() > self._cpu_throttles)
            return tuple(found)
        now = next((gpu for gpu in self._gpus.read() if gpu.uuid == uuid), None)
        found += ["contended"] * (uuid in self._contended)
        found += ["throttled"] * bool(now is not None and now.throttled)
        return tuple(found)


def _busy(gpu: GpuReading) -> bool:
    return gpu.util_percent is not None and gpu.util_percent >= BUSY_PERCENT
