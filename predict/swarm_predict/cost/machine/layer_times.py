"""Determine the time of one layer on each node, and its uncertainty.

In this order: layer times measured with this model (or "*"), interpolated over batch and context; layer times of
another model, scaled by the work; the roofline of the node's bandwidth and matrix rate, times what published results
give for such machines (`priors`). Unknown is infinity.

If enough points of a model were measured, a curve through them (`timing_curve`) gives the others, with its residual as
their uncertainty. With fewer, time is linear between measured points in batch and in context, as bytes and operations
are, and outside them the nearest point is scaled by the ratio of the rooflines.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from swarm_predict.cost.machine import head_times, timing_curve
from swarm_predict.cost.machine.cards import exchanges_ms, shared_by, split_ms
from swarm_predict.cost.machine.engine_kernels import over_torch, own_kernels
from swarm_predict.cost.machine.roofline import LayerWork, Work, head_work, least_ms
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import is_format, weight_format
from swarm_predict.priors.assumed_figures import Assumed, Sample, assume, compute_rate
from swarm_predict.priors.factors import load_of
from swarm_predict.priors.posterior import Priors, chosen
from swarm_predict.types import UnknownModel
from swarm_protocol.layer_shape import Phase
from swarm_protocol.snapshot.swarm import Floats, LayerTime, State, Swarm

ANY = "*"
LOG_STEPS = 1000  # lengths of prompts are compared by their logarithm, in these many steps
Z95 = 1.645  # standard normal quantile
NS_PER_HOUR = 3_600_000_000_000

# Uncertainty (standard deviation of the log) of a figure by its source. Assumptions, not measurements: they widen
# intervals and keep medians.
DOUBT_BY_HAND = 0.03  # a layer time in a swarm file: from how many runs, and when, is unknown
DOUBT_OUTSIDE = 0.10  # beyond the measured batches and contexts
DOUBT_SCALED = 0.10  # measured on a part of the layer, since the whole does not fit
DOUBT_EAGER = 0.35  # kernels launched one by one: measured on an H200, docs/gpu.md
DOUBT_OTHER_DTYPE = 0.15
DOUBT_OTHER_MODEL = 0.15
DOUBT_PER_ROOT_HOUR = 0.01
DOUBT_TOGETHER = 0.5  # a judgement: of the launches and exchanges of cards that were timed one by one
DOUBT_MEDIAN = 1.2533  # standard error of a median of n, in standard deviations over √n

_ALIASES = {"float16": "fp16", "half": "fp16", "bfloat16": "bf16", "float32": "fp32", "float": "fp32"}
_SAME_SIZE = {"bf16": "fp16"}
_Point = tuple[int, int]  # batch, tokens


class How(enum.IntEnum):
    """The source of a layer time, best first."""

    MEASURED = 0  # at this batch and context, or between measured ones
    OUTSIDE = 1  # scaled from the nearest measured batch and context
    OTHER_DTYPE = 2
    OTHER_MODEL = 3
    ROOFLINE = 4  # the data sheet's, as machines like it reach it
    UNKNOWN = 5


@dataclass(frozen=True, slots=True)
class LayerColumns:
    """One value per row, in the order of `rows`."""

    ms: Floats  # one layer, one step; infinity: not known
    spread: Floats  # standard deviation of the log, from step to step
    doubt: Floats  # standard deviation of the log, of the figure itself; 0 if `assumed` contains it
    how: tuple[How, ...]
    head_ms: Floats  # LM head and embedding, if this node computes them
    head_known: tuple[bool, ...]  # from this node's own figures; else from those of an ordinary computer
    beats_roofline: tuple[bool, ...]  # measured faster than the node's own bandwidth allows
    assumed: Assumed  # of these rows, if nothing was measured
    reading_ms: Floats  # by the data sheet; NaN: not known
    cards: tuple[int, ...]  # of each machine, that split each layer
    kernels: Floats  # measured layer times of the engine's own kernels over torch's; 1: torch's

    @property
    def measured(self) -> tuple[bool, ...]:
        return tuple(how < How.ROOFLINE for how in self.how)

    def factor(self, sample: Sample, rows: list[int]) -> Floats:
        """Return (draws, rows): each layer time as a multiple of its median."""
        priced = self.reading_ms[rows] * self.assumed.rate[rows] + self.assumed.launch_ms[rows]
        drawn = self.reading_ms[rows] * sample.rate + sample.launch_ms
        assumed = np.array([self.how[k] >= How.ROOFLINE for k in rows], bool)
        with np.errstate(divide="ignore", invalid="ignore"):
            of_sheet = np.where(priced > 0, drawn / priced, 1.0)
            of_kind = sample.rate / self.assumed.rate[rows]  # no data sheet: its LM head alone is priced
        return np.where(assumed, np.where(np.isnan(priced), of_kind, of_sheet), sample.layers)


@dataclass(frozen=True, slots=True)
class _Found:
    ms: float
    how: How
    spread: float
    doubt: float


@dataclass(frozen=True, slots=True)
class _Answer:
    """The times from one model's own measurements."""

    ms: float
    how: How
    nearest: LayerTime
    residual: float = 0.0  # of the curve, if it was used


