"""One store, opened by its URL: the file `sqlite:///FILE` names, ready to be read and, by one process, written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from swarm_storage.connect import WriterLock, connect_reader, connect_writer, fold_log, require_ours
from swarm_storage.db import SqliteDb
from swarm_storage.errors import Closed, ReadOnly, StoreError, from_sqlite
from swarm_storage.keeper import SqliteKeeper
from swarm_storage.reader import Reader
from swarm_storage.retention import RETAIN_NS
from swarm_storage.writer import Committed, Writer

_SCHEME = "sqlite://"


def open_store(url: str, *, read_only: bool = False) -> Store:
    """`sqlite:///FILE`, `sqlite:////absolute/FILE` or a plain path. Raises StoreError.

    Not read-only: the file is made or brought up to date, and nobody else can write it until `close`.
    """
    path = _path_of(url)
    require_ours(path, may_be_missing=not read_only)  # before a lock file is put beside somebody's letter
    lock = None if read_only else WriterLock(path)
    try:
        if lock is not None:
            connect_writer(path).close()
        return Store(path, _reader(path), lock)
    except StoreError:
        if lock is not None:
            lock.release()
        raise


def _path_of(url: str) -> Path:
    if url.startswith(("postgresql://", "postgres://")):
        raise StoreError("this swarmtop stores in SQLite only, not yet in PostgreSQL; give sqlite:///FILE")
    if "://" in url and not url.startswith(_SCHEME):
        raise StoreError(f"{url.partition('://')[0]}:// is no store; give sqlite:///FILE")
    if url.startswith(_SCHEME):
        rest = url.removeprefix(_SCHEME)
        if not rest.startswith("/") or rest == "/":
            raise StoreError(f"{url} names no file; give sqlite:///FILE, or sqlite:////FILE from the root folder")
        url = rest[1:]
    if not url:
        raise StoreError("an empty path is no store; give sqlite:///FILE")
    return Path(url).expanduser()


def _reader(path: Path) -> Reader:
    return Reader(
        str(path),
        lambda: SqliteDb(connect_reader(path)),
        lambda error: from_sqlite(error, path) if isinstance(error, sqlite3.Error) else None,
    )


class Store:
    """`reader` may be used from any thread, at any time; `writer` once."""

    def __init__(self, path: Path, reader: Reader, lock: WriterLock | None) -> None:
        self.path = path
        self.reader = reader
        self._lock = lock
        self._writer: Writer | None = None

    @property
    def read_only(self) -> bool:
        return self._lock is None

    def sizes(self) -> dict[str, int]:
        """Bytes of the file and of the log beside it; 0 where one is not there."""
        parts = {"file": self.path, "log": self.path.with_name(self.path.name + "-wal")}
        return {part: _size_bytes(path) for part, path in parts.items()}

    def writer(
        self,
        *,
        on_commit: Callable[[Sequence[Committed]], None] | None = None,
        retain_ns: int | None = RETAIN_NS,
    ) -> Writer:
        """The one writer, running from now on. Raises ReadOnly, or Closed where there has been one."""
        if self._lock is None:
            raise ReadOnly(f"{self.path} was opened for reading; open it without read_only")
        if self._writer is not None:
            raise Closed(f"{self.path} has had its writer; open the store anew")
        self._writer = Writer(SqliteKeeper(self.path, self._lock, retain_ns=retain_ns), on_commit=on_commit)
        return self._writer

    def close(self) -> None:
        """Ends all readers, then the writer: who closes last folds the log into the file, and readers cannot."""
        self.reader.close()
        if self._writer is not None:
            self._writer.close()
        elif self._lock is not None:
            fold_log(self.path)
            self._lock.release()


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
