"""Declare what the writer needs of the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarm_storage.errors import StoreError
from swarm_storage.sql import Db
from swarm_storage.writer.transaction import Known, NodeBatch


class Backend(Protocol):
    """One writer's backend; all methods are called on the writer's thread, `tidy` and `end` between commits."""

    name: str  # of the store, in what people read

    def connect(self) -> Db:
        """Return the writing connection. Raises StoreError."""

    def error(self, error: Exception) -> StoreError | None:
        """Return the StoreError for what the driver raised; None: it is about one task, not about the store."""

    def before(self, db: Db, batches: Sequence[NodeBatch]) -> None:
        """Prepare a transaction that writes these. Raises StoreError if nothing must be written now."""

    def begun(self, db: Db, *, deciding: bool) -> None:
        """Run first inside it. `deciding`: what it reads must not change until it is committed."""

    def confirm(self, db: Db) -> None:
        """Confirm a commit before it is acknowledged. Raises StoreError if it may not last."""

    def condition(self) -> StoreError | None:
        """Return why a commit would not be kept, as far as known at once. From any thread."""

    def tidy(self, db: Db, known: Known, *, busy: bool, well: bool) -> float:
        """Do one step of upkeep; return the seconds until the next. Raises the driver's errors."""

    def relieve(self, error: StoreError) -> Db | None:
        """Act on a failure of the whole store; return a connection if one is open after that."""

    def end(self, db: Db | None, *, well: bool) -> None:
        """Close; nothing more is written."""
