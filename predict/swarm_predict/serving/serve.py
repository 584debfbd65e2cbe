"""Answer how placements serve many users: `serve` for given arrivals, `front` for all arrival rates.

`replicas` evaluates the placements at any rate, `speculation_break_even` decides whether speculative decoding pays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from swarm_predict.model.shapes import ModelShape
from swarm_predict.serving.intervals import Interval, intervals, own_factors
from swarm_predict.serving.lengths import Lengths
from swarm_predict.serving.queueing.continuous_batching import Loaded, Served
from swarm_predict.serving.queueing.distributions import Spread
from swarm_predict.serving.replicas import Point, Replicas
from swarm_predict.serving.routes.build import AS_STAGES, ONE_BY_ONE, RESERVES
from swarm_predict.serving.routes.route import Route
from swarm_predict.serving.shared_machines import SharedMachine
from swarm_predict.serving.speculation_break_even import Drafting, drafting
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import Placement, Workload
from swarm_protocol.snapshot.swarm import Swarm

LOADS: Final = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95)  # of the most that is sustained
ROUND_TRIPS: Final = "round trips"
ALIKE: Final = 0.005  # rates: they would be printed alike
TENTH_MORE: Final = 1.1
UNSURE: Final = 0.9  # of the most: beyond, a queue changes by half with a few percent of capacity


@dataclass(frozen=True, slots=True)
class Busy:
    """What one machine or wire does."""

    name: str
    share: float  # of the time


@dataclass(frozen=True, slots=True)
class Replica:
    """One placement and its share of the requests."""

    placement: Placement
    share: float
    served: Served
    busy: tuple[Busy, ...]
    most_sequences: int
    micro_batches: int
    limited_by: str  # what keeps it from more: a machine, a wire, a machine's memory, long passes
    prompts_by: str  # what most of a prompt's time goes to, and of a token's
    tokens_by: str

    @property
    def most_per_s(self) -> float:
        return self.served.most_per_s


@dataclass(frozen=True, slots=True)
class Serving:
    arrivals_per_s: float
    most_per_s: float  # the largest arrival rate that is sustained
    most_tokens_per_s: float  # then
    tokens_per_s: float
    sequences: float
    waiting: float
    tpot_ms: Spread
    ttft_ms: Spread
    queue_ms: Spread
    tpot_interval: Interval  # of the mean
    ttft_interval: Interval
    replicas: tuple[Replica, ...]
    front: tuple[Point, ...]
    shared: tuple[SharedMachine, ...]  # by several of the placements
    drafting: Drafting | None  # None: nothing is guessed
    more: Point | None  # with a tenth more requests; None: not sustained
    notes: tuple[str, ...]

    @property
    def sustained(self) -> bool:
        return self.arrivals_per_s < self.most_per_s

    @property
    def at_the_edge(self) -> bool:
        """Return whether the arrivals are sustained by the medians, but maybe not by what machines and paths give."""
        return self.sustained and not math.isfinite(self.tpot_interval.p95)

    @property
    def grows_per_s(self) -> float:
        """Return by how many requests the queue grows in a second; 0 if it does not."""
        return max(0.0, self.arrivals_per_s - self.most_per_s)


def serving_of(swarm: Swarm, model: ModelShape, found: Replicas, drafts: Drafting | None = None) -> Serving:
    """Return the answer for the arrivals that the replicas were built for."""
    tpot_interval, ttft_interval = intervals(found, own_factors(swarm, model, found))
    arrivals, shares = found.traffic.arrivals_per_s, found.shares
    loaded, served = found.together.under(arrivals)
    here = found.at(arrivals)
    limits = found.together.limits()
    rates = [load * found.most_per_s for load in LOADS]
    if arrivals < found.most_per_s:  # in the place of one that would read the same
        rates = sorted([arrivals, *(rate for rate in rates if abs(rate - arrivals) > ALIKE * arrivals)])
    return Serving(
        arrivals_per_s=arrivals,
        most_per_s=found.most_per_s,
        most_tokens_per_s=found.most_per_s * found.traffic.generate.mean,
        tokens_per_s=here.tokens_per_s,
        sequences=math.fsum(each.sequences for each in served),
        waiting=math.fsum(each.waiting for each in served),
        tpot_ms=here.tpot_ms,
        ttft_ms=here.ttft_ms,
        queue_ms=here.queue_ms,
        tpot_interval=tpot_interval,
        ttft_interval=ttft_interval,
        replicas=tuple(
            _replica(placement, each, share, found, limit)
            for placement, each, share, found, limit in zip(
                found.placements, loaded, shares, served, limits, strict=True
            )
        ),
        front=tuple(found.at(rate) for rate in rates),
        shared=found.together.shared(served),
        drafting=drafts,
        more=found.at(TENTH_MORE * arrivals) if TENTH_MORE * arrivals < found.most_per_s else None,
        notes=_notes(found.traffic, found.workload, found.routes, found.most_per_s),
    )


def serve(
    swarm: Swarm, model: ModelShape, placements: Sequence[Placement], workload: Workload, traffic: Traffic
) -> Serving:
    """Return how these placements, side by side, serve these requests.

    Raises BadPlacement, NotMeasured, DoesNotFit and PredictError, as `curves.route_of` does."""
    found = Replicas(swarm, model, placements, workload, traffic)
    return serving_of(swarm, model, found, drafts_of(swarm, model, found))


def drafts_of(swarm: Swarm, model: ModelShape, found: Replicas) -> Drafting | None:
    """Compare guessing with not guessing on the same placements; None where nothing is guessed."""
    if not found.workload.draft_tokens:
        return None
    plain = Replicas(swarm, model, found.placements, replace(found.workload, draft_tokens=0, windows=1), found.traffic)
    return drafting(found, plain, found.workload.draft_tokens, found.traffic.arrivals_per_s)


def _replica(placement: Placement, loaded: Loaded, share: float, served: Served, limit: str) -> Replica:
    route = loaded.route
    busy: dict[str, float] = {}
    for station, part in zip(route.stations, served.busy, strict=True):
        for name in station.members or (station.name,):
            busy[name] = busy.get(name, 0.0) + part
    return Replica(
        placement=tuple(sorted(placement, key=lambda stage: stage.first)),
        share=share,
        served=served,
        busy=tuple(Busy(name, part) for name, part in busy.items()),
        most_sequences=loaded.most_sequences,
        micro_batches=route.micro_batches,
        limited_by=limit,
        prompts_by=_prompts_by(route),
        tokens_by=_tokens_by(loaded, served),
    )


def _prompts_by(route: Route) -> str:
    """Return the machine or wire that a prompt takes longest at, or the way between them."""
    part = np.where([station.in_way for station in route.stations], route.prompts.mean_ms(), 0.0)
    slowest = int(part.argmax())
    return ROUND_TRIPS if route.between_ms > float(part[slowest]) else route.stations[slowest].name


def _tokens_by(loaded: Loaded, served: Served) -> str:
    """Return what most of a token's time goes to: a machine, a wire, the way, or waiting for others."""
    route, sequences = loaded.route, max(1.0, served.sequences)
    each = route.loaded(sequences)
    here = np.where([station.in_way for station in route.stations], each.token_ms, 0.0)
    slowest = int(here.argmax())
    waiting = loaded.cycle_at(sequences) - each.way_ms
    busiest = route.stations[int(np.argmax(served.busy))].name
    parts = {
        route.stations[slowest].name: float(here[slowest]),
        ROUND_TRIPS: route.between_ms,
        f"waiting at {busiest}": waiting,
    }
    return max(parts, key=lambda name: parts[name])


