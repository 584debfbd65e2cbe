"""Bound the best placement through one node by column generation over walks, with cuts against mixtures that no
placement can reach.

Each pass prices the walks (`anchored`), adds the cheapest to the linear programme (`master_problem`) and takes its
duals as the next prices; where walks and programme come near each other, cuts are looked for (`cuts`). Whenever
the bound has come closer to the incumbent, nodes and states that no better placement uses are dropped. Prices are
sought between the newest duals and the best prices so far (Wentges, International Transactions in Operational Research
4(2), 1997).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Final

import numpy as np

from swarm_predict.search.bounds.subproblem import Part, mask_of
from swarm_predict.search.chain import TIE_MS, Chain
from swarm_predict.search.compiled.anchored import Anchored, Opened, all_ring_states
from swarm_predict.search.compiled.cuts import missed
from swarm_predict.search.compiled.master_problem import Column, Master, Prices
from swarm_predict.search.walks.walk_bound import States
from swarm_protocol.snapshot.swarm import Floats, Ints

_PENALTY: Final = 0.1  # of the incumbent: the most that a visit or a cut may be priced
_NONE_LEFT: Final = 10  # times the incumbent, where no walk is left to mix: far enough not to touch any price
_SMOOTH: Final = 0.6  # weight of the best prices so far beside the newest
_AGREE: Final = 0.5  # of the gap: so near programme and walks are when cuts are looked for
_AGREE_MS: Final = 0.05  # nearer than this, prices cannot improve the bound further
_WORTH: Final = 0.05  # of the gap: below this gain per round, split the part
_SIEVE_EVERY: Final = 2  # passes
_SIEVE_AT: Final = 0.7  # of the gap at the last time
_PASS_ROWS: Final = 100  # with more rows, fewer passes in one go: what is dropped after it makes the next ones cheap
_MIN_PASSES: Final = 3


class Through:
    """Bound the placements through the anchor: one of the rows, or a given client, which is one node more."""

    def __init__(self, chain: Chain, part: Part, anchor: int) -> None:
        """Create it. `part`: what placements may use, and prices to begin with."""
        self.chain, self.anchor, self.bound = chain, anchor, part.bound
        self.over = False  # nothing more is to be gained but by splitting
        self._keep(part.at)
        assert part.states is not None
        self._states = part.states if chain.close is None else all_ring_states(self._rest, self._place)
        visits = np.zeros(self._nodes)
        visits[part.at] = part.prices[0]
        self._best = self._newest = Prices(visits, np.zeros(0))
        self._required = frozenset(int(row) for row in np.flatnonzero(chain.required))
        self._master: Master | None = None
        self._reached = -np.inf  # by the best prices; the bound may be from elsewhere
        self._cheapest: Anchored | Opened | None = None  # the walks that reached it
        self._sieved_at = np.inf  # the gap then

    def work(
        self, best_cost: float, best: list[int] | None, passes: int, out_of_time: Callable[[], bool]
    ) -> list[tuple[int, ...]]:
        """Raise the bound against the incumbent. Returns walks to begin a descent from."""
        least = _MIN_PASSES if self._master else 1  # the prices it begins with are good enough to drop most
        master = self._master = self._master or self._begun(best_cost, best)
        before = self._reached
        found: list[Column] = []
        for turn in range(max(least, passes * _PASS_ROWS // max(_PASS_ROWS, len(self.at)))):
            prices = Prices(
                *(_SMOOTH * old + (1 - _SMOOTH) * new for old, new in zip(self._best, self._newest, strict=True))
            )
            walks, credits = self._walks(prices)
            reached, found = self._columns(walks, credits)
            if reached > self._reached:
                self._reached, self._best, self._cheapest = reached, prices, walks
                self.bound = max(self.bound, reached)
            if self.bound >= best_cost - TIE_MS or out_of_time():
                return []
            master.add(found)
            ahead = master.solve() - self._reached
            self._newest = master.prices()
            if ahead < max(_AGREE * (best_cost - self._reached), _AGREE_MS):
                cuts = master.cut(missed(*master.mixture(), self.anchor))
                self._newest, self._best = (
                    Prices(price.visits, np.append(price.cuts, np.zeros(cuts))) for price in (self._newest, self._best)
                )
                if ahead < _AGREE_MS and not cuts:
                    self.over = True
                    break
            if turn % _SIEVE_EVERY == _SIEVE_EVERY - 1 and best_cost - self._reached < _SIEVE_AT * self._sieved_at:
                self._sieve(best_cost)
        gap = best_cost - self._reached
        self.over = self.over or (np.isfinite(best_cost) and self._reached - before < _WORTH * gap)
        if gap < _SIEVE_AT * self._sieved_at:
            self._sieve(best_cost)
        offered = [column.from_first() for column in (*master.largest(1), *found[:1])]
        return offered if self.chain.close is not None else [order[:-1] for order in offered]

    def split(self) -> list[Through]:
        """Split on the node that the mixture is least certain about, into placements with and without it; nothing,
        where every node is required.
        """
        assert self._master is not None
        _, visits = self._master.mixture()
        open_to = np.setdiff1d(self.at, [*self._required, self.anchor])
        if not len(open_to):
            return []
        node = int(open_to[np.abs(visits[open_to] - 0.5).argmin()])
        return [self._child(self._required | {node}, frozenset()), self._child(self._required, frozenset({node}))]

    def _child(self, required: frozenset[int], without: frozenset[int]) -> Through:
        assert self._master is not None
        child = copy(self)
        left = np.flatnonzero(~np.isin(self.at, list(without)))
        child._keep(self.at[left])
        child._states = self._states.of(left)
        child._required = required
        child._master = self._master.like_this(required, without)
        visits = self._best.visits.copy()
        visits[list(without)] = 0.0
        child._best = child._newest = Prices(visits, self._best.cuts)
        child.over, child._reached, child._cheapest, child._sieved_at = False, -np.inf, None, np.inf
        return child

    def _begun(self, best_cost: float, best: list[int] | None) -> Master:
        scale = (
            best_cost if np.isfinite(best_cost) else 10 * (max(self.bound, 0.0) + float(self.chain.overhead.max()) + 1)
        )
        master = Master(self._nodes, self._required, _PENALTY * scale, _NONE_LEFT * scale)
        if best is not None and self.chain.close is None:
            master.add([Column(best_cost, (self.anchor, *best), 1)])
        elif best is not None and self.anchor in best and set(best) <= set(self.at.tolist()):
            place = best.index(self.anchor)
            master.add([Column(best_cost, (*best[place:], *best[:place]), (len(best) - place) % len(best))])
        return master

    def _keep(self, at: Ints) -> None:
        self.at = at
        self._rest = self.chain.keep(mask_of(len(self.chain), at))
        self._with_client = at if self.chain.close is not None else np.append(at, self.anchor)
        self._place = int(np.flatnonzero(self._with_client == self.anchor)[0])

    @property
    def _nodes(self) -> int:
        return len(self.chain) + (self.chain.close is None)

    def _walks(self, prices: Prices) -> tuple[Anchored | Opened, Floats]:
        """Return the walks with the credits of ways, over the nodes that are left."""
        assert self._master is not None
        nodes = self._with_client
        visits = prices.visits[nodes]
        visits[self._place] = 0.0  # it is visited once in any case
        paid_back = float(visits.sum())
        inside = self._master.inside[:, nodes]
        credits = (~inside).T.astype(np.float64) @ (prices.cuts[:, None] * inside)
        charged = np.zeros(self._nodes)
        np.add.at(charged, [cut.node for cut in self._master.cuts], prices.cuts)
        visits += charged[nodes]
        if isinstance(self._states, States):
            return Opened(self._rest, self._states, visits, credits, paid_back), credits
        return Anchored(self._rest, self._place, self._states, visits, credits, paid_back), credits

    def _columns(self, walks: Anchored | Opened, credits: Floats) -> tuple[float, list[Column]]:
        bound, found = walks.walks()
        columns = []
        for walk in found:
            order = np.array(walk.order)
            free = walk.value - walks.prices[order].sum() + credits[order, np.roll(order, -1)].sum()
            columns.append(
                Column(float(free) + self.chain.constant, tuple(self._with_client[order].tolist()), walk.first)
            )
        return bound, columns

    def _sieve(self, best_cost: float) -> None:
        self._sieved_at = best_cost - self._reached
        walks = self._cheapest or self._walks(self._best)[0]
        self._cheapest = None
        keep = walks.sieve(best_cost - TIE_MS) | np.isin(self.at, list(self._required))
        assert self._master is not None
        for node in self.at[~keep]:
            self._master.drop(int(node))
        left = np.flatnonzero(keep)
        self._states = walks.states.of(left)
        self._keep(self.at[left])
