"""Relax placements through one node, the anchor, to walks from it round to itself; compiled, states stay ruled out.

A given client is the anchor of every placement (`Opened`). A stage as the anchor is the first one (`walk_kernel`), or
the ring crosses from its last stage to its first somewhere on the way (`ring_kernel`): `Anchored`. Prices on
visits and credits on ways push walks towards placements; any of them give a valid bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from swarm_predict.search.chain import Bools, Chain
from swarm_predict.search.compiled import ring_kernel as ring
from swarm_predict.search.compiled import walk_kernel
from swarm_predict.search.compiled.compiled_walks import Compiled
from swarm_predict.search.walks.layered import ROUNDING
from swarm_predict.search.walks.walk_bound import States
from swarm_protocol.snapshot.swarm import Floats, Ints

_ENDS = 4  # walks that are traced a pass: the cheapest ones to different last nodes


@dataclass(frozen=True, slots=True)
class RingStates:
    """States that a better ring may pass, by layers covered since the anchor's first."""

    first: States  # the anchor is the first stage
    before: ring.May
    cross: ring.May
    after: ring.May

    def of(self, rows: Ints) -> RingStates:
        taken = [
            ring.May(np.take(may.arrive, rows, axis=1), np.take(may.finish, rows, axis=1))
            for may in (self.before, self.cross, self.after)
        ]
        return RingStates(self.first.of(rows), *taken)


def all_ring_states(chain: Chain, anchor: int) -> RingStates:
    shape = (chain.total + 1, len(chain))
    barred = np.ones(shape, dtype=np.bool_)
    barred[:, anchor] = False
    free = np.ones(shape, dtype=np.bool_)
    return RingStates(
        States(barred.copy(), free.copy()),
        ring.May(barred.copy(), free.copy()),
        ring.May(barred.copy(), free.copy()),
        ring.May(barred.copy(), barred.copy()),
    )


class Walk(NamedTuple):
    """One walk from the anchor round to itself."""

    value: float  # with prices and credits
    order: tuple[int, ...]  # the anchor first; repeats and all
    first: int  # place in the order of the first stage


