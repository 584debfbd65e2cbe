"""Many users on one placement, or on several side by side: `serve` answers for given arrivals, `front` for all rates.

A request goes to one of the placements and stays; each gets requests in proportion to the most it can sustain, so that
all are loaded alike (weighted routing, as Helix does, arXiv 2406.01566). Placements may share machines (`together`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_predict.model.shapes import ModelShape
from swarm_predict.serving.lengths import Lengths
from swarm_predict.serving.load import Loaded, Served, Spread, mixed
from swarm_predict.serving.routes.build import AS_STAGES, ONE_BY_ONE, RESERVES, offer_of
from swarm_predict.serving.routes.route import Route
from swarm_predict.serving.together import SharedMachine, Together
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import Placement, Workload
from swarm_protocol.snapshot.swarm import Swarm

LOADS: Final = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95)  # of the most that is sustained
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

    @property
    def most_per_s(self) -> float:
        return self.served.most_per_s


@dataclass(frozen=True, slots=True)
class Point:
    """All replicas under one arrival rate."""

    arrivals_per_s: float
    tokens_per_s: float
    tpot_ms: Spread
    ttft_ms: Spread
    queue_ms: Spread


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
    replicas: tuple[Replica, ...]
    front: tuple[Point, ...]
    shared: tuple[SharedMachine, ...]  # by several of the placements
    notes: tuple[str, ...]

    @property
    def sustained(self) -> bool:
        return self.arrivals_per_s < self.most_per_s

    @property
    def grows_per_s(self) -> float:
        """Return by how many requests the queue grows in a second; 0 if it does not."""
        return max(0.0, self.arrivals_per_s - self.most_per_s)


class Replicas:
    """Placements with their routes, asked at any arrival rate."""

    def __init__(
        self, swarm: Swarm, model: ModelShape, placements: Sequence[Placement], workload: Workload, traffic: Traffic
    ) -> None:
        self.traffic, self.workload, self.placements = traffic, workload, tuple(placements)
        self.together = Together([offer_of(swarm, model, each, workload, traffic) for each in placements])
        self.most_per_s = self.together.most_per_s
        self.shares = self.together.shares

    @property
    def routes(self) -> tuple[Route, ...]:
        return self.together.routes

    def at(self, arrivals_per_s: float) -> Point:
        return _point(arrivals_per_s, self.together.under(arrivals_per_s)[1], self.shares)

    def most_within(self, tpot_ms: float) -> float:
        """Return the largest arrival rate at which the mean time per token keeps to a limit; 0: none."""
        low, high = 0.0, self.most_per_s * (1 - 1e-6)
        if self.at(high).tpot_ms.mean <= tpot_ms:
            return self.most_per_s
        if self.at(self.most_per_s * 1e-3).tpot_ms.mean > tpot_ms:
            return 0.0
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if self.at(middle).tpot_ms.mean <= tpot_ms else (low, middle)
        return low

    def serving(self) -> Serving:
        arrivals, shares = self.traffic.arrivals_per_s, self.shares
        loaded, served = self.together.under(arrivals)
        here = _point(arrivals, served, shares)
        limits = self.together.limits()
        rates = sorted(
            {load * self.most_per_s for load in LOADS} | ({arrivals} if arrivals < self.most_per_s else set())
        )
        return Serving(
            arrivals_per_s=arrivals,
            most_per_s=self.most_per_s,
            most_tokens_per_s=self.most_per_s * self.traffic.generate.mean,
            tokens_per_s=here.tokens_per_s,
            sequences=math.fsum(each.sequences for each in served),
            waiting=math.fsum(each.waiting for each in served),
            tpot_ms=here.tpot_ms,
            ttft_ms=here.ttft_ms,
            queue_ms=here.queue_ms,
            replicas=tuple(
                _replica(placement, each, share, found, limit)
                for placement, each, share, found, limit in zip(
                    self.placements, loaded, shares, served, limits, strict=True
                )
            ),
            front=tuple(self.at(rate) for rate in rates),
            shared=self.together.shared(served),
            notes=_notes(self.traffic, self.workload, self.routes, self.most_per_s),
        )


def serve(
    swarm: Swarm, model: ModelShape, placements: Sequence[Placement], workload: Workload, traffic: Traffic
) -> Serving:
    """Return how these placements, side by side, serve these requests.

    Raises BadPlacement, NotMeasured, DoesNotFit and PredictError, as `curves.route_of` does."""
    return Replicas(swarm, model, placements, workload, traffic).serving()


def _point(arrivals_per_s: float, served: Sequence[Served], shares: Sequence[float]) -> Point:
    return Point(
        arrivals_per_s,
        math.fsum(each.tokens_per_s for each in served),
        mixed([each.tpot_ms for each in served], shares),
        mixed([each.ttft_ms for each in served], shares),
        mixed([each.queue_ms for each in served], shares),
    )


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
    )


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
