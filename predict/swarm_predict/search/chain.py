"""Describe a chain placement as one array problem for any client: shared by exact search, bound and descent.

Rows are the nodes that may serve, fastest layer first, so that "fastest first" is index order. A placement is an order
of rows; its best split follows from the set and its two ends alone: one layer each, then as many as memory allows to
the fastest. So the cost of an order is

    start[first] + Σ hop + end[last] + close[last, first] + split(set, first, last) + constant
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.tables import CostTables
from swarm_protocol.snapshot.swarm import Floats, Ints

if TYPE_CHECKING:
    from collections.abc import Sequence

Bools = npt.NDArray[np.bool_]

# two prices closer than this are the same: sums in another order differ in the last bits
TIE_MS = 1e-9


@dataclass(frozen=True, slots=True)
class Chain:
    rows: Ints  # (n,) row of the tables behind each row here
    total: int  # layers of the model
    layer: Floats
    overhead: Floats
    middle: Ints  # capacities by place, at most `total`
    first: Ints
    last: Ints
    only: Ints
    hop: Floats  # (n, n), diagonal infinite: no node sends to itself
    start: Floats  # (n,)
    end: Floats  # (n,)
    close: Floats | None  # (n, n) [last, first]; None: a given client closes nothing
    constant: float
    required: Bools
    max_stages: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def most(self) -> Ints:
        """Return (n,) the most layers that each row could hold in any place."""
        return np.asarray(np.maximum.reduce([self.middle, self.first, self.last, self.only]))

    def keep(self, mask: Bools) -> Chain:
        """Restrict the problem to these rows. What is left is never written to: all rows are the problem itself."""
        if mask.all():
            return self  # no copy of two matrices
        at = np.flatnonzero(mask)
        return Chain(
            rows=self.rows[at],
            total=self.total,
            layer=self.layer[at],
            overhead=self.overhead[at],
            middle=self.middle[at],
            first=self.first[at],
            last=self.last[at],
            only=self.only[at],
            hop=self.hop[np.ix_(at, at)],
            start=self.start[at],
            end=self.end[at],
            close=None if self.close is None else self.close[np.ix_(at, at)],
            constant=self.constant,
            required=self.required[at],
            max_stages=self.max_stages,
        )


def servers(tables: CostTables, allowed: Bools) -> Bools:
    """Return which of the allowed rows can hold a layer and have a known time."""
    most = np.maximum.reduce([tables.capacity, tables.capacity_first, tables.capacity_last, tables.capacity_only])
    return np.asarray(allowed & (most > 0) & np.isfinite(tables.layer_ms) & np.isfinite(tables.overhead_ms))


def chain_of(tables: CostTables, allowed: Bools, required: Bools, max_stages: int) -> Chain:
    """Return the problem over the allowed rows that can hold a layer and whose time is known."""
    rows = np.flatnonzero(servers(tables, allowed))
    rows = rows[np.lexsort((rows, tables.layer_ms[rows]))]
    hop = _known(tables.hop_ms[np.ix_(rows, rows)])
    np.fill_diagonal(hop, np.inf)
    given = tables.client is not None
    head = _known(tables.head_ms[rows])
    return Chain(
        rows=rows,
        total=tables.layers,
        layer=tables.layer_ms[rows],
        overhead=tables.overhead_ms[rows],
        middle=np.minimum(tables.capacity[rows], tables.layers),
        first=np.minimum(tables.capacity_first[rows], tables.layers),
        last=np.minimum(tables.capacity_last[rows], tables.layers),
        only=np.minimum(tables.capacity_only[rows], tables.layers),
        hop=hop,
        start=_known(tables.enter_ms[rows]) if given else np.zeros(len(rows)),
        end=head + (_known(tables.final_ms[rows]) if given else 0.0),
        close=None if given else _known(tables.back_ms[np.ix_(rows, rows)]),
        constant=tables.client_head_ms,
        required=required[rows],
        max_stages=min(max_stages, tables.layers, len(rows)),
    )


def _known(values: Floats) -> Floats:
    """Replace NaN, which is unknown and so unusable."""
    return np.where(np.isnan(values), np.inf, values)


def split_cost(chain: Chain, orders: Ints) -> Floats:
    """Return (B,) the cost of the best split of each row of `orders` (B, k); infinite if memory does not suffice."""
    caps = _caps(chain, orders)
    taken = _greedy(chain, orders, caps)
    cost = (chain.overhead[orders] + taken * chain.layer[orders]).sum(axis=1)
    fits = (caps >= 1).all(axis=1) & (caps.sum(axis=1) >= chain.total) & (orders.shape[1] <= chain.total)
    return np.where(fits, cost, np.inf)


def split_of(chain: Chain, order: Sequence[int]) -> list[int]:
    """Return the layers of each stage in the best split. The order must fit."""
    orders = np.array([order], dtype=np.int64)
    return [int(count) for count in _greedy(chain, orders, _caps(chain, orders))[0]]


def _caps(chain: Chain, orders: Ints) -> Ints:
    if orders.shape[1] == 1:
        return chain.only[orders]
    caps = chain.middle[orders]
    caps[:, 0] = chain.first[orders[:, 0]]
    caps[:, -1] = chain.last[orders[:, -1]]
    return caps


def _greedy(chain: Chain, orders: Ints, caps: Ints) -> Ints:
    """Give one layer to each, the rest to the fastest up to capacity. Rows are numbered by speed, so rows are the
    key."""
    by_speed = np.argsort(orders, axis=1, kind="stable")
    extra = np.take_along_axis(np.maximum(caps - 1, 0), by_speed, axis=1)
    before = np.cumsum(extra, axis=1) - extra
    more = np.clip(chain.total - orders.shape[1] - before, 0, extra)
    taken = np.empty_like(more)
    np.put_along_axis(taken, by_speed, more + 1, axis=1)
    return np.asarray(taken)


def path_cost(chain: Chain, orders: Ints) -> Floats:
    """Return (B,) milliseconds of everything but the split."""
    first, last = orders[:, 0], orders[:, -1]
    cost = chain.start[first] + chain.end[last] + chain.constant
    cost = cost + chain.hop[orders[:, :-1], orders[:, 1:]].sum(axis=1)
    return np.asarray(cost if chain.close is None else cost + chain.close[last, first])


def cost_of(chain: Chain, orders: Ints) -> Floats:
    """Return (B,) milliseconds of one step for each order; infinite if it does not fit."""
    return path_cost(chain, orders) + split_cost(chain, orders)


def best_split(tables: CostTables, order: Sequence[int]) -> list[int] | None:
    """Return the layers of each stage of one order of table rows, for any pattern; None if they do not fit."""
    caps = tables.capacities(list(order))
    left = tables.layers - len(order)
    if left < 0 or min(caps) < 1 or sum(caps) < tables.layers:
        return None
    counts = [1] * len(order)
    for place in sorted(range(len(order)), key=lambda k: (float(tables.layer_ms[order[k]]), order[k])):
        more = min(left, caps[place] - 1)
        counts[place] += more
        left -= more
    return counts
