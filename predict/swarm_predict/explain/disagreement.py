"""Detect runs that differ from their predictions by more than noise, and find the term that would explain it.

Noise is how runs repeat: the last few are outside of the predicted interval on the same side, and their median is so by
more than twice its own standard error. One term at a time is fitted to what the runs took beyond their predictions, per
token and to the first token: more for every layer, for every round trip, for every byte, or for every token in any
case. A first token carries the whole prompt, so it separates bytes and layers from round trips; runs with other
placements or prompts separate the rest. Terms that explain the runs about equally well are all named.

Where the engine agreed with its prediction before, the term is fitted to what has changed since: how far first tokens
lay from their predictions then is no part of it, and its layers take what those runs took beyond their paths. Pure;
times and predictions come in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from swarm_predict.cost.build import build_costs
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.cards import with_one_size
from swarm_predict.cost.machine.layer_times import Z95
from swarm_predict.cost.network.delivery_times import Links
from swarm_predict.forecast.draws import Trip
from swarm_predict.forecast.forward_pass.pipeline import Pipeline
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, Prediction, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

Looks = Literal["layers", "round trips", "bytes", "every token"]
LOOKS: Final[tuple[Looks, ...]] = ("layers", "round trips", "bytes", "every token")

MIN_LAYERS: Final = 0.1  # of their predicted time, that layers take however fast the runs that agreed were
ROUND_TRIPS: Final = LOOKS.index("round trips")
LAST: Final = 5  # runs that decide
MIN_RUNS: Final = 3  # runs before anything is reported
FITTED: Final = 40  # runs that the fit looks at
REPEATS: Final = 0.02  # runs of one engine on one network repeat no better: what the scatter of a few may hide
FIRST_REPEATS: Final = 0.10  # first tokens: they include schedulers and caches of engines
# of first tokens, how far predictions lie from them in all runs of a placement alike: standard deviation of the
# logarithm, of 30 runs of three engines on emulated networks
FIRST_OFF: Final = 0.1
ERRORS: Final = 2.0  # standard errors of the median
MEDIAN_ERROR: Final = 1.2533  # of a median of n, in standard deviations over √n
MAD: Final = 1.4826  # median absolute deviation → standard deviation of a normal distribution
ALIKE: Final = 4.0  # sum of squares in units of the noise: closer together, two terms cannot be distinguished
FITS: Final = 9.0  # of the best, for each run more: beyond, none of the terms explains it


@dataclass(frozen=True, slots=True)
class Parts:
    """The predicted parts of one pass through the machines."""

    layers_ms: float
    round_trips: float  # messages that wait for each other
    kilobytes: float
    windows: float = 0.0  # messages' worth of round trips that TCP's windows add where connections have rested


@dataclass(frozen=True, slots=True)
class Watched:
    """One run with its prediction. `first…` None: not known or not predicted."""

    at_ns: int
    tpot_ms: float
    p5_ms: float
    p50_ms: float
    p95_ms: float
    token: Parts | None = None
    first_ms: float | None = None
    first_p50_ms: float | None = None
    first_p95_ms: float | None = None
    first: Parts | None = None


@dataclass(frozen=True, slots=True)
class Disagreement:
    runs: int  # outside of the interval, consecutively, up to now
    since_ns: int  # of the first of them
    off_ms: float  # median of what they took beyond the median of their predictions; below 0: faster
    looks_like: tuple[Looks, ...]  # the likeliest first, then those that explain the runs as well; empty: none does
    each: float | None  # of the likeliest: milliseconds a round trip, a kilobyte or a token; a factor of layer times
    agreed: bool = False  # before: something has changed since

    @property
    def slower(self) -> bool:
        return self.off_ms > 0


def parts_of(
    swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload, found: Prediction
) -> tuple[Parts, Parts | None]:
    """Return the parts of a token and of the first token (None: not predicted) of a placement.

    `found` is its prediction. What the first token takes beyond its paths is counted as layers."""
    parts = found.breakdown_ms
    if engine_facts(workload).pattern == "all-reduce":
        each = model.hop_bytes(workload.batch, workload.activations) * found.hops / 1e3
        return Parts(parts.compute + parts.head, found.hops, each), None
    placement = tuple(sorted(placement, key=lambda stage: stage.first))
    workload = with_one_size(swarm, model, placement, workload)
    costs = build_costs(swarm, model, workload, [swarm.index(stage.node) for stage in placement])
    pipeline = Pipeline(swarm, model, placement, workload, costs)
    prompt = pipeline.prompt_trips(workload.batch, workload.prompt - workload.cached_prompt)
    token = Parts(parts.compute + parts.head, found.hops, _kilobytes(pipeline.trips))
    if not math.isfinite(found.ttft_ms.p50):
        return token, None
    more_ms = _serial_ms(costs.links, prompt) - _serial_ms(costs.links, pipeline.trips)
    layers_ms = found.ttft_ms.p50 - parts.network - parts.overhead - more_ms
    return token, Parts(max(layers_ms, 0.0), len(prompt), _kilobytes(prompt), _windows(costs.links, prompt))


def _kilobytes(trips: Sequence[Trip]) -> float:
    return sum(trip.size_bytes for trip in trips) / 1e3


def _serial_ms(links: Links, trips: Sequence[Trip]) -> float:
    each = [float(links.serialisation_ms(trip.size_bytes)[trip.src, trip.dst]) for trip in trips]
    return sum(ms for ms in each if math.isfinite(ms))


def _windows(links: Links, trips: Sequence[Trip]) -> float:
    """Return how many messages' delays the trips wait for windows that have shrunk, two a round trip."""
    waits = [
        2 * float(links.slow_start_ms(trip.size_bytes)[trip.src, trip.dst]) / rtt_ms
        for trip in trips
        if (rtt_ms := float(links.rtt_p50_ms[trip.src, trip.dst])) > 0
    ]
    return sum(wait for wait in waits if math.isfinite(wait))


