"""List and delete what the store holds about one node: its own samples, those about it, and its name.

Rows are found by scanning all of them, since no other query needs a node's rows without a time: minutes for a file of
many gigabytes, during which the writer does nothing else. What is measured of other nodes stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from swarm_storage.history.rollup import ROLLED, UNITS
from swarm_storage.rows import TABLES
from swarm_storage.sql import Db

Query = Callable[[str, Sequence[Any]], Sequence[tuple[Any, ...]]]


class Held(msgspec.Struct, frozen=True):
    kind: str
    own: int  # rows that this node has measured
    about: int  # rows that others have measured of it
    first_ns: int
    last_ns: int


def held(query: Query, node_id: str) -> list[Held]:
    found = query("SELECT id FROM node WHERE node_id = ?", (node_id,))
    if not found:
        return []
    node = found[0][0]
    rows = []
    for kind, table in TABLES.items():
        own, about = ("src", "dst") if table.shape == "pair" else ("node", None)
        sums = f"sum({own} = ?), sum({about} = ?)" if about else f"sum({own} = ?), 0"
        where = f"{own} = ? OR {about} = ?" if about else f"{own} = ?"
        count = 4 if about else 2
        ((mine, others, first, last),) = query(
            f"SELECT {_as_integers(sums)}, min(ts), max(ts) FROM {kind}_sample WHERE {where}", (node,) * count
        )
        if first is not None:
            rows.append(Held(kind, int(mine or 0), int(others or 0), int(first), int(last)))
    return rows


def _as_integers(sums: str) -> str:
    """Cast to integers: PostgreSQL does not sum booleans."""
    return sums.replace("sum(", "sum(CASE WHEN ").replace("= ?)", "= ? THEN 1 ELSE 0 END)")


def forget(db: Db, node_id: str) -> int:
    """Delete a node's rows within a transaction; return how many. Cached row numbers are wrong afterwards."""
    found = db.query("SELECT id FROM node WHERE node_id = ?", (node_id,))
    if not found:
        return 0
    node = found[0][0]
    gone = 0
    for kind, table in TABLES.items():
        gone += _delete(db, f"{kind}_sample", node, pair=table.shape == "pair")
    for rolled in ROLLED.values():
        for unit in UNITS:
            gone += _delete(db, f"{rolled.kind}_{unit.name}_rollup", node, pair=TABLES[rolled.kind].shape == "pair")
    gone += _delete(db, "newest", node, pair=True)
    gone += _delete(db, "cursor", node, pair=False)
    return gone + db.run("DELETE FROM node WHERE id = ?", (node,))


def _delete(db: Db, table: str, node: int, *, pair: bool) -> int:
    if pair:
        return db.run(f"DELETE FROM {table} WHERE src = ? OR dst = ?", (node, node))
    return db.run(f"DELETE FROM {table} WHERE node = ?", (node,))