def by_hand(swarm: Swarm) -> bool:
    """Return whether the swarm is hand-written: no node was ever connected."""
    return bool(np.all(swarm.nodes["state"] == State.UNKNOWN)) and swarm.at_ns == 0


def layer_columns(
    swarm: Swarm,
    rows: Iterable[int],
    model: ModelShape,
    weights: str,
    phase: Phase,
    batch: int,
    tokens: int,
    *,
    engine: str = "chain",
    priors: Priors | None = None,
    tensor_parallel: int = 0,
) -> LayerColumns:
    """Return the layer times of `rows`, with their source and uncertainty.

    `tokens` are in the cache (decode) or in the prompt (prefill). Without `priors` those of published results apply.
    `tensor_parallel`: the size of all groups of cards, if the engine has them; 0: all cards that can."""
    rows = list(rows)
    cards = tuple(shared_by(swarm.facts[row].device, model, engine, tensor_parallel) for row in rows)
    priors = chosen(priors)
    load = load_of(model, weights, engine)
    live = not by_hand(swarm)
    assumed = assume(swarm, rows, load, phase, priors, written=not live, cards=cards)
    mem, tflops = swarm.nodes["mem_gbps"][rows], swarm.nodes["tflops"][rows]
    work = LayerWork(model, phase)
    step = work(weights, batch, tokens)
    together = np.array(cards, np.float64)
    least = least_ms(step, mem * together, tflops * together, phase)
    known = np.isfinite(least)
    if phase == "decode" and batch > 1:  # bound by the matrix rate, of which machines reach a smaller share
        works = step.flops / (tflops * together * 1e9) * compute_rate(swarm, rows, load, priors)
        least = np.fmax(least, works / assumed.rate)
    width = batch if phase == "decode" else batch * tokens
    exchange = exchanges_ms([swarm.facts[row].device for row in rows], cards, width, model)
    ms = np.where(known, least * assumed.rate + assumed.launch_ms + exchange, np.inf)
    how = [How.ROOFLINE if ok else How.UNKNOWN for ok in known]
    spread = np.zeros(len(rows))
    doubt = np.zeros(len(rows))
    beats = [False] * len(rows)
    kernels, single = np.ones(len(rows)), work if phase == "decode" else LayerWork(model, "decode")
    for k, row in enumerate(rows):
        times = swarm.facts[row].layers
        if not times:
            continue
        node = _Node(float(mem[k]), float(tflops[k]), phase)
        found = _from_times(times, node, work, weights, batch, tokens, swarm.at_ns if live else None)
        if found is not None and not live and priors.neutral:
            found = replace(found, doubt=0.0)  # taken as exact
        if found is None:
            continue
        ms[k], how[k], spread[k], doubt[k] = found.ms, found.how, found.spread, found.doubt
        if phase == "decode":
            bandwidth_ms = step.size_bytes / (mem[k] * 1e6)
            if found.how in (How.OTHER_MODEL, How.OTHER_DTYPE, How.OUTSIDE):
                ms[k] = np.fmax(found.ms, bandwidth_ms)  # scaling must not pass what memory can deliver
            elif found.ms < bandwidth_ms:
                beats[k] = True
        if own_kernels(swarm, row, load):
            kernels[k] = _kernels(times, replace(node, phase="decode"), single, weights, tokens)
        ms[k] *= kernels[k] * assumed.layers[k]
        if cards[k] > 1:
            launch_ms = float(assumed.launch_ms[k])
            ms[k] = split_ms(ms[k], launch_ms, cards[k]) + exchange[k]
            doubt[k] = math.hypot(doubt[k], DOUBT_TOGETHER * launch_ms / ms[k])
    head = head_work(model, weights, batch)
    sources = np.array(how)
    timed, unknown = sources < How.ROOFLINE, sources == How.UNKNOWN
    head_ms = head_times.head_ms(head, step, ms, timed, unknown, mem * together, tflops * together, phase, assumed.rate)
    head_known = [source < How.UNKNOWN for source in how]
    for k, row in enumerate(rows):
        if (both := _ends_ms(swarm.facts[row].layers, model, weights, batch)) is not None:
            head_ms[k], head_known[k] = both * kernels[k] * assumed.layers[k] / cards[k], True
    reading = np.where(known, least, np.nan)
    return LayerColumns(
        ms, spread, doubt, tuple(how), head_ms, tuple(head_known), tuple(beats), assumed, reading, cards, kernels
    )


