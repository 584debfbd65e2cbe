"""Turn the draws of one decode step into a Prediction, for every engine.

A pipeline (`pipeline`) and nodes that share every layer (`tensor_parallel`) draw a step each in its own way and return
the same `Step`. Everything a user reads is made of it here: quantiles, the calibration's error, notes, what limits the
swarm, and the share of the time that rests on measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from swarm_predict.cost.inputs import Inputs
from swarm_predict.cost.speculative import drafting_ms, step_yield
from swarm_predict.forecast import notes
from swarm_predict.forecast.draws import in_slow_half, mirrored_normal
from swarm_predict.forecast.redundancy import total_share
from swarm_predict.forecast.windows import Flow, Part
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.posterior import chosen
from swarm_predict.types import (
    Breakdown,
    Cause,
    Placement,
    Prediction,
    Quantiles,
    StageCost,
    Workload,
)
from swarm_protocol.snapshot.swarm import Floats, Swarm
from swarm_protocol.units import gib_apart

NOT_KNOWN = Quantiles(float("nan"), float("nan"), float("nan"), float("nan"))
MIN_MODEL_ERROR = -0.9  # a token never takes less than a tenth of the predicted time
SPREAD = tuple((i + 0.5) / 100 for i in range(100))  # probabilities: enough for a picture of the distribution
MIN_BUSY_MS = 1e-9


@dataclass(frozen=True, slots=True)
class First:
    """The first token."""

    draws: Floats | None  # None: not known
    notes: tuple[str, ...] = ()
    limited_by: str = ""  # the largest part of its time


FirstToken = Callable[[], First]


@dataclass(frozen=True, slots=True)
class Question:
    """The question; `placement` is in the order of the stages."""

    swarm: Swarm
    model: ModelShape
    placement: Placement
    workload: Workload
    inputs: Inputs  # the placement's nodes first, in its order
    client: str | None  # the named client


@dataclass(frozen=True, slots=True)
class StageStep:
    """The work of one node in a step, and its memory."""

    layers: int
    holds: str  # `0-39`, for the line that says that it does not fit
    compute_ms: float
    hop_ms: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class InFlight:
    """Several verify windows of the stream at once: a token takes less than its window's way."""

    flow: Flow  # draws
    worth: dict[Part, float]  # of the time per token; sums to 1


@dataclass(frozen=True, slots=True)
class Step:
    """Draws of one decode step, and means of the parts; where a draft model guesses, a step yields several tokens."""

    compute_ms: Floats  # all layers
    network_ms: Floats
    head_ms: Floats
    software_ms: Floats  # visits, messages, the client, proofs; without drafting
    path_ms: dict[Cause, float]  # of the mean network time: rtt, jitter, upload
    measured_ms: float  # of the mean, what rests on measurements of these machines and paths
    stages: tuple[StageStep, ...]
    busy_ms: tuple[float, ...]  # how long a step keeps each machine, uplink and downlink
    hops: int  # messages that wait for each other
    notes: tuple[str, ...]  # about this engine's way of working only
    in_flight: InFlight | None = None  # None: one step follows the other
    later_ms: Floats | None = None  # draws of what losses would add that were not seen so far; None: nothing

    @property
    def total_ms(self) -> Floats:
        return self.compute_ms + self.network_ms + self.head_ms + self.software_ms


def assemble(question: Question, step: Step, rng: np.random.Generator, first_token: FirstToken) -> Prediction:
    """Return the prediction for one placement. `rng` goes on where the draws of `step` ended."""
    work, inputs = question.workload, question.inputs
    if step.in_flight is None:
        times_ms, path_ms = per_token(step.total_ms, work, rng), step.path_ms
        share = windows_per_token = 1 / step_yield(work)
        tpot = quantiles(times_ms)
        if step.later_ms is not None:  # the slow end alone: the mean and its parts are of what was seen
            times_ms = in_slow_half(times_ms, step.later_ms * share, rng)
            later = quantiles(times_ms)
            tpot = Quantiles(tpot.mean, later.p5, later.p50, later.p95)
        parts = Breakdown(
            compute=float(step.compute_ms.mean()) * share,
            network=float(step.network_ms.mean()) * share,
            overhead=(float(step.software_ms.mean()) + drafting_ms(work)) * share,
            head=float(step.head_ms.mean()) * share,
        )
    else:
        times_ms = widened(step.in_flight.flow.ms_per_token, work, rng)
        tpot = quantiles(times_ms)
        share = tpot.mean / (float(step.total_ms.mean()) + drafting_ms(work))
        windows_per_token = float(step.in_flight.flow.windows_per_token.mean())
        parts, path_ms = _hidden(step.in_flight.worth, tpot.mean, share)
    room = inputs.vram_bytes
    stages = tuple(
        StageCost(
            node=stage.node,
            layers=here.layers,
            compute_ms=here.compute_ms * share,
            hop_ms=here.hop_ms * share,
            memory_bytes=here.memory_bytes,
            memory_free_bytes=float(room[k]) - here.memory_bytes,
        )
        for k, (stage, here) in enumerate(zip(question.placement, step.stages, strict=True))
    )
    too_big = [
        _too_big(stage.node, here.holds, here.memory_bytes, float(room[k]), work.weights)
        for k, (stage, here) in enumerate(zip(question.placement, step.stages, strict=True))
        if not here.memory_bytes <= room[k]
    ]
    first = first_token()
    said = [
        *too_big,
        *notes.of_nodes(question.swarm, question.model, question.placement, work, inputs, stages),
        *step.notes,
        *notes.of_options(work),
        *first.notes,
    ]
    return Prediction(
        model=question.model.name,
        weights=work.weights,
        engine=inputs.engine.name,
        client=question.client,
        placement=question.placement,
        fits=not too_big,
        tpot_ms=tpot,
        tpot_quantiles_ms=tuple(np.quantile(times_ms, SPREAD).tolist()),
        tokens_per_s=rates(tpot),
        throughput_tokens_per_s=_throughput(tpot.mean, max(*step.busy_ms, MIN_BUSY_MS) * windows_per_token, work),
        ttft_ms=NOT_KNOWN if first.draws is None else quantiles(first.draws),
        prompt_limited_by=first.limited_by,
        breakdown_ms=parts,
        stages=stages,
        limited_by="memory" if too_big else largest_cause(path_ms, parts, share),
        notes=tuple(dict.fromkeys(said)),
        hops=step.hops,
        measured=_measured(step),
        runs=len(chosen(work.priors).learnt),
    )