def _notes(traffic: Traffic, workload: Workload, routes: Sequence[Route], most_per_s: float) -> tuple[str, ...]:
    lines = [
        f"requests arrive at random (Poisson); prompts of {_lengths(traffic.prompt)} tokens, "
        f"answers of {_lengths(traffic.generate)}",
        "a pass decodes a token of each sequence of a micro-batch, and computes a part of one prompt at most; "
        "medians of machines and paths",
    ]
    if workload.engine in ONE_BY_ONE:
        lines.append(f"{workload.engine} answers one request at a time; the others wait")
    elif workload.engine in RESERVES:
        lines.append(f"{workload.engine} reserves the cache of the longest request for each")
    else:
        lines.append("caches are counted as they fill (paged)")
    if workload.engine in AS_STAGES and not traffic.micro_batches:
        lines.append(f"{workload.engine} keeps as many micro-batches in flight as there are stages")
    lines += list(dict.fromkeys(note for route in routes for note in route.notes))
    if traffic.arrivals_per_s > UNSURE * most_per_s:
        lines.append("this close to the most that is sustained, a few percent of speed change the queue by half")
    return tuple(lines)


def _lengths(lengths: Lengths) -> str:
    if not lengths.varies:
        return f"{lengths.mean:.0f}"
    return f"{lengths.mean:.0f} (median {lengths.quantile(0.5):.0f}, p95 {lengths.quantile(0.95):.0f})"
