"""Store the measured directed links, one row each: memory grows with what is measured, not with n².

A node of a large swarm measures some 32 others, and a link has five parts that are known at different times: its path,
its one-way delay, its losses, its hops, its transfers. A Swarm shows links as (n, n) columns; `columns` makes them from
the rows that changed since the last time, sharing the others, read-only. Above DENSE_NODES it shows none: at ten
thousand nodes one column would be 800 MB. The store has each link's figures in any case.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final, Literal, cast

import numpy as np
import numpy.typing as npt

from swarm_protocol.snapshot.columns import LINK_COLUMNS
from swarm_protocol.snapshot.links.compact_links import COMPACT_NODES, compact_columns
from swarm_protocol.snapshot.links.link_rows import LinkRows, grown
from swarm_protocol.snapshot.swarm import Floats, Ints

DENSE_NODES: Final = 2_000  # some 400 MB of path columns
Part = Literal["path", "oneway", "losses", "hop", "rate"]
Cells = tuple[float | None, ...]

_HOP: Final = tuple(name for name in LINK_COLUMNS if name.startswith("hop_"))
_ONEWAY: Final = tuple(name for name in LINK_COLUMNS if name.startswith("oneway_"))
_LOSSES: Final = ("pooled_loss", "pooled_sent")
_RATE: Final = ("mbps", "mbps_kind", "rtt_loaded_ms", "mbps_at_ns", "mbps_transport")
PARTS: Final[dict[Part, tuple[str, ...]]] = {
    "path": tuple(name for name in LINK_COLUMNS if name not in _ONEWAY + _LOSSES + _HOP + _RATE),
    "oneway": _ONEWAY,
    "losses": _LOSSES,
    "hop": _HOP,
    "rate": _RATE,
}
_WAITING: Final = 4_096  # rows set since the last read, kept pending: setting them together costs a tenth


class _PartRows:
    """One part of all links: a structured array, and when each row was last set. A row gets room when it is set for the
    first time, so that links with nothing but a path need no more."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._values = np.zeros(0, [(name, LINK_COLUMNS[name]) for name in names])  # zeros where nothing was set
        self._waiting: dict[int, Cells] = {}
        self.at_ns = array("q")  # 0: never; an array of the module of this name, because every sample reads it
        self._touched = bytearray()

    def put(self, row: int, at_ns: int, cells: Cells) -> None:
        self._reserve(row + 1)
        self.at_ns[row] = at_ns
        self._waiting[row] = cells
        if len(self._waiting) >= _WAITING:
            self._settle()

    def _reserve(self, rows: int) -> None:
        if (more := rows - len(self.at_ns)) > 0:
            self.at_ns.frombytes(bytes(8 * more))
            self._touched += bytes(more)

    def known_ns(self, row: int) -> int:
        return self.at_ns[row] if row < len(self.at_ns) else 0

    def known_of(self, rows: Ints) -> Ints:
        """Return `known_ns` of each of these rows."""
        known = np.zeros(len(rows), np.int64)
        there = rows < len(self.at_ns)
        if there.any():  # an array that is looked at cannot grow: no view of it is kept
            known[there] = np.frombuffer(self.at_ns, np.int64)[rows[there]]
        return known

    def put_many(self, rows: Ints, at_ns: Ints | int, columns: Sequence[npt.NDArray[Any]]) -> None:
        """Set these rows, each once; columns in the order of `names`."""
        self._settle()
        self._reserve(int(rows.max()) + 1)
        np.frombuffer(self.at_ns, np.int64)[rows] = at_ns
        np.frombuffer(self._touched, np.uint8)[rows] = 1
        self._grow()
        for name, column in zip(self.names, columns, strict=True):
            self._values[name][rows] = column

    def cells(self, row: int) -> dict[str, float]:
        """Return the cells of one row that has been set; the others stay pending."""
        cells = self._waiting.get(row)
        if cells is None:
            cells = self._values[row].tolist()
        return {n: np.nan if cell is None else cell for n, cell in zip(self.names, cells, strict=True)}

    @property
    def values(self) -> npt.NDArray[Any]:
        if self._waiting:
            self._settle()
        return self._values

    def keep(self, former: Ints) -> None:
        """Keep these rows alone, in this order."""
        self._settle()
        former = former[former < len(self.at_ns)]
        self._values = self._values[former]
        self.at_ns = array("q", np.frombuffer(self.at_ns, np.int64)[former].tobytes()) if len(former) else array("q")
        self._touched = bytearray(len(former))

    def touched(self) -> npt.NDArray[np.int64]:
        """Return the rows set since the last call."""
        self._settle()
        found = np.flatnonzero(np.frombuffer(self._touched, np.uint8))
        self._touched = bytearray(len(self._touched))
        return found

    def touch_all(self) -> None:
        self._touched = bytearray((np.frombuffer(self.at_ns, np.int64) != 0).tobytes())

    def _settle(self) -> None:
        if not self._waiting:
            return
        self._grow()
        rows = np.fromiter(self._waiting, np.int64, len(self._waiting))
        for name, column in zip(self.names, zip(*self._waiting.values(), strict=True), strict=True):
            # None becomes NaN if the column can hold it; elsewhere it never comes
            self._values[name][rows] = np.array(column, LINK_COLUMNS[name])
        touched = np.frombuffer(self._touched, np.uint8)
        touched[rows] = 1
        self._waiting.clear()

    def _grow(self) -> None:
        self._values = grown(self._values, len(self.at_ns))


