"""Open a database file: the one writing connection of the machine, or readers.

Why neither known trap of SQLite in WAL mode can occur:

- *The WAL-reset race* (SQLite before 3.51.3; Python brings 3.40 here): two connections, one resetting the write-ahead
  log while the other checkpoints or writes, can lose a committed transaction. It takes two connections that write or
  checkpoint. Here there is one: `WriterLock` (flock on `FILE.lock`, released by the kernel however a process dies)
  admits one writer on the machine, that writer is one thread with one connection at a time, and readers are opened
  `mode=ro`, which can neither write nor checkpoint, not even when they are closed last.
- *Two SQLite libraries in one process*: closing a file in one drops the other's POSIX locks. Every connection is made
  by the standard library's sqlite3: those to a store here, the one to a new copy in `backup`; sqlite-utils receives one
  and never opens a file (see `schema.migrate`).

The same holds for a plain open(): POSIX drops all locks that a process has on a file when it closes *any* descriptor
of it. Nothing in this package opens a database file, its log or its index but through SQLite; what a file is, is read
through a connection (`require_ours`), and which file it is, by stat (`file_identity`). While a store is open, one of
its connections is open too and holds SQLite's shared lock: another program that closes the file cannot be the last one
that has it open, and remove the log.

Other programs (Datasette, the sqlite3 shell) should open the file read-only while a collector runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import urllib.parse
from collections.abc import Iterator
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
CACHE_KIB: Final = 8_192  # four times as much made no batch cheaper: the kernel caches the file too
WAL_PAGES: Final = 1_000  # 4 MB between checkpoints: short ones, outside of any commit
WAL_KEEP_BYTES: Final = 16 << 20  # what a reset keeps of a log that a slow reader made grow
# Made by versions up to 10, and read by nothing since: no version of its own, so that older files need no upgrade.
UNUSED_INDEX: Final = "host_by_node"
_log = logging.getLogger("swarm_storage")


class WriterLock:
    """The right to write one file. Raises Locked if another process has it."""

    def __init__(self, path: Path) -> None:
        self.path = real_path(path).with_name(real_path(path).name + ".lock")
        self._named = path
        self._fd = self._take()

    def _take(self) -> int:
        import fcntl  # POSIX only, as are the probe and the collector; readers do without

        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_os(error, self._named) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise Locked(
                f"{self._named} is being written by process {owner or '?'}; stop it, or connect to it instead"
            ) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only the number is missing
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def renew(self) -> None:
        """Take the lock again where its file has been removed: another process could take the new one. Raises Locked
        where one has."""
        ours = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except OSError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            taken = self._take()
            os.close(self._fd)
            self._fd = taken

    def release(self) -> None:
        """Release the lock; the file stays, since removing it would let two processes lock two files of one name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def real_path(path: Path) -> Path:
    """Return where the file is, links followed: SQLite puts the log and its index next to that."""
    return Path(os.path.realpath(path))


def connect_writer(path: Path, *, create: bool = True) -> sqlite3.Connection:
    """Return the writing connection, schema up to date. Call it with the WriterLock held. Raises StoreError.

    Not `create`: a missing file is an error, not a new empty one."""
    require_ours(path, may_be_missing=create)
    with _opened(path, "mode=rwc" if create else "mode=rw") as connection:
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
        connection.execute(f"DROP INDEX IF EXISTS {UNUSED_INDEX}")
        _require_writable(connection)
        return connection


