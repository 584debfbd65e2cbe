"""Convert samples to rows and back: tables, columns and their order. One `Table` for each kind; runs no SQL.

Links, hops and transfers are keyed (bucket, src, dst, ts): within a bucket of time the rows of one link lie together,
so that a link's history is one seek a bucket, while writing touches the pages of the present bucket only. Host rows
likewise by node. Layer times and rooflines are few, and the newest of each key counts: they are keyed by what they say.

`part` tells apart what one node says at one time (several GPUs): batch number and position in it.
"""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from swarm_protocol.messages.samples import KINDS, MAX_BATCH_SAMPLES, Sample
from swarm_protocol.units import NS_PER_S

BUCKET_NS: Final = 300 * NS_PER_S  # 30 windows of 10 s: about one page of each link
MINUTE_NS: Final = 60 * NS_PER_S
PARTS_PER_BATCH: Final = 1 << (MAX_BATCH_SAMPLES - 1).bit_length()

_at_ns: Final = operator.attrgetter("at_ns")

Shape = Literal["pair", "host", "event", "keyed"]
Row = tuple[Any, ...]

_SHAPES: Final[dict[str, Shape]] = {
    "link": "pair",
    "hop": "pair",
    "uplink": "pair",
    "compute": "keyed",
    "roofline": "keyed",
    "host": "host",
    "event": "event",
    "run": "event",  # of no node: kept as events of the swarm as a whole are
}
_PREFIX: Final[dict[Shape, tuple[str, ...]]] = {
    "pair": ("bucket", "src", "dst", "ts"),
    "host": ("bucket", "node", "part", "ts"),
    "event": ("node", "part", "ts"),
    "keyed": ("node", "ts"),
}
_BOOLS: Final = frozenset(
    {"loaded", "bound", "verified", "throttled", "on_battery", "baseline", "counted", "tcp_slow_start_after_idle"}
)


class Table(msgspec.Struct, frozen=True):
    """How one kind of sample is stored."""

    kind: str
    shape: Shape
    fields: tuple[str, ...]  # of the struct, without its time and peer; the columns are called the same
    struct: type[msgspec.Struct]
    values: Callable[[Any], Row]  # the fields of a sample
    bools: tuple[int, ...]  # which of the fields are bools
    of_pair: bool  # `shape == "pair"`, precomputed because every stored sample needs it

    @property
    def types(self) -> dict[str, str]:
        """Return the type of each field: int, float, bool or str."""
        return {name: each[0] for name, each in _typed(self.kind).items()}

    @property
    def optional(self) -> frozenset[str]:
        """Return the fields that may be None."""
        return frozenset(name for name, each in _typed(self.kind).items() if each[1])

    @property
    def name(self) -> str:
        return f"{self.kind}_sample"

    @property
    def node_column(self) -> str:
        return "src" if self.shape == "pair" else "node"

    @property
    def columns(self) -> tuple[str, ...]:
        return (*_PREFIX[self.shape], *self.fields)

    @property
    def key(self) -> tuple[str, ...]:
        """Return the first columns, by which rows are ordered; the key, where it is of a pair or of a host."""
        return _PREFIX[self.shape]

    @property
    def bool_names(self) -> frozenset[str]:
        return frozenset(self.fields[i] for i in self.bools)

    def insert_of(self, rows: int, columns: Sequence[str] | None = None, constants: Sequence[str] = ()) -> str:
        """Return the INSERT of so many samples; an existing one (same kind, nodes and nanosecond) stays as it is.
        `columns`: those that the rows have, None: all. `constants`: columns whose cell is the same in all rows; these
        cells are the first arguments, once."""
        return _insert_of(self.name, rows, self.columns if columns is None else tuple(columns), tuple(constants))

    @property
    def select(self) -> str:
        """Return the columns that `sample` reads, to be followed by FROM."""
        peer = "dst" if self.shape == "pair" else "NULL"
        return f"SELECT {self.node_column}, {peer}, ts, {', '.join(self.fields)}"

    def row(self, sample: Any, node: int, peer: int, part: int) -> Row:
        at_ns = sample.at_ns
        if self.of_pair:
            return (at_ns // BUCKET_NS, node, peer, at_ns, *self.values(sample))
        if self.shape == "host":
            return (at_ns // BUCKET_NS, node, part, at_ns, *self.values(sample))
        if self.shape == "event":
            return (node, part, at_ns, *self.values(sample))
        return (node, at_ns, *self.values(sample))

    def pair_rows(self, samples: Sequence[Any], node: int, peers: Sequence[int]) -> list[Row]:
        """Return the rows of `samples`, all of this kind, which is of pairs, by one node about `peers`: what `row`
        returns for each, in a third of its time."""
        return [
            (at_ns // BUCKET_NS, node, peer, at_ns, *values)
            for at_ns, peer, values in zip(map(_at_ns, samples), peers, map(self.values, samples), strict=True)
        ]

    def sample(self, row: Sequence[Any], name_of: Callable[[int], str]) -> tuple[str, Sample]:
        """Return (node id, sample) of a row of `select`."""
        node, peer, at_ns, *values = row
        for i in self.bools:
            if values[i] is not None:
                values[i] = bool(values[i])
        cells = dict(zip(self.fields, values, strict=True))
        if peer is not None:
            cells["peer"] = name_of(peer)
        return name_of(node), cast(Sample, self.struct(at_ns=at_ns, **cells))


@functools.lru_cache(512)  # of many rows, making the text takes as long as inserting them
def _insert_of(table: str, rows: int, names: tuple[str, ...], constants: tuple[str, ...]) -> str:
    shared = [f"?{i + 1}" for i in range(len(constants))]
    values = ",".join(
        f"({','.join((*shared, *(f'?{at + 1}' for at in range(first, first + len(names)))))})"
        for first in range(len(shared), len(shared) + rows * len(names), len(names))
    )
    return f"INSERT INTO {table} ({','.join((*constants, *names))}) VALUES {values} ON CONFLICT DO NOTHING"


def _table(kind: str) -> Table:
    struct = KINDS[kind]
    fields = tuple(name for name in struct.__struct_fields__ if name not in ("at_ns", "peer"))
    return Table(
        kind=kind,
        shape=_SHAPES[kind],
        fields=fields,
        struct=struct,
        values=operator.attrgetter(*fields),
        of_pair=_SHAPES[kind] == "pair",
        bools=tuple(i for i, name in enumerate(fields) if name in _BOOLS),
    )


@functools.cache
def _typed(kind: str) -> dict[str, tuple[str, bool]]:
    """Return each field's type and whether it may be None. Resolving annotations is slow, and few ask."""
    table = TABLES[kind]
    alternatives = {each.name: _alternatives(each.type) for each in msgspec.structs.fields(table.struct)}
    return {name: (_type_of(alternatives[name]), type(None) in alternatives[name]) for name in table.fields}


def _alternatives(found: Any) -> tuple[Any, ...]:
    return typing.get_args(found) if typing.get_origin(found) in (typing.Union, types.UnionType) else (found,)


def _type_of(alternatives: tuple[Any, ...]) -> str:
    kind = next(each for each in alternatives if each is not type(None))
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return "str" if typing.get_origin(kind) is Literal else str(kind.__name__)


TABLES: Final[dict[str, Table]] = {kind: _table(kind) for kind in KINDS}
TABLE_OF: Final[dict[type[Any], Table]] = {KINDS[kind]: table for kind, table in TABLES.items()}
