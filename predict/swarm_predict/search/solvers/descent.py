"""Find a good chain placement quickly: constructions, then steepest descent with kicks. `walk_bound` proves bounds.

Every neighbourhood is one array of orders priced at once, so a step over all replacements, insertions, removals,
moves and reversals costs some milliseconds for a hundred nodes. In large swarms only the nodes that look best at
the going price of a layer take part in a step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import numpy as np

from swarm_predict.search.chain import TIE_MS, Chain, cost_of
from swarm_predict.search.compiled.availability import fast
from swarm_protocol.snapshot.swarm import Floats, Ints

_POOL = 48  # newcomers tried at every place in one step
_FAST_POOL = 128  # the same where the loops are compiled
_NUMPY_ROWS = 18  # so few are solved exactly, sooner than compiled loops are loaded
_ANCHORS = 24  # constructions begun from different nodes


class Descent:
    """Keep the best order seen, and what has been tried."""

    def __init__(self, chain: Chain, seed: int, out_of_time: Callable[[], bool]) -> None:
        self.chain = chain
        self.best: list[int] | None = None
        self.best_cost = np.inf
        self._rng = np.random.default_rng(seed)
        self._out_of_time = out_of_time
        self._among: Ints | None = None
        self._needed = [int(i) for i in np.flatnonzero(chain.required)]
        self._seen: set[tuple[int, ...]] = set()
        self._fast = fast() if len(chain) > _NUMPY_ROWS else None
        self._problem = None if self._fast is None else self._fast.descent.problem_of(chain)

    def construct(self) -> None:
        """Build orders around several nodes and improve the best few."""
        orders = [order for anchor in self._anchors() if (order := self._around(anchor))]
        if len(self.chain) and len(self._needed) <= 1:
            alone = np.array(self._needed or range(len(self.chain)), dtype=np.int64)
            orders.append([int(alone[int(cost_of(self.chain, alone[:, None]).argmin())])])
        priced = sorted((self._price(order), order) for order in orders)
        for _, order in priced[:4]:
            self.improve(order)
            if self._out_of_time():
                return

    def offer(self, orders: Iterable[tuple[int, ...]], among: Ints | None = None) -> None:
        """Improve walks of the relaxation: repeats dropped, filled up where they lack room. `among`: the rows that may
        come in, ascending; all, where that is not given."""
        self._among = among
        for order in orders:
            path = self._repair(list(dict.fromkeys(order)))
            if path and tuple(path) not in self._seen:
                self._seen.add(tuple(path))
                self.improve(path)
            if self._out_of_time():
                break
        self._among = None

    def kick(self, rounds: int) -> None:
        """Drop a random run of stages from the best order, refill and improve again."""
        for _ in range(rounds):
            if self.best is None or len(self.best) < 2 or self._out_of_time():
                return
            length = int(self._rng.integers(1, max(2, len(self.best) // 2) + 1))
            begin = int(self._rng.integers(0, len(self.best)))
            gone = {self.best[(begin + i) % len(self.best)] for i in range(length)} - set(self._needed)
            kept = [node for node in self.best if node not in gone]
            barred = set(self._rng.permutation(sorted(gone))[: max(1, len(gone) // 2)].tolist())
            path = self._repair(kept, barred)
            if path and tuple(path) not in self._seen:
                self._seen.add(tuple(path))
                self.improve(path)

    def take(self, order: list[int]) -> None:
        """Take an order from elsewhere if it is better."""
        cost = self._price(order)
        if cost < self.best_cost - TIE_MS and set(self._needed) <= set(order):
            self.best, self.best_cost = order, cost

    def near_best(self) -> Ints:
        """Return the rows of the best order and those that would fit it best, ascending."""
        path = np.array(self.best, dtype=np.int64)
        return np.union1d(path, self._newcomers(path))

    def improve(self, order: list[int]) -> None:
        if self._fast is not None:
            while not self._out_of_time():
                found = self._descended(order, self._newcomers(np.array(order, dtype=np.int64)))
                if found == order:
                    break
                order = found
            self.take(order)
            return
        cost = self._price(order)
        while not self._out_of_time():
            found, found_cost = order, cost
            for orders in self._neighbours(order):
                prices = cost_of(self.chain, orders)
                at = int(prices.argmin())
                if prices[at] < found_cost - TIE_MS:
                    found, found_cost = [int(node) for node in orders[at]], float(prices[at])
            if found is order:
                break
            order, cost = found, found_cost
        self.take(order)

    def _descended(self, order: list[int], pool: Ints) -> list[int]:
        assert self._fast is not None
        found = self._fast.descent.descend(np.array(order, dtype=np.int64), pool, self._problem)
        return [int(node) for node in found]

    def _price(self, order: list[int]) -> float:
        return float(cost_of(self.chain, np.array([order], dtype=np.int64))[0])

    def _neighbours(self, order: list[int]) -> Iterable[Ints]:
        chain, size = self.chain, len(order)
        path = np.array(order, dtype=np.int64)
        fixed = np.isin(path, self._needed)
        pool = self._newcomers(path)
        places = np.flatnonzero(~fixed)
        if len(pool) and len(places):  # another node instead of one
            orders = np.tile(path, (len(places) * len(pool), 1))
            orders[np.arange(len(orders)), np.repeat(places, len(pool))] = np.tile(pool, len(places))
            yield orders
        if len(pool) and size < chain.max_stages:  # one node more
            orders = np.empty((size + 1, len(pool), size + 1), dtype=np.int64)
            for place in range(size + 1):
                orders[place, :, :place] = path[:place]
                orders[place, :, place] = pool
                orders[place, :, place + 1 :] = path[place:]
            yield orders.reshape(-1, size + 1)
        if size > 1 and len(places):  # one node less
            yield np.stack([np.delete(path, place) for place in places])
        if size > 1:
            yield path[moves(size)]

    def _newcomers(self, path: Ints) -> Ints:
        """Return outsiders near some stage, by their cost at the going price of a layer."""
        chain = self.chain
        outside = np.setdiff1d(np.arange(len(chain)) if self._among is None else self._among, path)
        most = _POOL if self._fast is None else _FAST_POOL
        if len(outside) <= most:
            return outside
        near = np.minimum(chain.hop[path][:, outside].min(axis=0), chain.hop[:, path][outside].min(axis=1))
        worth = self._worth(self._going_price(path))[outside]
        return np.sort(outside[np.argsort(worth + 2 * near, kind="stable")[:most]])

    def _going_price(self, path: Ints) -> float:
        """Return the milliseconds of a layer on the slowest stage in use."""
        return float(self.chain.layer[path].max())

    def _worth(self, price: float) -> Floats:
        """Return (n,) the cost of a visit less what its layers would cost elsewhere."""
        chain = self.chain
        count = np.where(chain.layer < price, np.maximum(chain.middle, 1), 1)
        return chain.overhead + count * (chain.layer - price)

    def _anchors(self) -> list[int]:
        per_layer = self.chain.layer + self.chain.overhead / np.maximum(self.chain.middle, 1)
        if self.chain.close is None:
            per_layer = per_layer + self.chain.start / np.maximum(self.chain.middle, 1)
        by_worth = np.argsort(per_layer, kind="stable")
        spread = by_worth[:: max(1, len(by_worth) // _ANCHORS)]
        return [int(i) for i in dict.fromkeys([*by_worth[: _ANCHORS // 2], *spread])][:_ANCHORS]

    def _around(self, anchor: int) -> list[int] | None:
        """Return the cheapest nodes around `anchor` that hold the model, nearest neighbour first."""
        chain = self.chain
        both_ways = (chain.hop[anchor] + chain.hop[:, anchor]) / 2
        both_ways[anchor] = 0.0
        held = np.maximum(chain.middle, 1)
        by_cost = np.argsort((chain.overhead + both_ways) / held + chain.layer, kind="stable")
        chosen = list(dict.fromkeys([anchor, *self._needed]))
        for node in by_cost:
            if chain.middle[chosen].sum() >= chain.total or len(chosen) >= chain.max_stages:
                break
            if int(node) not in chosen and np.isfinite(both_ways[node]):
                chosen.append(int(node))
        order, left = [anchor], set(chosen) - {anchor}
        while left:
            nearest = min(sorted(left), key=lambda node: float(chain.hop[order[-1], node]))
            order.append(nearest)
            left.remove(nearest)
        return self._repair(order)

    def _repair(self, order: list[int], barred: Iterable[int] = ()) -> list[int] | None:
        """Insert the cheapest nodes until the order fits; None if it cannot."""
        chain = self.chain
        order = order + [node for node in self._needed if node not in order]
        out = set(barred)
        if len(order) > chain.max_stages:
            return None
        if self._fast is not None and order:
            pool = self._newcomers(np.array(order, dtype=np.int64))
            order = self._descended(order, np.setdiff1d(pool, np.array(sorted(out), dtype=np.int64)))
            return order if np.isfinite(self._price(order)) else None
        while not np.isfinite(self._price(order) if order else np.inf):
            outside = np.array([i for i in range(len(chain)) if i not in order and i not in out], dtype=np.int64)
            if not len(outside) or len(order) >= chain.max_stages:
                return None
            worth = self._worth(float(np.median(chain.layer)) * 2)[outside]
            pool = outside[np.argsort(worth, kind="stable")[: _POOL * 2]]
            size = len(order)
            orders = np.empty((size + 1, len(pool), size + 1), dtype=np.int64)
            for place in range(size + 1):
                orders[place, :, :place] = order[:place]
                orders[place, :, place] = pool
                orders[place, :, place + 1 :] = order[place:]
            flat = orders.reshape(-1, size + 1)
            cost = cost_of(chain, flat)
            if not np.isfinite(cost.min()):  # not enough memory yet: the nearest of what holds most
                arc = chain.start[flat[:, 0]] + chain.hop[flat[:, :-1], flat[:, 1:]].sum(axis=1)
                cost = arc + np.tile(self._worth(float(chain.layer.max()))[pool], size + 1)
            at = int(cost.argmin())
            if not np.isfinite(cost[at]):
                return None
            order = [int(node) for node in flat[at]]
        return order


@functools.lru_cache(maxsize=128)
def moves(size: int) -> Ints:
    """Return every order of `size` places that moves one, swaps two or reverses a run, each once."""
    places = list(range(size))
    orders: dict[tuple[int, ...], None] = {}
    for i in places:
        rest = places[:i] + places[i + 1 :]
        for j in places:
            if j != i:
                orders[*rest[:j], i, *rest[j:]] = None
        for j in range(i + 1, size):
            swapped = places.copy()
            swapped[i], swapped[j] = j, i
            orders[tuple(swapped)] = None
            orders[*places[:i], *places[i : j + 1][::-1], *places[j + 1 :]] = None
    return np.array(list(orders), dtype=np.int64)
