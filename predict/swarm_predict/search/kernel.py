"""The walk relaxation of `bound`, compiled: walks that never go straight back to the node they came from.

Loaded only where numba is installed and the swarm is large enough to need a bound; machine code is cached on disk, so
only the first plan after an installation waits for the compiler. Without numba `walk` does the same in numpy,
several times slower.

A state is (layers covered, node); for each the cheapest way and the cheapest from another node than that are kept, so
that a step back to where the cheapest came from takes the second. Run over the reversed problem the same loops give
what is still to pay, and both together which states no placement below the incumbent passes: those are skipped for
good (whatever the prices), which makes every further pass cheaper.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from swarm_predict.search.chain import Bools
from swarm_protocol.swarm import Floats, Ints

INF = np.inf
Nodes = npt.NDArray[np.int32]


class End(NamedTuple):
    """(n,) what a walk pays at its begin or its end in each node, and to which node that ties it."""

    cost: Floats
    beyond: Nodes  # the node that the cheapest leads to; −1: none, an open end
    cost2: Floats  # the cheapest that leads to another one
    beyond2: Nodes


def open_end(cost: Floats) -> End:
    nowhere = np.full(len(cost), -1, np.int32)
    return End(cost, nowhere, np.full(len(cost), INF), nowhere)


def closed_end(cost: Floats, ways: Floats, to: Ints) -> End:
    """`ways` (n, m) lead from each node to each of `to`."""
    rows = np.arange(len(cost))
    best = ways.argmin(axis=1)
    rest = ways.copy()
    rest[rows, best] = INF
    second = rest.argmin(axis=1)
    beyond, beyond2 = to[best].astype(np.int32), to[second].astype(np.int32)
    return End(cost + ways[rows, best], beyond, cost + rest[rows, second], beyond2)


class Passed(NamedTuple):
    """Of one pass: (total + 1, n) by layers covered, but for `final`."""

    final: Floats  # (n,) the cheapest walk that ends at a node, of two stages or more
    arrive: Floats  # at the door of a node
    arrive2: Floats  # from another node than `source`
    source: Nodes
    source2: Nodes
    done: Floats  # with the node's layers done
    done2: Floats  # having come from another node than `before`
    before: Nodes  # where the walk began, what its begin ties it to
    before2: Nodes


@numba.njit(cache=True, nogil=True)
def walk(
    hop_to: Floats,  # (n, n) [to, from]
    near: Nodes,  # (n, n) [to]: from whom, the nearest first
    layer: Floats,  # (n,)
    visit: Floats,  # (n,) overhead and price
    start: End,  # of beginning at a node, infinite where none may
    first: Ints,  # (n,) capacities by place
    middle: Ints,
    last: Ints,
    end: End,
    total: int,
    may_arrive: Bools,  # (total + 1, n) states that a better placement may pass, at the door of a node
    may_finish: Bools,  # and with its layers done
) -> Passed:
    n = len(layer)
    shape = (total + 1, n)
    arrive, arrive2 = np.full(shape, INF), np.full(shape, INF)
    source, source2 = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    done, done2 = np.full(shape, INF), np.full(shape, INF)
    before, before2 = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    # arrivals less what the layers before them would cost here: what a window of stages is chosen by
    slack, slack2 = np.full((n, total + 1), INF), np.full((n, total + 1), INF)
    found, whom = np.empty(n), np.empty(n, np.int64)
    for covered in range(1, total):
        live = 0
        for v in range(n):
            if not may_finish[covered, v]:
                continue
            best, best2, from1, from2 = INF, INF, -1, -1
            if covered <= first[v]:
                best, from1 = start.cost[v] + covered * layer[v], start.beyond[v]
                best2, from2 = start.cost2[v] + covered * layer[v], start.beyond2[v]
            work = covered * layer[v]
            best, best2 = best - work, best2 - work  # as slack, until the window is through
            for m in range(max(1, covered - middle[v]), covered):
                value = slack[v, m]
                if value >= best2 and value >= best:
                    continue
                whence = source[m, v]
                if whence == from1:
                    best = min(best, value)
                elif value < best:
                    best2, from2, best, from1 = best, from1, value, whence
                else:
                    best2, from2 = value, whence
                value, whence = slack2[v, m], source2[m, v]
                if value >= best2 and value >= best:
                    continue
                if whence == from1:
                    best = min(best, value)
                elif value < best:
                    best2, from2, best, from1 = best, from1, value, whence
                else:
                    best2, from2 = value, whence
            best, best2 = best + work, best2 + work
            if best == INF:
                continue
            done[covered, v], done2[covered, v] = best + visit[v], best2 + visit[v]
            before[covered, v], before2[covered, v] = from1, from2
            found[live], whom[live] = best + visit[v], v
            live += 1
        by_cost = np.argsort(found[:live])
        for w in range(n):
            if not may_arrive[covered, w]:
                continue
            best, best2, from1, from2 = INF, INF, -1, -1
            for k in range(live):  # the cheapest done and the nearest in turn (Fagin's threshold algorithm)
                for turn in range(2):
                    u = whom[by_cost[k]] if turn == 0 else near[w, k]
                    if u in (from1, from2):
                        continue
                    value = hop_to[w, u] + (done[covered, u] if before[covered, u] != w else done2[covered, u])
                    if value < best2:
                        if value < best:
                            best2, from2, best, from1 = best, from1, value, u
                        else:
                            best2, from2 = value, u
                if found[by_cost[k]] + hop_to[w, near[w, k]] >= best2:
                    break  # whoever was not looked at is dearer and farther
            arrive[covered, w], source[covered, w] = best, from1
            arrive2[covered, w], source2[covered, w] = best2, from2
            slack[w, covered], slack2[w, covered] = best - covered * layer[w], best2 - covered * layer[w]
    final = np.full(n, INF)
    for v in range(n):
        for m in range(max(1, total - last[v]), total):
            work = (total - m) * layer[v]
            out = end.cost[v] if source[m, v] != end.beyond[v] else end.cost2[v]
            final[v] = min(final[v], arrive[m, v] + work + out)
            out = end.cost[v] if source2[m, v] != end.beyond[v] else end.cost2[v]
            final[v] = min(final[v], arrive2[m, v] + work + out)
        final[v] += visit[v]
    return Passed(final, arrive, arrive2, source, source2, done, done2, before, before2)


@numba.njit(cache=True, nogil=True)
def trace(
    passed: Passed, ends_at: int, start: End, end: End, layer: Floats, first: Ints, middle: Ints, last: Ints, total: int
) -> Ints:
    """The nodes of the cheapest walk of two stages or more that ends there, from its end."""
    order = np.empty(total + 1, np.int64)
    v = np.int64(ends_at)
    length, covered, after = 0, total, np.int64(-2)
    while True:
        order[length] = v
        length += 1
        # the cheapest way to be done here, having come from another node than the one that comes `after`
        best, at, second = INF, -1, False
        if covered < total and covered <= first[v]:
            best = (start.cost[v] if start.beyond[v] != after else start.cost2[v]) + covered * layer[v]
        for m in range(max(1, covered - (last[v] if covered == total else middle[v])), covered):
            for slot in range(2):
                arrived = passed.arrive2[m, v] if slot == 1 else passed.arrive[m, v]
                whence = passed.source2[m, v] if slot == 1 else passed.source[m, v]
                value = arrived + (covered - m) * layer[v]
                if covered == total:
                    value += end.cost[v] if whence != end.beyond[v] else end.cost2[v]
                if whence != after and value < best:
                    best, at, second = value, m, slot == 1
        if at < 0:
            return order[:length]
        after, v, covered = v, np.int64(passed.source2[at, v] if second else passed.source[at, v]), at


@numba.njit(cache=True, nogil=True)
def meet(one: Passed, other: Passed, total: int) -> Floats:
    """(total + 1, n) the cheapest whole walk that arrives at a node with so many layers covered, where `other` is the
    pass over the reversed problem: how the node's layers and all after it were done, seen from the end."""
    n = one.arrive.shape[1]
    through = np.full((total + 1, n), INF)
    for covered in range(1, total):
        rest = total - covered
        for v in range(n):
            here, there = one.arrive[covered, v], other.done[rest, v]
            if one.source[covered, v] != other.before[rest, v]:
                through[covered, v] = here + there
            else:  # straight back: one of the two takes its second way
                through[covered, v] = min(here + other.done2[rest, v], one.arrive2[covered, v] + there)
    return through