class Anchored:
    """Compute walks under prices (n,) of visits and credits (n, n) of ways."""

    def __init__(
        self, chain: Chain, anchor: int, states: RingStates, prices: Floats, credits: Floats, paid_back: float
    ) -> None:
        """`paid_back`: what every walk gets back in the end, as the prices of one visit to each node."""
        assert chain.close is not None
        self.chain, self.anchor, self.states = chain, anchor, states
        self.prices, self._credit = prices, chain.constant - paid_back
        n = len(chain)
        hop, close = chain.hop - credits, chain.close - credits
        at_first = np.zeros(n, dtype=np.int64)
        at_first[anchor] = chain.first[anchor]
        only = np.zeros(n, dtype=np.int64)
        only[anchor] = chain.only[anchor]
        as_first = replace(chain, hop=hop, close=close, first=at_first, only=only)
        self._first = Compiled(as_first, states.first) if at_first[anchor] or only[anchor] else None
        self._visit = chain.overhead + prices
        crossing = close + chain.end[:, None] + chain.start
        np.fill_diagonal(crossing, np.inf)
        self._hop, self._crossing = hop, crossing
        nowhere = np.full(n, -1, np.int32)
        begin = np.full(n, np.inf)
        begin[anchor] = 0.0
        self._at_anchor = walk_kernel.End(begin, nowhere, np.full(n, np.inf), nowhere)
        self._round = walk_kernel.End(hop[:, anchor].copy(), np.full(n, anchor, np.int32), np.full(n, np.inf), nowhere)
        self._there: ring.Round | None = None

    def walks(self) -> tuple[float, list[Walk]]:
        """Return the bound and cheap walks, the cheapest among them."""
        chain = self.chain
        found = []
        if self._first is not None:
            found += [Walk(value, order, 0) for value, order in self._first.cheapest(self.prices, 1)]
        there = self._there = self._pass()
        finals = there.after.final
        caps = ring.Caps(chain.middle, chain.last, chain.first)
        for last in np.argsort(finals, kind="stable")[:_ENDS]:
            if not np.isfinite(finals[last]):
                break
            back, crossed = ring.trace_round(
                there, int(last), self._at_anchor, self._round, chain.layer, caps, chain.total
            )
            order = tuple(int(node) for node in back[::-1])
            found.append(Walk(float(finals[last]), order, len(order) - crossed))
        least = min((walk.value for walk in found), default=np.inf)
        return (least + self._credit) * (1 - ROUNDING), found

    def sieve(self, limit: float) -> Bools:
        """Return (n,) which nodes a ring below `limit` may use; rule out states as well."""
        total, prices, credit, states = self.chain.total, self.prices, self._credit, self.states
        keep, first = np.zeros(len(self.chain), dtype=np.bool_), states.first
        if self._first is not None:
            keep = self._first.sieve(prices, limit - credit + self.chain.constant - float(prices.sum())).keep
            first = self._first.states
        there = self._there or self._pass()
        back = self._pass_back()

        def left(may: ring.May, one: walk_kernel.Passed, other: walk_kernel.Passed) -> ring.May:
            arriving = (walk_kernel.meet(one, other, total) + credit) * (1 - ROUNDING)
            finishing = (walk_kernel.meet(other, one, total)[::-1] + credit) * (1 - ROUNDING)
            return ring.May(may.arrive & (arriving < limit), may.finish & (finishing < limit))

        self.states = RingStates(
            first,
            left(states.before, there.before, back.after),
            left(states.cross, there.cross, back.cross),
            left(states.after, there.after, back.before),
        )
        for may in (self.states.before, self.states.cross, self.states.after):
            keep = keep | may.arrive.any(axis=0)
        keep[self.anchor] = True
        return keep

    def _pass(self) -> ring.Round:
        chain, states = self.chain, self.states
        passed: ring.Round = ring.walk_round(
            *(walk_kernel.ways(self._hop.T), walk_kernel.ways(self._crossing.T), chain.layer, self._visit),
            *(ring.Caps(chain.middle, chain.last, chain.first), self._at_anchor, self._round, chain.total),
            *(states.before, states.cross, states.after),
        )
        return passed

    def _pass_back(self) -> ring.Round:
        """Run the pass on the reversed problem: last is first, and a node is left where it was entered."""
        chain, states = self.chain, self.states
        passed: ring.Round = ring.walk_round(
            *(walk_kernel.ways(self._hop), walk_kernel.ways(self._crossing), chain.layer, self._visit),
            *(ring.Caps(chain.middle, chain.first, chain.last), self._round, self._at_anchor, chain.total),
            *(_reversed(states.after), _reversed(states.cross), _reversed(states.before)),
        )
        return passed


class Opened:
    """Compute walks from the client back to it; the last price and credit are the client's."""

    def __init__(self, chain: Chain, states: States, prices: Floats, credits: Floats, paid_back: float) -> None:
        self.chain, self.states, self.prices = chain, states, prices
        self._client = len(chain)
        self._credit = chain.constant - paid_back
        charged = replace(chain, hop=chain.hop - credits[:-1, :-1], start=chain.start - credits[-1, :-1])
        self._passes = Compiled(charged, states)

    def walks(self) -> tuple[float, list[Walk]]:
        cheapest = self._passes.cheapest(self.prices[:-1], _ENDS)
        found = [Walk(value, (self._client, *order), 1) for value, order in cheapest]
        least = min((walk.value for walk in found), default=np.inf)
        return (least + self._credit) * (1 - ROUNDING), found

    def sieve(self, limit: float) -> Bools:
        prices = self.prices[:-1]
        keep = self._passes.sieve(prices, limit - self._credit + self.chain.constant - float(prices.sum())).keep
        self.states = self._passes.states
        return keep


def _reversed(may: ring.May) -> ring.May:
    return ring.May(np.ascontiguousarray(may.finish[::-1]), np.ascontiguousarray(may.arrive[::-1]))
