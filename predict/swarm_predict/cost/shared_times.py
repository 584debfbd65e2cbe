"""Compute median times of machines that share layers: a layer in a group, and the messages between groups.

The medians of `forecast.forward_pass.tensor_parallel`, group by group, so that a plan prices what is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.cost.all_reduce import messages, software_rounds
from swarm_predict.cost.engines import TOKEN_BYTES, all_reduce_of, engine_facts
from swarm_predict.cost.machine.cards import card_counts
from swarm_predict.cost.machine.layer_times import LayerColumns, layer_columns
from swarm_predict.cost.machine.memory import needs
from swarm_predict.cost.machine_groups import ALL_REDUCES_PER_LAYER
from swarm_predict.cost.software_overhead import engine_paths, software_assumed, visits_ms
from swarm_predict.cost.speculative import drafting_ms, step_width, step_yield
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import AllReduce, Workload
from swarm_protocol.snapshot.swarm import Floats, Ints, Swarm

PLACES: Final = ("first", "middle", "last", "only")


@dataclass(frozen=True, slots=True)
class GroupCost:
    """The cost of machines that share layers, in their order in the all-reduce. Times are for one step."""

    members: tuple[int, ...]
    layer_ms: float  # compute and all-reduces of one layer
    least_layer_ms: float  # in any order
    visit_ms: float
    head_ms: float
    ends_ms: float  # of a root that hands out the token and collects the logits; 0 for other engines
    capacity: dict[str, int]  # layers, by the group's place among the groups


class SharedTimes:
    """Costs over some rows of a swarm; members are positions in `rows`."""

    def __init__(
        self,
        swarm: Swarm,
        model: ModelShape,
        workload: Workload,
        rows: Sequence[int],
        *,
        layer: LayerColumns | None = None,
        width: int | None = None,
    ) -> None:
        """`layer` and `width` (tokens) are for another pass than a step, such as a prompt chunk."""
        self.model, self.workload = model, workload
        self.engine, self.kind = engine_facts(workload), all_reduce_of(workload)
        self.names = [swarm.facts[row].name for row in rows]
        self.paths = engine_paths(swarm, rows, workload)
        self.width = step_width(workload) if width is None else width
        layer = layer or layer_columns(
            swarm, rows, model, workload.weights, "decode", self.width, workload.context,
            engine=workload.engine, priors=workload.priors, tensor_parallel=workload.tensor_parallel,
        )  # fmt: skip
        asked = software_assumed(swarm, rows, workload, self.paths)
        self.reduce_ms = np.where(asked.any(axis=0), layer.assumed.reduce_ms, 0.0)
        # kernels are launched for every layer, however small the share
        launch = np.where(layer.measured, 0.0, layer.assumed.launch_ms)
        self.launch_ms = launch * workload.compute_scale
        self.layer_ms = (layer.ms - launch) * workload.compute_scale
        self.head_ms = layer.head_ms * workload.compute_scale
        self.cards = max(layer.cards, default=1)  # of each machine: the same everywhere in a run
        self.visit_ms = visits_ms(swarm, rows)
        self.need = needs(model, workload, self.engine)
        vram = np.nan_to_num(swarm.nodes["vram_bytes"][list(rows)], nan=0.0)
        self.room = vram - self.need.runtime(vram, card_counts(swarm, rows)) - self.need.scratch_bytes
        self._paths_scale = layer.assumed.paths[self.paths.kinds]
        self._deliveries: dict[float, Floats] = {}
        self._groups: dict[tuple[int, ...], GroupCost] = {}

    @property
    def fixed_ms(self) -> float:
        """Time of each step, whatever the placement."""
        return self.workload.client_ms + drafting_ms(self.workload)

    @property
    def per_token(self) -> float:
        return 1 / step_yield(self.workload)

    def delivery(self, size_bytes: float) -> Floats:
        """Return (n, n): the median delivery of a message."""
        if size_bytes not in self._deliveries:
            self._deliveries[size_bytes] = (
                self.paths.usual_delivery_ms(size_bytes, self.workload.slow_start) * self._paths_scale
            )
        return self._deliveries[size_bytes]

    def group(self, members: Sequence[int]) -> GroupCost:
        key = tuple(sorted(members))
        if key not in self._groups:
            self._groups[key] = self._priced(key)
        return self._groups[key]

    def _priced(self, members: tuple[int, ...]) -> GroupCost:
        order = self._meeting_order(members)
        count, at = len(order), list(order)
        compute = float((self.layer_ms[at] / count + self.launch_ms[at]).max())
        proof = self.workload.proof_ms * self.width / count
        software = software_rounds(self.kind, count) * float(self.reduce_ms[at].max()) if count > 1 else 0.0
        actual, least = self._all_reduce_ms(order)
        actual, least = (ALL_REDUCES_PER_LAYER * (ms + software) for ms in (actual, least))
        return GroupCost(
            members=order,
            layer_ms=compute + proof + actual,
            least_layer_ms=compute + proof + least,
            visit_ms=float(self.visit_ms[at].max()),
            head_ms=float(self.head_ms[at].max()) / count,
            ends_ms=self._ends_ms(order),
            capacity={place: self.capacity(at, np.full(count, 1 / count), place) for place in PLACES},
        )

    def _meeting_order(self, members: tuple[int, ...]) -> tuple[int, ...]:
        """Order the members, each next to its nearest; the first stays the root."""
        if self.kind == "mesh" or len(members) < 4:
            return members
        size = self.engine.reduce_bytes(self.model, self.width, self.workload.activations)
        near, rest, order = self.delivery(size), list(members[1:]), [members[0]]
        while rest:
            order.append(min(rest, key=lambda k: float(near[order[-1], k])))
            rest.remove(order[-1])
        return tuple(order)

    def _all_reduce_ms(self, order: tuple[int, ...]) -> tuple[float, float]:
        """Return (the time of one all-reduce in this order, a lower bound over all orders)."""
        if len(order) < 2:
            return 0.0, 0.0
        size = self.engine.reduce_bytes(self.model, self.width, self.workload.activations)
        actual = 0.0
        at, rounds = np.array(order), messages(self.kind, len(order), size)
        for here in rounds:
            src, dst = at[[a for a, _, _ in here]], at[[b for _, b, _ in here]]
            actual += float(self.delivery(here[0][2])[src, dst].max())
        software = self.workload.hop_overhead_ms * len(rounds)
        if self.kind == "mesh" or len(order) == 2:
            return actual + software, actual + software
        least = least_rounds_ms(self.kind, self.delivery(rounds[0][0][2])[np.ix_(at, at)], len(rounds))
        return actual + software, min(least, actual) + software

    def _ends_ms(self, order: tuple[int, ...]) -> float:
        sizes = self.engine.root_bytes(self.model, self.width, self.workload.batch, len(order))
        if sizes is None:
            return 0.0
        root, rest = order[0], list(order[1:])
        embedded, slices = sizes
        out, back = self.delivery(embedded)[root, rest].max(), self.delivery(slices)[rest, root].max()
        return float(out + back) + 2 * self.workload.hop_overhead_ms

    def capacity(self, at: Sequence[int], share: Floats, place: str) -> int:
        """Return how many layers fit on machines that hold these shares of each."""
        model, weights = self.model, self.workload.weights
        ends = 0.0
        if not self.engine.ends_everywhere:
            if place in ("last", "only"):
                ends += model.head_bytes(weights)
            if place == "first" or (place == "only" and not model.tied):
                ends += model.embedding_bytes(weights)
        whole = float((self.room[list(at)] / share).min()) - ends
        layer = max(model.stage_bytes(0, model.layers - 1, weights) / model.layers, 1.0) + self.need.kv_bytes
        return int(np.clip(np.floor(whole / layer * (1 + 1e-12)), 0, model.layers))

    def hop_ms(self, before: GroupCost, after: GroupCost, *, least: bool = False) -> float:
        """Return the time from the first machine of a group to every one of the next. `least`: from whichever is
        nearest."""
        size = self.engine.hop_bytes(self.model, self.width, self.workload.activations) * len(after.members)
        slowest = self.delivery(size)[np.ix_(before.members, after.members)].max(axis=1)
        return float(slowest.min() if least else slowest[0]) + self.workload.hop_overhead_ms

    def home_ms(self, last: GroupCost, first: GroupCost, *, least: bool = False) -> float:
        back = self.delivery(float(TOKEN_BYTES * self.width))[np.ix_(last.members, first.members)]
        return float(back.min() if least else back[0, 0]) + self.workload.hop_overhead_ms

    def uneven(self, members: Sequence[int]) -> tuple[tuple[int, ...], Ints] | None:
        """Return the machines and the layers' worth of every layer that each takes, in proportion to their speed as far
        as their memory allows; None if that does not fit."""
        at, total = list(members), self.model.layers
        whole = self.model.stage_bytes(0, total - 1, self.workload.weights) + self.need.kv_bytes * total
        whole += self.model.head_bytes(self.workload.weights)
        whole += 0.0 if self.model.tied else self.model.embedding_bytes(self.workload.weights)
        most = np.floor(np.clip(self.room[at] / whole, 0.0, 1.0) * total).astype(np.int64)
        if most.sum() < total or len(at) > total or (most < 1).any():
            return None
        taken = np.ones(len(at), np.int64)
        for _ in range(total - len(at)):
            after = np.where(taken < most, (taken + 1) / total * self.layer_ms[at] + self.launch_ms[at], np.inf)
            taken[int(np.argmin(after))] += 1
        return tuple(at), taken


def least_rounds_ms(kind: AllReduce, between: Floats, rounds: int) -> float:
    """Return the least time of an all-reduce's rounds, in whatever order the machines are. `between` is (n, n).

    A ring (gloo's too) passes every machine, by two of its links. In doubling each exchanges with another one in every
    round, with a power of two of machines taking part. Each one is reached at least once, in a tree both ways.
    """
    count = len(between)
    apart = np.where(np.eye(count, dtype=bool), np.inf, between)
    nearest = float(np.minimum(apart, apart.T).min(axis=1).max())
    if kind in ("ring", "gloo"):
        return rounds * float(np.sort(np.minimum(apart, apart.T), axis=1)[:, 1].max())
    if kind == "doubling":
        pairs = count.bit_length() - 1
        partners = np.sort(np.maximum(apart, apart.T), axis=1)[:, :pairs].sum(axis=1)
        each_round = float(np.sort(partners)[(1 << pairs) - 1]) + (rounds - pairs) * float(apart.min())
        return max(each_round, nearest)
    return max(rounds * float(apart.min()), 2 * nearest)
