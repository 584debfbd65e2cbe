"""Roll closed buckets of raw samples into minutes, minutes into hours, and keep the table of newest samples.

A transaction that writes into a bucket notes it in `pending` with the rows themselves, so what is not rolled up yet is
known after any crash. A bucket is rolled up a while after it has ended, some thousand rows a step, each step is one
transaction that notes its progress. Rolling up again replaces: late samples (from a spool) note their bucket again.
Where the raw rows had been removed already, late ones are added to the rollup and removed at once.

`newest` has the first and the latest time of each link and kind: a Swarm is restored from it without scanning an hour
of samples. Together with what is pending it is complete.
"""

from __future__ import annotations

from typing import Final

from swarm_protocol.units import NS_PER_S
from swarm_storage.history.rollup import HOUR, MINUTE, ROLLED, Rolled, merged, minutes_of
from swarm_storage.rows import BUCKET_NS, Row
from swarm_storage.sql import Db, transaction, upsert

STEP_ROWS: Final = 4_000  # some 40 ms
LATE_NS: Final = 60 * NS_PER_S  # after the end of a bucket: most late samples have come
FLOOR: Final = "raw_from_bucket"  # in `setting`: raw samples of earlier buckets have been removed
PRUNING: Final = "raw_going_bucket"  # in `setting`: this one is being removed, see `retention`
_KINDS: Final = tuple(ROLLED.values())
_OF_LINKS: Final = ("link", "hop", "uplink")
_NEWEST: Final = upsert(
    "newest", ("kind", "src", "dst", "first_ts", "ts"), ("kind", "src", "dst"),
    lambda name: f"CASE WHEN excluded.{name} {'<' if name == 'first_ts' else '>'} newest.{name}"
    f" THEN excluded.{name} ELSE newest.{name} END",
)  # fmt: skip


def note(db: Db, buckets: list[int]) -> None:
    """Note in the open transaction that these buckets have new rows."""
    if db.shared and buckets:  # most are noted already: asking locks nothing, writing would make collectors wait
        marks = ",".join("?" * len(buckets))
        known = db.query(
            f"SELECT number FROM pending WHERE unit = 'bucket' AND kind = 0 AND node = 0 AND number IN ({marks})",
            buckets,
        )
        buckets = sorted(set(buckets) - {number for (number,) in known})
    db.many(_note_sql(), [("bucket", bucket, 0, 0) for bucket in buckets])


def roll_step(db: Db, now_ns: int, max_rows: int = STEP_ROWS) -> int | None:
    """Roll up some of what is due; return the bucket it worked on, or -1 for an hour. None: nothing is due."""
    found = db.query(
        "SELECT unit, number, kind, node FROM pending WHERE (unit = 'bucket' AND number < ? AND number <> coalesce("
        " (SELECT CAST(value AS BIGINT) FROM setting WHERE key = ?), -1))"
        " OR (unit = 'hour' AND number < ?) ORDER BY unit, number LIMIT 1",
        ((now_ns - LATE_NS) // BUCKET_NS, PRUNING, (now_ns - 2 * LATE_NS - BUCKET_NS) // HOUR.width_ns),
    )
    if not found:
        return None
    unit, number, kind, node = found[0]
    with transaction(db):
        if unit == "bucket":
            _roll_bucket(db, number, kind, node, max_rows)
            return int(number)
        _roll_hour(db, number, kind, node, max_rows)
    return -1


def raw_floor(db: Db) -> int:
    """Return the first bucket with raw samples; 0: nothing was ever removed."""
    found = db.query("SELECT value FROM setting WHERE key = ?", (FLOOR,))
    return int(found[0][0]) if found else 0


def _note_sql() -> str:
    return upsert("pending", ("unit", "number", "kind", "node"), ("unit", "number"))


def _roll_bucket(db: Db, bucket: int, kind: int, node: int, max_rows: int) -> None:
    late = bucket < raw_floor(db)
    taken = 0
    while kind < len(_KINDS) and taken < max_rows:
        rolled = _KINDS[kind]
        of = rolled.nodes[0]
        ((after,),) = db.query(
            f"SELECT min({of}) FROM {rolled.kind}_sample WHERE bucket = ? AND {of} > ?", (bucket, node)
        )
        if after is None:
            kind, node = kind + 1, 0
            continue
        node = after
        samples = db.query(rolled.select, (bucket, node))
        taken += len(samples)
        _keep_minutes(db, rolled, minutes_of(rolled, samples), add=late)
        if rolled.kind in _OF_LINKS:
            _keep_newest(db, rolled.kind, samples)
        if late:
            db.run(f"DELETE FROM {rolled.kind}_sample WHERE bucket = ? AND {of} = ?", (bucket, node))
    if kind < len(_KINDS):
        db.run("UPDATE pending SET kind = ?, node = ? WHERE unit = 'bucket' AND number = ?", (kind, node, bucket))
        return
    db.run("DELETE FROM pending WHERE unit = 'bucket' AND number = ?", (bucket,))
    db.run(_note_sql(), ("hour", bucket * BUCKET_NS // HOUR.width_ns, 0, 0))


def _keep_minutes(db: Db, rolled: Rolled, rows: list[Row], *, add: bool) -> None:
    table = rolled.table(MINUTE)
    if add:
        known: list[Row] = []
        key = " AND ".join(f"{name} = ?" for name in rolled.key)
        for row in rows:
            known += db.query(f"SELECT {', '.join(rolled.columns)} FROM {table} WHERE {key}", row[: len(rolled.key)])
        rows = merged(rolled, MINUTE, [*known, *rows])
    db.many(upsert(table, rolled.columns, rolled.key), rows)


def _keep_newest(db: Db, kind: str, samples: list[Row]) -> None:
    """Keep the newest samples; `samples` ordered by link and time."""
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    for src, dst, ts, *_ in samples:
        first, _ = spans.get((src, dst), (ts, ts))
        spans[src, dst] = (first, ts)
    db.many(_NEWEST, [(kind, *link, *span) for link, span in spans.items()])


def _roll_hour(db: Db, hour: int, kind: int, node: int, max_rows: int) -> None:
    start_ns = hour * HOUR.width_ns
    piece = start_ns // MINUTE.piece_ns
    taken = 0
    while kind < len(_KINDS) and taken < max_rows:
        rolled = _KINDS[kind]
        of, table = rolled.nodes[0], rolled.table(MINUTE)
        ((after,),) = db.query(f"SELECT min({of}) FROM {table} WHERE piece = ? AND {of} > ?", (piece, node))
        if after is None:
            kind, node = kind + 1, 0
            continue
        node = after
        rows = db.query(f"SELECT {', '.join(rolled.columns)} FROM {table} WHERE piece = ? AND {of} = ?", (piece, node))
        taken += len(rows)
        db.many(upsert(rolled.table(HOUR), rolled.columns, rolled.key), merged(rolled, HOUR, rows))
    if kind < len(_KINDS):
        db.run("UPDATE pending SET kind = ?, node = ? WHERE unit = 'hour' AND number = ?", (kind, node, hour))
    else:
        db.run("DELETE FROM pending WHERE unit = 'hour' AND number = ?", (hour,))
