"""Keep a store in one SQLite file, which one process at a time may write."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from swarm_storage.errors import Corrupt, StoreError, from_sqlite
from swarm_storage.history.recording import Reader
from swarm_storage.history.retention import RETAIN_NS
from swarm_storage.sql import SqliteDb
from swarm_storage.sqlite.connect import WriterLock, checkpoint_log, connect_reader
from swarm_storage.sqlite.integrity import IntegrityCheck
from swarm_storage.sqlite.sqlite_backend import SqliteBackend
from swarm_storage.store_base import Passed, Store
from swarm_storage.writer.tasks import Committed
from swarm_storage.writer.writer import Writer


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
        """Return the bytes of the file and of its log; 0 if one does not exist."""
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
        """Close all readers, then the writer: the last to close checkpoints the log, which readers cannot do."""
        self.reader.close()
        if self._writer is not None:
            self._writer.close()
        elif self._lock is not None:
            checkpoint_log(self.path)
            self._lock.release()


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
