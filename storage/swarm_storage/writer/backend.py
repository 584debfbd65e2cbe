"""What the writer needs of the database behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarm_storage.errors import StoreError
from swarm_storage.sql import Db
from swarm_storage.writer.transaction import Known, NodeBatch


class Backend(Protocol):
    """One writer's; all its methods are called on the writer's thread, `tidy` and `end` between commits."""

    name: str  # of the store, in what people read

    def connect(self) -> Db:
        """The writing connection. Raises StoreError."""

    def error(self, error: Exception) -> StoreError | None:
        """The store's word for what the driver raised; None: it is about one task, not about the store."""

    def before(self, db: Db, batches: Sequence[NodeBatch]) -> None:
        """Before a transaction that writes these. Raises StoreError where nothing must be written now."""

    def begun(self, db: Db, *, deciding: bool) -> None:
        """Inside it, first. `deciding`: what it reads must not change by anybody's hand until it is committed."""

    def confirm(self, db: Db) -> None:
        """After a commit, before it is acknowledged. Raises StoreError if it may not last."""

    def condition(self) -> StoreError | None:
        """Why a commit would not be kept, as far as can be told at once. From any thread."""

    def tidy(self, db: Db, known: Known, *, busy: bool, well: bool) -> float:
        """One step of upkeep; the seconds until the next. Raises the driver's errors."""

    def relieve(self, error: StoreError) -> Db | None:
        """The store has failed as a whole: what can be done about it; a connection where one is open after that."""

    def end(self, db: Db | None, *, well: bool) -> None:
        """Nothing more is written."""
