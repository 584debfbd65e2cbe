"""Check the schema version of a file, and bring it up to date by the steps in `migrations`.

Tables end in `_sample` and hold integers for nodes and nanoseconds for times; each has a view of its kind's name with
the columns that people read (names, ISO times), the same as in the CSV files, so that Datasette or sqlite3 show them
too. Migrations run through sqlite-utils on *our* connection; each one, its record and `user_version` are one
transaction. The files in tests/storage/goldens keep what each version looked like.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from swarm_storage.errors import NewerVersion, NotADatabase, OlderVersion
from swarm_storage.sqlite.migrations import STEPS
from swarm_storage.sqlite.migrations_1_to_7 import APPLICATION_ID

if TYPE_CHECKING:
    from pathlib import Path

    from sqlite_utils import Database

_BOOKKEEPING: Final = "_sqlite_migrations"
VERSION: Final = len(STEPS)


def check_version(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> bool:
    """Return whether a schema must be made or brought up to date. Raises where this file is not ours."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application != APPLICATION_ID:
        if tables - {_BOOKKEEPING, "sqlite_sequence"} or version or (read_only and not tables):
            raise NotADatabase(f"{path} is an SQLite database of another program; give another file")
        return True
    if version > VERSION:
        raise NewerVersion(
            f"{path} is of schema version {version}, this swarmtop knows up to {VERSION}; upgrade swarmtop"
        )
    if version < VERSION and read_only:
        raise OlderVersion(
            f"{path} is of schema version {version}, this swarmtop reads {VERSION}; open it once with swarm-collector"
        )
    return version < VERSION


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to VERSION, step by step; an interrupted step leaves the previous version intact."""
    from sqlite_utils import Database, Migrations  # 160 ms to import, and needed once in a file's life

    # sqlite-utils would use pysqlite3 where that is installed: a second SQLite library on the same file, whose POSIX
    # locks the first one drops. It never opens a file here: it receives the connection.
    db = Database(connection, execute_plugins=False, recursive_triggers=False)
    migrations = Migrations("swarmtop")
    for number, step in enumerate(STEPS, start=1):
        migrations(name=f"version {number}")(_numbered(step, number))
    migrations.apply(db)


def _numbered(step: Callable[[Database], None], number: int) -> Callable[[Database], None]:
    def run(db: Database) -> None:
        step(db)
        db.conn.execute(f"PRAGMA user_version = {number}")

    return run
