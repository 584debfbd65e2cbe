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

With many steps in flight the swarm delivers one step every `period`: the slowest stage (visit + its head) or the
slowest uplink, whichever is longer. In a star the node that plays the client sends one activation to each stage.
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
    # how long one step's traffic occupies an uplink (bytes over rate, no propagation); None: uplinks do not limit
    uplink_ms: Floats | None = None  # (n,) one activation from i
    uplink_last_ms: Floats | None = None  # (n,) what i sends as the last stage (token, activation or logits)
    client_uplink_ms: float = 0.0  # one activation from the client, if there is one

    def of(self, rows: Sequence[int]) -> CostTables:
        """Return the same over some rows, in that order; the client, if there is one, must be among them."""
        at, square = np.array(rows, dtype=np.int64), np.ix_(rows, rows)
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
            uplink_ms=None if self.uplink_ms is None else self.uplink_ms[at],
            uplink_last_ms=None if self.uplink_last_ms is None else self.uplink_last_ms[at],
        )

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
        stages = [float(self.overhead_ms[i] + count * self.layer_ms[i]) for i, count in zip(order, layers, strict=True)]
        stages[-1] += float(self.head_ms[order[-1]])
        sends = [self.client_head_ms, self.client_uplink_ms * (len(order) if self.pattern == "star" else 1)]
        if self.uplink_ms is not None:
            inner = order[:-1]
            if self.pattern == "star" and self.client is None:
                sends.append(float(self.uplink_ms[order[0]]) * (len(order) - 1))
                inner = order[1:-1]
            sends.extend(float(self.uplink_ms[i]) for i in inner)
        if self.uplink_last_ms is not None and not (self.client is None and len(order) == 1):
            sends.append(float(self.uplink_last_ms[order[-1]]))
        return max(*stages, *sends)
