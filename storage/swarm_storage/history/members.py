"""Restore the members of a recording at a moment from few rows: machines, states, newest readings and events.

The state of a node is inferred: it was last heard when it last sent something, or when something was reported of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from swarm_protocol.messages.samples import EventSample, Sample
from swarm_protocol.snapshot.event_log import MAX_EVENTS
from swarm_protocol.snapshot.nodes.node_figures import device_of
from swarm_protocol.snapshot.swarm import Member, State, Swarm
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.recording import NodeRow, Reader
from swarm_storage.rows import BUCKET_NS, TABLES

if TYPE_CHECKING:
    from swarm_protocol.snapshot.builder import SwarmBuilder

WINDOW_S: Final = 3600.0  # how old a figure may be: an idle swarm measures each link and hop at least once in it
# Heartbeats are not recorded: a recording has the host sample instead, one a minute in an idle swarm.
REPLAY_STALE_NS: Final = 90 * NS_PER_S
REPLAY_LOST_NS: Final = 180 * NS_PER_S
_MAX_TERMS: Final = 100  # of one coalesce; SQLite takes 127
_AWAY: Final = {"left": State.LEFT, "lost": State.LOST}


def list_members(reader: Reader, at_ns: int, window_s: float = WINDOW_S) -> tuple[Member, ...]:
    """Return who is told by `members_at`, with device and state but no figures: without numpy, for the first paint."""
    members = members_until(reader, at_ns)
    newest_ns = _newest_reading(at_ns, round(window_s * NS_PER_S))
    readings = reader.query(f"SELECT node_id, {newest_ns} FROM node WHERE member = 1")
    heard, away = last_heard(
        members, [(node_id, ts) for node_id, ts in readings if ts], list(events_until(reader, at_ns))
    )
    return tuple(
        Member(row.name, _state(heard[node_id], away.get(node_id), at_ns), device_of(row.facts))
        for node_id, row in members.items()
    )


def _state(last_ns: int, away: State | None, at_ns: int) -> State:
    """Return the state that the snapshot of `members_at` shows."""
    if away is None and last_ns <= at_ns - REPLAY_STALE_NS:
        return State.UNKNOWN
    if away not in (None, State.OK) or last_ns > at_ns - REPLAY_STALE_NS:
        return away or State.OK
    return State.LOST if last_ns <= at_ns - REPLAY_LOST_NS else State.STALE


def members_at(
    reader: Reader, at_ns: int, window_s: float = WINDOW_S, source: str = "", *, compact: bool = False
) -> Swarm:
    """Return what is known at once of the Swarm that `swarm_at` returns: members, their machines, events. It is marked
    `unread`, has no links and no layer times, and a state only of nodes whose readings or events tell it."""
    from swarm_protocol.snapshot.builder import SwarmBuilder  # numpy, which `list_members` does without

    builder = SwarmBuilder(stale_after_ns=REPLAY_STALE_NS, lost_after_ns=REPLAY_LOST_NS)
    members = add_members(builder, reader, at_ns)
    found = list(newest_hosts(reader, at_ns, round(window_s * NS_PER_S)))
    events = list(events_until(reader, at_ns))
    heard, away = last_heard(members, ((node_id, sample.at_ns) for node_id, sample in found), events)
    for node_id, last_ns in heard.items():
        if last_ns > at_ns - REPLAY_STALE_NS or node_id in away:
            builder.seen(node_id, last_ns)
            builder.state(node_id, away.get(node_id, State.OK), last_ns)
    for node_id, sample in found:
        if node_id in builder:
            builder.sample(node_id, sample)
    add_events(builder, events)
    swarm = builder.snapshot(at_ns, source or reader.name.rpartition("/")[2], compact=compact)
    swarm.unread = True
    return swarm


def add_members(builder: SwarmBuilder, reader: Reader, at_ns: int) -> dict[str, NodeRow]:
    members = members_until(reader, at_ns)
    for row in members.values():
        builder.node(row.node_id, row.name, row.facts, row.host, state=State.UNKNOWN)
    return members


def members_until(reader: Reader, at_ns: int) -> dict[str, NodeRow]:
    """Return those who had joined by then, by node id."""
    return {row.node_id: row for row in reader.nodes() if row.first_ns <= at_ns}


def last_heard(
    members: Iterable[str], found: Iterable[tuple[str, int]], events: Sequence[tuple[str, EventSample]]
) -> tuple[dict[str, int], dict[str, State]]:
    """Return when each member last sent something, 0: not in what was found; and the state of those that events tell
    of. `found`: node ids with moments of what they sent."""
    heard = dict.fromkeys(members, 0)
    for node_id, sent_ns in found:
        if node_id in heard:
            heard[node_id] = max(heard[node_id], sent_ns)
    away: dict[str, State] = {}
    for node_id, event in events:
        if node_id in heard and event.at_ns >= heard[node_id]:
            away[node_id] = _AWAY.get(event.kind, State.OK)
            if event.kind != "lost":  # which is reported of a node, not by it
                heard[node_id] = event.at_ns
    return heard, away


def add_events(builder: SwarmBuilder, events: Sequence[tuple[str, EventSample]]) -> None:
    for node_id, event in events:
        if node_id in builder:
            builder.sample(node_id, event)
        else:
            builder.event(event.at_ns, node_id or None, event.kind, event.detail)


def newest_hosts(reader: Reader, at_ns: int, window_ns: int) -> Iterator[tuple[str, Sample]]:
    """Return all samples of each node's newest reading: one for each GPU."""
    table = TABLES["host"]
    rows = reader.query(
        f"{table.select} FROM (SELECT id, {_newest_reading(at_ns, window_ns)} AS last_ts FROM node WHERE member = 1)"
        f" AS reading JOIN {table.name} ON bucket = last_ts / {BUCKET_NS} AND node = id AND ts = last_ts"
        " ORDER BY node, part"
    )
    yield from (table.sample(row, reader.name_of) for row in rows)


