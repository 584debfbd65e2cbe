"""A path in memory: a bottleneck with its queue, a shaper's burst, cross traffic, jitter that keeps the order, loss."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from swarm_probe.trains.dispersion import Train
from swarm_probe.trains.rounds import PACKET_BYTES, Round, TrainTest

Law = Literal["none", "uniform", "normal", "exponential", "lognormal"]
TICK_NS = 1_000_000  # a probe sends what is due once in so long


@dataclass(slots=True)
class SimulatedPath:
    mbps: float
    rng: random.Random
    jitter: Law = "none"
    jitter_ms: float = 0.0  # 95 % of the packets are delayed by less
    in_order: bool = True
    loss: float = 0.0  # share, behind the bottleneck
    queue_ms: float = 100.0
    burst_bytes: int = 0  # that a token bucket lets through at `line_mbps`
    line_mbps: float = 1000.0
    cross_mbps: float = 0.0  # Poisson, of packets as large
    sender_mbps: float = 1000.0
    clock_ns: int = 5_000_000_000  # the receiver's clock when the sender's says 0
    now_ns: float = 0.0

    def run(self, test: TrainTest, pause_ms: float = 60.0) -> TrainTest:
        """Run a whole test; between trains passes a round trip and the receiver's silence."""
        while (asked := test.next_round()) is not None:
            test.take(asked.packets, self.train(asked))
            self.now_ns += pause_ms * 1e6
        return test

    def train(self, asked: Round) -> Train:
        sent_ns = list(self._departures(asked))
        arrivals: list[tuple[int, int]] = []
        latest_ns = 0.0
        draw = self._law()
        for number, left_ns in self._through_bottleneck(sent_ns):
            at_ns = left_ns + draw() * 1e6
            latest_ns = max(latest_ns, at_ns)
            if self.rng.random() >= self.loss:
                arrivals.append((number, self.clock_ns + round(latest_ns if self.in_order else at_ns)))
        self.now_ns = max(float(sent_ns[-1]), latest_ns)
        arrivals.sort(key=lambda arrival: arrival[1])
        return Train(PACKET_BYTES, sent_ns, arrivals)

    def _departures(self, asked: Round) -> Iterator[int]:
        between_ns = PACKET_BYTES * 8e3 / self.sender_mbps
        paced_ns = 0.0 if math.isinf(asked.mbps) else PACKET_BYTES * 8e3 / asked.mbps
        free_ns = self.now_ns
        burst_ns = self.now_ns + asked.burst * between_ns
        for number in range(asked.packets):
            due_ns = self.now_ns
            if number >= asked.burst and paced_ns:
                due_ns = burst_ns + math.ceil((number - asked.burst) * paced_ns / TICK_NS) * TICK_NS
            free_ns = max(free_ns, due_ns) + between_ns
            yield round(free_ns)

    def _through_bottleneck(self, sent_ns: list[int]) -> Iterator[tuple[int, float]]:
        """Yield (number, when it left the bottleneck) of the packets that found room in its queue."""
        packet_ns, line_ns = (PACKET_BYTES * 8e3 / rate for rate in (self.mbps, self.line_mbps))
        room = self.queue_ms * self.mbps * 1e3 / 8
        tokens, counted_ns, free_ns = float(self.burst_bytes), float(sent_ns[0]), 0.0
        waiting: deque[float] = deque()
        for number, at_ns in self._with_cross_traffic(sent_ns):
            while waiting and waiting[0] <= at_ns:
                waiting.popleft()
            if len(waiting) * PACKET_BYTES > room:
                continue
            start_ns = max(float(at_ns), free_ns)
            tokens = min(float(self.burst_bytes), tokens + (start_ns - counted_ns) / packet_ns * PACKET_BYTES)
            counted_ns = start_ns
            if tokens >= PACKET_BYTES:
                free_ns, tokens = start_ns + line_ns, tokens - PACKET_BYTES
            elif self.burst_bytes:
                free_ns = start_ns + max(line_ns, (PACKET_BYTES - tokens) / PACKET_BYTES * packet_ns)
                tokens, counted_ns = 0.0, free_ns
            else:
                free_ns = start_ns + packet_ns
            waiting.append(free_ns)
            if number >= 0:
                yield number, free_ns

    def _with_cross_traffic(self, sent_ns: list[int]) -> Iterator[tuple[int, int]]:
        """Yield (number, time) of all packets that come to the bottleneck; -1: not ours."""
        next_ns = math.inf if not self.cross_mbps else float(sent_ns[0])
        mean_ns = PACKET_BYTES * 8e3 / self.cross_mbps if self.cross_mbps else 0.0
        for number, at_ns in enumerate(sent_ns):
            while next_ns <= at_ns:
                yield -1, round(next_ns)
                next_ns += self.rng.expovariate(1 / mean_ns)
            yield number, at_ns

    def _law(self) -> Callable[[], float]:
        """Return what draws a delay in ms."""
        rng, p95 = self.rng, self.jitter_ms
        if self.jitter == "none" or not p95:
            return lambda: 0.0
        if self.jitter == "uniform":
            return lambda: rng.random() * p95 / 0.95
        if self.jitter == "normal":
            return lambda: abs(rng.gauss(0, p95 / 1.96))
        if self.jitter == "exponential":
            return lambda: rng.expovariate(math.log(20) / p95)
        return lambda: rng.lognormvariate(math.log(p95) - 1.645, 1)
