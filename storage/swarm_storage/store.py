"""One store, opened by its URL: a file of SQLite, written by one process, or a database of PostgreSQL, by several."""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from swarm_storage.errors import Closed, Corrupt, ReadOnly, StoreError, from_sqlite
from swarm_storage.history.recording import Reader
from swarm_storage.history.retention import RETAIN_NS
from swarm_storage.sql import SqliteDb
from swarm_storage.sqlite.backend import SqliteBackend
from swarm_storage.sqlite.connect import WriterLock, connect_reader, connect_writer, fold_log, require_ours
from swarm_storage.sqlite.integrity import START_S, IntegrityCheck, Passed, require_sound
from swarm_storage.writer.tasks import Committed
from swarm_storage.writer.writer import Writer

_SCHEME = "sqlite://"


def open_store(url: str, *, read_only: bool = False) -> Store:
    """`sqlite:///FILE`, `sqlite:////absolute/FILE`, a plain path, or `postgresql://…`. Raises StoreError.

    Not read-only: the store is made or brought up to date, and nobody else can write a file until `close`.
    """
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from swarm_storage.postgres.postgres_backend import PostgresStore  # psycopg is an extra
        except ImportError as error:
            raise StoreError(
                "postgresql:// needs psycopg, which is not installed; pip install 'swarmtop[postgresql]'"
            ) from error
        return PostgresStore(url, read_only=read_only)
    path = _path_of(url)
    require_ours(path, may_be_missing=not read_only)  # before a lock file is put beside somebody's letter
    lock = None if read_only else WriterLock(path)
    try:
        if lock is not None:
            require_sound(path, START_S)
            connect_writer(path).close()
        return SqliteStore(path, lock)
    except StoreError:
        if lock is not None:
            lock.release()
        raise


def _path_of(url: str) -> Path:
    if "://" in url and not url.startswith(_SCHEME):
        raise StoreError(f"{url.partition('://')[0]}:// is no store; give sqlite:///FILE or postgresql://HOST/DATABASE")
    if url.startswith(_SCHEME):
        rest = url.removeprefix(_SCHEME)
        if not rest.startswith("/") or rest == "/":
            raise StoreError(f"{url} names no file; give sqlite:///FILE, or sqlite:////FILE from the root folder")
        url = rest[1:]
    if not url:
        raise StoreError("an empty path is no store; give sqlite:///FILE or postgresql://HOST/DATABASE")
    return Path(url).expanduser()


class Store(ABC):
    """`recording` may be used from any thread, at any time; `writer` once."""

    name: str  # in what people read; without a password
    reader: Reader

    @property
    @abstractmethod
    def read_only(self) -> bool: ...

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Bytes on the disk, by part."""

    @abstractmethod
    def writer(
        self, *, on_commit: Callable[[Sequence[Committed]], None] | None = None, retain_ns: int | None = RETAIN_NS
    ) -> Writer:
        """The one writer of this process, running from now on. `retain_ns` None: nothing is ever removed.

        Raises ReadOnly, or Closed where there has been one."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    def check_due(self) -> bool:
        """Whether it is time for a step of the integrity check. From any thread."""
        return False

    @abstractmethod
    def check(self) -> None:
        """A step of the integrity check, some seconds at most; damage stops the writer.

        Raises StoreError where there is damage, or no check can be made."""

    @property
    def check_passed(self) -> Passed | None:
        """The latest check of all of the store; None: none yet, or that is the server's business."""
        return None

    def shared_url(self) -> str | None:
        """How several collectors reach this store; None: it is for one."""
        return None

    def secret(self, own: bytes) -> bytes:
        """What a collector derives its members' keys from: its own, or what all collectors of a shared store use."""
        return own

    def _require_first_writer(self, before: Writer | None) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.name} was opened for reading; open it without read_only")
        if before is not None:
            raise Closed(f"{self.name} has had its writer; open the store anew")


class SqliteStore(Store):
    def __init__(self, path: Path, lock: WriterLock | None) -> None:
        self.path = path
        self.name = str(path)
        self._lock = lock
        self._writer: Writer | None = None
        self._integrity = IntegrityCheck(path, lambda: connect_reader(path))
        self._checking = threading.Lock()
        self.reader = Reader(self.name, lambda: SqliteDb(connect_reader(path)), self._reading_failed)

    def _reading_failed(self, error: Exception) -> StoreError | None:
        mapped = from_sqlite(error, self.path) if isinstance(error, sqlite3.Error) else None
        if isinstance(mapped, Corrupt):
            self._integrity.hurry()
        return mapped

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
        self._require_first_writer(self._writer)
        assert self._lock is not None
        backend = SqliteBackend(self.path, self._lock, retain_ns=retain_ns, close_readers=self._close_readers)
        self._writer = Writer(backend, on_commit=on_commit)
        return self._writer

    def _close_readers(self) -> None:
        with self._checking:
            self.reader.reopen()

    @property
    def check_due(self) -> bool:
        return self._integrity.due

    def check(self) -> None:
        with self._checking:
            if self._writer is not None and self._writer.trouble is not None:
                return  # the file may not be the one that was opened
            try:
                self._integrity.step()
            except Corrupt as damage:
                if self._writer is not None and self._writer.condition is None:
                    self._writer.stop_intake(damage)
                raise

    @property
    def check_passed(self) -> Passed | None:
        return self._integrity.passed

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
