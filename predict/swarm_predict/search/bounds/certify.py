"""Bound the distance of a chain placement from the optimum, for swarms of any size.

Where the compiled loops are there that is `branch_and_price`. Without them it is done here, in numpy: branch and
bound over the first stage. A part of the problem is a group of first nodes, the rows that a better placement beginning
there may use, and prices. Working on a part raises its bound, offers the walks it met to the descent, and drops rows. A
part whose bound reaches the incumbent is done; one of few rows is solved exactly; others are split by their firsts,
then walk with more memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from swarm_predict.search.bounds.best_first import best_first
from swarm_predict.search.bounds.subproblem import MEMORIES, Part, mask_of, narrowed, relaxation_of, tightened
from swarm_predict.search.chain import TIE_MS, Chain, cost_of
from swarm_predict.search.compiled.availability import fast
from swarm_predict.search.solvers.descent import Descent
from swarm_predict.search.solvers.exact import MAX_NODES, solve_exact
from swarm_predict.search.walks.walk_bound import no_prices
from swarm_protocol.snapshot.swarm import Floats, Ints

_CLOSE_NODES: Final = 14  # few enough to finish exactly at any point
_STEPS: Final = 24  # subgradient steps on a part at a time
_STEPS_ONE: Final = 5  # where it begins at one node: what a few steps rule out makes the next ones cheap
_WORTH: Final = 0.25  # of the gap: a part that closed this share of it is retried unsplit
_MAX_ARCS: Final = 400_000  # of a walk with memory: more would take a second for a few steps
_MAX_GROUPS: Final = 128  # of one split: with one first each, most parts are ruled out in a step or two
_MIN_GROUPS: Final = 8
_SPLIT_WORK: Final = 3e8  # sums that one pass over each of the groups may take: as much as half a second to a second
_NOWHERE: Final = 1e9  # milliseconds to a node that cannot be reached, to keep distances finite


def certify(chain: Chain, descent: Descent, out_of_time: Callable[[], bool]) -> tuple[list[int] | None, float, bool]:
    """Return (order, bound, exact) over rows of the chain; the order is None if none is found."""
    for pair in _best_pair(chain):
        descent.take(pair)
    if fast() is not None:
        from swarm_predict.search.bounds.branch_and_price import (
            branch_and_price,  # needs what `availability` has just found
        )

        return branch_and_price(chain, descent, out_of_time)
    firsts = np.flatnonzero(np.maximum(chain.first, chain.only) > 0)
    whole = Part(np.arange(len(chain)), firsts, no_prices(chain), -np.inf)
    return best_first(whole, lambda part: _work(chain, part, descent, out_of_time), descent, out_of_time)


def _work(chain: Chain, part: Part, descent: Descent, out_of_time: Callable[[], bool]) -> list[Part] | None:
    """Return the rest of the part, in one or several; None if it is finished."""
    rest = narrowed(chain, part)
    if len(part.at) <= _CLOSE_NODES or (len(part.at) <= MAX_NODES and part.memory > 0 and len(part.firsts) <= 4):
        solved = solve_exact(rest, descent.best_cost, out_of_time)
        if solved is None:
            return None
        if solved[0] is not None:
            descent.take([int(part.at[node]) for node in solved[0]])
        return []
    memory = MEMORIES[part.memory]
    splits = len(part.firsts) > 1
    if len(part.at) ** 2 << (memory - 1) > _MAX_ARCS and memory > 2:
        return _split(rest, part) if splits else None
    thinner = tightened(chain, part, descent, _STEPS if splits else _STEPS_ONE, out_of_time)
    if thinner is None:
        return []
    bound = thinner.bound
    gained = np.isfinite(part.bound) and bound - part.bound > _WORTH * (descent.best_cost - part.bound)
    if len(thinner.at) <= _CLOSE_NODES or len(thinner.at) < 0.8 * len(part.at) or gained:
        return [thinner]
    if splits and len(thinner.firsts) > 1:
        groups = _split(chain.keep(mask_of(len(chain), thinner.at)), thinner)
        return _looked_at(chain, groups, descent.best_cost, out_of_time)
    if part.memory + 1 < len(MEMORIES):
        return [replace(thinner, memory=part.memory + 1)]
    return [thinner] if bound > part.bound * 1.002 else None


def _looked_at(chain: Chain, parts: list[Part], best_cost: float, out_of_time: Callable[[], bool]) -> list[Part]:
    """Price each part once: with its own firsts alone a part's bound is mostly far above that of the whole, and the
    steps go to those few where it is not."""
    kept = []
    for part in parts:
        if out_of_time():
            kept.append(part)
            continue
        relaxation = relaxation_of(chain, part)
        prices, tolls = part.prices
        relaxation.levy(tolls)
        bound = max(part.bound, relaxation.forward(prices).bound)
        if bound < best_cost - TIE_MS:
            kept.append(replace(part, bound=bound))
    return kept


def _best_pair(chain: Chain) -> list[list[int]]:
    """Return the best ring of two stages, if any two nodes hold the model: walks do not go straight back."""
    if chain.close is None or chain.max_stages < 2:
        return []
    pairs = np.argwhere((chain.first[:, None] > 0) & (chain.first[:, None] + chain.last >= chain.total))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if not len(pairs):
        return []
    return [[int(node) for node in pairs[int(cost_of(chain, pairs).argmin())]]]


def _split(rest: Chain, part: Part) -> list[Part]:
    """Split a part into groups of firsts, neighbours together: halved until each is one node, or small."""
    far = np.minimum(np.where(np.isfinite(rest.hop), rest.hop, _NOWHERE), _NOWHERE)
    np.fill_diagonal(far, 0.0)
    far = far + far.T
    affordable = int(_SPLIT_WORK / (len(rest) ** 2 * rest.total))
    most = -(-len(part.firsts) // min(max(affordable, _MIN_GROUPS), _MAX_GROUPS))
    groups, ready = [part.firsts], []
    while groups:
        group = groups.pop()
        if len(group) <= most:
            ready.append(group)
        else:
            groups += _halved(far, group)
    return [replace(part, firsts=group) for group in ready]


def _halved(far: Floats, group: Ints) -> list[Ints]:
    """Return two groups of one size: those nearer to one end, and those nearer to the other."""
    if len(group) < 2:
        return [group]
    one = int(group[int(far[group[0], group].argmax())])
    other = int(group[int(far[one, group].argmax())])
    nearer = far[one, group] - far[other, group]
    by_side = group[np.argsort(nearer, kind="stable")]
    middle = len(group) // 2
    return [np.sort(by_side[:middle]), np.sort(by_side[middle:])]
