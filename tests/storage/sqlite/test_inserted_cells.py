"""SQLite holds what samples say, though constants, NULLs and booleans are bound apart from the rest."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_fixtures import T0, A, B, C, link

from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.units import NS_PER_S
from swarm_storage.link_columns import LINK, NodeWindows, rows_of
from swarm_storage.rows import Row
from swarm_storage.sql import SqliteDb

IDS = {A: 1, B: 2, C: 3}
WINDOWS = st.builds(
    link,
    st.integers(0, 60).map(lambda i: T0 + i * 13 * NS_PER_S),
    st.sampled_from((B, C)),
    rtt_p50_ms=st.sampled_from((None, 2.5, 3.25)),
    loaded=st.booleans(),
    duplicates=st.integers(0, 1),
    ttl_out=st.sampled_from((None, 64)),
)


@pytest.fixture(scope="module")
def db():
    columns = ", ".join(LINK.columns)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f"CREATE TABLE link_sample ({columns}, PRIMARY KEY (bucket, src, dst, ts)) WITHOUT ROWID")
    return SqliteDb(connection)


def stored(db: SqliteDb, write: Any) -> list[Row]:
    db.run("DELETE FROM link_sample")
    write()
    return db.query(f"SELECT {', '.join(LINK.columns)} FROM link_sample ORDER BY bucket, src, dst, ts")


def windows_of(batches: Sequence[Sequence[LinkSample]]) -> list[NodeWindows]:
    return [
        NodeWindows(src, [IDS[sample.peer] for sample in batch], LinkColumns.of(batch))
        for src, batch in enumerate(batches, start=1)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(WINDOWS, min_size=1, max_size=20), min_size=1, max_size=4))
def test_windows_are_stored_as_one_insert_a_sample_would_store_them(db, batches):
    one_by_one = [
        LINK.row(sample, src, IDS[sample.peer], 0) for src, batch in enumerate(batches, 1) for sample in batch
    ]
    wanted = stored(db, lambda: [db.many(LINK.insert_of(1), [row]) for row in one_by_one])
    windows = windows_of(batches)
    assert stored(db, lambda: db.insert_windows(windows)) == wanted
    assert stored(db, lambda: db.insert(LINK, one_by_one)) == wanted


def test_rows_come_ordered_by_key():
    """PostgreSQL inserts in this order: collectors that store the same windows must not wait for each other in turn."""
    batches = [[link(T0 + 5, C), link(T0, B)], [link(T0 + 9, B), link(T0 + 1, B)]]
    keys = [row[:4] for row in rows_of(windows_of(batches))]
    assert keys == sorted(keys)
    assert len(keys) == 4


def test_nothing_is_stored_of_no_windows(db):
    assert stored(db, lambda: (db.insert_windows([]), db.insert(LINK, []))) == []