def _newest_reading(at_ns: int, window_ns: int) -> str:
    """Return SQL for the time of the newest reading of node `id` in [at − window, at]: one seek a bucket, from the
    newest backwards until there is one. Readings have no index by node: keeping it took a fifth of a batch's time."""
    since_ns = max(0, at_ns - window_ns)
    seeks = [
        f"(SELECT max(ts) FROM host_sample WHERE bucket = {bucket} AND node = id AND ts BETWEEN {since_ns} AND {at_ns})"
        for bucket in range(at_ns // BUCKET_NS, since_ns // BUCKET_NS - 1, -1)
    ]
    pieces = [_first_of(seeks[i : i + _MAX_TERMS]) for i in range(0, len(seeks), _MAX_TERMS)]
    return _first_of(pieces)


def _first_of(expressions: list[str]) -> str:
    """Return SQL for the first that is not NULL; those after it are not evaluated."""
    return f"coalesce({', '.join(expressions)}, NULL)"


def events_until(reader: Reader, at_ns: int) -> Iterator[tuple[str, EventSample]]:
    for node_id, sample in newest(reader, "event", at_ns, MAX_EVENTS):
        assert isinstance(sample, EventSample)
        yield node_id, sample


def newest(reader: Reader, kind: str, at_ns: int, count: int) -> Iterator[tuple[str, Sample]]:
    """Yield the newest `count` samples of this kind until then, oldest first."""
    table = TABLES[kind]
    rows = reader.query(
        f"{table.select} FROM {table.name} WHERE ts <= ? ORDER BY ts DESC, part DESC LIMIT ?", (at_ns, count)
    )
    yield from (table.sample(row, reader.name_of) for row in rows[::-1])


def heard_before(reader: Reader, member: NodeRow, at_ns: int) -> int:
    """Return when a node that is silent in the whole window was last heard; else when it first came."""
    if 0 < member.seen_ns <= at_ns:
        return member.seen_ns
    return reader.last_reading_ns(member.node_id, at_ns) or member.first_ns  # it came again later
