"""Every version of the file: what it looked like is kept, each leads to the present one, and no step is left half done.

goldens/schema-vN.sql is the empty database of version N; UPDATE_GOLDENS=1 writes the newest one.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import types
from pathlib import Path

import pytest
from sample_fixtures import batch, one_of_each

from swarm_protocol.messages.samples import KINDS
from swarm_storage.errors import StoreError
from swarm_storage.rows import TABLES
from swarm_storage.sqlite import schema
from swarm_storage.store import open_store

GOLDENS = Path(__file__).parents[1] / "goldens"


def shape(path: Path) -> list[str]:
    """Everything that makes a file of some version, as SQL."""
    connection = sqlite3.connect(path)
    version, application = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
    )
    made = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    )
    lines = [f"{sql};" for (sql,) in made]
    steps = connection.execute("SELECT migration_set, name FROM _sqlite_migrations ORDER BY id").fetchall()
    lines += [f"INSERT INTO _sqlite_migrations (migration_set, name) VALUES {step};" for step in steps]
    connection.close()
    return [f"PRAGMA user_version = {version};", f"PRAGMA application_id = {application};", *lines]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    path = tmp_path / "fresh.db"
    open_store(str(path)).close()
    return path


def test_a_new_file_is_as_the_golden_of_this_version(fresh: Path):
    golden = GOLDENS / f"schema-v{schema.VERSION}.sql"
    text = "\n".join(shape(fresh)) + "\n"
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_there_is_a_golden_of_every_version():
    assert {path.name for path in GOLDENS.glob("schema-v*.sql")} == {
        f"schema-v{number}.sql" for number in range(1, schema.VERSION + 1)
    }


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_a_file_of_each_version_is_brought_up_to_date_and_usable(version: int, fresh: Path, tmp_path: Path):
    path = tmp_path / "old.db"
    old = sqlite3.connect(path)
    old.executescript((GOLDENS / f"schema-v{version}.sql").read_text())
    old.close()
    store = open_store(str(path))
    assert store.writer().submit(batch(1, one_of_each())).result(20) == 1
    store.close()
    assert shape(path) == shape(fresh)


def test_a_file_of_this_version_loses_the_index_that_nothing_reads(fresh: Path):
    """Readings had an index by node until December 2026."""
    without = shape(fresh)
    older = sqlite3.connect(fresh)
    older.execute("CREATE INDEX host_by_node ON host_sample (node, ts)")
    older.close()
    open_store(str(fresh)).close()
    assert shape(fresh) == without


def test_a_migration_that_fails_midway_leaves_the_version_before_whole(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    """And the next start tries it again."""
    before = shape(fresh)

    def halfway(db: object) -> None:
        db.conn.execute("CREATE TABLE half (done)")  # type: ignore[attr-defined]
        raise sqlite3.OperationalError("killed here")

    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, halfway))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(StoreError, match="killed here"):
        open_store(str(fresh))
    assert shape(fresh) == before


def test_a_first_start_cut_short_before_any_table_is_restarted(tmp_path: Path):
    path = tmp_path / "swarm.db"
    cut = sqlite3.connect(path)
    cut.execute(
        "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)"
    )
    cut.close()
    store = open_store(str(path))
    assert store.reader.nodes() == ()
    store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_tables_have_exactly_the_columns_that_rows_are_made_of(kind: str, fresh: Path):
    connection = sqlite3.connect(fresh)
    columns = {name for (name,) in connection.execute(f"SELECT name FROM pragma_table_info('{kind}_sample')")}
    connection.close()
    assert columns == set(TABLES[kind].columns)


def test_a_second_sqlite_library_is_never_used_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """sqlite-utils prefers pysqlite3 where it is installed; opening through both drops the first one's locks."""
    trap = types.ModuleType("pysqlite3")
    trap.connect = lambda *_, **__: pytest.fail("opened through another library")  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.startswith("sqlite_utils")]:
        monkeypatch.delitem(sys.modules, name)
    trap.__getattr__ = lambda name: getattr(sqlite3, name)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "pysqlite3", trap)
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", sqlite3.dbapi2)
    open_store(str(tmp_path / "swarm.db")).close()
    import sqlite_utils.utils

    assert sqlite_utils.utils.sqlite3 is trap  # the trap was set


def test_reading_a_recording_does_not_import_sqlite_utils(fresh: Path):
    """It costs 160 ms, and `--once --db` has to be quick."""
    code = (
        "from swarm_storage.history.replay import swarm_at\nfrom swarm_storage.store import open_store\n"
        f"swarm_at(open_store({str(fresh)!r}, read_only=True).reader, 1)\n"
        "import sys\nprint('sqlite_utils' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
