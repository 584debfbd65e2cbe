"""Compute passes through groups of machines that share layers, by the medians that plan them (`cost.shared_times`).

A group computes one micro-batch at a time and is idle during its all-reduces, because engines run them in the stream of
the pass. So a group is one station, busy for its layers, its all-reduces at the batch's size and its LM head. Between
groups the first machine's uplink is a station, as in a pipeline.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swarm_predict.cost.build import prompt_columns
from swarm_predict.cost.machine.cards import card_counts
from swarm_predict.cost.machine.layer_times import layer_columns
from swarm_predict.cost.machine_groups import Group, check_groups, groups_of
from swarm_predict.cost.shared_times import GroupCost, SharedTimes
from swarm_predict.model.shapes import ModelShape
from swarm_predict.serving.routes.kv_cache_capacity import Room
from swarm_predict.serving.routes.route import Station
from swarm_predict.types import NotMeasured, Placement, PredictError, Stage, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm
from swarm_protocol.units import transfer_ms

NOTED_BATCH = 16  # sequences, for the share of a pass that all-reduces take


class GroupPasses:
    """One placement of groups under one load."""

    def __init__(self, swarm: Swarm, model: ModelShape, placement: Placement, load: Workload) -> None:
        self.swarm, self.model, self.placement, self.load = swarm, model, placement, load
        self.rows = [swarm.index(stage.node) for stage in placement]
        self.groups = groups_of(placement, model, load.engine)
        one = self._times(1)
        check_groups(self.groups, model, one.engine)
        slow = [name for name, ms in zip(one.names, one.layer_ms, strict=True) if not np.isfinite(ms)]
        if slow:
            raise NotMeasured(f"how fast {slow[0]} runs {model.name} is not known; measure it or write mem_gbps")
        self.one = one
        self._known: dict[int, Floats] = {}
        machines = [
            Station(" + ".join(names), "machine", members=names)
            for group in self.groups
            for names in [tuple(placement[k].node for k in group.members)]
        ]
        self._senders = self._uplinks()
        self.stations = (*machines, *(Station(one.names[k], "uplink") for k in self._senders))
        costs = self._costs(one)
        self.between_ms = self._hops_ms(one, costs) + load.client_ms
        if not math.isfinite(self.between_ms + float(self.decode_ms(1).sum())):
            raise NotMeasured("a path between machines of the placement is not known; measure it or write a [[link]]")
        self.notes = tuple(self._noted())

    @property
    def steps(self) -> int:
        return len(self.groups)

    def _times(self, size: int) -> SharedTimes:
        return SharedTimes(self.swarm, self.model, replace(self.load, batch=size), self.rows)

    def _costs(self, times: SharedTimes) -> list[GroupCost]:
        return [times.group(group.members) for group in self.groups]

    def _uplinks(self) -> dict[int, int]:
        """Return who sends to the next group, where the rate is known: its group, by position."""
        if len(self.groups) == 1:
            return {}
        found = {}
        for number, cost in enumerate(self._costs(self.one)[:-1]):
            first = cost.members[0]
            if np.isfinite(self.swarm.nodes["up_mbps"][self.rows[first]]):
                found[first] = number
        return found

    def _sent_ms(self, times: SharedTimes, sender: int, width: int) -> float:
        """Return how long activations for every machine of the next group keep the sender's uplink."""
        to = len(self.groups[self._senders[sender] + 1].members)
        size = times.engine.hop_bytes(self.model, width, self.load.activations) * to
        return float(transfer_ms(size, float(self.swarm.nodes["up_mbps"][self.rows[sender]])))

    def _hops_ms(self, times: SharedTimes, costs: Sequence[GroupCost]) -> float:
        """Return the ways between groups and home, without what keeps uplinks."""
        if len(costs) == 1:
            return 0.0
        hops = sum(times.hop_ms(a, b) for a, b in itertools.pairwise(costs))
        sent = sum(self._sent_ms(times, k, times.width) for k in self._senders)
        return max(0.0, hops - sent) + times.home_ms(costs[-1], costs[0])

    def _group_ms(self, times: SharedTimes, group: Group, cost: GroupCost, *, last: bool) -> float:
        compute = cost.layer_ms
        head = cost.head_ms
        at = list(group.members)
        if len(set(group.share)) > 1:  # shares in proportion to the layers that each is given
            equal = float((times.layer_ms[at] / len(at) + times.launch_ms[at]).max())
            compute += float((group.share * times.layer_ms[at] + times.launch_ms[at]).max()) - equal
            head = float((group.share * times.head_ms[at]).max())
        return group.layers * compute + cost.visit_ms + cost.ends_ms + (head if last else 0.0)

    def decode_ms(self, size: int) -> Floats:
        """Return (stations,) of a decoding pass of so many sequences."""
        if size not in self._known:
            times = self.one if size == 1 else self._times(size)
            self._known[size] = self._station_ms(times, drafting_ms=times.fixed_ms - self.load.client_ms)
        return self._known[size]

    def part_ms(self, length: float, passes: float) -> Floats:
        """Return (stations,) of one part of a prompt. Raises NotMeasured if no prefill time is known."""
        load = self.load
        prompt = max(1, round(length))
        cached = min(load.cached_prompt, prompt - 1)
        each = max(1, round((prompt - cached) / passes))
        whole = prompt_columns(self.swarm, self.rows, self.model, replace(load, prompt=prompt, cached_prompt=cached))
        slow = [stage.node for stage, ms in zip(self.placement, whole.ms, strict=True) if not np.isfinite(ms)]
        if slow:
            raise NotMeasured(f"no prefill time and no tflops of {slow[0]} are known; measure it or write tflops")
        step = layer_columns(
            self.swarm, self.rows, self.model, load.weights, "decode", 1, load.context,
            engine=load.engine, priors=load.priors, tensor_parallel=load.tensor_parallel,
        )  # fmt: skip
        bytes_read = self.model.bytes_touched(load.weights, 1, load.context)
        reading = step.ms * (self.model.weights_touched(load.weights, 1) / bytes_read)
        floor = np.where(np.isfinite(reading), reading, 0.0)
        layer = replace(whole, ms=np.maximum(whole.ms / passes, floor), head_ms=step.head_ms)
        plain = replace(load, batch=1, draft_tokens=0)
        times = SharedTimes(self.swarm, self.model, plain, self.rows, layer=layer, width=each)
        return self._station_ms(times)

    def _station_ms(self, times: SharedTimes, drafting_ms: float = 0.0) -> Floats:
        costs = self._costs(times)
        machines = [
            self._group_ms(times, group, cost, last=number == len(costs) - 1)
            for number, (group, cost) in enumerate(zip(self.groups, costs, strict=True))
        ]
        machines[0] += drafting_ms  # the first machine drafts
        return np.array([*machines, *(self._sent_ms(times, k, times.width) for k in self._senders)])

    def rooms(self, tokens: float) -> list[Room]:
        need, model, found = self.one.need, self.model, []
        weights = self.load.weights
        runtime = need.runtime(self.swarm.nodes["vram_bytes"][self.rows], card_counts(self.swarm, self.rows))
        for number, group in enumerate(self.groups):
            ends = model.head_bytes(weights) if number == len(self.groups) - 1 else 0.0
            if number == 0 and not (model.tied and len(self.groups) == 1):
                ends += model.embedding_bytes(weights)
            if self.one.engine.ends_everywhere:
                ends = 0.0  # in full on every machine: among what is not shared
            whole = model.stage_bytes(group.first, group.last, weights) + ends
            cache = model.stage_cache_bytes(group.first, group.last, math.ceil(tokens))
            for k, share in zip(group.members, group.share, strict=True):
                held = float(share) * whole + need.scratch_bytes + float(runtime[k])
                has = float(self.swarm.nodes["vram_bytes"][self.rows[k]])
                layers = f"{group.first}-{group.last} (a share)"
                found.append(Room(self.placement[k].node, layers, has, held, float(share) * cache))
        return found

    def held_bytes(self, stages: Sequence[Stage], k: int) -> float:
        raise PredictError(
            f"{self.placement[k].node} is in two placements; a machine that shares layers serves in one of them, since "
            "each group's all-reduces hold its machines until all have met"
        )

    def _noted(self) -> list[str]:
        """Say what all-reduces take of a pass, with one sequence and with many."""
        many, lines = self._times(NOTED_BATCH), []
        for number, group in enumerate(self.groups):
            if len(group.members) < 2:
                continue
            shares = [self._meeting_share(times, group, number) for times in (self.one, many)]
            lines.append(
                f"{self.stations[number].name} meet in all-reduces for {shares[0]:.0%} of a pass with one sequence, "
                f"{shares[1]:.0%} with {NOTED_BATCH}; they work on one micro-batch at a time"
            )
        return lines

    def _meeting_share(self, times: SharedTimes, group: Group, number: int) -> float:
        cost, at = times.group(group.members), list(group.members)
        whole = self._group_ms(times, group, cost, last=number == len(self.groups) - 1)
        compute = float((times.layer_ms[at] / len(at) + times.launch_ms[at]).max())
        return group.layers * max(0.0, cost.layer_ms - compute) / whole
