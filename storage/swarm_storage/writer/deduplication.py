"""Recognise batches that are stored already: each (node, epoch) has a cursor, the highest committed sequence number.

A batch at or below its cursor is a repeat. Cursors moved in a transaction are kept apart from those known before, and
join them only once it is committed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarm_storage.sql import Db, upsert

_EPOCHS_AT_ONCE: Final = 1_000
# a cursor only ever rises: a batch that was sent to two collectors of one database moves it once
_CURSOR: Final = upsert(
    "cursor", ("node", "epoch", "seq", "received_ns"), ("node", "epoch"),
    lambda name: f"CASE WHEN excluded.{name} > cursor.{name} THEN excluded.{name} ELSE cursor.{name} END",
)  # fmt: skip

Epoch = tuple[int, int]  # row of the node, epoch of its spool


class BatchCursors:
    """The cursors of one transaction. `known`: those of the connection, by epoch; 0: nothing of it is stored."""

    def __init__(self, db: Db, known: dict[Epoch, int]) -> None:
        self._db = db
        self._known = known
        self._moved: dict[Epoch, tuple[int, int]] = {}  # → (seq, received_ns)

    def lock(self, epochs: Iterable[Epoch]) -> None:
        """Read the cursors of these epochs from a database that others write too, and lock them until the commit."""
        wanted = sorted(set(epochs))
        self._known.clear()
        self._known.update(dict.fromkeys(wanted, 0))
        for first in range(0, len(wanted), _EPOCHS_AT_ONCE):
            some = wanted[first : first + _EPOCHS_AT_ONCE]
            found = self._db.query(
                f"SELECT node, epoch, seq FROM cursor WHERE (node, epoch) IN ({','.join(['(?,?)'] * len(some))})"
                " ORDER BY node, epoch FOR UPDATE",
                [cell for epoch in some for cell in epoch],
            )
            self._known.update({(node, epoch): seq for node, epoch, seq in found})

    def committed_seq(self, epoch: Epoch) -> int:
        """Return the highest sequence number stored so far, this transaction included."""
        moved = self._moved.get(epoch)
        if moved is not None:
            return moved[0]
        known = self._known.get(epoch)
        if known is None:
            found = self._db.query("SELECT seq FROM cursor WHERE node = ? AND epoch = ?", epoch)
            known = self._known[epoch] = int(found[0][0]) if found else 0
        return known

    def move(self, epoch: Epoch, seq: int, received_ns: int) -> None:
        self._moved[epoch] = seq, received_ns

    def write(self) -> None:
        self._db.many(_CURSOR, [(*epoch, *cursor) for epoch, cursor in sorted(self._moved.items())])

    def committed(self) -> None:
        self._known.update({epoch: seq for epoch, (seq, _) in self._moved.items()})

    def forget(self) -> None:
        """Read every cursor again: rows of nodes have been deleted."""
        self._known.clear()
        self._moved.clear()
