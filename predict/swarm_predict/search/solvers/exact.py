"""Find the optimal chain placement by dynamic programming over subsets of up to about twenty nodes.

For a fixed set the split does not depend on the order, so the best placement is the cheapest Hamiltonian path of each
set plus its split: dynamic programming over (first, set, last), one cardinality at a time, all of it numpy vectors.
A state is dropped when even the cheapest way to finish it is no better than the incumbent; with a good incumbent few
survive. The first node is part of the state only where the end depends on it (a ring, or an embedding that
takes memory). No order is kept on the way: the winner's is found by the same search over its own rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from swarm_predict.search.chain import TIE_MS, Bools, Chain, split_cost
from swarm_protocol.snapshot.swarm import Floats, Ints

MAX_NODES = 18  # 18 · 2^18 codes of (first, set): tables over all of them stay near twenty megabytes
_CHUNK = 4096  # rows at a time: what the minimum runs over stays in the cache


@dataclass(frozen=True, slots=True)
class _Level:
    """The states of one cardinality: `keys` are (first, set) codes, ascending; `cost[last]` is a row over them."""

    keys: Ints  # (m,)
    cost: Floats  # (n, m), infinite where dropped


def solve_exact(chain: Chain, below: float, out_of_time: Callable[[], bool]) -> tuple[list[int] | None, float] | None:
    """Return (order, cost) of the cheapest placement below `below`; (None, below) if there is none.

    None if time ran out, or there are too many nodes.
    """
    n = len(chain)
    if n > MAX_NODES:
        return None
    if n == 0:
        return None, below
    search = _Search(chain, below)
    if not search.run(out_of_time):
        return None
    if search.members is None:
        return None, below
    at = np.flatnonzero(_mask(n, search.members))
    first = (search.end[0] >> n) - 1
    order = _path_of(chain.keep(_mask(n, search.members)), at == first if first >= 0 else at >= 0, search.best_cost)
    return [int(at[node]) for node in order], search.best_cost


class _Search:
    """One pass over the cardinalities: finds the best set and its cost, not yet its order."""

    def __init__(self, chain: Chain, best_cost: float, *, keep_levels: bool = False) -> None:
        self.chain = chain
        self.best_cost = best_cost
        self.members: int | None = None
        self.end: tuple[int, int] = (0, 0)  # (key, last) of the best
        self.levels: list[_Level] = []
        self._keep_levels = keep_levels
        self._finish = _Finish(chain)
        n = len(chain)
        self._keeps_first = chain.close is not None or bool((chain.first != chain.middle).any())
        self._place = np.zeros(((n + 1) if self._keeps_first else 1) << n, dtype=np.int32)  # row of a key

    def run(self, out_of_time: Callable[[], bool]) -> bool:
        """Run the pass; False if time ran out before every set was looked at."""
        level = self._first()
        for size in range(1, self.chain.max_stages + 1):
            if self._keep_levels:
                self.levels.append(level)
            self._end(level)
            if size == self.chain.max_stages or not len(level.keys):
                break
            if out_of_time():
                return False
            level = self._next(level)
        return True

    def _first(self) -> _Level:
        n, chain = len(self.chain), self.chain
        nodes = np.arange(n)
        keys = (1 << nodes) | ((nodes + 1) << n if self._keeps_first else 0)
        start = np.where(np.maximum(chain.first, chain.only) > 0, chain.start, np.inf)
        cost = np.full((n, n), np.inf)
        cost[nodes, nodes] = start
        return _Level(np.asarray(keys, dtype=np.int64), cost)

    def _next(self, level: _Level) -> _Level:
        """Extend every state by one node. A (key, last) pair has one parent key, so nothing has to be merged."""
        n = len(self.chain)
        parts: list[tuple[int, Ints, Floats]] = []
        arrive = np.empty((n, len(level.keys)))
        for begin in range(0, len(level.keys), _CHUNK):
            part = level.cost[:, begin : begin + _CHUNK]
            for node in range(n):
                arrive[node, begin : begin + _CHUNK] = (part + self.chain.hop[:, node, None]).min(axis=0)
        for node in range(n):
            free = np.flatnonzero(level.keys & (1 << node) == 0)
            keys, cost = level.keys[free] | (1 << node), arrive[node, free]
            hope = cost + self._finish.bound(keys & ((1 << n) - 1), keys >> n, node)
            good = hope < self.best_cost - TIE_MS
            parts.append((node, keys[good], cost[good]))
        if 16 * sum(len(keys) for _, keys, _ in parts) < len(self._place):  # sorting few beats scanning all codes
            every = np.unique(np.concatenate([keys for _, keys, _ in parts]))
        else:
            seen = np.zeros(len(self._place), dtype=np.bool_)
            for _, keys, _ in parts:
                seen[keys] = True
            every = np.flatnonzero(seen)
        self._place[every] = np.arange(len(every), dtype=np.int32)
        table = np.full((n, len(every)), np.inf)
        for node, keys, cost in parts:
            table[node, self._place[keys]] = cost
        return _Level(every, table)

    def _end(self, level: _Level) -> None:
        """End every state of the level here, lowest bound first, until no bound beats the best."""
        n, chain = len(self.chain), self.chain
        sets = level.keys & ((1 << n) - 1)
        able = np.flatnonzero(np.isfinite(self._finish.split[sets]))
        keys, sets = level.keys[able], sets[able]
        firsts = keys >> n
        promise = level.cost[:, able] + (chain.end + chain.constant)[:, None] + self._finish.split[sets]
        if chain.close is not None:
            promise = promise + chain.close[:, firsts - 1]
        lasts, rows = np.nonzero(promise < self.best_cost - TIE_MS)
        queue = np.argsort(promise[lasts, rows], kind="stable")
        for begin in range(0, len(queue), _CHUNK):
            part = queue[begin : begin + _CHUNK]
            at, last = rows[part], lasts[part]
            if promise[last[0], at[0]] >= self.best_cost - TIE_MS:
                break
            orders = _any_order(n, sets[at], firsts[at] - 1, last)
            cost = promise[last, at] - self._finish.split[sets[at]] + split_cost(chain, orders)
            winner = int(cost.argmin())
            if cost[winner] < self.best_cost - TIE_MS:
                self.best_cost = float(cost[winner])
                self.members = int(sets[at[winner]])
                self.end = int(keys[at[winner]]), int(last[winner])


def _path_of(chain: Chain, firsts: Bools, cost: float) -> list[int]:
    """Recover the order of a placement of all rows from its cost: the same search, where almost nothing survives."""
    n = len(chain)
    slack = 1e-6 + 1e-9 * cost
    start = np.where(firsts, chain.start, np.inf)
    whole = replace(chain, start=start, required=np.ones(n, dtype=np.bool_), max_stages=n)
    search = _Search(whole, cost + slack, keep_levels=True)
    search.run(lambda: False)
    key, last = search.end
    order = [last]
    for level in reversed(search.levels[:-1]):
        key ^= 1 << last
        row = int(np.searchsorted(level.keys, key))
        last = int((level.cost[:, row] + chain.hop[:, last]).argmin())
        order.append(last)
    return order[::-1]


def _any_order(n: int, sets: Ints, firsts: Ints, lasts: Ints) -> Ints:
    """Return (B, k) the rows of each set, its first in front (unless −1, unknown) and its last behind."""
    size = int(sets[0]).bit_count()
    inside = ((sets[:, None] >> np.arange(n)) & 1) == 1
    rank = np.where(inside, 1, 3)
    at = np.arange(len(sets))
    rank[at, lasts] = 2
    known = firsts >= 0
    rank[at[known], firsts[known]] = 0
    return np.argsort(rank, axis=1, kind="stable")[:, :size]


def _mask(n: int, members: int) -> Bools:
    return np.asarray((members >> np.arange(n)) & 1 == 1)


class _Finish:
    """Lower bounds of what any placement on a superset of S still has to pay, for every S at once."""

    def __init__(self, chain: Chain) -> None:
        n = len(chain)
        self._chain = chain
        self.split = _split_bound(chain)  # (2^n,) of stopping with exactly this set
        # every stage but the first is arrived at, all but the last are left: no hop costs less than its two shares
        arrive = _finite(chain.hop.min(axis=0, initial=np.inf))
        leave = _finite((chain.hop - arrive).min(axis=1, initial=np.inf))
        self._leave = leave
        shares = _sums(arrive + leave)
        rest = self.split + shares
        for node in range(n):
            pairs = rest.reshape(-1, 2, 1 << node)
            np.minimum(pairs[:, 0], pairs[:, 1], out=pairs[:, 0])
        self._rest = rest - shares
        if chain.close is None:
            self._tail = np.full(n + 1, (chain.end - leave).min() + chain.constant)
        else:
            by_first = (chain.close + (chain.end - leave)[:, None]).min(axis=0) + chain.constant
            self._tail = np.append(by_first, by_first.min())

    def bound(self, sets: Ints, firsts: Ints, last: int) -> Floats:
        """Return what to add to the cost of states that end in `last`; a first of 0 is unknown."""
        return np.asarray(self._rest[sets] + self._tail[firsts - 1] + self._leave[last])


def _finite(least: Floats) -> Floats:
    """Replace infinities by 0: a node that none can reach may be first, one that can reach none may be last."""
    return np.where(np.isfinite(least), least, 0.0)


def _sums(values: Floats) -> Floats:
    """Return (2^n,) the sum of values over each set."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


def _split_bound(chain: Chain) -> Floats:
    """Return (2^n,) the split's cost if every node had its roomiest place; infinite if the set cannot serve."""
    n = len(chain)
    most = chain.most
    count = _sums(np.ones(n))
    left = chain.total - count
    cost = _sums(chain.overhead + chain.layer)
    members = np.arange(1 << n)
    for node in range(n):  # rows are in order of speed
        extra = np.where((members >> node) & 1 == 1, max(int(most[node]) - 1, 0), 0)
        more = np.clip(left, 0, extra)
        cost += more * chain.layer[node]
        left -= more
    needed = int(sum(1 << int(node) for node in np.flatnonzero(chain.required)))
    bad: Bools = (left != 0) | (count > chain.max_stages) | (members & needed != needed)
    bad[0] = True
    cost[bad] = np.inf
    return cost
