"""Read how many cores a quota allows (a container's, a slice's cgroup). Linux only, cgroups v1 and v2.

A quota of half a core holds in each period (100 ms, usually): work that fits a period's share runs at full speed,
longer work waits for the next. How long a thread waited for its quota cannot be read (cpu.stat counts a fifth of it on
Linux 6.18), but the least that it must have waited can be computed.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

import msgspec

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


class Quota(msgspec.Struct, frozen=True):
    cores: float
    period_s: float

    def least_s(self, used_s: float) -> float:
        """Return the least duration of so much processor time, begun with a whole period's share."""
        return math.floor(used_s / (self.cores * self.period_s)) * self.period_s


def quota_of_this_process(root: Path = CGROUPS, own: Path = OWN) -> Quota | None:
    """Return the tightest limit of this process's group and those above it; None if there is none or it is
    unreadable."""
    limits = [quota for folder in _groups(root, own) if (quota := _limit(folder)) is not None]
    return min(limits, key=lambda quota: quota.cores, default=None)


def _groups(root: Path, own: Path) -> list[Path]:
    """Yield the folders of the group that holds the processor controller, and of those above it."""
    try:
        lines = own.read_text(errors="replace").splitlines()
    except OSError:
        return []
    unified = os.path.exists(root / "cgroup.controllers")
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if "cpu" not in controllers.split(",") and not (unified and not controllers):
            continue
        top = root if unified else root / "cpu"
        folder = top / path.lstrip("/")
        # a container may see its own group as the top, under a path that exists only outside
        return [folder, *(p for p in folder.parents if p.is_relative_to(top))] if os.path.exists(folder) else [top]
    return []


def _limit(folder: Path) -> Quota | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):  # the other version of cgroups, or the top, which has no limit
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except (OSError, ValueError):
            return None
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):  # max, -1, or no valid number
        return None
    return Quota(int(quota) / int(period), int(period) / 1e6)