def disagreement(runs: Sequence[Watched], earlier: Sequence[Watched] = ()) -> Disagreement | None:
    """Compare runs with their predictions. `runs`: oldest first. `earlier`: of other placements, for what the
    difference grows with.

    None: the prediction holds, or too few runs contradict it.
    """
    side = _side(runs)
    if side == 0:
        return None
    began = len(runs)
    while began > 0 and _outside(runs[began - 1]) == side:
        began -= 1
    own = list(runs[began:]) or list(runs[-LAST:])
    off_ms = statistics.median(run.tpot_ms - run.p50_ms for run in own)
    way = 1 if off_ms > 0 else -1
    agreed = [run for run in runs[:began] if _outside(run) == 0][-FITTED:]
    changed = len(agreed) >= MIN_RUNS
    if changed:
        looks, each = _looks_like(_as_before(own[-FITTED:], agreed), way)
    else:
        looks, each = _looks_like([*earlier, *runs][-FITTED:], way)
    return Disagreement(len(own), own[0].at_ns, off_ms, looks, each, changed)


def _side(runs: Sequence[Watched]) -> int:
    """Return 1 (slower than predicted for longer than noise), -1 (faster) or 0 (neither)."""
    last = runs[-LAST:]
    if len(last) < MIN_RUNS:
        return 0
    error = ERRORS * MEDIAN_ERROR * _noise([run.tpot_ms / run.p50_ms for run in last]) / math.sqrt(len(last))
    if statistics.median((run.tpot_ms - run.p95_ms) / run.p50_ms for run in last) > error:
        return 1
    if statistics.median((run.p5_ms - run.tpot_ms) / run.p50_ms for run in last) > error:
        return -1
    return 0


def _outside(run: Watched) -> int:
    return 1 if run.tpot_ms > run.p95_ms else -1 if run.tpot_ms < run.p5_ms else 0


def _noise(ratios: Sequence[float]) -> float:
    """Return how far runs repeat, relative: their scatter, but never less than that of engines."""
    middle = statistics.median(ratios)
    return max(REPEATS, MAD * statistics.median(abs(ratio - middle) for ratio in ratios))


