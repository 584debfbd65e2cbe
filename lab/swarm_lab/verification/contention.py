"""Measure what other programs of this machine take while hosts of the lab share its cores.

A host represents a separate machine, so the processor time of programs outside the lab is an error of the lab, like a
missed delay. It is reported with the result and never subtracted: two busy threads on one core slow each other down
without either of them waiting.
"""

from __future__ import annotations

import os
import time
from typing import Final

import psutil

DISTURBED_CORES: Final = 0.15  # far above what the daemons of an idle machine use


class Outsiders:
    """Programs outside the lab, from creation until `cores` is called. The lab is this process and all it started."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._all_s, self._own_s = _busy_s(), _own_s()

    def cores(self) -> float:
        """Return the processor time of others, per second; never below zero."""
        elapsed_s = time.monotonic() - self._began_s
        return max(0.0, (_busy_s() - self._all_s) - (_own_s() - self._own_s)) / max(elapsed_s, 1e-3)


def _busy_s() -> float:
    """Return the busy time of all processors since boot: neither idle nor waiting for a disk. Stolen time counts."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - 2 * getattr(times, "guest", 0.0))


def _own_s() -> float:
    """Return the time of this process, its living children, and ended ones (the kernel adds them up when reaped)."""
    own = psutil.Process(os.getpid())
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # it has ended since it was listed: its parent has its time now
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
