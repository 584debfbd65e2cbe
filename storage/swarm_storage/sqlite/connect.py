"""The two ways a database file is opened: the one writing connection of the whole machine, and readers.

Why neither known trap of SQLite in WAL mode can bite:

- *The WAL-reset race* (SQLite before 3.51.3; Python brings 3.40 here): two connections, one resetting the write-ahead
  log while the other checkpoints or writes, can lose a committed transaction. It takes two connections that write or
  checkpoint. Here there is one: `WriterLock` (flock on `FILE.lock`, released by the kernel however a process dies)
  admits one writer on the machine, that writer is one thread with one connection at a time, and readers are opened
  `mode=ro`, which can neither write nor checkpoint, not even when they are closed last.
- *Two SQLite libraries in one process*: closing a file in one drops the other's POSIX locks. Every connection is made
  here, by the standard library's sqlite3; sqlite-utils is handed one and never opens a file (see `schema.migrate`).

Other programs (Datasette, the sqlite3 shell) must open the file read-only while a collector runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import urllib.parse
from pathlib import Path
from typing import Final

from swarm_storage.errors import (
    Corrupt,
    Locked,
    Missing,
    NotADatabase,
    ReadOnly,
    StoreError,
    from_os,
    from_sqlite,
)
from swarm_storage.sqlite.schema import check_version, migrate

BUSY_MS: Final = 5_000  # another program's read of the whole file, or a stray writer's one transaction
CACHE_KIB: Final = 32_768
WAL_PAGES: Final = 1_000  # 4 MB between checkpoints: short ones, off no one's critical path
WAL_KEEP_BYTES: Final = 16 << 20  # what a reset leaves of a log that a lingering reader made grow
_log = logging.getLogger("swarm_storage")
_MAGIC: Final = b"SQLite format 3\x00"


class WriterLock:
    """The right to write one file. Raises Locked where somebody has it."""

    def __init__(self, path: Path) -> None:
        import fcntl  # POSIX only, as are the probe and the collector; readers do without

        self.path = path.with_name(path.name + ".lock")
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_os(error, path) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise Locked(
                f"{path} is being written by process {owner or '?'}; stop it, or connect to it instead"
            ) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only the number is missing
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """The file stays: removing it would let two processes lock two files of one name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def connect_writer(path: Path) -> sqlite3.Connection:
    """The writing connection, schema up to date. To be called with the WriterLock held. Raises StoreError."""
    require_ours(path, may_be_missing=True)
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        outdated = check_version(connection, path, read_only=False)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in an empty file only
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{path} cannot use a write-ahead log here (it is in {mode} mode); use a local disk")
        for pragma in (
            "synchronous = FULL",
            f"wal_autocheckpoint = {WAL_PAGES}",
            f"journal_size_limit = {WAL_KEEP_BYTES}",
            f"cache_size = -{CACHE_KIB}",
            "secure_delete = OFF",  # some builds overwrite what retention deletes: twice the writing for nothing
            "foreign_keys = OFF",  # rows are made from interned nodes only; checking each would double the seeks
        ):
            connection.execute(f"PRAGMA {pragma}")
        if outdated:
            migrate(connection)
        _require_writable(connection)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise from_sqlite(error, path) from error
    except StoreError:
        if connection is not None:
            connection.close()
        raise
    return connection


def fold_log(path: Path) -> None:
    """At an orderly end where nothing was written: readers have made the files of an empty log and cannot remove them.

    To be called with the WriterLock held and no connection of ours open.
    """
    if not path.with_name(path.name + "-wal").exists():
        return
    try:
        connect_writer(path).close()
    except StoreError as error:
        _log.warning("the log beside %s stays (%s)", path, error)


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can neither write nor checkpoint. Raises StoreError."""
    require_ours(path, may_be_missing=False)
    try:
        return _open_reader(path, "mode=ro")
    except (ReadOnly, Corrupt) as error:
        # In WAL mode even reading needs the -shm file. Where the folder is read-only and nothing waits in a log,
        # the file alone is the whole truth and cannot change.
        log = path.with_name(path.name + "-wal")
        if os.access(path.parent, os.W_OK):
            raise
        if log.exists() and log.stat().st_size > 0:
            raise ReadOnly(
                f"{path} cannot be read in a read-only folder while {log.name} holds changes; copy both elsewhere"
            ) from error
        return _open_reader(path, "immutable=1")


def _open_reader(path: Path, how: str) -> sqlite3.Connection:
    uri = f"file:{urllib.parse.quote(str(path.absolute()))}?{how}"
    connection = None
    try:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA query_only = 1")
        check_version(connection, path, read_only=True)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise from_sqlite(error, path) from error
    except StoreError:
        if connection is not None:
            connection.close()
        raise
    return connection


def require_ours(path: Path, *, may_be_missing: bool) -> None:
    """Before SQLite touches it: is this a database at all?"""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        if not may_be_missing:
            raise Missing(f"there is no {path}; check the path, or record one with swarm-collector") from error
        if not path.parent.is_dir():
            raise Missing(f"there is no folder {path.parent}; make it, or give another --store") from error
        return
    except IsADirectoryError as error:
        raise NotADatabase(f"{path} is a folder; give a file") from error
    except OSError as error:
        raise from_os(error, path) from error
    if head == _MAGIC or (not head and may_be_missing):
        return
    raise NotADatabase(f"{path} is {'empty' if not head else 'not an SQLite database'}; give another file")


def _require_writable(connection: sqlite3.Connection) -> None:
    """SQLite quietly opens a file that it may not write for reading: find out now, not at the first batch."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT OR REPLACE INTO setting (key, value) VALUES ('writer_pid', ?)", (str(os.getpid()),))
    connection.execute("COMMIT")
