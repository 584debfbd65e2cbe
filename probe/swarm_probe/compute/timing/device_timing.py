"""Time one device: bandwidths and matrix rate, then decode, prefill, LM head and embedding of the model.

Layers are distinct and many enough that weights come from memory; each timed pass runs through all of them and waits
for the device; the figure is the pass over the layers in it. A layer that does not fit is timed as a part of itself and
scaled by the roofline, and the sample says so.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

import msgspec
import torch

from swarm_probe.compute.devices import Device, Format, choose_format
from swarm_probe.compute.job import MAX_BUDGET_S, Measured, Report, Started, Trouble
from swarm_probe.compute.layers.cuda_graphs import captured, captures
from swarm_probe.compute.layers.decoder_layer import DecoderLayer, UnsupportedShape, Weights, build_layers, check_shape
from swarm_probe.compute.layers.expert_routing import assigned_experts, experts_used
from swarm_probe.compute.layers.matrices import DECODE_ONLY, NoKernel
from swarm_probe.compute.layers.mlp import Experts
from swarm_probe.compute.layers.model_ends import Embedding, Head
from swarm_probe.compute.timing.convergence import MAX_LAYERS, Timing, TooSlow, repeat
from swarm_probe.compute.timing.device_rates import roofline
from swarm_probe.compute.timing.timing_points import INPUTS, Point, Room, fitting, needed, points_of, scale, work_of
from swarm_probe.compute.timing.visit_timing import MAX_WAITED, time_visits
from swarm_probe.operating_system.preemption import thread_preemption
from swarm_probe.operating_system.pressure import cpu_waited_s
from swarm_probe.operating_system.readings import Unreadable
from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.probe_messages import ComputeTask
from swarm_protocol.messages.samples import ComputeSample, RooflineSample

MIN_VISIT_S: Final = 1e-6  # one that took nothing beyond its layers was measured, too
ROOFLINE_SHARE: Final = 0.15  # of the budget
MIN_POINT_S: Final = 0.3
MAX_PASS_S: Final = 1.5  # a slower pass gives no figure: the few passes needed would take too long
MAX_POINT_S: Final = 3.0  # what a point does not use goes to those after it
MIN_ROOFLINE_S: Final = 1.0  # a figure for every machine, however small the budget
MAX_HEADS: Final = 8
ALL_AWAKE: Final = 0.01  # experts: if fewer are unused on average, all are used
ROUTINGS: Final = 4  # of experts in one timed pass, since one routing cannot use four and a half of them
EMBED_ROWS: Final = 32_768  # a step reads a row of the table, whatever its length

Marks = Callable[[], tuple[str, ...]]  # state of the device that a figure must carry: throttled, contended, battery


@dataclass(slots=True)
class _Built:
    """The layers that are built now; a point that needs others builds its own."""

    shape: LayerShape | None = None
    layers: list[DecoderLayer] = field(default_factory=list)
    capacity: int = 0

    def drop(self) -> None:
        self.shape, self.layers, self.capacity = None, [], 0


def measure_device(device: Device, task: ComputeTask, marks: Marks = tuple, away_s: float = 0.0) -> Iterator[Report]:
    """Time everything requested of one device, in order; raises nothing that belongs to the task or the memory.
    `away_s`: what a token spends elsewhere."""
    yield Started(device=device.label)
    budget_s = min(task.budget_ms / 1000, MAX_BUDGET_S)
    kept = choose_format(device, task.dtype)
    rates: RooflineSample | None = None
    try:
        plain = kept.name if not kept.quantised else {torch.bfloat16: "bf16"}[kept.dtype]
        rates = roofline(device, plain, max(budget_s * ROOFLINE_SHARE, MIN_ROOFLINE_S))
        yield Measured(sample=rates)
    except TooSlow as error:
        yield Trouble(reason=f"{device.label}: memory bandwidth: {error}")
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        yield Trouble(reason=f"{device.label}: memory bandwidth: out of memory")
    try:
        check_shape(task.layer)
    except UnsupportedShape as error:
        yield Trouble(reason=f"{task.model}: {error}")
        return
    yield from _Run(device, task, kept, rates, marks, away_s).points(budget_s * (1 - ROOFLINE_SHARE))


@dataclass(slots=True)
class _Run:
    device: Device
    task: ComputeTask
    format: Format
    rates: RooflineSample | None  # None: it could not be measured, and nothing can be scaled
    marks: Marks
    away_s: float
    built: _Built = field(default_factory=_Built)

    @property
    def room(self) -> Room:
        return Room(
            self.device.limit_bytes, self.device.cache_bytes, self.format.dtype.itemsize, self.format.weight_bytes
        )

    def points(self, budget_s: float) -> Iterator[Report]:
        decode_only = self.format.quantised in DECODE_ONLY  # a prompt's time is then the predictor's estimate
        points = [p for p in points_of(self.task) if p.phase != "prefill" or not decode_only]
        ends_at = time.monotonic() + budget_s
        visited = False
        for i, point in enumerate(points):
            share_s = (ends_at - time.monotonic()) / (len(points) - i)
            share_s = min(max(share_s, MIN_POINT_S), MAX_POINT_S)
            where = f"{self.task.model} {point.words} on {self.device.label}"
            building = time.monotonic()
            try:
                made = self._made(point, points)
                ends_at += time.monotonic() - building  # how long building takes says nothing about the layer
                timing = repeat(made.act, share_s, time.perf_counter, thread_preemption(), self.device.wait, MAX_PASS_S)
            except (TooSlow, NoKernel, _DoesNotFit) as error:
                ends_at += time.monotonic() - building if isinstance(error, _DoesNotFit) else 0.0
                yield Trouble(reason=f"{where}: {error}")
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_memory(error):
                    raise
                self.built.drop()
                yield Trouble(reason=f"{where}: out of memory")
            else:
                yield Measured(sample=self._sample(point, timing, made))
                if point.phase == "decode" and point.batch == 1 and not visited:
                    visited = True
                    yield from self._visit(point, timing.median_s / made.layers)

    def _visit(self, point: Point, layer_s: float) -> Iterator[Report]:
        """Time visits of the layers that were just timed."""
        of = (self.device, self.built.layers, self.format.dtype, point.tokens, layer_s, thread_preemption())
        found = time_visits(*of, self.away_s, pressed_s=_pressed_s)
        made, visit = _Made(_nothing, 1, 1.0, eager=False), dataclasses.replace(point, phase="visit")
        for size, timing in found.items():
            least = dataclasses.replace(timing, median_s=max(timing.median_s, MIN_VISIT_S))
            sample = self._sample(visit, least, made)
            yield Measured(sample=msgspec.structs.replace(sample, stage_layers=size))
        if not found:
            yield Trouble(reason=f"{self.task.model} on {self.device.label}: a visit takes too long to be timed")

    def _made(self, point: Point, points: list[Point]) -> _Made:
        if point.phase in ("head", "embed"):
            return _Made(self._end(point), 1, 1.0, eager=False)
        some, factor = self._layers(point, points)
        through = pass_through(self.device, some, self.format.dtype, point, self._routings(point, some))
        return _Made(through.act, len(some) * through.rounds, factor, through.eager)

    def _routings(self, point: Point, layers: list[DecoderLayer]) -> int:
        """Return the number of routings of experts in a timed pass: as many as there is time for."""
        if self.rates is None:
            return 1
        size_bytes, _ = work_of(layers[0].shape, point, self.room)
        return max(1, min(ROUTINGS, int(MAX_PASS_S / 2 / (len(layers) * size_bytes / (self.rates.mem_gbps * 1e9)))))

    def _layers(self, point: Point, points: list[Point]) -> tuple[list[DecoderLayer], float]:
        """Return distinct layers for this point, and the factor of their time. Raises _DoesNotFit."""
        whole, room = self.task.layer, self.room
        shape = fitting(whole, point, room)
        if shape is None or (shape is not whole and self.rates is None):
            raise _DoesNotFit(room.words(needed(whole, point, room), self.format.name, self.device.label))
        need = needed(shape, point, room)
        count = min(need.wanted, need.fit, MAX_LAYERS)
        if self.built.shape != shape or len(self.built.layers) < count or self.built.capacity <= point.tokens:
            self.built.drop()  # before there are others
            alike = [p for p in points if p.phase not in ("head", "embed") and fitting(whole, p, room) == shape]
            capacity = max(p.tokens for p in alike) + 1
            count = max(min(n.wanted, n.fit) for n in (needed(shape, p, room) for p in alike)) if alike else count
            self.built.layers = build_layers(
                shape, min(count, need.fit, MAX_LAYERS), capacity=capacity, dtype=self.format.dtype,
                device=self.device.torch_name, quantised=self.format.quantised,
            )  # fmt: skip
            self.built.shape, self.built.capacity = shape, capacity
        factor = 1.0
        if shape is not whole and self.rates is not None:
            factor = scale(whole, shape, point, room, self.rates.mem_gbps, self.rates.tflops)
        return self.built.layers[: min(need.wanted, need.fit)], factor

    def _end(self, point: Point) -> Callable[[], object]:
        vocab, hidden = self.task.vocab, self.task.layer.hidden
        if vocab * hidden * self.format.dtype.itemsize * 2 > self.device.limit_bytes:
            raise _DoesNotFit("does not fit the half of the free memory that may be used")
        self.built.drop()
        weights = Weights(2, self.format.dtype, self.device.torch_name)
        if point.phase == "embed":
            ids = itertools.cycle([torch.randint(min(vocab, EMBED_ROWS), (point.batch, 1)) for _ in range(INPUTS)])
            embedding = Embedding(min(vocab, EMBED_ROWS), hidden, weights)
            return lambda: embedding.forward(next(ids))
        bytes_once = vocab * hidden * self.format.dtype.itemsize
        room = self.device.limit_bytes // (2 * bytes_once)
        wanted = -(-4 * self.device.cache_bytes // bytes_once)
        heads = [Head(vocab, hidden, weights) for _ in range(max(1, min(wanted, room, MAX_HEADS)))]
        return ending(self.device, heads, weights.matrix(point.batch, hidden)[:, None] * hidden**0.5)

    def _sample(self, point: Point, timing: Timing, made: _Made) -> ComputeSample:
        each = 1000 * made.factor / made.layers
        found = [*self.marks()]
        found += ["scaled"] * (made.factor != 1.0) + ["loose"] * (not timing.tight)
        found += ["eager"] * made.eager
        found += ["contended"] * (timing.waited_share > MAX_WAITED)
        return ComputeSample(
            at_ns=time.time_ns(),
            device=self.device.label,
            model=self.task.model,
            dtype=self.format.name,
            phase=point.phase,
            batch=point.batch,
            context=point.tokens,
            ms_per_layer=timing.median_s * each,
            ms_p5=timing.p5_s * each,
            ms_p95=timing.p95_s * each,
            n=timing.n,
            marks=",".join(sorted(set(found))),
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """What is timed for one point."""

    act: Callable[[], object]
    layers: int  # in it
    factor: float  # multiplies the time, if only a part of the layer was timed
    eager: bool  # kernels are launched one by one on a device that could run them as a graph


class _DoesNotFit(Exception):
    """Not even a part of the layer fits; the text says what it needs and what there is."""


class Pass(NamedTuple):
    act: Callable[[], object]
    rounds: int  # through the layers, each time
    eager: bool  # kernels are launched one by one


def pass_through(
    device: Device, layers: list[DecoderLayer], dtype: torch.dtype, point: Point, routings: int = ROUTINGS
) -> Pass:
    """Return a pass through these layers, with caches as full as the point says. May raise torch's errors for
    memory."""
    hidden = layers[0].shape.hidden
    decode = point.phase == "decode"
    position = point.tokens if decode else 0
    drawn = Weights(1, dtype, device.torch_name)
    caches = [layer.new_cache(point.batch, point.tokens + decode, fill=drawn) for layer in layers]
    inputs = [drawn.matrix(point.rows, hidden).view(point.batch, -1, hidden) * hidden**0.5 for _ in range(INPUTS)]
    turn = itertools.cycle(inputs)
    rounds = _deal(layers, point.rows, device, routings)

    def one_pass() -> None:
        for _ in range(rounds):
            x = next(turn)
            for layer, cache in zip(layers, caches, strict=True):
                x = layer.forward(x, cache, position)

    if captures(device.torch_name, layers[0].shape):
        try:
            return Pass(captured(device.torch_name, one_pass), rounds, eager=False)
        except RuntimeError as error:  # a kernel of this device that cannot be captured
            if is_memory(error):
                raise
    return Pass(one_pass, rounds, eager=device.torch_name != "cpu")


def _deal(layers: list[DecoderLayer], tokens: int, device: Device, routings: int) -> int:
    """Give routed layers the experts that several tokens use, and return after how many rounds they are exhausted. One
    token uses as many every time, a long prompt all of them."""
    routed = [layer.mlp for layer in layers if isinstance(layer.mlp, Experts)]
    shape = layers[0].shape
    if (
        not routed
        or tokens == 1
        or experts_used(shape.experts, shape.experts_active, tokens) > shape.experts - ALL_AWAKE
    ):
        for mlp in routed:
            mlp.script = None
        return 1
    given = assigned_experts(shape.experts, shape.experts_active, tokens, routings * len(routed), Random(tokens))
    chosen = torch.tensor(given, device=device.torch_name).view(routings, len(routed), tokens, -1)
    for place, mlp in enumerate(routed):
        mlp.script = itertools.cycle(chosen[:, place])
    return routings


def ending(device: Device, heads: list[Head], x: torch.Tensor) -> Callable[[], object]:
    """Return the work from these activations to a token on the host, by each head in turn."""
    if not captures(device.torch_name):
        turn = itertools.cycle(heads)
        return lambda: next(turn).forward(x)
    ids = torch.empty(x.shape[0], 1, dtype=torch.int64, device=x.device)
    replays = itertools.cycle(
        [captured(device.torch_name, lambda head=head: ids.copy_(head.choose(x))) for head in heads]
    )

    def act() -> None:
        next(replays)()
        ids.cpu()

    return act


def _pressed_s() -> list[float]:
    """Return how long work has waited for this machine's processors; empty if the kernel does not count it."""
    try:
        return cpu_waited_s()
    except Unreadable:
        return []


def _nothing() -> None:
    """Return no marks, for a figure that was timed elsewhere."""


def is_memory(error: BaseException) -> bool:
    """Return whether an error is about memory: torch raises plain RuntimeError if the processor's is short."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in ("allocate memory", "out of memory")
    )
