"""Rebuild the Swarm of a past moment from the newest samples before it; also used by a restarted collector.

Only those samples are read that the builder would show, so a recording of days costs what one of minutes does: `newest`
says where a link's latest sample is, and which links there were at all (`swarm_storage.history.roll_forward`). One-way
delays and losses are estimated from several windows, so the latest ones of each link are read besides. The state of a
node is inferred: it was last heard when it last sent something, or when something was reported of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from swarm_protocol.messages.running import KIND, RUNNING_SETTING, Running, from_detail
from swarm_protocol.messages.samples import HopSample, LinkSample, RunSample, Sample, UplinkSample
from swarm_protocol.snapshot.builder import MAX_RUNS, SwarmBuilder
from swarm_protocol.snapshot.estimates.one_way import HISTORY, PAIR_AGE_S
from swarm_protocol.snapshot.links.link_figures import RECENT_RATE_NS
from swarm_protocol.snapshot.links.loss_history import AGE_NS, LossWindow
from swarm_protocol.snapshot.links.loss_history import HISTORY as LOSS_HISTORY
from swarm_protocol.snapshot.links.stamp_history import StampedWindow, has_idle_stamps
from swarm_protocol.snapshot.swarm import State, Swarm
from swarm_protocol.units import NS_PER_S
from swarm_storage.history import link_windows
from swarm_storage.history.link_windows import Ends
from swarm_storage.history.members import (
    REPLAY_LOST_NS,
    REPLAY_STALE_NS,
    WINDOW_S,
    add_events,
    add_members,
    events_until,
    heard_before,
    last_heard,
    newest,
    newest_hosts,
)
from swarm_storage.history.recording import Reader
from swarm_storage.rows import BUCKET_NS, TABLES, Row, Table

_MAX_SEEK: Final = 50  # links looked up one by one; more are found by reading their whole bucket
_MAX_DATED: Final = 4_000  # hops: two seeks each
_MAX_EARLIER: Final = 2_500  # links whose earlier windows are read as well: every pair of fifty nodes
_NEAR_NS: Final = 70 * NS_PER_S  # no window of round trips is longer than a minute
# keys of the figures of which the newest counts; without a figure of its own for each card and size of visit, a
# machine's times would be those of the last card, and its visits all of one size
_KEYS: Final = {
    "compute": ("node", "model", "dtype", "phase", "batch", "context", "device", "coalesce({}.stage_layers, 0)"),
    "roofline": ("node", "device", "dtype"),
}
# a layer time that others disturbed does not replace an undisturbed one: the builder is given both
_REPLACES: Final = {
    "compute": " AND (replace(newer.marks, 'contended', '') = newer.marks OR replace({0}.marks, 'contended', '')"
    " <> {0}.marks)",
    "roofline": "",
}


def swarm_at(
    reader: Reader, at_ns: int, window_s: float = WINDOW_S, source: str = "", *, compact: bool = False
) -> Swarm:
    """Return what the dashboard showed at that moment. Figures older than the window are left out, except layer times.
    `source`: as the Swarm names it; the file's name by default. `compact`: store the links of a large swarm
    compactly."""
    builder = restored(reader, at_ns, round(window_s * NS_PER_S))
    return builder.snapshot(at_ns, source or reader.name.rpartition("/")[2], compact=compact)


def restored(reader: Reader, at_ns: int, window_ns: int) -> SwarmBuilder:
    """Return a builder with what was known at `at_ns`. Feed it what follows to play on."""
    builder = SwarmBuilder(stale_after_ns=REPLAY_STALE_NS, lost_after_ns=REPLAY_LOST_NS)
    return fill(builder, reader, at_ns, window_ns)


def fill(builder: SwarmBuilder, reader: Reader, at_ns: int, window_ns: int) -> SwarmBuilder:
    """Put members, figures and events as of `at_ns` into `builder`."""
    members = add_members(builder, reader, at_ns)
    links = _newest_links(reader, at_ns, window_ns)
    hops = list(_newest_of_pairs(reader, TABLES["hop"], at_ns, window_ns))
    by_columns = link_windows.plain(links, hops)
    windows, found = _latest(reader, at_ns, window_ns, links, by_columns, hops)
    events = list(events_until(reader, at_ns))
    sent = itertools.chain(
        ((node_id, sample.at_ns) for node_id, sample in found),
        ((ends[0], links[ends][2]) for ends in by_columns),
    )
    heard, away = last_heard(members, sent, events)
    for node_id, last_ns in heard.items():
        last_ns = last_ns or heard_before(reader, members[node_id], at_ns)
        if last_ns:
            builder.seen(node_id, last_ns)
            builder.state(node_id, away.get(node_id, State.OK), last_ns)
    link_windows.put_plain(builder, links, by_columns)
    for node_id, sample in _in_order(reader, found, at_ns):
        if node_id in builder:
            builder.sample(node_id, sample)
    for node_id, peer, stamps, losses in _windows(reader, windows, at_ns):
        if node_id in builder and peer in builder:
            builder.earlier(node_id, peer, stamps, losses)
    add_events(builder, events)
    for run in _runs(reader, at_ns):
        builder.run(run)
    for report in _running_reports(reader, at_ns):
        builder.running(report)
    return builder


def _running_reports(reader: Reader, at_ns: int) -> Iterator[Running]:
    """Yield the newest reports before that moment of what runs: from the events, which are pruned, and the settings."""
    rows = reader.query(
        "SELECT ts, detail FROM event_sample WHERE kind = ? AND ts <= ? ORDER BY ts DESC LIMIT 1", (KIND, at_ns)
    )
    for ts, detail in rows:
        if (report := from_detail(ts, detail)) is not None:
            yield report
    if (kept := reader.settings().get(RUNNING_SETTING)) is not None:
        try:
            report = msgspec.json.decode(kept, type=Running)
        except msgspec.DecodeError:  # of a later collector, or tampered with: the events are used alone
            return
        if report.at_ns <= at_ns:
            yield report


def _latest(
    reader: Reader,
    at_ns: int,
    window_ns: int,
    links: dict[Ends, Row],
    by_columns: set[Ends],
    hops: Sequence[tuple[str, Sample]],
) -> tuple[list[tuple[Ends, bool]], list[tuple[str, Sample]]]:
    """Return (each link, and whether its window has stamps of an idle path), and the newest sample of each key up to
    `at_ns` but of links that go by columns, oldest layer times first."""
    windows: list[tuple[Ends, bool]] = []
    found: list[tuple[str, Sample]] = []
    for kind in ("compute", "roofline"):
        found += _newest_of_keys(reader, TABLES[kind], at_ns)
    for ends, row in links.items():
        if ends in by_columns:
            windows.append((ends, link_windows.has_stamps(row)))
            continue
        for node_id, sample in _as_samples(reader, link_windows.LINK, row, max(0, at_ns - window_ns), at_ns):
            assert isinstance(sample, LinkSample)
            windows.append((ends, has_idle_stamps(sample)))
            found.append((node_id, sample))
    found += hops
    found += _newest_of_pairs(reader, TABLES["uplink"], at_ns, window_ns)
    found += newest_hosts(reader, at_ns, window_ns)
    return windows, found


def _in_order(reader: Reader, found: list[tuple[str, Sample]], at_ns: int) -> list[tuple[str, Sample]]:
    """Order samples by time, so that the builder dates hops as it did live. A hop that does not fit its path's present
    round trip gets the windows before and after it, one older than a transfer of its ends the transfer before."""
    links = {(node_id, sample.peer): sample for node_id, sample in found if isinstance(sample, LinkSample)}
    hops = [(node_id, sample) for node_id, sample in found if isinstance(sample, HopSample)]
    odd = [(node_id, hop) for node_id, hop in hops if not _fits(hop, links.get((node_id, hop.peer)))]
    uplinks = [(node_id, sample) for node_id, sample in found if isinstance(sample, UplinkSample)]
    first_ns: dict[str, int] = {}  # of the hops from or to each node
    for node_id, hop in hops:
        for end in (node_id, hop.peer):
            first_ns[end] = min(hop.at_ns, first_ns.get(end, hop.at_ns))
    late = [
        (node_id, sample, hop_ns) for node_id, sample in uplinks
        if (hop_ns := min(first_ns.get(end, sample.at_ns) for end in (node_id, sample.peer))) < sample.at_ns
    ]  # fmt: skip
    ids = dict(reader.query("SELECT node_id, id FROM node")) if odd or late else {}
    dated = list(found)
    for node_id, hop in odd[:_MAX_DATED]:
        pair = (ids[node_id], ids[hop.peer])
        dated += _one_of_link(reader, "link", pair, hop.at_ns - _NEAR_NS, hop.at_ns - 1, "DESC")
        dated += _one_of_link(reader, "link", pair, hop.at_ns, min(at_ns, hop.at_ns + _NEAR_NS), "ASC")
    for node_id, sample, hop_ns in late[:_MAX_DATED]:
        pair = (ids[node_id], ids[sample.peer])
        dated += _one_of_link(reader, "uplink", pair, hop_ns - RECENT_RATE_NS, hop_ns, "DESC")
    return sorted(dated, key=lambda each: each[1].at_ns)


def _fits(hop: HopSample, link: LinkSample | None) -> bool:
    return link is None or link_windows.fits(hop, link.at_ns, link.rtt_p50_ms)


def _windows(
    reader: Reader, links: list[tuple[Ends, bool]], at_ns: int
) -> Iterator[tuple[str, str, list[StampedWindow], list[LossWindow]]]:
    """Yield (node, peer, stamps, losses) of what delays and losses of that moment were estimated from. Of many links
    only those are looked up that show a window without usable stamps, which would leave their delays unknown; the
    losses of the others are their newest window's."""
    every = len(links) <= _MAX_EARLIER
    wanted = [ends for ends, idle_stamps in links if every or not idle_stamps][:_MAX_EARLIER]
    ids = dict(reader.query("SELECT node_id, id FROM node")) if wanted else {}
    stamped_ns = at_ns - round(PAIR_AGE_S * NS_PER_S)
    since_ns = max(0, at_ns - AGE_NS)
    buckets, listed = _buckets(since_ns, at_ns)
    for node_id, peer in wanted:
        rows = reader.query(
            f"SELECT ts, stamped_out_ms, stamped_back_ms, loaded, lost, sent, path FROM link_sample WHERE {listed}"
            " AND src = ? AND dst = ? AND ts BETWEEN ? AND ?"
            " AND (path IN ('direct', 'punched') OR (path = 'none' AND why IS NULL)) ORDER BY ts DESC LIMIT ?",
            (*buckets, ids[node_id], ids[peer], since_ns, at_ns, 2 * LOSS_HISTORY if every else LOSS_HISTORY),
        )[::-1]
        if rows:
            stamps = [
                (ts, out, back, bool(loaded)) for ts, out, back, loaded, _, _, path in rows
                if ts >= stamped_ns and path != "none" and out is not None and back is not None
            ]  # fmt: skip
            losses = [(ts, lost, sent, bool(loaded)) for ts, _, _, loaded, lost, sent, _ in rows]
            yield node_id, peer, stamps[-2 * HISTORY if every else -HISTORY :], losses


