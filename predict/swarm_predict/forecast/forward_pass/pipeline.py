"""Draw a decode step of stages in a row: chains, stars and rings.

Every message and every stage is drawn (`draws`) and summed. Without variation and uncertainty the median is
`tables.price`; what is not measured is drawn from `priors`, the same for everything that one draw prices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from swarm_predict.cost import assumptions as words
from swarm_predict.cost.build import Costs
from swarm_predict.cost.engines import EngineFacts
from swarm_predict.cost.machine.cards import card_counts
from swarm_predict.cost.machine.layer_times import LayerColumns, by_hand
from swarm_predict.cost.software_overhead import software_assumed, software_ms, visits_ms
from swarm_predict.cost.speculative import drafting_ms, step_width, step_yield
from swarm_predict.forecast.access_links import access_share
from swarm_predict.forecast.assembly import Question, StageStep, Step
from swarm_predict.forecast.draws import Drawn, Trip, draw_trips, mirrored_normal, scaled
from swarm_predict.forecast.notes import Restarts, lossy_windows, offloaded, slow_start
from swarm_predict.forecast.offload import Spill, spill
from swarm_predict.forecast.redundancy import slowest
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.assumed_figures import Sample, to_median
from swarm_predict.types import NotMeasured, Placement, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm
from swarm_protocol.units import BITS_PER_BYTE


def trips_of(
    engine: EngineFacts, stages: int, client: int | None, hop_bytes: float, enter_bytes: float, result_bytes: float
) -> list[Trip]:
    """Return every message of one step, in order.

    Stages are positions 0…stages−1; `client` is a position, or None."""
    last = stages - 1
    trips: list[Trip] = []
    if engine.pattern == "star":
        home = 0 if client is None else client
        for k in range(stages):
            if k or client is not None:
                size = enter_bytes if client is not None else hop_bytes
                trips.append(Trip(home, k, size, k, engine.extra_packets if client is not None else 0))
            if k < last and (k or client is not None):
                trips.append(Trip(k, home, hop_bytes, k + 1))
    else:
        home = 0 if client is None else client
        if client is not None:
            trips.append(Trip(client, 0, enter_bytes, 0))
        trips += [Trip(k, k + 1, hop_bytes, k + 1) for k in range(last)]
    trips.append(Trip(last, home, result_bytes, None))
    return [trip for trip in trips if trip.src != trip.dst]


@dataclass(frozen=True, slots=True)
class Times:
    """Draws of one pass through all stages."""

    total: Floats
    stages: list[Floats]  # compute of each
    head: Floats
    network: Drawn
    software: Floats  # visits, messages, the client, proofs
    received: Floats  # (draws, positions) in it: assumed software of the messages that each machine receives

    def later_by(self, extra_ms: Floats) -> Times:
        """Return the draws with each message delayed by `extra_ms` of waiting for acknowledgements."""
        network = replace(self.network, ms=self.network.ms + extra_ms, rtt_ms=self.network.rtt_ms + extra_ms)
        return replace(self, total=self.total + extra_ms.sum(), network=network)


class Pipeline:
    """One placement under one workload. Positions are stages in order, then the client."""

    def __init__(self, swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, costs: Costs) -> None:
        self.swarm, self.model, self.placement, self.workload, self.costs = swarm, model, placement, workload, costs
        self.engine = costs.engine
        self.names = costs.tables.names
        self.at_ns = None if by_hand(swarm) else swarm.at_ns
        self.rng = np.random.default_rng(workload.seed)
        self.trips = self.trips_for(step_width(workload), 1)
        self.layers = np.array([stage.layers for stage in placement])
        self.overhead_ms = visits_ms(swarm, costs.rows)[: len(placement)]
        self.assumed = software_assumed(swarm, costs.rows, workload, costs.links)
        self.room_bytes = costs.vram_bytes[: len(placement)]
        self.runtime_bytes = costs.needs.runtime(self.room_bytes, card_counts(swarm, costs.rows)[: len(placement)])
        self.spills = self._spills()
        self.share = access_share(costs.links) if self.engine.pattern == "star" else None  # chains pass each link once

    def trips_for(self, batch: int, tokens: int) -> list[Trip]:
        """Return the messages of a pass of `tokens` tokens per sequence: 1 for decoding, a chunk's for prefill.

        Only the last token's result is sent back, except by stars, which return the activation of each token. Compared
        copies travel side by side."""
        engine, model, kind = self.engine, self.model, self.workload.activations
        result = engine.result_bytes(model, batch, kind)
        if engine.pattern == "star" and engine.result == "activation":
            result *= tokens
        copies = self.workload.redundancy
        before = self.workload.context if tokens == 1 else 0  # in the cache
        return trips_of(
            engine,
            len(self.placement),
            self.costs.tables.client,
            engine.hop_bytes(model, batch, kind) * tokens * copies,
            (engine.enter_bytes(model, batch, kind) * tokens + engine.input_bytes(batch, before, tokens)) * copies,
            result,
        )

    def prompt_trips(self, batch: int, tokens: int) -> list[Trip]:
        """Return the messages of a chunk of a prompt: those of its tokens, and how stages are to compute them."""
        trips, each, client = self.trips_for(batch, tokens), self.engine.graph_bytes, self.costs.tables.client
        if not each:
            return trips
        home = 0 if client is None else client
        return [
            replace(trip, size_bytes=trip.size_bytes + each * self.placement[trip.dst].layers)
            if trip.src == home and trip.dst == trip.stage
            else trip
            for trip in trips
        ]

    def _spills(self) -> list[Spill | None]:
        """Return what each stage reads again in every step; nothing unless offloading is on."""
        if not self.workload.offload_gbps:
            return [Spill(0, 0.0, self.costs.needs.stage_bytes(s.first, s.last)) for s in self.placement]
        return [
            spill(self.costs.needs, stage, float(has), cache=self.workload.offload_cache)
            for stage, has in zip(self.placement, self.room_bytes - self.runtime_bytes, strict=True)
        ]

    @property
    def question(self) -> Question:
        client = None if self.costs.client is None else self.names[self.costs.client]
        return Question(self.swarm, self.model, self.placement, self.workload, self.costs, client)

    def decode(self) -> Times:
        """Draw one decode step. Raises NotMeasured if a node's speed or a path is not known."""
        self.require_known()
        work = self.workload
        times = self.draw(self.trips, self.costs.layer, work.draws, step_width(work), self.rests_ms())
        # with several windows in flight a connection is idle for a shorter time
        restart_ms = self.restarts_ms(float(times.total.mean()) / work.windows)
        if np.any(restart_ms > 0):
            times = times.later_by(restart_ms)
        return times

    def step(self, times: Times) -> Step:
        """Return the step that `decode` drew, with what it occupies and holds."""
        work = self.workload
        return Step(
            compute_ms=np.asarray(sum(times.stages)),
            network_ms=times.network.ms.sum(axis=1),
            head_ms=times.head,
            software_ms=times.software,
            path_ms={
                "rtt": float(times.network.rtt_ms.sum()),
                "jitter": float(times.network.jitter_ms.sum()),
                "upload": float(times.network.upload_ms.sum()),
            },
            measured_ms=self._measured_ms(times),
            stages=self._stages(times),
            busy_ms=self._busy_ms(times),
            hops=len(self.trips),
            notes=self._notes(float(times.total.mean()) + drafting_ms(work)),
        )

    def _notes(self, step_ms: float) -> tuple[str, ...]:
        work, lines = self.workload, []
        restarts = Restarts(self.trips, self.costs.links, self.names, self.restarts_ms(step_ms))
        if self.trips and not work.slow_start:
            lines += slow_start(restarts, step_ms, written=self.at_ns is None)
        lines += lossy_windows(restarts, step_ms)
        lines += offloaded(self.swarm, self.placement, self.costs.rows, self.spills, work.offload_gbps)
        if work.prefill_chunk and work.prefill_chunk < work.prompt and self.engine.pattern == "star":
            lines.append(f"{self.engine.name}: chunks of the prompt do not overlap, the client waits for each")
        return tuple(lines)

    def _measured_ms(self, step: Times) -> float:
        """Return the mean time of a step that is based on measurements of these machines and paths."""
        known = self.costs.layer.measured
        rests = sum(float(stage.mean()) for k, stage in enumerate(step.stages) if known[k])
        home = len(step.stages) - 1 if self.engine.head == "last" else self.costs.tables.client or 0
        rests += float(step.head.mean()) if known[home] else 0.0
        rests += float(self.overhead_ms.sum())
        if self.at_ns is not None:
            rests += float(step.network.ms.mean(axis=0).sum())
        else:  # a hand-written round trip is a planning figure; a hop is a measurement
            hop = [self.costs.links.hop_known[trip.src, trip.dst] for trip in self.trips]
            rests += float(step.network.ms.mean(axis=0)[hop].sum()) if hop else 0.0
        return rests

    def restarts_ms(self, step_ms: float) -> Floats:
        """Return how long each message of a step waits for TCP to restart after idle (`Links.restart_ms`).

        Counted for measured swarms; hand-written figures are taken as exact unless `slow_start` is set."""
        if self.at_ns is None or not self.trips:
            return np.zeros(len(self.trips))
        src, dst = np.array([trip.src for trip in self.trips]), np.array([trip.dst for trip in self.trips])
        sizes = np.array([trip.window_bytes for trip in self.trips], np.float64)
        links, asked = self.costs.links, self.workload.slow_start
        first = links.restart_ms(src, dst, sizes, np.full(len(sizes), step_ms), asked)
        # a connection is idle while the others' messages wait, too
        return links.restart_ms(src, dst, sizes, step_ms + first.sum() - first, asked)

    # -- what must be known

    def require_known(self) -> None:
        names = self.names
        slow = [names[k] for k in range(len(self.placement)) if not np.isfinite(self.costs.layer.ms[k])]
        if slow:
            raise NotMeasured(f"how fast {words.some(slow)} runs {self.model.name} is not known; {words.MEASURE}")
        paths = self.costs.links
        upload: dict[float, Floats] = {}
        for trip in self.trips:
            pair = f"{names[trip.src]} → {names[trip.dst]}"
            if paths.hop_known[trip.src, trip.dst]:
                continue
            if np.isnan(paths.rtt_p50_ms[trip.src, trip.dst]):
                raise NotMeasured(f"no round trip {pair} is known; measure it or write a [[link]] with rtt_ms")
            if trip.size_bytes not in upload:
                upload[trip.size_bytes] = paths.serialisation_ms(trip.size_bytes)
            if not np.isfinite(upload[trip.size_bytes][trip.src, trip.dst]):
                raise NotMeasured(f"no upload {pair} is known; wait for its uplink test or write up_mbps")

    def _memory(self, k: int) -> float:
        """Return the bytes that stage k takes on its node; all of the stage if not even its buffers fit."""
        stage, kept = self.placement[k], self.spills[k]
        held = self.costs.needs.stage_bytes(stage.first, stage.last) if kept is None else kept.resident_bytes
        return held + float(self.runtime_bytes[k])

    # -- time

    def rests_ms(self) -> Floats | float:
        """Return how long each message's connection is idle in a step, before the step is drawn; 0 if losses do not
        require it, and in hand-written swarms, whose windows are open."""
        limited = self.costs.links.limited_by_loss
        if self.at_ns is None or not any(limited[trip.src, trip.dst] for trip in self.trips):
            return 0.0
        order = [self.names.index(stage.node) for stage in self.placement]
        usual_ms = self.costs.tables.price(order, self.layers.tolist()) * step_yield(self.workload)
        others_ms = self.restarts_ms(usual_ms)
        return np.asarray((usual_ms + others_ms.sum() - others_ms) / self.workload.windows)

    def draw(
        self, trips: Sequence[Trip], layer: LayerColumns, draws: int, tokens: int, rest_ms: Floats | float = 0.0
    ) -> Times:
        """Draw one pass of `tokens` tokens (all sequences together), whose connections were idle for `rest_ms`."""
        work, copies = self.workload, self.workload.redundancy
        network = draw_trips(
            self.costs.links, list(trips) * copies, self.rng, draws, self.at_ns, work.slow_start, self.share,
            np.tile(np.broadcast_to(rest_ms, len(trips)), copies),
        )  # fmt: skip
        rows = list(range(len(self.costs.rows)))
        sample = self.costs.layer.assumed.sample(self.rng, draws)
        asked = any(self.assumed[trip.src, trip.dst] for trip in trips) or not all(layer.measured)
        layers = sample if layer.assumed is self.costs.layer.assumed else layer.assumed.sample(self.rng, draws)
        kinds_of_path = self.costs.links.kinds[[trip.src for trip in trips], [trip.dst for trip in trips]]
        engine = (sample.paths * self.costs.layer.assumed.paths)[:, kinds_of_path]
        network = scaled(network, np.tile(engine, copies))
        kinds = layer.factor(layers, rows)
        factors = [self._factors(layer, kinds, draws) for _ in range(copies)]
        each_ms = layer.ms[: len(self.placement)] * work.compute_scale
        reads = [
            kept.extra_ms(work.offload_gbps, float(ms)) if kept is not None and kept.size_bytes else 0.0
            for kept, ms in zip(self.spills, each_ms, strict=True)
        ]
        stages = [factors[0][k] * float(ms) for k, ms in enumerate(self.layers * each_ms)]
        if copies > 1:
            side_by_side = np.array(
                [[f[k] * float(ms) + reads[k] for k, ms in enumerate(self.layers * each_ms)] for f in factors]
            )
            network, chosen = slowest(network, side_by_side, trips)
            stages = list(chosen)
        head = self._head(layer, kinds, factors[0], draws)
        received = self._received_ms(trips, sample, draws)
        if copies == 1 and asked and not layer.assumed.priors.neutral:
            stages, head, received = self._recentred(layer, trips, stages, head, received)
        if copies == 1:
            stages = [stage + read for stage, read in zip(stages, reads, strict=True)]
        software = self.fixed_ms(tokens) + work.hop_overhead_ms * len(trips) + received.sum(axis=1)
        total = network.ms.sum(axis=1) + head + software
        for stage in stages:
            total = total + stage
        return Times(total, stages, head, network, software, received)

    def _recentred(
        self,
        layer: LayerColumns,
        trips: Sequence[Trip],
        stages: list[Floats],
        head: Floats,
        received: Floats,
    ) -> tuple[list[Floats], Floats, Floats]:
        """Move the median of the assumed parts to that of the tables (`to_median`); measured parts stay."""
        work, known = self.workload, layer.measured
        home = len(self.placement) - 1 if self.engine.head == "last" else self.costs.tables.client or 0
        usual = software_ms(self.swarm, self.costs.rows, work, self.costs.layer.assumed.visit_ms, self.costs.links)
        assumed = received.sum(axis=1)
        median = sum(float(usual[trip.src, trip.dst]) for trip in trips) - work.hop_overhead_ms * len(trips)
        for k, stage in enumerate(stages):
            if not known[k]:
                assumed = assumed + stage
                median += float(self.layers[k] * layer.ms[k]) * work.compute_scale
        if not known[home]:
            assumed = assumed + head
            median += float(layer.head_ms[home]) * work.compute_scale
        scale = to_median(assumed, median)
        return (
            [stage if known[k] else stage * scale for k, stage in enumerate(stages)],
            head if known[home] else head * scale,
            received * scale,
        )

    def fixed_ms(self, tokens: int) -> float:
        """Return the software time that was measured or set as an option."""
        work = self.workload
        return float(self.overhead_ms.sum()) + work.client_ms + work.proof_ms * tokens * float(self.layers.sum())

    def _received_ms(self, trips: Sequence[Trip], sample: Sample, draws: int) -> Floats:
        """Draw for each position the assumed software of the messages that it receives, (draws, positions)."""
        received = np.zeros((draws, len(self.names)))
        for trip in trips:
            if self.assumed[trip.src, trip.dst]:
                received[:, trip.dst] += sample.visit_ms[:, trip.dst]
        return received

    def _factors(self, layer: LayerColumns, kinds: Floats, draws: int) -> list[Floats]:
        """Draw for each stage a step's time as a multiple of its median, (draws,)."""
        out = []
        for k in range(len(self.placement)):
            normal = mirrored_normal(self.rng, draws)  # step and figure vary independently
            out.append(np.exp(math.hypot(layer.spread[k], layer.doubt[k]) * normal) * kinds[:, k])
        return out

    def _head(self, layer: LayerColumns, kinds: Floats, factors: list[Floats], draws: int) -> Floats:
        scale = self.workload.compute_scale
        if self.engine.head == "last":
            last = len(self.placement) - 1
            return np.asarray(factors[last] * (float(layer.head_ms[last]) * scale))
        if self.costs.tables.client is None:
            return np.asarray(factors[0] * (float(layer.head_ms[0]) * scale))
        client = self.costs.tables.client
        return np.asarray(kinds[:, client] * (float(layer.head_ms[client]) * scale))

    def _busy_ms(self, step: Times) -> tuple[float, ...]:
        """Return how long one step occupies each machine, uplink and downlink."""
        proofs = self.workload.proof_ms * step_width(self.workload)
        busy = [
            float(stage.mean()) + float(self.overhead_ms[k]) + proofs * float(self.layers[k])
            for k, stage in enumerate(step.stages)
        ]
        work, client, head_ms = self.workload, self.costs.tables.client, float(step.head.mean())
        alone_ms = work.client_ms + drafting_ms(work)
        if self.engine.head == "last":
            busy[-1] += head_ms
        elif client is None or client < len(busy):  # a stage's machine computes it
            busy[client or 0] += head_ms
        else:
            alone_ms += head_ms
        return (*busy, alone_ms, *self.wire_ms(self.trips))

    def wire_ms(self, trips: Sequence[Trip]) -> list[float]:
        """Return how long one step occupies each uplink and downlink of known rate."""
        return [ms for _, ms in self.wires(trips)]

    def wires(self, trips: Sequence[Trip]) -> list[tuple[str, float]]:
        """Return the same, with the name of each."""
        rows = self.costs.rows
        up, down = self.swarm.nodes["up_mbps"], self.swarm.nodes["down_mbps"]
        sent: dict[int, float] = {}
        got: dict[int, float] = {}
        for trip in trips:
            sent[trip.src] = sent.get(trip.src, 0.0) + trip.size_bytes
            got[trip.dst] = got.get(trip.dst, 0.0) + trip.size_bytes
        names = self.names
        wires = [(f"{names[at]}'s uplink", size, up[rows[at]]) for at, size in sent.items()]
        wires += [(f"{names[at]}'s downlink", size, down[rows[at]]) for at, size in got.items()]
        return [(name, size * BITS_PER_BYTE / (float(rate) * 1e3)) for name, size, rate in wires if np.isfinite(rate)]

    def _stages(self, step: Times) -> tuple[StageStep, ...]:
        reach = np.zeros(len(self.placement))
        software = software_ms(
            self.swarm, self.costs.rows, self.workload, self.costs.layer.assumed.visit_ms, self.costs.links
        )
        for trip, ms in zip(self.trips, step.network.ms.mean(axis=0) if self.trips else (), strict=True):
            if trip.stage is not None:
                reach[trip.stage] += float(ms) + float(software[trip.src, trip.dst])
        return tuple(
            StageStep(
                layers=stage.layers,
                holds=f"{stage.first}-{stage.last}",
                compute_ms=float(step.stages[k].mean()),
                hop_ms=float(reach[k]),
                memory_bytes=self._memory(k),
            )
            for k, stage in enumerate(self.placement)
        )
