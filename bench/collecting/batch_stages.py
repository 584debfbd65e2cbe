"""Time the stages of a batch in the collector, and measure the memory it keeps for each link.

Each stage takes the batches of one round of all nodes, on one thread and without sockets, in columns and in rows (as
older probes send them); the least CPU time of the rounds is given, in µs a row, because neighbours on the machine only
add to it. Beside a bare executemany of the same rows, as in `ingest`. What the stages leave out (wake-ups,
acknowledgements, plans, two threads that share the interpreter's lock) is the difference to `ingest`'s whole collector.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import TypeVar

import psutil

from bench.support.harness import MB, folder, machine, record, table
from bench.support.synthetic import swarm_samples
from swarm_collector.changes.detector import ChangeDetector
from swarm_collector.ingest.batch_validation import are_admissible, check
from swarm_collector.services.probe_service import without_public_addresses
from swarm_collector.transport.framing import whole_message
from swarm_collector.verification.anomalies import are_ordinary, is_ordinary
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.messages.probe_messages import Batch, decode_from_probe
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_storage.rows import TABLES, Row
from swarm_storage.sql import SqliteDb, transaction
from swarm_storage.sqlite.connect import WriterLock, connect_writer
from swarm_storage.writer.transaction import Known, NodeBatch, Transaction

NODES, PEERS, ROUNDS = 200, 32, 20
MANY_NODES, WINDOWS = 1_500, 6  # of each link, for its memory
_T = TypeVar("_T")


def main() -> int:
    print(machine())
    with folder() as home:
        in_rows = _stages(home, columns=False)
    with folder() as home:
        in_columns = _stages(home, columns=True)
    bare_us = min(each.pop("bare executemany") for each in (in_rows, in_columns))
    in_rows_us, total_us = sum(in_rows.values()), sum(in_columns.values())
    rows = [(name, f"{in_rows[name]:.2f}", f"{us:.2f}", f"{us / bare_us:.2f}") for name, us in in_columns.items()]
    rows += [
        ("together", f"{in_rows_us:.2f}", f"{total_us:.2f}", f"{total_us / bare_us:.2f}"),
        ("bare executemany", "", f"{bare_us:.2f}", "1"),
    ]
    print(table(("stage, batches of 32; µs a row", "in rows", "in columns", "of bare"), rows))
    record("all stages of a row", total_us, "µs", peer=("executemany", bare_us))
    links_mb, changes_mb = _memory()
    links = MANY_NODES * PEERS
    print(f"memory of {links} links: live picture {links_mb:.0f} MB; changes (40,000 at most) {changes_mb:.0f} MB")
    record("live picture: memory of a link", links_mb * MB / links, "B")
    return 0


def _stages(home: Path, *, columns: bool) -> dict[str, float]:
    names = swarm_samples.ids(NODES)
    known, now_ns = frozenset(names), time.time_ns()
    builder, detector = SwarmBuilder(), ChangeDetector()
    for number, name in enumerate(names):
        builder.node(name, f"bench-{number}", seen_ns=now_ns)
    least: dict[str, float] = {}

    def timed(stage: str, run: Callable[[], _T]) -> _T:
        began = time.thread_time()
        found = run()
        us = (time.thread_time() - began) * 1e6 / (NODES * PEERS)
        least[stage] = min(us, least.get(stage, us))
        return found

    made = list(swarm_samples.link_rounds(NODES, PEERS, ROUNDS, now_ns))
    numbers = {name: number for number, name in enumerate(names, start=1)}
    bare_lock, lock = WriterLock(home / "bare.db"), WriterLock(home / "all.db")
    with (
        contextlib.closing(connect_writer(home / "bare.db")) as bare,
        contextlib.closing(connect_writer(home / "all.db")) as connection,
    ):
        bare_db, db, cursors = SqliteDb(bare), SqliteDb(connection), Known()
        for number in range(ROUNDS):
            some = made[number * NODES : (number + 1) * NODES]
            sent = [Batch(epoch=1, seq=number + 1, samples=samples) for _, _, samples in some]
            frames = [_frame(encode(_in_columns(batch) if columns else batch)) for batch in sent]
            found = timed("frame", lambda: [whole_message(frame, 1 << 20) for frame in frames])  # noqa: B023
            messages = [message for message, _ in filter(None, found)]
            decoded = timed("decode", lambda: [decode_from_probe(message) for message in messages])  # noqa: B023
            batches = [(names[node], each) for (_, node, _), each in zip(some, decoded, strict=True)
                       if isinstance(each, Batch | ColumnBatch)]  # fmt: skip
            stored = timed("check", lambda: [
                _checked(node, batch, known, now_ns)
                for node, batch in batches  # noqa: B023
            ])  # fmt: skip
            timed("rows and commit", lambda: _commit(db, cursors, stored))  # noqa: B023
            timed("live picture", lambda: _show(builder, stored))  # noqa: B023
            timed("changes", lambda: _compare(detector, stored))  # noqa: B023
            timed("anomalies", lambda: [_are_ordinary(one) for one in stored])  # noqa: B023
            link = TABLES["link"]
            rows = sorted(
                link.row(each, node + 1, numbers[each.peer], 0) for _, node, samples in some for each in samples
            )
            timed("bare executemany", lambda: _bare(bare_db, rows))  # noqa: B023
    lock.release()
    bare_lock.release()
    return least


def _in_columns(batch: Batch) -> ColumnBatch:
    found = ColumnBatch.of(batch.epoch, batch.seq, batch.samples)
    assert found is not None
    return found


def _checked(node: str, batch: Batch | ColumnBatch, known: Set[str], now_ns: int) -> NodeBatch:
    if isinstance(batch, Batch):
        samples = without_public_addresses(check(batch.samples, node, known.__contains__, now_ns).samples)
        return NodeBatch(node, 1, batch.seq, now_ns, samples)
    assert are_admissible(batch.links, node, known, now_ns)
    return NodeBatch(node, 1, batch.seq, now_ns, batch.others, batch.links, batch.places)


def _compare(detector: ChangeDetector, batches: list[NodeBatch]) -> bool:
    for batch in batches:
        if batch.links is not None:
            detector.add_windows(batch.node_id, batch.links)
        for sample in batch.samples:
            detector.add(batch.node_id, sample)
    return detector.quiet  # nothing waits any more


def _are_ordinary(batch: NodeBatch) -> bool:
    return (batch.links is None or are_ordinary(batch.links)) and all(map(is_ordinary, batch.samples))


def _frame(message: bytes) -> bytes:
    """Return a message as a masked WebSocket frame of at most 65,535 bytes."""
    return bytes((0x82, 0xFE)) + len(message).to_bytes(2, "big") + bytes(4) + message


def _commit(db: SqliteDb, known: Known, batches: list[NodeBatch]) -> None:
    with transaction(db):
        writing = Transaction(db, known)
        for batch in batches:
            writing.batch(batch)
        writing.flush()
    writing.committed()


def _bare(db: SqliteDb, rows: list[Row]) -> None:
    with transaction(db):
        db.many(TABLES["link"].insert_of(1), rows)


def _show(builder: SwarmBuilder, batches: list[NodeBatch]) -> None:
    for batch in batches:
        if batch.links is not None:
            builder.windows(batch.node_id, batch.links)
        builder.samples(batch.node_id, batch.samples)
    builder.rtt_from(batches[0].node_id)  # nothing waits any more


def _memory() -> tuple[float, float]:
    """Return megabytes of (the live picture of many links, what is followed of them for changes)."""
    names = [f"{number:032x}" for number in range(MANY_NODES)]
    builder, detector = SwarmBuilder(), ChangeDetector()
    for number, name in enumerate(names):
        builder.node(name, f"bench-{number}", seen_ns=time.time_ns())
    made = swarm_samples.link_rounds(MANY_NODES, PEERS, WINDOWS, time.time_ns(), names)
    before = _resident_mb()
    for _, node, samples in made:
        builder.samples(names[node], samples)
    builder.rtt_from(names[0])
    shown = _resident_mb()
    for _, node, samples in swarm_samples.link_rounds(MANY_NODES, PEERS, WINDOWS, time.time_ns(), names):
        for sample in samples:
            detector.add(names[node], sample)
    assert detector.measured  # nothing waits any more
    return shown - before, _resident_mb() - shown


def _resident_mb() -> float:
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    return float(psutil.Process().memory_info().rss / MB)


if __name__ == "__main__":
    raise SystemExit(main())