class LinkTable:
    def __init__(self) -> None:
        self.rows = LinkRows()
        self._sent_to: dict[int, list[int]] = {}  # dst → rows with a transfer
        self._parts: dict[Part, _PartRows] = {part: _PartRows(names) for part, names in PARTS.items()}
        self._shown: dict[str, npt.NDArray[Any]] = {}
        self._shown_nodes = -1

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, part: Part, src: int, dst: int) -> dict[str, float]:
        """Return what is known of one link, by column; empty: nothing."""
        row = self.rows.find(src, dst)
        if row is None or not self._parts[part].known_ns(row):
            return {}
        return self._parts[part].cells(row)

    def at_ns(self, part: Part, src: int, dst: int) -> int:
        """Return the time of what is known; 0: nothing."""
        row = self.rows.find(src, dst)
        return 0 if row is None else self._parts[part].known_ns(row)

    def put(self, part: Part, src: int, dst: int, at_ns: int, cells: Cells) -> None:
        """Set `cells` in the order of PARTS; None if not measured (float columns only)."""
        row = self.rows.add(src, dst)
        rows = self._parts[part]
        if part == "rate" and not rows.known_ns(row):
            self._sent_to.setdefault(dst, []).append(row)
        rows.put(row, at_ns, cells)

    def known_of(self, part: Part, rows: Ints) -> Ints:
        """Return the time of what is known of each of these rows; 0: nothing."""
        return self._parts[part].known_of(rows)

    def put_paths(self, rows: Ints, at_ns: Ints, columns: Sequence[npt.NDArray[Any]]) -> None:
        """Set the paths of these rows, each once; columns in the order of PARTS."""
        if len(rows):
            self._parts["path"].put_many(rows, at_ns, columns)

    def put_many(
        self,
        part: Literal["oneway", "losses"],
        links: Sequence[tuple[int, int]],
        at_ns: int,
        columns: Sequence[npt.NDArray[Any]],
    ) -> None:
        """Set the cells of many links, of which none comes twice; `columns` in the order of PARTS."""
        if links:
            rows = np.fromiter((self.rows.add(src, dst) for src, dst in links), np.int64, len(links))
            self._parts[part].put_many(rows, at_ns, columns)

    def rates(self, node: int, *, out: bool) -> npt.NDArray[Any]:
        """Return the latest transfer to each peer of `node` (or, not `out`, from each), in the columns of the part
        "rate"."""
        rates = self._parts["rate"]
        if out:
            known = [row for row in self.rows.of(node).values() if rates.known_ns(row)]
        else:
            known = self._sent_to.get(node, [])
        return rates.values[known]

    def rtt_min_ms(self, src: int) -> list[tuple[int, float]]:
        """Return (target, lowest RTT) of each measured link of `src`."""
        path = self._parts["path"]
        rows = [(dst, row) for dst, row in self.rows.of(src).items() if path.known_ns(row)]
        found = path.values["rtt_min_ms"][[row for _, row in rows]].tolist() if rows else []
        return [(dst, rtt_ms) for (dst, _), rtt_ms in zip(rows, found, strict=True) if rtt_ms == rtt_ms]

    def least_rtts(self) -> tuple[Ints, Ints, Floats]:
        """Return (src, dst, lowest RTT in ms) of every measured link."""
        path = self._parts["path"]
        rows = np.flatnonzero(np.array(path.at_ns, np.int64))
        rtt = path.values["rtt_min_ms"][rows].astype(np.float64)
        seen = np.isfinite(rtt) & (rtt > 0)
        src, dst = self.rows.ends(rows)
        return src[seen], dst[seen], rtt[seen]

    def columns(self, nodes: int) -> dict[str, npt.NDArray[Any]]:
        """Return all link columns for `nodes` nodes. Unchanged ones are the same arrays as before."""
        if nodes > DENSE_NODES:
            self._shown, self._shown_nodes = {}, -1  # of a swarm that has grown: hundreds of megabytes
            return self._blank_columns(nodes)
        if nodes != self._shown_nodes:
            self._shown, self._shown_nodes = self._blank_columns(nodes), nodes
            for part in self._parts.values():
                part.touch_all()
        for part in self._parts.values():
            rows = part.touched()
            if rows.size:
                src, dst = self.rows.ends(rows)
                for name in part.names:
                    column = self._shown[name].copy()
                    column[src, dst] = part.values[name][rows]
                    column.flags.writeable = False
                    self._shown[name] = column
        return dict(self._shown)

    def compact_columns(self, nodes: int, now_ns: int) -> dict[str, npt.NDArray[Any]]:
        """Return the same in few bytes, where there are so many nodes that it matters."""
        if not COMPACT_NODES <= nodes <= DENSE_NODES:
            return self.columns(nodes)
        found = compact_columns(self._blank_columns(nodes), now_ns)
        for part in self._parts.values():
            rows = np.flatnonzero(np.frombuffer(part.at_ns, np.int64)) if len(part.at_ns) else np.zeros(0, np.int64)
            src, dst = self.rows.ends(rows)
            at = src * nodes + dst
            for name in part.names if len(rows) else ():
                found[name] = found[name].with_cells(at, part.values[name][rows])
        return cast("dict[str, npt.NDArray[Any]]", found)

    def forget(self, node: int) -> Ints:
        """Remove a node's links; nodes after it move up by one. Return the former row of each row that stays."""
        former = self.rows.forget(node)
        for part in self._parts.values():
            part.keep(former)
        self._sent_to = {}
        rates, (_, dst) = self._parts["rate"], self.rows.ends(np.arange(len(former)))
        for row in np.flatnonzero(rates.known_of(np.arange(len(former)))).tolist():
            self._sent_to.setdefault(int(dst[row]), []).append(row)
        self._shown, self._shown_nodes = {}, -1
        return former

    def _blank_columns(self, nodes: int) -> dict[str, npt.NDArray[Any]]:
        """Return columns with nothing known, as views of one cell each: they take no memory until changed."""
        return {
            name: np.broadcast_to(np.array(np.nan if dtype is np.float64 else 0, dtype), (nodes, nodes))
            for name, dtype in LINK_COLUMNS.items()
        }
