"""Copy a consistent snapshot of a store while a collector continues to write to it.

One read transaction of our own read-only connection spans the copy, so that it is consistent and never has to restart;
the writer is not delayed, only its log grows until the copy is done. The copy appears under its name only once it is
complete, checked and synced to the disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from swarm_storage.errors import StoreError, damaged, from_os, from_sqlite
from swarm_storage.sqlite.connect import connect_reader

STEP_PAGES: Final = 2_000  # 8 MB between two calls of `on_progress`


def backup(source: Path, target: Path, on_progress: Callable[[float], None] | None = None) -> int:
    """Copy `source` to `target`, which must not exist; return its size in bytes. Raises StoreError.

    `on_progress` receives the share that is done, and may raise to give up.
    """
    if target.exists():
        raise StoreError(f"{target} exists already; give another file, or remove it")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    reader = connect_reader(source)
    try:
        with contextlib.closing(reader):
            _copy(reader, source, draft, on_progress)
        _sync(draft)
        os.link(draft, target)  # unlike a rename, it never replaces a file that came meanwhile
        _sync(target.parent)
        return target.stat().st_size
    except FileExistsError as error:
        raise StoreError(f"{target} exists already; give another file, or remove it") from error
    except OSError as error:
        raise from_os(error, target) from error
    finally:
        for leftover in (draft, *(draft.with_name(draft.name + end) for end in ("-journal", "-wal", "-shm"))):
            with contextlib.suppress(OSError):  # the folder itself may be what is missing
                leftover.unlink(missing_ok=True)


def _copy(reader: sqlite3.Connection, source: Path, draft: Path, on_progress: Callable[[float], None] | None) -> None:
    def progress(_: int, remaining: int, total: int) -> None:
        if on_progress is not None:
            on_progress(1.0 - remaining / total if total else 1.0)

    try:
        reader.execute("BEGIN")
        reader.execute("SELECT 1 FROM node LIMIT 1").fetchall()  # the snapshot is taken by the first read
    except sqlite3.Error as error:
        raise from_sqlite(error, source) from error
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # synced once, at the end
            reader.backup(copy, pages=STEP_PAGES, progress=progress, sleep=0.0)
            # one file from here on: its copied header requires a log file
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            ((result,),) = copy.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        raise from_sqlite(error, draft) from error
    if result != "ok":
        raise damaged(source, result)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
