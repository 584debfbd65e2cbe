"""Tensor parallel: every node of a group holds a share of the group's layers, and all of them meet twice a layer.

One group is plain tensor parallel; several, each with its own layers, are a hybrid: tensor parallel inside, a pipeline
between, where the first node of a group sends the activation to every node of the next, and the last group's token goes
back to the first (Narayanan et al., arXiv 2104.04473). The nodes of a group hold equal shares, or (one group) shares as
the layers they are given. How they meet is `all_reduce`'s business. Chunks of a prompt overlap between groups.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from swarm_predict.cost import assumptions as words
from swarm_predict.cost.build import client_row
from swarm_predict.cost.engines import TOKEN_BYTES, engine_facts
from swarm_predict.cost.layer_times import LayerColumns, by_hand, layer_columns
from swarm_predict.cost.memory import needs
from swarm_predict.cost.network import links
from swarm_predict.cost.software import software_assumed, visits_ms
from swarm_predict.forecast.all_reduce import messages
from swarm_predict.forecast.draws import Drawn, Trip, draw_trips
from swarm_predict.forecast.first_token import FIRST_TOKEN_SHARE
from swarm_predict.forecast.prediction import NOT_KNOWN, largest_cause, needs_line, quantiles, rates
from swarm_predict.forecast.redundancy import total_share
from swarm_predict.forecast.speculative import drafting_ms, step_width, step_yield
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import shares_all
from swarm_predict.priors.nodes import to_median
from swarm_predict.types import (
    Breakdown,
    NotMeasured,
    Placement,
    PredictError,
    Prediction,
    Quantiles,
    StageCost,
    Workload,
)
from swarm_protocol.snapshot.swarm import Floats, Swarm

ALL_REDUCES_PER_LAYER = 2  # after attention and after the MLP


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes (positions in the placement) that hold the same layers, and the share of each."""

    members: tuple[int, ...]
    first: int
    last: int
    share: Floats

    @property
    def layers(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class _Pass:
    """Draws of one pass of some tokens through all groups."""

    compute: list[Floats]  # of each group: everybody waits for the slowest share
    met: list[Floats]  # its all-reduces
    between: Floats  # all messages between groups
    head: Floats
    rtt_ms: float
    upload_ms: float
    rounds: int  # messages that wait for each other
    software: Floats  # of the all-reduces, beyond their bytes and paths

    @property
    def network(self) -> Floats:
        return np.asarray(sum(self.met, self.between))


def groups_of(placement: Placement, model: ModelShape, engine: str) -> list[Group]:
    """In layer order; one group where the engine knows no pipeline."""
    if engine != "hybrid":
        equal = shares_all(placement, model)
        share = [1 / len(placement) if equal else stage.layers / model.layers for stage in placement]
        return [Group(tuple(range(len(placement))), 0, model.layers - 1, np.array(share))]
    found = []
    for first, last in sorted({(stage.first, stage.last) for stage in placement}):
        members = tuple(k for k, stage in enumerate(placement) if (stage.first, stage.last) == (first, last))
        found.append(Group(members, first, last, np.full(len(members), 1 / len(members))))
    return found


def predict_shared(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> Prediction:
    """Raises NotMeasured where a node's speed or a pair's path is not known."""
    if workload.redundancy > 1 or workload.offload_gbps:
        what = "compared copies are" if workload.redundancy > 1 else "offloading is"
        raise PredictError(f"{what} not modelled for {workload.engine}; leave that out, or ask with --engine chain")
    return _Shared(swarm, model, placement, workload).prediction()


class _Shared:
    def __init__(self, swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> None:
        self.swarm, self.model, self.workload = swarm, model, workload
        self.groups = groups_of(placement, model, workload.engine)
        self.placement = tuple(placement[k] for group in self.groups for k in group.members)
        self.groups = groups_of(self.placement, model, workload.engine)
        self.rows = [swarm.index(stage.node) for stage in self.placement]
        self.names = [stage.node for stage in self.placement]
        self.rng = np.random.default_rng(workload.seed)
        self.at_ns = None if by_hand(swarm) else swarm.at_ns
        self.paths = links(swarm, self.rows)
        self.width = step_width(workload)
        self.visit_ms = visits_ms(swarm, self.rows)

    def prediction(self) -> Prediction:
        work = self.workload
        layer = layer_columns(
            self.swarm, self.rows, self.model, work.weights, "decode", self.width, work.context,
            engine=work.engine, priors=work.priors,
        )  # fmt: skip
        slow = [name for name, ms in zip(self.names, layer.ms, strict=True) if not np.isfinite(ms)]
        if slow:
            raise NotMeasured(f"how fast {words.some(slow)} runs {self.model.name} is not known; {words.MEASURE}")
        step = self._pass(layer, self.width, work.draws)
        software = self._software_ms(step.rounds, self.width) + step.software + drafting_ms(work)
        share = 1 / step_yield(work)
        compute = np.asarray(sum(step.compute))
        tpot = quantiles((step.network + compute + step.head + software) * share)
        parts = [float(part.mean()) * share for part in (compute, step.network, step.head)]
        memory, room = self._memory(), self.swarm.nodes["vram_bytes"][self.rows]
        too_big = [
            needs_line(name, f"{group.first}-{group.last} (a share)", float(m), float(r), work.weights)
            for name, group, m, r in zip(self.names, self._group_of_each(), memory, room, strict=True)
            if not m <= r
        ]
        ttft, ttft_notes = self._first_token(layer)
        named = client_row(self.swarm, work)
        return Prediction(
            model=self.model.name,
            weights=work.weights,
            engine=work.engine,
            client=None if named is None else self.swarm.names[named],
            placement=self.placement,
            fits=not too_big,
            tpot_ms=tpot,
            tokens_per_s=rates(tpot),
            throughput_tokens_per_s=self._throughput(tpot.mean, step),
            ttft_ms=ttft,
            breakdown_ms=Breakdown(parts[0], parts[1], float(software.mean()) * share, parts[2]),
            stages=self._stage_costs(step, layer, memory, share),
            limited_by="memory"
            if too_big
            else largest_cause(self._causes(step), parts[0] + parts[2], float(software.mean())),
            notes=(*too_big, *self._notes(), *ttft_notes),
            hops=step.rounds,
            measured=self._measured(layer, step, float(tpot.mean) / share),
        )

    def _measured(self, layer: LayerColumns, step: _Pass, whole_ms: float) -> float:
        """Of the mean time of a step, the share that rests on measurements of these machines and paths."""
        rests = sum(
            float(part.mean())
            for group, part in zip(self.groups, step.compute, strict=True)
            if all(layer.measured[k] for k in group.members)
        )
        rests += float(step.head.mean()) if all(layer.measured[k] for k in self.groups[-1].members) else 0.0
        rests += float(step.network.mean()) if self.at_ns is not None else 0.0
        rests += sum(float(self.visit_ms[list(group.members)].max()) for group in self.groups)
        return min(1.0, rests / whole_ms) if whole_ms > 0 else 1.0

    # -- time

    def _pass(self, layer: LayerColumns, tokens: int, draws: int) -> _Pass:
        work = self.workload
        size = self.model.hop_bytes(tokens, work.activations)
        normal = self.rng.standard_normal((2, len(self.rows), draws))
        factor = np.exp(layer.spread[:, None] * normal[0] + layer.doubt[:, None] * normal[1])
        sample = layer.assumed.sample(self.rng, draws)
        factor = factor * layer.factor(sample, list(range(len(self.rows)))).T
        asked = software_assumed(self.swarm, self.rows, work, self.paths)
        meeting = np.where(asked.any(axis=0), sample.reduce_ms, 0.0)
        software, median = np.zeros(draws), 0.0
        met, compute, rounds = [], [], 0
        rtt = upload = 0.0
        for group in self.groups:
            at = list(group.members)
            each = (group.share * layer.ms[at] * group.layers * work.compute_scale)[:, None] * factor[at]
            compute.append(each.max(axis=0))
            drawn, causes, count = self._all_reduces(group, size, draws)
            met.append(drawn)
            rtt, upload, rounds = rtt + causes[0], upload + causes[1], rounds + count
            software = software + count * meeting[:, at].max(axis=1)
            median += float((group.share * layer.ms[at]).max()) * group.layers * work.compute_scale
            median += count * float(np.where(asked.any(axis=0), layer.assumed.reduce_ms, 0.0)[at].max())
        last = list(self.groups[-1].members)
        head = ((self.groups[-1].share * layer.head_ms[last] * work.compute_scale)[:, None] * factor[last]).max(axis=0)
        median += float((self.groups[-1].share * layer.head_ms[last]).max()) * work.compute_scale
        if not layer.assumed.priors.neutral:
            scale = to_median(sum(compute, head + software), median)
            compute, head, software = [part * scale for part in compute], head * scale, software * scale
        between = np.zeros(draws)
        for before, after in itertools.pairwise(self.groups):
            trips = [Trip(before.members[0], k, size * len(after.members), None) for k in after.members]
            drawn_between, causes = self._slowest(trips, draws)
            between = between + drawn_between
            rtt, upload, rounds = rtt + causes[0], upload + causes[1], rounds + 1
        if len(self.groups) > 1:
            home = [Trip(self.groups[-1].members[0], self.groups[0].members[0], float(TOKEN_BYTES * tokens), None)]
            back, causes = self._slowest(home, draws)
            between = between + back
            rtt, upload, rounds = rtt + causes[0], upload + causes[1], rounds + 1
        return _Pass(compute, met, between, head, rtt, upload, rounds, software)

    def _all_reduces(self, group: Group, size: float, draws: int) -> tuple[Floats, tuple[float, float], int]:
        """(draws of all of a group's all-reduces in a row, their idle paths and serialisation, how many rounds).

        The sum of many independent rounds is close to normal, so mean and variance of one round are enough."""
        count = ALL_REDUCES_PER_LAYER * group.layers
        plan = messages(self.workload.all_reduce, len(group.members), size)
        total, rtt, upload = np.zeros(draws), 0.0, 0.0
        known: dict[tuple[tuple[int, int, float], ...], tuple[Floats, tuple[float, float]]] = {}
        for here in plan:
            key = tuple(here)
            if key not in known:  # a ring goes the same round again and again
                known[key] = self._slowest(
                    [Trip(group.members[a], group.members[b], b_, None) for a, b, b_ in here], draws
                )
            slowest, causes = known[key]
            total += count * slowest.mean() + math.sqrt(count) * slowest.std() * self.rng.standard_normal(draws)
            rtt, upload = rtt + count * causes[0], upload + count * causes[1]
        return total, (rtt, upload), count * len(plan)

    def _slowest(self, trips: list[Trip], draws: int) -> tuple[Floats, tuple[float, float]]:
        """Draws of messages side by side, of which the last is waited for; (idle path, serialisation) of that one."""
        for size in {trip.size_bytes for trip in trips}:
            delivery = self.paths.delivery_ms(size)
            for trip in trips:
                if trip.size_bytes == size and not np.isfinite(delivery[trip.src, trip.dst]):
                    pair = f"{self.names[trip.src]} → {self.names[trip.dst]}"
                    raise NotMeasured(f"no path {pair} is known; measure it or write a [[link]]")
        drawn = draw_trips(self.paths, trips, self.rng, draws, self.at_ns, self.workload.slow_start)
        k = int(np.argmax(drawn.ms.mean(axis=0)))
        return drawn.ms.max(axis=1), (float(drawn.rtt_ms[k]), float(drawn.upload_ms[k]))

    def _software_ms(self, rounds: int, tokens: int) -> float:
        work = self.workload
        visits = sum(float(self.visit_ms[list(group.members)].max()) for group in self.groups)
        proofs = sum(work.proof_ms * tokens * group.layers * float(group.share.max()) for group in self.groups)
        return visits + work.hop_overhead_ms * rounds + work.client_ms + proofs

    def _throughput(self, mean_ms: float, step: _Pass) -> float:
        """The busiest group's compute; waiting for each other leaves the machines to other requests."""
        work = self.workload
        busy = [float(part.mean()) for part in step.compute]
        busy[-1] += float(step.head.mean())
        busy = [ms + float(self.visit_ms[list(g.members)].max()) for ms, g in zip(busy, self.groups, strict=True)]
        each = step_yield(work)
        return work.batch * 1e3 * min(work.streams / mean_ms, each / max(*busy, 1e-9)) * total_share(work)

    def _first_token(self, step: LayerColumns) -> tuple[Quantiles, list[str]]:
        """The prompt, in chunks that overlap between groups: as `first_token`, with groups for stages."""
        work = self.workload
        chunk = min(work.prefill_chunk or work.prompt, work.prompt)
        chunks = math.ceil(work.prompt / chunk)
        prompt = layer_columns(
            self.swarm, self.rows, self.model, work.weights, "prefill", 1, work.prompt,
            engine=work.engine, priors=work.priors,
        )  # fmt: skip
        slow = [name for name, ms in zip(self.names, prompt.ms, strict=True) if not np.isfinite(ms)]
        if slow:
            return NOT_KNOWN, [f"first token not known: no prefill time and no tflops of {words.some(slow)}"]
        reading = step.ms * (
            self.model.weights_touched(work.weights, 1)
            / self.model.bytes_touched(work.weights, self.width, work.context)
        )
        floor = np.where(np.isfinite(reading), reading, 0.0)
        layer = replace(prompt, ms=np.maximum(prompt.ms / chunks, floor), head_ms=step.head_ms)
        one = self._pass(layer, chunk, max(1, work.draws // FIRST_TOKEN_SHARE))
        groups = np.array([c + m for c, m in zip(one.compute, one.met, strict=True)])
        total = groups.sum(axis=0) + one.between + one.head + one.software + self._software_ms(one.rounds, chunk)
        return quantiles(total + (chunks - 1) * groups.max(axis=0)), []

    # -- memory, and what is said

    def _group_of_each(self) -> list[Group]:
        return [group for group in self.groups for _ in group.members]

    def _memory(self) -> Floats:
        work, model = self.workload, self.model
        need = needs(model, work, engine_facts(work))
        head, embedding = model.head_bytes(work.weights), model.embedding_bytes(work.weights)
        found = np.zeros(len(self.rows))
        for k, group in enumerate(self.groups):
            ends = head if k == len(self.groups) - 1 else 0.0
            if k == 0 and not (model.tied and len(self.groups) == 1):
                ends += embedding
            whole = model.stage_bytes(group.first, group.last, work.weights) + need.kv_bytes * group.layers + ends
            found[list(group.members)] = group.share * whole + need.scratch_bytes
        return found + need.runtime(self.swarm.nodes["vram_bytes"][self.rows])

    def _notes(self) -> list[str]:
        work = self.workload
        lines = []
        for group in self.groups:
            plan = messages(work.all_reduce, len(group.members), 1.0)
            if plan:
                where = "" if len(self.groups) == 1 else f" of layers {group.first}-{group.last}"
                lines.append(
                    f"{ALL_REDUCES_PER_LAYER * group.layers} all-reduces a token{where}, each of {len(plan)} "
                    f"round{'s' if len(plan) > 1 else ''} ({work.all_reduce})"
                )
        if work.engine != "hybrid":
            equal = shares_all(self.placement, self.model)
            how = "an equal share" if equal else "a share as the layers it is given"
            lines.append(f"each node holds {how}")
        return lines

    def _causes(self, step: _Pass) -> Drawn:
        rest = max(0.0, float(step.network.mean()) - step.rtt_ms - step.upload_ms)
        return Drawn(np.zeros((1, 1)), *(np.array([part]) for part in (step.rtt_ms, step.upload_ms, rest)))

    def _stage_costs(self, step: _Pass, layer: LayerColumns, memory: Floats, share: float) -> tuple[StageCost, ...]:
        room = self.swarm.nodes["vram_bytes"][self.rows]
        costs = []
        for number, group in enumerate(self.groups):
            hop_ms = float(step.met[number].mean()) * share
            for k, part in zip(group.members, group.share, strict=True):
                mean = math.exp((layer.spread[k] ** 2 + layer.doubt[k] ** 2) / 2)
                compute = float(part * layer.ms[k] * group.layers * mean) * self.workload.compute_scale
                costs.append(
                    StageCost(
                        node=self.names[k],
                        layers=self._given(group, k),
                        compute_ms=compute * share,
                        hop_ms=hop_ms,
                        memory_bytes=float(memory[k]),
                        memory_free_bytes=float(room[k] - memory[k]),
                    )
                )
        return tuple(costs)

    def _given(self, group: Group, k: int) -> int:
        one = len(self.groups) == 1 and not shares_all(self.placement, self.model) and self.workload.engine != "hybrid"
        return self.placement[k].layers if one else group.layers
