"""Compute the interval of an answer for many users, around the mean time per token and to the first token.

Two uncertainties are combined, as independent factors:

    own      the single stream's p5 and p95 over its median (`forecast`): speeds of machines and paths. If everything
             is slower by f, times are f times those at f times the arrivals, so the interval widens as the load
             approaches the most that is sustained; beyond that it has no upper end
    model    the ratio of an event simulation to the prediction, by kind of placement and load:
             `simulated_errors.json`, written by `python -m bench serving --fit`
"""

from __future__ import annotations

import importlib.resources
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np

from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.serving.replicas import Replicas
from swarm_protocol.snapshot.swarm import Swarm

SHARED: Final = "shared"
GROUPS: Final = "groups"
DRAFTS: Final = "drafts"
WINDOWS: Final = "windows"
PIPELINE: Final = "pipeline"


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a mean lies in nine of ten cases, in ms; infinity: the arrivals may not be sustained."""

    p5: float
    p95: float


class Errors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Simulated over predicted, of one kind of placement at one load."""

    kind: str
    load: float  # of the most that is sustained
    count: int
    tpot: tuple[float, float]  # p5, p95
    ttft: tuple[float, float]


class Simulated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `simulated_errors.json` holds."""

    source: str
    date: str
    errors: tuple[Errors, ...]


@lru_cache(maxsize=1)
def simulated() -> Simulated:
    text = importlib.resources.files(__package__).joinpath("simulated_errors.json").read_bytes()
    return msgspec.json.decode(text, type=Simulated)


def kind_of(found: Replicas) -> str:
    """Return the kind of placements whose errors apply."""
    if any(shared is not None for _, shared in found.together.parts):
        return SHARED
    if any(station.members for route in found.routes for station in route.stations):
        return GROUPS
    if found.workload.windows > 1:
        return WINDOWS
    return DRAFTS if found.workload.draft_tokens else PIPELINE


def model_factors(kind: str, load: float, what: str) -> tuple[float, float]:
    """Return (p5, p95) of simulated over predicted, between measured loads; outside them as at the nearest.

    Each includes 1: that the simulation leans to one side does not narrow the interval."""
    rows = sorted((each for each in simulated().errors if each.kind == kind), key=lambda each: each.load)
    loads = [each.load for each in rows]
    low, high = (float(np.interp(load, loads, [getattr(each, what)[k] for each in rows])) for k in (0, 1))
    return min(low, 1.0), max(high, 1.0)


def own_factors(swarm: Swarm, model: ModelShape, found: Replicas) -> tuple[float, float]:
    """Return (p5, p95) over the median of a single stream's token, the widest of all placements."""
    each = [predict(swarm, model, placement, found.workload).tpot_ms for placement in found.placements]
    return min(one.p5 / one.p50 for one in each), max(one.p95 / one.p50 for one in each)


def intervals(found: Replicas, own: tuple[float, float]) -> tuple[Interval, Interval]:
    """Return those of a token and of the first token, at the arrivals that were asked about."""
    arrivals, kind = found.traffic.arrivals_per_s, kind_of(found)
    load = arrivals / found.most_per_s
    here = found.at(arrivals)
    ends = []
    for factor in own:
        there = found.at(arrivals * factor)
        over = arrivals * factor >= found.most_per_s
        ends.append((math.inf, math.inf) if over else (there.tpot_ms.mean * factor, there.ttft_ms.mean * factor))
    made = []
    for k, (what, mean) in enumerate((("tpot", here.tpot_ms.mean), ("ttft", here.ttft_ms.mean))):
        low, high = model_factors(kind, load, what)
        made.append(Interval(_end(mean, ends[0][k], low, -1), _end(mean, ends[1][k], high, 1)))
    return made[0], made[1]


def _end(mean: float, own: float, factor: float, side: int) -> float:
    """Return the end on one side: doubts that are independent add up as squares of their logarithms."""
    if not math.isfinite(mean) or not math.isfinite(own):
        return math.inf
    return float(mean) * math.exp(side * math.hypot(math.log(own / mean), math.log(factor)))
