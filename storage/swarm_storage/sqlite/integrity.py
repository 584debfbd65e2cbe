"""Check the database file repeatedly with SQLite's quick_check, in steps of bounded time.

Damage done outside of SQLite goes unnoticed until the damaged page is read, which may be after months of
acknowledgements. So the whole file is read from time to time, by a new connection, because an old one would read from
its cache. A small file is checked at once. In a larger one each table is checked separately, and a table too large for
that bucket by bucket, because a long read transaction would keep the write-ahead log from being reset. After each step
there is a proportional pause, so that the share of a core is bounded.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from swarm_storage.errors import StoreError, damaged, from_sqlite
from swarm_storage.sqlite.connect import connect_plain_reader
from swarm_storage.sqlite.schema import check_version
from swarm_storage.store_base import Passed

STEP_S: Final = 2.0  # of one check: nothing else waits, but the log grows meanwhile
SHARE: Final = 0.02  # of a core, at most
EVERY_S: Final = 10.0  # between two checks of a small file
STEP_EVERY_S: Final = 1.0  # between two steps through a large one
START_S: Final = 5.0  # at the opening; a larger file is checked in steps later


def quick_check(connection: sqlite3.Connection, path: Path, limit_s: float, table: str | None = None) -> bool:
    """Return whether everything was checked within `limit_s`. Raises Corrupt where there is damage."""
    timer = threading.Timer(limit_s, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        what = "PRAGMA quick_check(1)" if table is None else f"PRAGMA quick_check('{table}')"
        result = [line for (line,) in connection.execute(what)]
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            return False
        raise from_sqlite(error, path) from error
    finally:
        timer.cancel()
        timer.join()
    if result != ["ok"]:
        raise damaged(path, " ".join(result[0].split()) if result else "quick_check says nothing")
    return True


def require_sound(path: Path, limit_s: float) -> None:
    """Check before anything is written, as far as `limit_s` allows. Raises StoreError.

    It uses a connection that cannot write: closing a damaged file must not fold its log into it.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with contextlib.closing(connect_plain_reader(path)) as connection:
            check_version(connection, path, read_only=False)
            quick_check(connection, path, limit_s)
    except sqlite3.Error as error:
        raise from_sqlite(error, path) from error


class IntegrityCheck:
    """The check of one store; `step` from one thread at a time, the rest from any."""

    def __init__(
        self, path: Path, connect: Callable[[], sqlite3.Connection], *, steady_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._connect = connect
        self._steady_s = steady_s
        self._steps: Iterator[bool] | None = None  # through a large file
        self._began_ns = 0
        self._next_s = 0.0
        self.passed: Passed | None = None

    @property
    def due(self) -> bool:
        return self._steady_s() >= self._next_s

    def hurry(self) -> None:
        """Check soon: there is a reason."""
        self._next_s = 0.0

    def step(self) -> None:
        """Check all of a small file, or the next part of a large one. Raises Corrupt."""
        began_s = self._steady_s()
        self._next_s = float("inf")  # set below, whatever happens
        whole = self._steps is None
        try:
            done = self._whole() if self._steps is None else next(self._steps)
        except StopIteration:
            done = True
        except StoreError:
            self._steps = None
            raise
        finally:
            now_s = self._steady_s()
            pause_s = EVERY_S if whole else STEP_EVERY_S
            self._next_s = now_s + max(pause_s, (now_s - began_s) / SHARE)
        if done:
            self._steps = None
            self.passed = Passed(time.time_ns(), self._began_ns)
        elif self._steps is None:
            self._steps = self._pieces()

    def _whole(self) -> bool:
        self._began_ns = time.time_ns()
        with self._connected() as connection:
            return quick_check(connection, self._path, STEP_S)

    def _pieces(self) -> Iterator[bool]:
        """Check in pieces; yields False after each."""
        with self._connected() as connection:
            tables = _query(connection, self._path, "SELECT name FROM sqlite_master WHERE type = 'table'")
        for table in ("sqlite_master", *(str(name) for (name,) in tables)):
            with self._connected() as connection:
                small = quick_check(connection, self._path, STEP_S, table)
            yield False
            if not small:
                yield from self._rows(table)

    def _rows(self, table: str) -> Iterator[bool]:
        """Read every row, a bucket at a time; a table without buckets is never so large."""
        with self._connected() as connection:
            columns = {str(row[1]) for row in _query(connection, self._path, f"PRAGMA table_info('{table}')")}
        piece = next((name for name in ("bucket", "piece") if name in columns), None)
        after = -1
        while piece is not None:
            with self._connected() as connection:
                ends_s = self._steady_s() + STEP_S / 2
                while piece is not None and self._steady_s() < ends_s:
                    sql = f"SELECT min({piece}) FROM {table} WHERE {piece} > {after}"
                    ((found,),) = _query(connection, self._path, sql)
                    if found is None:
                        piece = None
                    else:
                        after = int(found)
                        _query(connection, self._path, f"SELECT count(*) FROM {table} WHERE {piece} = {after}")
            yield False

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(self._connect()) as connection:
            yield connection


def _query(connection: sqlite3.Connection, path: Path, sql: str) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.Error as error:
        raise from_sqlite(error, path) from error
