"""Space reserved for a full disk: released when needed, reserved again when there is plenty."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from sample_fixtures import T0, batch, event

from swarm_protocol.units import NS_PER_S
from swarm_storage.errors import Full
from swarm_storage.sqlite import sqlite_backend as backend_module
from swarm_storage.sqlite.disk_reserve import DiskReserve
from swarm_storage.store import open_store
from swarm_storage.writer import writer as writer_module
from swarm_storage.writer.transaction import Transaction

HOUR_NS = 3600 * NS_PER_S
Usage = namedtuple("Usage", "total used free")


def test_it_takes_real_room_and_gives_it_back(tmp_path: Path):
    ballast = DiskReserve(tmp_path / "swarm.db", 1 << 20)
    assert ballast.keep()
    assert ballast.path.stat().st_blocks * 512 >= 1 << 20
    assert ballast.release()
    assert not ballast.release()
    assert list(tmp_path.iterdir()) == []


def test_it_is_not_made_where_there_is_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 93, 7 << 20))
    assert not DiskReserve(tmp_path / "swarm.db", 1 << 20).keep()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_the_ballast_and_old_rows_and_then_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer_module, "RETRY_S", (0.0, 0.0))
    for module in (writer_module, backend_module):
        monkeypatch.setattr(module, "TIDY_EVERY_S", 0.0)
    now_ns = T0
    store = open_store(str(tmp_path / "swarm.db"))
    backend = backend_module.SqliteBackend(
        store.path,
        store._lock,  # type: ignore[arg-type]
        retain_ns=HOUR_NS,
        clock_ns=lambda: now_ns,
        steady_ns=lambda: now_ns,
    )
    writer = writer_module.Writer(backend)
    ballast = tmp_path / "swarm.db.ballast"
    for seq in (1, 2):
        writer.submit(batch(seq, [event(T0 + seq)])).result(20)  # a tidying lies between: it makes the ballast
    assert ballast.exists()
    for module in (writer_module, backend_module):
        monkeypatch.setattr(module, "TIDY_EVERY_S", 3600.0)
    writer.submit(batch(3, [event(T0 + 3)])).result(20)
    now_ns = T0 + HOUR_NS + HOUR_NS // 2

    def full(_: Transaction, __: object) -> int:
        raise Full("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "batch", full)
        with pytest.raises(Full):
            writer.submit(batch(4, [event(now_ns)])).result(20)
    assert not ballast.exists()
    assert store.reader.events() == ()  # what was older than an hour made the room
    assert writer.submit(batch(4, [event(now_ns)])).result(20) == 4
    writer.close()
    store.close()
