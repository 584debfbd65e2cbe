"""Simulate continuous batching as discrete events in SimPy: every request, pass and station separately.

It knows nothing of queueing theory and takes nothing from `swarm_predict.serving`. A micro-batch is a process that goes
round the stations of its route, each a resource that serves in order; stations of the same name are one, whichever
routes pass it. A micro-batch that comes round lets go the requests that have ended and takes in the one that has waited
longest, unless a prompt is under way in it or the limit is reached; without requests it stands still.

With several windows of a request in flight, it joins the emptiest further micro-batches after its first token, and each
of them takes a window of it every time that it comes round. A window whose guesses are not all right makes those void
that were sent before it came home.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

Service = Callable[[int, int, int | None], float]  # (station, sequences that decode, kind of prompt or None) → ms
SETTLED = 0.2  # of the time: what arrived before is not counted


@dataclass(frozen=True)
class SimulatedRoute:
    """One placement: what a pass takes, and which requests there are. Kinds of prompts are equally likely."""

    stations: Sequence[str]
    service: Service
    between_ms: Sequence[float]  # the way behind each station; the last one leads back
    prompt_passes: Sequence[int]  # parts of each kind of prompt
    answers: Sequence[float]  # tokens, equally likely
    micro_batches: int
    most_sequences: int
    arrivals_per_s: float
    yields: Sequence[float] = (1.0,)  # chance that a pass gives a sequence 1, 2, … tokens
    windows: int = 1  # of a sequence in flight
    goes_on: float = 0.0  # with several: chance that all guesses of a window are right, which yields `tokens_on`
    tokens_on: int = 0
    ends: Sequence[float] = ()  # chance that it yields 1, 2, … tokens and those behind it are void


@dataclass
class Request:
    arrived: float
    kind: int
    tokens: int
    parts_done: int = 0
    tokens_done: int = 0
    admitted: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    misses: int = 0  # windows sent before the last of them are void


@dataclass
class Seen:
    """What one route gave; times in ms."""

    requests: list[Request]
    in_pipeline: float  # sequences, on average
    waiting_at_end: int

    @property
    def ttft_ms(self) -> list[float]:
        return sorted(each.first - each.arrived for each in self.requests)

    @property
    def tpot_ms(self) -> float:
        """Of all tokens after the first."""
        tokens = sum(each.tokens - 1 for each in self.requests)
        return sum(each.ended - each.first for each in self.requests) / tokens


@dataclass
class Simulated:
    routes: list[Seen]
    busy: dict[str, float]  # share of the time of each station


@dataclass
class _Batch:
    """A micro-batch: those that it has admitted, and those that have a window in it besides."""

    mine: list[Request] = field(default_factory=list)
    guests: list[Request] = field(default_factory=list)
    idle: simpy.Event | None = None  # while it stands still


@dataclass
class _Loop:
    """One route while it runs."""

    route: SimulatedRoute
    waiting: deque[Request] = field(default_factory=deque)
    idle: deque[simpy.Event] = field(default_factory=deque)
    batches: list[_Batch] = field(default_factory=list)
    done: list[Request] = field(default_factory=list)
    present: int = 0
    area: float = 0.0
    since: float = 0.0

    def change(self, now: float, by: int) -> None:
        self.area += self.present * (now - self.since)
        self.since, self.present = now, self.present + by


def simulate(routes: Sequence[SimulatedRoute], *, requests: int, seed: int = 0) -> Simulated:
    """Run until so many requests have arrived, all routes together."""
    rng, world = random.Random(seed), simpy.Environment()
    places = {name: simpy.Resource(world, capacity=1) for route in routes for name in route.stations}
    busy = dict.fromkeys(places, 0.0)
    loops = [_Loop(route) for route in routes]
    over = world.event()
    counts = _Count(requests, over)
    for loop in loops:
        world.process(_arrivals(world, rng, loop, counts))
        for _ in range(loop.route.micro_batches):
            world.process(_circulate(world, rng, loop, places, busy))
    world.run(until=over)
    seen = []
    for loop in loops:
        loop.change(world.now, 0)
        counted = [each for each in loop.done if each.arrived > SETTLED * world.now]
        seen.append(Seen(counted, loop.area / world.now, len(loop.waiting)))
    return Simulated(seen, {name: ms / world.now for name, ms in busy.items()})


@dataclass
class _Count:
    left: int
    over: simpy.Event


def _arrivals(world: simpy.Environment, rng: random.Random, loop: _Loop, count: _Count) -> Iterator[Any]:
    route = loop.route
    while count.left > 0:
        yield world.timeout(rng.expovariate(route.arrivals_per_s / 1e3))
        kind, tokens = rng.randrange(len(route.prompt_passes)), max(1, round(rng.choice(route.answers)))
        loop.waiting.append(Request(world.now, kind, tokens))
        if loop.idle:
            loop.idle.popleft().succeed()
        count.left -= 1
    if not count.over.triggered:
        count.over.succeed()


def _circulate(
    world: simpy.Environment,
    rng: random.Random,
    loop: _Loop,
    places: dict[str, simpy.Resource],
    busy: dict[str, float],
) -> Iterator[Any]:
    route = loop.route
    batch = _Batch()
    loop.batches.append(batch)
    most_each = -(-route.most_sequences // route.micro_batches)
    while True:
        mine = batch.mine
        reading = any(each.parts_done < route.prompt_passes[each.kind] for each in mine)
        if loop.waiting and not reading and loop.present < route.most_sequences and len(mine) < most_each:
            request = loop.waiting.popleft()
            request.admitted = world.now
            mine.append(request)
            loop.change(world.now, 1)
        if not mine and not batch.guests:
            batch.idle = world.event()
            loop.idle.append(batch.idle)
            yield batch.idle
            batch.idle = None
            continue
        prompts = [each for each in mine if each.parts_done < route.prompt_passes[each.kind]]
        sent = [(each, each.misses) for each in (*mine, *batch.guests)]
        decoding, kind = len(sent) - len(prompts), prompts[0].kind if prompts else None
        for k, name in enumerate(route.stations):
            with places[name].request() as turn:
                yield turn
                ms = route.service(k, decoding, kind)
                busy[name] += ms
                yield world.timeout(ms)
            if route.between_ms[k]:
                yield world.timeout(route.between_ms[k])
        for each, misses in sent:
            if not each.ended:
                _advance(world.now, rng, each, misses, loop, batch)
        ended = [each for each in mine if each.ended]
        if ended:
            loop.done += ended
            loop.change(world.now, -len(ended))
        batch.mine = [each for each in mine if not each.ended]
        batch.guests = [each for each in batch.guests if not each.ended]


def _advance(now: float, rng: random.Random, request: Request, misses: int, loop: _Loop, batch: _Batch) -> None:
    route = loop.route
    if request.parts_done < route.prompt_passes[request.kind]:
        request.parts_done += 1
        if request.parts_done == route.prompt_passes[request.kind]:
            request.first, request.tokens_done = now, 1
            if request.tokens > 1:
                _spread(request, loop, batch)
    elif route.windows == 1:
        request.tokens_done += rng.choices(range(1, len(route.yields) + 1), route.yields)[0]
    elif misses == request.misses:
        outcome = rng.choices(range(len(route.ends) + 1), (route.goes_on, *route.ends))[0]
        request.tokens_done += outcome or route.tokens_on
        request.misses += outcome > 0
    if request.tokens_done >= request.tokens:
        request.ended = now


def _spread(request: Request, loop: _Loop, home: _Batch) -> None:
    """Give a request its further windows, in the micro-batches with the fewest; those that stand still start."""
    others = [each for each in loop.batches if each is not home]
    others.sort(key=lambda each: len(each.mine) + len(each.guests))
    for each in others[: loop.route.windows - 1]:
        each.guests.append(request)
        if each.idle is not None and not each.idle.triggered:
            loop.idle.remove(each.idle)
            each.idle.succeed()


def quantile(values: Sequence[float], p: float) -> float:
    return values[min(int(p * len(values)), len(values) - 1)]
