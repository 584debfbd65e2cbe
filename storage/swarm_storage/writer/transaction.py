"""Run one group commit: many batches, members and settings in a single transaction.

Repeated batches are recognised in `deduplication`. New rows of nodes and moved cursors reach the connection's `Known`
only when the commit has succeeded; after a failure nothing is cached that the file may not hold.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, repeat
from typing import Any, Final

import msgspec

from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import Sample
from swarm_storage.history import roll_forward
from swarm_storage.link_columns import NodeWindows
from swarm_storage.node_erasure import forget
from swarm_storage.rows import BUCKET_NS, MINUTE_NS, PARTS_PER_BATCH, TABLE_OF, TABLES, Row, Table
from swarm_storage.sql import Db, upsert
from swarm_storage.writer.deduplication import BatchCursors

_OF_PAIRS: Final = frozenset(kind for kind, table in TABLE_OF.items() if table.of_pair)
SWARM: Final = 0  # the "node" of events about the swarm as a whole
_MINUTES_PER_BUCKET: Final = BUCKET_NS // MINUTE_NS
_KEY: Final = operator.itemgetter(0, 1, 2, 3)  # the first cells of a row; its key, where it is about a pair
_TIME: Final = operator.itemgetter(3)  # of a row about a pair
_AT_NS: Final = operator.attrgetter("at_ns")
_SETTING: Final = upsert("setting", ("key", "value"), ("key",))
_ACTIVITY: Final = upsert(
    "activity", ("minute", "samples"), ("minute",), lambda name: f"activity.{name} + excluded.{name}"
)
_ACTIVE: Final = "INSERT INTO activity (minute, samples) VALUES (?, ?) ON CONFLICT DO NOTHING"  # waits for no lock


class NodeBatch(msgspec.Struct, frozen=True):
    """What one probe sent at once. (node_id, epoch, seq) identifies it."""

    node_id: str
    epoch: int
    seq: int
    received_ns: int
    samples: Sequence[Sample]
    links: LinkColumns | None = None  # windows of round trips in addition to `samples`
    places: Sequence[int] | None = None  # of `samples` among all of the batch; None: they are all

    @property
    def size(self) -> int:
        """Return the number of samples, windows included."""
        return len(self.samples) if self.links is None else len(self.samples) + len(self.links)

    def times(self) -> Iterator[int]:
        """Return the times of all samples."""
        return chain(() if self.links is None else self.links.at_ns, map(_AT_NS, self.samples))


class Member(msgspec.Struct, frozen=True):
    """What is stored of a node in addition to its samples. `facts`: JSON of HostFacts, None keeps the present ones."""

    node_id: str
    name: str
    host: str
    facts: str | None
    seen_ns: int


@dataclass(slots=True)
class Known:
    """Caches what the file holds, so that it is not read for every batch."""

    nodes: dict[str, int] = field(default_factory=dict)
    cursors: dict[tuple[int, int], int] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)  # buckets that wait to be rolled up


class Transaction:
    """A transaction between `begin` and `commit` of `sql`."""

    def __init__(self, db: Db, known: Known) -> None:
        self._db = db
        self._known = known
        self._nodes: dict[str, int] = {}
        self._cursors = BatchCursors(db, known.cursors)
        self._rows: dict[str, list[Row]] = {kind: [] for kind in TABLES}
        self._windows: list[NodeWindows] = []
        self._times: list[int] = []  # of all samples
        self._noted: set[int] = set()

    def expect(self, batches: Sequence[NodeBatch]) -> None:
        """If others write too: read the cursors of these epochs in one query, and lock them until the commit."""
        if not self._db.shared:
            return
        self._known.pending.clear()
        self._cursors.lock((self._node(batch.node_id, member=True), batch.epoch) for batch in batches)

    def batch(self, batch: NodeBatch) -> int:
        """Store a batch unless it is a repeat; return the committed seq either way, valid once the transaction is."""
        node = self._node(batch.node_id, member=True)
        stored = self._cursors.committed_seq((node, batch.epoch))
        if batch.seq <= stored:
            return stored
        part = batch.seq * PARTS_PER_BATCH
        if batch.links is not None:
            self._take_windows(node, batch.links)
        kinds = set(map(type, batch.samples))
        of_pairs = kinds & _OF_PAIRS
        for kind in of_pairs:
            alike = batch.samples if len(kinds) == 1 else [one for one in batch.samples if type(one) is kind]
            self._pairs(TABLE_OF[kind], node, alike)
        if len(kinds) > len(of_pairs):
            places = count() if batch.places is None else batch.places
            for position, sample in zip(places, batch.samples, strict=False):
                if type(sample) not in of_pairs:
                    self._sample(node, part + position, sample)
        self._cursors.move((node, batch.epoch), batch.seq, batch.received_ns)
        return batch.seq

    def event(self, node_id: str | None, sample: Sample, part: int) -> None:
        """Store one sample that comes from no spool: an event of the collector itself."""
        self._sample(SWARM if node_id is None else self._node(node_id, member=True), part, sample)

    def member(self, member: Member) -> None:
        node = self._node(member.node_id, member=True)
        self._db.run(
            "UPDATE node SET name = ?, host = ?, facts = coalesce(?, facts), member = 1,"
            " seen_ns = CASE WHEN seen_ns > ? THEN seen_ns ELSE ? END,"
            " first_ns = CASE WHEN first_ns = 0 OR first_ns > ? THEN ? ELSE first_ns END WHERE id = ?",
            (member.name, member.host, member.facts, *(member.seen_ns,) * 4, node),
        )

    def settings(self, keys: Sequence[str]) -> dict[str, str]:
        """Return what the database holds for these keys now, including this transaction's own changes."""
        found = self._db.query(
            f"SELECT key, value FROM setting WHERE key IN ({','.join('?' * len(keys))})", tuple(keys)
        )
        return {str(key): str(value) for key, value in found}

    def name_of(self, node_id: str) -> str | None:
        """Return the name of a member; None: there is no such member."""
        found = self._db.query("SELECT name FROM node WHERE node_id = ? AND member = 1", (node_id,))
        return str(found[0][0]) if found else None

    def has_name(self, name: str, but: str) -> bool:
        """Return whether a member other than `but` has this name."""
        sql = "SELECT 1 FROM node WHERE name = ? AND member = 1 AND node_id <> ? LIMIT 1"
        return bool(self._db.query(sql, (name, but)))

    def rename(self, node_id: str, name: str) -> None:
        self._db.run("UPDATE node SET name = ? WHERE node_id = ? AND member = 1", (name, node_id))

    def members(self) -> int:
        return int(self._db.query("SELECT count(*) FROM node WHERE member = 1")[0][0])

    def presence(self, node_id: str, text: str | None) -> None:
        self._db.run("UPDATE node SET presence = ? WHERE node_id = ?", (text, node_id))

    def forget(self, node_id: str) -> int:
        """Delete a node; return the number of rows."""
        self.flush()
        gone = forget(self._db, node_id)
        self._known.nodes.clear()
        self._nodes.clear()
        self._cursors.forget()
        self._rows = {kind: [] for kind in TABLES}
        self._windows.clear()
        self._times.clear()
        return gone

    def setting(self, key: str, value: str) -> None:
        self._db.run(_SETTING, (key, value))

    def flush(self) -> None:
        """Write everything collected to the database."""
        for kind, rows in self._rows.items():
            if rows:
                rows.sort(key=_KEY)
                self._db.insert(TABLES[kind], rows)
        self._db.insert_windows(self._windows)
        minutes = Counter(map(operator.floordiv, self._times, repeat(MINUTE_NS)))
        self._db.many(_ACTIVE if self._db.shared else _ACTIVITY, sorted(minutes.items()))
        self._noted = {minute // _MINUTES_PER_BUCKET for minute in minutes} - self._known.pending
        roll_forward.note(self._db, sorted(self._noted))
        self._cursors.write()

    def committed(self) -> None:
        self._known.nodes.update(self._nodes)
        self._cursors.committed()
        self._known.pending |= self._noted

    # ------------------------------------------------------------ parts

    def _sample(self, node: int, part: int, sample: Sample) -> None:
        """Take a sample that is not about a pair."""
        table = TABLE_OF[type(sample)]
        self._rows[table.kind].append(table.row(sample, node, 0, part))
        self._times.append(sample.at_ns)

    def _pairs(self, table: Table, node: int, samples: Sequence[Any]) -> None:
        """Take samples of one kind by one node, all about pairs: nearly all that is stored."""
        known = self._known.nodes
        peers = [known.get(sample.peer) or self._node(sample.peer, member=False) for sample in samples]
        rows = table.pair_rows(samples, node, peers)
        self._rows[table.kind] += rows
        self._times += map(_TIME, rows)

    def _take_windows(self, node: int, links: LinkColumns) -> None:
        known = self._known.nodes
        peers = [known.get(peer) or self._node(peer, member=False) for peer in links.peer]
        self._windows.append(NodeWindows(node, peers, links))
        self._times += links.at_ns

    def _node(self, node_id: str, *, member: bool) -> int:
        """Return the row of a node, inserted if there is none. A node that only others mention is not a member yet."""
        node = self._nodes.get(node_id) or self._known.nodes.get(node_id)
        if node is None:
            found = self._db.query("SELECT id FROM node WHERE node_id = ?", (node_id,))
            if not found:  # another collector on the same database may be inserting it too
                found = self._db.query(
                    "INSERT INTO node (node_id, name, member, first_ns, seen_ns) VALUES (?, ?, ?, 0, 0)"
                    " ON CONFLICT (node_id) DO UPDATE SET name = node.name RETURNING id",
                    (node_id, node_id, int(member)),
                )
            node = int(found[0][0])
            self._nodes[node_id] = node
        return node
