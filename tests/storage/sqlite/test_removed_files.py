"""Files that are removed, moved, replaced, cut or overwritten under a running writer.

Nothing is acknowledged that is not in the file at that path; what was acknowledged before can be had again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sample_fixtures import T0, A, batch, event, link
from writing_process import held, writing

from swarm_storage.errors import Corrupt, DiskFailed, Locked, Moved, StoreError
from swarm_storage.sqlite import integrity
from swarm_storage.sqlite.sqlite_store import SqliteStore
from swarm_storage.store import open_store
from swarm_storage.writer import writer as writer_module
from swarm_storage.writer.writer import Writer

Opened = tuple[SqliteStore, Writer]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A store with a hundred batches in it, some of them in the log alone."""
    monkeypatch.setattr(writer_module, "RETRY_S", (0.0, 0.0))
    store = open_store(str(tmp_path / "swarm.db"))
    assert isinstance(store, SqliteStore)
    writer = store.writer(retain_ns=None)
    for seq in range(1, 101):
        store_batch(writer, seq)
    yield store, writer
    store.close()


def store_batch(writer: Writer, seq: int) -> int:
    return writer.submit(batch(seq, [link(T0 + seq * 1000 + i) for i in range(50)])).result(20)


def files(store: SqliteStore) -> dict[str, Path]:
    return {suffix: store.path.with_name(store.path.name + suffix) for suffix in ("", "-wal", "-shm")}


# ---------------------------------------------------------------- the database


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm", ".lock")])
def test_a_removed_file_stops_intake_and_what_it_held_is_saved_beside_it(suffixes: tuple[str, ...], opened: Opened):
    store, writer = opened
    for suffix in suffixes:
        store.path.with_name(store.path.name + suffix).unlink()
    assert isinstance(writer.condition, Moved)  # though nothing was written since
    with pytest.raises(Moved, match=r"was removed or moved .* is saved in .*swarm\.db\.saved-1"):
        store_batch(writer, 101)
    for _ in range(3):
        with pytest.raises(Moved):
            store_batch(writer, 101)
    assert not store.path.exists()  # no new, empty one that would look like a store
    copies = list(store.path.parent.glob("*.saved-*"))
    store.close()
    assert [held(copy) for copy in copies] in ([100], [101])  # 101 was written when the removal was noticed


def test_a_file_moved_away_stops_intake_and_goes_on_when_it_is_back(opened: Opened):
    store, writer = opened
    elsewhere = store.path.with_name("elsewhere.db")
    store.path.rename(elsewhere)
    with pytest.raises(Moved, match=r"was removed or moved .*; put it back, or stop the collector"):
        store_batch(writer, 101)
    assert not list(store.path.parent.glob("*.saved-*"))
    assert not store.path.exists()
    elsewhere.rename(store.path)
    assert store_batch(writer, 101) == 101
    assert writer.condition is None
    store.close()
    assert held(store.path) == 101


def test_another_file_put_in_its_place_is_not_written_to(opened: Opened, tmp_path: Path):
    store, writer = opened
    other = open_store(str(tmp_path / "other.db"))
    other.close()
    before = (tmp_path / "other.db").read_bytes()
    (tmp_path / "other.db").replace(store.path)
    with pytest.raises(Moved, match=r"was replaced by another file while it was written to"):
        store_batch(writer, 101)
    store.close()
    assert store.path.read_bytes() == before


