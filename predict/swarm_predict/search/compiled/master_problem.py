"""Find the cheapest mixture of walks, and the prices at which no other walk improves it (column generation).

A linear programme over the walks met so far: shares that sum to one, no node visited more than once on average, no
cut missed. Its duals are the prices of visits and the tolls of cuts for the next walks; HiGHS goes on from its last
answer each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import highspy
import numpy as np

from swarm_predict.search.chain import Bools
from swarm_predict.search.compiled.cuts import Cut
from swarm_protocol.snapshot.swarm import Floats, Ints

_NONE = np.zeros(0, np.int32), np.zeros(0)


@dataclass(frozen=True, slots=True)
class Column:
    cost: float  # milliseconds, without prices
    order: tuple[int, ...]  # from the anchor, which it comes back to
    first: int  # place in the order of the first stage

    def from_first(self) -> tuple[int, ...]:
        return (*self.order[self.first :], *self.order[: self.first])


class Prices(NamedTuple):
    visits: Floats  # (n,)
    cuts: Floats  # (cuts,)


class _Quiet(highspy.Highs):
    """HiGHS without the callbacks of its Python class: turning them on writes a banner to standard output, where a
    dashboard or a line of JSON may be.
    """

    def __init__(self) -> None:
        super(highspy.Highs, self).__init__()
        self.silent()


class Master:
    """The linear programme over `n` nodes: `required` ones are visited once, the others at most once."""

    def __init__(self, n: int, required: frozenset[int], penalty: float, most: float) -> None:
        """Create it. `penalty`: upper limit of a price; `most`: upper limit of a mixture's cost, with or without
        walks."""
        self.n = n
        self.columns: list[Column] = []
        self.cuts: list[Cut] = []
        self.inside: Bools = np.zeros((0, n), dtype=np.bool_)  # (cuts, n)
        self.shares: Floats = np.zeros(0)  # of the columns
        self._penalty, self._most, self._required = penalty, most, required
        self._known: set[tuple[int, ...]] = set()
        self._rows: dict[int, int] = {}  # of the programme, by node
        self._cut_rows: list[int] = []
        self._at: list[int] = []  # columns of the programme behind those here
        self._duals: Floats = np.zeros(1)
        self._lp = _Quiet()
        self._lp.setOptionValue("threads", 1)
        self._lp.addRow(1.0, 1.0, 0, *_NONE)
        self._artificial(0, 1.0, most)

    def like_this(self, required: frozenset[int], without: frozenset[int]) -> Master:
        """Copy it with the same walks and cuts, for rings with some nodes and without others."""
        other = Master(self.n, required, self._penalty, self._most)
        other.cut(self.cuts)
        other.add(column for column in self.columns if without.isdisjoint(column.order))
        other.solve()
        return other

    def add(self, columns: Iterable[Column]) -> None:
        for column in columns:
            if column.order in self._known:
                continue
            self._known.add(column.order)
            nodes, visits = np.unique(column.order, return_counts=True)
            short = self._entries_less_visits(column, self.inside, self.cuts)
            met = np.flatnonzero(short)
            rows = [0, *(self._row(int(node)) for node in nodes), *(self._cut_rows[cut] for cut in met)]
            values = np.array([1.0, *visits, *short[met]], dtype=np.float64)
            self._at.append(self._lp.getNumCol())
            self._lp.addCol(column.cost, 0.0, highspy.kHighsInf, len(rows), np.array(rows, np.int32), values)
            self.columns.append(column)

    def cut(self, cuts: Sequence[Cut]) -> int:
        """Add cuts; return how many of them are new."""
        fresh = [cut for cut in cuts if cut not in self.cuts]
        for cut in fresh:
            inside = np.zeros((1, self.n), dtype=np.bool_)
            inside[0, list(cut.inside)] = True
            short = np.array([self._entries_less_visits(column, inside, [cut])[0] for column in self.columns])
            met = np.flatnonzero(short)
            row = self._lp.getNumRow()
            at = np.array(self._at, np.int32)[met]
            self._lp.addRow(0.0, highspy.kHighsInf, len(met), at, short[met].astype(np.float64))
            self._artificial(row, 1.0, self._penalty)
            self.cuts.append(cut)
            self.inside = np.vstack([self.inside, inside])
            self._cut_rows.append(row)
        return len(fresh)

    def drop(self, node: int) -> None:
        """Exclude a node: drop the walks that visit it."""
        for column, at in zip(self.columns, self._at, strict=True):
            if node in column.order:
                self._lp.changeColBounds(at, 0.0, 0.0)

    def solve(self) -> float:
        """Solve it; return the cost of the cheapest mixture."""
        self._lp.run()
        solution = self._lp.getSolution()
        self._duals = np.array(solution.row_dual)
        self.shares = np.array(solution.col_value)[self._at]
        return float(self._lp.getInfo().objective_function_value)

    def prices(self) -> Prices:
        visits = np.zeros(self.n)
        visits[list(self._rows)] = -self._duals[list(self._rows.values())]
        required = np.isin(np.arange(self.n), list(self._required))
        # rounding must not make a price of what bounds nothing
        return Prices(np.where(required, visits, np.maximum(visits, 0.0)), np.maximum(self._duals[self._cut_rows], 0.0))

    def mixture(self) -> tuple[Floats, Floats]:
        """Return (n, n) how often each way is taken and (n,) each node visited."""
        flow = np.zeros((self.n, self.n))
        for share, column in zip(self.shares, self.columns, strict=True):
            if share > 0:
                np.add.at(flow, _ways(column), share)
        return flow, flow.sum(axis=0)

    def largest(self, count: int) -> list[Column]:
        """Return the walks with the largest shares in the mixture."""
        return [self.columns[k] for k in np.argsort(-self.shares, kind="stable")[:count] if self.shares[k] > 0]

    def _row(self, node: int) -> int:
        if node not in self._rows:
            row = self._rows[node] = self._lp.getNumRow()
            required = node in self._required
            self._lp.addRow(1.0 if required else -highspy.kHighsInf, 1.0, 0, *_NONE)
            self._artificial(row, -1.0, self._penalty)
            if required:
                self._artificial(row, 1.0, self._penalty)
        return self._rows[node]

    def _artificial(self, row: int, value: float, penalty: float) -> None:
        """Let the rule of this row be broken at the penalty."""
        self._lp.addCol(penalty, 0.0, highspy.kHighsInf, 1, np.array([row], np.int32), np.array([value]))

    @staticmethod
    def _entries_less_visits(column: Column, inside: Bools, cuts: Sequence[Cut]) -> Ints:
        here, there = _ways(column)
        entries = (inside[:, there] & ~inside[:, here]).sum(axis=1)
        visits = (there[None, :] == np.array([cut.node for cut in cuts], np.int64)[:, None]).sum(axis=1)
        return np.asarray(entries - visits)


def _ways(column: Column) -> tuple[Ints, Ints]:
    here = np.array(column.order)
    return here, np.roll(here, -1)
