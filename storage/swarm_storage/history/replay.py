"""Rebuild the Swarm of a past moment from the newest samples before it; also used by a restarted collector.

Only those samples are read that the builder would show, so a recording of days costs what one of minutes does: `newest`
says where a link's latest sample is, and which links there were at all (`swarm_storage.history.roll_forward`). The
state of a node is inferred: what it last sent, or what was told of it, is when it was last heard.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from swarm_protocol.messages.running import KIND, RUNNING_SETTING, Running, from_detail
from swarm_protocol.messages.samples import EventSample, HopSample, LinkSample, RunSample, Sample
from swarm_protocol.snapshot.builder import MAX_RUNS, SwarmBuilder
from swarm_protocol.snapshot.event_log import MAX_EVENTS
from swarm_protocol.snapshot.swarm import State, Swarm
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.recording import NodeRow, Reader
from swarm_storage.rows import BUCKET_NS, TABLES, Table

WINDOW_S: Final = 3600.0  # how old a figure may be: an idle swarm measures each link and hop at least once in it
# Heartbeats are not recorded: the pulse of a recording is the host sample, one a minute in an idle swarm.
REPLAY_STALE_NS: Final = 90 * NS_PER_S
REPLAY_LOST_NS: Final = 180 * NS_PER_S
_SEEK_AT_MOST: Final = 50  # links sought one by one; more are found by reading their whole bucket
_DATED_AT_MOST: Final = 4_000  # hops: two seeks each
_NEAR_NS: Final = 70 * NS_PER_S  # no window of round trips is longer than a minute
_FIT: Final = 0.1  # of a round trip
_KEYS: Final = {
    "compute": "node, model, dtype, phase, batch, context",
    "roofline": "node, device, dtype",
}
_AWAY: Final = {"left": State.LEFT, "lost": State.LOST}


def swarm_at(reader: Reader, at_ns: int, window_s: float = WINDOW_S, source: str = "") -> Swarm:
    """What the dashboard showed at that moment. Figures older than the window are left out, except layer times.
    `source`: as the Swarm names it; the file's name by default."""
    builder = restored(reader, at_ns, round(window_s * NS_PER_S))
    return builder.snapshot(at_ns, source or reader.name.rpartition("/")[2])


def restored(reader: Reader, at_ns: int, window_ns: int) -> SwarmBuilder:
    """A builder that has taken what was known at `at_ns`. Feed it what follows to play on."""
    builder = SwarmBuilder(stale_after_ns=REPLAY_STALE_NS, lost_after_ns=REPLAY_LOST_NS)
    return fill(builder, reader, at_ns, window_ns)


def fill(builder: SwarmBuilder, reader: Reader, at_ns: int, window_ns: int) -> SwarmBuilder:
    """Members, figures and events as of `at_ns`, into `builder`."""
    members = {row.node_id: row for row in reader.nodes() if row.first_ns <= at_ns}
    for row in members.values():
        builder.node(row.node_id, row.name, row.facts, row.host, state=State.UNKNOWN)
    heard = dict.fromkeys(members, 0)
    found = list(_latest(reader, at_ns, window_ns))
    for node_id, sample in found:
        if node_id in heard:
            heard[node_id] = max(heard[node_id], sample.at_ns)
    events = list(_events(reader, at_ns))
    away: dict[str, State] = {}
    for node_id, event in events:
        if node_id in heard and event.at_ns >= heard[node_id]:
            away[node_id] = _AWAY.get(event.kind, State.OK)
            if event.kind != "lost":  # which is told of a node, not by it
                heard[node_id] = event.at_ns
    for node_id, last_ns in heard.items():
        last_ns = last_ns or _heard_before(reader, members[node_id], at_ns)
        if last_ns:
            builder.seen(node_id, last_ns)
            builder.state(node_id, away.get(node_id, State.OK), last_ns)
    for node_id, sample in _in_order(reader, found, at_ns):
        if node_id in builder:
            builder.sample(node_id, sample)
    for node_id, event in events:
        if node_id in builder:
            builder.sample(node_id, event)
        else:
            builder.event(event.at_ns, node_id or None, event.kind, event.detail)
    for run in _runs(reader, at_ns):
        builder.run(run)
    for told in _told_running(reader, at_ns):
        builder.running(told)
    return builder


