"""How far from the best a chain placement can be: branch and bound over the first stage, for swarms of any size.

A part of the problem is a group of first nodes, the rows that a better placement beginning there may use, and prices.
Working on a part raises its bound, offers the walks it met to the descent, and drops rows. A part whose bound reaches
the incumbent is done; one of few rows is solved exactly; others are split by their firsts, then walk with more memory.
The part with the lowest bound is always next, for it is the bound of the whole.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.search_bound import Bound, Relaxation, States, no_prices, tighten
from swarm_predict.search_chain import TIE_MS, Bools, Chain, cost_of
from swarm_predict.search_core import tighten_from_core
from swarm_predict.search_exact import MAX_NODES, solve_exact
from swarm_predict.search_fast import fast
from swarm_predict.search_layered import Layered
from swarm_predict.search_local import Descent
from swarm_protocol.swarm import Floats, Ints

_CLOSE_NODES: Final = 14  # few enough to finish exactly at any point
_MEMORIES: Final = (2, 4, 6, 7)  # of the walks, one after the other
_CORE_FROM: Final = 150  # rows; of fewer a step costs so little that all of them take part
_STEPS: Final = 24  # subgradient steps on a part at a time
_STEPS_ONE: Final = 5  # where it begins at one node: what a few steps rule out makes the next ones cheap
_WALKS: Final = 24  # that are kept, to choose by what longer memories remember
_STEP_ROWS: Final = 150  # with more rows, fewer steps
_WORTH: Final = 0.25  # of the gap: a part that gained so much of it is tried again as it is
_MOST_ARCS: Final = 400_000  # of a walk with memory: more would take a second for a few steps
_KICK_EVERY: Final = 8  # parts, and then so many kicks of the incumbent: a better one rules out more
_KICKS: Final = 2
_MOST_GROUPS: Final = 128  # of one split: with one first each, most parts are ruled out in a step or two
_LEAST_GROUPS: Final = 8
_SPLIT_WORK: Final = 3e8  # sums that one pass over each of the groups may take: as much as half a second to a second
_NOWHERE: Final = 1e9  # milliseconds to a node that cannot be reached, to keep distances finite
_MOST_PARTS: Final = 2000  # worked on in all, whatever the clock says


@dataclass(frozen=True, slots=True)
class _Part:
    at: Ints  # rows of the whole problem
    firsts: Ints  # positions in `at`
    prices: tuple[Floats, Floats]  # of visits, and the tolls of beginnings
    bound: float
    memory: int  # index into _MEMORIES
    states: States | None  # None: without numba
    walks: tuple[tuple[int, ...], ...] = ()  # cheap ones met lately, over rows of the whole problem


def certify(chain: Chain, descent: Descent, out_of_time: Callable[[], bool]) -> tuple[list[int] | None, float, bool]:
    """(order, bound, exact) over rows of the chain; the order is None where none is found."""
    firsts = np.flatnonzero(np.maximum(chain.first, chain.only) > 0)
    n = len(chain)
    loops = fast()
    for pair in _best_pair(chain):
        descent.take(pair)
    queue: list[tuple[float, int, _Part]] = []
    given_up = np.inf  # the lowest bound of parts that nothing more is tried on
    states = None if loops is None else loops.relaxation.all_states(chain)
    heapq.heappush(queue, (-np.inf, 0, _Part(np.arange(n), firsts, no_prices(chain), -np.inf, 0, states)))
    worked = 0
    while queue and queue[0][0] < descent.best_cost - TIE_MS:
        if worked and (out_of_time() or worked >= _MOST_PARTS or queue[0][0] >= given_up):
            break
        _, _, part = heapq.heappop(queue)
        children = _work(chain, part, descent, out_of_time)
        if children is None:
            given_up = min(given_up, part.bound)
            continue
        if worked % _KICK_EVERY == 0:
            descent.kick(_KICKS)
        for child in children:
            worked += 1
            heapq.heappush(queue, (child.bound, worked, child))
    bound = min(given_up, queue[0][0] if queue else np.inf)
    if bound >= descent.best_cost - TIE_MS:
        return descent.best, descent.best_cost, True
    return descent.best, bound, False


def _work(chain: Chain, part: _Part, descent: Descent, out_of_time: Callable[[], bool]) -> list[_Part] | None:
    """What is left of the part, in one or several; None where nothing more is tried."""
    rest = _narrowed(chain, part)
    if len(part.at) <= _CLOSE_NODES or (len(part.at) <= MAX_NODES and part.memory > 0 and len(part.firsts) <= 4):
        solved = solve_exact(rest, descent.best_cost, out_of_time)
        if solved is None:
            return None
        if solved[0] is not None:
            descent.take([int(part.at[node]) for node in solved[0]])
        return []
    memory = _MEMORIES[part.memory]
    splits = len(part.firsts) > 1
    loops = fast() if memory <= 2 else None
    if loops is None and len(part.at) ** 2 << (memory - 1) > _MOST_ARCS and memory > 2:
        return _split(rest, part) if splits else None
    relaxation = _relaxation(rest, part)
    if loops is not None and len(part.at) > _CORE_FROM and descent.best is not None:
        found = _from_core(rest, relaxation, part, descent, out_of_time)
    else:
        steps = max(4, (_STEPS if splits else _STEPS_ONE) * _STEP_ROWS // max(_STEP_ROWS, len(part.at)))
        found = tighten(rest, relaxation, descent.best_cost, part.prices, steps, out_of_time)
    walks = tuple(tuple(int(part.at[node]) for node in walk) for walk in found.walks)
    if splits:
        descent.offer(walks[-4:])
    bound = max(part.bound, found.bound)
    if bound >= descent.best_cost - TIE_MS:
        return []
    left = np.flatnonzero(found.keep)
    firsts = np.flatnonzero(np.isin(left, part.firsts[found.begin[part.firsts]]))
    if not len(firsts):
        return []
    states = part.states if relaxation.states is None else relaxation.states
    thinner = _Part(
        part.at[left],
        firsts,
        (found.prices[left], found.tolls[left]),
        bound,
        part.memory,
        None if states is None else states.of(left),
        (*part.walks, *walks)[-_WALKS:],
    )
    gained = np.isfinite(part.bound) and bound - part.bound > _WORTH * (descent.best_cost - part.bound)
    if len(left) <= _CLOSE_NODES or len(left) < 0.8 * len(part.at) or gained:
        return [thinner]
    if splits and len(firsts) > 1:
        groups = _split(chain.keep(_mask(len(chain), thinner.at)), thinner)
        return _looked_at(chain, groups, descent.best_cost, out_of_time)
    if part.memory + 1 < len(_MEMORIES):
        return [replace(thinner, memory=part.memory + 1)]
    return [thinner] if bound > part.bound * 1.002 else None


def _from_core(
    rest: Chain, relaxation: Relaxation, part: _Part, descent: Descent, out_of_time: Callable[[], bool]
) -> Bound:
    near = np.flatnonzero(np.isin(part.at, descent.near_best()))
    if len(part.firsts) <= len(near) or not np.isin(near, part.firsts).any():
        near = np.union1d(near, part.firsts)

    def part_of(core: Ints) -> tuple[Chain, Relaxation]:
        inner = rest.keep(_mask(len(rest), core))
        states = None if part.states is None else part.states.of(core)
        firsts = np.flatnonzero(np.isin(core, part.firsts))
        return inner, _relaxation(inner, replace(part, at=part.at[core], firsts=firsts, states=states))

    return tighten_from_core(rest, relaxation, part_of, near, descent.best_cost, part.prices, out_of_time)


def _relaxation(rest: Chain, part: _Part) -> Relaxation:
    memory = _MEMORIES[part.memory]
    loops = fast() if memory <= 2 else None
    if loops is None or part.states is None:
        place = {int(row): node for node, row in enumerate(part.at)}
        return Layered(rest, memory, [[place[row] for row in walk if row in place] for walk in part.walks])
    compiled: Relaxation = loops.relaxation.Compiled(rest, part.states)
    return compiled


def _looked_at(chain: Chain, parts: list[_Part], best_cost: float, out_of_time: Callable[[], bool]) -> list[_Part]:
    """One pass over each: with its own firsts alone a part's bound is mostly far above that of the whole, and the steps
    go to those few where it is not."""
    kept = []
    for part in parts:
        if out_of_time():
            kept.append(part)
            continue
        relaxation = _relaxation(_narrowed(chain, part), part)
        prices, tolls = part.prices
        relaxation.levy(tolls)
        bound = max(part.bound, relaxation.forward(prices).bound)
        if bound < best_cost - TIE_MS:
            kept.append(replace(part, bound=bound))
    return kept


def _best_pair(chain: Chain) -> list[list[int]]:
    """The best ring of two stages, if any two nodes hold the model: walks do not go straight back."""
    if chain.close is None or chain.max_stages < 2:
        return []
    pairs = np.argwhere((chain.first[:, None] > 0) & (chain.first[:, None] + chain.last >= chain.total))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if not len(pairs):
        return []
    return [[int(node) for node in pairs[int(cost_of(chain, pairs).argmin())]]]


def _narrowed(chain: Chain, part: _Part) -> Chain:
    """The part's rows; only its firsts can be first."""
    rest = chain.keep(_mask(len(chain), part.at))
    other = np.ones(len(part.at), dtype=np.bool_)
    other[part.firsts] = False
    return replace(rest, first=np.where(other, 0, rest.first), only=np.where(other, 0, rest.only))


