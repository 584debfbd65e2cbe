"""Turn many windows of round trips into columns, so that a live snapshot takes thousands of them at once. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.swarm import Floats, Ints, Kind, Path, Why

Mask = npt.NDArray[np.bool_]

PATHS: Final = {path.name.lower(): path for path in Path}
WHY: Final[dict[str | None, Why]] = {
    None: Why.UNKNOWN,
    **{why.name.lower().replace("_", "-"): why for why in Why},
}
FIELDS: Final = (
    "at_ns", "sent", "lost", "path", "why", "loaded", "stamped_out_ms", "stamped_back_ms",
    "rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "pdv_ms", "jitter_rfc3550_ms",
)  # fmt: skip
_FIELDS: Final = operator.attrgetter(*FIELDS)
_WAY: Final = operator.attrgetter("peer", "address", "interface")


@dataclass(frozen=True, slots=True)
class WindowColumns:
    """One row for each window."""

    seen_ns: Ints
    at_ns: Ints
    loaded: Mask
    counted: Mask  # its packets were sent over the path itself
    stamped: Mask  # it has stamps of both directions
    losses: tuple[Ints, Ints, Ints, Mask]  # at_ns, lost, sent, loaded
    stamps: tuple[Ints, Floats, Floats]  # at_ns, least stamps out and back in ms; NaN: none
    cells: tuple[npt.NDArray[Any], ...]  # what a link shows, in the order of `link_table.PARTS["path"]`

    def of(self, rows: Ints) -> WindowColumns:
        """Return these rows alone."""
        at_ns, loaded = self.at_ns[rows], self.loaded[rows]
        return WindowColumns(
            self.seen_ns[rows], at_ns, loaded, self.counted[rows], self.stamped[rows],
            (at_ns, self.losses[1][rows], self.losses[2][rows], loaded),
            (at_ns, self.stamps[1][rows], self.stamps[2][rows]),
            tuple(each[rows] for each in self.cells),
        )  # fmt: skip


class Windows(NamedTuple):
    """Windows that one node sent together, in rows or in columns."""

    src: int
    dst: Sequence[int]  # of each
    of: Sequence[LinkSample] | LinkColumns
    seen_ns: int  # when the node was last heard

    def sample(self, i: int) -> LinkSample:
        return self.of.sample(i) if isinstance(self.of, LinkColumns) else self.of[i]

    def fields(self) -> Sequence[Sequence[Any] | None]:
        """Return the columns FIELDS; None: all its cells are the field's default."""
        if isinstance(self.of, LinkColumns):
            return cast(tuple[tuple[Any, ...] | None, ...], _FIELDS(self.of))
        return list(zip(*map(_FIELDS, self.of), strict=True)) or [()] * len(FIELDS)

    @property
    def addressed(self) -> bool:
        """Return whether any may name an address or an interface."""
        return not isinstance(self.of, LinkColumns) or self.of.address is not None or self.of.interface is not None

    def ways(self) -> Iterable[tuple[str, str | None, str | None]]:
        """Return (peer, its address, interface) of each."""
        if isinstance(self.of, LinkColumns):
            return zip(self.of.peer, self.of.cells("address"), self.of.cells("interface"), strict=True)
        return map(_WAY, self.of)


def windows_of(
    src: int, of: list[LinkSample] | LinkColumns, index: Callable[[str], int | None], seen_ns: int
) -> Windows:
    """Return the windows of node `src`, without those about itself or about nodes that are not in `index`."""
    dst = list(map(index, of.peer if isinstance(of, LinkColumns) else [sample.peer for sample in of]))
    if None not in dst and src not in dst:
        return Windows(src, cast(list[int], dst), of, seen_ns)
    known = [i for i in dst if i is not None and i != src]
    rows = of.samples() if isinstance(of, LinkColumns) else of
    return Windows(src, known, [row for row, i in zip(rows, dst, strict=True) if i is not None and i != src], seen_ns)


def window_columns(windows: Sequence[Windows]) -> WindowColumns:
    """Return the columns of windows."""
    fields = zip(*[each.fields() for each in windows], strict=True)
    sizes = [len(each.dst) for each in windows]
    return columns_of(fields, sizes, np.repeat([each.seen_ns for each in windows], sizes))


def joined(
    cells: Sequence[Sequence[Any] | None], sizes: Sequence[int], dtype: type[np.generic], default: float = 0,
    code: Callable[[Any], int] | None = None,
) -> npt.NDArray[Any]:  # fmt: skip
    """Return one column made of several, of these sizes; None: `default` in all its cells. A cell None becomes NaN;
    `code` turns a cell into a number. (`np.array` of a list takes several times as long.)"""
    count = sum(sizes)
    if not any(cells):  # none has a column, or there is none
        return np.full(count, default, dtype)
    if None in cells:
        blank = {size: (None if code is not None else default,) * size for size in set(sizes)}
        cells = [blank[size] if each is None else each for each, size in zip(cells, sizes, strict=True)]
    if code is not None:
        return np.fromiter(map(code, chain.from_iterable(cells)), dtype, count)  # type: ignore[arg-type]
    try:
        return np.fromiter(chain.from_iterable(cells), dtype, count)  # type: ignore[arg-type]
    except TypeError:
        known = (np.nan if cell is None else cell for cell in chain.from_iterable(cells))  # type: ignore[arg-type]
        return np.fromiter(known, dtype, count)


def columns_of(fields: Iterable[Sequence[Sequence[Any] | None]], sizes: Sequence[int], seen_ns: Ints) -> WindowColumns:
    """Return the columns of windows whose fields come in the order of FIELDS, each in pieces of these sizes."""
    fields = iter(fields)
    at_ns, sent, lost = (joined(next(fields), sizes, np.int64) for _ in range(3))
    path = joined(next(fields), sizes, np.uint8, code=PATHS.__getitem__)
    why = joined(next(fields), sizes, np.uint8, WHY[None], code=WHY.__getitem__)
    loaded = joined(next(fields), sizes, np.bool_)
    out_ms, back_ms, *figures = (joined(each, sizes, np.float64, np.nan) for each in fields)
    measured = (path == Path.DIRECT) | (path == Path.PUNCHED)
    unreached = path == Path.NONE
    # over a detour via the collector nothing is sent; packets sent without a path are not lost on one
    nothing = (sent == 0) | (unreached & (why != Why.UNKNOWN))
    estimated = (path == Path.ESTIMATED) | (path == Path.RELAYED)
    kind = np.where(estimated, Kind.ESTIMATE, np.where(nothing, Kind.NONE, Kind.MEASURED)).astype(np.uint8)
    share = np.where(nothing, np.nan, np.minimum(1.0, lost / np.maximum(sent, 1)))
    return WindowColumns(
        seen_ns=seen_ns,
        at_ns=at_ns,
        loaded=loaded,
        counted=measured | (unreached & (why == Why.UNKNOWN)),
        stamped=measured & ~np.isnan(out_ms) & ~np.isnan(back_ms),
        losses=(at_ns, lost, sent, loaded),
        stamps=(at_ns, out_ms, back_ms),
        cells=(kind, path, why, at_ns, sent, *figures, share),
    )
