"""Store the links of a large swarm compactly, and share what did not change between frames.

A column of n × n figures is cut into blocks of some rows. A block stores its figures in the smallest type that keeps
them: milliseconds and fractions in 32 bit, counts in 16 or 32 bit, moments as milliseconds since a base, and a block of
one value as that value. A frame that follows another replaces the blocks that it changes, and shares the others. A
CompactColumn reads like the array it stands for: an index gives rows, columns or cells in the column's own type, and
the rest stays packed; arithmetic unpacks all of it, and so belongs into loops over rows.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from swarm_protocol.snapshot.columns import LINK_COLUMNS
from swarm_protocol.snapshot.swarm import Ints, Swarm

Array = npt.NDArray[Any]

COMPACT_NODES: Final = 150  # all links of fewer take 5 MB
BLOCK_ROWS: Final = 16  # few enough that one changed link copies little, many enough that a column is read fast
TICK_NS: Final = 1_000_000  # of moments
_BEFORE_NS: Final = TICK_NS << 31  # 25 days before the first frame and as long after it fit into 32 bit
_COUNTS: Final = (np.uint16, np.uint32)


def compacted(swarm: Swarm) -> Swarm:
    """Return the swarm with compact link columns. Figures in ms keep 24 bit of precision, moments the millisecond."""
    if is_compact(swarm.links):
        return swarm
    links = cast("dict[str, Array]", compact_columns(swarm.links, swarm.at_ns))
    return dataclasses.replace(swarm, links=links, _index={})


def compact_columns(links: Mapping[str, Array], now_ns: int) -> dict[str, CompactColumn]:
    """Return link columns in compact form. Moments some weeks around `now_ns` take 32 bit."""
    base_ns = now_ns - _BEFORE_NS
    return {name: CompactColumn.of(column, base_ns if _is_moment(name) else 0) for name, column in links.items()}


def _is_moment(name: str) -> bool:
    return name.endswith("at_ns") and LINK_COLUMNS.get(name) is np.int64


class CompactColumn(NDArrayOperatorsMixin):
    """One link column of shape (n, n), read-only."""

    __slots__ = ("_base_ns", "_blocks", "_nbytes", "dtype", "shape")

    def __init__(self, blocks: tuple[Array, ...], n: int, dtype: np.dtype[Any], base_ns: int) -> None:
        self._blocks = blocks
        self._base_ns = base_ns  # of moments; 0: these are none
        self._nbytes = -1  # not counted yet
        self.dtype = dtype
        self.shape = (n, n)

    @classmethod
    def of(cls, column: Array, base_ns: int = 0) -> CompactColumn:
        n = len(column)
        blank = not any(column.strides)
        first = _stored(column[:BLOCK_ROWS], base_ns)
        blocks = tuple(
            first if blank and at + BLOCK_ROWS <= n else _stored(column[at : at + BLOCK_ROWS], base_ns)
            for at in range(0, n, BLOCK_ROWS)
        )
        return cls(blocks, n, column.dtype, base_ns)

    # ------------------------------------------------------------ as an array

    @property
    def ndim(self) -> int:
        return 2

    @property
    def size(self) -> int:
        return self.shape[0] ** 2

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, int]:
        """(0, 0) where one value stands for all links, as of a broadcast array."""
        first = self._blocks[0] if self._blocks else np.zeros(())
        same = not any(first.strides) and all(
            not any(block.strides) and _same(block[0, 0], first[0, 0]) for block in self._blocks
        )
        return (0, 0) if same else (self.shape[0] * self.itemsize, self.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        if self._nbytes < 0:
            self._nbytes = sum(map(_bytes, {id(block): block for block in self._blocks}.values()))
        return self._nbytes

    @property
    def T(self) -> Array:  # noqa: N802 numpy's name
        return self._all().T

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (row for block in self._blocks for row in self._read(block))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        whole = self._all()
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*_unpacked(inputs), **options)

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        return function(*_unpacked(inputs), **{name: _unpacked(each) for name, each in options.items()})

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of an array, computed from the whole column."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._all(), name)

    def copy(self) -> Array:
        """Return a writable copy."""
        return self._all()

    def astype(self, dtype: npt.DTypeLike) -> Array:
        return self._all().astype(dtype)

    def __getitem__(self, key: Any) -> Any:
        """Return what an array gives for the same key; only the rows and columns asked for are unpacked."""
        rows: Any
        columns: Any
        rows, columns = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        if isinstance(rows, int | np.integer):
            row = range(self.shape[0])[rows]
            stored = self._blocks[row // BLOCK_ROWS][row % BLOCK_ROWS]
            one = isinstance(columns, int | np.integer)
            return self._read(stored[columns][None])[0] if one else self._read(stored[columns])
        if isinstance(columns, int | np.integer | list | slice) or (_is_list(columns) and _is_slice(rows)):
            if _is_slice(rows) and rows == slice(None):
                return self._join([block[:, columns] for block in self._blocks])
            if _is_slice(rows) and rows.step in (None, 1):
                first, last, _ = rows.indices(self.shape[0])
                return self._between(first, last)[:, columns]
            if _is_slice(rows) or (_is_list(rows) and _is_slice(columns)):
                return self.rows(np.arange(self.shape[0])[rows])[:, columns]
        if _is_list(rows) and _is_list(columns) and rows.dtype != np.bool_:
            return self._cells(rows, columns)
        if _is_open_mesh(rows, columns):
            return self.rows(rows[:, 0])[:, columns[0]]
        return self._all()[key]

    # ------------------------------------------------------------ by rows

    def rows(self, wanted: Ints) -> Array:
        """Return these rows, of shape (len(wanted), n)."""
        out = np.empty((len(wanted), self.shape[1]), self.dtype)
        of_block = wanted // BLOCK_ROWS
        for number in np.unique(of_block).tolist():
            here = np.flatnonzero(of_block == number)
            out[here] = self._read(self._blocks[number][wanted[here] % BLOCK_ROWS])
        return out

    def _cells(self, rows: Ints, columns: Ints) -> Array:
        found = np.empty(len(rows), self.dtype)
        of_block = rows // BLOCK_ROWS
        for number in np.unique(of_block).tolist():
            here = np.flatnonzero(of_block == number)
            found[here] = self._read(self._blocks[number][rows[here] % BLOCK_ROWS, columns[here]])
        return found

    def blocks(self) -> Iterator[Array]:
        """Yield the rows, some at a time."""
        return (self._read(block) for block in self._blocks)

    def with_cells(self, at: npt.NDArray[np.integer[Any]], values: Array) -> CompactColumn:
        """Return the column with other values at these flat cell numbers; every other block is shared."""
        per_block = BLOCK_ROWS * self.shape[1]
        if len(at) > 1 and (at[1:] < at[:-1]).any():
            order = np.argsort(at, kind="stable")
            at, values = at[order], values[order]
        blocks = list(self._blocks)
        ends = np.searchsorted(at, per_block * np.arange(len(blocks) + 1)).tolist()
        for number, (first, last) in enumerate(itertools.pairwise(ends)):
            if first < last:
                here = slice(first, last)
                blocks[number] = self._changed(blocks[number], at[here] - number * per_block, values[here])
        return CompactColumn(tuple(blocks), self.shape[0], self.dtype, self._base_ns)

    def changed_cells(self, before: CompactColumn) -> tuple[Ints, Ints]:
        """Return (rows, columns) of the cells that differ from a column of the same nodes."""
        rows: list[Ints] = []
        columns: list[Ints] = []
        for number, (old, new) in enumerate(zip(before._blocks, self._blocks, strict=True)):
            if old is new:
                continue
            was, now = before._read(old), self._read(new)
            row, column = np.nonzero((was != now) & ~((was != was) & (now != now)))
            rows.append(row + number * BLOCK_ROWS)
            columns.append(column)
        nothing = np.zeros(0, np.int64)
        return np.concatenate([nothing, *rows]), np.concatenate([nothing, *columns])

    def bytes_beside(self, before: object) -> int:
        """Return the bytes that are not shared with another column."""
        if not isinstance(before, CompactColumn) or len(before._blocks) != len(self._blocks):
            return self.nbytes
        return sum(_bytes(mine) for mine, other in zip(self._blocks, before._blocks, strict=True) if mine is not other)

    def replaced(self, column: Array) -> CompactColumn:
        """Return another column in place of this one, with moments since the same base."""
        return CompactColumn.of(column, self._base_ns)

    # ------------------------------------------------------------ below

    def _all(self) -> Array:
        return self._join(list(self._blocks)) if self._blocks else np.zeros(self.shape, self.dtype)

    def _between(self, first: int, last: int) -> Array:
        """Return the rows first … last - 1."""
        start = first // BLOCK_ROWS
        some = list(self._blocks[start : -(-last // BLOCK_ROWS)]) if last > first else []
        out = [self._read(block) for block in some]
        joined = np.concatenate(out) if out else np.zeros((0, self.shape[1]), self.dtype)
        return joined[first - start * BLOCK_ROWS : last - start * BLOCK_ROWS]

    def _join(self, blocks: list[Array]) -> Array:
        out = np.empty((self.shape[0], *blocks[0].shape[1:]), self.dtype) if blocks else np.zeros((0, 0), self.dtype)
        at = 0
        for block in blocks:
            out[at : at + len(block)] = self._read(block)
            at += len(block)
        return out

    def _read(self, stored: Array) -> Array:
        """Return stored figures in the column's own type."""
        if self._base_ns and stored.dtype == np.uint32:
            return np.where(stored > 0, self._base_ns + stored.astype(np.int64) * TICK_NS, 0)
        return stored.astype(self.dtype)

    def _changed(self, block: Array, at: Array, values: Array) -> Array:
        put = _stored(values[None, :], self._base_ns, block.dtype)
        if put.dtype == block.dtype:
            changed = block.copy()
            changed.reshape(-1)[at] = put[0]
        else:  # the new values do not fit in the type of the others
            whole = self._read(block)
            whole.reshape(-1)[at] = values
            changed = _stored(whole, self._base_ns)
        return changed


