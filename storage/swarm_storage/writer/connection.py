"""Use the writer's one connection: group commits, upkeep between them, and its end. On the writer's thread alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from swarm_storage.errors import StoreError
from swarm_storage.sql import Db
from swarm_storage.writer.backend import Backend
from swarm_storage.writer.tasks import Task
from swarm_storage.writer.transaction import Known, Transaction

_log = logging.getLogger("swarm_storage")


class Connection:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.db: Db | None = None  # None: opened with the next commit
        self._known = Known()

    def commit(self, tasks: Sequence[Task], damage: Callable[[], StoreError | None]) -> None:
        """Commit one transaction: its results are on the disk, in the file of that name. `damage`: why nothing more may
        be written, as known now. Raises StoreError if the store refuses it, anything else for one bad task."""
        try:
            if (found := damage()) is not None:
                raise found
            if self.db is None:
                self.db = self._backend.connect()
            db = self.db
            batches = [task.batch for task in tasks if task.batch is not None]
            self._backend.before(db, batches)
            db.begin()
            self._backend.begun(db, deciding=any(task.decides for task in tasks))
            transaction = Transaction(db, self._known)
            transaction.expect(batches)
            for task in tasks:
                task.result = task.apply(transaction)
            transaction.flush()
            db.commit()
            self._backend.confirm(db)
            if (found := damage()) is not None:  # since it began
                raise found
            transaction.committed()
        except StoreError:
            raise
        except Exception as error:
            if (mapped := self._backend.error(error)) is not None:
                raise mapped from error
            raise  # of one task, not of the store

    def tidy(self, *, busy: bool, well: bool) -> float | None:
        """Do one step of upkeep; return the seconds until the next, None: not before there is something to write.
        Raises as `commit` does."""
        if self.db is None:
            return None
        try:
            return self._backend.tidy(self.db, self._known, busy=busy, well=well)
        except StoreError:
            raise
        except Exception as error:
            if (mapped := self._backend.error(error)) is not None:
                raise mapped from error
            raise

    def rollback(self) -> None:
        if self.db is not None and self.db.in_transaction:
            try:
                self.db.rollback()
            except Exception as error:  # noqa: BLE001 - whatever the driver raises; the connection is given up
                _log.error("%s: rolling back failed (%s); reopening it", self._backend.name, error)
                self.drop()

    def drop(self) -> None:
        db, self.db = self.db, None
        self._known = Known()  # a commit that failed in its sync may have succeeded: read the file again
        if db is not None:
            try:
                db.close()
            except Exception as error:  # noqa: BLE001 - whatever the driver raises; it is given up either way
                _log.error("%s: closing failed (%s)", self._backend.name, error)

    def end(self, *, well: bool) -> None:
        db, self.db = self.db, None
        try:
            self._backend.end(db, well=well)
        except Exception as error:  # noqa: BLE001 - whatever the driver raises; what was committed is safe
            _log.error("%s: closing failed (%s)", self._backend.name, error)
