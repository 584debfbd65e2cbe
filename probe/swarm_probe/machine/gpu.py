"""Read the state of NVIDIA cards through the driver's library (NVML); most machines have none.

pynvml is imported only if the driver is present, so that a machine without a GPU does not pay for it. Each figure may
be missing alone (a laptop has no power reading, unified memory no size): None, never 0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from swarm_probe.operating_system.readings import reason

T = TypeVar("T")

# What the driver's loader leaves behind; finding the library through ctypes starts a compiler on some systems.
_DRIVER_SIGNS: Final = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libnvidia-ml.so.1")

# NVML's clock event reasons. Idling and the power limit are normal; the others hold the clock below that.
_REASONS: Final = {
    0x2: "clocks set by its owner",
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
    0x100: "display clock",
}
_HELD_BACK: Final = 0x8 | 0x20 | 0x40 | 0x80


class GpuReading(msgspec.Struct, frozen=True):
    """One GPU now."""

    name: str  # with #1, #2, … where there are several
    util_percent: float | None
    vram_free_bytes: int | None
    vram_total_bytes: int | None
    temp_c: float | None
    power_w: float | None
    throttled: bool | None  # held below what its power limit would allow
    throttle: str | None = None  # all reasons for a reduced clock, in words; empty: none
    sm_clock_mhz: float | None = None
    mem_clock_mhz: float | None = None
    power_limit_w: float | None = None  # as enforced now
    others: int | None = None  # processes on the card that are not ours
    uuid: str = ""
    driver: str = ""
    untold: str = ""  # which figures are missing, and why, in one line; empty: none

    def explained(self, why: str, **instead: str | None) -> GpuReading:
        """Return the reading with the reason for each figure that is missing: `why`, or the figure's own of `instead`
        (load, memory, temperature, power, clock), where None means that it is still to come."""
        shown = {
            "load": self.util_percent,
            "memory": self.vram_free_bytes,
            "temperature": self.temp_c,
            "power": self.power_w,
            "clock": self.sm_clock_mhz,
        }
        because: dict[str, list[str]] = {}
        for figure, value in shown.items():
            reason_why = instead.get(figure, why)
            if value is None and reason_why is not None:
                because.setdefault(reason_why, []).append(figure)
        return msgspec.structs.replace(
            self, untold="; ".join(f"{', '.join(names)}: {said}" for said, names in because.items())
        )


class Gpus:
    """`read` returns one reading for each GPU; an empty tuple without a driver. It never raises."""

    def __init__(self, nvml: Any | None = None, ours: Callable[[], frozenset[int]] = frozenset) -> None:
        """`nvml` stands in for the pynvml module in tests; `ours` are processes that do not count as contention."""
        self.problem: str | None = None  # why there are no readings although there is a driver
        try:
            self._nvml = nvml if nvml is not None else _import_nvml()
        except Exception as error:  # noqa: BLE001 - a broken installation of the driver's library
            self._nvml, self.problem = None, f"NVML: {reason(error)}"
        self._handles: list[tuple[str, Any]] | None = None
        self._ours = ours
        self._driver = ""
        self.count = 0  # of GPUs, as of the last reading

    def read(self) -> tuple[GpuReading, ...]:
        nvml = self._nvml
        if nvml is None:
            return ()
        try:
            if self._handles is None:
                self._handles = self._open(nvml)
            readings = tuple(self._read_one(nvml, name, handle) for name, handle in self._handles)
        except Exception as error:  # noqa: BLE001 - the driver was updated, the card fell off the bus: look again next time
            self.problem = f"NVML: {error}" if isinstance(error, nvml.NVMLError) else f"NVML: {reason(error)}"
            self._handles = None
            return ()
        self.problem = None
        self.count = len(readings)
        return readings

    def _open(self, nvml: Any) -> list[tuple[str, Any]]:
        nvml.nvmlInit()
        self._driver = _text(nvml.nvmlSystemGetDriverVersion())
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        names = [_text(nvml.nvmlDeviceGetName(handle)) for handle in handles]
        several = len(names) > 1
        return [(f"{n} #{i}" if several else n, h) for i, (n, h) in enumerate(zip(names, handles, strict=True))]

    def _read_one(self, nvml: Any, name: str, handle: Any) -> GpuReading:
        failed: Exception | None = None  # the first query that failed

        def ask(question: Callable[..., T], *more: Any) -> T | None:
            nonlocal failed
            try:
                return question(handle, *more)
            except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_FunctionNotFound):
                return None
            except Exception as error:  # noqa: BLE001 - one figure less; a card that answers nothing is handled below
                failed = failed or error
                return None

        util = ask(nvml.nvmlDeviceGetUtilizationRates)
        memory = ask(nvml.nvmlDeviceGetMemoryInfo)
        temp = ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        power_mw = ask(nvml.nvmlDeviceGetPowerUsage)
        limit_mw = ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
        reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        sm_mhz = ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)
        mem_mhz = ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM)
        running = [ask(nvml.nvmlDeviceGetComputeRunningProcesses), ask(nvml.nvmlDeviceGetGraphicsRunningProcesses)]
        pids = {int(process.pid) for listed in running for process in listed or ()} - {os.getpid(), *self._ours()}
        uuid = ask(nvml.nvmlDeviceGetUUID)
        if failed is not None and all(each is None for each in (util, memory, temp, power_mw, reasons, uuid)):
            raise failed
        reading = GpuReading(
            name=name,
            util_percent=float(util.gpu) if util is not None else None,
            vram_free_bytes=int(memory.free) if memory is not None else None,
            vram_total_bytes=int(memory.total) if memory is not None else None,
            temp_c=float(temp) if temp is not None else None,
            power_w=power_mw / 1000 if power_mw is not None else None,
            throttled=bool(reasons & _HELD_BACK) if reasons is not None else None,
            throttle=reasons_in_words(reasons) if reasons is not None else None,
            sm_clock_mhz=float(sm_mhz) if sm_mhz is not None else None,
            mem_clock_mhz=float(mem_mhz) if mem_mhz is not None else None,
            power_limit_w=limit_mw / 1000 if limit_mw is not None else None,
            others=len(pids) if running[0] is not None else None,
            uuid=_text(uuid) if uuid is not None else "",
            driver=self._driver,
        )
        return reading.explained("its driver (NVML) does not report it for this card")


def reasons_in_words(reasons: int) -> str:
    """Return text such as "power limit, heat (software)"; empty if nothing reduces the clock (or the GPU is
    idle)."""
    return ", ".join(words for bit, words in _REASONS.items() if reasons & bit)


def _import_nvml() -> Any | None:
    if sys.platform != "win32" and not any(map(os.path.exists, _DRIVER_SIGNS)):
        return None
    import pynvml  # late: costs memory that a machine without a GPU need not pay

    return pynvml


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