def _as_before(runs: Sequence[Watched], agreed: Sequence[Watched]) -> list[Watched]:
    """Return the runs with predictions that are off by as much as those of the runs that agreed were, which is put down
    to their layers: how fast an engine computes prompts is the least certain of what is predicted."""
    token = statistics.median(run.tpot_ms / run.p50_ms for run in agreed)
    firsts = [run.first_ms / run.first_p50_ms for run in agreed if run.first_ms is not None and run.first_p50_ms]
    first = statistics.median(firsts) if firsts else None
    return [
        replace(
            run,
            p50_ms=run.p50_ms * token,
            token=_with_layers(run.token, run.p50_ms * (token - 1)),
            first_p50_ms=run.first_p50_ms * first if first and run.first_p50_ms else None,
            first_p95_ms=None,
            first=_with_layers(run.first, run.first_p50_ms * (first - 1)) if first and run.first_p50_ms else run.first,
        )
        for run in runs
    ]


def _with_layers(parts: Parts | None, more_ms: float) -> Parts | None:
    if parts is None:
        return None
    return replace(parts, layers_ms=max(parts.layers_ms + more_ms, MIN_LAYERS * parts.layers_ms))


def _looks_like(runs: Sequence[Watched], way: int) -> tuple[tuple[Looks, ...], float | None]:
    """Return the terms and the factor of the likeliest."""
    rows, beyond, noise = [], [], []
    scatter = _noise([run.tpot_ms / run.p50_ms for run in runs])
    for some in _alike(runs):
        # medians: while something changes, a run is partly of before and partly of after
        if some[0].token is not None:
            rows.append(_columns(some[0].token))
            beyond.append(statistics.median(run.tpot_ms - run.p50_ms for run in some))
            noise.append(scatter * statistics.median(run.p50_ms for run in some) / math.sqrt(len(some)))
        firsts = [
            (run.first_ms, run.first_p50_ms, run.first_p95_ms or run.first_p50_ms)
            for run in some
            if run.first_ms is not None and run.first_p50_ms is not None
        ]
        if some[0].first is not None and firsts:
            took_ms, p50_ms, p95_ms = (statistics.median(column) for column in zip(*firsts, strict=True))
            rows.append(_columns(some[0].first))
            beyond.append(took_ms - p50_ms)
            repeats = math.hypot(FIRST_REPEATS / math.sqrt(len(firsts)), FIRST_OFF)
            noise.append(math.hypot(repeats * max(took_ms, p50_ms), (p95_ms - p50_ms) / Z95))
    if not rows:
        return (), None
    scaled = np.array(rows) / np.array(noise)[:, None]
    wanted = np.array(beyond) / np.array(noise)
    fits = [(*_fit(scaled[:, k], wanted, way), looks) for k, looks in enumerate(LOOKS)]
    # how long connections had rested is not known: their windows had shrunk, or not
    rested = (*_fit(scaled[:, -1], wanted, way), LOOKS[ROUND_TRIPS])
    fits[ROUND_TRIPS] = min(fits[ROUND_TRIPS], rested)
    best = min(fits)[0]
    if best > FITS * len(rows):
        return (), None
    near = sorted(fit for fit in fits if fit[0] <= best + ALIKE and fit[1] * way > 0)
    return tuple(looks for _, _, looks in near), near[0][1] if near else None


def _alike(runs: Sequence[Watched]) -> list[list[Watched]]:
    """Return the runs in groups of one placement and prompt, as the parts of their predictions tell."""
    found: dict[tuple[object, ...], list[Watched]] = {}
    for run in runs:
        key = tuple(None if parts is None else _about(parts) for parts in (run.token, run.first))
        found.setdefault(key, []).append(run)
    return list(found.values())


def _about(parts: Parts) -> tuple[float, ...]:
    """Return the parts to within some ten percent: what is measured anew changes them a little."""
    about = (round(8 * math.log(max(size, 1e-3))) for size in (parts.layers_ms, parts.kilobytes))
    return (round(parts.round_trips), *about)


def _columns(parts: Parts) -> tuple[float, ...]:
    """Return the columns in the order of LOOKS, and last that of round trips over connections that have rested."""
    return (parts.layers_ms, parts.round_trips, parts.kilobytes, 1.0, parts.round_trips + parts.windows)


def _fit(column: Floats, wanted: Floats, way: int) -> tuple[float, float]:
    """Return (the residual, the factor) of one column, on the side that the runs are on."""
    square = float(column @ column)
    factor = float(column @ wanted) / square if square > 0 else 0.0
    factor = factor if factor * way > 0 else 0.0
    return float(((wanted - factor * column) ** 2).sum()), factor
