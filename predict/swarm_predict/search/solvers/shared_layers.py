"""Find which machines share layers: the best groups, their order and their layers, with a proven bound.

One group (tensor parallel) or a pipeline of groups, as the engine takes it. For given groups the layers go one each,
then to the cheapest layer first, as for a chain of single machines. Few machines are searched in full: every set of
disjoint groups that the engine's rules allow, every order, without those whose bound is above the best found. More are
searched by moves of one machine at a time, and bounded by the cheapest layer that a group of each size could have.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from swarm_predict.cost.all_reduce import messages, software_rounds
from swarm_predict.cost.machine_groups import ALL_REDUCES_PER_LAYER
from swarm_predict.cost.shared_times import GroupCost, SharedTimes
from swarm_predict.types import DoesNotFit, NotMeasured
from swarm_protocol.snapshot.swarm import Floats

ALL_GROUPINGS: Final = 7  # machines: 4,140 groupings
ALL_SUBSETS: Final = 12  # for one group
MAX_TRIED: Final = 4000  # groupings, beyond that
_TIE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Shared:
    """Groups in the order of their layers; positions of `SharedTimes`."""

    groups: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...]  # of each group
    taken: tuple[int, ...] | None  # one group with unequal shares: how many layers' worth each machine takes
    value_ms: float  # of a step


@dataclass(slots=True)
class _Search:
    times: SharedTimes
    sizes: frozenset[int]
    required: frozenset[int]
    most_machines: int
    best: Shared | None = None
    bound_ms: float = np.inf  # the least of what was not ruled out, in whatever order groups meet
    by_machines: dict[int, float] = field(default_factory=dict)

    def allows(self, groups: Sequence[Sequence[int]]) -> bool:
        used = {k for group in groups for k in group}
        return (
            self.required <= used
            and len(used) <= self.most_machines
            and all(len(group) in self.sizes for group in groups)
            and not (self.times.engine.equal_groups and len({len(group) for group in groups}) > 1)
        )

    def consider(self, groups: Sequence[Sequence[int]]) -> float:
        """Price a grouping; infinity if it is not allowed or does not fit."""
        if not groups or not self.allows(groups):
            return float("inf")
        costs = [self.times.group(group) for group in groups]
        count = sum(len(group) for group in groups)
        least = self._least(costs)
        best_of_count = self.by_machines.get(count, np.inf)
        if not np.isfinite(least) or least > max(self.best.value_ms if self.best else np.inf, best_of_count):
            return float("inf")
        found = self._ordered(costs, least=False)
        if found is None:
            return float("inf")
        whatever_order = self._ordered(costs, least=True)
        self.bound_ms = min(self.bound_ms, found.value_ms, whatever_order.value_ms if whatever_order else np.inf)
        self._keep(found, count)
        return found.value_ms

    def consider_uneven(self, members: Sequence[int]) -> None:
        """Price one group with shares in proportion to speed."""
        if not self.allows([members]) or len(members) < 2:
            return
        split = self.times.uneven(members)
        if split is None:
            return
        at, taken = split
        cost = self.times.group(at)
        speeds, launch = self.times.layer_ms[list(at)], self.times.launch_ms[list(at)]
        order = [at.index(k) for k in cost.members]
        share = taken / taken.sum()
        change = float((share * speeds + launch).max()) - float((speeds / len(at) + launch).max())
        head = float((share * self.times.head_ms[list(at)]).max())
        total = self.times.model.layers
        value = total * (cost.layer_ms + change) + cost.visit_ms + head + cost.ends_ms + self.times.fixed_ms
        if np.isfinite(value):
            self.bound_ms = min(self.bound_ms, value - total * (cost.layer_ms - cost.least_layer_ms))
            kept = tuple(int(taken[k]) for k in order)
            self._keep(Shared((cost.members,), (total,), kept, value), len(at))

    def _keep(self, found: Shared, count: int) -> None:
        self.by_machines[count] = min(self.by_machines.get(count, np.inf), found.value_ms)
        if self.best is None or found.value_ms < self.best.value_ms - _TIE:
            self.best = found

    def _single(self, cost: GroupCost, *, least: bool) -> float:
        each = cost.least_layer_ms if least else cost.layer_ms
        return self.times.model.layers * each + cost.visit_ms + cost.head_ms + cost.ends_ms + self.times.fixed_ms

    def _least(self, costs: Sequence[GroupCost]) -> float:
        """Return what no order of these groups undercuts; infinity if they do not hold the model."""
        if len(costs) == 1:
            fits = costs[0].capacity["only"] >= self.times.model.layers
            return self._single(costs[0], least=True) if fits else float("inf")
        split = _split(
            [c.least_layer_ms for c in costs], [max(c.capacity.values()) for c in costs], self.times.model.layers
        )
        if split is None:
            return float("inf")
        whole = sum(n * c.least_layer_ms + c.visit_ms for n, c in zip(split, costs, strict=True))
        return whole + min(c.head_ms for c in costs) + self.times.fixed_ms

    def _ordered(self, costs: Sequence[GroupCost], *, least: bool) -> Shared | None:
        """Return the best order of these groups, with its layers. `least`: as if each met and sent in the best way."""
        count, times = len(costs), self.times
        if count == 1:
            value = self._single(costs[0], least=least)
            return Shared((costs[0].members,), (times.model.layers,), None, value) if np.isfinite(value) else None
        each = [c.least_layer_ms if least else c.layer_ms for c in costs]
        hops = np.array([[0.0 if a is b else times.hop_ms(a, b, least=least) for b in costs] for a in costs])
        orders = _orders(hops)
        way = hops[orders[:, :-1], orders[:, 1:]].sum(axis=1)
        visits = sum(c.visit_ms for c in costs) + times.fixed_ms
        best: Shared | None = None
        for first, last in itertools.permutations(range(count), 2):
            mine = np.flatnonzero((orders[:, 0] == first) & (orders[:, -1] == last))
            if not len(mine):
                continue
            room = [
                c.capacity["first" if k == first else "last" if k == last else "middle"] for k, c in enumerate(costs)
            ]
            split = _split(each, room, times.model.layers)
            if split is None:
                continue
            k = mine[int(np.argmin(way[mine]))]
            home = times.home_ms(costs[last], costs[first], least=least)
            value = float(way[k]) + visits + costs[last].head_ms + home
            value += sum(n * ms for n, ms in zip(split, each, strict=True))
            if np.isfinite(value) and (best is None or value < best.value_ms):
                order = [int(g) for g in orders[k]]
                best = Shared(
                    tuple(costs[g].members for g in order), tuple(split[g] for g in order), None, value
                )  # fmt: skip
        return best


def _split(layer_ms: Sequence[float], room: Sequence[int], layers: int) -> list[int] | None:
    """Return one layer each, then the cheapest first; None if they do not fit."""
    if min(room) < 1 or sum(room) < layers or len(room) > layers:
        return None
    found, left = [1] * len(room), layers - len(room)
    for k in sorted(range(len(room)), key=lambda k: layer_ms[k]):
        more = min(left, room[k] - 1)
        found[k] += more
        left -= more
    return found


def _orders(hops: Floats) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return all orders of few groups; of many, the one that goes to the nearest next, from each start."""
    count = len(hops)
    if count <= ALL_GROUPINGS:
        return np.array(list(itertools.permutations(range(count))), np.int64)
    found = []
    for start in range(count):
        order, rest = [start], set(range(count)) - {start}
        while rest:
            order.append(min(rest, key=lambda k: float(hops[order[-1], k])))
            rest.remove(order[-1])
        found.append(order)
    return np.array(found, np.int64)


