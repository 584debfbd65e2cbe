"""A batch is stored as the rows of its samples, whatever kinds are in it and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sample_fixtures import T0, A, B, C, batch, compute, event, hop, host, link, uplink

from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.units import NS_PER_S
from swarm_storage.link_columns import LINK, NodeWindows, rows_of
from swarm_storage.rows import MINUTE_NS, PARTS_PER_BATCH, TABLE_OF, Row, Table
from swarm_storage.writer.transaction import Known, NodeBatch, Transaction

IDS = {A: 1, B: 2, C: 3}
AT = st.integers(0, 40).map(lambda i: T0 + i * 13 * NS_PER_S)  # several samples at one time, of several minutes
SAMPLES = st.one_of(
    st.builds(link, AT, st.sampled_from((B, C)), rtt_p50_ms=st.sampled_from((None, 2.5))),
    st.builds(hop, AT, st.sampled_from((B, C))),
    st.builds(uplink, AT, st.sampled_from((B, C))),
    st.builds(host, AT),
    st.builds(compute, AT),
    st.builds(event, AT),
)


class Recorder:
    """A connection that keeps what is written."""

    shared = False

    def __init__(self) -> None:
        self.inserted: dict[str, list[Row]] = {}
        self.minutes: dict[int, int] = {}

    def query(self, sql: str, arguments: Sequence[Any] = ()) -> list[Row]:
        return [(IDS[arguments[0]],)] if "FROM node" in sql else []

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if "activity" in sql:
            self.minutes = dict(rows)

    def insert(self, table: Table, rows: list[Row]) -> None:
        self.inserted[table.kind] = list(rows)

    def insert_windows(self, windows: Sequence[NodeWindows]) -> None:
        if windows:
            self.insert(LINK, rows_of(windows))


@given(samples=st.lists(SAMPLES, max_size=40))
def test_a_batch_is_stored_as_the_rows_of_its_samples(samples):
    db = Recorder()
    transaction = Transaction(db, Known())  # type: ignore[arg-type]
    assert transaction.batch(batch(3, samples)) == 3
    transaction.flush()
    wanted: dict[str, list[Row]] = {}
    for position, sample in enumerate(samples):
        table = TABLE_OF[type(sample)]
        peer = IDS[sample.peer] if table.of_pair else 0
        row = table.row(sample, IDS[A], peer, 3 * PARTS_PER_BATCH + position)
        wanted.setdefault(table.kind, []).append(row)
    assert {kind: Counter(rows) for kind, rows in db.inserted.items()} == {
        kind: Counter(rows) for kind, rows in wanted.items()
    }
    for rows in db.inserted.values():
        assert [row[:4] for row in rows] == sorted(row[:4] for row in rows)
    assert db.minutes == Counter(sample.at_ns // MINUTE_NS for sample in samples)


@given(samples=st.lists(SAMPLES, min_size=1, max_size=40))
def test_a_batch_in_columns_is_stored_as_the_same_rows(samples):
    """A batch may be sent in both forms, to two collectors of one database."""
    whole = ColumnBatch.of(7, 3, samples)
    if whole is None:
        return
    in_rows, in_columns = Recorder(), Recorder()
    columns = NodeBatch(A, 7, 3, T0, whole.others, whole.links, whole.places)
    for db, each in ((in_rows, batch(3, samples)), (in_columns, columns)):
        transaction = Transaction(db, Known())  # type: ignore[arg-type]
        assert transaction.batch(each) == 3
        transaction.flush()
    assert sorted_by_key(in_columns) == sorted_by_key(in_rows)
    assert in_columns.minutes == in_rows.minutes
    assert columns.size == len(samples)
    assert sorted(columns.times()) == sorted(sample.at_ns for sample in samples)


def sorted_by_key(db: Recorder) -> dict[str, list[Row]]:
    """Of equal keys the first is stored: rows of one kind stay in their order."""
    return {kind: sorted(rows, key=lambda row: row[:4]) for kind, rows in db.inserted.items() if rows}
