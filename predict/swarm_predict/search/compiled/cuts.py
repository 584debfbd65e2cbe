"""Find sets of nodes that a mixture of walks enters too rarely (generalised cutset inequalities).

A placement through the anchor that visits a node enters every set around that node at least once, if the anchor lies
outside. Walks that go round within the set visit the node several times for one entry, so a mixture of them breaks the
rule: visits of the node ≤ entries into the set (Fischetti, Salazar, Toth, Operations Research 45(3), 1997). The sets
are the far sides of minimum cuts between the anchor and each node (max-flow; Edmonds, Karp, JACM 19(2), 1972).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np

from swarm_predict.search.chain import Bools
from swarm_protocol.snapshot.swarm import Floats

_SHORT: Final = 0.05  # of a visit: cuts that are missed by less move the bound hardly
_MAX_CUTS: Final = 8  # at a time


class Cut(NamedTuple):
    inside: frozenset[int]
    node: int  # of them


def missed(flow: Floats, visits: Floats, anchor: int) -> list[Cut]:
    """Return the most violated cuts. `flow` (n, n): how often each way is taken, `visits` (n,)."""
    short: dict[Cut, float] = {}
    for node in np.flatnonzero(visits > _SHORT):
        if node == anchor:
            continue
        entries, far = _min_cut(flow, anchor, int(node), float(visits[node]) - _SHORT)
        if entries >= visits[node] - _SHORT:
            continue
        inside = np.flatnonzero(far)
        most = int(inside[visits[inside].argmax()])
        short[Cut(frozenset(int(row) for row in inside), most)] = float(visits[most]) - entries
    return sorted(short, key=lambda cut: -short[cut])[:_MAX_CUTS]


@numba.njit(cache=True, nogil=True)
def _min_cut(flow: Floats, source: int, sink: int, enough: float) -> tuple[float, Bools]:
    """Return the maximum flow from source to sink, up to `enough`, and the sink's side of the minimum cut."""
    n = len(flow)
    left = flow.copy()
    total = 0.0
    came = np.empty(n, np.int64)
    queue = np.empty(n, np.int64)
    while True:
        # from the sink backwards, so that the side found is the smallest around it
        came[:] = -1
        came[sink] = sink
        queue[0], head, tail = sink, 0, 1
        while head < tail and came[source] < 0:
            v = queue[head]
            head += 1
            for u in range(n):
                if came[u] < 0 and left[u, v] > 1e-9:
                    came[u] = v
                    queue[tail] = u
                    tail += 1
        if came[source] < 0:
            return total, came >= 0
        amount, u = np.inf, source
        while u != sink:
            amount = min(amount, left[u, came[u]])
            u = came[u]
        u = source
        while u != sink:
            v = came[u]
            left[u, v] -= amount
            left[v, u] += amount
            u = v
        total += amount
        if total >= enough:
            return total, came >= 0
