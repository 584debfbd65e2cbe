"""Read facts and state of this machine: processor, memory, GPUs, battery.

Cheap by construction: a few reads of /proc, and no process is inspected. In a container the container's
memory counts. What the machine does not report is missing, and `Host.lines` says why.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from swarm_probe.machine.conditions import Conditions, conditions
from swarm_probe.machine.gpu import GpuReading, Gpus
from swarm_probe.machine.system_gpus import AllGpus, all_gpus
from swarm_probe.operating_system import system
from swarm_probe.operating_system.pressure import cpu_pressure_percent
from swarm_probe.operating_system.readings import Readings, Unreadable
from swarm_probe.operating_system.small_files import small_file
from swarm_probe.operating_system.tcp_settings import tcp_settings
from swarm_protocol.child_environment import without_secrets
from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import EventSample, HostSample
from swarm_protocol.text import safe
from swarm_protocol.units import gib

TICKING_S: Final = 0.5  # within this the CPU counters of even an idle machine change
_CGROUPS: Final = (  # limit and use, of version 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class Memory(msgspec.Struct, frozen=True):
    free_bytes: int
    total_bytes: int


def memory(cgroups: tuple[tuple[str, str], ...] = _CGROUPS) -> Memory:
    """Return the memory of this machine or of its container, whichever is less. Raises whatever `system` does."""
    free, total = system.memory_bytes()
    if not 0 <= free <= total or not total:
        raise Unreadable(f"the system says that {free} of {total} bytes are free")
    for limit_file, use_file in cgroups:
        try:
            limit = int(small_file(limit_file))  # "max" is a ValueError: no limit
            used = int(small_file(use_file))
        except (OSError, ValueError):
            continue
        total = min(total, limit)
        free = min(free, max(0, limit - used))
    return Memory(free, total)


class Host:
    """The machine's state; call `samples` each time they are due."""

    def __init__(self, gpus: Gpus | AllGpus | None = None) -> None:
        self._gpus = gpus if gpus is not None else all_gpus(cpu=cpu_name)
        self._throttled: set[str] = set()
        self._last: tuple[GpuReading, ...] = ()
        self._torch = torch_version()
        self._readings = Readings()
        self._cpu_times = (0.0, 0.0)  # busy and all; nothing was read yet
        self._cpu_at = time.monotonic()
        self._cpu_percent: float | None = None
        self._memory: Memory | None = None
        self._on_battery: bool | None = None
        self._readings.ask("processor", self._read_cpu)  # the first call only sets the starting point

    @property
    def cards(self) -> int:
        """Return how many GPUs there are, by their driver."""
        return self._gpus.count

    @property
    def gpu_problem(self) -> str | None:
        return self._gpus.problem

    def samples(self, at_ns: int) -> list[HostSample | EventSample]:
        """Return one sample for each GPU, or one without; and an event for each GPU that began to throttle."""
        ask = self._readings.ask
        cpu_percent = self._cpu_percent = ask("processor", self._read_cpu)
        ram = self._memory = ask("memory", memory)
        readings = self._last = self._gpus.read()
        battery = self._on_battery = ask("battery", on_battery)
        tcp, pressure = ask("TCP", tcp_settings), ask("pressure", cpu_pressure_percent)
        found: list[HostSample | EventSample] = [
            HostSample(
                at_ns=at_ns,
                cpu_percent=cpu_percent,
                ram_free_bytes=ram.free_bytes if ram else None,
                ram_total_bytes=ram.total_bytes if ram else None,
                gpu=safe(gpu.name) if gpu else None,
                gpu_util_percent=gpu.util_percent if gpu else None,
                vram_free_bytes=gpu.vram_free_bytes if gpu else None,
                vram_total_bytes=gpu.vram_total_bytes if gpu else None,
                temp_c=gpu.temp_c if gpu else None,
                power_w=gpu.power_w if gpu else None,
                throttled=gpu.throttled if gpu else None,
                clock_mhz=gpu.sm_clock_mhz if gpu else None,
                throttle=safe(gpu.throttle) if gpu and gpu.throttle is not None else None,
                others=gpu.others if gpu else None,
                on_battery=battery,
                tcp=tcp.congestion if tcp else None,
                tcp_slow_start_after_idle=tcp.slow_start_after_idle if tcp else None,
                cpu_pressure_percent=pressure,
            )
            for gpu in (readings or (None,))
        ]
        now_throttled = {gpu.name for gpu in readings if gpu.throttled}
        for gpu in readings:
            if gpu.name in now_throttled - self._throttled:
                found.append(EventSample(at_ns=at_ns, kind="throttled", detail=_throttled_line(gpu)))
        self._throttled = now_throttled
        return found

    def conditions(self) -> Conditions:
        """Return the conditions as of the last `samples`."""
        return conditions(self._last, self._on_battery, self._torch)

    def lines(self) -> str:
        """Return the last figures in one line; `–` with the reason for each that the machine does not report."""
        ram, battery = self._memory, {True: "on battery", False: "on mains", None: "no battery"}[self._on_battery]
        said = {
            "processor": f"processor {self._cpu_percent:.0f} %" if self._cpu_percent is not None else "",
            "memory": f"memory {gib(ram.free_bytes):.1f} of {gib(ram.total_bytes):.1f} GiB free" if ram else "",
            "battery": battery,
        }
        words = [
            f"{what} – ({self._readings.reasons[what]})" if what in self._readings.reasons else text
            for what, text in said.items()
        ]
        if self._gpus.problem is not None:
            words.append(f"GPU – ({self._gpus.problem})")
        return ", ".join(word for word in words if word)

    def facts(self) -> HostFacts:
        ram = self._readings.ask("memory", memory)
        return HostFacts(
            system=_system(),
            cpu=cpu_name(),
            cores=usable_cores(),
            ram_bytes=ram.total_bytes if ram else 0,
            gpus=tuple(
                GpuFacts(name=safe(gpu.name), vram_bytes=gpu.vram_total_bytes or 0, untold=safe(gpu.untold))
                for gpu in self._gpus.read()
            )[:64],
            torch=torch_version(),
        )

    def _read_cpu(self) -> float:
        before, since_s = self._cpu_times, time.monotonic() - self._cpu_at
        self._cpu_times, self._cpu_at = system.cpu_times(), time.monotonic()
        busy, passed = (now - then for now, then in zip(self._cpu_times, before, strict=True))
        if since_s >= TICKING_S and before == self._cpu_times:  # a sandbox; even on an idle machine they grow
            raise Unreadable("the system's CPU counters do not change")
        known = before[1] > 0 and passed > 0
        return min(100.0, max(0.0, round(100 * busy / passed, 1))) if known else 0.0


