"""Find the shortest period (the most steps a second) at which the stages can hold the whole model.

A period allows each node so many layers in each place, and forbids places whose uplink it exceeds. Whether the
allowed layers add up is easy to say for any number of nodes, and more time never allows less: so bisect over the
periods at which something changes. Among placements of that period the one with the least latency is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.chain import Bools
from swarm_protocol.snapshot.swarm import Floats, Ints

_SLACK = 1 + 1e-12  # a period made of the same floats in another order must not exclude itself


@dataclass(frozen=True, slots=True)
class Limited:
    """The tables restricted to what a period allows."""

    tables: CostTables
    stages_by_first: Ints  # (n,) the most stages if that row is first


def periods(tables: CostTables, usable: Bools) -> Floats:
    """Return every period at which something becomes possible, ascending."""
    counts = np.arange(1, tables.layers + 1)[:, None]
    work = (tables.overhead_ms + counts * tables.layer_ms)[:, usable]
    found: list[npt.NDArray[np.floating]] = [work.ravel(), (work + tables.head_ms[usable]).ravel()]
    stages = np.arange(1, min(int(usable.sum()), tables.layers) + 1)[:, None]
    if tables.uplink_ms is not None:
        up = tables.uplink_ms[usable]
        found.append(np.asarray(stages * up if tables.pattern == "star" and tables.client is None else up).ravel())
    if tables.uplink_last_ms is not None:
        found.append(tables.uplink_last_ms[usable])
    found.append(stages.ravel() * tables.client_uplink_ms)
    found.append(np.array([tables.client_head_ms]))
    all_of_them = np.concatenate(found)
    return np.unique(all_of_them[np.isfinite(all_of_them)])


def limit(tables: CostTables, period: float, max_stages: int) -> Limited:
    """Restrict the tables to placements whose period is at most `period`."""
    n = len(tables.names)
    most = period * _SLACK
    stages = np.full(n, max_stages, dtype=np.int64)
    star_here = tables.pattern == "star" and tables.client is None
    sends = np.ones(n, dtype=np.bool_)  # may stand where its activation goes on
    if tables.uplink_ms is not None:
        sends = ~(tables.uplink_ms > most)
        if star_here:
            with np.errstate(divide="ignore", invalid="ignore"):
                fits = np.where(tables.uplink_ms > 0, most / tables.uplink_ms, np.inf)
            stages = np.minimum(stages, 1 + np.nan_to_num(fits, nan=0.0, posinf=n)).astype(np.int64)
    ends = np.ones(n, dtype=np.bool_)
    if tables.uplink_last_ms is not None:
        ends = ~(tables.uplink_last_ms > most)
    nothing = tables.client_head_ms > most
    if tables.client_uplink_ms > 0:
        if tables.pattern == "star":
            stages = np.minimum(stages, int(most / tables.client_uplink_ms))
        nothing |= tables.client_uplink_ms > most
    here = np.zeros(n, dtype=np.int64) if nothing else _hold(tables, most, np.zeros(n))
    last = np.zeros(n, dtype=np.int64) if nothing else _hold(tables, most, tables.head_ms)
    first_sends = np.ones(n, dtype=np.bool_) if star_here else sends  # there its sending limits the stages instead
    alone_ends = np.ones(n, dtype=np.bool_) if tables.client is None else ends
    return Limited(
        replace(
            tables,
            capacity=np.where(sends, np.minimum(tables.capacity, here), 0),
            capacity_first=np.where(first_sends, np.minimum(tables.capacity_first, here), 0),
            capacity_last=np.where(ends, np.minimum(tables.capacity_last, last), 0),
            capacity_only=np.where(alone_ends, np.minimum(tables.capacity_only, last), 0),
        ),
        stages,
    )


def _hold(tables: CostTables, most: float, beside: Floats) -> Ints:
    with np.errstate(divide="ignore", invalid="ignore"):
        room = (most - tables.overhead_ms - beside) / tables.layer_ms
    return np.floor(np.clip(np.nan_to_num(room, nan=0.0, posinf=tables.layers), 0, tables.layers)).astype(np.int64)


def holds(limited: Limited, usable: Bools, required: Bools) -> bool:
    """Return whether some first, last and middle nodes hold all layers, whatever the paths between them."""
    tables = limited.tables
    total = tables.layers
    first = np.where(usable, tables.capacity_first, 0)
    last = np.where(usable, tables.capacity_last, 0)
    middle = np.where(usable, tables.capacity, 0)
    alone = usable & (tables.capacity_only >= total) & (limited.stages_by_first >= 1)
    if alone.any() and required.sum() <= 1 and (not required.any() or alone[required].all()):
        return True
    n = len(middle)
    # the required come first in the order of choice, then the roomiest
    by_room = np.lexsort((-middle, ~required))
    rank = np.empty(n, dtype=np.int64)
    rank[by_room] = np.arange(n)
    ordered = middle[by_room]
    sums = np.concatenate([[0], np.cumsum(ordered)])
    places = np.minimum(limited.stages_by_first, total)[:, None] - 2  # middles beside this first
    low = np.minimum(rank[:, None], rank[None, :])
    high = np.maximum(rank[:, None], rank[None, :])
    reach = np.maximum(places, 0) + np.zeros_like(low)
    reach = reach + (low < reach)
    reach = reach + (high < reach)
    reach = np.minimum(reach, n)
    rest = sums[reach] - np.where(low < reach, middle[by_room][low], 0) - np.where(high < reach, ordered[high], 0)
    ok = (places >= 0) & (first >= 1)[:, None] & (last >= 1)[None, :] & (first[:, None] + last[None, :] + rest >= total)
    if required.any():
        needed = int(required.sum()) - required[:, None].astype(np.int64) - required[None, :].astype(np.int64)
        ok &= (needed <= places) & _required_can_serve(required, middle)
    np.fill_diagonal(ok, False)
    return bool(ok.any())


def _required_can_serve(required: Bools, middle: Ints) -> Bools:
    """Return (n, n) whether every required node other than that first and last has room for a layer."""
    stuck = required & (middle < 1)
    left = int(stuck.sum()) - stuck[:, None].astype(np.int64) - stuck[None, :].astype(np.int64)
    return np.asarray(left <= 0)
