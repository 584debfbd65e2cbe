"""Remove old rows in steps that are short enough for batches to be acknowledged in time.

Raw samples go after a while, a bucket of time once it is rolled up; rollups go much later. Of layer times and rooflines
the newest of each key stays, however old: a probe measures an unchanged layer once and never again. Functions over the
writer's connection; `writer` calls them between commits. Deleting needs room in the log too.

A clock that jumps ahead must not remove two days of samples, so the time used for pruning advances only as fast as time
passes (`PruneClock`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarm_protocol.units import NS_PER_S
from swarm_storage.history.roll_forward import FLOOR, PRUNING, raw_floor
from swarm_storage.history.rollup import ROLLED, UNITS
from swarm_storage.rows import BUCKET_NS, MINUTE_NS, TABLES
from swarm_storage.sql import Db, transaction, upsert

if TYPE_CHECKING:
    import sqlite3

RETAIN_NS: Final = 48 * 3600 * NS_PER_S
STEP_ROWS: Final = 20_000  # some 30 ms
FREE_SHARE: Final = 0.25  # of the file: less is taken up again by what comes next, and giving it back costs writing
VACUUM_PAGES: Final = 2_000
JUMP_NS: Final = 3600 * NS_PER_S  # nobody sets a clock ahead by this much on purpose
HOLD_NS: Final = 12 * 3600 * NS_PER_S  # somebody, or NTP, notices a wrong clock within this

_NEWER: Final = {
    "compute": "model = old.model AND dtype = old.dtype AND phase = old.phase AND batch = old.batch"
    " AND context = old.context",
    "roofline": "device = old.device AND dtype = old.dtype",
}
_KEYS: Final = {
    "compute": "node, model, dtype, phase, batch, context, ts, device",
    "roofline": "node, device, dtype, ts",
}
_IN_BUCKETS: Final = tuple(table for table in TABLES.values() if table.shape in ("pair", "host"))
_BY_TIME: Final = tuple(table.name for table in TABLES.values() if table.shape == "event")
_SET: Final = upsert("setting", ("key", "value"), ("key",))


class PruneClock:
    """The time for the removal of old rows: the wall clock, but a jump ahead counts only once it has lasted.

    `newest_ns` is the time of the newest row (0: none): a start long after it looks the same, and waits too.
    """

    def __init__(self, newest_ns: int) -> None:
        self._believed_ns = newest_ns  # 0: there is nothing to lose
        self._steady_ns: int | None = None
        self._held_from_ns: int | None = None  # steady; since when the jump is waited out

    def now_ns(self, wall_ns: int, steady_ns: int) -> int:
        passed_ns = 0 if self._steady_ns is None else max(0, steady_ns - self._steady_ns)
        self._steady_ns = steady_ns
        expected_ns = self._believed_ns + passed_ns
        if self._believed_ns and wall_ns > expected_ns + JUMP_NS:
            if self._held_from_ns is None:
                self._held_from_ns = steady_ns
            if steady_ns - self._held_from_ns < HOLD_NS:
                self._believed_ns = expected_ns
                return expected_ns
        self._held_from_ns = None
        self._believed_ns = wall_ns
        return wall_ns

    @property
    def doubting(self) -> bool:
        return self._held_from_ns is not None


def newest_ns(db: Db) -> int:
    """Return the time of the newest row, to the minute; 0: none."""
    ((minute,),) = db.query("SELECT max(minute) FROM activity")
    return 0 if minute is None else (int(minute) + 1) * MINUTE_NS


def prune_step(db: Db, cutoff_ns: int, max_rows: int = STEP_ROWS, *, unrolled: bool = False) -> int:
    """Delete about `max_rows` raw rows older than `cutoff_ns` in one transaction; return how many. 0: none are left.

    `unrolled`: also what is not rolled up yet, where room counts more than a chart of last week.
    """
    with transaction(db):
        removed = _prune_buckets(db, cutoff_ns, max_rows, unrolled=unrolled)
        if removed < max_rows:
            removed += _prune_others(db, cutoff_ns, max_rows - removed)
    return removed


def prune_rollups_step(db: Db, now_ns: int, retain_ns: int, max_rows: int = STEP_ROWS) -> int:
    """Do the same for minutes and hours, which are kept as long as raw samples at least."""
    removed = 0
    with transaction(db):
        for unit in UNITS:
            cutoff = (now_ns - max(unit.keep_ns, retain_ns)) // unit.piece_ns
            for rolled in ROLLED.values():
                table, node = rolled.table(unit), rolled.nodes[0]
                while removed < max_rows:
                    oldest = db.query(f"SELECT piece, {node} FROM {table} ORDER BY piece, {node} LIMIT 1")
                    if not oldest or oldest[0][0] >= cutoff:
                        break
                    removed += db.run(f"DELETE FROM {table} WHERE piece = ? AND {node} = ?", oldest[0])
    return removed


def vacuum_step(connection: sqlite3.Connection) -> bool:
    """Return some free pages to the disk if there are many. Return whether there are more."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    if free <= max(VACUUM_PAGES, FREE_SHARE * pages):
        return False
    connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return True