def _kernels(times: tuple[LayerTime, ...], node: _Node, work: LayerWork, weights: str, tokens: int) -> float:
    """Return an engine's own kernels over torch's on one node, as a decode step of one sequence shows it."""
    found = _from_times(times, node, work, weights, 1, tokens, None)
    return 1.0 if found is None else over_torch(node.least_ms(work(weights, 1, tokens)), found.ms)


def _ends_ms(times: tuple[LayerTime, ...], model: ModelShape, weights: str, batch: int) -> float | None:
    """Return LM head and embedding as measured, in a format whose head weighs the same; None: the head was not
    measured."""
    bits = weight_format(weights).head_bits if is_format(weights) else 16.0
    own = [
        t for t in times
        if _same_layers(t.model, model) and (t.dtype == ANY or _head_bits(t.dtype) == bits)
    ]  # fmt: skip
    found: dict[str, float] = {}
    for phase in ("head", "embed"):
        line = {t.batch: t.ms for t in sorted(own, key=lambda t: t.at_ns) if t.phase == phase}
        if line:
            found[phase] = float(np.interp(batch, sorted(line), [line[b] for b in sorted(line)]))
    return found["head"] + found.get("embed", 0.0) if "head" in found else None


def _same_layers(name: str, model: ModelShape) -> bool:
    """Return whether what was timed under `name` is a layer of `model`, by that or by another name."""
    if name == model.name:
        return True
    if name == ANY:
        return False
    other = _named(name)
    return other is not None and other.layer == model.layer and other.timed_as_is and model.timed_as_is


@lru_cache(maxsize=4096)
def _named(name: str) -> ModelShape | None:
    try:
        return model_named(name)
    except UnknownModel:
        return None


@dataclass(frozen=True, slots=True)
class _Node:
    mem_gbps: float
    tflops: float
    phase: Phase

    @property
    def known(self) -> bool:
        return math.isfinite(self.mem_gbps) and math.isfinite(self.tflops)

    def least_ms(self, work: Work) -> float:
        return float(least_ms(work, self.mem_gbps, self.tflops, self.phase))

    def ratio(self, wanted: Work, measured: Work) -> float:
        """Return how much longer `wanted` takes than `measured` here; by bytes (prefill: operations) without a
        roofline."""
        above = float(least_ms(wanted, self.mem_gbps, self.tflops, self.phase))
        below = float(least_ms(measured, self.mem_gbps, self.tflops, self.phase))
        if math.isfinite(above) and math.isfinite(below):
            return above / below
        if self.phase == "decode":
            return wanted.size_bytes / measured.size_bytes
        return wanted.flops / measured.flops


