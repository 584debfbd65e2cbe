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
from swarm_predict.cost.all_reduce import messages, software_rounds
from swarm_predict.cost.build import client_row, prompt_columns
from swarm_predict.cost.engines import TOKEN_BYTES, all_reduce_of, engine_facts
from swarm_predict.cost.inputs import Inputs
from swarm_predict.cost.machine.cards import card_counts
from swarm_predict.cost.machine.layer_times import LayerColumns, by_hand, layer_columns
from swarm_predict.cost.machine.memory import needs
from swarm_predict.cost.machine_groups import ALL_REDUCES_PER_LAYER, Group, check_groups, groups_of, shares_all
from swarm_predict.cost.software_overhead import engine_paths, software_assumed, visits_ms
from swarm_predict.cost.speculative import step_width
from swarm_predict.forecast.assembly import First, Question, StageStep, Step
from swarm_predict.forecast.draws import FIRST_TOKEN_SHARE, Trip, draw_trips, mirrored_normal
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.assumed_figures import to_median
from swarm_predict.priors.individual_effects import PATH_KINDS
from swarm_predict.types import NotMeasured, Placement, PredictError, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

TINY_MS = 1e-9


@dataclass(frozen=True, slots=True)
class _Pass:
    """Draws of one pass of some tokens through all groups."""

    compute: list[Floats]  # of each group: all wait for the slowest share
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