def _mask(n: int, at: Ints) -> Bools:
    mask = np.zeros(n, dtype=np.bool_)
    mask[at] = True
    return mask


def _split(rest: Chain, part: _Part) -> list[_Part]:
    """The same part for groups of firsts, neighbours together: halved until each is one node, or small."""
    far = np.minimum(np.where(np.isfinite(rest.hop), rest.hop, _NOWHERE), _NOWHERE)
    np.fill_diagonal(far, 0.0)
    far = far + far.T
    affordable = int(_SPLIT_WORK / (len(rest) ** 2 * rest.total))
    most = -(-len(part.firsts) // min(max(affordable, _LEAST_GROUPS), _MOST_GROUPS))
    groups, ready = [part.firsts], []
    while groups:
        group = groups.pop()
        if len(group) <= most:
            ready.append(group)
        else:
            groups += _halved(far, group)
    return [replace(part, firsts=group) for group in ready]


def _halved(far: Floats, group: Ints) -> list[Ints]:
    """Two groups of one size: those nearer to one end, and those nearer to the other."""
    if len(group) < 2:
        return [group]
    one = int(group[int(far[group[0], group].argmax())])
    other = int(group[int(far[one, group].argmax())])
    nearer = far[one, group] - far[other, group]
    by_side = group[np.argsort(nearer, kind="stable")]
    middle = len(group) // 2
    return [np.sort(by_side[:middle]), np.sort(by_side[middle:])]
