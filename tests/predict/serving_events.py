"""Continuous batching as a discrete-event simulation: every request, pass and station by itself.

Independent of `swarm_predict.serving`: it knows nothing of queueing theory. Stations and the ways between them are
passed in order. A micro-batch without sequences stands still; one that comes round lets go those that have ended and
takes in the one that has waited longest, unless a prompt is under way in it or the limit is reached.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Service = Callable[[int, float], float]  # (sequences that decode, prompt tokens) in a pass → ms


@dataclass
class Request:
    arrived: float
    prompt_parts: int
    part_tokens: float
    tokens: int
    parts_done: int = 0
    tokens_done: int = 0
    admitted: float = 0.0
    first: float = 0.0
    ended: float = 0.0


@dataclass
class Batch:
    requests: list[Request] = field(default_factory=list)
    decoding: int = 0
    prompt_tokens: float = 0.0


@dataclass
class Result:
    requests: list[Request]
    seconds: float
    busy: list[float]
    in_pipeline: float
    waiting_at_end: int

    def ttft_ms(self) -> list[float]:
        return sorted(r.first - r.arrived for r in self.requests)

    def queue_ms(self) -> list[float]:
        return sorted(r.admitted - r.arrived for r in self.requests)

    def tpot_ms(self) -> float:
        """Of all tokens after the first."""
        tokens = sum(r.tokens - 1 for r in self.requests)
        return sum(r.ended - r.first for r in self.requests) / tokens


def quantile(values: Sequence[float], p: float) -> float:
    return values[min(int(p * len(values)), len(values) - 1)]


def simulate(
    stations: Sequence[Service],
    between_ms: Sequence[float],
    *,
    arrivals_per_s: float,
    prompts: Sequence[float],
    generate: Sequence[float],
    chunk: float,
    micro_batches: int,
    most_sequences: int,
    requests: int,
    seed: int = 0,
) -> Result:
    """`between_ms[k]` is the way behind station k; the last one leads back to the first."""
    rng = random.Random(seed)
    at = 0.0
    waiting: deque[Request] = deque()
    events: list[tuple[float, int, str, int]] = []
    order = 0

    def push(when: float, kind: str, which: int) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when, order, kind, which))

    coming: deque[Request] = deque()
    when = 0.0
    for _ in range(requests):
        when += rng.expovariate(arrivals_per_s / 1e3)
        prompt, answer = rng.choice(prompts), rng.choice(generate)
        parts = max(1, -(-int(prompt) // int(chunk))) if chunk else 1
        coming.append(Request(when, parts, prompt / parts, max(1, round(answer))))
    push(coming[0].arrived, "arrival", 0)
    batches = [Batch() for _ in range(micro_batches)]
    place = [-1] * micro_batches  # station; -1: stands still
    lines: list[deque[int]] = [deque() for _ in stations]
    serving = [-1] * len(stations)
    busy = [0.0] * len(stations)
    present, area, since = 0, 0.0, 0.0
    done: list[Request] = []

    def begin(station: int) -> None:
        if serving[station] >= 0 or not lines[station]:
            return
        which = lines[station].popleft()
        serving[station] = which
        batch = batches[which]
        ms = stations[station](batch.decoding, batch.prompt_tokens)
        busy[station] += ms
        push(at + ms, "served", station)

    def start(which: int) -> None:
        nonlocal present, area, since
        batch = batches[which]
        for request in batch.requests:
            if request.parts_done < request.prompt_parts:
                request.parts_done += 1
                if request.parts_done == request.prompt_parts:
                    request.first, request.tokens_done = at, 1
            else:
                request.tokens_done += 1
            if request.tokens_done == request.tokens:
                request.ended = at
                done.append(request)
        area += present * (at - since)
        since = at
        ended = [r for r in batch.requests if r.tokens_done == r.tokens]
        present -= len(ended)
        batch.requests = [r for r in batch.requests if r.tokens_done < r.tokens]
        take_in(which)

    def take_in(which: int) -> None:
        nonlocal present, area, since
        batch = batches[which]
        area += present * (at - since)
        since = at
        most_each = -(-most_sequences // micro_batches)
        reading = any(r.parts_done < r.prompt_parts for r in batch.requests)
        if waiting and not reading and present < most_sequences and len(batch.requests) < most_each:
            request = waiting.popleft()
            request.admitted = at
            batch.requests.append(request)
            present += 1
        if not batch.requests:
            place[which] = -1
            return
        batch.decoding = sum(r.parts_done == r.prompt_parts for r in batch.requests)
        batch.prompt_tokens = sum(r.part_tokens for r in batch.requests if r.parts_done < r.prompt_parts)
        place[which] = 0
        lines[0].append(which)
        begin(0)

    while events:
        at, _, kind, which = heapq.heappop(events)
        if kind == "arrival":
            waiting.append(coming.popleft())
            if coming:
                push(coming[0].arrived, "arrival", 0)
            else:
                break  # what follows would run dry
            idle = [k for k in range(micro_batches) if place[k] < 0]
            if idle:
                take_in(idle[0])
        elif kind == "served":
            batch = serving[which]
            serving[which] = -1
            push(at + between_ms[which], "moved", batch)
            begin(which)
        elif kind == "moved":
            place[which] += 1
            if place[which] == len(stations):
                start(which)
            else:
                lines[place[which]].append(which)
                begin(place[which])
    settled = at / 5  # the first fifth is not counted
    counted = [r for r in done if r.arrived > settled]
    return Result(counted, at / 1e3, [b / at for b in busy], area / at, len(waiting))
