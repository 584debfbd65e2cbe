"""Encode the Swarm for the wire: a keyframe is complete, a diff has what changed since the previous frame.

Both use one encoding: lists of changed cells with their new values, bit for bit, a keyframe relative to a swarm of
which nothing is known. So unknown cells cost nothing, and one code path is tested for both. Columns come from
NODE_COLUMNS and LINK_COLUMNS; a column that only the other side knows is ignored or stays unknown.

Any bytes give a Swarm or `FrameError`, and nothing is allocated before its size has been checked. A decoded swarm's
arrays are read-only: frames share the columns that did not change between them.

FrameError           these bytes are no frame, or not one that follows this swarm (ask for a keyframe)
MembershipChanged    the two swarms do not have the same nodes; send a keyframe
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.snapshot.columns import LINK_COLUMNS, NODE_COLUMNS
from swarm_protocol.snapshot.links.compact_links import CompactColumn
from swarm_protocol.snapshot.swarm import (
    Congestion,
    Event,
    Kind,
    Nat,
    NodeFacts,
    Path,
    State,
    Swarm,
    Tcp,
    Transport,
    Why,
)

FORMAT: Final = 1
MAX_NODES: Final = 20_000
MAX_BODY_BYTES: Final = 256 << 20  # unpacked; a fully measured swarm of 1,000 nodes is 160 MB
MAX_LINK_BYTES: Final = 1 << 30  # all link columns of one decoded swarm: the limit of a viewer's memory
PACK_FROM_BYTES: Final = 1 << 10  # below, zlib is not worth its time
MAX_RATIO: Final = 200  # real columns pack 2 to 20 times; a bomb packs 1,000 times
_RATIO_FREE_BYTES: Final = 1 << 20

_HIGHEST: Final = {
    "state": max(State),
    "up_kind": max(Kind),
    "down_kind": max(Kind),
    "kind": max(Kind),
    "path": max(Path),
    "mbps_kind": max(Kind),
    "nat": max(Nat),
    "tcp": max(Tcp),
    "congestion": max(Congestion),
    "why": max(Why),
    "hop_transport": max(Transport),
    "mbps_transport": max(Transport),
}

Column = npt.NDArray[Any]
_Cell = npt.NDArray[np.uint32]


class FrameError(ValueError):
    """These bytes are no frame, or not one that follows this swarm; one line that says why."""


class MembershipChanged(ValueError):
    """A diff cannot express this; send a keyframe."""


class _Group(msgspec.Struct, frozen=True, array_like=True):
    """Columns that changed at the same cells. `at`: flat cell numbers, u32 little-endian; None is every cell."""

    at: bytes | None
    columns: dict[str, bytes]


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    at_ns: int
    client: str | None
    source: str
    nodes: tuple[_Group, ...]
    links: tuple[_Group, ...]
    events_dropped: Annotated[int, Meta(ge=0)]  # from the front of the previous swarm's events
    events: tuple[Event, ...]  # and these are added
    runs: tuple[RunSample, ...] | None = None  # all of them; None: as before
    running: Running | None = None  # None: as before; it is never withdrawn


class _Keyframe(_Body, frozen=True, kw_only=True, tag="k"):
    facts: Annotated[tuple[NodeFacts, ...], Meta(max_length=MAX_NODES)]


class _Diff(_Body, frozen=True, kw_only=True, tag="d"):
    base_ns: int  # at_ns and
    base_members: int  # checksum of the node ids of the swarm this follows
    facts: dict[int, NodeFacts]


_encoder = msgspec.msgpack.Encoder()
_keyframe_decoder = msgspec.msgpack.Decoder(_Keyframe)
_diff_decoder = msgspec.msgpack.Decoder(_Diff)
_B = TypeVar("_B", bound=_Body)

# ---------------------------------------------------------------- encoding


def encode_keyframe(swarm: Swarm) -> bytes:
    blank = _blank_columns(len(swarm))
    return _pack(
        _Keyframe(
            format=FORMAT,
            at_ns=swarm.at_ns,
            client=swarm.client,
            source=swarm.source,
            facts=swarm.facts,
            nodes=_groups(blank[0], swarm.nodes),
            links=_groups(blank[1], swarm.links),
            events_dropped=0,
            events=swarm.events,
            runs=swarm.runs or None,
            running=swarm.running,
        )
    )


def encode_diff(previous: Swarm, current: Swarm) -> bytes:
    """Encode what turns `previous` into `current`. Raises MembershipChanged."""
    if not same_members(previous, current):
        raise MembershipChanged("the two swarms do not have the same nodes in the same rows; send a keyframe")
    dropped, added = _event_changes(previous.events, current.events)
    pairs = enumerate(zip(previous.facts, current.facts, strict=True))
    return _pack(
        _Diff(
            format=FORMAT,
            base_ns=previous.at_ns,
            base_members=_members(previous),
            at_ns=current.at_ns,
            client=current.client,
            source=current.source,
            facts={row: new for row, (old, new) in pairs if old is not new and old != new},
            nodes=_groups(previous.nodes, current.nodes),
            links=_groups(previous.links, current.links),
            events_dropped=dropped,
            events=added,
            runs=current.runs if current.runs is not previous.runs and current.runs != previous.runs else None,
            running=current.running if current.running != previous.running else None,
        )
    )


def same_members(previous: Swarm, current: Swarm) -> bool:
    """Return whether both have the same nodes in the same rows, so that a diff leads from one to the other."""
    if len(previous) != len(current):
        return False
    return all(a.node_id == b.node_id for a, b in zip(previous.facts, current.facts, strict=True))


def _groups(before: Mapping[str, Column], after: Mapping[str, Column]) -> tuple[_Group, ...]:
    groups: dict[bytes | None, dict[str, bytes]] = {}
    for name, new in after.items():
        old = before[name]
        if old is new:
            continue
        changed = np.flatnonzero(_bits(old) != _bits(new))
        if not changed.size:
            continue
        wire = new.dtype.newbyteorder("<")
        if changed.size * (new.itemsize + 4) >= new.size * new.itemsize:
            groups.setdefault(None, {})[name] = new.astype(wire).tobytes()
        else:
            at = changed.astype("<u4").tobytes()
            groups.setdefault(at, {})[name] = new.reshape(-1)[changed].astype(wire).tobytes()
    return tuple(_Group(at, columns) for at, columns in groups.items())


def _bits(column: Column) -> Column:
    """Compare bits: NaN equals NaN, and −0.0 is not 0.0."""
    return column.view(np.int64) if column.dtype == np.float64 else column


def _event_changes(old: tuple[Event, ...], new: tuple[Event, ...]) -> tuple[int, tuple[Event, ...]]:
    if old is new:
        return 0, ()
    for dropped in range(len(old)):
        kept = len(old) - dropped
        if kept <= len(new) and old[dropped:] == new[:kept]:
            return dropped, new[kept:]
    return len(old), new


def _pack(body: _Body) -> bytes:
    raw = _encoder.encode(body)
    if len(raw) >= PACK_FROM_BYTES:
        packed = zlib.compress(raw, 1)
        if len(packed) < len(raw) <= _unpacked_limit(len(packed)):
            return b"z" + packed
    return b"r" + raw


# ---------------------------------------------------------------- decoding


def decode_keyframe(data: bytes) -> Swarm:
    """Decode a keyframe. Raises FrameError for any bytes that are none."""
    body = _unpack(data, _keyframe_decoder)
    _require_distinct(body.facts)
    nodes, links = _blank_columns(len(body.facts))
    return _built(body, body.facts, nodes, links, (), (), None)


def apply_diff(swarm: Swarm, data: bytes) -> Swarm:
    """Return the swarm that follows `swarm`, which is left as it is.

    Raises FrameError for any bytes that are no diff, or a diff of another swarm.
    """
    body = _unpack(data, _diff_decoder)
    if body.base_ns != swarm.at_ns or body.base_members != _members(swarm):
        raise FrameError("a diff of another frame than the one here; ask for a keyframe")
    facts = swarm.facts
    if body.facts:
        changed = list(facts)
        for row, new in body.facts.items():
            if not 0 <= row < len(facts) or new.node_id != facts[row].node_id:
                raise FrameError(f"facts of row {row} are not of the node there")
            changed[row] = new
        facts = tuple(changed)
        _require_distinct(facts)
    if body.events_dropped > len(swarm.events):
        raise FrameError(f"{body.events_dropped} events to drop, {len(swarm.events)} here")
    return _built(body, facts, swarm.nodes, swarm.links, swarm.events[body.events_dropped :], swarm.runs, swarm.running)


def _built(
    body: _Body,
    facts: tuple[NodeFacts, ...],
    nodes: Mapping[str, Column],
    links: Mapping[str, Column],
    events: tuple[Event, ...],
    runs: tuple[RunSample, ...],
    running: Running | None,
) -> Swarm:
    _require_room(body.links, links)
    return Swarm(
        at_ns=body.at_ns,
        facts=facts,
        nodes=_applied(nodes, body.nodes),
        links=_applied(links, body.links),
        client=body.client,
        source=body.source,
        events=events + body.events,
        runs=runs if body.runs is None else body.runs,
        running=running if body.running is None else body.running,
    )


def _unpack(data: bytes, decoder: msgspec.msgpack.Decoder[_B]) -> _B:
    mark, rest = data[:1], data[1:]
    if mark == b"z":
        rest = _inflated(rest)
    elif mark != b"r":
        raise FrameError(f"no frame begins with {mark!r}")
    try:
        body = decoder.decode(rest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)) from error
    if body.format != FORMAT:
        raise FrameError(f"a frame of format {body.format}; this program reads {FORMAT}, update it")
    return body


def _unpacked_limit(packed_bytes: int) -> int:
    return min(MAX_BODY_BYTES, _RATIO_FREE_BYTES + MAX_RATIO * packed_bytes)


def _inflated(packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(packed, _unpacked_limit(len(packed)))
    except zlib.error as error:
        raise FrameError(f"a packed frame does not unpack ({error})") from error
    if not inflater.eof or inflater.unused_data:
        raise FrameError(f"a packed frame of {len(packed)} bytes is cut, or unpacks to more than it may")
    return raw


def _require_distinct(facts: Iterable[NodeFacts]) -> None:
    names: set[str] = set()
    ids: set[str] = set()
    for count, one in enumerate(facts, start=1):
        names.add(one.name)
        ids.add(one.node_id)
        if len(names) < count or len(ids) < count:
            raise FrameError("two nodes of one name or id")


def _require_room(groups: tuple[_Group, ...], columns: Mapping[str, Column]) -> None:
    own = {name for name, column in columns.items() if not _is_shared_blank(column)}
    own.update(name for group in groups for name in group.columns if name in columns)
    size_bytes = sum(columns[name].size * columns[name].itemsize for name in own)
    if size_bytes > MAX_LINK_BYTES:
        raise FrameError(f"{size_bytes} bytes of link columns; at most {MAX_LINK_BYTES} are held")


def _applied(columns: Mapping[str, Column], groups: tuple[_Group, ...]) -> dict[str, Column]:
    result = dict(columns)
    for group in groups:
        known = {name: cells for name, cells in group.columns.items() if name in columns}
        if not known:
            continue
        shape = next(iter(columns.values())).shape
        size = int(np.prod(shape, dtype=np.int64))
        at = None if group.at is None else _cells(group.at, size)
        count = size if at is None else at.size
        for name, cells in known.items():
            values = _values(name, cells, columns[name].dtype, count)
            before = result[name]
            if isinstance(before, CompactColumn):
                compact = before.replaced(values.reshape(shape)) if at is None else before.with_cells(at, values)
                result[name] = cast("Column", compact)
                continue
            if at is None:
                column = values.reshape(shape)
            else:
                column = before.copy()  # a shared blank becomes a whole array here, within _require_room
                column.reshape(-1)[at] = values
            column.flags.writeable = False
            result[name] = column
    return result


def _cells(data: bytes, size: int) -> _Cell:
    if len(data) % 4 or len(data) > 4 * size:
        raise FrameError(f"{len(data)} bytes of cell numbers for {size} cells")
    at: _Cell = np.frombuffer(data, "<u4")
    if at.size and int(at.max()) >= size:
        raise FrameError(f"cell {int(at.max())} of {size}")
    return at


def _values(name: str, data: bytes, dtype: np.dtype[Any], count: int) -> Column:
    if len(data) != count * dtype.itemsize:
        raise FrameError(f"{len(data)} bytes of {name} for {count} cells of {dtype.itemsize}")
    values: Column = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)
    if dtype == np.float64 and np.isinf(values).any():
        raise FrameError(f"{name} is infinite")
    if values.size and (highest := _HIGHEST.get(name)) is not None and int(values.max()) > highest:
        raise FrameError(f"{name} is {int(values.max())}, at most {int(highest)} is known")
    return values


def _blank_columns(n: int) -> tuple[dict[str, Column], dict[str, Column]]:
    """Return all columns of n nodes with nothing known, as views of one cell each: they take no memory until
    changed."""
    return (
        {name: np.broadcast_to(_blank(dtype), (n,)) for name, dtype in NODE_COLUMNS.items()},
        {name: np.broadcast_to(_blank(dtype), (n, n)) for name, dtype in LINK_COLUMNS.items()},
    )


def _blank(dtype: type[np.generic]) -> Column:
    return np.array(np.nan if dtype is np.float64 else 0, dtype)


def _is_shared_blank(column: Column) -> bool:
    return not any(column.strides)


def _members(swarm: Swarm) -> int:
    return zlib.crc32("\n".join(facts.node_id for facts in swarm.facts).encode("utf-8", "surrogatepass"))
