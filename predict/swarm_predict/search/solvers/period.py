"""Find the shortest period (the most steps a second) at which the stages can hold the whole model.

A period allows each node so many layers in each place, and forbids places whose uplink it exceeds. Whether the
allowed layers add up is easy to say for any number of nodes, and more time never allows less: so bisect over the
periods at which something changes. Among placements of that period the one with the least latency is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.chain import Bools
from swarm_protocol.snapshot.swarm import Floats, Ints

_MANY = 1_000_000  # stages: more than any swarm has
_SLACK = 1 + 1e-12  # a period made of the same floats in another order must not exclude itself


# where the client's machine serves: nowhere, as the last stage, as another one, as any; None: no client is named
Case = Literal["nowhere", "last", "before", "anywhere"] | None


@dataclass(frozen=True, slots=True)
class Limited:
    """The tables restricted to what a period allows."""

    tables: CostTables
    stages_by_first: Ints  # (n,) the most stages if that row is first


def cases(tables: CostTables) -> tuple[Case, ...]:
    """Return the cases that `limit` distinguishes, since a message of the client's machine to itself takes no wire."""
    if tables.client is None:
        return (None,)
    return ("nowhere", "anywhere") if tables.pattern == "chain" else ("nowhere", "last", "before")


def of_case(tables: CostTables, case: Case, usable: Bools, required: Bools) -> tuple[Bools, Bools] | None:
    """Return (usable, required) nodes of a case; None: it is ruled out."""
    client = tables.client
    if client is None or case is None:
        return usable, required
    usable, required = usable.copy(), required.copy()
    if case == "nowhere":
        if required[client]:
            return None
        usable[client] = False
    elif not usable[client]:
        return None
    else:
        required[client] = True
    return usable, required


def periods(tables: CostTables, usable: Bools) -> Floats:
    """Return every period at which something becomes possible, ascending."""
    work = (tables.overhead_ms + np.arange(1, tables.layers + 1)[:, None] * tables.layer_ms)[:, usable]
    stages = np.arange(0, min(int(usable.sum()), tables.layers) + 1)[:, None]
    up, up_last, down, down_last, enter = (column[usable] for column in _wires(tables))
    found: list[npt.NDArray[np.floating]] = [
        work, work + tables.head_ms[usable], work + tables.known(tables.first_head_ms)[usable],
        up, up_last, down, down_last, enter, np.array([tables.client_alone_ms, tables.client_head_ms]),
    ]  # fmt: skip
    client, star = tables.client, tables.pattern == "star"
    if client is None:
        found += [stages * up, stages * down + down_last] if star else []
    else:
        own, own_last, sends = (float(_wires(tables)[k][client]) for k in (2, 3, 0))
        if usable[client]:
            head = tables.client_head_ms - tables.client_alone_ms + np.array([[0.0], [tables.head_ms[client]]])
            counts = np.arange(1, tables.layers + 1)
            found.append(tables.overhead_ms[client] + counts * tables.layer_ms[client] + head)
        many = stages if star else np.array([[0], [1]])
        found += [many * tables.client_uplink_ms, many * own, many * own + own_last]
        found.append(np.array([tables.client_uplink_ms + sends]))
    all_of_them = np.concatenate([np.asarray(each).ravel() for each in found])
    return np.unique(all_of_them[np.isfinite(all_of_them)])


def _wires(tables: CostTables) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return (n,) each: what an activation and a result keep an uplink and a downlink, what the client sends a
    downlink."""
    columns = (
        tables.uplink_ms, tables.uplink_last_ms, tables.downlink_ms, tables.downlink_last_ms, tables.downlink_enter_ms,
    )  # fmt: skip
    up, up_last, down, down_last, enter = map(tables.known, columns)
    return up, up_last, down, down_last, enter


def limit(tables: CostTables, period: float, max_stages: int, case: Case = None) -> Limited:
    """Restrict the tables to placements of this case whose period is at most `period`. `of_case` says whether the
    client's machine serves."""
    n, client, star = len(tables.names), tables.client, tables.pattern == "star"
    most = period * _SLACK
    up, up_last, down, down_last, enter = (column <= most for column in _wires(tables))
    own_up, _, own_down, own_last, _ = _wires(tables)
    stages = np.full(n, max_stages, dtype=np.int64)
    everyone = np.ones(n, dtype=np.bool_)
    beside = np.zeros(n)
    if client is None:
        first, middle, last, only = up & down_last, up & down, down & up_last, everyone
        if star:  # the first stage sends to all others and receives from them
            first = everyone
            stages = np.minimum(stages, 1 + _times(most, own_up))
            stages = np.minimum(stages, np.where(down_last, 2 + _times(most - own_last, own_down), 1))
        possible = tables.client_alone_ms <= most
    else:
        sends, receives, result = tables.client_uplink_ms, float(own_down[client]), float(own_last[client])
        first, middle, last, only = enter & up, up & down, down & up_last, enter & up_last
        if star:
            middle, last = enter & up, enter & up_last
        serves = case in ("last", "before", "anywhere")
        possible = (tables.client_alone_ms if serves else tables.client_head_ms) <= most
        if serves:
            beside[client] = tables.client_head_ms - tables.client_alone_ms
            only[client] = case != "before"
        if star:
            own = np.array([sends, receives])
            most_by_sends, most_by_receives = _times(most, own)
            others = int(serves)  # its own stage takes no wire
            stages = np.minimum(stages, most_by_sends + others)
            if case == "last":
                stages = np.minimum(stages, most_by_receives + 1)
            elif case is not None:
                stages = np.minimum(stages, 1 + others + _times(most - result, own[1:])[0])
                possible &= result <= most
            first[client] = middle[client] = case == "before"
            last[client] = case == "last"
        elif case == "nowhere":
            possible &= max(sends, result) <= most
        elif case == "anywhere":
            first[client] = max(float(own_up[client]), result) <= most
            middle[client] = max(sends + float(own_up[client]), receives + result) <= most
            last[client] = max(sends, receives) <= most
    head, first_head = tables.head_ms + beside, tables.known(tables.first_head_ms) + beside
    anywhere = _hold(tables, most, beside) if possible else np.zeros(n, dtype=np.int64)
    at_first, at_last, alone = (
        np.minimum(anywhere, _hold(tables, most, more)) for more in (first_head, head, head + first_head - beside)
    )
    return Limited(
        replace(
            tables,
            capacity=np.where(middle, np.minimum(tables.capacity, anywhere), 0),
            capacity_first=np.where(first, np.minimum(tables.capacity_first, at_first), 0),
            capacity_last=np.where(last, np.minimum(tables.capacity_last, at_last), 0),
            capacity_only=np.where(only, np.minimum(tables.capacity_only, alone), 0),
        ),
        stages,
    )


def _times(most: Floats | float, each: Floats) -> Ints:
    """Return how often each fits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(each > 0, most / each, np.inf)
    whole: Ints = np.floor(np.clip(np.nan_to_num(times, nan=0.0, posinf=_MANY), 0, _MANY)).astype(np.int64)
    return whole


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