def _told_running(reader: Reader, at_ns: int) -> Iterator[Running]:
    """The newest word before that moment on what runs, of the events (which are pruned some day) and the settings."""
    rows = reader.query(
        "SELECT ts, detail FROM event_sample WHERE kind = ? AND ts <= ? ORDER BY ts DESC LIMIT 1", (KIND, at_ns)
    )
    for ts, detail in rows:
        if (told := from_detail(ts, detail)) is not None:
            yield told
    if (kept := reader.settings().get(RUNNING_SETTING)) is not None:
        try:
            told = msgspec.json.decode(kept, type=Running)
        except msgspec.DecodeError:  # of a later collector, or tampered with: what the events say stands
            return
        if told.at_ns <= at_ns:
            yield told


def _latest(reader: Reader, at_ns: int, window_ns: int) -> Iterator[tuple[str, Sample]]:
    """The newest sample of each key up to `at_ns`, oldest layer times first."""
    for kind in ("compute", "roofline"):
        yield from _newest_of_keys(reader, TABLES[kind], at_ns)
    for kind in ("link", "hop", "uplink"):
        yield from _newest_of_pairs(reader, TABLES[kind], at_ns, window_ns)
    yield from _newest_hosts(reader, at_ns, window_ns)


def _in_order(reader: Reader, found: list[tuple[str, Sample]], at_ns: int) -> list[tuple[str, Sample]]:
    """What was found, so that the builder dates hops as it did live: a hop that does not fit its path's present round
    trip comes between the windows of round trips that it was measured between."""
    links = {(node_id, sample.peer): sample for node_id, sample in found if isinstance(sample, LinkSample)}
    odd: list[tuple[str, HopSample]] = []
    fitting: list[tuple[str, Sample]] = []
    rest: list[tuple[str, Sample]] = []
    for node_id, sample in found:
        if not isinstance(sample, HopSample):
            rest.append((node_id, sample))
        elif _fits(sample, links.get((node_id, sample.peer))) or len(odd) >= _DATED_AT_MOST:
            fitting.append((node_id, sample))
        else:
            odd.append((node_id, sample))
    if not odd:
        return [*rest, *fitting]
    ids = dict(reader.query("SELECT node_id, id FROM node"))
    dated: list[tuple[str, Sample]] = []
    for node_id, hop in odd:
        pair = (ids[node_id], ids[hop.peer])
        dated += _window_of_link(reader, pair, hop.at_ns - _NEAR_NS, hop.at_ns - 1, "DESC")
        dated.append((node_id, hop))
        dated += _window_of_link(reader, pair, hop.at_ns, min(at_ns, hop.at_ns + _NEAR_NS), "ASC")
    return [*dated, *rest, *fitting]


def _fits(hop: HopSample, link: LinkSample | None) -> bool:
    """The hop takes what its path's round trip takes, and little more: nothing has changed between the two."""
    if link is None or link.rtt_p50_ms is None or link.at_ns <= hop.at_ns:
        return True
    return 0 <= hop.min_ms - link.rtt_p50_ms * (1 - _FIT) <= 2 * _FIT * link.rtt_p50_ms


