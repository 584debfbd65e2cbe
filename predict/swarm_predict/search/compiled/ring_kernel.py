"""Compute walks round a ring from one of its nodes back to itself: the compiled relaxation of `anchored`.

The first stage may lie anywhere on the way, so a walk has two phases: before it crosses from the last stage to the
first, and after. What is known of a node with so many layers covered is kept by how it was arrived at and is left: over
a hop before the crossing (`before`), by the crossing (`cross`), over a hop after it (`after`). As in `walk_kernel` the
best way and the best from another node are kept, so that no walk goes straight back, and the loops over the reversed
problem give what is still to pay.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from swarm_predict.search.chain import Bools
from swarm_predict.search.compiled.walk_kernel import INF, End, Passed, Ways, arrive, ended, finish, nothing, window
from swarm_protocol.snapshot.swarm import Floats, Ints


class Caps(NamedTuple):
    """(n,) upper limits of a node's layers by its place."""

    middle: Ints
    out: Ints  # left by the crossing
    into: Ints  # arrived at by the crossing


class May(NamedTuple):
    """(total + 1, n) states that a better placement may pass, by layers covered."""

    arrive: Bools
    finish: Bools


class Round(NamedTuple):
    before: Passed
    cross: Passed
    after: Passed  # its `final`: of the whole walk


@numba.njit(cache=True, nogil=True)
def walk_round(
    hop: Ways,
    crossing: Ways,  # from a last stage to a first one, with what both pay for being that
    layer: Floats,
    visit: Floats,  # (n,) overhead and price
    caps: Caps,
    start: End,
    end: End,
    total: int,
    may_before: May,
    may_cross: May,
    may_after: May,
) -> Round:
    n = len(layer)
    before, cross, after = nothing(total, n), nothing(total, n), nothing(total, n)
    # arrivals less what the layers before them would cost here: what a window of stages is chosen by
    slack0, slack02 = np.full((n, total + 1), INF), np.full((n, total + 1), INF)
    slackx, slackx2 = np.full((n, total + 1), INF), np.full((n, total + 1), INF)
    slack1, slack12 = np.full((n, total + 1), INF), np.full((n, total + 1), INF)
    none = (INF, INF, np.int64(-1), np.int64(-1))
    for covered in range(1, total):
        for v in range(n):
            work = covered * layer[v]
            begun = (start.cost[v], start.cost2[v], np.int64(start.beyond[v]), np.int64(start.beyond2[v]))
            if may_before.finish[covered, v]:
                found = begun if covered <= caps.middle[v] else none
                low = max(1, covered - caps.middle[v])
                found = window(found, slack0, slack02, before, v, low, covered)
                finish(before, covered, v, found, work + visit[v])
            if may_cross.finish[covered, v]:
                found = begun if covered <= caps.out[v] else none
                low = max(1, covered - caps.out[v])
                found = window(found, slack0, slack02, before, v, low, covered)
                finish(cross, covered, v, found, work + visit[v])
            if may_after.finish[covered, v]:
                found = window(none, slackx, slackx2, cross, v, max(1, covered - caps.into[v]), covered)
                found = window(found, slack1, slack12, after, v, max(1, covered - caps.middle[v]), covered)
                finish(after, covered, v, found, work + visit[v])
        arrive(before, hop, may_before.arrive, covered, layer, slack0, slack02)
        arrive(cross, crossing, may_cross.arrive, covered, layer, slackx, slackx2)
        arrive(after, hop, may_after.arrive, covered, layer, slack1, slack12)
    for v in range(n):
        if end.cost[v] == INF:
            continue
        found = window(none, slackx, slackx2, cross, v, max(1, total - caps.into[v]), total)
        found = window(found, slack1, slack12, after, v, max(1, total - caps.middle[v]), total)
        after.final[v] = ended(found, end, v) + total * layer[v] + visit[v]
    return Round(before, cross, after)


@numba.njit(cache=True, nogil=True)
def trace_round(
    passed: Round, last: int, start: End, end: End, layer: Floats, caps: Caps, total: int
) -> tuple[Ints, int]:
    """Return the nodes of the cheapest walk that ends at `last`, last one first, and how many lie after the
    crossing."""
    order = np.empty(total + 1, np.int64)
    v, length, covered, after, crossed = last, 0, total, -2, 0
    phase = 2  # 0: before the crossing, 1: left by it, 2: after it
    while True:
        order[length] = v
        length += 1
        best, at, second, by = INF, -1, False, 0
        if phase < 2 and covered <= (caps.middle[v] if phase == 0 else caps.out[v]) and covered < total:
            best = (start.cost[v] if start.beyond[v] != after else start.cost2[v]) + covered * layer[v]
        for kind in range(3):
            if (kind == 0) != (phase < 2):
                continue  # after the crossing one has arrived by it or after it, before it only over hops
            table = passed.before if kind == 0 else (passed.cross if kind == 1 else passed.after)
            most = caps.into[v] if kind == 1 else (caps.out[v] if phase == 1 else caps.middle[v])
            for m in range(max(1, covered - most), covered):
                for slot in range(2):
                    arrived = table.arrive2[m, v] if slot == 1 else table.arrive[m, v]
                    whence = table.source2[m, v] if slot == 1 else table.source[m, v]
                    value = arrived + (covered - m) * layer[v]
                    if covered == total:
                        value += end.cost[v] if whence != end.beyond[v] else end.cost2[v]
                    if whence != after and value < best:
                        best, at, second, by = value, m, slot == 1, kind
        if at < 0:
            return order[:length], crossed
        table = passed.before if by == 0 else (passed.cross if by == 1 else passed.after)
        after, v, covered = v, table.source2[at, v] if second else table.source[at, v], at
        phase = by
        if by == 1:
            crossed = length
