"""Evaluate placements side by side at any arrival rate.

A request goes to one of the placements and stays there. Each placement gets requests in proportion to the most it can
sustain, so that all are equally loaded (weighted routing, as Helix does, arXiv 2406.01566). Placements may share
machines (`shared_machines`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from swarm_predict.model.shapes import ModelShape
from swarm_predict.serving.queueing.continuous_batching import Served
from swarm_predict.serving.queueing.distributions import Spread, mixed
from swarm_predict.serving.routes.build import offer_of
from swarm_predict.serving.routes.route import Route
from swarm_predict.serving.shared_machines import Together
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import Placement, Workload
from swarm_protocol.snapshot.swarm import Swarm


@dataclass(frozen=True, slots=True)
class Point:
    """All replicas under one arrival rate."""

    arrivals_per_s: float
    tokens_per_s: float
    tpot_ms: Spread
    ttft_ms: Spread
    queue_ms: Spread


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

    def asked_for(self, arrivals_per_s: float) -> Replicas:
        """Return the same placements for other arrivals."""
        other = copy.copy(self)
        other.traffic = replace(self.traffic, arrivals_per_s=arrivals_per_s)
        return other

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


def _point(arrivals_per_s: float, served: Sequence[Served], shares: Sequence[float]) -> Point:
    return Point(
        arrivals_per_s,
        math.fsum(each.tokens_per_s for each in served),
        mixed([each.tpot_ms for each in served], shares),
        mixed([each.ttft_ms for each in served], shares),
        mixed([each.queue_ms for each in served], shares),
    )
