"""Implement the store on PostgreSQL, which several collectors may write; a probe may return to any of them.

Keys settle duplicates: a batch's rows have the same keys wherever they are written, and cursors only rise. Rows go in
by binary COPY into a temporary table and from there with ON CONFLICT DO NOTHING. One collector at a time does the
upkeep (an advisory lock of its session says which); a step of rolling up and a commit exclude each other, so that no
row slips in between. psycopg 3 is an extra: `pip install 'swarmtop[postgresql]'`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from swarm_storage.errors import Corrupt, Full, Locked, ReadOnly, StoreError, Unreachable
from swarm_storage.history.recording import Reader
from swarm_storage.history.retention import RETAIN_NS, set_floor
from swarm_storage.history.roll_forward import raw_floor
from swarm_storage.link_columns import LINK, NodeWindows, rows_of
from swarm_storage.postgres.postgres_schema import (
    DAY_BUCKETS,
    bring_up_to_date,
    column_type,
    make_partitions,
    partition,
)
from swarm_storage.rows import BUCKET_NS, TABLES, Row, Table
from swarm_storage.sql import Arguments, Db, transaction
from swarm_storage.store_base import Store
from swarm_storage.writer.transaction import Known, NodeBatch
from swarm_storage.writer.upkeep import STEP_PAUSE_S, TIDY_EVERY_S, Prunes

if TYPE_CHECKING:
    import psycopg

CONNECT_S: Final = 10
CHECK_EVERY_S: Final = 30.0
SECRET: Final = "collector_secret"
UPKEEP_LOCK: Final = 0x5357_0001  # held by the collector that rolls up and prunes
ROLL_LOCK: Final = 0x5357_0002  # shared by commits, exclusive for a step of rolling up
DECIDE_LOCK: Final = 0x5357_0004  # held by transactions that decide by what they read: admissions, revocations, names
DAY_NS: Final = DAY_BUCKETS * BUCKET_NS
_COPY_TYPES: Final = {"bool": "bool", "int": "int8", "float": "float8", "str": "text"}
_log = logging.getLogger("swarm_storage")


class PostgresDb:
    shared = True

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._staged: set[str] = set()

    def query(self, sql: str, arguments: Arguments = ()) -> list[Row]:
        return self.connection.execute(_translated(sql), arguments or None).fetchall()

    def run(self, sql: str, arguments: Arguments = ()) -> int:
        return self.connection.execute(_translated(sql), arguments or None).rowcount

    def many(self, sql: str, rows: Sequence[Arguments]) -> None:
        if rows:
            with self.connection.cursor() as cursor:
                cursor.executemany(_translated(sql), rows)

    def insert_windows(self, windows: Sequence[NodeWindows]) -> None:
        if windows:
            self.insert(LINK, rows_of(windows))

    def insert(self, table: Table, rows: list[Row]) -> None:
        staging = f"staging_{table.kind}"
        if staging not in self._staged:
            self.run(f"CREATE TEMP TABLE IF NOT EXISTS {staging} (LIKE {table.name}) ON COMMIT DELETE ROWS")
            self._staged.add(staging)
        columns = ", ".join(table.columns)
        with self.connection.cursor() as cursor:
            with cursor.copy(_sql(f"COPY {staging} ({columns}) FROM STDIN (FORMAT BINARY)")) as copy:
                copy.set_types(
                    ["int4" if name in _NODES else _COPY_TYPES[column_type(table, name)] for name in table.columns]
                )
                for row in rows:
                    copy.write_row(row)
            cursor.execute(
                _sql(f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {staging} ON CONFLICT DO NOTHING")
            )

    def begin(self) -> None:
        self.run("BEGIN")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        self._staged.clear()  # statements prepared inside are gone with it
        self.run("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        return not self.connection.closed and self.connection.info.transaction_status != 0

    def close(self) -> None:
        self.connection.close()


_NODES: Final = ("src", "dst", "node")
_texts: dict[str, Any] = {}


def _translated(sql: str) -> Any:
    """Turn our `?` into psycopg's `%s`. No statement of ours contains either sign otherwise."""
    text = _texts.get(sql)
    if text is None:
        if len(_texts) > 1000:  # `IN (?, …)` comes in many lengths
            _texts.clear()
        text = _texts[sql] = _sql(sql.replace("?", "%s"))
    return text


