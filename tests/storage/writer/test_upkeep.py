"""What happens between commits: old rows go, the file shrinks, the log stays short, and nothing of value is removed."""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_fixtures import T0, A, B, bare_host, batch, compute, event, hop, host, link, roofline, uplink

from swarm_protocol.units import NS_PER_S
from swarm_storage.errors import LogHeld
from swarm_storage.history import retention
from swarm_storage.history.replay import swarm_at
from swarm_storage.history.retention import HOLD_NS, PruneClock, prune_step, vacuum_step
from swarm_storage.history.roll_forward import roll_step
from swarm_storage.sql import SqliteDb
from swarm_storage.sqlite import sqlite_backend as backend_module
from swarm_storage.sqlite.connect import connect_writer
from swarm_storage.sqlite.sqlite_backend import SqliteBackend
from swarm_storage.store import open_store
from swarm_storage.store_base import Store
from swarm_storage.writer import writer as writer_module

HOUR_NS = 3600 * NS_PER_S


def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upkeep's next step is always due."""
    for module in (writer_module, backend_module):
        monkeypatch.setattr(module, "TIDY_EVERY_S", 0.0)
    monkeypatch.setattr(backend_module, "STEP_PAUSE_S", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "swarm.db"))
    yield opened
    opened.close()


def filled(store: Store, *samples: object) -> sqlite3.Connection:
    """A writing connection after `samples` were stored and the writer has gone."""
    store.writer().submit(batch(1, samples)).result(20)  # type: ignore[arg-type]
    store._writer.close()  # type: ignore[union-attr]
    return connect_writer(store.path)


def pruned(connection: sqlite3.Connection, cutoff_ns: int) -> None:
    db = SqliteDb(connection)
    while roll_step(db, cutoff_ns + 10 * HOUR_NS) is not None:
        pass
    while prune_step(db, cutoff_ns):
        pass
    connection.close()


def test_old_samples_of_every_kind_go_and_later_ones_stay(store: Store):
    old = [make(T0) for make in (link, hop, uplink, host, bare_host, event, compute, roofline)]
    new = [make(T0 + HOUR_NS) for make in (link, hop, uplink, host, bare_host, event, compute, roofline)]
    pruned(filled(store, *old, *new), T0 + HOUR_NS - 300 * NS_PER_S)
    assert sorted((sample for _, sample in store.reader.samples()), key=repr) == sorted(new, key=repr)
    assert store.reader.span().first_ns == T0 + HOUR_NS


def test_the_newest_layer_time_and_roofline_of_each_key_stay_however_old(store: Store):
    """A probe measures an unchanged layer once and never again."""
    kept = [compute(T0 + 1), compute(T0, context=1024), roofline(T0 + 1)]
    pruned(filled(store, compute(T0), roofline(T0), *kept), T0 + HOUR_NS)
    store_of = swarm_at(store.reader, T0 + 100 * HOUR_NS)
    assert len(store_of.facts[0].layers) == 2
    assert store.reader.query("SELECT count(*) FROM compute_sample UNION ALL SELECT count(*) FROM roofline_sample") == [
        (2,),
        (1,),
    ]


def test_one_step_removes_no_more_than_it_was_allowed_and_a_little(store: Store):
    peers = [f"{i:016x}" for i in range(20)]
    connection = filled(store, *(link(T0 + i, peer) for peer in peers for i in range(5)))
    assert (
        prune_step(SqliteDb(connection), T0 + HOUR_NS, max_rows=10, unrolled=True) == 100
    )  # the unit is one node's links of one bucket
    connection.close()
    assert list(store.reader.samples()) == []


def test_removed_room_is_given_back_to_the_disk_when_there_is_much_of_it(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "VACUUM_PAGES", 10)
    connection = filled(store, *(event(T0 + i, detail="x" * 300) for i in range(2000)))
    full = connection.execute("PRAGMA page_count").fetchone()[0]
    assert not vacuum_step(connection)
    while prune_step(SqliteDb(connection), T0 + HOUR_NS, unrolled=True):
        pass
    while vacuum_step(connection):
        pass
    assert connection.execute("PRAGMA page_count").fetchone()[0] < full / 2
    connection.close()


def test_the_writer_prunes_by_itself_by_its_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    often(monkeypatch)
    store = open_store(str(tmp_path / "swarm.db"))
    backend = SqliteBackend(store.path, store._lock, retain_ns=HOUR_NS, clock_ns=lambda: T0 + 2 * HOUR_NS)  # type: ignore[arg-type]
    writer = writer_module.Writer(backend)
    writer.submit(batch(1, [event(T0), event(T0 + 2 * HOUR_NS)])).result(20)
    writer.submit(batch(2, [event(T0 + 2 * HOUR_NS + 1)])).result(20)  # a tidying lies between
    writer.close()
    assert [e.at_ns - T0 - 2 * HOUR_NS for e in store.reader.events()] == [0, 1]
    store.close()


def test_the_log_is_folded_into_the_file_when_there_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backend_module, "WAL_IDLE_BYTES", 1)
    often(monkeypatch)
    log = tmp_path / "swarm.db-wal"
    sizes: queue.Queue[int] = queue.Queue()
    checkpoint = SqliteBackend._checkpoint

    def watched(backend: SqliteBackend, db: SqliteDb) -> None:
        checkpoint(backend, db)
        sizes.put(log.stat().st_size)

    monkeypatch.setattr(SqliteBackend, "_checkpoint", watched)
    store = open_store(str(tmp_path / "swarm.db"))
    store.writer().submit(batch(1, [event()])).result(20)
    assert sizes.get(timeout=20) == 0
    store.close()
    assert not log.exists()


