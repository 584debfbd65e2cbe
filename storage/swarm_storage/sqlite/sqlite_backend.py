"""Serve the writer with SQLite: opening, upkeep between commits, closing.

Upkeep is done in steps of some tens of milliseconds so that no batch waits long for its acknowledgement: buckets that
have ended are rolled up, old rows go, free pages go back to the disk, the write-ahead log is kept short. A log that a
slow reader holds cannot be reset, so when it has grown too far nothing more is written until the reader has gone: the
probes' spools keep what comes meanwhile.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from swarm_storage.errors import Corrupt, Full, LogHeld, Moved, StoreError, from_sqlite
from swarm_storage.history.retention import (
    RETAIN_NS,
    prune_step,
    vacuum_step,
)
from swarm_storage.sql import Db, SqliteDb
from swarm_storage.sqlite.connect import BUSY_MS, WriterLock, checkpoint_log, connect_writer, sidecar
from swarm_storage.sqlite.disk_reserve import DiskReserve
from swarm_storage.sqlite.file_identity import (
    OpenFiles,
    checkpoint_all,
    database_problem,
    inode,
    is_unlinked,
    save_copy,
)
from swarm_storage.sqlite.integrity import START_S, quick_check
from swarm_storage.writer.transaction import Known, NodeBatch
from swarm_storage.writer.upkeep import STEP_PAUSE_S, TIDY_EVERY_S, Prunes

WAL_IDLE_BYTES: Final = 8 << 20  # above, the log is checkpointed when nothing else is to be done
WAL_HELD_BYTES: Final = 128 << 20  # above, a reader must be holding it, and the operator is warned
MAX_WAL_BYTES: Final = 1 << 30  # above, writing waits for that reader
LOG_FRAME_BYTES: Final = 24  # of each page's header in the log
_PUT_BACK: Final = "put it back, or stop the collector and put a copy made by `swarmtop backup` there"

_log = logging.getLogger("swarm_storage")


class SqliteBackend:
    def __init__(
        self,
        path: Path,
        lock: WriterLock,
        *,
        retain_ns: int | None = RETAIN_NS,
        clock_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
        close_readers: Callable[[], None] = lambda: None,
    ) -> None:
        """Create it. `retain_ns` None: nothing is ever removed. `close_readers`: of this process; they reopen by
        themselves."""
        self.name = str(path)
        self._path = path
        self._lock = lock
        self._database = inode(path)  # the file that was opened; another one at this path is not ours
        self._files: OpenFiles | None = None  # while a connection is open
        self._close_readers = close_readers
        self._suspect = False  # the file must pass a check before it is written to again
        self._log_path = sidecar(path, "-wal")
        self._log_bytes = 0  # after the latest commit
        self._prunes = Prunes(self.name, retain_ns, clock_ns, steady_ns)
        self._disk_reserve = DiskReserve(path)
        self._wal_warned = False

    def connect(self) -> SqliteDb:
        self._require_database()
        db = SqliteDb(connect_writer(self._path, create=False))
        try:
            self._require_database()
            assert self._database is not None
            if self._suspect:
                quick_check(db.connection, self._path, START_S)
                self._suspect = False
            self._prunes.begin(db)
            self._files = OpenFiles.of(self._path, self._database)
            self._log_bytes = self._wal_bytes()
        except sqlite3.Error as error:
            db.close()
            raise from_sqlite(error, self._path) from error
        except StoreError:
            db.close()
            raise
        return db

    def _require_database(self) -> None:
        if self._database is None or (problem := database_problem(self._path, self._database)) is not None:
            raise Moved(f"{problem or f'there is no {self._path}'}; {_PUT_BACK}")

    def error(self, error: Exception) -> StoreError | None:
        if isinstance(
            error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError | sqlite3.DataError
        ):
            return None
        mapped = from_sqlite(error, self._path) if isinstance(error, sqlite3.Error) else None
        self._suspect = self._suspect or isinstance(mapped, Corrupt)
        return mapped

    def before(self, db: Db, batches: Sequence[NodeBatch]) -> None:
        self._require_files(db)
        self._require_whole_log(db)
        if not self._wal_warned or self._wal_bytes() < MAX_WAL_BYTES:
            return
        assert isinstance(db, SqliteDb)
        self._checkpoint(db)  # the reader may have gone
        if (size := self._wal_bytes()) >= MAX_WAL_BYTES:
            raise LogHeld(
                f"{self._path}-wal has {size >> 20} MB and a reader keeps it from being reset; close what has it open"
            )
        self._wal_warned = False

    def begun(self, db: Db, *, deciding: bool) -> None:
        """Do nothing: nobody else writes."""

    def confirm(self, db: Db) -> None:
        self._require_files(db)
        self._log_bytes = self._wal_bytes()

    def _require_files(self, db: Db) -> None:
        assert isinstance(db, SqliteDb)
        self._lock.renew()
        if self._files is not None:
            if (problem := self._files.database_problem()) is not None:
                raise self._moved(db, problem)
            if (problem := self._files.log_problem()) is not None:
                raise self._log_moved(db, problem)

    def condition(self) -> StoreError | None:
        files = self._files
        if files is not None and (problem := files.database_problem() or files.log_problem()) is not None:
            return Moved(f"{problem}; no more samples are accepted")
        if self._database is not None and (problem := database_problem(self._path, self._database)) is not None:
            return Moved(f"{problem}; {_PUT_BACK}")
        return None

    def tidy(self, db: Db, known: Known, *, busy: bool, well: bool) -> float:
        assert isinstance(db, SqliteDb)
        self._require_files(db)
        self._require_whole_log(db)
        more = False
        if self._wal_bytes() < MAX_WAL_BYTES:
            more = self._prunes.step(db, known)
            more = vacuum_step(db.connection) or more
        self._shorten_log(db, busy=busy)
        if well:
            self._disk_reserve.keep()
        return STEP_PAUSE_S if more else TIDY_EVERY_S

    def relieve(self, error: StoreError) -> SqliteDb | None:
        if isinstance(error, Moved):
            self._files = None
            self._close_readers()  # they have the old log open, and must not be mixed with whoever opens the file now
            return None
        if not isinstance(error, Full) or not self._disk_reserve.release():
            return None
        _log.warning("deleted the disk reserve %s to make room for removing old rows", self._disk_reserve.path)
        db = None
        try:
            db = self.connect()
            if self._prunes.retain_ns is not None:
                cutoff_ns = self._prunes.now_ns() - self._prunes.retain_ns
                while prune_step(db, cutoff_ns, unrolled=True):
                    pass
            while vacuum_step(db.connection):
                pass
            self._checkpoint(db)
        except (sqlite3.Error, StoreError) as failure:
            _log.warning("%s: no room could be made (%s)", self._path, failure)
            if db is not None:
                db.close()
            return None
        return db

    def end(self, db: Db | None, *, well: bool) -> None:
        if db is not None:
            db.close()  # the last connection checkpoints the log and removes it
        elif well and inode(self._path) == self._database:
            checkpoint_log(self._path)
        self._lock.release()

    # ------------------------------------------------------------ moved or removed files

    def _moved(self, db: SqliteDb, problem: str) -> Moved:
        """Handle a moved database: save its content and its log if there is room."""
        try:
            checkpoint_all(db.connection, self._path)
        except StoreError as error:
            _log.warning("%s: %s", self._path, error)
        assert self._database is not None
        if not is_unlinked(self._database):
            return Moved(f"{problem}; {_PUT_BACK}")
        try:
            copy = save_copy(db.connection, self._path)
        except sqlite3.Error as error:
            _log.error("%s: no copy could be made of what it held (%s)", self._path, error)
            copy = None
        if copy is None:
            return Moved(f"{problem}; {_PUT_BACK}")
        saved = f"what it held is saved in {copy}; stop the collector, move that to {self._path}, start it again"
        _log.error("%s: %s", self._path, saved)
        return Moved(f"{problem}; {saved}")

    def _log_moved(self, db: SqliteDb, problem: str) -> StoreError:
        """Move the log's content into the database, then reopen everything."""
        self._suspect = True
        try:
            checkpoint_all(db.connection, self._path)
        except StoreError as error:
            return Corrupt(f"{problem}, and {error}; stop the collector and look at the file with `PRAGMA quick_check`")
        return Moved(f"{problem}; what it held is in {self._path} now, which was reopened")

    def _require_whole_log(self, db: Db) -> None:
        """Check the log: if another program truncated it, the next writes would follow a gap and be lost in a crash."""
        if (size := self._wal_bytes()) >= self._log_bytes:
            return
        assert isinstance(db, SqliteDb)
        cut = Corrupt(
            f"{self._log_path} was cut to {size} bytes by another program; stop the collector and look at the file with"
            " `PRAGMA quick_check`, or put a copy made by `swarmtop backup` in its place"
        )
        try:
            ((_, pages, _),) = db.query("PRAGMA wal_checkpoint(PASSIVE)")
            ((page_bytes,),) = db.query("PRAGMA page_size")
        except sqlite3.Error as error:  # it cannot be read where it was cut
            raise cut from error
        if pages * (page_bytes + LOG_FRAME_BYTES) > size:
            raise cut
        self._log_bytes = size  # another program has checkpointed it, which is allowed

    # ------------------------------------------------------------ the log

    def _shorten_log(self, db: SqliteDb, *, busy: bool) -> None:
        size = self._wal_bytes()
        if size >= WAL_IDLE_BYTES and (not busy or size >= WAL_HELD_BYTES):
            self._checkpoint(db)
            size = self._wal_bytes()
        held = size >= WAL_HELD_BYTES
        if held and not self._wal_warned:
            _log.warning("%s-wal has grown to %d MB: a reader holds it; close what has it open", self._path, size >> 20)
        self._wal_warned = held

    def _checkpoint(self, db: SqliteDb) -> None:
        """Checkpoint without waiting for a reader."""
        db.connection.execute("PRAGMA busy_timeout = 0")
        try:
            db.query("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            self._log_bytes = self._wal_bytes()

    def _wal_bytes(self) -> int:
        try:
            return self._log_path.stat().st_size
        except OSError:  # it does not exist while nothing has been written
            return 0
