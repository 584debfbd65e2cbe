"""Set the limits of the child process that times layers: how long each step may take, and how much memory it may use.

The child's command is here too, so that tests can start another program in its place. `supervisor` enforces the limits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec


def _child_command() -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "swarm_probe.compute")  # -P: nothing in the working folder is torch


def _machine_lock() -> str:
    user = os.getuid() if hasattr(os, "getuid") else 0
    return str(_temporary() / f"swarmtop-{user}-compute.lock")


def _temporary() -> Path:
    """Return the folder that `tempfile` would choose; it loads shutil and three compressors, half a megabyte."""
    named = (os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP"))
    folders = (*filter(None, named), "/tmp", "/var/tmp", "/usr/tmp")
    return Path(next((name for name in folders if os.access(name, os.W_OK | os.X_OK)), ".")).absolute()


class ComputeLimits(msgspec.Struct, frozen=True):
    """Limits in seconds unless the name says otherwise; what each bounds."""

    settle_s: float = 1.0  # people may be browsing models
    again_s: float = 6 * 3600.0  # drivers, clocks and heat change slowly
    failed_again_s: float = 600.0  # seconds after a failure, perhaps a temporary one; twice as long each time
    torch_again_s: float = 600.0  # torch may have been installed meanwhile
    turn_s: float = 1800.0  # waiting for other probes of this machine
    load_s: float = 180.0  # loading torch from a cold disk, starting CUDA
    grace_s: float = 60.0  # in addition to three times the budget: building layers
    end_s: float = 10.0  # from being killed to being gone
    look_s: float = 0.5  # between looks at its memory
    ram_bytes: int | None = None  # None: half of what is free
    lock_path: str = msgspec.field(default_factory=_machine_lock)
    command: Sequence[str] = msgspec.field(default_factory=_child_command)