def _prune_buckets(db: Db, cutoff_ns: int, max_rows: int, *, unrolled: bool) -> int:
    """Prune whole buckets of all kinds, one node of a bucket at a time: each delete is one run of neighbouring rows.

    The floor rises before the first row of a bucket goes, and `PRUNING` says that the bucket is not empty yet: its rows
    must not be added to the rollups a second time. Rows below the floor came late; rolling up removes them.
    """
    removed = 0
    while removed < max_rows:
        pruning = db.query("SELECT value FROM setting WHERE key = ?", (PRUNING,))
        if pruning:
            bucket = int(pruning[0][0])
        else:
            oldest = _oldest_bucket(db, raw_floor(db))
            if oldest is None or (oldest + 1) * BUCKET_NS > cutoff_ns:
                return removed
            bucket = oldest
            if not unrolled and db.query("SELECT 1 FROM pending WHERE unit = 'bucket' AND number = ?", (bucket,)):
                return removed
            db.many(_SET, [(FLOOR, str(bucket + 1)), (PRUNING, str(bucket))])
        for table in _IN_BUCKETS:
            node = table.node_column
            while removed < max_rows:
                found = db.query(f"SELECT {node} FROM {table.name} WHERE bucket = ? LIMIT 1", (bucket,))
                if not found:
                    break
                removed += db.run(f"DELETE FROM {table.name} WHERE bucket = ? AND {node} = ?", (bucket, *found[0]))
        if removed < max_rows:
            db.run("DELETE FROM pending WHERE unit = 'bucket' AND number = ?", (bucket,))
            db.run("DELETE FROM setting WHERE key = ?", (PRUNING,))
    return removed


def set_floor(db: Db, bucket: int) -> None:
    """Note that raw samples of earlier buckets have been removed, all of them."""
    db.run(_SET, (FLOOR, str(bucket)))


def _oldest_bucket(db: Db, floor: int) -> int | None:
    found = [
        bucket
        for table in _IN_BUCKETS
        for (bucket,) in db.query(f"SELECT min(bucket) FROM {table.name} WHERE bucket >= ?", (floor,))
        if bucket is not None
    ]
    return min(found, default=None)


def _prune_others(db: Db, cutoff_ns: int, max_rows: int) -> int:
    removed = 0
    for table in _BY_TIME:
        removed += db.run(
            f"DELETE FROM {table} WHERE (ts, node, part) IN"
            f" (SELECT ts, node, part FROM {table} WHERE ts < ? ORDER BY ts LIMIT ?)",
            (cutoff_ns, max_rows - removed),
        )
    for kind, keys in _KEYS.items():
        if removed >= max_rows:
            return removed
        removed += db.run(
            f"DELETE FROM {kind}_sample WHERE ({keys}) IN (SELECT {keys} FROM {kind}_sample AS old"
            f" WHERE ts < ? AND EXISTS (SELECT 1 FROM {kind}_sample AS new WHERE new.node = old.node"
            f" AND {_qualified(_NEWER[kind])} AND new.ts > old.ts) LIMIT ?)",
            (cutoff_ns, max_rows - removed),
        )
    if removed < max_rows:
        removed += db.run("DELETE FROM activity WHERE minute < ?", (cutoff_ns // MINUTE_NS,))
    return removed


def _qualified(condition: str) -> str:
    return " AND ".join(f"new.{part.strip()}" for part in condition.split(" AND "))
