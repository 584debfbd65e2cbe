"""Read the GPU of an Apple chip: its load from the I/O registry, its power and clock from powermetrics.

The GPU has the machine's memory and the chip's name. `ioreg` works for every user, `powermetrics` for root alone, and
no program can read the temperature. Both are started at one reading and read at the next, so that no reading waits.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from typing import IO, Final

from swarm_probe.machine.gpu import GpuReading
from swarm_protocol.child_environment import without_secrets

IOREG: Final = ("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
POWERMETRICS: Final = ("/usr/bin/powermetrics", "--samplers", "gpu_power", "-n", "1", "-i", "200")
_ROOT_ALONE: Final = "macOS reports it to root only"


class LastAnswer:
    """Runs a program repeatedly without waiting: `take` returns what the last finished run wrote."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._running: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._text = ""

    def take(self) -> str:
        """Return the last answer and start the next run; empty before the first, or where the program fails."""
        if self._running is not None and self._running.poll() is None:
            return self._text
        if self._running is not None and self._output is not None:
            self._output.seek(0)
            output = self._output.read().decode(errors="replace")
            self._text = output if self._running.returncode == 0 else ""
            self._output.close()
        import tempfile  # late: half a megabyte, which other systems need not load

        try:
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives until the run has ended; a pipe would fill
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                env=without_secrets(os.environ),
            )
        except OSError:
            self._running, self._text = None, ""
        return self._text


class AppleGpu:
    """`read` returns the reading of the chip's GPU."""

    def __init__(self, chip: str, registry: LastAnswer | None = None, power: LastAnswer | None = None) -> None:
        """`registry` and `power` stand in for ioreg and powermetrics in tests."""
        self._chip = chip
        self._registry = registry if registry is not None else LastAnswer(IOREG)
        as_root = LastAnswer(POWERMETRICS) if os.geteuid() == 0 else None
        self._power = power if power is not None else as_root

    def read(self) -> GpuReading:
        power_w, clock_mhz = (None, None) if self._power is None else power_and_clock(self._power.take())
        reading = GpuReading(
            name=self._chip,
            util_percent=load_percent(self._registry.take()),
            vram_free_bytes=None,
            vram_total_bytes=None,
            temp_c=None,
            power_w=power_w,
            throttled=None,
            sm_clock_mhz=clock_mhz,
        )
        return reading.explained(
            _ROOT_ALONE if self._power is None else "powermetrics does not report it",
            load="the I/O registry does not report it",
            memory="it is the machine's",
            temperature="macOS reports it to no program",
        )


def load_percent(registry: str) -> float | None:
    """Return the load in the output of ioreg; None if no accelerator says, or several do."""
    found = re.findall(r'"Device Utilization %"\s*=\s*(\d+)', registry)
    return float(found[0]) if len(found) == 1 and int(found[0]) <= 100 else None


def power_and_clock(text: str) -> tuple[float | None, float | None]:
    """Return (W, MHz) of the GPU from the output of powermetrics; macOS 12 leaves the letters HW out."""
    power = re.search(r"^GPU Power: (\d+) mW", text, re.MULTILINE)
    clock = re.search(r"^GPU (?:HW )?active frequency: (\d+) MHz", text, re.MULTILINE)
    return (float(power[1]) / 1000 if power else None, float(clock[1]) if clock else None)
