"""Define the batch whose windows of round trips are columns: a tuple for each field of `LinkSample`, no object each.

The bounds are those of `LinkSample`, from the same annotations, checked at decoding; a test compares the two. A column
that is left out holds its field's default in every row. Columns of different lengths are refused.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from swarm_protocol.messages.codec import finite, require_finite
from swarm_protocol.messages.samples import (
    MAX_BATCH_SAMPLES,
    BatchSeq,
    Count,
    LinkSample,
    Ms,
    OtherSample,
    PathKind,
    ProbeSample,
    StampedMs,
    Stamping,
    Ttl,
    WallNs,
    WhyNoPath,
)

_T = TypeVar("_T")
Cells = Annotated[tuple[_T, ...], Meta(min_length=1, max_length=MAX_BATCH_SAMPLES)]


class LinkColumns(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Windows of one node, in the order in which they were spooled; what each field means is said at `LinkSample`."""

    at_ns: Cells[WallNs]
    peer: Cells[str]  # NodeId, checked together: a pattern for each takes as long as decoding all the rest
    path: Cells[PathKind]
    sent: Cells[Count]
    lost: Cells[Count]
    lost_out: Cells[Count | None] | None = None
    lost_back: Cells[Count | None] | None = None
    rtt_min_ms: Cells[Ms | None] | None = None
    rtt_p50_ms: Cells[Ms | None] | None = None
    rtt_p95_ms: Cells[Ms | None] | None = None
    rtt_p99_ms: Cells[Ms | None] | None = None
    pdv_ms: Cells[Ms | None] | None = None
    jitter_rfc3550_ms: Cells[Ms | None] | None = None
    ipdv_ms: Cells[Ms | None] | None = None
    duplicates: Cells[Count] | None = None
    reordered: Cells[Count] | None = None
    ttl_out: Cells[Ttl | None] | None = None
    ttl_back: Cells[Ttl | None] | None = None
    hop_ms: Cells[Ms | None] | None = None
    loaded: Cells[bool] | None = None
    timestamps: Cells[Stamping] | None = None
    why: Cells[WhyNoPath | None] | None = None
    stamped_out_ms: Cells[StampedMs | None] | None = None
    stamped_back_ms: Cells[StampedMs | None] | None = None
    address: Cells[Annotated[str, Meta(max_length=64)] | None] | None = None
    interface: Cells[Annotated[str, Meta(max_length=32)] | None] | None = None

    def __post_init__(self) -> None:
        columns = msgspec.structs.astuple(self)
        if len(set(map(len, filter(None, columns)))) != 1:  # no column is empty
            for name, cells in zip(_NAMES, columns, strict=True):
                if cells is not None and len(cells) != len(self.at_ns):
                    raise ValueError(f"{name} has {len(cells)} cells, at_ns {len(self.at_ns)}")
        if not _are_node_ids(self.peer):
            raise ValueError("a peer that is no node's id")

    @classmethod
    def of(cls, samples: Sequence[LinkSample]) -> LinkColumns:
        """Return the columns of samples, at least one and MAX_BATCH_SAMPLES at most."""
        columns: dict[str, tuple[Any, ...]] = {}
        for name in _NAMES:
            cells = tuple([getattr(sample, name) for sample in samples])
            if name not in DEFAULTS or any(cell != DEFAULTS[name] for cell in cells):
                columns[name] = cells
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.at_ns)

    @property
    def figures(self) -> list[tuple[float | None, ...]]:
        """Return the columns that may hold a float."""
        return list(filter(None, _figures(self)))

    def cells(self, name: str) -> tuple[Any, ...]:
        """Return a column, also one that was left out."""
        cells: tuple[Any, ...] | None = getattr(self, name)
        return (DEFAULTS[name],) * len(self.at_ns) if cells is None else cells

    def sample(self, row: int) -> LinkSample:
        """Return one row as a sample."""
        found = ((name, getattr(self, name)) for name in _NAMES)
        return LinkSample(**{name: cells[row] for name, cells in found if cells is not None})

    def samples(self) -> Iterator[LinkSample]:
        """Yield all rows as samples, in their order."""
        return map(self.sample, range(len(self.at_ns)))


class ColumnBatch(msgspec.Struct, frozen=True, kw_only=True, tag="columns"):
    """A Batch whose windows of round trips come as columns: a third of the bytes, less than a third of the decoding.
    Sent only to a collector whose Welcome takes columns; its number and samples are those of the Batch it replaces."""

    epoch: WallNs
    seq: BatchSeq
    links: LinkColumns
    others: Annotated[tuple[OtherSample, ...], Meta(max_length=MAX_BATCH_SAMPLES)] = ()
    places: Annotated[tuple[Count, ...], Meta(max_length=MAX_BATCH_SAMPLES)] = ()  # of `others` in the Batch, rising

    def __post_init__(self) -> None:
        count, places = len(self), self.places
        if count > MAX_BATCH_SAMPLES:
            raise ValueError(f"a batch of {count} samples; at most {MAX_BATCH_SAMPLES} are taken")
        if not places and not self.others:
            return
        if len(places) != len(self.others) or any(map(operator.ge, places, places[1:])) or places[-1] >= count:
            raise ValueError("places do not say where the other samples belong")

    @classmethod
    def of(cls, epoch: int, seq: int, samples: Sequence[ProbeSample]) -> ColumnBatch | None:
        """Return a batch in columns; None: it has no windows of round trips."""
        links = [sample for sample in samples if isinstance(sample, LinkSample)]
        if not links:
            return None
        others = [(i, sample) for i, sample in enumerate(samples) if not isinstance(sample, LinkSample)]
        return cls(
            epoch=epoch, seq=seq, links=LinkColumns.of(links),
            others=tuple([sample for _, sample in others]), places=tuple([i for i, _ in others]),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.links) + len(self.others)

    def samples(self) -> tuple[ProbeSample, ...]:
        """Return the samples of the Batch that this one replaces."""
        return in_order(self.links, self.others, self.places)

    def require_finite(self) -> None:
        """Refuse NaN and infinity. Raises DecodeError."""
        if self.others:
            require_finite(self.others)
        if not finite(self.links.figures):
            require_finite(tuple(self.links.samples()))  # says which


def in_order(links: LinkColumns, others: Sequence[_T], places: Sequence[int]) -> tuple[LinkSample | _T, ...]:
    """Return windows and other samples in one sequence, in which `others` are at `places`."""
    windows, at = links.samples(), dict(zip(places, others, strict=True))
    return tuple([at[i] if i in at else next(windows) for i in range(len(links) + len(others))])


def _are_node_ids(peers: tuple[str, ...]) -> bool:
    """Return whether all match `NodeId`. `fromhex` also takes capitals and skips spaces."""
    text = "".join(peers)
    try:
        read = bytes.fromhex(text)
    except ValueError:
        return False
    return _ID_SIZES.issuperset(map(len, peers)) and 2 * len(read) == len(text) and text == text.lower()


_ID_SIZES: Final = frozenset((16, 32))
_NAMES: Final = LinkColumns.__struct_fields__
DEFAULTS: Final[dict[str, Any]] = {
    field.name: field.default for field in msgspec.structs.fields(LinkSample) if field.default is not msgspec.NODEFAULT
}
_figures: Final = operator.attrgetter(*[name for name in _NAMES if name.endswith("_ms")])
