"""Read how much runnable work waits for a processor (PSI, kernel documentation accounting/psi.rst).

The higher of the machine's and this container's: programs that share the processors slow layers down without showing
in this container's own CPU figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swarm_probe.operating_system.readings import Unreadable
from swarm_probe.operating_system.small_files import small_file

_FILES: Final = (Path("/proc/pressure/cpu"), Path("/sys/fs/cgroup/cpu.pressure"))
_SOME: Final = re.compile(rb"^some avg10=([0-9.]+) .*total=([0-9]+)$", re.MULTILINE)


def cpu_pressure_percent(files: Sequence[Path] = _FILES) -> float:
    """Return the share of the last ten seconds in which runnable work had to wait. Raises Unreadable."""
    return min(100.0, max(_read(files)[0]))


def cpu_waited_s(files: Sequence[Path] = _FILES) -> list[float]:
    """Return how many seconds work has had to wait on the machine and in this container, each since it started: what a
    total grows by during a measurement is what waited meanwhile. Raises Unreadable."""
    return [total / 1e6 for total in _read(files)[1]]


def _read(files: Sequence[Path]) -> tuple[list[float], list[int]]:
    found = []
    for file in files:
        try:
            found += _SOME.findall(small_file(file))
        except OSError:
            continue
    if not found:
        raise Unreadable("this kernel keeps no pressure figures (PSI)")
    return [float(share) for share, _ in found], [int(total) for _, total in found]