def quantiles(draws: Floats) -> Quantiles:
    """Summarise the draws of one figure."""
    p5, p50, p95 = np.quantile(draws, (0.05, 0.5, 0.95))
    return Quantiles(float(draws.mean()), float(p5), float(p50), float(p95))


def rates(tpot_ms: Quantiles) -> Quantiles:
    """Return the tokens per second of one stream; p5 is the slow end."""
    return Quantiles(1e3 / tpot_ms.mean, 1e3 / tpot_ms.p95, 1e3 / tpot_ms.p50, 1e3 / tpot_ms.p5)


def per_token(step_ms: Floats, workload: Workload, rng: np.random.Generator) -> Floats:
    """Return draws of the time per token from draws of a step, (draws,) or (draws, candidates).

    They are widened by what a calibration left unexplained; mean and median stay."""
    return widened((step_ms + drafting_ms(workload)) / step_yield(workload), workload, rng)


def widened(total: Floats, workload: Workload, rng: np.random.Generator) -> Floats:
    """Add what a calibration left unexplained to draws of a time, (draws,) or (draws, candidates)."""
    if not workload.model_error:
        return np.asarray(total)
    off = np.maximum(mirrored_normal(rng, len(total)) * workload.model_error, MIN_MODEL_ERROR)
    off = (off - off.mean()).reshape(-1, *[1] * (total.ndim - 1))
    return np.asarray(total + off * total.mean(axis=0))


def largest_cause(path_ms: dict[Cause, float], parts: Breakdown, share: float) -> Cause:
    """Return what takes most of a token: the machines, the software, or of the paths their largest cause."""
    compute = parts.compute + parts.head
    if sum(path_ms.values()) * share >= max(compute, parts.overhead):
        return max(path_ms, key=lambda cause: path_ms[cause])
    return "compute" if compute >= parts.overhead else "overhead"


def _too_big(node: str, layers: str, needed: float, room: float, weights: str) -> str:
    """`t4-1 needs 41.2 GiB for layers 0-39, has 16.0; give it fewer layers or --weights int8`."""
    smaller = (
        "int8" if weights in ("fp32", "fp16", "bf16") else "nf4" if weights in ("int8", "fp8", "q8_0") else "q2_k_s"
    )
    needs, has = gib_apart(needed, room)
    return f"{node} needs {needs} GiB for layers {layers}, has {has}; give it fewer layers or --weights {smaller}"


def _hidden(worth: dict[Part, float], mean_ms: float, share: float) -> tuple[Breakdown, dict[Cause, float]]:
    """Split a time per token by what its parts contribute; the causes of the paths are for one window, as in `Step`."""
    path: dict[Cause, float] = {
        "rtt": worth["rtt"] * mean_ms / share,
        "jitter": worth["jitter"] * mean_ms / share,
        "upload": worth["upload"] * mean_ms / share,
    }
    parts = Breakdown(
        compute=worth["compute"] * mean_ms,
        network=sum(path.values()) * share,
        overhead=(worth["software"] + worth["draft"]) * mean_ms,
        head=worth["head"] * mean_ms,
    )
    return parts, path


def _throughput(mean_ms: float, busiest_ms: float, workload: Workload) -> float:
    """Tokens per second over all streams: what the latency allows, or the busiest machine or wire.

    `busiest_ms` is per token."""
    return workload.batch * 1e3 * min(workload.streams / mean_ms, 1 / busiest_ms) * total_share(workload)


def _measured(step: Step) -> float:
    """The share of a step's mean time that rests on measurements of these machines and paths."""
    whole = float(step.total_ms.mean())
    return min(1.0, step.measured_ms / whole) if whole > 0 else 1.0
