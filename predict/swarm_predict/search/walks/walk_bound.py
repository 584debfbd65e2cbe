"""Prove a lower bound for chains of any size, and find nodes that no better placement can use.

Relaxation: a walk that covers the layers from 0 up and may visit a node again. Dynamic programming over (layers
covered, node) finds the cheapest walk; prices on nodes, raised where the walk came back and lowered where it did not
come (subgradient), push it towards a path. Any prices give a valid bound. The same tables forwards and backwards give
the cheapest walk through each node: where even that is no better than the incumbent, the node is out.

A ring (no client given) closes from the last stage to the first, and the walk closes to whichever first is cheapest.
Tolls make that honest: whoever begins at f pays the toll of f, whoever closes to f gets it back, and subgradient
steps move the tolls until beginnings and closings meet (any tolls give a valid bound). `certify` splits the firsts into
ever smaller groups, down to one node, where the closing is exact; `branch_and_price` takes it for a first bound of the
rings that no anchor lies on.

Rings of two stages are not among the walks that remember where they came from: `certify` prices them itself.

How a pass is made is left to a Relaxation: `layered` in numpy, `compiled_walks` with numba.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from swarm_predict.search.chain import TIE_MS, Bools, Chain
from swarm_protocol.snapshot.swarm import Floats, Ints

_PATIENCE: Final = 4  # steps that do not raise the bound before the pace is halved
_SLOWEST: Final = 1 / 64  # of the first pace; what is gained below it does not pay for the steps


@dataclass(frozen=True, slots=True)
class Walk:
    """The cheapest walk under given prices and tolls."""

    bound: float
    order: tuple[int, ...]  # repeats and all; empty: there is none
    closes_to: int  # the first that it closes to; its own if there is nothing to close


@dataclass(frozen=True, slots=True)
class Sieve:
    """Return the nodes that a better placement may use: (n,) by the cheapest walk through each node."""

    keep: Bools  # a better placement may use it
    begin: Bools  # a better placement may begin at it


@dataclass(frozen=True, slots=True)
class States:
    """(total + 1, n) states, by layers covered, that a better placement may pass; once ruled out, they stay so."""

    arrive: Bools  # at the door of a node
    finish: Bools  # with its layers done

    def of(self, rows: Ints) -> States:
        return States(np.take(self.arrive, rows, axis=1), np.take(self.finish, rows, axis=1))


class Relaxation(Protocol):
    """The walks of one problem, while prices and tolls change."""

    @property
    def states(self) -> States | None:
        """Return the states ruled out so far, where they are kept."""
        ...

    def levy(self, tolls: Floats) -> None:
        """Charge tolls: a walk that begins at a node pays its toll, one that closes to it gets it back."""
        ...

    def forward(self, prices: Floats) -> Walk: ...

    def sieve(self, prices: Floats, limit: float) -> Sieve:
        """Return what a placement below `limit` may use."""
        ...


@dataclass(frozen=True, slots=True)
class Bound:
    bound: float
    keep: Bools
    begin: Bools
    prices: Floats
    tolls: Floats
    walks: tuple[tuple[int, ...], ...]  # walks met on the way: seeds for the descent
    steps: int


def tighten(
    chain: Chain,
    relaxation: Relaxation,
    best_cost: float,
    start: tuple[Floats, Floats],
    steps: int,
    out_of_time: Callable[[], bool],
) -> Bound:
    """Take up to `steps` subgradient steps from these prices and tolls; the best bound, and what it rules out against
    `best_cost`."""
    prices, tolls = start
    best_bound, best = -np.inf, start
    pace, stalled, taken = 1.0, 0, 0
    walks: list[tuple[int, ...]] = []
    while taken < steps:
        taken += 1
        relaxation.levy(tolls)
        walk = relaxation.forward(prices)
        if walk.order and walk.order not in walks[-8:]:
            walks.append(walk.order)
        if walk.bound > best_bound + TIE_MS:
            best_bound, best, stalled = walk.bound, (prices, tolls), 0
        else:
            stalled += 1
            if stalled >= _PATIENCE:
                pace, stalled, (prices, tolls) = pace / 2, 0, best
                if pace < _SLOWEST:
                    break
                continue
        if best_bound >= best_cost - TIE_MS or not walk.order or out_of_time():
            break
        visits = np.bincount(np.array(walk.order, dtype=np.int64), minlength=len(chain))
        slope = (visits - 1).astype(np.float64)
        slope[(prices <= 0) & (slope < 0) & ~chain.required] = 0.0
        begins = np.zeros(len(chain))
        begins[walk.order[0]] += 1
        begins[walk.closes_to] -= 1
        norm = float((slope * slope).sum() + (begins * begins).sum())
        if norm == 0:  # a path that breaks no rule: the bound is its cost
            break
        target = best_cost if np.isfinite(best_cost) else walk.bound * 1.1
        step = pace * max(target - walk.bound, TIE_MS) / norm
        prices = prices + slope * step
        prices = np.where(chain.required, prices, np.maximum(prices, 0.0))
        tolls = tolls + begins * step
    sifted = not out_of_time() and best_bound < best_cost - TIE_MS  # else the remaining nodes are not used
    return bound_of(chain, relaxation, best_bound, best, walks, taken, best_cost if sifted else np.inf)


def bound_of(
    chain: Chain,
    relaxation: Relaxation,
    bound: float,
    best: tuple[Floats, Floats],
    walks: Sequence[tuple[int, ...]],
    steps: int,
    best_cost: float,
) -> Bound:
    """With what the prices and tolls of this bound rule out against `best_cost`; infinite: nothing is looked for."""
    keep = begin = np.ones(len(chain), dtype=np.bool_)
    if np.isfinite(best_cost):
        relaxation.levy(best[1])
        left = relaxation.sieve(best[0], best_cost - TIE_MS)
        keep, begin = left.keep | chain.required, left.begin
    return Bound(bound, keep, begin, *best, tuple(walks), steps)


def no_prices(chain: Chain) -> tuple[Floats, Floats]:
    """Return initial prices: 0 for a visit, half of the cheapest closing to each node as its toll."""
    tolls = np.zeros(len(chain)) if chain.close is None else 0.5 * _known_min(chain.close)
    return np.zeros(len(chain)), tolls


def firsts_of(chain: Chain) -> Ints:
    return np.flatnonzero(np.maximum(chain.first, chain.only) > 0)


def closes_to(chain: Chain, order: tuple[int, ...], firsts: Ints, tolls: Floats) -> int:
    """Return the first node that the walk closes to: not its last, nor, if there is another, the one it came from
    before that."""
    if chain.close is None or len(order) < 2:
        return order[0] if order else 0
    others = firsts[~np.isin(firsts, order[-2:])]
    if not len(others):
        others = firsts[firsts != order[-1]]
    return int(others[int((chain.close[order[-1], others] - tolls[others]).argmin())])


def alone(chain: Chain) -> Floats:
    """Return (n,) the cost, prices apart, of each node as the only stage; infinite if it cannot be."""
    own = 0.0 if chain.close is None else np.diagonal(chain.close)
    cost = chain.start + chain.end + own + chain.overhead + chain.total * chain.layer
    return np.where(chain.only >= chain.total, cost, np.inf)


def _known_min(close: Floats) -> Floats:
    """Return the cheapest known closing to each first; 0, which claims nothing, if there is none."""
    held = close.copy()
    np.fill_diagonal(held, np.inf)
    low = held.min(axis=0, initial=np.inf)
    return np.where(np.isfinite(low), low, 0.0)
