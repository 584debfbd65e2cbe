"""Bound the distance of a placement from the optimum: branch and price over nodes that placements go through.

Where a client is given, every placement goes through it (`through_node`), and parts are split by other nodes. A ring is
the same from wherever one looks at it, so a node is chosen, the anchor: rings through it are one part, those of the
other nodes the rest, which is treated in the same way. Anchors are what the cheap walks want most; without a few of
them rings are far dearer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from swarm_predict.search.bounds.best_first import best_first
from swarm_predict.search.bounds.subproblem import Part, mask_of, tightened
from swarm_predict.search.bounds.through_node import Through
from swarm_predict.search.chain import TIE_MS, Chain
from swarm_predict.search.compiled.compiled_walks import all_states
from swarm_predict.search.solvers.descent import Descent
from swarm_predict.search.solvers.exact import MAX_NODES, solve_exact
from swarm_predict.search.walks.walk_bound import no_prices
from swarm_protocol.snapshot.swarm import Ints

CLOSE_NODES: Final = 14  # few enough to finish exactly at any point
_STEPS: Final = 24  # subgradient steps on all nodes
_STEPS_REST: Final = 6  # on what is left of them without an anchor
_PASSES: Final = 10  # on rings through a node, before one looks again where the bound is lowest


def branch_and_price(
    chain: Chain, descent: Descent, out_of_time: Callable[[], bool]
) -> tuple[list[int] | None, float, bool]:
    """Return (order, bound, exact) over rows of the chain; the order is None if none is found."""
    firsts = np.flatnonzero(np.maximum(chain.first, chain.only) > 0)
    whole: Part | Through = Part(np.arange(len(chain)), firsts, no_prices(chain), -np.inf, states=all_states(chain))

    def work(part: Part | Through) -> list[Part | Through] | None:
        if isinstance(part, Part):
            steps = _STEPS_REST if np.isfinite(part.bound) else _STEPS
            return _anchored(chain, part, descent, steps, out_of_time)
        return _through(chain, part, descent, out_of_time)

    return best_first(whole, work, descent, out_of_time)


def _anchored(
    chain: Chain, part: Part, descent: Descent, steps: int, out_of_time: Callable[[], bool]
) -> list[Part | Through] | None:
    if len(part.at) <= CLOSE_NODES:
        return _exactly(chain, part.at, descent, out_of_time)
    left = tightened(chain, part, descent, steps, out_of_time)
    if left is None:
        return []
    if chain.close is None:
        return [Through(chain, left, len(chain))]
    required = chain.required[left.at]
    wanted = np.flatnonzero(required) if required.any() else np.arange(len(left.at))
    anchor = int(left.at[wanted[left.prices[0][wanted].argmax()]])
    through = Through(chain, left, anchor)
    return [through] if required.any() else [through, _without(left, anchor)]


def _without(part: Part, anchor: int) -> Part:
    keep = np.flatnonzero(part.at != anchor)
    firsts = np.zeros(len(part.at), dtype=np.bool_)
    firsts[part.firsts] = True
    assert part.states is not None
    return replace(
        part,
        at=part.at[keep],
        firsts=np.flatnonzero(firsts[keep]),
        prices=(part.prices[0][keep], part.prices[1][keep]),
        states=part.states.of(keep),
    )


def _through(
    chain: Chain, part: Through, descent: Descent, out_of_time: Callable[[], bool]
) -> list[Part | Through] | None:
    if len(part.at) <= CLOSE_NODES:
        return _exactly(chain, part.at, descent, out_of_time)
    met = part.work(descent.best_cost, descent.best, _PASSES, out_of_time)
    descent.offer(met, part.at)
    if part.bound >= descent.best_cost - TIE_MS:
        return []
    if not part.over:
        return [part]
    return [*part.split()] or _exactly(chain, part.at, descent, out_of_time)


def _exactly(chain: Chain, at: Ints, descent: Descent, out_of_time: Callable[[], bool]) -> list[Part | Through] | None:
    if len(at) > MAX_NODES:
        return None
    solved = solve_exact(chain.keep(mask_of(len(chain), at)), descent.best_cost, out_of_time)
    if solved is None:
        return None
    if solved[0] is not None:
        descent.take([int(at[node]) for node in solved[0]])
    return []
