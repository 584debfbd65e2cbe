"""Draw a decode step of tensor-parallel groups: each node holds a share of every layer, with two all-reduces a layer.

One group is plain tensor parallel; several, each with its own layers, are a hybrid: tensor parallel inside, a pipeline
between, where the first node of a group sends the activation to every node of the next, and the last group's token goes
back to the first (Narayanan et al., arXiv 2104.04473). The nodes of a group hold equal shares, or (one group) shares as
the layers they are given. `all_reduce` has the rounds of messages. Chunks of a prompt overlap between groups.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from swarm_predict.cost import assumptions as words
from swarm_predict.cost.build import client_row
from swarm_predict.cost.engines import TOKEN_BYTES, engine_facts
from swarm_predict.cost.inputs import Inputs
from swarm_predict.cost.layer_times import LayerColumns, by_hand, layer_columns
from swarm_predict.cost.memory import needs
from swarm_predict.cost.network import links
from swarm_predict.cost.software import software_assumed, visits_ms
from swarm_predict.cost.speculative import step_width
from swarm_predict.forecast.all_reduce import messages
from swarm_predict.forecast.assembly import Question, StageStep, Step
from swarm_predict.forecast.draws import FIRST_TOKEN_SHARE, Trip, draw_trips, mirrored_normal
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import shares_all
from swarm_predict.priors.nodes import to_median
from swarm_predict.types import NotMeasured, Placement, PredictError, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

ALL_REDUCES_PER_LAYER = 2  # after attention and after the MLP
TINY_MS = 1e-9


@dataclass(frozen=True, slots=True)
class Group:
    """The nodes (positions in the placement) that share the same layers, and the share of each."""

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
    """Return the groups in layer order: one, unless the engine is a hybrid."""
    if engine != "hybrid":
        equal = shares_all(placement, model)
        share = [1 / len(placement) if equal else stage.layers / model.layers for stage in placement]
        return [Group(tuple(range(len(placement))), 0, model.layers - 1, np.array(share))]
    found = []
    for first, last in sorted({(stage.first, stage.last) for stage in placement}):
        members = tuple(k for k, stage in enumerate(placement) if (stage.first, stage.last) == (first, last))
        found.append(Group(members, first, last, np.full(len(members), 1 / len(members))))
    return found


class TensorParallel:
    """One placement under one workload. Positions are those of the placement, group by group."""

    def __init__(self, swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> None:
        """Raises PredictError for options that are not modelled for these engines."""
        if workload.redundancy > 1 or workload.offload_gbps:
            what = "compared copies are" if workload.redundancy > 1 else "offloading is"
            raise PredictError(f"{what} not modelled for {workload.engine}; leave that out, or ask with --engine chain")
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
        self.layer = layer_columns(
            swarm, self.rows, model, workload.weights, "decode", self.width, workload.context,
            engine=workload.engine, priors=workload.priors,
        )  # fmt: skip

    @property
    def question(self) -> Question:
        named = client_row(self.swarm, self.workload)
        engine = engine_facts(self.workload)
        inputs = Inputs(
            names=tuple(self.names),
            engine=engine,
            rows=tuple(self.rows),
            client=None,  # not in the loop, and its path is not counted: a note says so
            layer=self.layer,
            links=self.paths,
            needs=needs(self.model, self.workload, engine),
            vram_bytes=self.swarm.nodes["vram_bytes"][self.rows],
        )
        client = None if named is None else self.swarm.names[named]
        return Question(self.swarm, self.model, self.placement, self.workload, inputs, client)

    def step(self) -> Step:
        """Draw one decode step. Raises NotMeasured if a node's speed or a pair's path is not known."""
        work, layer = self.workload, self.layer
        slow = [name for name, ms in zip(self.names, layer.ms, strict=True) if not np.isfinite(ms)]
        if slow:
            raise NotMeasured(f"how fast {words.some(slow)} runs {self.model.name} is not known; {words.MEASURE}")
        one = self._pass(layer, self.width, work.draws)
        rest = float(one.network.mean()) - one.rtt_ms - one.upload_ms
        return Step(
            compute_ms=np.asarray(sum(one.compute)),
            network_ms=one.network,
            head_ms=one.head,
            software_ms=self._software_ms(one.rounds, self.width) + one.software,
            path_ms={"rtt": one.rtt_ms, "jitter": max(0.0, rest), "upload": one.upload_ms},
            measured_ms=self._measured_ms(layer, one),
            stages=self._stages(one, layer),
            busy_ms=self._busy_ms(one),
            hops=one.rounds,
            notes=self._notes(),
        )

    def first_token(self) -> tuple[Floats | None, list[str]]:
        """Draw the time to the first token; None, and why, if something is not known."""
        return self._first_token(self.layer)

    def _measured_ms(self, layer: LayerColumns, step: _Pass) -> float:
        """Mean time of a step that rests on measurements of these machines and paths."""
        rests = sum(
            float(part.mean())
            for group, part in zip(self.groups, step.compute, strict=True)
            if all(layer.measured[k] for k in group.members)
        )
        rests += float(step.head.mean()) if all(layer.measured[k] for k in self.groups[-1].members) else 0.0
        rests += float(step.network.mean()) if self.at_ns is not None else 0.0
        return rests + sum(float(self.visit_ms[list(group.members)].max()) for group in self.groups)

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
        software, software_median = np.zeros(draws), 0.0
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
            software_median += count * float(np.where(asked.any(axis=0), layer.assumed.reduce_ms, 0.0)[at].max())
        last = list(self.groups[-1].members)
        head = ((self.groups[-1].share * layer.head_ms[last] * work.compute_scale)[:, None] * factor[last]).max(axis=0)
        if not layer.assumed.priors.neutral:
            compute, head, software = self._recentred(layer, compute, head, software, software_median)
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

    def _recentred(
        self, layer: LayerColumns, compute: list[Floats], head: Floats, software: Floats, software_median: float
    ) -> tuple[list[Floats], Floats, Floats]:
        """Move the median of what is assumed to the sum of its medians (`to_median`); what is measured stays."""
        known = [all(layer.measured[k] for k in group.members) for group in self.groups]
        assumed, median = software, software_median
        for group, part, measured in zip(self.groups, compute, known, strict=True):
            if not measured:
                assumed = assumed + part
                slowest = float((group.share * layer.ms[list(group.members)]).max())
                median += slowest * group.layers * self.workload.compute_scale
        last = self.groups[-1]
        if not known[-1]:
            assumed = assumed + head
            median += float((last.share * layer.head_ms[list(last.members)]).max()) * self.workload.compute_scale
        scale = to_median(assumed, median)
        return (
            [part if measured else part * scale for part, measured in zip(compute, known, strict=True)],
            head if known[-1] else head * scale,
            software * scale,
        )

    def _all_reduces(self, group: Group, size: float, draws: int) -> tuple[Floats, tuple[float, float], int]:
        """Return (draws of all all-reduces of a group, their idle paths and serialisation, the number of rounds).

        The sum of many independent rounds is close to normal, so mean and variance of one round are enough. The error
        of a path's figure is the same in every round, so it does not average out."""
        count = ALL_REDUCES_PER_LAYER * group.layers
        plan = messages(self.workload.all_reduce, len(group.members), size)
        total, rtt, upload = np.zeros(draws), 0.0, 0.0
        known: dict[tuple[tuple[int, int, float], ...], tuple[Floats, tuple[float, float], float]] = {}
        for here in plan:
            key = tuple(here)
            if key not in known:  # a ring goes the same round again and again
                trips = [Trip(group.members[a], group.members[b], b_, None) for a, b, b_ in here]
                known[key] = (*self._slowest(trips, draws), self._doubt_ms(trips, draws))
            slowest, causes, doubt_ms = known[key]
            in_a_row = count * slowest.mean() + math.sqrt(count) * slowest.std() * self.rng.standard_normal(draws)
            total += in_a_row * self._off_by(doubt_ms / max(float(slowest.mean()), TINY_MS), draws)
            rtt, upload = rtt + count * causes[0], upload + count * causes[1]
        return total, (rtt, upload), count * len(plan)

    def _slowest(self, trips: list[Trip], draws: int) -> tuple[Floats, tuple[float, float]]:
        """Draw parallel messages; return the slowest, with (idle path, serialisation) of the one slowest on average."""
        for size in {trip.size_bytes for trip in trips}:
            delivery = self.paths.delivery_ms(size)
            for trip in trips:
                if trip.size_bytes == size and not np.isfinite(delivery[trip.src, trip.dst]):
                    pair = f"{self.names[trip.src]} → {self.names[trip.dst]}"
                    raise NotMeasured(f"no path {pair} is known; measure it or write a [[link]]")
        drawn = draw_trips(self.paths, trips, self.rng, draws, self.at_ns, self.workload.slow_start)
        k = int(np.argmax(drawn.ms.mean(axis=0)))
        return drawn.ms.max(axis=1), (float(drawn.rtt_ms[k]), float(drawn.upload_ms[k]))

    def _doubt_ms(self, trips: list[Trip], draws: int) -> float:
        """Return the standard deviation of a round's time that comes from uncertain figures: estimates, bounds, age.

        Paired draws with and without that uncertainty, so that delay variation cancels out."""
        if self.at_ns is None:
            return 0.0
        paths = replace(self.paths, loss=np.zeros_like(self.paths.loss))
        seed = int(self.rng.integers(2**63))
        sure, doubted = (
            draw_trips(paths, trips, np.random.default_rng(seed), draws, at_ns, self.workload.slow_start)
            for at_ns in (None, self.at_ns)
        )
        return float((doubted.ms.max(axis=1) - sure.ms.max(axis=1)).std())

    def _off_by(self, relative: float, draws: int) -> Floats | float:
        """Draw a factor with mean 1 and this standard deviation."""
        if relative <= 0:
            return 1.0
        factor = np.exp(math.sqrt(math.log1p(relative**2)) * mirrored_normal(self.rng, draws))
        return np.asarray(factor / factor.mean())

    def _software_ms(self, rounds: int, tokens: int) -> float:
        work = self.workload
        visits = sum(float(self.visit_ms[list(group.members)].max()) for group in self.groups)
        proofs = sum(work.proof_ms * tokens * group.layers * float(group.share.max()) for group in self.groups)
        return visits + work.hop_overhead_ms * rounds + work.client_ms + proofs

    def _busy_ms(self, step: _Pass) -> tuple[float, ...]:
        """Return how long a step occupies each group: its compute, since waiting nodes can serve other requests."""
        busy = [float(part.mean()) for part in step.compute]
        busy[-1] += float(step.head.mean())
        return tuple(ms + float(self.visit_ms[list(g.members)].max()) for ms, g in zip(busy, self.groups, strict=True))

    def _first_token(self, step: LayerColumns) -> tuple[Floats | None, list[str]]:
        """Draw the prompt in chunks that overlap between groups, as `first_token` does between stages."""
        work = self.workload
        chunk = min(work.prefill_chunk or work.prompt, work.prompt)
        chunks = math.ceil(work.prompt / chunk)
        prompt = layer_columns(
            self.swarm, self.rows, self.model, work.weights, "prefill", 1, work.prompt,
            engine=work.engine, priors=work.priors,
        )  # fmt: skip
        slow = [name for name, ms in zip(self.names, prompt.ms, strict=True) if not np.isfinite(ms)]
        if slow:
            return None, [f"first token not known: no prefill time and no tflops of {words.some(slow)}"]
        reading = step.ms * (
            self.model.weights_touched(work.weights, 1)
            / self.model.bytes_touched(work.weights, self.width, work.context)
        )
        floor = np.where(np.isfinite(reading), reading, 0.0)
        layer = replace(prompt, ms=np.maximum(prompt.ms / chunks, floor), head_ms=step.head_ms)
        one = self._pass(layer, chunk, max(1, work.draws // FIRST_TOKEN_SHARE))
        groups = np.array([c + m for c, m in zip(one.compute, one.met, strict=True)])
        total = groups.sum(axis=0) + one.between + one.head + one.software + self._software_ms(one.rounds, chunk)
        return total + (chunks - 1) * groups.max(axis=0), []

    # -- memory, and what is said

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

    def _notes(self) -> tuple[str, ...]:
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
            how = "an equal share" if equal else "a share in proportion to the layers it is given"
            lines.append(f"each node holds {how}")
        named = client_row(self.swarm, work)
        if named is not None:
            lines.append(f"{work.engine}: the path to the client {self.swarm.names[named]} is not counted")
        return tuple(lines)

    def _stages(self, step: _Pass, layer: LayerColumns) -> tuple[StageStep, ...]:
        memory, stages = self._memory(), []
        for number, group in enumerate(self.groups):
            for k, part in zip(group.members, group.share, strict=True):
                mean = math.exp((layer.spread[k] ** 2 + layer.doubt[k] ** 2) / 2)
                stages.append(
                    StageStep(
                        layers=self._given(group, k),
                        holds=f"{group.first}-{group.last} (a share)",
                        compute_ms=float(part * layer.ms[k] * group.layers * mean) * self.workload.compute_scale,
                        hop_ms=float(step.met[number].mean()),
                        memory_bytes=float(memory[k]),
                    )
                )
        return tuple(stages)

    def _given(self, group: Group, k: int) -> int:
        one = len(self.groups) == 1 and not shares_all(self.placement, self.model) and self.workload.engine != "hybrid"
        return self.placement[k].layers if one else group.layers
