"""Define the next steps of a walk and its state: the graphs of `walk_bound`.

`Plain` walks remember nothing and go back and forth between the two best nodes. `Memory` walks remember which of a
few others they have visited, and do not return to those (ng-routes: Baldacci, Mingozzi, Roberti, Operations Research
59(5), 2011). Which few is a matter of the node they are at: those that cheap walks came back to through it, then its
neighbours (dynamic ng-routes: Roberti, Mingozzi, Transportation Science 48(3), 2014). A state is a node and what is
remembered there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import numpy as np

from swarm_predict.search.chain import Chain
from swarm_protocol.snapshot.swarm import Floats, Ints

_NOWHERE: Final = 1e9  # milliseconds to a node that cannot be reached, to keep distances finite


class Graph(Protocol):
    node: Ints  # (S,) of each state
    fresh: Ints  # (n,) the state of each node in which nothing else is remembered

    def arrive(self, done: Floats) -> Floats:
        """Return (S,) the cheapest way into each state from states that cost `done`."""
        ...

    def leave(self, enter: Floats) -> Floats:
        """Return (S,) the cheapest way out of each state into states that cost `enter`."""
        ...

    def came_from(self, done: Floats, state: int) -> int:
        """Return the state before `state` on the cheapest way into it."""
        ...


class Plain:
    def __init__(self, chain: Chain) -> None:
        self.node = self.fresh = np.arange(len(chain))
        self._hop = chain.hop
        self._hop_to = np.ascontiguousarray(chain.hop.T)  # [to, from]: the minimum runs over the last axis

    def arrive(self, done: Floats) -> Floats:
        return np.asarray((self._hop_to + done).min(axis=1))

    def leave(self, enter: Floats) -> Floats:
        return np.asarray((self._hop + enter).min(axis=1))

    def came_from(self, done: Floats, state: int) -> int:
        return int((done + self._hop_to[state]).argmin())


class Memory:
    def __init__(self, chain: Chain, size: int, walks: Iterable[Sequence[int]] = ()) -> None:
        """Create it. `size` nodes are remembered at each node, itself included; `walks`: cheap ones met so far."""
        n = len(chain)
        size = min(size, n)
        near = _to_remember(chain, size, walks)  # (n, size), itself first
        masks = 1 << (size - 1)
        self.node = np.repeat(np.arange(n), masks)
        self.fresh = np.arange(n) * masks
        known = np.zeros((n * masks, n), dtype=np.bool_)  # which nodes a state remembers
        known[np.arange(n * masks), self.node] = True
        mask = np.tile(np.arange(masks), n)
        for bit in range(size - 1):
            known[np.arange(n * masks), near[self.node, bit + 1]] |= (mask >> bit) & 1 == 1
        code = np.zeros((n * masks, n), dtype=np.int64)  # [state, next node]: the mask remembered there
        for bit in range(size - 1):
            code += known[:, near[:, bit + 1]].astype(np.int64) << bit
        source, to = np.nonzero(~known & np.isfinite(chain.hop)[self.node])
        target = to * masks + code[source, to]
        way = chain.hop[self.node[source], to]
        inward = np.argsort(target, kind="stable")
        self._in = _Arcs(source[inward], target[inward], way[inward], len(self.node))
        self._out = _Arcs(target, source, way, len(self.node))  # np.nonzero lists sources in order

    def arrive(self, done: Floats) -> Floats:
        return self._in.cheapest(done)

    def leave(self, enter: Floats) -> Floats:
        return self._out.cheapest(enter)

    def came_from(self, done: Floats, state: int) -> int:
        return self._in.cheapest_source(done, state)


class _Arcs:
    """Arcs, sorted by the state at which their minimum is taken."""

    def __init__(self, source: Ints, at: Ints, way: Floats, states: int) -> None:
        self._source, self._way, self._states = source, way, states
        self._held, self._begin = np.unique(at, return_index=True)
        self._bounds = np.searchsorted(at, np.arange(states + 1))

    def cheapest(self, cost: Floats) -> Floats:
        found = np.full(self._states, np.inf)
        if len(self._held):
            found[self._held] = np.minimum.reduceat(cost[self._source] + self._way, self._begin)
        return found

    def cheapest_source(self, cost: Floats, state: int) -> int:
        span = slice(self._bounds[state], self._bounds[state + 1])
        return int(self._source[span][int((cost[self._source[span]] + self._way[span]).argmin())])


def _to_remember(chain: Chain, size: int, walks: Iterable[Sequence[int]]) -> Ints:
    far = chain.hop + chain.hop.T
    far = np.where(np.isfinite(far), far, _NOWHERE)
    for walk in walks:
        last: dict[int, int] = {}  # node → where it was last
        for place, node in enumerate(walk):
            for between in walk[last.get(node, place) + 1 : place]:
                far[between, node] -= _NOWHERE  # each time counts for more than any distance
            last[node] = place
    np.fill_diagonal(far, -np.inf)
    return np.argsort(far, axis=1, kind="stable")[:, :size]
