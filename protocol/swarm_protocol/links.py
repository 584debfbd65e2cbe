"""The directed links that were measured: one row each, so that memory goes with what is measured, not with n².

A node of a large swarm measures some 32 others, and there are three parts to a link that are told of at different
times: its path, its hops, its transfers. A Swarm shows links as (n, n) columns; `columns` makes them from the rows that
changed since the last time, sharing the others, read-only. Above DENSE_NODES it shows none: at ten thousand nodes one
column would be 800 MB, and nobody looks at a hundred million cells. Each link's figures are in the store all the same.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from swarm_protocol.swarm import LINK_COLUMNS

DENSE_NODES: Final = 2_000  # some 400 MB of path columns
Part = Literal["path", "hop", "rate"]
Cells = tuple[float | None, ...]

_HOP: Final = tuple(name for name in LINK_COLUMNS if name.startswith("hop_"))
_RATE: Final = ("mbps", "mbps_kind", "rtt_loaded_ms", "mbps_at_ns", "mbps_transport")
PARTS: Final[dict[Part, tuple[str, ...]]] = {
    "path": tuple(name for name in LINK_COLUMNS if name not in _HOP + _RATE),
    "hop": _HOP,
    "rate": _RATE,
}
_FIRST_ROWS: Final = 64


class _PartRows:
    """One part of all links: a structured array, grown by doubling, and when each row was last set."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.blank = np.array(
            [tuple(np.nan if LINK_COLUMNS[name] is np.float64 else 0 for name in names)],
            dtype=[(name, LINK_COLUMNS[name]) for name in names],
        )
        self.values = np.repeat(self.blank, _FIRST_ROWS)
        self.at_ns: list[int] = []  # 0: never; plain numbers, for every sample asks
        self.touched: set[int] = set()

    def add(self) -> None:
        if len(self.at_ns) == len(self.values):
            self.values = np.concatenate((self.values, np.repeat(self.blank, len(self.values))))
        self.at_ns.append(0)


class LinkTable:
    def __init__(self) -> None:
        self._rows: dict[int, int] = {}  # src << 32 | dst → row
        self._ends: list[tuple[int, int]] = []
        self._of_source: dict[int, list[int]] = {}
        self._of_target: dict[int, list[int]] = {}
        self._parts: dict[Part, _PartRows] = {part: _PartRows(names) for part, names in PARTS.items()}
        self._shown: dict[str, npt.NDArray[Any]] = {}
        self._shown_nodes = -1

    def __len__(self) -> int:
        return len(self._ends)

    def at_ns(self, part: Part, src: int, dst: int) -> int:
        """Of what is known; 0: nothing is."""
        row = self._rows.get(src << 32 | dst)
        return 0 if row is None else self._parts[part].at_ns[row]

    def put(self, part: Part, src: int, dst: int, at_ns: int, cells: Cells) -> None:
        """`cells` in the order of PARTS; None where not measured (float columns only)."""
        row = self._row(src, dst)
        rows = self._parts[part]
        rows.values[row] = tuple(np.nan if cell is None else cell for cell in cells)
        rows.at_ns[row] = at_ns
        rows.touched.add(row)

    def rates(self, node: int, *, out: bool) -> npt.NDArray[Any]:
        """The latest transfer to each peer of `node` (or, not `out`, from each), in the columns of the part "rate"."""
        rates = self._parts["rate"]
        known = (self._of_source if out else self._of_target).get(node, ())
        return rates.values[[row for row in known if rates.at_ns[row]]]

    def rtt_min_ms(self, src: int) -> list[tuple[int, float]]:
        """(target, lowest RTT) of each measured link of `src`."""
        values = self._parts["path"].values
        found = ((self._ends[row][1], float(values[row]["rtt_min_ms"])) for row in self._of_source.get(src, ()))
        return [(dst, rtt_ms) for dst, rtt_ms in found if rtt_ms == rtt_ms]

    def columns(self, nodes: int) -> dict[str, npt.NDArray[Any]]:
        """All link columns for `nodes` nodes. What did not change is the same array as before."""
        if nodes > DENSE_NODES:
            return self._blank_columns(nodes)
        if nodes != self._shown_nodes:
            self._shown, self._shown_nodes = self._blank_columns(nodes), nodes
            for part in self._parts.values():
                part.touched.update(row for row, at_ns in enumerate(part.at_ns) if at_ns)
        for part in self._parts.values():
            if part.touched:
                rows = np.fromiter(part.touched, np.int64, len(part.touched))
                src, dst = np.array([self._ends[row] for row in part.touched], np.int64).T
                for name in part.names:
                    column = self._shown[name].copy()
                    column[src, dst] = part.values[name][rows]
                    column.flags.writeable = False
                    self._shown[name] = column
                part.touched.clear()
        return dict(self._shown)

    def forget(self, node: int) -> None:
        """Removes a node's links; nodes after it move up by one."""
        kept = [row for row, ends in enumerate(self._ends) if node not in ends]
        ends = [self._ends[row] for row in kept]
        before = self._parts
        self.__init__()  # type: ignore[misc] # a new table, filled from the old one
        for row, (src, dst) in zip(kept, ends, strict=True):
            to = self._row(src - (src > node), dst - (dst > node))
            for part, old in before.items():
                self._parts[part].values[to] = old.values[row]
                self._parts[part].at_ns[to] = old.at_ns[row]

    def _row(self, src: int, dst: int) -> int:
        key = src << 32 | dst
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._ends)
            self._ends.append((src, dst))
            self._of_source.setdefault(src, []).append(row)
            self._of_target.setdefault(dst, []).append(row)
            for part in self._parts.values():
                part.add()
        return row

    def _blank_columns(self, nodes: int) -> dict[str, npt.NDArray[Any]]:
        """Nothing known, as views of one cell each: no memory until something is."""
        return {
            name: np.broadcast_to(np.array(np.nan if dtype is np.float64 else 0, dtype), (nodes, nodes))
            for name, dtype in LINK_COLUMNS.items()
        }
