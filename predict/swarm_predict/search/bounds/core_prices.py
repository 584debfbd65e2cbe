"""Find good prices for a large swarm from the few nodes that matter.

A step of the subgradient over a hundred nodes is a hundredth of one over a thousand, and most nodes are in no cheap
walk. So prices and tolls are found over a core and tried on all; where the cheapest walk of all goes through others,
those are of the core from then on (column generation). Any prices and tolls give a valid bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from swarm_predict.search.chain import TIE_MS, Chain
from swarm_predict.search.walks.walk_bound import Bound, Relaxation, bound_of, no_prices, tighten
from swarm_protocol.snapshot.swarm import Floats, Ints

_TURNS: Final = 4
_STEPS: Final = 24  # of the first turn where nothing is known yet
_MORE_STEPS: Final = 10  # from prices that were good for more rows, or fewer
_GAIN: Final = 0.05  # of the gap: a turn that gains less is the last


def tighten_from_core(
    chain: Chain,
    relaxation: Relaxation,
    part_of: Callable[[Ints], tuple[Chain, Relaxation]],
    core: Ints,
    best_cost: float,
    start: tuple[Floats, Floats],
    out_of_time: Callable[[], bool],
) -> Bound:
    """Return what `tighten` returns, for many rows. `part_of`: the same problem over some of them; `core`: those to
    begin with, ascending, firsts among them."""
    default = no_prices(chain)[1]
    best_bound, best, tried = -np.inf, start, start
    walks: list[tuple[int, ...]] = []
    steps = 0
    for _ in range(_TURNS):
        rest, inner = part_of(core)
        given = tried[0][core], tried[1][core]
        found = tighten(rest, inner, best_cost, given, _MORE_STEPS if tried[0].any() else _STEPS, out_of_time)
        prices, tolls = np.zeros(len(chain)), default + float((found.tolls - default[core]).mean())
        prices[core], tolls[core] = found.prices, found.tolls  # of tolls only differences count
        tried = prices, tolls
        relaxation.levy(tolls)
        walk = relaxation.forward(prices)
        steps += found.steps + 1
        walks.append(walk.order)
        gained = walk.bound - best_bound
        if gained > 0:
            best_bound, best = walk.bound, tried
        grown = np.union1d(core, np.array([*walk.order, walk.closes_to], dtype=np.int64))
        little = gained < _GAIN * max(best_cost - best_bound, 0.0)
        if len(grown) == len(core) or little or out_of_time() or best_bound >= best_cost - TIE_MS:
            break
        core = grown
    walks = [walk for walk in walks if walk]
    sifted = not out_of_time() and best_bound < best_cost - TIE_MS
    return bound_of(chain, relaxation, best_bound, best, walks, steps, best_cost if sifted else np.inf)
