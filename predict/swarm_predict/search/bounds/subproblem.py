"""Describe a part of a search: some nodes, those that may be first, and the prices at which its walks are cheapest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.search.bounds.core_prices import tighten_from_core
from swarm_predict.search.chain import TIE_MS, Bools, Chain
from swarm_predict.search.compiled.availability import fast
from swarm_predict.search.solvers.descent import Descent
from swarm_predict.search.walks.layered import Layered
from swarm_predict.search.walks.walk_bound import Bound, Relaxation, States, tighten
from swarm_protocol.snapshot.swarm import Floats, Ints

MEMORIES: Final = (2, 4, 6, 7)  # of the walks, one after the other
_CORE_FROM: Final = 150  # rows; of fewer a step costs so little that all of them take part
_STEP_ROWS: Final = 150  # with more rows, fewer steps
_WALKS: Final = 24  # that are kept, to choose by what longer memories remember


@dataclass(frozen=True, slots=True)
class Part:
    at: Ints  # rows of the whole problem
    firsts: Ints  # positions in `at`
    prices: tuple[Floats, Floats]  # of visits, and the tolls of beginnings
    bound: float
    memory: int = 0  # index into MEMORIES, where walks remember
    states: States | None = None  # where walks are compiled, what of them is ruled out
    walks: tuple[tuple[int, ...], ...] = ()  # cheap ones met lately, over rows of the whole problem


def tightened(chain: Chain, part: Part, descent: Descent, steps: int, out_of_time: Callable[[], bool]) -> Part | None:
    """Tighten the part's bound, drop what that rules out and offer its walks to the descent; None if nothing is
    left."""
    rest = narrowed(chain, part)
    relaxation = _relaxation(rest, part)
    if relaxation.states is not None and len(part.at) > _CORE_FROM and descent.best is not None:
        found = _from_core(rest, relaxation, part, descent, out_of_time)
    else:
        few = max(4, steps * _STEP_ROWS // max(_STEP_ROWS, len(part.at)))
        found = tighten(rest, relaxation, descent.best_cost, part.prices, few, out_of_time)
    walks = tuple(tuple(int(part.at[node]) for node in walk) for walk in found.walks)
    if len(part.firsts) > 1:
        descent.offer(walks[-2:])
    bound = max(part.bound, found.bound)
    if bound >= descent.best_cost - TIE_MS:
        return None
    left = np.flatnonzero(found.keep)
    firsts = np.flatnonzero(np.isin(left, part.firsts[found.begin[part.firsts]]))
    if not len(firsts):
        return None
    states = part.states if relaxation.states is None else relaxation.states
    return Part(
        part.at[left],
        firsts,
        (found.prices[left], found.tolls[left]),
        bound,
        part.memory,
        None if states is None else states.of(left),
        (*part.walks, *walks)[-_WALKS:],
    )


def narrowed(chain: Chain, part: Part) -> Chain:
    """Return the chain of the part's rows; only its firsts can be first."""
    rest = chain.keep(mask_of(len(chain), part.at))
    other = np.ones(len(part.at), dtype=np.bool_)
    other[part.firsts] = False
    return replace(rest, first=np.where(other, 0, rest.first), only=np.where(other, 0, rest.only))


def mask_of(n: int, at: Ints) -> Bools:
    mask = np.zeros(n, dtype=np.bool_)
    mask[at] = True
    return mask


def relaxation_of(chain: Chain, part: Part) -> Relaxation:
    return _relaxation(narrowed(chain, part), part)


def _relaxation(rest: Chain, part: Part) -> Relaxation:
    loops = fast()
    if loops is None or part.states is None:
        place = {int(row): node for node, row in enumerate(part.at)}
        return Layered(
            rest, MEMORIES[part.memory], [[place[row] for row in walk if row in place] for walk in part.walks]
        )
    compiled: Relaxation = loops.compiled.Compiled(rest, part.states)
    return compiled


def _from_core(
    rest: Chain, relaxation: Relaxation, part: Part, descent: Descent, out_of_time: Callable[[], bool]
) -> Bound:
    near = np.flatnonzero(np.isin(part.at, descent.near_best()))
    if len(part.firsts) <= len(near) or not np.isin(near, part.firsts).any():
        near = np.union1d(near, part.firsts)

    def part_of(core: Ints) -> tuple[Chain, Relaxation]:
        inner = rest.keep(mask_of(len(rest), core))
        states = None if part.states is None else part.states.of(core)
        firsts = np.flatnonzero(np.isin(core, part.firsts))
        return inner, _relaxation(inner, replace(part, at=part.at[core], firsts=firsts, states=states))

    return tighten_from_core(rest, relaxation, part_of, near, descent.best_cost, part.prices, out_of_time)