def _window_of_link(
    reader: Reader, pair: tuple[int, int], since_ns: int, until_ns: int, order: str
) -> Iterator[tuple[str, Sample]]:
    """The last window of round trips of a link in a span of time, or (`ASC`) the first."""
    table = TABLES["link"]
    rows = reader.query(
        f"{table.select} FROM {table.name} WHERE bucket BETWEEN ? AND ? AND src = ? AND dst = ? AND ts BETWEEN ? AND ?"
        f" ORDER BY ts {order} LIMIT 1",
        (since_ns // BUCKET_NS, until_ns // BUCKET_NS, *pair, since_ns, until_ns),
    )
    return (table.sample(row, reader.name_of) for row in rows)


def _newest_of_keys(reader: Reader, table: Table, at_ns: int) -> Iterator[tuple[str, Sample]]:
    keys = _KEYS[table.kind]
    same = " AND ".join(f"newer.{key.strip()} = {table.name}.{key.strip()}" for key in keys.split(","))
    rows = reader.query(
        f"{table.select} FROM {table.name} WHERE ts <= ? AND NOT EXISTS (SELECT 1 FROM {table.name} AS newer"
        f" WHERE {same} AND newer.ts > {table.name}.ts AND newer.ts <= ?) ORDER BY ts",
        (at_ns, at_ns),
    )
    for row in rows:
        yield table.sample(row, reader.name_of)


def _newest_of_pairs(reader: Reader, table: Table, at_ns: int, window_ns: int) -> Iterator[tuple[str, Sample]]:
    """The newest sample of each link in [at − window, at].

    Beside it, where one of our own transfers disturbed it, the newest one that none did is given, first: which of the
    two is shown is the builder's to say.
    """
    since_ns = max(0, at_ns - window_ns)
    newest: dict[tuple[int, int], tuple[Any, ...]] = {}
    for bucket in _unlisted(reader, since_ns, at_ns):  # newest first
        for row in _of_bucket(reader, table, bucket, since_ns, at_ns):
            newest.setdefault((row[0], row[1]), row)
    listed = reader.query(
        f"SELECT {_qualified_select(table)} FROM newest n JOIN {table.name} s ON s.bucket = n.ts / {BUCKET_NS}"
        " AND s.src = n.src AND s.dst = n.dst AND s.ts = n.ts WHERE n.kind = ? AND n.ts BETWEEN ? AND ?",
        (table.kind, since_ns, at_ns),
    )
    for row in listed:
        known = newest.get((row[0], row[1]))
        if known is None or known[2] < row[2]:
            newest[row[0], row[1]] = row
    _look_back(reader, table, since_ns, at_ns, newest)
    loaded = 3 + table.fields.index("loaded") if "loaded" in table.fields else None
    for row in newest.values():
        if loaded is not None and row[loaded]:
            yield from _undisturbed(reader, table, row, since_ns, at_ns)
        yield table.sample(row, reader.name_of)


def _unlisted(reader: Reader, since_ns: int, at_ns: int) -> list[int]:
    """Buckets that have not been rolled up: `newest` does not know of their samples yet."""
    rows = reader.query(
        "SELECT number FROM pending WHERE unit = 'bucket' AND number BETWEEN ? AND ? ORDER BY number DESC",
        (since_ns // BUCKET_NS, at_ns // BUCKET_NS),
    )
    return [bucket for (bucket,) in rows]


def _look_back(
    reader: Reader, table: Table, since_ns: int, at_ns: int, newest: dict[tuple[int, int], tuple[Any, ...]]
) -> None:
    """Links that went on being measured after `at`: bucket by bucket into the past, until all have been found."""
    missing = {
        (src, dst)
        for src, dst in reader.query(
            "SELECT src, dst FROM newest WHERE kind = ? AND ts > ? AND first_ts <= ?", (table.kind, at_ns, at_ns)
        )
        if (src, dst) not in newest
    }
    for bucket in range(at_ns // BUCKET_NS, since_ns // BUCKET_NS - 1, -1):
        if not missing:
            return
        if len(missing) <= _SEEK_AT_MOST:
            found = [row for link in missing for row in _of_link(reader, table, bucket, link, since_ns, at_ns)]
        else:
            found = _of_bucket(reader, table, bucket, since_ns, at_ns)
        for row in found:
            if (row[0], row[1]) in missing:
                missing.discard((row[0], row[1]))
                newest[row[0], row[1]] = row


def _of_bucket(reader: Reader, table: Table, bucket: int, since_ns: int, at_ns: int) -> list[tuple[Any, ...]]:
    """The newest row of each link in `bucket`."""
    return reader.query(
        f"SELECT {_qualified_select(table)} FROM (SELECT src, dst, max(ts) AS ts FROM {table.name} WHERE bucket = ?"
        f" AND ts BETWEEN ? AND ? GROUP BY src, dst) n JOIN {table.name} s ON s.bucket = ? AND s.src = n.src"
        " AND s.dst = n.dst AND s.ts = n.ts",
        (bucket, since_ns, at_ns, bucket),
    )


def _of_link(
    reader: Reader, table: Table, bucket: int, link: tuple[int, int], since_ns: int, at_ns: int
) -> list[tuple[Any, ...]]:
    return reader.query(
        f"{table.select} FROM {table.name} WHERE bucket = ? AND src = ? AND dst = ? AND ts BETWEEN ? AND ?"
        " ORDER BY ts DESC LIMIT 1",
        (bucket, *link, since_ns, at_ns),
    )


def _undisturbed(
    reader: Reader, table: Table, row: tuple[Any, ...], since_ns: int, at_ns: int
) -> Iterator[tuple[str, Sample]]:
    src, dst, ts = row[:3]
    before = reader.query(
        f"{table.select} FROM {table.name} WHERE bucket BETWEEN ? AND ? AND src = ? AND dst = ?"
        " AND ts BETWEEN ? AND ? AND NOT loaded ORDER BY ts DESC LIMIT 1",
        (ts // BUCKET_NS - 1, ts // BUCKET_NS, src, dst, since_ns, at_ns),
    )
    return (table.sample(each, reader.name_of) for each in before)


def _qualified_select(table: Table) -> str:
    return ", ".join(f"s.{column}" for column in ("src", "dst", "ts", *table.fields))


def _newest_hosts(reader: Reader, at_ns: int, window_ns: int) -> Iterator[tuple[str, Sample]]:
    """All samples of each node's newest reading: one a GPU."""
    table = TABLES["host"]
    rows = reader.query(
        f"{table.select} FROM {table.name} JOIN (SELECT id, (SELECT max(ts) FROM host_sample WHERE node = id"
        " AND ts BETWEEN ? AND ?) AS last_ts FROM node WHERE member = 1) AS reading"
        f" ON node = id AND ts = last_ts AND bucket = last_ts / {BUCKET_NS} ORDER BY node, part",
        (max(0, at_ns - window_ns), at_ns),
    )
    yield from (table.sample(row, reader.name_of) for row in rows)


def _events(reader: Reader, at_ns: int) -> Iterator[tuple[str, EventSample]]:
    table = TABLES["event"]
    rows = reader.query(
        f"{table.select} FROM {table.name} WHERE ts <= ? ORDER BY ts DESC, part DESC LIMIT ?", (at_ns, MAX_EVENTS)
    )
    for row in rows[::-1]:
        node_id, sample = table.sample(row, reader.name_of)
        assert isinstance(sample, EventSample)
        yield node_id, sample


def _runs(reader: Reader, at_ns: int) -> Iterator[RunSample]:
    table = TABLES["run"]
    rows = reader.query(
        f"{table.select} FROM {table.name} WHERE ts <= ? ORDER BY ts DESC, part DESC LIMIT ?", (at_ns, MAX_RUNS)
    )
    for row in rows[::-1]:
        _, sample = table.sample(row, reader.name_of)
        assert isinstance(sample, RunSample)
        yield sample


def _heard_before(reader: Reader, member: NodeRow, at_ns: int) -> int:
    """When a node that is silent in the whole window last sent a reading; else when it first came."""
    rows = reader.query(
        "SELECT max(ts) FROM host_sample WHERE node = (SELECT id FROM node WHERE node_id = ?) AND ts <= ?",
        (member.node_id, at_ns),
    )
    return int(rows[0][0] or member.first_ns)
