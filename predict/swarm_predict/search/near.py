"""The best order that uses one outsider, near a good order: asked a thousand times of one swarm, so it must be quick.

What an outsider costs is told by the best placement with it: a descent from the best order with the outsider in it,
and one from the outsider's own neighbourhood, whichever ends lower. Without numba only the first, and over the nodes
of the best order alone. Stars are not asked here: in them `star.each` is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.chain import Bools, Chain, chain_of, cost_of
from swarm_predict.search.compiled.availability import fast
from swarm_predict.search.descent import moves
from swarm_protocol.snapshot.swarm import Ints

_STEPS: Final = 20  # of the descent without numba: each gains, and few are ever taken
_FEW_NODES: Final = 200  # ten milliseconds each without numba
_POOL: Final = 64  # neighbours that may come in: of the outsider, and of the best order


@dataclass(frozen=True, slots=True)
class Nearby:
    chain: Chain
    at: dict[int, int]  # position in the chain by row of the tables
    both_ways: Any  # (n, n) milliseconds there and back
    problem: Any  # of the compiled descent; None without it

    @classmethod
    def of(cls, tables: CostTables, allowed: Bools) -> Nearby | None:
        """None for a star, and where a full descent for each is affordable and better: few nodes, no numba."""
        loops = fast()
        if tables.pattern == "star" or (loops is None and len(tables.names) <= _FEW_NODES):
            return None
        chain = chain_of(tables, allowed, np.zeros(len(allowed), dtype=np.bool_), len(tables.names))
        problem = None if loops is None else loops.descent.problem_of(chain)
        return cls(chain, {int(row): at for at, row in enumerate(chain.rows)}, chain.hop + chain.hop.T, problem)

    def using(self, row: int, best: Sequence[int]) -> tuple[int, ...] | None:
        """Rows of the tables; None where nothing near holds the model with it. `best` is without `row`."""
        newcomer = self.at.get(row)
        if newcomer is None or any(node not in self.at for node in best):
            return None
        few = [self.at[node] for node in best]
        if self.problem is not None:
            found = self._descended(newcomer, few)
            return None if found is None else tuple(int(self.chain.rows[node]) for node in found)
        small = _over(self.chain, [*few, newcomer])
        rows = small.rows.tolist()
        order = _settled(small, rows.index(row), [rows.index(node) for node in best])
        return None if order is None else tuple(int(small.rows[node]) for node in order)

    def _descended(self, newcomer: int, few: list[int]) -> Ints | None:
        loops = fast()
        assert loops is not None
        chain = self.chain
        # who is near and holds much for what it takes: a visit paid by the layers it brings
        per_layer = chain.layer + (chain.overhead + self.both_ways[newcomer] / 2) / np.maximum(chain.middle, 1)
        per_layer[newcomer] = np.inf
        near = np.argpartition(per_layer, min(_POOL, len(per_layer) - 1))[:_POOL]
        pool = np.unique(np.concatenate([near, np.array(few, dtype=np.int64)]))
        fixed = np.zeros(len(chain), dtype=np.int64)
        fixed[newcomer] = 1
        problem = self.problem._replace(fixed=fixed)
        best: Ints | None = None
        cost = np.inf
        for begin in ([*few, newcomer], [newcomer]):
            end = loops.descent.descend(np.array(begin, dtype=np.int64), pool, problem)
            value = float(cost_of(chain, end[None])[0])
            if value < cost:
                best, cost = end, value
        return best


def _over(chain: Chain, nodes: list[int]) -> Chain:
    """The chain over a dozen of its nodes: arrays that fit a cache."""
    mask = np.zeros(len(chain), dtype=np.bool_)
    mask[nodes] = True
    few = chain.keep(mask)
    return replace(few, max_stages=min(chain.max_stages, len(nodes)))


def _settled(chain: Chain, newcomer: int, order: list[int]) -> list[int] | None:
    path = np.array(order, dtype=np.int64)
    added = np.stack([np.insert(path, place, newcomer) for place in range(len(path) + 1)])
    found, cost = _cheapest(chain, [added, *_each_without(added, newcomer)])
    if found is None:
        return None
    for _ in range(_STEPS):
        outs = [node for node in found.tolist() if node != newcomer]
        tries = [found[moves(len(found))] if len(found) > 1 else found[None]]
        if len(found) > 1:
            tries.append(np.stack([found[found != node] for node in outs]))
        better, better_cost = _cheapest(chain, tries)
        if better is None or better_cost >= cost - 1e-9:
            break
        found, cost = better, better_cost
    return [int(node) for node in found]


def _each_without(added: Ints, newcomer: int) -> list[Ints]:
    """Every order of `added` with one other stage gone."""
    size = added.shape[1]
    if size < 2:
        return []
    short = np.concatenate([np.delete(added, place, axis=1) for place in range(size)])
    return [short[(short == newcomer).any(axis=1)]]


def _cheapest(chain: Chain, tries: list[Ints]) -> tuple[Ints | None, float]:
    best, cost = None, np.inf
    for orders in tries:
        if len(orders):
            prices = cost_of(chain, orders)
            at = int(prices.argmin())
            if prices[at] < cost:
                best, cost = orders[at], float(prices[at])
    return best, cost
