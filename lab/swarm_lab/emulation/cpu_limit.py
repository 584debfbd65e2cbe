"""Slow a host down if the scenario sets `cpu`: limit its share of the processor with cgroups (v1 and v2)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# Short, so that a slow machine is slow rather than fast with long pauses: the limit must apply to a stage that computes
# for some milliseconds. The kernel's smallest quota is one millisecond.
MIN_PERIOD_US = 2_000
MIN_QUOTA_US = 1_000
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")
PREFIX = "swarmlab-"


class CpuShare:
    """A cgroup of one host. `join` is called in the child before it starts its program."""

    def __init__(self, label: str, cores: float) -> None:
        """Create it. Raises OSError where cgroups cannot be written (no root, a container without them)."""
        self._v2 = (_V2 / "cgroup.controllers").exists()
        self.folder = (_V2 if self._v2 else _V1) / f"{PREFIX}{os.getpid()}-{label}"
        if self._v2:
            (_V2 / "cgroup.subtree_control").write_text("+cpu")
        self.folder.mkdir(exist_ok=True)
        self.set(cores)

    def set(self, cores: float) -> None:
        period_us = max(MIN_PERIOD_US, round(MIN_QUOTA_US / cores))
        quota_us = max(round(cores * period_us), MIN_QUOTA_US)
        if self._v2:
            (self.folder / "cpu.max").write_text(f"{quota_us} {period_us}")
        else:
            (self.folder / "cpu.cfs_period_us").write_text(str(period_us))
            (self.folder / "cpu.cfs_quota_us").write_text(str(quota_us))

    def join(self) -> None:
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        """Remove it, after the last process in it has ended."""
        with contextlib.suppress(OSError):  # a process is still dying: the next start sweeps
            self.folder.rmdir()


def sweep() -> None:
    """Remove the cgroups of labs that ended without doing so (kill -9)."""
    for root in (_V1, _V2):
        for folder in root.glob(f"{PREFIX}*"):
            owner = folder.name.removeprefix(PREFIX).partition("-")[0]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()