def checkpoint_log(path: Path) -> None:
    """Checkpoint the log at an orderly end where nothing was written: readers leave an empty log that they cannot
    remove.

    Call it with the WriterLock held and no connection of ours open.
    """
    if not path.exists() or not sidecar(path, "-wal").exists():
        return
    try:
        connect_writer(path, create=False).close()
    except StoreError as error:
        _log.warning("the log of %s stays (%s)", path, error)


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that can neither write nor checkpoint. Raises StoreError."""
    require_ours(path, may_be_missing=False)
    try:
        return _open_reader(path, "mode=ro")
    except (ReadOnly, Corrupt) as error:
        # In WAL mode even reading needs the -shm file. Where the folder is read-only and no log has content, the file
        # alone is complete and cannot change.
        log = sidecar(path, "-wal")
        if os.access(path.parent, os.W_OK):
            raise
        if log.exists() and log.stat().st_size > 0:
            raise ReadOnly(
                f"{path} cannot be read in a read-only folder while {log.name} holds changes; copy both elsewhere"
            ) from error
        return _open_reader(path, "immutable=1")


def _open_reader(path: Path, how: str) -> sqlite3.Connection:
    with _opened(path, how) as connection:
        connection.execute("PRAGMA query_only = 1")
        check_version(connection, path, read_only=True)
        return connection


@contextlib.contextmanager
def _opened(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    """Yield a new connection. If the block fails, close it; SQLite's errors become StoreErrors."""
    connection = None
    try:
        connection = sqlite3.connect(
            _uri(path, how), uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        yield connection
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise from_sqlite(error, path) from error
    except StoreError:
        if connection is not None:
            connection.close()
        raise


def sidecar(path: Path, suffix: str) -> Path:
    """Return the path of the log ("-wal") or its index ("-shm"), as SQLite names them."""
    real = real_path(path)
    return real.with_name(real.name + suffix)


def _uri(path: Path, how: str) -> str:
    return f"file:{urllib.parse.quote(str(path.absolute()))}?{how}"


def connect_plain_reader(path: Path, *, busy_s: float = BUSY_MS / 1000) -> sqlite3.Connection:
    """Connect to any file. Raises sqlite3.Error."""
    return sqlite3.connect(_uri(path, "mode=ro"), uri=True, timeout=busy_s, check_same_thread=False)


def require_ours(path: Path, *, may_be_missing: bool) -> None:
    """Raise StoreError where `path` is no database at all. The file is read by SQLite alone: see above."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        if not may_be_missing:
            raise Missing(f"there is no {path}; check the path, or record one with swarm-collector") from error
        if not path.parent.is_dir():
            raise Missing(f"there is no folder {path.parent}; make it, or give another --store") from error
        _require_no_log(path, "missing")
        return
    except OSError as error:
        raise from_os(error, path) from error
    if stat.S_ISDIR(found.st_mode):
        raise NotADatabase(f"{path} is a folder; give a file")
    if not stat.S_ISREG(found.st_mode):
        raise NotADatabase(f"{path} is not an ordinary file; give another file")
    if not os.access(path, os.R_OK):
        raise ReadOnly(f"cannot read {path} (permission denied); make the file readable")
    if found.st_size == 0:
        _require_no_log(path, "empty")
        if may_be_missing:
            return
        raise NotADatabase(f"{path} is empty; give another file")
    try:
        with contextlib.closing(connect_plain_reader(path, busy_s=0.0)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        if isinstance(mapped := from_sqlite(error, path), NotADatabase):
            raise mapped from error
        # Locked, damaged, or a log that cannot be read in this folder: the next open reports it.


def _require_no_log(path: Path, what: str) -> None:
    """Refuse a new file next to a log: SQLite would remove the log, which is all that is left of the former file."""
    log = sidecar(path, "-wal")
    if log.exists() and log.stat().st_size > 0:
        raise Corrupt(
            f"{path} is {what} but its log {log.name} is there; put the file back, or a copy made by `swarmtop backup`"
            f" after you have moved {log.name} away"
        )


def _require_writable(connection: sqlite3.Connection) -> None:
    """Check now that the file is writable: SQLite silently opens an unwritable one for reading."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT OR REPLACE INTO setting (key, value) VALUES ('writer_pid', ?)", (str(os.getpid()),))
    connection.execute("COMMIT")
