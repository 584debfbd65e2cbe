"""Read a recording: its members, span and gaps, samples in order, and the history of one metric.

Read-only, from any thread (`thread_connections`). Every query is read to its end at once, and long ones are split into
buckets, so that no read transaction outlives a call or keeps a write-ahead log from being reset. Names are the latest
of each node, also for old rows. Data older than the raw samples comes from rollups (`metric_history`). `replay`
rebuilds the Swarm of a past moment.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from swarm_protocol.messages.probe_messages import HostFacts
from swarm_protocol.messages.samples import Sample
from swarm_protocol.snapshot.metrics import METRICS
from swarm_protocol.snapshot.swarm import Event
from swarm_storage.errors import Corrupt, StoreError
from swarm_storage.history.roll_forward import FLOOR, PRUNING
from swarm_storage.history.rollup import ROLLED, Rolled, Unit
from swarm_storage.history.thread_connections import ThreadConnections
from swarm_storage.rows import BUCKET_NS, MINUTE_NS, TABLES, Table
from swarm_storage.sql import Db

SEEKS_AT_ONCE: Final = 500  # of the arguments that one statement may have
GAP_MINUTES: Final = 2  # an idle swarm still writes every minute
EVER_NS: Final = 2**62
# of several GPUs at one time, as the Swarm shows them
_HOST_AGGREGATE: Final = {"vram_free_bytes": "sum", "temp_c": "max"}
# PostgreSQL has no mean of booleans
_HOST_FIGURE: Final = {"throttled": "CAST(CASE WHEN throttled THEN 1 ELSE 0 END AS DOUBLE PRECISION)"}
_INTERNAL_SETTINGS: Final = frozenset({FLOOR, PRUNING, "postgres_version", "collector_secret"})
_log = logging.getLogger("swarm_storage")


class NodeRow(msgspec.Struct, frozen=True):
    """A member, as last reported."""

    node_id: str
    name: str
    host: str
    facts: HostFacts | None
    first_ns: int
    seen_ns: int
    presence: str | None = None  # how it was last connected, as the collector stored it; None: it left


class History(msgspec.Struct, frozen=True):
    """Equal-width buckets; None is a gap (nothing measured then), never 0."""

    at_ns: tuple[int, ...]  # centres
    values: tuple[float | None, ...]
    rolled_until_ns: int = 0  # before it values come from rollups: medians within 1 %; 0: all come from raw samples


class Span(msgspec.Struct, frozen=True):
    """What a recording covers; both 0 if it is empty."""

    first_ns: int
    last_ns: int
    gaps: tuple[tuple[int, int], ...] = ()  # (from, to) without any sample, to the minute


class Reader:
    """Read one store. Raises StoreError, from here (no such file, not ours) and from every method."""

    def __init__(self, name: str, connect: Callable[[], Db], error: Callable[[Exception], StoreError | None]) -> None:
        """Create a reader. `error`: the StoreError for a driver's exception."""
        self.name = name
        self._connections = ThreadConnections(name, connect, error)
        self.close = self._connections.close
        self.reopen = self._connections.reopen
        self.query = self._connections.query
        self._names: dict[int, str] = {}
        self._unreadable: set[str] = set()

    # ------------------------------------------------------------ members and settings

    def nodes(self) -> tuple[NodeRow, ...]:
        """Return all members ever, in the order in which they came."""
        rows = self.query(
            "SELECT node_id, name, host, facts, first_ns, seen_ns, (SELECT max(received_ns) FROM cursor"
            " WHERE cursor.node = node.id), presence FROM node WHERE member = 1 ORDER BY id"
        )
        members = []
        for node_id, name, host, facts, first_ns, seen_ns, received_ns, presence in rows:
            seen_ns = max(seen_ns, received_ns or 0)
            known = self._facts(node_id, facts)
            members.append(NodeRow(node_id, name, host, known, first_ns or seen_ns, seen_ns, presence))
        return tuple(members)

    def _facts(self, node_id: str, text: str | None) -> HostFacts | None:
        """Return the facts; None if they are from a later probe, or damaged: the node is still shown without them."""
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=HostFacts)
        except msgspec.DecodeError as error:
            if node_id not in self._unreadable:  # reported once, not with every frame
                self._unreadable.add(node_id)
                _log.warning("%s: the hardware facts of %s cannot be read (%s)", self.name, node_id, error)
            return None

    def committed_seq(self, node_id: str, epoch: int) -> int:
        """Return the committed sequence number; 0: nothing of this epoch."""
        rows = self.query(
            "SELECT seq FROM cursor WHERE node = (SELECT id FROM node WHERE node_id = ?) AND epoch = ?",
            (node_id, epoch),
        )
        return int(rows[0][0]) if rows else 0

    def settings(self) -> dict[str, str]:
        """Return what a collector stores; the store's own bookkeeping is left out."""
        rows = self.query("SELECT key, value FROM setting")
        return {key: value for key, value in rows if key not in _INTERNAL_SETTINGS}

    @property
    def raw_from_ns(self) -> int:
        """Return the time before which raw samples have been removed; 0: none ever were."""
        found = self.query("SELECT value FROM setting WHERE key = ?", (FLOOR,))
        return int(found[0][0]) * BUCKET_NS if found else 0

    # ------------------------------------------------------------ what and when

    def span(self) -> Span:
        minutes = [minute for (minute,) in self.query("SELECT minute FROM activity ORDER BY minute")]
        if not minutes:
            return Span(0, 0)
        first, last = minutes[0], minutes[-1]
        return Span(
            first_ns=self._edge("min", first),
            last_ns=self._edge("max", last),
            gaps=tuple(
                ((before + 1) * MINUTE_NS, after * MINUTE_NS)
                for before, after in itertools.pairwise(minutes)
                if after - before > GAP_MINUTES
            ),
        )

    def _edge(self, which: str, minute: int) -> int:
        """Return the time of the first or last sample within `minute`."""
        found = []
        since_ns, until_ns = minute * MINUTE_NS, (minute + 1) * MINUTE_NS
        for table in TABLES.values():
            where, arguments = _when(table, since_ns, until_ns)
            ((at_ns,),) = self.query(f"SELECT {which}(ts) FROM {table.name} WHERE {where}", arguments)
            if at_ns is not None:
                found.append(int(at_ns))
        edge = min if which == "min" else max
        return edge(found, default=since_ns if which == "min" else until_ns)

    def samples(
        self, since_ns: int = 0, until_ns: int = EVER_NS, kinds: Sequence[str] = tuple(TABLES)
    ) -> Iterator[tuple[str, Sample]]:
        """Yield (node id, sample) of [since, until) ordered by time; "" for events of the swarm as a whole."""
        for since, until in self._pieces(since_ns, until_ns):
            piece: list[tuple[int, str, Sample]] = []
            for kind in kinds:
                table = TABLES[kind]
                where, arguments = _when(table, since, until)
                for row in self.query(f"{table.select} FROM {table.name} WHERE {where}", arguments):
                    node_id, sample = table.sample(row, self.name_of)
                    piece.append((sample.at_ns, node_id, sample))
            piece.sort(key=lambda entry: entry[:2])
            for _, node_id, sample in piece:
                yield node_id, sample

    def _pieces(self, since_ns: int, until_ns: int) -> Iterator[tuple[int, int]]:
        """Yield [since, until) cut at buckets, those without any sample left out."""
        per_bucket = BUCKET_NS // MINUTE_NS
        buckets = self.query(
            f"SELECT DISTINCT minute / {per_bucket} FROM activity WHERE minute BETWEEN ? AND ? ORDER BY 1",
            (since_ns // MINUTE_NS, (until_ns - 1) // MINUTE_NS),
        )
        for (bucket,) in buckets:
            yield max(since_ns, bucket * BUCKET_NS), min(until_ns, (bucket + 1) * BUCKET_NS)

    def events(self, since_ns: int = 0, until_ns: int = EVER_NS, limit: int = 10_000) -> tuple[Event, ...]:
        """Return the newest `limit` events of [since, until), oldest first."""
        rows = self.query(
            "SELECT ts, coalesce(node.name, ''), kind, detail FROM event_sample LEFT JOIN node ON node.id = node"
            " WHERE ts >= ? AND ts < ? ORDER BY ts DESC, part DESC LIMIT ?",
            (since_ns, until_ns, limit),
        )
        return tuple(
            Event(at_ns=at_ns, node=name, kind=kind, detail=detail) for at_ns, name, kind, detail in rows[::-1]
        )

    def transfers(self, since_ns: int) -> list[tuple[int, str, str, int]]:
        """Return (end of the bucket, sender, receiver, bytes) of the transfers since then, one row for a pair and
        bucket."""
        rows = self.query(
            "SELECT bucket, src, dst, sum(sent_bytes) FROM uplink_sample WHERE bucket >= ? GROUP BY bucket, src, dst",
            (since_ns // BUCKET_NS,),
        )
        return [
            ((bucket + 1) * BUCKET_NS, self.name_of(src), self.name_of(dst), int(size))
            for bucket, src, dst, size in rows
        ]

    def rollups(self, rolled: Rolled, unit: Unit, since_ns: int, until_ns: int) -> Iterator[tuple[Any, ...]]:
        """Yield (start, nodes, n, `rolled.shown`) of the minutes or hours that begin in [since, until), in that
        order."""
        table = rolled.table(unit)
        ((first, last),) = self.query(f"SELECT min(piece), max(piece) FROM {table}")
        if first is None:
            return
        order = ", ".join(("t", *rolled.nodes))
        columns = ", ".join(("t", *rolled.nodes, "n", *rolled.shown))
        for piece in range(max(first, since_ns // unit.piece_ns), min(last, (until_ns - 1) // unit.piece_ns) + 1):
            yield from self.query(
                f"SELECT {columns} FROM {table} WHERE piece = ? AND t >= ? AND t < ? ORDER BY {order}",
                (piece, since_ns, until_ns),
            )

    def last_reading_ns(self, node_id: str, until_ns: int) -> int:
        """Return when a node last sent a reading of its machine up to a moment; 0: not in what is kept."""
        node = self._id_of(node_id)
        if node is None:
            return 0
        found = self._in_buckets(TABLES["host"], "max(ts)", "ts > 0", 0, until_ns + 1, node)
        return max((ts for (ts,) in found if ts is not None), default=0)

    # ------------------------------------------------------------ one metric

    def history(
        self, metric: str, node_id: str, peer_id: str | None, since_ns: int, until_ns: int, points: int
    ) -> History:
        """Return `points` buckets over [since, until). Loss is lost over sent of the bucket, all else the median of its
        samples; without a peer, over all peers. Of layer times only one is followed: decode, of the model measured
        last, at its smallest batch and context. Several GPUs count as the Swarm shows them (free memory: their sum).
        Where the raw samples have been removed, rollups answer; `rolled_until_ns` says up to when.
        Raises StoreError for an unknown metric.
        """
        from swarm_storage.history import metric_history  # numpy, which the first paint of a dashboard does without

        if metric not in METRICS:
            raise StoreError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
        width_ns = max(1, (until_ns - since_ns) // max(1, points))
        slots = metric_history.Slots(since_ns, width_ns, points, of_loss=metric == "loss")
        node, peer = self._id_of(node_id), self._id_of(peer_id) if peer_id is not None else None
        if node is None or (peer_id is not None and peer is None):
            return History(slots.centres, slots.values())
        until_ns = min(until_ns, slots.until_ns)
        floor_ns = min(self.raw_from_ns, until_ns)
        raw = self._points(metric, node, peer, max(since_ns, floor_ns), until_ns)
        rolled = (
            metric_history.rows(self.query, metric, node, peer, since_ns, floor_ns, width_ns)
            if since_ns < floor_ns
            else []
        )
        for row in rolled:
            slots.add_rolled(row, self.name)
        slots.add_raw(raw)
        return History(slots.centres, slots.values(), floor_ns if rolled else 0)

    def _points(self, metric: str, node: int, peer: int | None, since_ns: int, until_ns: int) -> list[tuple[Any, ...]]:
        """Return (time, value) of every sample that has one; of loss (time, lost, sent)."""
        if since_ns >= until_ns:
            return []
        about = METRICS[metric]
        table, field = TABLES[about.kind], about.field
        if table.shape == "pair":
            values = "lost, sent" if metric == "loss" else field
            condition = f"{'sent > 0' if metric == 'loss' else f'{field} IS NOT NULL'}{ROLLED[about.kind].condition}"
            return self._in_buckets(table, f"ts, {values}", condition, since_ns, until_ns, node, peer)
        if table.shape == "host":
            figure = f"{_HOST_AGGREGATE.get(field, 'avg')}({_HOST_FIGURE.get(field, field)})"
            return self._in_buckets(
                table, f"ts, {figure}", f"{field} IS NOT NULL GROUP BY ts", since_ns, until_ns, node
            )
        one = self.query(
            "WITH last AS (SELECT model, dtype FROM compute_sample WHERE node = ? AND phase = 'decode'"
            " AND ts < ? ORDER BY ts DESC LIMIT 1)"
            " SELECT s.model, s.dtype, s.batch, s.context FROM compute_sample s JOIN last ON s.model = last.model"
            " AND s.dtype = last.dtype WHERE s.node = ? AND s.phase = 'decode' AND s.ts < ?"
            " ORDER BY s.batch, s.context LIMIT 1",
            (node, until_ns, node, until_ns),
        )
        if not one:
            return []
        return self.query(
            f"SELECT ts, {field} FROM compute_sample WHERE node = ? AND phase = 'decode' AND model = ? AND dtype = ?"
            " AND batch = ? AND context = ? AND ts >= ? AND ts < ?",
            (node, *one[0], since_ns, until_ns),
        )

    def _in_buckets(
        self,
        table: Table,
        columns: str,
        condition: str,
        since_ns: int,
        until_ns: int,
        node: int,
        peer: int | None = None,
    ) -> list[tuple[Any, ...]]:
        """Return rows with one seek for each bucket."""
        buckets = [since // BUCKET_NS for since, _ in self._pieces(since_ns, until_ns)]
        ends, nodes = (f"{table.node_column} = ?", (node,)) if peer is None else ("src = ? AND dst = ?", (node, peer))
        found: list[tuple[Any, ...]] = []
        for first in range(0, len(buckets), SEEKS_AT_ONCE):
            some = buckets[first : first + SEEKS_AT_ONCE]
            found += self.query(
                f"SELECT {columns} FROM {table.name} WHERE bucket IN ({','.join('?' * len(some))}) AND {ends}"
                f" AND ts >= ? AND ts < ? AND {condition}",
                (*some, *nodes, since_ns, until_ns),
            )
        return found

    # ------------------------------------------------------------ below

    def name_of(self, node: int) -> str:
        """Return the node id of a row's number; "" for the swarm as a whole."""
        if node not in self._names:
            self._names = {0: "", **dict(self.query("SELECT id, node_id FROM node"))}
        try:
            return self._names[node]
        except KeyError:
            raise Corrupt(f"{self.name} has samples of node {node}, which it does not name; it is damaged") from None

    def _id_of(self, node_id: str) -> int | None:
        rows = self.query("SELECT id FROM node WHERE node_id = ?", (node_id,))
        return int(rows[0][0]) if rows else None


def _when(table: Table, since_ns: int, until_ns: int) -> tuple[str, tuple[int, ...]]:
    """Return the WHERE clause of [since, until), by bucket where the table has them."""
    if table.shape in ("pair", "host"):
        return (
            "bucket BETWEEN ? AND ? AND ts >= ? AND ts < ?",
            (since_ns // BUCKET_NS, (until_ns - 1) // BUCKET_NS, since_ns, until_ns),
        )
    return "ts >= ? AND ts < ?", (since_ns, until_ns)
