"""Create the PostgreSQL schema: the tables of SQLite's latest version in PostgreSQL's types.

Raw samples are partitioned by day, so that retention drops files instead of deleting rows. A new version of SQLite's
schema only adds tables and columns or lets a column be NULL, so here what is missing is added, whatever version it
comes from (`setting` has the number): one transaction under a lock, so that collectors which start together do not do
it twice.
"""

from __future__ import annotations

import importlib.resources
from typing import Any, Final

import msgspec

from swarm_protocol.units import NS_PER_S
from swarm_storage.errors import NewerVersion, NotADatabase, OlderVersion
from swarm_storage.history.rollup import ROLLED, UNITS
from swarm_storage.rows import BUCKET_NS, TABLES, Table
from swarm_storage.sql import Db, transaction, upsert
from swarm_storage.sqlite.schema import VERSION

DAY_BUCKETS: Final = 86_400 * NS_PER_S // BUCKET_NS
SCHEMA_LOCK: Final = 0x5357544D  # "SWTM"
_VERSION: Final = "postgres_version"

TYPES: Final[dict[str, str]] = {
    "bool": "BOOLEAN", "int": "BIGINT", "float": "DOUBLE PRECISION", "str": "TEXT",
}  # fmt: skip
_KEYS: Final = {
    "pair": "bucket, src, dst, ts",
    "host": "bucket, node, ts, part",
    "event": "ts, node, part",
}
_KEYED: Final = {
    "compute": "node, model, dtype, phase, batch, context, ts, device",
    "roofline": "node, device, dtype, ts",
}


def column_type(table: Table, name: str) -> str:
    """Return the type of a raw sample's column: `int`, `float`, `bool` or `str`."""
    return table.types.get(name, "int")


def _add_missing(db: Db) -> None:
    tables = importlib.resources.files(__package__).joinpath("tables.sql").read_text("utf-8")
    for statement in tables.split(";"):
        if statement.strip():
            db.run(statement)
    for table in TABLES.values():
        there = db.query(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
            " AND table_name = ?", (table.name,)
        )  # fmt: skip
        if there:
            for name in [name for name in table.columns if (name,) not in there]:
                db.run(f"ALTER TABLE {table.name} ADD COLUMN {_cell(table, name)}{_default(table, name)}")
            for name in table.optional:  # some were required once
                db.run(f"ALTER TABLE {table.name} ALTER COLUMN {name} DROP NOT NULL")
            continue
        key = _KEYS.get(table.shape) or _KEYED[table.kind]
        cells = ", ".join(_cell(table, name) for name in table.columns)
        db.run(
            f"CREATE TABLE {table.name} ({cells}, PRIMARY KEY ({key}))"
            f"{' PARTITION BY RANGE (bucket)' if table.shape in ('pair', 'host') else ''}"
        )
    db.run("CREATE INDEX IF NOT EXISTS compute_by_time ON compute_sample (ts)")
    for rolled in ROLLED.values():
        for unit in UNITS:
            cells = ", ".join(
                (
                    "piece BIGINT NOT NULL",
                    *(f"{name} INTEGER NOT NULL" for name in rolled.nodes),
                    "t BIGINT NOT NULL, n BIGINT NOT NULL",
                    *(f"{name} BIGINT NOT NULL" for name in rolled.sums),
                    *(f"{name} DOUBLE PRECISION" for name in rolled.least),
                    *(f"{name} DOUBLE PRECISION, {name}_sketch BYTEA" for name in rolled.figures),
                )
            )
            db.run(f"CREATE TABLE IF NOT EXISTS {rolled.table(unit)} ({cells}, PRIMARY KEY ({', '.join(rolled.key)}))")


def _cell(table: Table, name: str) -> str:
    kind = "INTEGER" if name in ("src", "dst", "node") else TYPES[column_type(table, name)]
    return f"{name} {kind}{'' if name in table.optional else ' NOT NULL'}"


def _default(table: Table, name: str) -> str:
    """Return the value of rows written before this column existed: the field's own default."""
    value: Any = next(field.default for field in msgspec.structs.fields(table.struct) if field.name == name)
    if value is None:
        return ""
    return f" DEFAULT {repr(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else value}"


def bring_up_to_date(db: Db, name: str, *, read_only: bool) -> None:
    """Bring the schema up to date. Raises NewerVersion, OlderVersion, NotADatabase."""
    if read_only:
        _require_version(_version_of(db), name)
        return
    with transaction(db):
        db.query("SELECT pg_advisory_xact_lock(?)", (SCHEMA_LOCK,))
        version = _version_of(db)
        if version > VERSION:
            _require_version(version, name)
        if version == VERSION:
            return
        if version == 0:
            if db.query("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() LIMIT 1"):
                raise NotADatabase(f"{name} has tables of another program; give a database of its own")
            db.run("CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        _add_missing(db)
        db.run(upsert("setting", ("key", "value"), ("key",)), (_VERSION, str(VERSION)))


def _version_of(db: Db) -> int:
    if not db.query("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'setting'"):
        return 0
    found = db.query("SELECT value FROM setting WHERE key = ?", (_VERSION,))
    return int(found[0][0]) if found else 0


def _require_version(version: int, name: str) -> None:
    if version == 0:
        raise NotADatabase(f"{name} holds nothing of swarmtop; start swarm-collector on it once")
    if version > VERSION:
        raise NewerVersion(f"{name} is of version {version}, this swarmtop knows up to {VERSION}; upgrade swarmtop")
    if version < VERSION:
        raise OlderVersion(f"{name} is of version {version}, this swarmtop reads {VERSION}; start swarm-collector")


def make_partitions(db: Db, days: set[int]) -> None:
    """Make raw tables accept rows of these days (since 1970). In a transaction of its own."""
    db.query("SELECT pg_advisory_xact_lock(?)", (SCHEMA_LOCK,))
    for day in sorted(days):
        for table in TABLES.values():
            if table.shape in ("pair", "host"):
                db.run(
                    f"CREATE TABLE IF NOT EXISTS {partition(table, day)} PARTITION OF {table.name}"
                    f" FOR VALUES FROM ({day * DAY_BUCKETS}) TO ({(day + 1) * DAY_BUCKETS})"
                )


def partition(table: Table, day: int) -> str:
    return f"{table.name}_{day}"