def _buckets(since_ns: int, until_ns: int) -> tuple[range, str]:
    """Return (buckets of a span, condition that names each). Of a condition on a range of buckets, the database reads
    all links that the buckets hold."""
    buckets = range(since_ns // BUCKET_NS, until_ns // BUCKET_NS + 1)
    return buckets, f"bucket IN ({', '.join('?' * len(buckets))})"


def _one_of_link(
    reader: Reader, kind: str, pair: tuple[int, int], since_ns: int, until_ns: int, order: str
) -> Iterator[tuple[str, Sample]]:
    """Return the last sample of a link in a span of time, or (`ASC`) the first."""
    table = TABLES[kind]
    buckets, listed = _buckets(since_ns, until_ns)
    rows = reader.query(
        f"{table.select} FROM {table.name} WHERE {listed} AND src = ? AND dst = ? AND ts BETWEEN ? AND ?"
        f" ORDER BY ts {order} LIMIT 1",
        (*buckets, *pair, since_ns, until_ns),
    )
    return (table.sample(row, reader.name_of) for row in rows)


def _newest_of_keys(reader: Reader, table: Table, at_ns: int) -> Iterator[tuple[str, Sample]]:
    same = " AND ".join(f"{_of(key, 'newer')} = {_of(key, table.name)}" for key in _KEYS[table.kind])
    rows = reader.query(
        f"{table.select} FROM {table.name} WHERE ts <= ? AND NOT EXISTS (SELECT 1 FROM {table.name} AS newer"
        f" WHERE {same} AND newer.ts > {table.name}.ts AND newer.ts <= ?{_REPLACES[table.kind].format(table.name)})"
        " ORDER BY ts",
        (at_ns, at_ns),
    )
    for row in rows:
        yield table.sample(row, reader.name_of)


def _of(column: str, table: str) -> str:
    return column.format(table) if "{}" in column else f"{table}.{column}"


def _newest_of_pairs(reader: Reader, table: Table, at_ns: int, window_ns: int) -> Iterator[tuple[str, Sample]]:
    """Yield the newest sample of each link in [at − window, at].

    If one of our own transfers disturbed it, the newest undisturbed one is yielded first: the builder decides which of
    the two is shown.
    """
    since_ns = max(0, at_ns - window_ns)
    for row in _newest_rows(reader, table, since_ns, at_ns):
        yield from _as_samples(reader, table, row, since_ns, at_ns)


def _newest_links(reader: Reader, at_ns: int, window_ns: int) -> dict[Ends, Row]:
    """Return the newest row of each link, by its ends."""
    rows = _newest_rows(reader, link_windows.LINK, max(0, at_ns - window_ns), at_ns)
    return {(reader.name_of(row[0]), reader.name_of(row[1])): row for row in rows}


def _as_samples(
    reader: Reader, table: Table, row: tuple[Any, ...], since_ns: int, at_ns: int
) -> Iterator[tuple[str, Sample]]:
    """Yield the sample of a row; before a disturbed one the newest undisturbed one."""
    if "loaded" in table.fields and row[3 + table.fields.index("loaded")]:
        yield from _undisturbed(reader, table, row, since_ns, at_ns)
    yield table.sample(row, reader.name_of)


def _newest_rows(reader: Reader, table: Table, since_ns: int, at_ns: int) -> Iterable[tuple[Any, ...]]:
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
    return newest.values()


def _unlisted(reader: Reader, since_ns: int, at_ns: int) -> list[int]:
    """Return buckets that have not been rolled up: `newest` does not know their samples yet."""
    rows = reader.query(
        "SELECT number FROM pending WHERE unit = 'bucket' AND number BETWEEN ? AND ? ORDER BY number DESC",
        (since_ns // BUCKET_NS, at_ns // BUCKET_NS),
    )
    return [bucket for (bucket,) in rows]


def _look_back(
    reader: Reader, table: Table, since_ns: int, at_ns: int, newest: dict[tuple[int, int], tuple[Any, ...]]
) -> None:
    """Find links that were still measured after `at`, bucket by bucket backwards, until all have been found."""
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
        if len(missing) <= _MAX_SEEK:
            found = [row for link in missing for row in _of_link(reader, table, bucket, link, since_ns, at_ns)]
        else:
            found = _of_bucket(reader, table, bucket, since_ns, at_ns)
        for row in found:
            if (row[0], row[1]) in missing:
                missing.discard((row[0], row[1]))
                newest[row[0], row[1]] = row


def _of_bucket(reader: Reader, table: Table, bucket: int, since_ns: int, at_ns: int) -> list[tuple[Any, ...]]:
    """Return the newest row of each link in `bucket`."""
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
    buckets, listed = _buckets(ts - BUCKET_NS, ts)
    before = reader.query(
        f"{table.select} FROM {table.name} WHERE {listed} AND src = ? AND dst = ?"
        " AND ts BETWEEN ? AND ? AND NOT loaded ORDER BY ts DESC LIMIT 1",
        (*buckets, src, dst, since_ns, at_ns),
    )
    return (table.sample(each, reader.name_of) for each in before)


def _qualified_select(table: Table) -> str:
    return ", ".join(f"s.{column}" for column in ("src", "dst", "ts", *table.fields))


def _runs(reader: Reader, at_ns: int) -> Iterator[RunSample]:
    for _, sample in newest(reader, "run", at_ns, MAX_RUNS):
        assert isinstance(sample, RunSample)
        yield sample
