"""Plan for many users: how many replicas to run, on which machines, and the role of each machine.

Every subset of machines has a rate (`subset_rates`). For few machines the split into each number of replicas with the
largest sum of rates is exact (over subsets); for more, machines go to the replica with the least memory so far, largest
memory first. The splits, and the placements between least latency and most throughput, are then evaluated under the
arrivals (`serve`), and the best is chosen. Spare machines may then relieve the limiting one, in a further placement
that shares the others. With speculative decoding, each placement is also evaluated without it, and the chosen one with
every number of draft tokens up to the given one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from swarm_predict.cost.engines import engine_facts
from swarm_predict.model.shapes import ModelShape
from swarm_predict.serving.queueing.distributions import Spread
from swarm_predict.serving.replicas import Replicas
from swarm_predict.serving.serve import Serving, drafts_of, serving_of
from swarm_predict.serving.subset_rates import GroupRates, PipelineRates, Rates
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import BadPlacement, DoesNotFit, NotMeasured, Placement, PredictError, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm

LIGHT: Final = 0.01  # of the most that is sustained: nobody waits
WINDOWS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
GUESSES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
WIDENED: Final = 3  # machines that take a limiting one's place beside it, at most
WORTH_WIDENING: Final = 0.02  # of the most that is sustained


@dataclass(frozen=True, slots=True)
class Candidate:
    """Placements side by side, under the given arrivals."""

    placements: tuple[Placement, ...]
    most_per_s: float
    most_tokens_per_s: float
    light_tpot_ms: float  # with nobody else there
    tpot_ms: Spread | None  # under the arrivals; None: not sustained
    ttft_ms: Spread | None
    within_per_s: float | None  # the most with the time per token within the limit; None: no limit is given
    guesses: int = 0  # of each window, verified in every pass
    windows: int = 1  # of a sequence in flight


@dataclass(frozen=True, slots=True)
class Role:
    """What one machine is best for."""

    node: str
    replica: int | None  # from 1; None: a spare
    first: int = 0
    last: int = -1
    busy: float = 0.0
    worth: float | None = None  # share of all tokens a second that the swarm would lose without it; None: not known


@dataclass(frozen=True, slots=True)
class ServingPlan:
    serving: Serving
    workload: Workload  # with the guesses that it is for
    candidates: tuple[Candidate, ...]  # of which none is better in both: time per token, and tokens a second
    roles: tuple[Role, ...]
    exact: bool  # the splits are the best of their number of replicas, by the sum of rates


def plan_serving(
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    traffic: Traffic,
    *,
    tpot_limit_ms: float | None = None,
    most_replicas: int = 8,
    time_limit_s: float = 3.0,
) -> ServingPlan:
    """Choose the placements that serve these arrivals best: within the limit the most requests; without one the least
    time per token that sustains the arrivals, else the most requests. Raises as `serve` and `search.plan` do."""
    facts = engine_facts(workload)
    rates: Rates = (
        GroupRates(swarm, model, workload, traffic)
        if facts.pattern == "all-reduce"
        else PipelineRates(swarm, model, workload, traffic, time_limit_s)
    )
    search = _Search(swarm, model, workload, traffic, tpot_limit_ms)
    for placements in _candidates(rates, most_replicas):
        search.consider(placements)
    if not search.found:
        raise search.problem or DoesNotFit(
            f"no placement of {model.name} has room for one request; take smaller --weights"
        )
    if facts.pattern != "all-reduce":
        search.widen(rates, most_replicas)
    search.guess_less()
    chosen = search.best()
    serving = serving_of(swarm, model, chosen, drafts_of(swarm, model, chosen))
    candidates = _undominated([each for each, _ in search.found.values()])
    return ServingPlan(serving, chosen.workload, candidates, _roles(rates, serving), rates.exact)


class _Search:
    """The placements that were priced, by themselves and the number of guesses."""

    def __init__(
        self, swarm: Swarm, model: ModelShape, workload: Workload, traffic: Traffic, tpot_limit_ms: float | None
    ) -> None:
        self.swarm, self.model, self.workload, self.traffic = swarm, model, workload, traffic
        self.tpot_limit_ms = tpot_limit_ms
        self.found: dict[tuple[tuple[Placement, ...], int, int], tuple[Candidate, Replicas]] = {}
        self.problem: PredictError | None = None

    def consider(self, placements: Sequence[Placement]) -> None:
        """Price placements side by side, with guesses and without."""
        for guesses in {self.workload.draft_tokens, 0}:
            self._price(placements, guesses, self.workload.windows if guesses else 1)

    def _price(self, placements: Sequence[Placement], guesses: int, windows: int) -> None:
        key = (tuple(sorted(placements, key=lambda each: [stage.node for stage in each])), guesses, windows)
        if key in self.found:
            return
        try:
            load = replace(self.workload, draft_tokens=guesses, windows=windows)
            replicas = Replicas(self.swarm, self.model, key[0], load, self.traffic)
        except (DoesNotFit, NotMeasured, BadPlacement) as error:
            self.problem = error
            return
        self.found[key] = (_priced(replicas, self.traffic, self.tpot_limit_ms), replicas)

    def best(self) -> Replicas:
        return max(self.found.values(), key=lambda pair: _worth(pair[0]))[1]

    def guess_less(self) -> None:
        """Price the best placements with every number of guesses, and of windows, up to the given ones."""
        fewer = [windows for windows in WINDOWS if windows < self.workload.windows]
        for windows in fewer if self.workload.draft_tokens else ():
            self._price(self.best().placements, self.workload.draft_tokens, windows)
        for guesses in GUESSES:
            if guesses < self.workload.draft_tokens:
                self._price(self.best().placements, guesses, self.best().workload.windows)

    def widen(self, rates: Rates, most_replicas: int) -> None:
        """Let machines that are left over take the limiting one's layers, beside it, while more is sustained."""
        for _ in range(WIDENED):
            before = self.best()
            if len(before.placements) >= most_replicas:
                return
            further = list(_beside(before, rates))
            for placements in further:
                self.consider(placements)
            if self.best().most_per_s < before.most_per_s * (1 + WORTH_WIDENING):
                return


