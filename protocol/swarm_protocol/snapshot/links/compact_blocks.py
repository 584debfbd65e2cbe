"""Store a block of link figures in few bytes: some rows of a column, which `compact_links` puts together.

Times, rates and shares take 16 bit: 5 of exponent and 11 of mantissa, without a sign, so that what is read differs by
1/4096 at most, a quarter of the last of three digits. Counts take 16 or 32 bit, moments 32, as ticks since a base. A
block in which a figure does not fit is stored in the next larger type. One value for all cells is stored once. Where
few cells are known, as in a large swarm, those are listed with their places.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

TICK_NS: Final = 1_000_000  # of moments
_LISTED_SHARE: Final = 4  # cells are listed if they are no more than one in so many: a place takes as much as a figure
_COUNTS: Final = (np.uint16, np.uint32)

# The short type of a float is a 32-bit one, shifted to the lowest exponents and cut. So 0 is code 0, and larger figures
# have larger codes.
_SHORT: Final = np.dtype(np.uint16)
_CUT_BITS: Final = np.uint32(12)
_HALF: Final = np.uint32(1 << 11)
_SCALE: Final = np.float32(2.0**-111)  # figures from 2^-15, a share of a packet in 30,000, to 2^16, times of a minute
_UNSCALE: Final = 1 / _SCALE
_MIN_CODE, _NAN = 1 << 11, 0xFFFF  # what is smaller would be less exact


class Listed(NamedTuple):
    """A block of which few cells are known."""

    places: Array  # flat numbers of the cells, ascending
    figures: Array  # packed
    blank: Array  # one packed cell: the others
    shape: tuple[int, int]


Block: TypeAlias = Array | Listed


def stored(values: Array, base_ns: int) -> Block:
    """Return rows of figures as a block. `base_ns`: of moments; 0: these are none."""
    if not values.size:
        return packed(values, base_ns)
    first = values.reshape(-1)[0]
    if (values == first).all() or (first != first and np.isnan(values).all()):
        return np.broadcast_to(packed(np.array([[first]], values.dtype), base_ns), values.shape)
    places = np.flatnonzero(~np.isnan(values) if values.dtype == np.float64 else values)
    if len(places) * _LISTED_SHARE > values.size:
        return packed(values, base_ns)
    return _listed(places, packed(values.reshape(-1)[places], base_ns), values.dtype, values.shape)


def changed(block: Block, dtype: np.dtype[Any], base_ns: int, at: Array, values: Array) -> Block:
    """Return the block with other values at these flat cell numbers, which ascend. `dtype`: of the column."""
    once = not (at[1:] == at[:-1]).any()
    if once and isinstance(block, Listed) and (more := _listed_anew(block, base_ns, at, values)) is not None:
        return more
    if once and len(at) * _LISTED_SHARE <= _size(block) and _is_blank(block, dtype):
        return _listed(at, packed(values, base_ns), dtype, block.shape)
    cells = dense(block)
    put = packed(values, base_ns, cells.dtype)
    if put.dtype == cells.dtype:
        cells = cells.copy() if cells is block else cells
        cells.reshape(-1)[at] = put
        return cells
    whole = read(cells, dtype, base_ns)  # the new values do not fit in the type of the others
    whole.reshape(-1)[at] = values
    return stored(whole, base_ns)


def _listed_anew(block: Listed, base_ns: int, at: Array, values: Array) -> Listed | None:
    """Return the block with these cells among the listed ones; None: they are too many, or of another type."""
    put = packed(values, base_ns, block.figures.dtype)
    if put.dtype != block.figures.dtype:
        return None
    where = np.searchsorted(block.places, at)
    there = np.zeros(len(at), bool)
    inside = where < len(block.places)
    there[inside] = block.places[where[inside]] == at[inside]
    figures = block.figures.copy()
    figures[where[there]] = put[there]
    if there.all():
        return block._replace(figures=figures)
    new = ~there
    if (len(figures) + int(new.sum())) * _LISTED_SHARE > _size(block):
        return None
    return block._replace(
        places=np.insert(block.places, where[new], at[new]), figures=np.insert(figures, where[new], put[new])
    )


def _listed(places: Array, figures: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Listed:
    small = shape[0] * shape[1] <= 1 << 16
    unknown = np.array([np.nan if dtype == np.float64 else 0], dtype)
    blank = packed(unknown, 0, figures.dtype).astype(figures.dtype)
    return Listed(places.astype(np.uint16 if small else np.uint32), figures, blank, (shape[0], shape[1]))


def _size(block: Block) -> int:
    return int(block.shape[0] * block.shape[1])


def _is_blank(block: Block, dtype: np.dtype[Any]) -> bool:
    """Return whether nothing is known of any cell."""
    if isinstance(block, Listed) or any(block.strides) or not block.size:
        return False
    first = read(block[:1, :1], dtype, 0)[0, 0]
    return bool(np.isnan(first)) if dtype == np.float64 else first == 0


def dense(block: Block) -> Array:
    """Return the packed cells, in rows and columns."""
    if not isinstance(block, Listed):
        return block
    cells = np.full(block.shape, block.blank[0], block.figures.dtype)
    cells.reshape(-1)[block.places] = block.figures
    return cells


def packed(values: Array, base_ns: int, wanted: np.dtype[Any] | None = None) -> Array:
    """Return figures in the smallest type for them; `wanted`: in that one, where they fit in it."""
    if values.dtype == np.float64:
        return _packed_floats(values, wanted)
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


def _packed_floats(values: Array, wanted: np.dtype[Any] | None) -> Array:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if wanted is None or wanted == _SHORT:
        with np.errstate(under="ignore"):
            codes = ((single * _SCALE).view(np.uint32) + _HALF) >> _CUT_BITS
        unknown = np.isnan(single)
        if (((codes >= _MIN_CODE) & (codes < _NAN)) | unknown | (values == 0)).all():
            codes[unknown] = _NAN
            return codes.astype(_SHORT)
    return values.copy() if wanted == np.float64 or np.isinf(single).any() else single


def read(cells: Array, dtype: np.dtype[Any], base_ns: int) -> Array:
    """Return packed cells as figures in the column's own type."""
    if dtype == np.float64 and cells.dtype == _SHORT:
        bits = cells.astype(np.uint32)
        bits <<= _CUT_BITS
        figures = bits.view(np.float32)
        figures *= _UNSCALE
        np.copyto(figures, np.nan, where=cells == _NAN)
        return figures.astype(dtype)
    if base_ns and cells.dtype == np.uint32:
        return np.where(cells > 0, base_ns + cells.astype(np.int64) * TICK_NS, 0)
    return cells.astype(dtype)


def is_one_value(block: Block) -> bool:
    """Return whether one value stands for all cells."""
    return not isinstance(block, Listed) and not any(block.strides)


def differing(old: Block, new: Block, dtype: np.dtype[Any], old_base_ns: int, base_ns: int) -> Array:
    """Return the flat numbers of the cells that differ."""
    listed = isinstance(old, Listed) and isinstance(new, Listed) and old.places is new.places
    before, after = (old.figures, new.figures) if listed else (dense(old), dense(new))  # type: ignore[union-attr]
    was, now = read(before, dtype, old_base_ns), read(after, dtype, base_ns)
    places = np.flatnonzero((was != now) & ~((was != was) & (now != now)))
    return new.places[places].astype(np.int64) if listed else places  # type: ignore[union-attr]


def bytes_of(block: Block, beside: Block | None = None) -> int:
    """Return the bytes of memory; those alone that are not shared with another block."""
    if isinstance(block, Listed):
        shared = isinstance(beside, Listed) and beside.places is block.places
        return block.figures.nbytes + (0 if shared else block.places.nbytes)
    return block.itemsize if is_one_value(block) else block.nbytes