def test_a_lingering_reader_delays_the_folding_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backend_module, "WAL_IDLE_BYTES", 1)
    often(monkeypatch)
    store = open_store(str(tmp_path / "swarm.db"))
    writer = store.writer()
    writer.submit(batch(1, [event()])).result(20)
    lingering = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
    cursor = lingering.execute("SELECT * FROM event_sample")
    for seq in range(2, 20):
        assert writer.submit(batch(seq, [event(T0 + seq)])).result(20) == seq
    assert writer.trouble is None
    cursor.close()
    lingering.close()
    store.close()


def test_no_read_of_ours_keeps_a_transaction_open(store: Store):
    """Else one viewer that stops reading an export makes the log grow without end."""
    connection = filled(store, *(link(T0 + i * 400 * NS_PER_S, B) for i in range(5)))
    samples = store.reader.samples()
    assert next(samples)[0] == A
    connection.execute("INSERT OR REPLACE INTO setting VALUES ('a', 'b')")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert len(list(samples)) == 4
    connection.close()


def test_a_clock_that_jumps_ahead_prunes_nothing_early_and_one_that_jumps_back_nothing_at_all():
    clock = PruneClock(T0)
    year_ns = 365 * 24 * HOUR_NS
    assert clock.now_ns(T0 + 1, 0) == T0 + 1
    assert clock.now_ns(T0 + year_ns, NS_PER_S) == T0 + 1 + NS_PER_S
    assert clock.now_ns(T0 + year_ns + HOUR_NS, HOUR_NS) == T0 + 1 + HOUR_NS
    assert clock.now_ns(T0 + 2 * HOUR_NS, 2 * HOUR_NS) == T0 + 2 * HOUR_NS  # set right again
    assert not clock.doubting
    assert clock.now_ns(T0 - year_ns, 3 * HOUR_NS) == T0 - year_ns


def test_a_jump_that_holds_is_believed_in_the_end():
    clock = PruneClock(T0)
    for hours in range(HOLD_NS // HOUR_NS):
        assert clock.now_ns(T0 + 1000 * HOUR_NS + hours * HOUR_NS, hours * HOUR_NS) == T0 + hours * HOUR_NS
    assert clock.now_ns(T0 + 1000 * HOUR_NS + HOLD_NS, HOLD_NS) == T0 + 1000 * HOUR_NS + HOLD_NS


def test_a_start_with_a_clock_a_year_ahead_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    often(monkeypatch)
    store = open_store(str(tmp_path / "swarm.db"))
    store.writer(retain_ns=None).submit(batch(1, [event(T0)])).result(20)
    store.close()
    store = open_store(str(tmp_path / "swarm.db"))
    now_ns = T0 + 8760 * HOUR_NS
    backend = SqliteBackend(store.path, store._lock, retain_ns=HOUR_NS, clock_ns=lambda: now_ns)  # type: ignore[arg-type]
    writer = writer_module.Writer(backend)
    for seq in (2, 3, 4):
        writer.submit(batch(seq, [event(now_ns + seq)])).result(20)  # a tidying lies between
    writer.close()
    assert len(store.reader.events()) == 4
    assert sum("end long before now" in line for line in caplog.messages) == 1
    store.close()


@pytest.mark.parametrize("begun", [False, True])
def test_an_orderly_end_leaves_the_file_alone_even_if_nothing_was_written(tmp_path: Path, begun: bool):
    path = tmp_path / "swarm.db"
    open_store(str(path)).close()
    store = open_store(str(path))
    assert store.reader.nodes() == ()
    if begun:
        store.writer()
    store.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["swarm.db", "swarm.db.lock"]


def test_a_log_that_a_reader_holds_grows_to_its_limit_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A disk full of log would stop everything else on the machine; the probes' spools have room."""
    often(monkeypatch)
    monkeypatch.setattr(backend_module, "WAL_IDLE_BYTES", 1)
    monkeypatch.setattr(backend_module, "WAL_HELD_BYTES", 200_000)
    monkeypatch.setattr(backend_module, "MAX_WAL_BYTES", 400_000)
    monkeypatch.setattr(writer_module, "RETRY_S", (0.0, 0.0))
    store = open_store(str(tmp_path / "swarm.db"))
    writer = store.writer(retain_ns=None)
    writer.submit(batch(1, [event()])).result(20)
    lingering = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
    cursor = lingering.execute("SELECT * FROM event_sample")
    log = tmp_path / "swarm.db-wal"
    seq, refusal = 1, ""
    while not refusal and seq < 500:
        try:
            seq = writer.submit(batch(seq + 1, [event(T0 + seq + 1, detail="x" * 300)] * 20)).result(20)
        except LogHeld as error:
            refusal = str(error)
    assert refusal.endswith("MB and a reader keeps it from being reset; close what has it open")
    held = log.stat().st_size
    with pytest.raises(LogHeld):
        writer.submit(batch(seq + 1, [event(T0 + seq + 1)])).result(20)
    assert log.stat().st_size <= held + 100_000 < 1_000_000
    cursor.close()
    lingering.close()
    assert writer.submit(batch(seq + 1, [event(T0 + seq + 1)])).result(20) == seq + 1
    assert sum("a reader holds it" in line for line in caplog.messages) == 1
    store.close()
