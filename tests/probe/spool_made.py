"""A spool in a folder, what waits in it, and a disk that takes nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from swarm_probe import spool as spool_module
from swarm_probe.spool import Spool
from swarm_protocol.messages.probe_messages import Batch, decode_from_probe
from swarm_protocol.messages.samples import EventSample, Sample

NOW_NS = 1_700_000_000_000_000_000


def note(n: int) -> EventSample:
    return EventSample(at_ns=NOW_NS + n, kind="note", detail=f"sample {n}")


def open_spool(folder: Path, said: list[str] | None = None, **limits: int) -> Spool:
    lines = said if said is not None else []
    return Spool(folder, now_ns=lambda: NOW_NS, say=lines.append, **limits)


def batches(spool: Spool) -> list[Batch]:
    """All that waits, in order, decoded by the collector's own decoder."""
    found: list[Batch] = []
    seq = spool.committed_seq
    while (record := spool.next_after(seq)) is not None:
        batch = decode_from_probe(record[1])
        assert isinstance(batch, Batch)
        assert batch.seq == record[0] > seq
        seq = batch.seq
        found.append(batch)
    return found


def details(spool: Spool) -> list[str]:
    samples: list[Sample] = [sample for batch in batches(spool) for sample in batch.samples]
    return [sample.detail for sample in samples if isinstance(sample, EventSample)]


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
