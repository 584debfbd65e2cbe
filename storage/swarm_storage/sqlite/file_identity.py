"""Check that the files at a store's path are still those being written, and save their content if not.

A file that is removed or replaced stays writable for the process that has it open, and what is written there is lost.
So the device and inode of each file are remembered when the store is opened and compared by stat before each
acknowledgement: the database, its log ("-wal") and the log's index ("-shm"). No file is opened here: see `connect`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_storage.errors import Moved, StoreError, from_sqlite
from swarm_storage.sqlite.connect import BUSY_MS, real_path, sidecar

Inode = tuple[int, int]
SUFFIXES: Final = ("-wal", "-shm")
SAVE_ROOM: Final = 1.2  # times its size must be free before a copy is made
SAVE_PAGES: Final = 10_000  # of a step
_FDS: Final = ("/proc/self/fd", "/dev/fd")


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """The files that were opened, by path."""

    path: Path
    database: Inode
    sidecars: tuple[tuple[Path, Inode], ...]  # the log and its index

    @classmethod
    def of(cls, path: Path, database: Inode) -> OpenFiles:
        """Return the files; call it right after a connection has written, when log and index exist. Raises Moved."""
        found = []
        for suffix in SUFFIXES:
            there = sidecar(path, suffix)
            if (known := inode(there)) is None:
                raise Moved(f"{there} was removed while it was opened; close what removes it")
            found.append((there, known))
        return cls(path, database, tuple(found))

    def database_problem(self) -> str | None:
        return database_problem(self.path, self.database)

    def log_problem(self) -> str | None:
        for there, expected in self.sidecars:
            if (found := inode(there)) != expected:
                what = "removed" if found is None else "replaced"
                return f"{there} was {what} by another program while it was written to"
        return None


def inode(path: Path) -> Inode | None:
    """Return the inode, following links. None: there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def database_problem(path: Path, expected: Inode) -> str | None:
    """Return why `path` is not the file that was opened there; None: it is."""
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{path} was removed or moved while it was written to ({error.strerror})"
    if (found.st_dev, found.st_ino) != expected:
        return f"{path} was replaced by another file while it was written to"
    if found.st_size == 0:
        return f"{path} was emptied while it was written to"
    return None


def is_unlinked(expected: Inode) -> bool:
    """Return whether the open file has no name left; also False where the system does not report it."""
    for folder in _FDS:
        try:
            numbers = [int(name) for name in os.listdir(folder)]
        except (OSError, ValueError):
            continue
        for number in numbers:
            try:
                found = os.fstat(number)
            except OSError:  # that of the listing itself, or closed meanwhile
                continue
            if (found.st_dev, found.st_ino) == expected:
                return found.st_nlink == 0
    return False


def checkpoint_all(connection: sqlite3.Connection, path: Path) -> None:
    """Checkpoint all of the log into the database file, through the open descriptors. Raises StoreError."""
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    try:
        ((busy, pages, copied),) = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
    except sqlite3.Error as error:
        raise from_sqlite(error, path) from error
    if busy or pages != copied:
        raise StoreError(f"the log of {path} could not be checkpointed: a reader holds it")


def save_copy(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Copy what `connection` has open to a new file next to `path`; None: there is no room, or no folder."""
    real = real_path(path)
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    ((page_bytes,),) = connection.execute("PRAGMA page_size").fetchall()
    try:
        if shutil.disk_usage(real.parent).free < SAVE_ROOM * pages * page_bytes:
            return None
        target = _free_name(real)
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError:
        return None
    try:
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            copy.execute("PRAGMA synchronous = FULL")
            connection.backup(copy, pages=SAVE_PAGES, sleep=0.0)
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, whole
        finally:
            copy.close()
    except sqlite3.Error:
        target.unlink(missing_ok=True)
        return None
    return target


def _free_name(real: Path) -> Path:
    number = 1
    while (target := real.with_name(f"{real.name}.saved-{number}")).exists():
        number += 1
    return target
