"""Fixtures of the probe's tests."""

import errno
import os
import sys
from pathlib import Path

import pytest

from swarm_probe import spool as spool_module
from swarm_probe.measure import slot_scheduler

sys.path.insert(0, str(Path(__file__).parent))  # `fake_collector`, shared by this folder's tests


@pytest.fixture(autouse=True)
def line_and_mains_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe waits while other programs use the machine's line, or it runs on battery; tests must not."""
    monkeypatch.setattr(slot_scheduler, "system_counters", dict)
    monkeypatch.setattr(slot_scheduler, "system_battery", lambda: None)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """While `full` is set, writing takes half of what it is given, then raises ENOSPC; new files too."""
    switch = {"full": False, "half": True}
    real_write, real_open = os.write, os.open

    def write(fd: int, data: memoryview) -> int:
        if not switch["full"]:
            return real_write(fd, data)
        if switch["half"] and len(data) > 1:
            switch["half"] = False
            return real_write(fd, data[: len(data) // 2])
        switch["half"] = True
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if switch["full"] and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_open(path, flags, mode)

    monkeypatch.setattr(spool_module.os, "write", write)
    monkeypatch.setattr(spool_module.os, "open", open_)
    return switch