def _beside(found: Replicas, rates: Rates) -> Iterator[tuple[Placement, ...]]:
    """Yield the placements with a further one, in which a spare machine stands for the one that limits."""
    used = {stage.node for placement in found.placements for stage in placement}
    spares = [rates.names[row] for row in rates.rows if rates.names[row] not in used]
    for placement, limit in zip(found.placements, found.together.limits(), strict=True):
        for k, stage in enumerate(placement):
            if len(placement) > 1 and limit.split("'s ")[0] == stage.node:
                for spare in spares:
                    instead = Stage(spare, stage.first, stage.last)
                    yield (*found.placements, (*placement[:k], instead, *placement[k + 1 :]))


def _priced(replicas: Replicas, traffic: Traffic, tpot_limit_ms: float | None) -> Candidate:
    most, arrivals = replicas.most_per_s, traffic.arrivals_per_s
    here = replicas.at(arrivals) if arrivals < most else None
    return Candidate(
        replicas.placements,
        most,
        most * traffic.generate.mean,
        replicas.at(most * LIGHT).tpot_ms.mean,
        None if here is None else here.tpot_ms,
        None if here is None else here.ttft_ms,
        None if tpot_limit_ms is None else replicas.most_within(tpot_limit_ms),
        replicas.workload.draft_tokens,
        replicas.workload.windows,
    )


def _worth(each: Candidate) -> tuple[float, ...]:
    sustained = each.tpot_ms is not None
    if each.within_per_s is not None:
        return (each.within_per_s, -each.light_tpot_ms)
    return (1.0, -each.tpot_ms.mean) if each.tpot_ms is not None and sustained else (0.0, each.most_per_s)


