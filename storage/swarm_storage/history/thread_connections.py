"""Give each reading thread a connection of its own, and run queries to their end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from swarm_storage.errors import Closed, StoreError, Unreachable
from swarm_storage.sql import Db


@dataclass(slots=True)
class _Own:
    """One thread's connection; `busy` while a query runs, so that closing waits for it."""

    db: Db
    round: int
    busy: threading.Lock = field(default_factory=threading.Lock)


class ThreadConnections:
    """Connections by thread. Raises StoreError, here (no such file, not ours) and from `query`."""

    def __init__(self, name: str, connect: Callable[[], Db], error: Callable[[Exception], StoreError | None]) -> None:
        """Create it. `error`: the StoreError for an exception of the driver; None: it is no fault of the store."""
        self._name = name
        self._connect = connect
        self._error = error
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[_Own] = []
        self._closed = False
        self._round = 0  # of connections
        self._own()

    def close(self) -> None:
        """Close all connections; waits for running queries."""
        with self._lock:
            self._closed = True
            self._close_all()

    def reopen(self) -> None:
        """Close all connections; each thread opens a new one at its next query."""
        with self._lock:
            self._close_all()
            self._round += 1

    def _close_all(self) -> None:
        for own in self._connections:
            with own.busy:
                own.db.close()
        self._connections.clear()

    def query(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows at once, so that no read transaction stays open."""
        while True:
            own = self._own()
            with own.busy:
                if self._closed:
                    raise Closed(f"{self._name} has been closed")
                if own.round != self._round:  # closed just now
                    continue
                try:
                    return self._asked(own, sql, arguments)
                except Unreachable:  # after a restart of the server: reading may simply be repeated
                    own.db.close()
                    own.db = self._connect()
                    return self._asked(own, sql, arguments)

    def _asked(self, own: _Own, sql: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return own.db.query(sql, arguments)
        except Exception as error:
            if (mapped := self._error(error)) is not None:
                raise mapped from error
            raise

    def _own(self) -> _Own:
        own: _Own | None = getattr(self._local, "own", None)
        if own is None or own.round != self._round:
            with self._lock:
                if self._closed:
                    raise Closed(f"{self._name} has been closed")
                own = _Own(self._connect(), self._round)
                self._connections.append(own)
            self._local.own = own
        return own
