"""Compute the walk relaxation of `walk_bound`, compiled: walks never return straight to the node they came from.

Loaded only if numba is installed and the swarm is large enough to need a bound; machine code is cached on disk, so
only the first plan after an installation waits for the compiler. Without numba `layered` does the same in
numpy, several times slower.

A state is (layers covered, node); for each the cheapest way and the cheapest from another node than that are kept, so
that a step back to where the cheapest came from takes the second. Run over the reversed problem the same loops give
what is still to pay, and both together which states no placement below the incumbent passes: those are skipped for
good (whatever the prices), which makes every further pass cheaper.

`ring_kernel` calls the loops below. numba's cache looks at the file of the caller alone: who changes them here must
touch that file too (an installation does), or the old machine code runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from swarm_predict.search.chain import Bools
from swarm_protocol.snapshot.swarm import Floats, Ints

INF = np.inf
Nodes = npt.NDArray[np.int32]


class End(NamedTuple):
    """(n,) what a walk pays to begin or end at each node, and the node at its other end."""

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


# A rename makes numba's cache on the disk unreadable, which fails at import: it holds these types by name.
class Ways(NamedTuple):
    """Ways between nodes, sorted by destination."""

    to: Floats  # (n, n) [to, from]
    near: Nodes  # (n, n) [to]: from whom, the nearest first


def ways(to: Floats) -> Ways:
    return Ways(np.ascontiguousarray(to), np.argsort(to, axis=1).astype(np.int32))


class Passed(NamedTuple):
    """Results of one pass: (total + 1, n) by layers covered, but for `final`."""

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
def nothing(total: int, n: int) -> Passed:
    shape = (total + 1, n)
    return Passed(
        np.full(n, INF),
        np.full(shape, INF),
        np.full(shape, INF),
        np.full(shape, -1, np.int32),
        np.full(shape, -1, np.int32),
        np.full(shape, INF),
        np.full(shape, INF),
        np.full(shape, -1, np.int32),
        np.full(shape, -1, np.int32),
    )


Two = tuple[float, float, np.int64, np.int64]  # the best, the best from another node, and from which nodes


@numba.njit(cache=True, nogil=True)
def _with(found: Two, value: float, whence: int) -> Two:
    best, best2, from1, from2 = found
    if value < best:
        if whence == from1:
            return value, best2, from1, from2
        return value, best, np.int64(whence), from1
    if value < best2 and whence != from1:
        return best, value, from1, np.int64(whence)
    return found


@numba.njit(cache=True, nogil=True)
def window(found: Two, slack: Floats, slack2: Floats, passed: Passed, v: int, low: int, high: int) -> Two:
    """Minimise over the stages of v that begin with `low` to `high` − 1 layers covered."""
    for m in range(low, high):
        if slack[v, m] < found[1]:
            found = _with(found, slack[v, m], passed.source[m, v])
            if slack2[v, m] < found[1]:
                found = _with(found, slack2[v, m], passed.source2[m, v])
    return found


@numba.njit(cache=True, nogil=True)
def finish(passed: Passed, covered: int, v: int, found: Two, pay: float) -> None:
    best, best2, from1, from2 = found
    if best < INF:
        passed.done[covered, v], passed.done2[covered, v] = best + pay, best2 + pay
        passed.before[covered, v], passed.before2[covered, v] = from1, from2


@numba.njit(cache=True, nogil=True)
def arrive(passed: Passed, ways: Ways, may: Bools, covered: int, layer: Floats, slack: Floats, slack2: Floats) -> None:
    """Find the cheapest arrival by alternating the cheapest states and the nearest nodes (Fagin's threshold
    algorithm)."""
    n = len(layer)
    done, done2, before = passed.done[covered], passed.done2[covered], passed.before[covered]
    whom = np.flatnonzero(done < INF)
    live = len(whom)
    if live == 0:
        return
    whom = whom[np.argsort(done[whom])]
    for w in range(n):
        if not may[covered, w]:
            continue
        found = (INF, INF, np.int64(-1), np.int64(-1))
        to, near = ways.to[w], ways.near[w]
        for k in range(live):
            for turn in range(2):
                u = whom[k] if turn == 0 else near[k]
                value = to[u] + (done[u] if before[u] != w else done2[u])
                if value < found[1]:
                    found = _with(found, value, u)
            if done[whom[k]] + to[near[k]] >= found[1]:
                break  # whoever was not looked at is dearer and farther
        best, best2, from1, from2 = found
        passed.arrive[covered, w], passed.source[covered, w] = best, from1
        passed.arrive2[covered, w], passed.source2[covered, w] = best2, from2
        slack[w, covered], slack2[w, covered] = best - covered * layer[w], best2 - covered * layer[w]


@numba.njit(cache=True, nogil=True)
def ended(found: Two, end: End, v: int) -> float:
    """Close each walk with the cheapest end that does not lead back to where it came from."""
    best, best2, from1, from2 = found
    left = best + (end.cost[v] if from1 != end.beyond[v] else end.cost2[v])
    return min(left, best2 + (end.cost[v] if from2 != end.beyond[v] else end.cost2[v]))


@numba.njit(cache=True, nogil=True)
def walk(
    hop: Ways,
    layer: Floats,  # (n,)
    visit: Floats,  # (n,) overhead and price
    start: End,  # of beginning at a node, infinite if none may
    first: Ints,  # (n,) capacities by place
    middle: Ints,
    last: Ints,
    end: End,
    total: int,
    may_arrive: Bools,  # (total + 1, n) states that a better placement may pass, at the door of a node
    may_finish: Bools,  # and with its layers done
) -> Passed:
    n = len(layer)
    passed = nothing(total, n)
    # arrivals less what the layers before them would cost here: what a window of stages is chosen by
    slack, slack2 = np.full((n, total + 1), INF), np.full((n, total + 1), INF)
    none = (INF, INF, np.int64(-1), np.int64(-1))
    for covered in range(1, total):
        for v in range(n):
            if may_finish[covered, v]:
                found = none
                if covered <= first[v]:
                    found = (start.cost[v], start.cost2[v], np.int64(start.beyond[v]), np.int64(start.beyond2[v]))
                found = window(found, slack, slack2, passed, v, max(1, covered - middle[v]), covered)
                finish(passed, covered, v, found, covered * layer[v] + visit[v])
        arrive(passed, hop, may_arrive, covered, layer, slack, slack2)
    for v in range(n):
        found = window(none, slack, slack2, passed, v, max(1, total - last[v]), total)
        passed.final[v] = ended(found, end, v) + total * layer[v] + visit[v]
    return passed


@numba.njit(cache=True, nogil=True)
def trace(
    passed: Passed, ends_at: int, start: End, end: End, layer: Floats, first: Ints, middle: Ints, last: Ints, total: int
) -> Ints:
    """Return the nodes of the cheapest walk of two or more stages that ends there, last one first."""
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