def _undominated(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return those of which no other has both a lower time per token and more tokens a second, quickest first."""
    kept: list[Candidate] = []
    for each in sorted(candidates, key=lambda each: (each.light_tpot_ms, -each.most_tokens_per_s)):
        if not kept or each.most_tokens_per_s > kept[-1].most_tokens_per_s:
            kept.append(each)
    return tuple(kept)


def _candidates(rates: Rates, most_replicas: int) -> Iterator[tuple[Placement, ...]]:
    yield from ((placement,) for placement in rates.alone())
    for groups in _splits(rates, most_replicas):
        placements = [rates.placement(group) for group in groups]
        found = tuple(each for each in placements if each is not None)
        if found:
            yield found


def _splits(rates: Rates, most_replicas: int) -> list[tuple[frozenset[int], ...]]:
    return _exact_splits(rates, most_replicas) if rates.exact else _built_splits(rates, most_replicas)


def _exact_splits(rates: Rates, most_replicas: int) -> list[tuple[frozenset[int], ...]]:
    """Return for each number of replicas the disjoint sets with the largest sum of rates."""
    count = len(rates.rows)
    value = [0.0] * (1 << count)
    for mask in range(1, 1 << count):
        value[mask] = rates.of(_members(rates.rows, mask))
    best, parts = list(value), [[mask] for mask in range(1 << count)]
    found = []
    for number in range(1, most_replicas + 1):
        full = (1 << count) - 1
        if number > 1:
            before, parts_before = best, parts
            best, parts = [0.0] * (1 << count), [[] for _ in range(1 << count)]
            for mask in range(1, 1 << count):
                part = mask
                while part:
                    rest = mask ^ part
                    if value[part] > 0 and before[rest] > 0 and value[part] + before[rest] > best[mask]:
                        best[mask] = value[part] + before[rest]
                        parts[mask] = [part, *parts_before[rest]]
                    part = (part - 1) & mask
        if best[full] <= 0:
            break
        found.append(tuple(_members(rates.rows, part) for part in parts[full]))
    return found


def _members(rows: Sequence[int], mask: int) -> frozenset[int]:
    return frozenset(row for k, row in enumerate(rows) if mask >> k & 1)


def _built_splits(rates: Rates, most_replicas: int) -> list[tuple[frozenset[int], ...]]:
    """Return splits of many machines into one replica and more, of about the same memory each."""
    found: list[tuple[frozenset[int], ...]] = []
    by_room = sorted(rates.rows, key=lambda row: (-rates.room(row), row))
    for number in range(1, most_replicas + 1):
        groups: list[set[int]] = [set() for _ in range(number)]
        held = [0.0] * number
        for row in by_room:
            k = min(range(number), key=lambda k: (held[k], k))
            groups[k].add(row)
            held[k] += rates.room(row)
        sets = tuple(frozenset(group) for group in groups if group)
        if len(sets) < number or any(rates.of(group) <= 0 for group in sets):
            break
        found.append(sets)
    return found


def _roles(rates: Rates, serving: Serving) -> tuple[Role, ...]:
    """Return one role for each stage: a machine of several placements has one in each."""
    everyone = frozenset(rates.rows)
    row_of = {name: row for row, name in enumerate(rates.names)}
    groups = [frozenset(row_of[stage.node] for stage in each.placement) for each in serving.replicas]
    total = math.fsum(rates.of(group) for group in groups)
    apart = sum(len(group) for group in groups) == len(frozenset().union(*groups))
    roles = []
    for number, (each, group) in enumerate(zip(serving.replicas, groups, strict=True), 1):
        busy = {part.name: part.share for part in each.busy}
        for stage in each.placement:
            worth = None
            if apart and total > 0:
                without = rates.of((group | everyone.difference(*groups)) - {row_of[stage.node]})
                worth = max(0.0, rates.of(group) - without) / total
            roles.append(Role(stage.node, number, stage.first, stage.last, busy.get(stage.node, 0.0), worth))
    used = {each.node for each in roles}
    spare = [rates.names[row] for row in rates.rows if rates.names[row] not in used]
    return (*roles, *(Role(node, None) for node in spare))
