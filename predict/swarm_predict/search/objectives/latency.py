"""Find the placement of least latency, over a star or a chain."""

from __future__ import annotations

import numpy as np

from swarm_predict.search.bounds.certify import certify
from swarm_predict.search.chain import Chain, chain_of, split_of
from swarm_predict.search.limits import EXACT_NODES
from swarm_predict.search.objectives.found import Found, Question, tie
from swarm_predict.search.solvers.descent import Descent
from swarm_predict.search.solvers.exact import solve_exact
from swarm_predict.search.solvers.star import solve_star
from swarm_protocol.snapshot.swarm import Ints


def least_latency(question: Question, stages_by_first: Ints | None = None) -> Found | None:
    tables = question.tables
    if (question.required & ~question.usable).any():
        return None
    if tables.pattern == "star":
        by_first = np.full(len(tables.names), question.max_stages, dtype=np.int64)
        if stages_by_first is not None:
            by_first = np.minimum(by_first, stages_by_first)
        star = solve_star(tables, question.usable, question.required, by_first, question.out_of_time)
        if star is None:
            return None
        value = tables.price(star.order, star.layers)
        bound = min(value, star.bound)
        return Found(tuple(star.order), tuple(star.layers), value, bound, value - bound <= tie(value))
    chain = chain_of(tables, question.usable, question.required, question.max_stages)
    if int(chain.required.sum()) < int(question.required.sum()):
        return None  # a required node cannot serve at all
    answer = _chain(chain, question)
    if answer is None:
        return None
    order, bound, exact = answer
    layers = split_of(chain, order)
    rows = [int(chain.rows[node]) for node in order]
    value = tables.price(rows, layers)
    return Found(tuple(rows), tuple(layers), value, value if exact else min(bound, value), exact)


def _chain(chain: Chain, question: Question) -> tuple[list[int], float, bool] | None:
    """(order, bound, exact) over rows of the chain."""
    n = len(chain)
    if n == 0 or chain.most.sum() < chain.total:
        return None
    descent = Descent(chain, question.seed, question.out_of_time)
    if question.warm:
        at = {int(row): i for i, row in enumerate(chain.rows)}
        descent.offer([tuple(at[row] for row in question.warm if row in at)])
    if question.prove or descent.best is None:
        descent.construct()
        if n > 10:
            descent.kick(12)
    if not question.prove:
        return None if descent.best is None else (descent.best, 0.0, False)
    if n <= EXACT_NODES:
        solved = solve_exact(chain, descent.best_cost, question.out_of_time)
        if solved is not None:
            order = solved[0] if solved[0] is not None else descent.best
            return None if order is None else (order, solved[1], True)
    order, bound, exact = certify(chain, descent, question.out_of_time)
    return None if order is None else (order, bound, exact)
