"""Find the optimal star placement of any number of nodes: in a star only the first and the last place matter.

Every stage pays its own way to the client and back, so the time is a sum over nodes and the best choice a knapsack:
dynamic programming over (places taken, layers covered), one node after another. Where the client sits at the first
stage there is one such knapsack for each first; they are tried by a fractional bound until no other can win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.chain import TIE_MS, Bools
from swarm_protocol.snapshot.swarm import Floats, Ints

_SKIP, _MIDDLE, _FIRST, _LAST, _ONLY = range(5)
_HAS_FIRST, _HAS_LAST = 1, 2
_GIVES = {_MIDDLE: 0, _FIRST: _HAS_FIRST, _LAST: _HAS_LAST}


@dataclass(frozen=True, slots=True)
class _Knapsack:
    """The knapsack of one client; rows are those of the tables."""

    layer: Floats
    fixed: Floats  # (5, n) by place
    caps: Ints  # (5, n) by place
    total: int
    constant: float
    required: Bools
    max_stages: int


@dataclass(frozen=True, slots=True)
class StarFound:
    order: list[int]
    layers: list[int]
    bound: float


def solve_star(
    tables: CostTables,
    allowed: Bools,
    required: Bools,
    stages_by_first: Ints,
    out_of_time: Callable[[], bool],
) -> StarFound | None:
    """Return the best placement; None if nothing fits. `stages_by_first`: the most stages if that row is first."""
    usable = allowed & np.isfinite(tables.layer_ms) & np.isfinite(tables.overhead_ms)
    if tables.client is not None:
        sack = _sack(tables, usable, required, int(stages_by_first.max(initial=1)), None)
        found = _pack(sack, stages_by_first)
        return None if found is None else StarFound(found[0], found[1], found[2])
    return _by_first(tables, usable, required, stages_by_first, out_of_time)


def _by_first(
    tables: CostTables, usable: Bools, required: Bools, stages_by_first: Ints, out_of_time: Callable[[], bool]
) -> StarFound | None:
    best: StarFound | None = None
    best_cost = np.inf
    sacks = {
        int(first): _sack(tables, usable, required, int(stages_by_first[first]), int(first))
        for first in np.flatnonzero(usable & (np.maximum(tables.capacity_first, tables.capacity_only) > 0))
    }
    promises = sorted((_fractional(sack), first) for first, sack in sacks.items())
    for promise, first in promises:
        if promise >= best_cost - TIE_MS:
            break
        if best is not None and out_of_time():
            return replace(best, bound=min(promise, best_cost))
        found = _pack(sacks[first], stages_by_first)
        if found is not None and found[2] < best_cost - TIE_MS:
            best, best_cost = StarFound(*found), found[2]
    return best


def _sack(tables: CostTables, usable: Bools, required: Bools, max_stages: int, first: int | None) -> _Knapsack:
    n = len(tables.names)
    fixed = np.full((5, n), np.inf)
    if first is None:
        there, home, final = tables.enter_ms, tables.leave_ms, tables.final_ms
        fixed[_FIRST] = there + home
    else:
        there, home, final = tables.hop_ms[first], tables.hop_ms[:, first], tables.back_ms[:, first]
        fixed[_FIRST, first] = 0.0
    fixed[_MIDDLE] = there + home
    fixed[_LAST] = there + final + tables.head_ms
    fixed[_ONLY] = fixed[_LAST]
    if first is not None:
        fixed[_ONLY] = np.inf
        fixed[_ONLY, first] = tables.back_ms[first, first] + tables.head_ms[first]
        fixed[_MIDDLE, first] = fixed[_LAST, first] = np.inf
    caps = np.zeros((5, n), dtype=np.int64)
    caps[_MIDDLE], caps[_FIRST] = tables.capacity, tables.capacity_first
    caps[_LAST], caps[_ONLY] = tables.capacity_last, tables.capacity_only
    fixed = np.where(np.isnan(fixed) | (caps < 1) | ~usable, np.inf, fixed + tables.overhead_ms)
    fixed[_SKIP] = np.where(required, np.inf, 0.0)
    return _Knapsack(
        layer=tables.layer_ms,
        fixed=fixed,
        caps=np.minimum(caps, tables.layers),
        total=tables.layers,
        constant=tables.client_head_ms,
        required=required,
        max_stages=max_stages,
    )


def _fractional(sack: _Knapsack) -> float:
    """Return a lower bound: each layer at the rate of its node when used to the full."""
    caps = np.where(np.isfinite(sack.fixed[1:]), sack.caps[1:], 0)
    most = caps.max(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(caps > 0, sack.fixed[1:] / caps, np.inf).min(axis=0) + sack.layer
    usable = np.flatnonzero((most > 0) & np.isfinite(rate))
    by_rate = usable[np.argsort(rate[usable], kind="stable")]
    before = np.cumsum(most[by_rate]) - most[by_rate]
    taken = np.clip(sack.total - before, 0, most[by_rate])
    if taken.sum() < sack.total:
        return float(np.inf)
    bound = float((taken * rate[by_rate]).sum()) + sack.constant
    return bound - abs(bound) * 1e-11


def _pack(sack: _Knapsack, stages_by_first: Ints) -> tuple[list[int], list[int], float] | None:
    """Return (order, layers, cost). Counts stages only where the unlimited answer has too many."""
    found = _fill(sack, 0)
    if found is not None and len(found[0]) > _limit(sack, found[0], stages_by_first):
        found = _fill(sack, sack.max_stages)
    alone = _alone(sack)
    return alone if found is None or (alone is not None and alone[2] < found[2]) else found


def _alone(sack: _Knapsack) -> tuple[list[int], list[int], float] | None:
    """Return the best placement of one stage."""
    fits = (sack.caps[_ONLY] >= sack.total) & (sack.max_stages >= 1)
    fits &= (sack.required.sum() - sack.required) == 0
    cost = np.where(fits, sack.fixed[_ONLY] + sack.total * sack.layer, np.inf)
    node = int(cost.argmin())
    return ([node], [sack.total], float(cost[node]) + sack.constant) if np.isfinite(cost[node]) else None


def _limit(sack: _Knapsack, order: list[int], stages_by_first: Ints) -> int:
    return min(sack.max_stages, int(stages_by_first[order[0]]))


def _fill(sack: _Knapsack, max_stages: int) -> tuple[list[int], list[int], float] | None:
    """Run the dynamic program. `max_stages` 0: any number; stages are then not part of the state."""
    total, counted = sack.total, max_stages > 0
    depth = max_stages + 1 if counted else 1
    cost = np.full((4, depth, total + 1), np.inf)  # (places taken, stages, layers covered)
    cost[0, 0, 0] = 0.0
    nodes = np.flatnonzero(np.isfinite(sack.fixed[[_MIDDLE, _FIRST, _LAST]]).any(axis=0))
    if (sack.required & ~np.isin(np.arange(len(sack.layer)), nodes)).any():
        return None
    places = np.zeros((len(nodes), 4, depth, total + 1), dtype=np.int8)
    counts = np.zeros((len(nodes), 4, depth, total + 1), dtype=np.int16)
    for at, node in enumerate(nodes):
        after = cost + sack.fixed[_SKIP, node]
        for place, gives in _GIVES.items():
            fixed = sack.fixed[place, node]
            if not np.isfinite(fixed):
                continue
            sources = [flags for flags in range(4) if not flags & gives]
            more, taken = _window(cost[sources], float(sack.layer[node]), int(sack.caps[place, node]))
            more += fixed
            if counted:  # one stage deeper
                more[:, 1:], more[:, 0] = more[:, :-1].copy(), np.inf
                taken[:, 1:] = taken[:, :-1].copy()
            for source, value, layers in zip(sources, more, taken, strict=True):
                flags = source | gives
                better = value < after[flags]
                after[flags][better] = value[better]
                places[at, flags][better] = place
                counts[at, flags][better] = layers[better]
        cost = after
    ends = cost[3, :, total]
    stage = int(ends.argmin())
    if not np.isfinite(ends[stage]):
        return None
    value = float(ends[stage]) + sack.constant
    return (*_unpack(nodes, places, counts, stage, total, counted), value)


def _window(cost: Floats, layer: float, cap: int) -> tuple[Floats, Ints]:
    """Return min over 1 ≤ l ≤ cap of cost[… , m − l] + l · layer, and that l."""
    total = cost.shape[-1] - 1
    slope = np.arange(total + 1) * layer
    padded = np.full((*cost.shape[:-1], total + 1 + cap), np.inf)
    padded[..., cap:] = cost - slope
    windows = np.lib.stride_tricks.sliding_window_view(padded, cap, axis=-1)[..., : total + 1, :]
    at = windows.argmin(axis=-1)
    least = np.take_along_axis(windows, at[..., None], axis=-1)[..., 0]
    return least + slope, np.asarray(cap - at)


def _unpack(
    nodes: Ints, places: npt.NDArray[np.int8], counts: npt.NDArray[np.int16], stage: int, covered: int, counted: bool
) -> tuple[list[int], list[int]]:
    flags = 3
    first: list[tuple[int, int]] = []
    middle: list[tuple[int, int]] = []
    last: list[tuple[int, int]] = []
    for at in range(len(nodes) - 1, -1, -1):
        place = int(places[at, flags, stage, covered])
        if place == _SKIP:
            continue
        count = int(counts[at, flags, stage, covered])
        {_FIRST: first, _MIDDLE: middle, _LAST: last}[place].append((int(nodes[at]), count))
        covered -= count
        stage -= int(counted)
        flags &= ~_GIVES[place]
    stages = [*first, *sorted(middle), *last]
    return [node for node, _ in stages], [count for _, count in stages]
