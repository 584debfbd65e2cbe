"""Run the loops of `descent` compiled: price every neighbour of an order in turn and take the best.

Loaded only if numba is installed. An order that lacks room pays so much for each layer left over that filling it
up comes first, so that repairing and improving are one thing.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from swarm_predict.search.chain import Chain
from swarm_protocol.snapshot.swarm import Floats, Ints

INF = np.inf
LEFT_OVER = 1e7  # a layer without a place costs more than any real step
GAIN = 1e-9  # sums in another order differ by less


class Problem(NamedTuple):
    """The arrays of a Chain, as compiled loops take them."""

    hop: Floats
    layer: Floats
    overhead: Floats
    caps: Ints  # (4, n) middle, first, last, only
    start: Floats
    end: Floats
    close: Floats  # (n, n), zeros where nothing closes
    total: int
    max_stages: int
    fixed: Ints  # (n,) 1: may not go


def problem_of(chain: Chain) -> Problem:
    n = len(chain)
    return Problem(
        hop=np.ascontiguousarray(chain.hop),
        layer=chain.layer,
        overhead=chain.overhead,
        caps=np.stack([chain.middle, chain.first, chain.last, chain.only]).astype(np.int64),
        start=chain.start,
        end=chain.end,
        close=np.zeros((n, n)) if chain.close is None else np.ascontiguousarray(chain.close),
        total=chain.total,
        max_stages=chain.max_stages,
        fixed=chain.required.astype(np.int64),
    )


@numba.njit(cache=True, nogil=True)
def _ways(order: Ints, size: int, p: Problem) -> float:
    cost = p.start[order[0]] + p.end[order[size - 1]] + p.close[order[size - 1], order[0]]
    for k in range(size - 1):
        cost += p.hop[order[k], order[k + 1]]
    return cost


@numba.njit(cache=True, nogil=True)
def _split(order: Ints, size: int, p: Problem, by_speed: Ints) -> float:
    """Split the layers as `chain` does; rows are numbered by speed."""
    if size > p.total:
        return INF
    first, last = order[0], order[size - 1]
    for k in range(size):
        node, at = order[k], k
        while at > 0 and by_speed[at - 1] > node:
            by_speed[at] = by_speed[at - 1]
            at -= 1
        by_speed[at] = node
    left, cost = p.total - size, 0.0
    for k in range(size):
        node = by_speed[k]
        place = 3 if size == 1 else 1 if node == first else 2 if node == last else 0
        room = p.caps[place, node]
        if room < 1:
            return INF
        more = min(left, room - 1)
        cost += p.overhead[node] + (more + 1) * p.layer[node]
        left -= more
    return cost + left * LEFT_OVER


@numba.njit(cache=True, nogil=True)
def _inserted(short: Ints, rest: int, newcomer: int, place: int, into: Ints) -> None:
    into[:place] = short[:place]
    into[place] = newcomer
    into[place + 1 : rest + 1] = short[place:rest]


@numba.njit(cache=True, nogil=True)
def descend(begin: Ints, pool: Ints, p: Problem) -> Ints:
    """Descend from `begin` by the best of: drop a stage, insert one of `pool`, replace, move a stage, reverse a run."""
    most = max(p.max_stages, len(begin)) + 1
    order, best = np.empty(most, np.int64), np.empty(most, np.int64)
    trial, short, scratch = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    inside = np.zeros(len(p.layer), np.int64)
    size = len(begin)
    order[:size] = begin
    cost = _ways(order, size, p) + _split(order, size, p, scratch)
    while True:
        best_cost, best_size = cost - GAIN, 0
        inside[:] = 0
        for k in range(size):
            inside[order[k]] = 1
        for out in range(-1, size):  # −1: none leaves
            stays = out >= 0 and p.fixed[order[out]] == 1
            rest = 0
            for k in range(size):
                if k != out:
                    short[rest] = order[k]
                    rest += 1
            if rest == 0 or (out < 0 and size >= p.max_stages):
                continue
            base = _ways(short, rest, p)
            if out >= 0 and not stays:
                value = base + _split(short, rest, p, scratch)
                if value < best_cost:
                    best_cost, best_size = value, rest
                    best[:rest] = short[:rest]
            for q in range(0 if out < 0 else -1, 0 if stays else len(pool)):  # −1: who went comes back elsewhere
                newcomer = order[out] if q < 0 else pool[q]
                if q >= 0 and inside[newcomer] == 1:
                    continue
                # inside the order the layers do not depend on the place: the shortest detour, then one split
                detour, inner = INF, -1
                for place in range(1, rest):
                    one, other = short[place - 1], short[place]
                    more = p.hop[one, newcomer] + p.hop[newcomer, other] - p.hop[one, other]
                    if more < detour and not (q < 0 and place == out):
                        detour, inner = more, place
                for side in range(3):  # first, last, inside
                    place = 0 if side == 0 else rest if side == 1 else inner
                    if place < 0 or (q < 0 and place == out):
                        continue
                    _inserted(short, rest, newcomer, place, trial)
                    value = base + detour if side == 2 and base < INF else _ways(trial, rest + 1, p)
                    if value >= best_cost:
                        continue
                    value += _split(trial, rest + 1, p, scratch)
                    if value < best_cost:
                        best_cost, best_size = value, rest + 1
                        best[: rest + 1] = trial[: rest + 1]
        for i in range(size - 1):
            for j in range(i + 1, size):
                for k in range(size):
                    trial[k] = order[i + j - k] if i <= k <= j else order[k]
                value = _ways(trial, size, p)
                if value >= best_cost:
                    continue
                value += _split(trial, size, p, scratch)
                if value < best_cost:
                    best_cost, best_size = value, size
                    best[:size] = trial[:size]
        if best_size == 0:
            return order[:size].copy()
        cost, size = best_cost, best_size
        order[:size] = best[:size]