def test_a_link_is_followed_and_one_that_leads_elsewhere_stops_intake(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    name = tmp_path / "swarm.db"
    name.symlink_to(tmp_path / "disk" / "real.db")
    store = open_store(str(name))
    writer = store.writer(retain_ns=None)
    assert store_batch(writer, 1) == 1
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == [
        "real.db", "real.db-shm", "real.db-wal", "real.db.lock",
    ]  # fmt: skip
    with pytest.raises(Locked):
        open_store(str(tmp_path / "disk" / "real.db"))
    name.unlink()
    name.symlink_to(tmp_path / "disk" / "another.db")
    with pytest.raises(Moved):
        store_batch(writer, 2)
    store.close()


# ---------------------------------------------------------------- the log and its index


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_a_removed_log_is_folded_in_and_writing_continues(suffixes: tuple[str, ...], tmp_path: Path):
    path = tmp_path / "swarm.db"
    with writing(path) as writer:
        for _ in range(3):
            writer.wait_for(writer.acknowledged + 5)
            for suffix in suffixes:
                path.with_name(path.name + suffix).unlink()
            writer.wait_for(writer.acknowledged + 5)
        acknowledged = writer.kill()
        assert any("by another program while it was written to; what it held is in" in line for line in writer.refused)
    assert held(path) >= acknowledged > 20


def test_a_log_removed_while_nothing_comes_is_folded_in_all_the_same(opened: Opened):
    store, writer = opened
    files(store)["-wal"].unlink()
    assert isinstance(writer.condition, Moved)
    while writer.condition is not None:
        time.sleep(0.01)  # the writer's thread sees to it; a test that waits for ever is ended from outside
    copy = store.path.with_name("copy.db")
    shutil.copy(store.path, copy)  # what kill -9 would leave
    store.close()
    assert held(copy) == 100


def test_a_log_cut_by_somebody_is_damage(opened: Opened):
    store, writer = opened
    os.truncate(files(store)["-wal"], 0)
    with pytest.raises(Corrupt, match=r"swarm\.db-wal was cut to 0 bytes by another program"):
        store_batch(writer, 101)


def test_a_log_that_another_program_has_folded_is_no_damage(opened: Opened):
    store, writer = opened
    code = f"import sqlite3; sqlite3.connect({str(store.path)!r}).execute('PRAGMA wal_checkpoint(TRUNCATE)')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert files(store)["-wal"].stat().st_size == 0
    assert store_batch(writer, 101) == 101


# ---------------------------------------------------------------- damage


def overwrite(path: Path) -> None:
    """Every page but the first, as `dd conv=notrunc` would."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


IN_PLACE = {
    "overwritten": overwrite,
    "emptied": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 8192 * 4096),
    "header": lambda path: path.write_bytes(b"x" * path.stat().st_size),
}


@pytest.mark.parametrize("how", IN_PLACE)
def test_damage_is_found_stops_intake_for_good_and_the_next_start_is_one_line(how: str, tmp_path: Path):
    """In a process of its own: here it would be our own closing of the file that drops its locks."""
    path = tmp_path / "swarm.db"
    code = f"""
import sys
from sample_fixtures import *
from swarm_storage.store import open_store
from swarm_storage.errors import StoreError
store = open_store({str(path)!r})
writer = store.writer(retain_ns=None)
for seq in range(1, 301):
    writer.submit(batch(seq, [link(T0 + seq * 1000 + i) for i in range(50)])).result(20)
store.check()
print("ready", flush=True)
sys.stdin.readline()
try:
    store.check()
except StoreError as error:
    print(error, flush=True)
for seq in range(301, 306):
    try:
        print(writer.submit(batch(seq, [link(T0 + seq * 1000)])).result(20))
    except StoreError as error:
        print("not taken")
print(type(writer.condition).__name__, flush=True)
sys.stdin.readline()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        IN_PLACE[how](path)
        child.stdin.write("\n")
        child.stdin.flush()
        lines = [child.stdout.readline() for _ in range(7)]
    finally:
        child.kill()
        child.communicate()
    assert lines[1:6] == ["not taken\n"] * 5
    assert lines[6].strip() in ("Corrupt", "NotADatabase", "Moved")
    left = {each.name: each.read_bytes() for each in path.parent.glob("swarm.db*") if each.suffix in (".db", ".db-wal")}
    with pytest.raises(StoreError) as refused:
        open_store(str(path))
    assert "\n" not in str(refused.value)
    assert {name: path.with_name(name).read_bytes() for name in left} == left  # for who wants to save what is there


def test_damage_that_a_reader_meets_is_looked_into_at_once(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    store, _ = opened
    store.check()
    assert not store.check_due
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    assert isinstance(store._reading_failed(error), Corrupt)
    assert store.check_due


def test_a_large_file_is_checked_in_steps(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    """Here none is large: a check that may take no time stands for one that takes too long."""
    store, _ = opened
    real = integrity.quick_check

    def never_whole(connection: object, path: Path, limit_s: float, table: str | None = None) -> bool:
        return table is not None and table != "link_sample" and real(connection, path, limit_s, table)  # type: ignore[arg-type]

    monkeypatch.setattr(integrity, "quick_check", never_whole)
    steps = 0
    while store.check_passed is None:
        store.check()
        steps += 1
    assert 20 < steps < 100
    assert not store.check_due


def test_a_failing_disk_must_pass_a_check_before_it_is_written_to_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    _, writer = opened
    checked = []
    monkeypatch.setattr("swarm_storage.sqlite.sqlite_backend.quick_check", lambda *_: checked.append(1) or True)
    failing = sqlite3.OperationalError("disk I/O error")
    failing.sqlite_errorcode = sqlite3.SQLITE_IOERR

    def fails(*_: object) -> None:
        raise failing

    with monkeypatch.context() as patch:
        patch.setattr("swarm_storage.writer.transaction.Transaction.flush", fails)
        with pytest.raises(DiskFailed):
            store_batch(writer, 101)
    assert store_batch(writer, 101) == 101
    assert checked == [1]


# ---------------------------------------------------------------- the lock


def test_a_removed_lock_file_lets_no_second_writer_in(opened: Opened):
    store, writer = opened
    lock = store.path.with_name("swarm.db.lock")
    lock.unlink()
    assert store_batch(writer, 101) == 101
    code = f"from swarm_storage.store import open_store\nopen_store({str(store.path)!r})"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert f"is being written by process {os.getpid()}" in second.stderr
    assert store.reader.committed_seq(A, 7) == 101
    assert writer.submit(batch(102, [event()])).result(20) == 102