def _dtype(name: str) -> str:
    lowered = _ALIASES.get(name.lower(), name.lower())
    return _SAME_SIZE.get(lowered, lowered)


def _from_times(
    times: tuple[LayerTime, ...], node: _Node, work: LayerWork, weights: str, batch: int, tokens: int, at_ns: int | None
) -> _Found | None:
    """Return the best use of what was measured on one node; None: nothing of use. `at_ns` None: hand-written."""
    usable = [t for t in times if t.phase == node.phase and (t.dtype == ANY or is_format(_dtype(t.dtype)))]
    own = [t for t in usable if _same_layers(t.model, work.model)] or [t for t in usable if t.model == ANY]
    if not own:
        found = _other_model(usable, node, work, weights, batch, tokens)
    elif at_ns is not None and not work.model.timed_as_is:
        found = _stood_in(own, node, work, weights, batch, tokens)
    else:
        found = _same_model(own, node, work, weights, batch, tokens)
    if found is None:
        return None
    ms, how, nearest = found.ms, found.how, found.nearest
    spread = math.log(nearest.ms_p95 / nearest.ms) / Z95 if nearest.ms_p95 > nearest.ms else 0.0
    made = {How.OUTSIDE: DOUBT_OUTSIDE, How.OTHER_DTYPE: DOUBT_OTHER_DTYPE, How.OTHER_MODEL: DOUBT_OTHER_MODEL}
    if at_ns is None:
        unnamed = DOUBT_OTHER_DTYPE if nearest.dtype == ANY else 0.0  # no format is stated: it may be another
        return _Found(ms, how, spread, math.hypot(DOUBT_BY_HAND, unnamed, made.get(how, 0.0)))
    hours = max(0, at_ns - nearest.at_ns) / NS_PER_HOUR if nearest.at_ns else 0.0
    doubt = math.sqrt(
        made.get(how, 0.0) ** 2
        + found.residual**2
        + (DOUBT_SCALED if "scaled" in nearest.marks.split(",") else 0.0) ** 2
        + (DOUBT_EAGER if "eager" in nearest.marks.split(",") else 0.0) ** 2
        + (DOUBT_MEDIAN * spread) ** 2 / max(1, nearest.n)
        + DOUBT_PER_ROOT_HOUR**2 * min(hours, 24.0 * 30)
    )
    return _Found(ms, how, spread, doubt)


def _same_model(times: list[LayerTime], node: _Node, work: LayerWork, weights: str, batch: int, tokens: int) -> _Answer:
    wanted = _dtype(weights)
    fitting = [t for t in times if t.dtype == ANY or _dtype(t.dtype) == wanted]
    if fitting:
        return _answer(fitting, node, work, weights, batch, tokens)
    # one other dtype, the nearest in size, so that its points belong together
    dtype = min({_dtype(t.dtype) for t in times}, key=lambda d: abs(_bits(d) - _bits(wanted)))
    others = [t for t in times if _dtype(t.dtype) == dtype]
    found = _answer(others, node, work, dtype, batch, tokens)
    ms = found.ms * node.ratio(work(weights, batch, tokens), work(dtype, batch, tokens))
    return _Answer(ms, How.OTHER_DTYPE, found.nearest, found.residual)


def _stood_in(times: list[LayerTime], node: _Node, work: LayerWork, weights: str, batch: int, tokens: int) -> _Answer:
    """Scale a layer that a probe timed in place of one it cannot build, to what the model's layers read and compute."""
    model = work.model
    stand_in = LayerWork(ModelShape(model.name, 1, model.layer, model.vocab, model.tied), node.phase)
    found = _same_model(times, node, stand_in, weights, batch, tokens)
    ratio = node.ratio(work(weights, batch, tokens), stand_in(weights, batch, tokens))
    return _Answer(found.ms * ratio, How.OTHER_MODEL, found.nearest, found.residual)


