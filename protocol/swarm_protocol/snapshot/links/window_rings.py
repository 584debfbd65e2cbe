"""Keep the latest windows of each link in rings: arrays instead of objects, so that nothing is garbage-collected."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_FIRST_ROWS: Final = 64


class WindowRings:
    """One ring of `windows` records a link; a record with at_ns 0 is empty."""

    def __init__(self, windows: int, dtype: np.dtype[np.void]) -> None:
        self.rows: dict[tuple[int, int], int] = {}  # (src, dst) → row of `records`
        self.records: npt.NDArray[np.void] = np.zeros((_FIRST_ROWS, windows), dtype)
        self.counts: npt.NDArray[np.int64] = np.zeros(_FIRST_ROWS, np.int64)  # windows that each ring has taken

    def row(self, src: int, dst: int) -> int:
        """Return the row of a link, which is added if it is new."""
        row = self.rows.setdefault((src, dst), len(self.rows))
        if row == len(self.counts):
            self.records = np.concatenate((self.records, np.zeros_like(self.records)))
            self.counts = np.concatenate((self.counts, np.zeros_like(self.counts)))
        return row

    def clear(self, row: int) -> None:
        """Empty the ring of one link."""
        self.records[row] = np.zeros((), self.records.dtype)
        self.counts[row] = 0

    def forget(self, node: int) -> list[int]:
        """Remove a node's links; nodes after it move up by one. Return the former row of each row that stays."""
        kept = [(ends, row) for ends, row in self.rows.items() if node not in ends]
        former = [row for _, row in kept]
        self.rows = {(src - (src > node), dst - (dst > node)): row for row, ((src, dst), _) in enumerate(kept)}
        records, counts = self.records[former], self.counts[former]
        self.records, self.counts = np.zeros_like(self.records), np.zeros_like(self.counts)
        self.records[: len(former)], self.counts[: len(former)] = records, counts
        return former
