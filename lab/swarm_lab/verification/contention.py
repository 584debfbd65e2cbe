"""Measure what other programs of this machine take while hosts of the lab share its cores.

A host stands for a machine of its own, so what programs outside the lab take is an error of the lab, like a delay that
was not met. It is told beside the result and never taken off: two busy threads of one core slow each other without
either of them waiting.
"""

from __future__ import annotations

import os
import time
from typing import Final

import psutil

DISTURBED_CORES: Final = 0.15  # what an idle machine's own daemons stay far below


class Outsiders:
    """From its making until `cores` is asked. This process and all it started (and reaped meanwhile) is the lab."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._all_s, self._own_s = _busy_s(), _own_s()

    def cores(self) -> float:
        """Processor time of others, per second; never below zero."""
        elapsed_s = time.monotonic() - self._began_s
        return max(0.0, (_busy_s() - self._all_s) - (_own_s() - self._own_s)) / max(elapsed_s, 1e-3)


def _busy_s() -> float:
    """Of all processors since boot: what was neither idle nor waiting for a disk. A guest's share stolen counts."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - 2 * getattr(times, "guest", 0.0))


def _own_s() -> float:
    """Of this process, its children alive, and those that have ended (the kernel adds them up as they are reaped)."""
    own = psutil.Process(os.getpid())
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # it has ended since it was listed: its parent has its time now
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