def solve_shared(
    times: SharedTimes,
    usable: Iterable[int],
    required: Iterable[int] = (),
    max_machines: int | None = None,
) -> tuple[Shared, float, dict[int, float]]:
    """Return (the best, what no placement undercuts, the best of each number of machines), in milliseconds of a step.

    Raises DoesNotFit and NotMeasured."""
    known = [k for k in usable if np.isfinite(times.layer_ms[k])]
    if not known:
        raise NotMeasured("no layer time of any machine is known; measure it or write mem_gbps")
    sizes = frozenset(times.engine.sizes_allowed(times.model, len(known), times.cards))
    search = _Search(times, sizes, frozenset(required), max_machines or len(known))
    small = len(known) <= (ALL_GROUPINGS if times.engine.groups else ALL_SUBSETS)
    with np.errstate(invalid="ignore"):
        _all(search, known) if small else _some(search, known)
    if search.best is None:
        raise _why_not(search, known)
    value = search.best.value_ms
    bound = search.bound_ms if small else _cheapest_layers(times, known, sizes)
    return search.best, min(bound, value), dict(sorted(search.by_machines.items()))


def _all(search: _Search, known: Sequence[int]) -> None:
    if search.times.engine.groups:
        for groups in _groupings(list(known)):
            search.consider(groups)
        return
    for size in sorted(search.sizes):
        for members in itertools.combinations(known, size):
            search.consider([members])
            if search.times.engine.uneven:
                search.consider_uneven(members)