def _sql(text: str) -> Any:
    """Cast for psycopg, which wants literal strings; ours are made of names in this package, never of input."""
    return text.encode()


def name_of(url: str) -> str:
    """Return the database without its password."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(url)
    host = parts.get("host") or "localhost"
    return f"postgresql://{host}/{parts.get('dbname') or parts.get('user') or ''}"


class PostgresBackend:
    def __init__(
        self,
        url: str,
        *,
        retain_ns: int | None = RETAIN_NS,
        clock_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = name_of(url)
        self._url = url
        self._clock_ns = clock_ns
        self._prunes = Prunes(self.name, retain_ns, clock_ns, steady_ns)
        self._days: set[int] = set()  # that have partitions

    def connect(self) -> PostgresDb:
        db = connect(self._url, read_only=False)
        self._days.clear()
        try:
            self._prunes.begin(db)
        except Exception as error:
            db.close()
            raise error_of(error, self.name) or error from error
        return db

    def error(self, error: Exception) -> StoreError | None:
        return error_of(error, self.name)

    def before(self, db: Db, batches: Sequence[NodeBatch]) -> None:
        days = {at_ns // DAY_NS for batch in batches for at_ns in batch.times()} - self._days
        if days:
            with transaction(db):
                make_partitions(db, days)
            self._days |= days

    def begun(self, db: Db, *, deciding: bool) -> None:
        if deciding:  # before any other lock: two collectors that decide wait for each other, and only here
            db.query("SELECT pg_advisory_xact_lock(?)", (DECIDE_LOCK,))
        db.query("SELECT pg_advisory_xact_lock_shared(?)", (ROLL_LOCK,))

    def confirm(self, db: Db) -> None:
        """Do nothing: what the server says it has committed is durable; the connection requires it."""

    def condition(self) -> StoreError | None:
        return None  # the server manages its files

    def tidy(self, db: Db, known: Known, *, busy: bool, well: bool) -> float:
        if not db.query("SELECT pg_try_advisory_lock(?)", (UPKEEP_LOCK,))[0][0]:
            return TIDY_EVERY_S  # another collector does it
        try:
            today = self._clock_ns() // DAY_NS
            with transaction(db):
                make_partitions(db, {today, today + 1} - self._days)
            self._days |= {today, today + 1}
            if self._prunes.retain_ns is not None:
                self._drop_days(db, self._prunes.now_ns() - self._prunes.retain_ns)
            db.query("SELECT pg_advisory_lock(?)", (ROLL_LOCK,))
            try:
                more = self._prunes.step(db, known)
            finally:
                db.query("SELECT pg_advisory_unlock(?)", (ROLL_LOCK,))
        finally:
            db.query("SELECT pg_advisory_unlock(?)", (UPKEEP_LOCK,))
        return STEP_PAUSE_S if more else TIDY_EVERY_S

    def _drop_days(self, db: Db, cutoff_ns: int) -> None:
        """Drop whole days that are rolled up and past: their files go without reading a row."""
        days = db.query("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'link_sample'::regclass")
        for day in sorted(int(name.rpartition("_")[2]) for (name,) in days):
            if (day + 1) * DAY_NS > cutoff_ns:
                break
            first, last = day * DAY_BUCKETS, (day + 1) * DAY_BUCKETS
            waiting = db.query(
                "SELECT 1 FROM pending WHERE unit = 'bucket' AND number >= ? AND number < ? LIMIT 1", (first, last)
            )
            if waiting:
                continue
            with transaction(db):
                set_floor(db, max(last, raw_floor(db)))
                for table in TABLES.values():
                    if table.shape in ("pair", "host"):
                        db.run(f"DROP TABLE IF EXISTS {partition(table, day)}")
            self._days.discard(day)
            _log.info("%s: the raw samples of a day are removed (day %d since 1970)", self.name, day)

    def relieve(self, error: StoreError) -> PostgresDb | None:
        return None

    def end(self, db: Db | None, *, well: bool) -> None:
        if db is not None:
            db.close()


class PostgresStore(Store):
    def __init__(self, url: str, *, read_only: bool) -> None:
        self._url = url
        self.name = name_of(url)
        self._read_only = read_only
        self._check_at_s = 0.0
        self._checksum_failures: int | None = None  # when this collector began: those are known
        connect(url, read_only=read_only).close()
        self.reader = Reader(self.name, lambda: connect(url, read_only=True), lambda error: error_of(error, self.name))

    @property
    def read_only(self) -> bool:
        return self._read_only

    def sizes(self) -> dict[str, int]:
        ((size,),) = self.reader.query("SELECT pg_database_size(current_database())")
        return {"database": int(size)}

    def _backend(self, retain_ns: int | None) -> PostgresBackend:
        return PostgresBackend(self._url, retain_ns=retain_ns)

    def check(self) -> None:
        """Check that the server answers, and has found no page with a wrong checksum (where it keeps those)."""
        try:
            ((failures,),) = self.reader.query(
                "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()"
            )
        finally:
            self._check_at_s = time.monotonic() + CHECK_EVERY_S
        if self._checksum_failures is None:
            self._checksum_failures = failures
        if failures > self._checksum_failures and self._writer is not None:
            damage = Corrupt(
                f"{self.name} has pages that do not match their checksums; restore it from a backup (see the server's"
                " log), then start the collectors again"
            )
            self._writer.stop_intake(damage)
            raise damage

    @property
    def check_due(self) -> bool:
        return time.monotonic() >= self._check_at_s

    def shared_url(self) -> str:
        return self._url

    def secret(self, own: bytes) -> bytes:
        """Return the first collector's secret, stored in the database with everything else that the members trust."""
        db = connect(self._url, read_only=False)
        try:
            db.run("INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (SECRET, own.hex()))
            ((kept,),) = db.query("SELECT value FROM setting WHERE key = ?", (SECRET,))
        finally:
            db.close()
        return bytes.fromhex(kept)

    def close(self) -> None:
        self.reader.close()
        if self._writer is not None:
            self._writer.close()


def connect(url: str, *, read_only: bool) -> PostgresDb:
    """Connect. Raises StoreError."""
    try:
        import psycopg
    except ImportError as error:
        raise StoreError(
            "--store postgresql://… needs psycopg, which is not installed; pip install 'swarmtop[postgresql]'"
        ) from error
    name = name_of(url)
    try:
        connection = psycopg.connect(
            url, autocommit=True, connect_timeout=CONNECT_S, application_name="swarmtop", prepare_threshold=2,
            keepalives_idle=30,
        )  # fmt: skip
    except psycopg.Error as error:
        raise _unreachable(name, error) from error
    db = PostgresDb(connection)
    try:
        if read_only:
            connection.execute("SET default_transaction_read_only = on")
        bring_up_to_date(db, name, read_only=read_only)
    except StoreError:
        connection.close()
        raise
    except psycopg.Error as error:
        connection.close()
        raise error_of(error, name) or StoreError(f"{name}: {_line(error)}") from error
    return db


def error_of(error: Exception, name: str) -> StoreError | None:
    """Return the StoreError for an exception; None: it is about one statement's values, not about the store."""
    import psycopg
    from psycopg import errors

    if not isinstance(error, psycopg.Error):
        return None
    if isinstance(error, errors.DiskFull | errors.OutOfMemory | errors.ConfigurationLimitExceeded):
        return Full(f"{name} has no room left ({_line(error)}); make some, nothing acknowledged is lost")
    if isinstance(error, errors.ReadOnlySqlTransaction | errors.InsufficientPrivilege):
        return ReadOnly(f"{name} cannot be written ({_line(error)}); connect to the primary, as a user that may")
    if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure | errors.LockNotAvailable):
        return Locked(f"{name}: another program is in the way ({_line(error)}); tried again")
    if isinstance(error, psycopg.IntegrityError | psycopg.DataError | psycopg.ProgrammingError):
        return None
    return _unreachable(name, error)


def _unreachable(name: str, error: psycopg.Error) -> Unreachable:
    return Unreachable(f"{name} does not answer ({_line(error)}); start it there, or correct its URL")


def _line(error: psycopg.Error) -> str:
    """Return the first line of what the server or libpq said, which holds no password."""
    text = (error.diag.message_primary if error.diag else None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0][:200]
