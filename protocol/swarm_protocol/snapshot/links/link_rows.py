"""Number the measured directed links, and keep the latest windows of each in rings.

A link's row is the same in every table of links: one look-up serves all of them. Rings are arrays instead of objects,
so that nothing is garbage-collected; memory of rows that nothing was put into is never touched.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarm_protocol.snapshot.swarm import Ints

_FIRST_ROWS: Final = 64
_GROW: Final = 1.25  # a large table must not double


class LinkRows:
    """Rows of links, in the order in which they came."""

    def __init__(self) -> None:
        self._of_source: dict[int, dict[int, int]] = {}  # src → dst → row
        self._src, self._dst = array("I"), array("I")  # of each row

    def __len__(self) -> int:
        return len(self._src)

    def find(self, src: int, dst: int) -> int | None:
        of_source = self._of_source.get(src)
        return None if of_source is None else of_source.get(dst)

    def add(self, src: int, dst: int) -> int:
        """Return the row of a link, which is added if it is new."""
        of_source = self._of_source.get(src)
        if of_source is None:
            of_source = self._of_source[src] = {}
        row = of_source.get(dst)
        if row is None:
            row = of_source[dst] = len(self._src)
            self._src.append(src)
            self._dst.append(dst)
        return row

    def of(self, src: int) -> dict[int, int]:
        """Return target → row of the links of one node."""
        return self._of_source.get(src, {})

    def ends(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return (sources, targets) of these rows."""
        src, dst = (np.frombuffer(ends, np.uint32)[rows].astype(np.int64) for ends in (self._src, self._dst))
        return src, dst

    def forget(self, node: int) -> Ints:
        """Remove a node's links; nodes after it move up by one. Return the former row of each row that stays."""
        src, dst = self.ends(np.arange(len(self)))
        former = np.flatnonzero((src != node) & (dst != node))
        self.__init__()  # type: ignore[misc] # new rows, filled from the old ones
        for one, other in zip(src[former].tolist(), dst[former].tolist(), strict=True):
            self.add(one - (one > node), other - (other > node))
        return former


def grown(values: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Return `values` with room for `rows` more or less empty rows: zeros that take no memory until they are set."""
    if rows <= len(values):
        return values
    larger = np.zeros((max(rows, _FIRST_ROWS, int(len(values) * _GROW)), *values.shape[1:]), values.dtype)
    larger[: len(values)] = values
    return larger


class WindowRings:
    """One ring of `windows` records a link; a record with at_ns 0 is empty."""

    def __init__(self, windows: int, dtype: np.dtype[np.void]) -> None:
        self.records: npt.NDArray[np.void] = np.zeros((0, windows), dtype)
        self.counts: npt.NDArray[np.int64] = np.zeros(0, np.int64)  # windows that each ring has taken

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        if rows > len(self.counts):
            self.records, self.counts = grown(self.records, rows), grown(self.counts, rows)

    def clear(self, row: int) -> None:
        """Empty the ring of one link."""
        self.records[row] = np.zeros((), self.records.dtype)
        self.counts[row] = 0

    def keep(self, former: Ints) -> None:
        """Keep the rings of these rows alone, in this order."""
        former = former[former < len(self.counts)]  # rows are numbered before they are put into: the last may be absent
        self.records, self.counts = self.records[former], self.counts[former]