def _answer(times: list[LayerTime], node: _Node, work: LayerWork, weights: str, batch: int, tokens: int) -> _Answer:
    """Answer from times in one format: measured, from the curve through them, or between and beyond the few points."""
    newest = _newest(times)
    nearest = _nearest(times, batch, tokens)
    curved = timing_curve.fit(
        {place: t.ms for place, t in newest.items()}, timing_curve.terms_of(work.model, weights, node.phase)
    )
    bent = node.phase == "prefill" or work.model.layer.experts > 0
    if curved is None and bent and len(newest) > 1 and node.known:
        # weights first, then operations, and ever more experts: the bottleneck changes with the length and with the
        # batch, which the roofline models and a line cannot
        least = {place: node.least_ms(work(weights, *place)) for place in (*newest, (batch, tokens))}
        bends = {place: t.ms / least[place] for place, t in newest.items()}
        logs = {(b, round(LOG_STEPS * math.log(c + 1))): bend for (b, c), bend in bends.items()}
        bend, inside = timing_curve.interpolate(
            logs, batch, round(LOG_STEPS * math.log(tokens + 1)), lambda to, at: 1.0
        )
        residual = 0.0 if (batch, tokens) in newest else math.log(max(bends.values()) / min(bends.values())) / 4
        how = How.MEASURED if inside else How.OUTSIDE
        return _Answer(least[batch, tokens] * bend, how, nearest, residual)
    if curved is None:
        points = {place: t.ms for place, t in newest.items()}
        ratio = lambda to, at: node.ratio(work(weights, *to), work(weights, *at))  # noqa: E731 - as interpolate wants it
        ms, inside = timing_curve.interpolate(points, batch, tokens, ratio)
        return _Answer(ms, How.MEASURED if inside else How.OUTSIDE, nearest)
    # the distance of the measured points from the curve, in proportion between them, constant beyond them
    bends = {(b, c): t.ms / max(curved.ms(b, c, c), 1e-12) for (b, c), t in newest.items()}
    bend, inside = timing_curve.interpolate(bends, batch, tokens, lambda to, at: 1.0)
    ms = max(curved.ms(batch, tokens, work.model.kv_tokens(tokens)), 1e-12) * bend
    exact = (batch, tokens) in newest
    return _Answer(ms, How.MEASURED if inside else How.OUTSIDE, nearest, 0.0 if exact else curved.residual)


def _newest(times: list[LayerTime]) -> dict[_Point, LayerTime]:
    newest: dict[_Point, LayerTime] = {}
    for time in times:
        point = (time.batch, time.context)
        if point not in newest or time.at_ns >= newest[point].at_ns:
            newest[point] = time
    return newest


def _other_model(
    times: list[LayerTime], node: _Node, work: LayerWork, weights: str, batch: int, tokens: int
) -> _Answer | None:
    """Answer from the model whose layer is nearest in size, among those whose shape is known."""
    wanted = work(weights, batch, tokens)
    best: tuple[float, float, LayerTime] | None = None
    for name in sorted({t.model for t in times}):
        shape = _named(name)
        if shape is None:
            continue
        other = LayerWork(shape, node.phase)
        near = _nearest([t for t in times if t.model == name], batch, tokens)
        dtype = _dtype(weights) if near.dtype == ANY else _dtype(near.dtype)
        measured = other(dtype, near.batch, near.context)
        distance = abs(math.log(wanted.size_bytes / measured.size_bytes))
        if best is None or distance < best[0]:
            best = (distance, near.ms * node.ratio(wanted, measured), near)
    return None if best is None else _Answer(best[1], How.OTHER_MODEL, best[2])


def _bits(dtype: str) -> float:
    return weight_format(dtype).layer_bits


def _head_bits(dtype: str) -> float | None:
    return weight_format(_dtype(dtype)).head_bits if is_format(_dtype(dtype)) else None


def _nearest(times: list[LayerTime], batch: int, tokens: int) -> LayerTime:
    """Return the nearest point, by ratio of batch first, then of tokens; the newest of equals."""
    return min(
        times,
        key=lambda t: (abs(math.log(t.batch / batch)), abs(math.log((t.context + 1) / (tokens + 1))), -t.at_ns),
    )
