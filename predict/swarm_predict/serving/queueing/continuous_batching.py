"""Model continuous batching under Poisson arrivals: throughput, time per token, first token and queueing in steady
state.

Requests in prefill and requests that decode are counted separately (`prefill_decode_chain`). If other routes share
stations with this one, or there are too many sequences for that, all are counted together: with n in the pipeline, each
advances one pass in a cycle C(n) (`cycle_time`). This is generalised processor sharing, and the number of requests has
the distribution

    π(n) ∝ λⁿ / Π μ(j), j = 1…n          μ(j) = j / (passes of a request · C(j))

for any distribution of their lengths (Cohen, Acta Informatica 12, 1979). Memory admits at most N sequences; further
requests queue in order and are admitted at the rate μ(N), which is also the highest arrival rate that is sustained.
Their wait is that of M/M/N, multiplied by (1 + c²)/2 for lengths that vary less or more than exponentially (Allen and
Cunneen). Arrivals see the steady state (PASTA).

Assumptions: Poisson arrivals; requests are admitted in order of arrival and kept until they end (no preemption);
a micro-batch takes in a new request when it comes round, with one prompt in it at a time; stations serve in order.
`python -m bench serving` and `tests/predict/serving/test_serving.py` compare it with an event simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from swarm_predict.serving.cycle_time import cycle_ms
from swarm_predict.serving.queueing.distributions import NEVER, PROBABILITIES, Spread, scaled, spread
from swarm_predict.serving.queueing.first_token import first_tokens
from swarm_predict.serving.queueing.prefill_decode_chain import Phases
from swarm_predict.serving.routes.route import MAX_PARTS, Route
from swarm_protocol.snapshot.swarm import Floats

GRID: Final = 40  # numbers of sequences whose cycle is computed; between them it is interpolated
NEARLY_ONE: Final = 1 - 1e-9
BINS: Final = 64  # of numbers of sequences, for distributions
WAITS: Final = 20  # equally likely points of the wait for memory
TURNS: Final = 5  # equally likely points of the wait for a micro-batch
TAIL: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Served:
    """One route under one arrival rate, in steady state. Times are for requests that are served."""

    arrivals_per_s: float
    most_per_s: float  # the largest arrival rate that is sustained
    tokens_per_s: float  # generated, all requests together
    sequences: float  # in the pipeline, on average
    waiting: float  # requests that memory does not admit yet, on average
    tpot_ms: Spread  # time per token after the first, over requests
    ttft_ms: Spread  # from arrival to the first token
    queue_ms: Spread  # of it, until the pipeline admits the request
    busy: tuple[float, ...]  # (stations,) share of the time

    @property
    def sustained(self) -> bool:
        return self.arrivals_per_s < self.most_per_s


class Loaded:
    """A route with its cycles for every number of sequences, to be evaluated at any arrival rate."""

    def __init__(self, route: Route, points: int = GRID) -> None:
        self.route = route
        most = route.useful_sequences
        self.most_sequences = most
        grid = np.unique(np.round(np.geomspace(1, most, points)).astype(np.int64))
        if route.micro_batches <= most:
            grid = np.unique(np.append(grid, [route.micro_batches]))
        self._grid = grid.astype(np.float64)
        passes = [route.loaded(n) for n in self._grid]
        self._cycle_ms = np.array(
            [cycle_ms(each, route.in_flight(n)) for each, n in zip(passes, self._grid, strict=True)]
        )
        self._way_ms = np.array([each.way_ms + each.parts * float(each.part_chance @ each.part_ms) for each in passes])
        self._token_way_ms = np.array([each.way_ms for each in passes])
        in_flight = np.array([route.in_flight(n) for n in self._grid])
        # of a cycle: 1 where none has a prompt, more where a few long ones are met by more arrivals than others
        some = 1 - (1 - np.array([each.parts for each in passes])) ** in_flight
        mean, square = (np.array([float(each.part_chance @ each.part_ms**k) for each in passes]) for k in (1, 2))
        self._met = 1 + np.maximum(some * square - (some * mean) ** 2, 0.0) / self._cycle_ms**2
        stations = np.array([each.station_ms for each in passes])
        self._busy = np.minimum(stations * (in_flight / self._cycle_ms)[:, None], 1.0)

    @cached_property
    def _numbers(self) -> Floats:
        return np.arange(1, self.most_sequences + 1, dtype=np.float64)

    def _of(self, values: Floats) -> Floats:
        """Return (sequences,): values of the grid at every number of sequences."""
        return np.asarray(np.interp(self._numbers, self._grid, values))

    @cached_property
    def cycles_ms(self) -> Floats:
        return self._of(self._cycle_ms)

    @cached_property
    def rates_per_s(self) -> Floats:
        """Return (sequences,): requests that end a second, with 1, 2 … sequences."""
        return np.asarray(self._numbers * 1e3 / (self.route.passes * self.cycles_ms))

    def cycle_at(self, sequences: float) -> float:
        return float(np.interp(sequences, self._grid, self._cycle_ms))

    @property
    def most_per_s(self) -> float:
        """Return the largest arrival rate that is sustained, in requests a second."""
        return self._phases.most_per_s if self._phases.covers else float(self.rates_per_s.max())

    @cached_property
    def _phases(self) -> Phases:
        return Phases(self.route)

    @property
    def best_sequences(self) -> int:
        """Return the number of sequences that gives it; more only take longer."""
        return int(np.argmax(self.rates_per_s)) + 1

    def busy_at_most(self) -> Floats:
        """Return (stations,): the share of the time that each is busy at the most that is sustained."""
        if self._phases.covers:
            return self._phases.busy_at_most
        at = self.best_sequences - 1
        return np.array([float(self._of(column)[at]) for column in self._busy.T])

    def _present(self, arrivals_per_s: float) -> tuple[Floats, float]:
        """Return the chance of 0, 1 … N requests in the pipeline, and that of a queue behind N."""
        rates = self.rates_per_s[: self.best_sequences]
        logs = np.concatenate(([0.0], np.cumsum(math.log(arrivals_per_s) - np.log(rates))))
        weights = np.exp(logs - logs.max())
        again = min(arrivals_per_s / float(rates[-1]), NEARLY_ONE)
        queued = float(weights[-1]) * again / (1 - again)
        total = float(weights.sum()) + queued
        return weights / total, queued / total

    def under(self, arrivals_per_s: float) -> Served:
        """Return the steady state; where the queue grows without bound, that of the most that is sustained, with
        infinite times to the first token."""
        most = self.most_per_s
        if arrivals_per_s >= most:
            return self._overrun(arrivals_per_s)
        return self._in_phases(arrivals_per_s) if self._phases.covers else self._alike(arrivals_per_s)

    def _in_phases(self, arrivals_per_s: float) -> Served:
        """Return the steady state with prompts and answers apart."""
        route, found = self.route, self._phases.under(arrivals_per_s)
        per_ms = arrivals_per_s / 1e3
        waiting = (1 + self._phases.prompts_scv) / 2 * found.for_prompts + (1 + route.passes_scv) / 2 * found.for_memory
        queue_ms = (found.turning + waiting) / per_ms
        ttft, queue = first_tokens(self._phases, found)
        return Served(
            arrivals_per_s=arrivals_per_s,
            most_per_s=self.most_per_s,
            tokens_per_s=arrivals_per_s * route.tokens,
            sequences=found.decoding + found.reading,
            waiting=waiting,
            tpot_ms=spread(found.token_ms.ravel() / route.tokens_a_pass, found.token_share.ravel()),
            ttft_ms=scaled(ttft, queue_ms + found.reading / per_ms),
            queue_ms=scaled(queue, queue_ms),
            busy=tuple(self._phases.busy(found, arrivals_per_s).tolist()),
        )

    def _alike(self, arrivals_per_s: float) -> Served:
        """Return the steady state with all sequences alike."""
        most = self.most_per_s
        chance, queued = self._present(arrivals_per_s)
        count = len(chance) - 1
        serving = np.append(chance[1:-1], chance[-1] + queued)  # with 1 … N in the pipeline
        numbers = np.arange(1, count + 1)
        waits = chance[-1] + queued  # of arrivals
        wait_ms = 1e3 / (most - arrivals_per_s) * (1 + self.route.passes_scv) / 2  # of those who wait
        after = np.append(chance[:-1], waits)  # n requests are there when one arrives, which makes it n + 1
        # (N,) an arrival finds 0 … N − 1, or N and a queue: it is then admitted as the Nth
        joins = np.append(after[: count - 1], after[count - 1] + after[count])
        tpot_ms, steps = self._token_ms(count)
        weight = serving * numbers / self.cycles_ms[:count]  # tokens a second with so many
        first = self._first_token(joins, steps, waits, wait_ms)
        return Served(
            arrivals_per_s=arrivals_per_s,
            most_per_s=most,
            tokens_per_s=arrivals_per_s * self.route.tokens,
            sequences=float(serving @ numbers),
            waiting=arrivals_per_s * float(waits) * wait_ms / 1e3,
            tpot_ms=spread(tpot_ms, weight / weight.sum()),
            ttft_ms=first,
            queue_ms=self._first_token(joins, np.zeros_like(steps), waits, wait_ms),
            busy=tuple(float(serving @ self._of(column)[:count]) for column in self._busy.T),
        )

    def _overrun(self, arrivals_per_s: float) -> Served:
        route = self.route
        if self._phases.covers:
            full = self._phases.at_most
            tpot, sequences = full.mean_token_ms / route.tokens_a_pass, full.decoding + full.reading
        else:
            sequences = float(self.best_sequences)
            tpot = float(self._token_ms(self.best_sequences)[0][-1])
        return Served(
            arrivals_per_s, self.most_per_s, self.most_per_s * route.tokens, sequences, math.inf,
            Spread(tpot, (tpot,) * len(PROBABILITIES)), NEVER, NEVER,
            tuple(self.busy_at_most().tolist()),
        )  # fmt: skip

    def _token_ms(self, count: int) -> tuple[Floats, Floats]:
        """Return (time per token with 1 … count sequences, what a part of a prompt takes longer: (count, lengths))."""
        route = self.route
        in_way = np.array([station.in_way for station in route.stations])
        parts = route.prompts.station_ms[:, in_way].sum(axis=1)  # (lengths,)
        mean_part = float(route.prompts.mean_ms()[in_way].sum())
        token = self._of(np.array([float(route.token_ms(n)[in_way].sum()) for n in self._grid]))[:count]
        cycles, ways = self.cycles_ms[:count], self._of(self._way_ms)[:count]
        alone = np.minimum(1.0, ways / cycles)  # passes that wait for others anyway take their time
        share = route.prompt_share
        longer = parts[None, :] - ((1 - share) * token + share * mean_part)[:, None]
        # a pass that is shorter than the others does not overtake them
        longer[1:] = np.maximum(longer[1:], 0.0)
        own = self._of(self._token_way_ms)[:count]  # a pass takes no less than what is computed in it
        prompt = np.maximum(
            cycles[:, None] + longer * alone[:, None], (own - (1 - share) * token)[:, None] + parts[None, :]
        )
        # all passes together take a cycle on average
        tokens = np.maximum((cycles - share * (prompt @ route.prompts.weights)) / (1 - share), own)
        return tokens / route.tokens_a_pass, prompt

    def _first_token(self, joins: Floats, part_ms: Floats, waits: float, wait_ms: float) -> Spread:
        """Return the time to the first token: the wait for memory, for a micro-batch to come round, and the prompt.

        `joins`: chance to be the 1st, 2nd … sequence; `part_ms`: (sequences, lengths) of a part of a prompt."""
        prompts, count = self.route.prompts, len(joins)
        starts = np.unique(np.linspace(0, count - 1, BINS).astype(np.int64))
        chance = np.add.reduceat(joins, starts)
        turn = (2 * self._turn_ms(count)[starts])[:, None] * ((np.arange(TURNS) + 0.5) / TURNS)[None, :]
        each = (part_ms[starts] * prompts.passes[None, :])[:, :, None] + turn[:, None, :]
        inside = (chance / (len(prompts.passes) * TURNS))[:, None, None] * np.ones_like(each)
        share = min(1.0, waits / max(float(chance[-1]), TAIL))  # of those who join last, who waited
        waited = -wait_ms * np.log(1 - (np.arange(WAITS) + 0.5) / WAITS)
        late = (each[-1][:, :, None] + waited[None, None, :]).ravel()
        behind = np.repeat(inside[-1].ravel() * share / WAITS, WAITS)
        inside[-1] *= 1 - share
        found = spread(np.append(each.ravel(), late), np.append(inside.ravel(), behind))
        lost = waits * wait_ms - float(waited.mean()) * float(behind.sum())  # of the mean, by the points of the wait
        return Spread(found.mean + lost, found.points)

    def _turn_ms(self, count: int) -> Floats:
        """Return (count,): the mean wait for a micro-batch that comes round without a prompt in it.

        With fewer sequences than micro-batches one stands still and starts at once. Else the next comes in half the
        time between two; those that compute a prompt are servers of a queue for its passes: Erlang C, corrected as
        above."""
        route, cycles = self.route, self.cycles_ms[:count]
        numbers, most = np.arange(1, count + 1), route.micro_batches
        share = np.minimum(numbers / most * route.prompt_share, MAX_PARTS)  # of micro-batches with a prompt
        free = most * (1 - share)
        queued = np.array([erlang_c(most, most * each) for each in share])
        passes = route.prompts.passes
        varies = (1 + float(passes.var()) / route.prompts.mean_passes**2) / 2
        for_prompts = varies * queued * route.prompts.mean_passes * cycles / free
        return np.where(numbers <= most, 0.0, cycles * self._of(self._met)[:count] / free / 2 + for_prompts)


def erlang_c(servers: int, offered: float) -> float:
    """Return the chance to wait in M/M/m, by the recursion of Erlang B."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))