class TensorParallel:
    """One placement under one workload. Positions are those of the placement, group by group."""

    def __init__(self, swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> None:
        """Validate the options. Raises PredictError for options that are not modelled for these engines."""
        if workload.redundancy > 1 or workload.offload_gbps:
            what = "compared copies are" if workload.redundancy > 1 else "offloading is"
            raise PredictError(f"{what} not modelled for {workload.engine}; leave that out, or ask with --engine chain")
        self.swarm, self.model, self.workload = swarm, model, workload
        self.engine, self.all_reduce = engine_facts(workload), all_reduce_of(workload)
        self.groups = groups_of(placement, model, workload.engine)
        check_groups(self.groups, model, self.engine)
        self.placement = tuple(placement[k] for group in self.groups for k in group.members)
        self.groups = groups_of(self.placement, model, workload.engine)
        self.rows = [swarm.index(stage.node) for stage in self.placement]
        self.names = [stage.node for stage in self.placement]
        self.rng = np.random.default_rng(workload.seed)
        self.at_ns = None if by_hand(swarm) else swarm.at_ns
        # a round waits for messages both ways, and the next one starts from there: over many rounds a pair takes half
        # its round trip for each, however its ways share it (Baccelli et al. 1992, §2.3: the mean of its cycle)
        self.paths = engine_paths(swarm, self.rows, workload).mean_ways()
        self.width = step_width(workload)
        self.visit_ms = visits_ms(swarm, self.rows)
        self.layer = layer_columns(
            swarm, self.rows, model, workload.weights, "decode", self.width, workload.context,
            engine=workload.engine, priors=workload.priors, tensor_parallel=workload.tensor_parallel,
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
        self.require_known()
        one = self._pass(layer, self.width, work.draws)
        rest = float(one.network.mean()) - one.rtt_ms - one.upload_ms
        return Step(
            compute_ms=np.asarray(sum(one.compute)),
            network_ms=one.network,
            head_ms=one.head,
            software_ms=self.software_ms(one.rounds, self.width) + one.software,
            path_ms={"rtt": one.rtt_ms, "jitter": max(0.0, rest), "upload": one.upload_ms},
            measured_ms=self._measured_ms(layer, one),
            stages=self._stages(one, layer),
            busy_ms=self._busy_ms(one),
            hops=one.rounds,
            notes=self._notes(),
        )

    def require_known(self) -> None:
        """Raise NotMeasured if a node's speed is not known."""
        slow = [name for name, ms in zip(self.names, self.layer.ms, strict=True) if not np.isfinite(ms)]
        if slow:
            raise NotMeasured(f"how fast {words.some(slow)} runs {self.model.name} is not known; {words.MEASURE}")

    def first_token(self) -> First:
        """Draw the time to the first token; the reason alone, if something is not known."""
        return self._first_token(self.layer)

    def _measured_ms(self, layer: LayerColumns, step: _Pass) -> float:
        """Return the mean time of a step that is based on measurements of these machines and paths."""
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
        size = self.engine.reduce_bytes(self.model, tokens, work.activations)
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
            each = (self.share_ms(group, layer) * group.layers * work.compute_scale)[:, None] * factor[at]
            compute.append(each.max(axis=0))
            drawn, causes, count = self._all_reduces(group, size, sample.paths)
            met.append(drawn)
            rtt, upload, rounds = rtt + causes[0], upload + causes[1], rounds + count
            times = ALL_REDUCES_PER_LAYER * group.layers * software_rounds(self.all_reduce, len(at))
            software = software + times * meeting[:, at].max(axis=1)
            software_median += times * float(np.where(asked.any(axis=0), layer.assumed.reduce_ms, 0.0)[at].max())
        last = list(self.groups[-1].members)
        head = ((self.groups[-1].share * layer.head_ms[last] * work.compute_scale)[:, None] * factor[last]).max(axis=0)
        if not layer.assumed.priors.neutral:
            compute, head, software = self._recentred(layer, compute, head, software, software_median)
        between = np.zeros(draws)
        for trips in self.single_trips(tokens):
            drawn_between, causes = self._slowest(trips, sample.paths)
            between = between + drawn_between
            rtt, upload, rounds = rtt + causes[0], upload + causes[1], rounds + 1
        return _Pass(compute, met, between, head, rtt, upload, rounds, software)

    def single_trips(self, tokens: int) -> list[list[Trip]]:
        """Return the messages of a step besides the all-reduces, those that leave together in one list.

        If an engine collects logits, the root (the first machine) sends the embedded token to each of the others, and
        slices of the logits come back; they share its uplink. Between groups the first machine sends its activation to
        every one of the next group, and the last group sends the token back.
        """
        found = []
        members = self.groups[0].members
        sizes = self.engine.root_bytes(self.model, tokens, self.workload.batch, len(members))
        if sizes is not None:
            found.append([Trip(members[0], k, sizes[0], None) for k in members[1:]])
            found.append([Trip(k, members[0], sizes[1], None) for k in members[1:]])
        hop = self.engine.hop_bytes(self.model, tokens, self.workload.activations)
        for before, after in itertools.pairwise(self.groups):
            found.append([Trip(before.members[0], k, hop * len(after.members), None) for k in after.members])
        if len(self.groups) > 1:
            found.append([Trip(self.groups[-1].members[0], members[0], float(TOKEN_BYTES * tokens), None)])
        return found

    def share_ms(self, group: Group, layer: LayerColumns) -> Floats:
        """Return what each member takes for its share of one layer. Its kernels are launched for every layer, however
        small the share."""
        at = list(group.members)
        launch = np.where([layer.measured[k] for k in at], 0.0, layer.assumed.launch_ms[at])
        return np.asarray(group.share * (layer.ms[at] - launch) + launch)

    def rounds_ms(self, group: Group) -> Floats:
        """Return the medians of the paths of one all-reduce, by kind of path."""
        size = self.engine.reduce_bytes(self.model, self.width, self.workload.activations)
        rounds = messages(self.all_reduce, len(group.members), size)
        trips = ([Trip(group.members[a], group.members[b], sent, None) for a, b, sent in here] for here in rounds)
        return np.asarray(sum((self.slowest_ms(here) for here in trips), np.zeros(len(PATH_KINDS))))

    def slowest_ms(self, trips: list[Trip]) -> Floats:
        """Return the median of the slowest of messages that leave together, at its kind of path; zeros elsewhere."""
        ms = [float(self.paths.usual_delivery_ms(trip.size_bytes)[trip.src, trip.dst]) for trip in trips]
        slowest = trips[int(np.argmax(ms))]
        found = np.zeros(len(PATH_KINDS))
        found[self.paths.kinds[slowest.src, slowest.dst]] = max(ms)
        return found

    def _recentred(
        self, layer: LayerColumns, compute: list[Floats], head: Floats, software: Floats, software_median: float
    ) -> tuple[list[Floats], Floats, Floats]:
        """Move the median of what is assumed to the sum of its medians (`to_median`); what is measured stays."""
        known = [all(layer.measured[k] for k in group.members) for group in self.groups]
        assumed, median = software, software_median
        for group, part, measured in zip(self.groups, compute, known, strict=True):
            if not measured:
                assumed = assumed + part
                slowest = float(self.share_ms(group, layer).max())
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

    def _all_reduces(self, group: Group, size: float, engine: Floats) -> tuple[Floats, tuple[float, float], int]:
        """Return (draws of all all-reduces of a group, their idle paths and serialisation, the number of rounds).
        `engine` is `Sample.paths`.

        The sum of many independent rounds is close to normal, so mean and variance of one round are enough. The error
        of a path's figure is the same in every round, so it does not average out."""
        count, draws = ALL_REDUCES_PER_LAYER * group.layers, len(engine)
        plan = messages(self.all_reduce, len(group.members), size)
        total, rtt, upload = np.zeros(draws), 0.0, 0.0
        known: dict[tuple[tuple[int, int, float], ...], tuple[Floats, tuple[float, float], int, float]] = {}
        for here in plan:
            key = tuple(here)
            if key not in known:  # a ring repeats the same round
                trips = [Trip(group.members[a], group.members[b], b_, None) for a, b, b_ in here]
                known[key] = (*self._slowest_round(trips, draws), self._doubt_ms(trips, draws))
            slowest, causes, kind, doubt_ms = known[key]
            in_a_row = count * slowest.mean() + math.sqrt(count) * slowest.std() * self.rng.standard_normal(draws)
            off = self._off_by(doubt_ms / max(float(slowest.mean()), TINY_MS), draws)
            total += in_a_row * off * engine[:, kind]
            rtt, upload = rtt + count * causes[0], upload + count * causes[1]
        return total, (rtt, upload), count * len(plan)

    def _slowest(self, trips: list[Trip], engine: Floats) -> tuple[Floats, tuple[float, float]]:
        """Draw parallel messages; return the slowest, with (idle path, serialisation) of the one slowest on average.
        `engine` is `Sample.paths`."""
        slowest, causes, kind = self._slowest_round(trips, len(engine))
        return slowest * engine[:, kind], causes

    def _slowest_round(self, trips: list[Trip], draws: int) -> tuple[Floats, tuple[float, float], int]:
        """Return the same before an engine's error, and the kind of the path of the one slowest on average."""
        for size in {trip.size_bytes for trip in trips}:
            delivery = self.paths.delivery_ms(size)
            for trip in trips:
                if trip.size_bytes == size and not np.isfinite(delivery[trip.src, trip.dst]):
                    pair = f"{self.names[trip.src]} → {self.names[trip.dst]}"
                    raise NotMeasured(f"no path {pair} is known; measure it or write a [[link]]")
        drawn = draw_trips(self.paths, trips, self.rng, draws, self.at_ns, self.workload.slow_start)
        kinds = self.paths.kinds[[trip.src for trip in trips], [trip.dst for trip in trips]]
        ms = drawn.ms * self.layer.assumed.paths[kinds]
        k = int(np.argmax(ms.mean(axis=0)))
        scale = float(self.layer.assumed.paths[kinds[k]])
        return ms.max(axis=1), (float(drawn.rtt_ms[k]) * scale, float(drawn.upload_ms[k]) * scale), int(kinds[k])

    def _doubt_ms(self, trips: list[Trip], draws: int) -> float:
        """Return the standard deviation of a round's time that comes from uncertain figures: estimates, bounds, age.

        Paired draws with and without that uncertainty, so that delay variation cancels out."""
        if self.at_ns is None and not any(self.paths.estimated[trip.src, trip.dst] for trip in trips):
            return 0.0
        doubtful = replace(self.paths, loss=np.zeros_like(self.paths.loss))
        certain = replace(doubtful, estimated=np.zeros_like(self.paths.estimated))
        seed = int(self.rng.integers(2**63))
        sure, doubted = (
            draw_trips(paths, trips, np.random.default_rng(seed), draws, at_ns, self.workload.slow_start)
            for paths, at_ns in ((certain, None), (doubtful, self.at_ns))
        )
        return float((doubted.ms.max(axis=1) - sure.ms.max(axis=1)).std())

    def _off_by(self, relative: float, draws: int) -> Floats | float:
        """Draw a factor with mean 1 and this standard deviation."""
        if relative <= 0:
            return 1.0
        factor = np.exp(math.sqrt(math.log1p(relative**2)) * mirrored_normal(self.rng, draws))
        return np.asarray(factor / factor.mean())

    def software_ms(self, rounds: int, tokens: int) -> float:
        work = self.workload
        visits = sum(float(self.visit_ms[list(group.members)].max()) for group in self.groups)
        proofs = sum(work.proof_ms * tokens * group.layers * float(group.share.max()) for group in self.groups)
        return visits + work.hop_overhead_ms * rounds + work.client_ms + proofs

    def _busy_ms(self, step: _Pass) -> tuple[float, ...]:
        """Return how long a step occupies each group: its compute, since waiting nodes can serve other requests."""
        busy = [float(part.mean()) for part in step.compute]
        busy[-1] += float(step.head.mean())
        return tuple(ms + float(self.visit_ms[list(g.members)].max()) for ms, g in zip(busy, self.groups, strict=True))

    def _first_token(self, step: LayerColumns) -> First:
        """Draw the prompt in chunks that overlap between groups, as `first_token` does between stages."""
        work = self.workload
        tokens = work.prompt - work.cached_prompt
        chunk = min(work.prefill_chunk or tokens, tokens)
        prompt = prompt_columns(self.swarm, self.rows, self.model, work)
        slow = [name for name, ms in zip(self.names, prompt.ms, strict=True) if not np.isfinite(ms)]
        if slow:
            return First(None, (f"first token not known: no prefill time and no tflops of {words.some(slow)}",))
        reading = step.ms * (
            self.model.weights_touched(work.weights, 1)
            / self.model.bytes_touched(work.weights, self.width, work.context)
        )
        floor = np.where(np.isfinite(reading), reading, 0.0)
        layer = replace(prompt, ms=np.maximum(prompt.ms * chunk / tokens, floor), head_ms=step.head_ms)
        one = self._pass(layer, chunk, max(1, work.draws // FIRST_TOKEN_SHARE))
        groups = np.array([c + m for c, m in zip(one.compute, one.met, strict=True)])
        total = groups.sum(axis=0) + one.between + one.head + one.software + self.software_ms(one.rounds, chunk)
        parts = {
            "uplinks": one.upload_ms,
            "round trips": float(one.network.mean()) - one.upload_ms,
            "compute": float(np.sum(one.compute, axis=0).mean()) + float(one.head.mean()),
        }
        limit = max(parts, key=lambda part: parts[part])
        further = tokens / chunk - 1  # the last one may be a part of one, but makes as many round trips
        mean = max(float(one.network.mean()), TINY_MS)
        alike = np.array(one.met).max(axis=0) * max(0.0, 1 - one.upload_ms / mean)
        return First(total + further * groups.max(axis=0) + (math.ceil(further) - further) * alike, (), limit)

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
            if self.engine.ends_everywhere:
                ends = 0.0  # on every machine as a whole: among what is not shared
            whole = model.stage_bytes(group.first, group.last, work.weights) + need.kv_bytes * group.layers + ends
            found[list(group.members)] = group.share * whole + need.scratch_bytes
        return found + need.runtime(self.swarm.nodes["vram_bytes"][self.rows], card_counts(self.swarm, self.rows))

    def _notes(self) -> tuple[str, ...]:
        work = self.workload
        lines = []
        for group in self.groups:
            plan = messages(self.all_reduce, len(group.members), 1.0)
            if plan:
                where = "" if len(self.groups) == 1 else f" of layers {group.first}-{group.last}"
                lines.append(
                    f"{ALL_REDUCES_PER_LAYER * group.layers} all-reduces a token{where}, each of {len(plan)} "
                    f"round{'s' if len(plan) > 1 else ''} ({self.all_reduce})"
                )
        if not self.engine.groups:
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
            for k, each in zip(group.members, self.share_ms(group, layer), strict=True):
                mean = math.exp((layer.spread[k] ** 2 + layer.doubt[k] ** 2) / 2)
                stages.append(
                    StageStep(
                        layers=self._given(group, k),
                        holds=f"{group.first}-{group.last} (a share)",
                        compute_ms=float(each * group.layers * mean) * self.workload.compute_scale,
                        hop_ms=float(step.met[number].mean()),
                        memory_bytes=float(memory[k]),
                    )
                )
        return tuple(stages)

    def _given(self, group: Group, k: int) -> int:
        one = len(self.groups) == 1 and not shares_all(self.placement, self.model) and not self.engine.groups
        return self.placement[k].layers if one else group.layers
