"""Run the walk relaxation of `walk_bound` on the compiled loops of `walk_kernel`; states stay ruled out."""

from __future__ import annotations

import numpy as np

from swarm_predict.search.chain import Chain
from swarm_predict.search.compiled import walk_kernel
from swarm_predict.search.walks.layered import ROUNDING
from swarm_predict.search.walks.walk_bound import Sieve, States, Walk, alone, closes_to, firsts_of
from swarm_protocol.snapshot.swarm import Floats


def all_states(chain: Chain) -> States:
    shape = (chain.total + 1, len(chain))
    return States(np.ones(shape, dtype=np.bool_), np.ones(shape, dtype=np.bool_))


class Compiled:
    def __init__(self, chain: Chain, states: States) -> None:
        self.chain = chain
        self.states = states
        self._firsts = firsts_of(chain)
        self._hop = walk_kernel.ways(chain.hop.T)
        self._alone = alone(chain)
        barred = np.ones(len(chain), dtype=np.bool_)
        barred[self._firsts] = False
        self._alone[barred] = np.inf
        self._begin = walk_kernel.open_end(np.full(len(chain), np.inf))
        self._finish = walk_kernel.open_end(chain.end)
        if len(self._firsts) == 1:  # where the walk can begin at one node only, it does not come back to it
            arrive = states.arrive.copy()
            arrive[:, self._firsts[0]] = False
            self.states = States(arrive, states.finish)
        self.levy(np.zeros(len(chain)))

    def levy(self, tolls: Floats) -> None:
        chain, firsts = self.chain, self._firsts
        self._tolls = tolls
        charged = chain.start if chain.close is None else chain.start + tolls
        start = np.full(len(chain), np.inf)
        start[firsts] = charged[firsts]
        self._begin = walk_kernel.open_end(start)
        if chain.close is not None:
            ways = chain.close[:, firsts] - tolls[firsts]
            ways[firsts, np.arange(len(firsts))] = np.inf  # no node closes to itself, except where it is alone
            self._finish = walk_kernel.closed_end(chain.end, ways, firsts)

    def forward(self, prices: Floats) -> Walk:
        chain = self.chain
        value, order = next(iter(self.cheapest(prices, 1)), (np.inf, ()))
        bound = (value - float(prices.sum()) + chain.constant) * (1 - ROUNDING)
        return Walk(bound, order, closes_to(chain, order, self._firsts, self._tolls))

    def cheapest(self, prices: Floats, most: int) -> list[tuple[float, tuple[int, ...]]]:
        """Return the cheapest walk to each possible end with its cost, prices included, cheapest first."""
        chain, passed, single = self.chain, self._pass(prices), self._alone + prices
        found = []
        for end in np.argsort(passed.final, kind="stable")[:most]:
            if np.isfinite(passed.final[end]):
                back = walk_kernel.trace(
                    *(passed, int(end), self._begin, self._finish),
                    *(chain.layer, chain.first, chain.middle, chain.last, chain.total),
                )
                found.append((float(passed.final[end]), tuple(int(node) for node in back[::-1])))
        if np.isfinite(single.min(initial=np.inf)):
            found.append((float(single.min()), (int(single.argmin()),)))
        return sorted(found)[:most]

    def sieve(self, prices: Floats, limit: float) -> Sieve:
        """Sieve nodes, and rule out states for this and for every relaxation made from `states` later."""
        chain, total = self.chain, self.chain.total
        there, back = self._pass(prices), self._pass_back(prices)
        credit = chain.constant - float(prices.sum())
        arriving = (walk_kernel.meet(there, back, total) + credit) * (1 - ROUNDING)
        finishing = (walk_kernel.meet(back, there, total)[::-1] + credit) * (1 - ROUNDING)
        self.states = States(self.states.arrive & (arriving < limit), self.states.finish & (finishing < limit))
        single = (self._alone + prices + credit) * (1 - ROUNDING) < limit
        begin = ((back.final + credit) * (1 - ROUNDING) < limit) | single
        return Sieve(self.states.arrive.any(axis=0) | begin, begin)

    def _pass(self, prices: Floats) -> walk_kernel.Passed:
        chain = self.chain
        passed: walk_kernel.Passed = walk_kernel.walk(
            *(self._hop, chain.layer, chain.overhead + prices, self._begin),
            *(chain.first, chain.middle, chain.last),
            *(self._finish, chain.total, self.states.arrive, self.states.finish),
        )
        return passed

    def _pass_back(self, prices: Floats) -> walk_kernel.Passed:
        """Run the pass on the reversed problem: last is first, and a node is left where it was entered."""
        chain = self.chain
        passed: walk_kernel.Passed = walk_kernel.walk(
            *(walk_kernel.ways(chain.hop), chain.layer, chain.overhead + prices, self._finish),
            *(chain.last, chain.middle, chain.first, self._begin, chain.total),
            np.ascontiguousarray(self.states.finish[::-1]),
            np.ascontiguousarray(self.states.arrive[::-1]),
        )
        return passed