def _stored(values: Array, base_ns: int, wanted: np.dtype[Any] | None = None) -> Array:
    """Return figures in the smallest type for them; `wanted`: in that one, where they fit in it."""
    if values.size and wanted is None:
        first = values.reshape(-1)[0]
        if (values == first).all() or (first != first and np.isnan(values).all()):
            return np.broadcast_to(_packed(np.array([[first]], values.dtype), base_ns, None), values.shape)
    return _packed(values, base_ns, wanted)


def _packed(values: Array, base_ns: int, wanted: np.dtype[Any] | None) -> Array:
    if values.dtype == np.float64:
        with np.errstate(over="ignore"):
            short = values.astype(np.float32)
        return values.copy() if np.isinf(short).any() else short
    if values.dtype != np.int64 or not values.size:
        return values.copy()
    low, high = int(values.min()), int(values.max())
    if base_ns:
        ticks = np.where(values == 0, 0, (values - base_ns) // TICK_NS)
        known = ticks[values != 0]
        fits = not known.size or (int(known.min()) > 0 and int(known.max()) < 1 << 32)
        return ticks.astype(np.uint32) if fits and wanted != np.int64 else values.copy()
    for dtype in _COUNTS:
        if low >= 0 and high <= np.iinfo(dtype).max and (wanted is None or np.dtype(dtype) >= wanted):
            return values.astype(dtype)
    return values.copy()


def _unpacked(inputs: Any) -> Any:
    if isinstance(inputs, CompactColumn):
        return inputs._all()
    if isinstance(inputs, list | tuple):
        return type(inputs)(_unpacked(each) for each in inputs)
    return inputs


def _same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))


def _bytes(block: Array) -> int:
    return block.nbytes if any(block.strides) else block.itemsize


def _is_slice(key: Any) -> bool:
    return isinstance(key, slice)


def _is_list(key: Any) -> bool:
    """Return whether a key lists rows or columns, by index or by a mask."""
    return isinstance(key, list | np.ndarray) and np.ndim(key) == 1


def _is_open_mesh(rows: Any, columns: Any) -> bool:
    """Return whether a key is np.ix_ of two lists."""
    return (
        isinstance(rows, np.ndarray) and isinstance(columns, np.ndarray) and rows.ndim == columns.ndim == 2
        and rows.shape[1] == columns.shape[0] == 1 and rows.dtype != np.bool_
    )  # fmt: skip


def is_compact(columns: Mapping[str, Array]) -> bool:
    """Return whether the links of a swarm are held this way."""
    return isinstance(columns.get("kind"), CompactColumn)
