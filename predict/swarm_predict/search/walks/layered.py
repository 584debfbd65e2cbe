"""Compute the walk relaxation of `walk_bound` in numpy, over the states of a `walk_graph`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import numpy as np

from swarm_predict.search.chain import Chain
from swarm_predict.search.walks.walk_bound import Sieve, States, Walk, alone, closes_to, firsts_of
from swarm_predict.search.walks.walk_graph import Graph, Memory, Plain
from swarm_protocol.snapshot.swarm import Floats

# the bound is a sum of some hundred floats (none below 0); what rounding could add to it is taken off
ROUNDING: Final = 1e-11

_Bound = TypeVar("_Bound", float, Floats)


class Layered:
    """A relaxation that keeps its arrays while prices change. `memory`: how many nodes a walk remembers where it is (1:
    only that one, which it cannot stay at anyway).
    """

    states: States | None = None  # too slow to rule out by layers here

    def __init__(self, chain: Chain, memory: int = 1, walks: Iterable[Sequence[int]] = ()) -> None:
        """Create it. `walks`: cheap ones met so far, which decide what is remembered."""
        self.chain = chain
        self.graph: Graph = Plain(chain) if memory <= 1 else Memory(chain, memory, walks)
        node = self.graph.node
        states = len(node)
        self._firsts = firsts_of(chain)
        most = max(1, int(chain.middle.max(initial=1)), int(chain.last.max(initial=1)))
        lags = np.arange(1, most + 1)[:, None]
        self._middle_wall = np.where(lags <= chain.middle[node], 0.0, np.inf)[::-1]  # oldest first
        self._last_wall = np.where(lags <= chain.last[node], 0.0, np.inf)[::-1]
        self._most = most
        counts = np.arange(chain.total + 1)[:, None]
        self._work = counts * chain.layer[node]  # (L + 1, S)
        self._first_wall = np.where((counts >= 1) & (counts <= chain.first[node]), 0.0, np.inf)
        self._last_room = chain.last[node]
        self._start = np.full(states, np.inf)
        self._end = chain.end[node]
        self._alone = alone(chain)
        self._alone[np.setdiff1d(np.arange(len(chain)), self._firsts)] = np.inf
        # where the walk can begin at one node only, it does not come back to it
        self._barred = node == self._firsts[0] if len(self._firsts) == 1 else np.zeros(states, dtype=np.bool_)
        self.levy(np.zeros(len(chain)))

    def levy(self, tolls: Floats) -> None:
        chain = self.chain
        self._tolls = tolls
        charged = chain.start if chain.close is None else chain.start + tolls
        self._start[self.graph.fresh[self._firsts]] = charged[self._firsts]
        if chain.close is not None:
            node = self.graph.node
            ways = chain.close[:, self._firsts] - tolls[self._firsts]
            ways[self._firsts, np.arange(len(self._firsts))] = np.inf  # none closes to itself unless alone
            self._end = (chain.end + ways.min(axis=1, initial=np.inf))[node]

    def forward(self, prices: Floats) -> Walk:
        return self._forward(prices)[0]

    def _forward(self, prices: Floats) -> tuple[Walk, Floats]:
        """Return the cheapest walk, and the cheapest arrivals by (layers covered, state)."""
        chain, total = self.chain, self.chain.total
        visit = (chain.overhead + prices)[self.graph.node]
        shape = (total, len(self._start))
        arrive = np.full(shape, np.inf)  # [m]: at the door of v with m layers covered, m ≥ 1
        slack = np.full(shape, np.inf)  # arrive[m] − m · layer: what a stage starting at m adds to l · layer
        done = np.full(shape, np.inf)
        begin = self._start + visit
        for covered in range(1, total):
            best = begin + (self._work[covered] + self._first_wall[covered])
            low = max(1, covered - self._most)
            if low < covered:
                window = slack[low:covered] + self._middle_wall[low - covered :]
                best = np.minimum(best, window.min(axis=0) + (self._work[covered] + visit))
            done[covered] = best
            reach = np.where(self._barred, np.inf, self.graph.arrive(best))
            arrive[covered] = reach
            slack[covered] = reach - self._work[covered]
        low = max(1, total - self._most)
        ends = np.full(len(self._start), np.inf)
        if low < total:
            window = slack[low:total] + self._last_wall[low - total :]
            ends = window.min(axis=0) + (self._work[total] + visit) + self._end
        single = self._alone + prices
        order: tuple[int, ...] = ()
        best_end, best_single = float(ends.min(initial=np.inf)), float(single.min(initial=np.inf))
        if best_single <= best_end and np.isfinite(best_single):
            order = (int(single.argmin()),)
        elif np.isfinite(best_end):
            order = self._trace(ends, slack, done, begin)
        bound = _rounded(min(best_end, best_single) - float(prices.sum()) + chain.constant)
        return Walk(bound, order, closes_to(chain, order, self._firsts, self._tolls)), arrive

    def sieve(self, prices: Floats, limit: float) -> Sieve:
        chain, total = self.chain, self.chain.total
        _, arrive = self._forward(prices)
        visit = (chain.overhead + prices)[self.graph.node]
        shape = (total, len(self._start))
        rest = np.full(shape, np.inf)  # [m]: v is done with m layers covered; what is still to pay
        eager = np.full(shape, np.inf)  # rest[m] + m · layer
        best = np.full(len(self._start), np.inf)
        first = np.full(len(self._start), np.inf)
        for covered in range(total - 1, 0, -1):
            need = total - covered
            enter = np.where(need <= self._last_room, self._work[need], np.inf) + self._end
            high = min(total - 1, covered + self._most)
            if high > covered:
                window = eager[covered + 1 : high + 1] + self._middle_wall[::-1][: high - covered]
                enter = np.minimum(enter, window.min(axis=0) - self._work[covered])
            enter = enter + visit
            best = np.minimum(best, arrive[covered] + enter)
            rest[covered] = self.graph.leave(np.where(self._barred, np.inf, enter))
            eager[covered] = rest[covered] + self._work[covered]
            begin = self._start + visit + self._work[covered] + self._first_wall[covered]
            first = np.minimum(first, begin + rest[covered])
        through, firsts = self._alone + prices, self._alone + prices
        np.minimum.at(through, self.graph.node, np.minimum(best, first))
        np.minimum.at(firsts, self.graph.node, first)
        credit = chain.constant - float(prices.sum())
        return Sieve(_rounded(through + credit) < limit, _rounded(firsts + credit) < limit)

    def _trace(self, ends: Floats, slack: Floats, done: Floats, begin: Floats) -> tuple[int, ...]:
        """Trace the walk of the cheapest end back, cell by cell."""
        state = int(ends.argmin())
        order = [state]
        covered, wall = self.chain.total, self._last_wall
        while True:
            low = max(1, covered - self._most)
            window = slack[low:covered, state] + wall[low - covered :, state]
            covered = low + int(window.argmin())
            state = self.graph.came_from(done[covered], state)
            order.append(state)
            wall = self._middle_wall
            first = begin[state] + self._work[covered, state] + self._first_wall[covered, state]
            if done[covered, state] >= first:
                return tuple(int(self.graph.node[state]) for state in reversed(order))


def _rounded(bound: _Bound) -> _Bound:
    return bound * (1 - ROUNDING)