def _throttled_line(gpu: GpuReading) -> str:
    heat = f" at {gpu.temp_c:.0f} °C" if gpu.temp_c is not None else ""
    why = f" ({gpu.throttle})" if gpu.throttle else ""
    return f"{safe(gpu.name)} is held below its power limit{heat}{why}"


def on_battery() -> bool | None:
    """Return whether the machine runs on battery; None: it has none. Raises whatever `system` does."""
    battery = system.battery()
    plugged = battery.plugged if battery is not None else None
    return None if plugged is None else not plugged


def cpu_throttles(folder: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return how often heat has throttled any core since the start; 0 if the kernel does not report it."""
    total = 0
    for count in folder.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        try:
            total += int(count.read_text())
        except (OSError, ValueError):
            continue
    return total


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return a name such as "AMD EPYC 7B13"; the architecture where nothing better is known."""
    if sys.platform == "darwin":
        try:
            name = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
                capture_output=True,
                text=True,
                check=False,
                env=without_secrets(os.environ),
            ).stdout.strip()
        except OSError:
            name = ""
        return safe(name or os.uname().machine or "unknown", 100)
    try:
        found = re.search(
            r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE
        )
    except OSError:
        found = None
    return safe(found[1].strip() if found else os.uname().machine or "unknown", 100)


def torch_version() -> str | None:
    """Return the version of installed torch, read from its files: importing it costs seconds and hundreds of
    megabytes."""
    try:
        spec = find_spec("torch")
    except (ImportError, ValueError):  # a broken installation
        return None
    if spec is None or spec.origin is None:
        return None
    try:
        found = re.search(
            r"^__version__ *= *['\"]([^'\"]+)", Path(spec.origin).with_name("version.py").read_text(), re.M
        )
    except (OSError, ValueError):
        found = None
    return safe(found[1], 64) if found else "unknown"


def _system() -> str:
    found = os.uname()
    return safe(f"{found.sysname} {found.release} {found.machine}", 200)
