"""Draw the extra delay of each packet, and which packets are lost, from a seeded rng. Pure.

Every law is scaled by one measurable figure: `p95_ms`, the extra delay that 95 % of the packets stay below (PDV as in
RFC 5481). Loss is independent, or in bursts (Gilbert–Elliott with a loss-free good state).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import NS_PER_MS

CHUNK = 4096  # draws at once: one numpy call a packet would cost more than the packet
NORMAL_P95 = 1.6448536269514722  # 95 % quantile of the normal distribution
HALF_NORMAL_P95 = 1.959963984540054


class Jitter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The extra delay of each packet, one way."""

    p95_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    law: Literal["uniform", "normal", "lognormal", "pareto", "trace"] = "lognormal"
    shape: Annotated[float, Meta(gt=0, le=50)] | None = None  # sigma of lognormal (1.0), alpha of pareto (2.0)
    cap_ms: Annotated[float, Meta(gt=0, le=60_000)] = 2_000.0  # no packet waits longer
    trace_ms: Annotated[tuple[float, ...], Meta(max_length=100_000)] = ()  # of the law "trace", played in a circle


class Loss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rate: Annotated[float, Meta(ge=0, lt=1)] = 0.0  # fraction of the packets, one way
    burst: Annotated[float, Meta(ge=1, le=10_000)] = 1.0  # mean length of a run of losses, packets


def extra_ms(law: Jitter, count: int, rng: np.random.Generator, start: int = 0) -> Floats:
    """Return `count` extra delays in ms, shape (count,), none negative, none above the cap."""
    if law.law == "trace":
        recorded = np.asarray(law.trace_ms, float)
        drawn = recorded[np.arange(start, start + count) % len(recorded)] if len(recorded) else np.zeros(count)
    elif law.p95_ms == 0:
        drawn = np.zeros(count)
    elif law.law == "uniform":
        drawn = rng.random(count) * (law.p95_ms / 0.95)
    elif law.law == "normal":
        drawn = np.abs(rng.standard_normal(count)) * (law.p95_ms / HALF_NORMAL_P95)
    elif law.law == "lognormal":
        sigma = law.shape or 1.0
        median_ms = law.p95_ms / math.exp(NORMAL_P95 * sigma)
        drawn = median_ms * np.exp(sigma * rng.standard_normal(count))
    else:
        alpha = law.shape or 2.0
        scale_ms = law.p95_ms / (20 ** (1 / alpha) - 1)  # Lomax: P(X > x) = (1 + x/scale)^-alpha
        drawn = scale_ms * rng.pareto(alpha, count)
    capped: Floats = np.minimum(drawn, law.cap_ms)
    return capped


class JitterSource:
    """Draws extra delays one by one, in ns, in chunks."""

    def __init__(self, law: Jitter, rng: np.random.Generator) -> None:
        self._law, self._rng = law, rng
        self._drawn: list[int] = []
        self._next = 0
        self._taken = 0
        self.silent = law.law != "trace" and law.p95_ms == 0

    def next_ns(self) -> int:
        if self.silent:
            return 0
        if self._next == len(self._drawn):
            chunk = extra_ms(self._law, CHUNK, self._rng, self._taken)
            self._taken += CHUNK
            self._drawn = (chunk * NS_PER_MS).astype(np.int64).tolist()
            self._next = 0
        drawn = self._drawn[self._next]
        self._next += 1
        return drawn


class LossSource:
    """Decides for each packet whether it is lost. Mean rate and mean burst are those of the law."""

    def __init__(self, law: Loss, rng: np.random.Generator) -> None:
        self._rng = rng
        self._lost = False
        self.never = law.rate == 0
        # stationary loss = enter / (enter + leave), mean burst = 1 / leave
        self._leave = 1 / max(law.burst, 1 / (1 - law.rate))
        self._enter = min(self._leave * law.rate / (1 - law.rate), 1.0)
        self._drawn: list[float] = []
        self._next = 0

    def next_is_lost(self) -> bool:
        if self.never:
            return False
        if self._next == len(self._drawn):
            self._drawn = self._rng.random(CHUNK).tolist()
            self._next = 0
        draw = self._drawn[self._next]
        self._next += 1
        self._lost = draw >= self._leave if self._lost else draw < self._enter
        return self._lost
