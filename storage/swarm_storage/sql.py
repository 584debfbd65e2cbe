"""Define one interface to both databases: the SQL of this package runs unchanged on SQLite and PostgreSQL.

What both support is written once (`?` for an argument, upserts by ON CONFLICT, integers for yes and no); the few
statements that differ are methods here. `SqliteDb` is this module's, `postgres_backend.PostgresDb` the other.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, Protocol

from swarm_storage.link_columns import LINK, NodeWindows, stacked
from swarm_storage.rows import Row, Table

ROWS_AT_ONCE: Final = (256, 64, 8, 1)  # in one statement, as many as there are rows for
Arguments = Sequence[Any]


class Db(Protocol):
    """A connection. Errors are the driver's own; the caller maps them."""

    shared: bool  # others may write too: earlier reads may be out of date

    def query(self, sql: str, arguments: Arguments = ()) -> list[Row]:
        """Return all rows at once."""

    def run(self, sql: str, arguments: Arguments = ()) -> int:
        """Run a statement; return how many rows it changed."""

    def many(self, sql: str, rows: Sequence[Arguments]) -> None: ...

    def insert(self, table: Table, rows: list[Row]) -> None:
        """Insert samples; an existing one (same nodes and nanosecond) stays as it is."""

    def insert_windows(self, windows: Sequence[NodeWindows]) -> None:
        """Insert windows of round trips in the same way."""

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    @property
    def in_transaction(self) -> bool: ...
    def close(self) -> None: ...


class SqliteDb:
    shared = False

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def query(self, sql: str, arguments: Arguments = ()) -> list[Row]:
        return self.connection.execute(sql, arguments).fetchall()

    def run(self, sql: str, arguments: Arguments = ()) -> int:
        return self.connection.execute(sql, arguments).rowcount

    def many(self, sql: str, rows: Sequence[Arguments]) -> None:
        self.connection.executemany(sql, rows)

    def insert(self, table: Table, rows: list[Row]) -> None:
        if rows:
            self._insert(table, dict(zip(table.columns, zip(*rows, strict=True), strict=True)), {})

    def insert_windows(self, windows: Sequence[NodeWindows]) -> None:
        if windows:
            self._insert(LINK, *stacked(windows))

    def _insert(self, table: Table, columns: Mapping[str, Sequence[Any]], constants: dict[str, Any]) -> None:
        """Insert several rows a statement: Python's sqlite3 releases the interpreter lock at each, and while an event
        loop is busy in another thread, getting it back costs more than the row. Cells that are the same in all rows
        are bound once a statement, NULLs not at all, and bools are made integers: for each NULL and bool sqlite3 asks
        for an adapter, which took half of the time."""
        key, bools = table.key, table.bool_names
        varying: dict[str, Sequence[Any]] = {}
        for name, cells in columns.items():
            if name not in key and cells.count(cells[0]) == len(cells):
                constants[name] = cells[0]
            else:
                varying[name] = [None if cell is None else int(cell) for cell in cells] if name in bools else cells
        constants = {name: cell for name, cell in constants.items() if cell is not None}
        shared = tuple([int(cell) if name in bools else cell for name, cell in constants.items()])
        rows = sorted(zip(*varying.values(), strict=True), key=operator.itemgetter(*range(len(key))))
        done = 0
        for at_once in ROWS_AT_ONCE:
            whole = done + (len(rows) - done) // at_once * at_once
            if whole > done:
                self.connection.executemany(
                    table.insert_of(at_once, tuple(varying), tuple(constants)),
                    ((*shared, *chain.from_iterable(rows[i : i + at_once])) for i in range(done, whole, at_once)),
                )
            done = whole

    def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        self.connection.execute("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def close(self) -> None:
        self.connection.close()


@contextmanager
def transaction(db: Db) -> Iterator[None]:
    """Commit at the end; roll back if anything is raised."""
    db.begin()
    try:
        yield
        db.commit()
    except BaseException:
        if db.in_transaction:
            db.rollback()
        raise


def upsert(table: str, columns: Sequence[str], key: Sequence[str], keep: Callable[[str], str] | None = None) -> str:
    """Return an INSERT of `columns` that replaces the row of the same `key`. `keep`: a column's new value, by its
    name."""
    marks = ",".join("?" * len(columns))
    say = keep or (lambda name: f"excluded.{name}")
    changes = ", ".join(f"{name} = {say(name)}" for name in columns if name not in key)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    )
