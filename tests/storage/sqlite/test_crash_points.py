"""kill -9 at named places of the writer: before, inside and after each transaction that matters.

Each child patches one function so that it dies there by SIGKILL; then the file is opened as after any crash, and must
hold every acknowledged batch once, no half of anything, and go on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sample_fixtures import T0, A, batch, event, link

from swarm_protocol.units import NS_PER_S
from swarm_storage.history.roll_forward import roll_step
from swarm_storage.sql import SqliteDb
from swarm_storage.sqlite.connect import connect_writer
from swarm_storage.store import open_store

HOUR_NS = 3600 * NS_PER_S
NOW = T0 + 10 * HOUR_NS  # by the clock of the child, which keeps an hour
CHILD = """
import os, signal, sys
from sample_fixtures import A, T0, batch, event, link
from swarm_storage import sql
from swarm_storage.writer import connection, transaction, writer
from swarm_storage.history import retention, roll_forward
from swarm_storage.sqlite import schema
from swarm_storage.sqlite import sqlite_backend as backend
from swarm_storage.store import open_store

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(real):
    def run(*arguments, **named):
        real(*arguments, **named)
        die()
    return run

def on_call(number, real):
    calls = 0
    def run(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == number:
            die()
        return real(*arguments, **named)
    return run

path, point = sys.argv[1:]
hour = 3600 * 10**9
writer.TIDY_EVERY_S = backend.TIDY_EVERY_S = backend.STEP_PAUSE_S = 0.0
tidy = backend.SqliteBackend.tidy
backend.SqliteBackend.tidy = lambda *_, **__: None  # nothing is rolled up or pruned until the place to die at is set
store = open_store(path)
w = store.writer(retain_ns=hour)
w._backend._prunes._clock_ns = lambda: T0 + 10 * hour
w._backend._prunes._steady_ns = lambda: 0
for seq in range(1, 4):
    links = [link(T0 + seq * 60 * 10**9 + i) for i in range(40)]
    w.submit(batch(seq, [*links, event(T0 + 10 * hour + seq)])).result(20)
    print(seq, flush=True)
exec(POINTS[point])
backend.SqliteBackend.tidy = tidy
for seq in range(4, 400):
    w.submit(batch(seq, [link(T0 + 10 * hour + seq), event(T0 + 10 * hour + seq)])).result(20)
    print(seq, flush=True)
"""
POINTS = {
    "before a transaction": "sql.SqliteDb.begin = die",
    "rows are in, the cursor is not": "sql.SqliteDb.insert = after(sql.SqliteDb.insert)",
    "before the commit": "sql.SqliteDb.commit = die",
    "committed, nobody was told": "transaction.Transaction.committed = die",
    "told one of two": "writer.Writer._answer = on_call(2, writer.Writer._answer)",
    "rolling up, minutes are in": "roll_forward._keep_newest = die",
    "rolling up an hour": "roll_forward._roll_hour = after(roll_forward._roll_hour)",
    "pruning, some rows are gone": "retention.raw_floor = on_call(3, retention.raw_floor)",
    "folding the log": "backend.WAL_IDLE_BYTES = 0; backend.SqliteBackend._checkpoint = die",
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_there_nothing_acknowledged_is_lost_or_doubled(point: str, tmp_path: Path):
    path = tmp_path / "swarm.db"
    code = CHILD.replace("POINTS[point]", repr(POINTS[point]))
    child = subprocess.run(
        [sys.executable, "-c", code, str(path), point], capture_output=True, text=True, cwd=Path(__file__).parents[1],
        timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == -9, child.stderr  # it came to that place
    acknowledged = int(child.stdout.split()[-1])
    store = open_store(str(path))
    committed = store.reader.committed_seq(A, 7)
    assert committed in (acknowledged, acknowledged + 1)
    writer = store.writer(retain_ns=None)
    assert writer.submit(batch(committed, [event(NOW + 999)])).result(20) == committed  # a repeat changes nothing
    assert writer.submit(batch(committed + 1, [event(NOW + committed + 1)])).result(20) == committed + 1
    store.close()
    db = SqliteDb(connect_writer(path))
    times = [ts - NOW for (ts,) in db.query("SELECT ts FROM event_sample ORDER BY ts")]
    assert times == list(range(1, committed + 2))
    while roll_step(db, T0 + 30 * HOUR_NS) is not None:
        pass
    ((rolled, raw),) = db.query("SELECT (SELECT sum(n) FROM link_hour), (SELECT count(*) FROM link_sample)")
    assert rolled == 120 + max(0, committed - 3)  # of the hour when the first three came: rolled up once, kept or not
    assert raw <= rolled
    assert db.query("PRAGMA integrity_check") == [("ok",)]
    db.close()


def test_killed_in_a_migration_the_next_start_finishes_it(tmp_path: Path):
    golden = Path(__file__).parents[1] / "goldens" / "schema-v1.sql"
    path = tmp_path / "swarm.db"
    code = f"""
import os, signal, sqlite3
old = sqlite3.connect({str(path)!r})
old.executescript(open({str(golden)!r}).read())
old.close()
from swarm_storage.sqlite import schema
from swarm_storage.store import open_store
def die(db):
    schema_steps[3](db)
    os.kill(os.getpid(), signal.SIGKILL)
schema_steps = schema.STEPS
schema.STEPS = (*schema.STEPS[:3], die, *schema.STEPS[4:])
open_store({str(path)!r})
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == -9
    store = open_store(str(path))
    assert store.writer().submit(batch(1, [link(T0)])).result(20) == 1
    assert len(list(store.reader.samples())) == 1
    store.close()
