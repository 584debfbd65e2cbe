"""Store the links of a large swarm compactly, and share what did not change between frames.

A column of n × n figures is cut into blocks of some rows, which `compact_blocks` packs. A frame that follows another
replaces the blocks that it changes, and shares the others. A CompactColumn reads like the array it stands for: an index
gives rows, columns or cells in the column's own type, and the rest stays packed; arithmetic unpacks all of it, and so
belongs into loops over rows.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from swarm_protocol.snapshot.columns import LINK_COLUMNS
from swarm_protocol.snapshot.links import compact_blocks as blocks
from swarm_protocol.snapshot.links.compact_blocks import TICK_NS, Block, dense
from swarm_protocol.snapshot.swarm import Ints, Swarm

Array = npt.NDArray[Any]

COMPACT_NODES: Final = 150  # all links of fewer take 5 MB
BLOCK_ROWS: Final = 16  # few enough that one changed link copies little, many enough that a column is read fast
_BEFORE_NS: Final = TICK_NS << 31  # 25 days before the first frame and as long after it fit into 32 bit


def compacted(swarm: Swarm) -> Swarm:
    """Return the swarm with compact link columns. Times, rates and shares keep 12 bit of precision, moments
    the millisecond."""
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

    def __init__(self, packed: tuple[Block, ...], n: int, dtype: np.dtype[Any], base_ns: int) -> None:
        self._blocks = packed
        self._base_ns = base_ns  # of moments; 0: these are none
        self._nbytes = -1  # not counted yet
        self.dtype = dtype
        self.shape = (n, n)

    @classmethod
    def of(cls, column: Array, base_ns: int = 0) -> CompactColumn:
        n = len(column)
        blank = not any(column.strides)
        first = blocks.stored(column[:BLOCK_ROWS], base_ns)
        packed = tuple(
            first if blank and at + BLOCK_ROWS <= n else blocks.stored(column[at : at + BLOCK_ROWS], base_ns)
            for at in range(0, n, BLOCK_ROWS)
        )
        return cls(packed, n, column.dtype, base_ns)

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
        one = all(map(blocks.is_one_value, self._blocks))
        same = one and all(_same(dense(block)[0, 0], dense(self._blocks[0])[0, 0]) for block in self._blocks)
        return (0, 0) if same else (self.shape[0] * self.itemsize, self.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        if self._nbytes < 0:
            self._nbytes = sum(map(blocks.bytes_of, {id(block): block for block in self._blocks}.values()))
        return self._nbytes

    @property
    def T(self) -> Array:  # noqa: N802 numpy's name
        return self._all().T

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (row for block in self._blocks for row in self._read(dense(block)))

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
            stored = dense(self._blocks[row // BLOCK_ROWS])[row % BLOCK_ROWS]
            one = isinstance(columns, int | np.integer)
            return self._read(stored[columns][None])[0] if one else self._read(stored[columns])
        if isinstance(columns, int | np.integer | list | slice) or (_is_list(columns) and _is_slice(rows)):
            if _is_slice(rows) and rows == slice(None) and self._blocks:
                return self._joined([dense(block)[:, columns] for block in self._blocks])
            if _is_slice(rows) and rows.step in (None, 1):
                first, last, _ = rows.indices(self.shape[0])
                return self._between(first, last)[:, columns]
            if _is_slice(rows) or (_is_list(rows) and _is_slice(columns)):
                return self.rows(np.arange(self.shape[0])[rows])[:, columns]
        if _is_list(rows) and _is_list(columns) and rows.dtype != np.bool_:
            return self._cells(rows, columns)
        if _is_open_mesh(rows, columns):
            if not rows.size:
                return self.rows(rows[:, 0])[:, columns[0]]
            return self._of_blocks(rows[:, 0], lambda block, here: block[rows[here] % BLOCK_ROWS, columns])
        return self._all()[key]

    # ------------------------------------------------------------ by rows

    def rows(self, wanted: Ints) -> Array:
        """Return these rows, of shape (len(wanted), n)."""
        return self._of_blocks(wanted, lambda block, here: block[wanted[here] % BLOCK_ROWS])

    def _cells(self, rows: Ints, columns: Ints) -> Array:
        return self._of_blocks(rows, lambda block, here: block[rows[here] % BLOCK_ROWS, columns[here]])

    def _of_blocks(self, rows: Ints, pick: Callable[[Array, Ints], Array]) -> Array:
        """Return for each row what `pick` finds in its block. `pick`: of (packed block, positions in `rows`)."""
        of_block = rows // BLOCK_ROWS
        ascending = bool((of_block[1:] >= of_block[:-1]).all())
        order = np.arange(len(rows)) if ascending else np.argsort(of_block, kind="stable")
        ends = np.searchsorted(of_block[order], np.arange(len(self._blocks) + 1)).tolist()
        found = [
            pick(dense(block), order[first:last])
            for block, first, last in zip(self._blocks, ends, ends[1:], strict=False)
            if first < last
        ]
        joined = self._joined(found) if found else self._all()[rows]
        if ascending:
            return joined
        out = np.empty_like(joined)
        out[order] = joined
        return out

    def with_cells(self, at: npt.NDArray[np.integer[Any]], values: Array) -> CompactColumn:
        """Return the column with other values at these flat cell numbers; every other block is shared."""
        per_block = BLOCK_ROWS * self.shape[1]
        if len(at) > 1 and (at[1:] < at[:-1]).any():
            order = np.argsort(at, kind="stable")
            at, values = at[order], values[order]
        packed = list(self._blocks)
        ends = np.searchsorted(at, per_block * np.arange(len(packed) + 1)).tolist()
        for number, (first, last) in enumerate(itertools.pairwise(ends)):
            if first < last:
                here = slice(first, last)
                cells = at[here] - number * per_block
                packed[number] = blocks.changed(packed[number], self.dtype, self._base_ns, cells, values[here])
        return CompactColumn(tuple(packed), self.shape[0], self.dtype, self._base_ns)

    def changed_cells(self, before: CompactColumn) -> tuple[Ints, Ints]:
        """Return (rows, columns) of the cells that differ from a column of the same nodes."""
        rows: list[Ints] = []
        columns: list[Ints] = []
        for number, (old, new) in enumerate(zip(before._blocks, self._blocks, strict=True)):
            if old is new:
                continue
            places = blocks.differing(old, new, self.dtype, before._base_ns, self._base_ns)
            row, column = np.divmod(places, self.shape[0])
            rows.append(row + number * BLOCK_ROWS)
            columns.append(column)
        nothing = np.zeros(0, np.int64)
        return np.concatenate([nothing, *rows]), np.concatenate([nothing, *columns])

    def bytes_beside(self, before: object) -> int:
        """Return the bytes that are not shared with another column."""
        if not isinstance(before, CompactColumn) or len(before._blocks) != len(self._blocks):
            return self.nbytes
        pairs = zip(self._blocks, before._blocks, strict=True)
        return sum(blocks.bytes_of(mine, other) for mine, other in pairs if mine is not other)

    def replaced(self, column: Array) -> CompactColumn:
        """Return another column in place of this one, with moments since the same base."""
        return CompactColumn.of(column, self._base_ns)

    # ------------------------------------------------------------ below

    def _all(self) -> Array:
        out = np.zeros(self.shape, self.dtype)
        for number, block in enumerate(self._blocks):
            out[number * BLOCK_ROWS : (number + 1) * BLOCK_ROWS] = self._read(dense(block))
        return out

    def _between(self, first: int, last: int) -> Array:
        """Return the rows first … last - 1."""
        start = first // BLOCK_ROWS
        some = list(self._blocks[start : -(-last // BLOCK_ROWS)]) if last > first else []
        out = [self._read(dense(block)) for block in some]
        joined = np.concatenate(out) if out else np.zeros((0, self.shape[1]), self.dtype)
        return joined[first - start * BLOCK_ROWS : last - start * BLOCK_ROWS]

    def _joined(self, packed: Sequence[Array]) -> Array:
        """Return pieces of packed cells as one array of figures; those of one type are read at once."""
        alike = [list(some) for _, some in itertools.groupby(packed, key=lambda cells: cells.dtype)]
        found = [self._read(np.concatenate(some) if len(some) > 1 else some[0]) for some in alike]
        return np.concatenate(found) if len(found) > 1 else found[0]

    def _read(self, cells: Array) -> Array:
        """Return packed cells in the column's own type."""
        return blocks.read(cells, self.dtype, self._base_ns)


def _unpacked(inputs: Any) -> Any:
    if isinstance(inputs, CompactColumn):
        return inputs._all()
    if isinstance(inputs, list | tuple):
        return type(inputs)(_unpacked(each) for each in inputs)
    return inputs


def _same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))


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