def _groupings(left: list[int], groups: tuple[tuple[int, ...], ...] = ()) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield every set of disjoint groups of some of the machines."""
    if not left:
        yield groups
        return
    first, rest = left[0], left[1:]
    yield from _groupings(rest, groups)
    yield from _groupings(rest, (*groups, (first,)))
    for k, group in enumerate(groups):
        yield from _groupings(rest, (*groups[:k], (*group, first), *groups[k + 1 :]))


def _some(search: _Search, known: Sequence[int]) -> None:
    """Grow groups around each machine, and machines within several distances of each other; then improve the best."""
    times = search.times
    size = times.engine.reduce_bytes(times.model, 1, times.workload.activations)
    near = times.delivery(size)
    for start in known:
        order = sorted(known, key=lambda k: (k != start, float(near[start, k] + near[k, start]), times.layer_ms[k]))
        for count in sorted(search.sizes):
            search.consider([order[:count]])
            if times.engine.uneven:
                search.consider_uneven(order[:count])
    if times.engine.groups:
        for limit in np.unique(np.quantile(near[np.ix_(known, known)], np.linspace(0, 1, 12))):
            clusters = _within(near, known, float(limit))
            for count in sorted(search.sizes):
                search.consider([c[i : i + count] for c in clusters for i in range(0, len(c) - len(c) % count, count)])
            search.consider(clusters)
    _improve(search, known)


def _within(near: Floats, known: Sequence[int], limit: float) -> list[list[int]]:
    """Return groups of machines that are all within `limit` of each other, greedily."""
    found: list[list[int]] = []
    for k in known:
        for group in found:
            if all(max(near[k, j], near[j, k]) <= limit for j in group):
                group.append(k)
                break
        else:
            found.append([k])
    return found


def _improve(search: _Search, known: Sequence[int]) -> None:
    """Move, add, drop and swap one machine at a time while that helps."""
    tried = 0
    while search.best is not None and tried < MAX_TRIED:
        before = search.best
        for groups in _neighbours([list(group) for group in before.groups], known, search.times.engine.groups):
            search.consider(groups)
            tried += 1
        if search.best is before:
            return


def _neighbours(groups: list[list[int]], known: Sequence[int], several: bool) -> Iterator[list[list[int]]]:
    used = {k for group in groups for k in group}
    spare = [k for k in known if k not in used]
    for g, group in enumerate(groups):
        for k in group:
            without = [[j for j in other if j != k] for other in groups]
            yield [other for other in without if other]
            for other in range(len(groups) + (1 if several else 0)):
                if other != g:
                    moved = [[*each] for each in without] + ([[]] if other == len(groups) else [])
                    moved[other].append(k)
                    yield [each for each in moved if each]
            for new in spare:
                yield [[new if j == k else j for j in other] for other in groups]
    for new in spare:
        for other in range(len(groups) + (1 if several else 0)):
            grown = [[*each] for each in groups] + ([[]] if other == len(groups) else [])
            grown[other].append(new)
            yield grown


def _cheapest_layers(times: SharedTimes, known: Sequence[int], sizes: Iterable[int]) -> float:
    """Return a step's time that no placement undercuts: every layer by the best group of any size that could be."""
    at = list(known)
    speeds, heads, software = (np.sort(part[at]) for part in (times.layer_ms, times.head_ms, times.reduce_ms))
    each, head, launch = np.inf, np.inf, float(times.launch_ms[at].min())
    for size in sizes:
        if times.engine.uneven:
            compute = 1 / float((1 / speeds[:size]).sum())
            last = 1 / float((1 / np.maximum(heads[:size], _TIE)).sum())
        else:
            compute, last = float(speeds[size - 1]) / size, float(heads[size - 1]) / size
        meet = software_rounds(times.kind, size) * float(software[size - 1]) if size > 1 else 0.0
        bytes_ = times.engine.reduce_bytes(times.model, 1, times.workload.activations)
        for here in messages(times.kind, size, bytes_):
            near = np.sort(times.delivery(here[0][2])[np.ix_(at, at)] + np.diag([np.inf] * len(at)), axis=1)
            if times.kind == "mesh":
                meet += float(np.sort(near[:, size - 2])[size - 1])
            else:
                everybody = times.kind != "tree" and len(here) >= size
                meet += float(np.sort(near[:, 0])[size - 1 if everybody else 0])
        each, head = min(each, compute + launch + ALL_REDUCES_PER_LAYER * meet), min(head, last)
    return times.model.layers * each + head + float(times.visit_ms[at].min()) + times.fixed_ms


def _why_not(search: _Search, known: Sequence[int]) -> DoesNotFit | NotMeasured:
    times = search.times
    pairs = times.delivery(4.0)[np.ix_(list(known), list(known))]
    if not np.isfinite(pairs).all():
        src, dst = np.argwhere(~np.isfinite(pairs))[0]
        return NotMeasured(
            f"no round trip {times.names[known[src]]} → {times.names[known[dst]]}; measure or give [[link]]"
        )
    sizes = ", ".join(str(size) for size in sorted(search.sizes))
    return DoesNotFit(
        f"no group of the sizes that {times.engine.name} takes ({sizes}) holds {times.model.name}; add nodes, or use "
        "smaller --weights or --context"
    )
