"""Hold the cost of each visit, layer and hop as arrays: the one model that prediction and search share.

`build` fills the tables from a Swarm; `search` and `impact` read nothing else, so a plan is optimal for exactly the
model that predicts it. All times are p50 milliseconds; infinity means "not known or not possible".

Time of one decode step of a placement s1…sk with l1…lk layers, visit[i] = overhead[i] + li · layer[i]:

    chain, client given     enter[s1] + Σ visit + Σ hop[si, si+1] + final[sk] + heads
    chain, client at s1     Σ visit + Σ hop[si, si+1] + back[sk, s1] + heads           (a ring is this)
    star, client given      Σ (enter[si] + visit) + Σ over i<k leave[si] + final[sk] + heads
    star, client at s1      Σ visit + Σ over i>1 hop[s1, si] + Σ over 1<i<k hop[si, s1] + back[sk, s1] + heads

heads = head[sk] + client_head; an engine sets one of the two to zero.
`price` computes it; tests compare search with it.

With many steps in flight the swarm delivers one step every `period`: the machine, uplink or downlink that a step keeps
longest. A machine has its visit and the head that it computes; the client's own work (`client_alone_ms`) is beside all
others. In a star the node that plays the client sends to each other stage and receives from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from swarm_protocol.snapshot.swarm import Floats, Ints


@dataclass(frozen=True, slots=True)
class CostTables:
    """Rows and columns are the swarm's nodes, n of them."""

    names: tuple[str, ...]
    pattern: Literal["chain", "star"]
    client: int | None  # row; None: at the first stage
    layers: int  # of the whole model
    layer_ms: Floats  # (n,) one layer, one decode step
    overhead_ms: Floats  # (n,) each visit
    capacity: Ints  # (n,) layers that memory allows on a middle stage; 0 = cannot serve
    capacity_first: Ints  # (n,) in addition to the embedding, if the first stage holds it
    capacity_last: Ints  # (n,) in addition to the LM head, if the last stage holds it
    capacity_only: Ints  # (n,) in addition to both: a placement of one stage
    hop_ms: Floats  # (n, n) one step's activation from i, delivered at j; diagonal 0
    back_ms: Floats  # (n, n) what the last stage sends to the first (token, activation or logits), and
    # the LM head where the machine of the first stage computes it; the diagonal is 0 or that head
    enter_ms: Floats  # (n,) from the client to i; 0 everywhere where client is None
    leave_ms: Floats  # (n,) an activation from i back to the client (star)
    final_ms: Floats  # (n,) what the last stage sends to the client (token, activation or logits)
    head_ms: Floats  # (n,) LM head on node i, if node i computes it; 0 elsewhere in client-head engines
    client_head_ms: float  # LM head on the client, in engines that compute it there
    client_alone_ms: float = 0.0  # of that, what keeps no stage's machine: drafting, the client's own software
    first_head_ms: Floats | None = None  # (n,) LM head on the first stage's machine, among `back_ms`; None: not there
    # how long one step's traffic occupies a wire (bytes over rate, no propagation); None: wires do not limit
    uplink_ms: Floats | None = None  # (n,) one activation from i
    uplink_last_ms: Floats | None = None  # (n,) what i sends as the last stage (token, activation or logits)
    client_uplink_ms: float = 0.0  # what the client sends to one stage, if there is one
    downlink_ms: Floats | None = None  # (n,) one activation to i
    downlink_last_ms: Floats | None = None  # (n,) what the last stage sends, to i
    downlink_enter_ms: Floats | None = None  # (n,) what the client sends, to i

    def of(self, rows: Sequence[int]) -> CostTables:
        """Return the same over some rows, in that order; the client, if there is one, must be among them."""
        at, square = np.array(rows, dtype=np.int64), np.ix_(rows, rows)

        def some(column: Floats | None) -> Floats | None:
            return None if column is None else column[at]

        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            client=None if self.client is None else list(rows).index(self.client),
            layer_ms=self.layer_ms[at],
            overhead_ms=self.overhead_ms[at],
            capacity=self.capacity[at],
            capacity_first=self.capacity_first[at],
            capacity_last=self.capacity_last[at],
            capacity_only=self.capacity_only[at],
            hop_ms=self.hop_ms[square],
            back_ms=self.back_ms[square],
            enter_ms=self.enter_ms[at],
            leave_ms=self.leave_ms[at],
            final_ms=self.final_ms[at],
            head_ms=self.head_ms[at],
            first_head_ms=some(self.first_head_ms),
            uplink_ms=some(self.uplink_ms),
            uplink_last_ms=some(self.uplink_last_ms),
            downlink_ms=some(self.downlink_ms),
            downlink_last_ms=some(self.downlink_last_ms),
            downlink_enter_ms=some(self.downlink_enter_ms),
        )

    def known(self, column: Floats | None) -> Floats:
        """Return a column of times that may be absent: zeros, then."""
        return np.zeros(len(self.names)) if column is None else column

    def price(self, order: list[int], layers: list[int]) -> float:
        """Return the p50 milliseconds of one decode step with `layers[k]` layers on node `order[k]`."""
        visits = sum(
            float(self.overhead_ms[i] + count * self.layer_ms[i]) for i, count in zip(order, layers, strict=True)
        )
        first, last = order[0], order[-1]
        if self.pattern == "chain":
            hops = sum(float(self.hop_ms[i, j]) for i, j in itertools.pairwise(order))
            tail = self.back_ms[last, first] if self.client is None else self.enter_ms[first] + self.final_ms[last]
            return float(visits + hops + tail + self.head_ms[last] + self.client_head_ms)
        if self.client is None:
            out = sum(float(self.hop_ms[first, i]) for i in order[1:])
            home = sum(float(self.hop_ms[i, first]) for i in order[1:-1])
            tail = self.back_ms[last, first]
        else:
            out = float(np.sum(self.enter_ms[order]))
            home = float(np.sum(self.leave_ms[order[:-1]]))
            tail = self.final_ms[last]
        return float(visits + out + home + tail + self.head_ms[last] + self.client_head_ms)

    def capacities(self, order: list[int]) -> list[int]:
        """Return the layers that each stage of this order can hold in its place."""
        if len(order) == 1:
            return [int(self.capacity_only[order[0]])]
        middle = [int(self.capacity[i]) for i in order[1:-1]]
        return [int(self.capacity_first[order[0]]), *middle, int(self.capacity_last[order[-1]])]

    def period(self, order: list[int], layers: list[int]) -> float:
        """Return the p50 milliseconds between two steps leaving the pipeline, with enough of them in flight."""
        busy = {i: float(self.overhead_ms[i] + n * self.layer_ms[i]) for i, n in zip(order, layers, strict=True)}
        busy[order[-1]] += float(self.head_ms[order[-1]])
        busy[order[0]] += float(self.known(self.first_head_ms)[order[0]])
        if self.client in busy:
            busy[self.client] += self.client_head_ms - self.client_alone_ms
            busy[-1] = self.client_alone_ms
        else:
            busy[-1] = self.client_head_ms
        return max(*busy.values(), *self._wires_ms(order))

    def _wires_ms(self, order: list[int]) -> list[float]:
        """Return how long a step keeps each uplink and downlink."""
        up, up_last, down, down_last, down_enter = map(
            self.known,
            (self.uplink_ms, self.uplink_last_ms, self.downlink_ms, self.downlink_last_ms, self.downlink_enter_ms),
        )
        home, last = order[0] if self.client is None else self.client, order[-1]
        trips: list[tuple[int, int, float, float]] = []  # from, to, how long it keeps the uplink and the downlink
        star = self.pattern == "star"
        if self.client is not None:
            entered = order if star else order[:1]
            trips += [(home, i, self.client_uplink_ms, float(down_enter[i])) for i in entered]
        elif star:
            trips += [(home, i, float(up[home]), float(down[i])) for i in order[1:]]
        onward = [(i, home) for i in order[:-1]] if star else itertools.pairwise(order)
        trips += [(i, j, float(up[i]), float(down[j])) for i, j in onward]
        trips.append((last, home, float(up_last[last]), float(down_last[home])))
        sent, got = dict.fromkeys([home, *order], 0.0), dict.fromkeys([home, *order], 0.0)
        for i, j, sends_ms, receives_ms in trips:
            if i != j:
                sent[i] += sends_ms
                got[j] += receives_ms
        return [*sent.values(), *got.values()]
