"""Number the followed links, and say who measures whom. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import numpy as np

from swarm_collector.changes.series.level_columns import Columns, Ints, Mask
from swarm_protocol.units import NS_PER_S

ACTIVE_NS: Final = 180 * NS_PER_S  # a pair measured within this time counts for its nodes
_NOBODY: Final = -1


class LinkRows:
    """Rows of directed links, `most` at most. The row of a forgotten link is given to the next one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[str, dict[str, int]] = {}  # node → peer → row
        self._numbers: dict[str, int] = {}  # of nodes
        self._names: list[str] = []
        self._free: list[int] = []
        self._rows = 0  # in use or free
        # the two ends, the row of the other direction, and in the lower of the two when the pair was last measured
        self._ends = Columns(src=(np.int32, ()), dst=(np.int32, ()), back=(np.int32, ()), pair_ns=(np.int64, ()))
        self._nodes = Columns(reported_ns=(np.int64, ()), measured=(np.bool_, ()))

    def __len__(self) -> int:
        return self._rows

    def find(self, src: str, dst: str) -> int | None:
        of = self._of.get(src)
        return None if of is None else of.get(dst)

    def rows(self, src: str, peers: Iterable[str]) -> list[int | None]:
        """Return the row of each link of `src`. New ones are added while there is room; None: there is none."""
        of = self._of.get(src)
        if of is None:
            of = self._of[src] = {}
        rows = list(map(of.get, peers))
        if None in rows and (self._free or self._rows < self._most):
            rows = [row if row is not None else self._add(src, peer) for row, peer in zip(rows, peers, strict=True)]
        return rows

    def none_followed(self, src: str, peers: Iterable[str]) -> bool:
        """Return whether `rows` has a row for none of these links, nor room for one."""
        if self._free or self._rows < self._most:
            return False
        of = self._of.get(src)
        return of is None or of.keys().isdisjoint(peers)

    def _add(self, src: str, dst: str) -> int | None:
        of = self._of[src]
        if (row := of.get(dst)) is not None:
            return row
        if self._free:
            row = self._free.pop()
        elif self._rows < self._most:
            row = self._rows
            self._rows += 1
            if row >= len(self._ends["src"]):
                self._ends.reserve(self._rows)
        else:
            return None
        of[dst] = row
        back = self.find(dst, src)
        ends = self._ends
        ends["src"][row], ends["dst"][row] = self._number(src), self._number(dst)
        ends["back"][row] = _NOBODY if back is None else back
        if back is not None:
            ends["back"][back] = row
            if row < back:
                ends["pair_ns"][row], ends["pair_ns"][back] = ends["pair_ns"][back], 0
        return row

    def _number(self, node: str) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self._names)
            self._names.append(node)
            if number >= len(self._nodes["measured"]):
                self._nodes.reserve(len(self._names))
        return number

    def ends(self, row: int) -> tuple[str, str]:
        return self._names[self._ends["src"][row]], self._names[self._ends["dst"][row]]

    # ------------------------------------------------------------ who measures whom

    def measured_at(self, rows: Ints, at_ns: Ints) -> None:
        """Note windows of these links, in their order."""
        src, dst = self._ends["src"][rows], self._ends["dst"][rows]
        back = self._ends["back"][rows]
        self._ends["pair_ns"][np.where(back == _NOBODY, rows, np.minimum(rows, back))] = at_ns  # the last one stays
        self._nodes["reported_ns"][src] = at_ns
        self._nodes["measured"][src] = self._nodes["measured"][dst] = True

    @property
    def measured(self) -> tuple[str, ...]:
        """Return the nodes that have links."""
        return tuple([self._names[number] for number in np.flatnonzero(self._nodes["measured"]).tolist()])

    def counts(self, now_ns: int) -> dict[str, int]:
        """Return how many peers each node has that are measured now; nodes without one are left out."""
        src, dst = self._pairs(self._ends["pair_ns"][: self._rows] >= now_ns - ACTIVE_NS)
        counts = np.bincount(src, minlength=len(self._names)) + np.bincount(dst, minlength=len(self._names))
        return {self._names[number]: int(counts[number]) for number in np.flatnonzero(counts).tolist()}

    def heard_since(self, node: str, since_ns: int) -> tuple[int, int]:
        """Return (peers that have reported since, all peers) of a node that is not away."""
        number = self._numbers.get(node, _NOBODY)
        src, dst = self._pairs(self._of_node(number))
        reported = self._nodes["reported_ns"][np.where(src == number, dst, src)]
        return int((reported >= since_ns).sum()), len(reported)

    def _pairs(self, chosen: Mask) -> tuple[Ints, Ints]:
        """Return the ends of measured pairs, each once, of these rows."""
        rows = np.flatnonzero(chosen & (self._ends["pair_ns"][: self._rows] > 0))
        return self._ends["src"][rows], self._ends["dst"][rows]

    def _of_node(self, number: int) -> Mask:
        src, dst = self._ends["src"][: self._rows], self._ends["dst"][: self._rows]
        return np.asarray((src == number) | (dst == number))

    def of_node(self, node: str, rows: Collection[int]) -> list[int]:
        """Return which of these rows have the node at an end."""
        some, number = np.fromiter(rows, np.int64, len(rows)), self._numbers.get(node, _NOBODY)
        found = (self._ends["src"][some] == number) | (self._ends["dst"][some] == number)
        return list(some[found].tolist())

    # ------------------------------------------------------------ nodes that come and go

    def away(self, node: str) -> None:
        """Nobody measures this node any more, nor it others."""
        if (number := self._numbers.get(node)) is not None:
            self._ends["pair_ns"][: self._rows][self._of_node(number)] = 0
            self._nodes["measured"][number] = False

    def forget(self, node: str) -> Ints:
        """Remove a node's links; return their rows."""
        self._of.pop(node, None)
        for of in self._of.values():
            of.pop(node, None)
        number = self._numbers.get(node, _NOBODY)
        rows = np.flatnonzero(self._of_node(number))
        self._ends.clear(rows)
        self._ends["src"][rows] = self._ends["dst"][rows] = self._ends["back"][rows] = _NOBODY
        self._free += rows.tolist()
        if number != _NOBODY:  # its number stays: a node that is forgotten may come back
            self._nodes.clear(np.array([number]))
        return rows
