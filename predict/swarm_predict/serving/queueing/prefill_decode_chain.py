"""Model prefill and decoding as two phases: a Markov chain over the number of requests in each.

A prompt is computed when its request arrives, not when the pipeline has time to spare, so decoding sequences pile up
behind it. A state is (d, p): d sequences decode, p requests are in prefill or wait for it; of these, j are being
computed, at most one in each micro-batch:

    arrival        (d, p) → (d, p + 1)       λ
    first token    (d, p) → (d + 1, p − 1)   j / (parts of a prompt · time of a pass with one)
    last token     (d, p) → (d − 1, p)       d / (passes of an answer · C(d, j))

with C(d, j) the cycle while j prompts are computed (`micro_batch_loop`). Memory has room for N − d prompts, and each
micro-batch for its share of N: prompts are computed in as many micro-batches as have room, if free slots are spread at
random. A request that arrives while no micro-batch is idle waits until one without a prompt comes round, so fewer than
p prompts are computed at a time; j is then a fraction, and C is interpolated.

The chain is a level-dependent quasi-birth-death process with d as its level, solved from the highest one down (Gaver,
Jacobs and Latouche, Adv. Appl. Prob. 16, 1984). With P or more requests in prefill or waiting for it, rates depend on
d alone, and π(d, p) decays as ηᵖ (Neuts, Matrix-Geometric Solutions in Stochastic Models, 1981, §1): the last state
stands for all of them, and is left for the one before with chance 1 − η. The most that is sustained is the throughput
of the same chain with a request always waiting.

Phases are assumed to be exponential; the waits for memory and for prefill are multiplied by (1 + c²)/2 for lengths that
vary less or more (Allen and Cunneen).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from swarm_predict.serving.cycle_time import TINY_MS
from swarm_predict.serving.queueing.micro_batch_loop import loop_times
from swarm_predict.serving.routes.route import Route
from swarm_protocol.snapshot.swarm import Floats

MAX_DECODING: Final = 1024  # levels; with more at once, single prompts hardly matter (`Phases.covers`)
FURTHER: Final = 24  # requests at their prompt beyond one of each micro-batch, after which π is geometric
ALONE_POINTS: Final = 8  # numbers of sequences that may each have a micro-batch alone
DECODING_POINTS: Final = 8  # numbers of sequences whose cycle is drawn; between them it is interpolated
READING_POINTS: Final = 6  # the same of prompts
TAILS: Final = 64  # η tried at a time
TAIL_ROUNDS: Final = 4
NEARLY_ONE: Final = 1 - 1e-12


@dataclass(frozen=True, slots=True)
class TwoPhases:
    """The steady state under one arrival rate. States are (levels + 1, places + 1); requests are on average."""

    chance: Floats  # of each state
    beyond: float  # η
    decoding: float  # sequences
    reading: float  # prompts that are computed
    turning: float  # requests that wait for a micro-batch to come round
    for_prompts: float  # that wait as every micro-batch has a prompt
    for_memory: float  # that wait for room
    token_ms: Floats  # (states) of a decoding pass
    token_share: Floats  # (states) of all tokens

    @property
    def mean_token_ms(self) -> float:
        return float((self.token_ms * self.token_share).sum())


class Phases:
    """A route that no other shares, under any arrivals."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.levels = min(route.most_sequences, MAX_DECODING)
        self.places = route.micro_batches + FURTHER

    @property
    def covers(self) -> bool:
        return self.route.others is None and self.route.most_sequences <= MAX_DECODING

    @cached_property
    def prompt_ms(self) -> Floats:
        """Return (lengths,): what a prompt takes with nobody else there."""
        route, way = self.route, self.route.between_ms + float(self.route.decode_at(1)[self._in_way].sum())
        return np.asarray(route.prompts.passes * (way + route.prompts.station_ms[:, self._in_way].sum(axis=1)))

    @property
    def prompts_scv(self) -> float:
        """Return the squared coefficient of variation of that."""
        return float(self.prompt_ms.var() / self.prompt_ms.mean() ** 2)

    @cached_property
    def _in_way(self) -> list[int]:
        return [k for k, station in enumerate(self.route.stations) if station.in_way]

    @cached_property
    def _times(self) -> tuple[Floats, Floats, Floats]:
        """Return (levels + 1, micro-batches + 1) each: the cycle, a pass with a prompt, the wait for a micro-batch."""
        route, most = self.route, self.route.micro_batches
        prompts = np.unique([0, 1, *np.round(np.geomspace(1, most, min(most, READING_POINTS))).astype(np.int64)])
        few = np.arange(min(most, self.levels, ALONE_POINTS) + 1)
        points = np.round(np.geomspace(1, max(1, self.levels), DECODING_POINTS)).astype(np.int64)
        decoding = np.unique([*few, *points, min(most, self.levels), self.levels])
        d, j = (grid.ravel() for grid in np.meshgrid(decoding * route.windows, prompts, indexing="ij"))
        in_flight = np.clip(d + j, 1, most)
        # who arrives while a micro-batch stands still has it alone; later ones come to any
        alone = d + j <= most
        others = np.where(alone, np.where(d > 0, 1.0, 0.0), d / in_flight)
        with_prompt = np.where(alone, 0.0, others)
        seen = loop_times(
            route.decode_at(np.asarray(others, np.float64))[:, self._in_way],
            route.decode_at(np.asarray(with_prompt, np.float64))[:, self._in_way],
            route.prompts.station_ms[:, self._in_way], route.prompts.passes, route.between_ms, in_flight, j, alone,
        )  # fmt: skip
        shape = (len(decoding), len(prompts))
        computed = seen.prompts.reshape(shape)
        computed[:, -1] = most  # all of them: what is left is the draw's
        part_ms = seen.part_ms.reshape(shape)
        part_ms[:, 0] = part_ms[:, min(1, len(prompts) - 1)]
        found, at = [], np.arange(self.levels + 1)
        for values in (seen.cycle_ms.reshape(shape), part_ms, seen.turn_ms.reshape(shape)):
            by_prompts = np.array(
                [np.interp(np.arange(most + 1), there, row) for there, row in zip(computed, values, strict=True)]
            )
            found.append(np.array([np.interp(at, decoding, column) for column in by_prompts.T]).T)
        return np.maximum(found[0], TINY_MS), np.maximum(found[1], TINY_MS), found[2]

    @cached_property
    def _reading(self) -> Floats:
        """Return (levels + 1, micro-batches + 1): prompts that are computed at a time, of those who could be."""
        (_, part_ms, turn_ms), route = self._times, self.route
        at = np.arange(self.levels + 1)
        found = np.zeros_like(part_ms)
        for j in range(1, route.micro_batches + 1):
            # below, one stands still and starts at once
            turn = np.where(at * route.windows + j - 1 < route.micro_batches, 0.0, turn_ms[:, j - 1])
            computing = route.prompts.mean_passes * part_ms[:, j]
            found[:, j] = found[:, j - 1] + computing / (computing + turn)
        return found

    def waits_ms(self, beyond: float) -> tuple[Floats, Floats, Floats]:
        """Return, of a request that arrives in each state: what it waits for those before it, for a micro-batch to come
        round, and a pass with a part of its prompt."""
        _, part_ms, turn_ms = self._times
        reading = self._rates[0]
        level, place = np.arange(self.levels + 1)[:, None], np.arange(self.places + 1)[None, :]
        before = np.maximum(place + 1 - self._could, 0.0) + np.where(place == self.places, beyond / (1 - beyond), 0.0)
        free = level * self.route.windows + reading >= self.route.micro_batches
        return (
            before * 1e3 / self.most_per_s,
            np.where(free, _between(turn_ms, reading), 0.0),
            _between(part_ms, reading),
        )

    @cached_property
    def _could(self) -> Floats:
        """Return (levels + 1, places + 1): micro-batches that could compute a prompt."""
        route = self.route
        most, count = route.most_sequences, route.micro_batches
        room = most - np.arange(self.levels + 1)
        full = np.ones(self.levels + 1)  # chance that a micro-batch has no room, if room is spread at random
        for taken in range(-(-most // count)):
            full *= np.maximum(most - room - taken, 0) / max(most - taken, 1)
        return np.minimum(np.arange(self.places + 1)[None, :], np.minimum(count * (1 - full), count)[:, None])

    @cached_property
    def _rates(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return (prompts computed, cycle in ms, first tokens per ms, last tokens per ms), by state."""
        route, (cycle_ms, part_ms, _) = self.route, self._times
        level, could = np.arange(self.levels + 1)[:, None], self._could
        # a micro-batch whose prompt ends takes the next one at once if somebody waits
        waits = np.clip(np.arange(self.places + 1)[None, :] - could, 0.0, 1.0)
        reading = _between(self._reading, could) * (1 - waits) + could * waits
        cycle = _between(cycle_ms, reading)
        first = reading / (route.prompts.mean_passes * _between(part_ms, reading))
        first[-1] = 0.0
        return reading, cycle, first, level / (route.decode_passes * cycle)

    @cached_property
    def at_most(self) -> TwoPhases:
        """Return the steady state if somebody always waits."""
        _, _, first, last = self._rates
        steps = np.log(np.maximum(first[:-1, -1], 1e-300)) - np.log(last[1:, -1])
        weights = np.concatenate(([0.0], np.cumsum(steps)))
        chance = np.zeros_like(first)
        chance[:, -1] = np.exp(weights - weights.max())
        return self._seen(chance / chance.sum(), 0.0)

    @cached_property
    def most_per_s(self) -> float:
        """Return the requests a second that end then: the most that is sustained."""
        return float((self.at_most.chance * self._rates[3]).sum()) * 1e3

    @cached_property
    def busy_at_most(self) -> Floats:
        return self.busy(self.at_most, self.most_per_s)

    def busy(self, found: TwoPhases, arrivals_per_s: float) -> Floats:
        """Return (stations,): the share of the time that each is busy."""
        route, (reading, cycle, _, _) = self.route, self._rates
        present = np.arange(self.levels + 1)[:, None] * route.windows + reading
        in_flight = np.clip(present, 1.0, route.micro_batches)
        visits = (found.chance * in_flight / cycle).sum(axis=1)
        each = (found.chance * in_flight).sum(axis=1) / np.maximum(found.chance.sum(axis=1), 1e-300)
        decoding = route.decode_at(np.arange(self.levels + 1) * route.windows / np.maximum(each, 1.0))
        prompts = arrivals_per_s / 1e3 * route.prompts.mean_passes * route.prompts.mean_ms()
        return np.asarray(np.minimum(visits @ decoding + prompts, 1.0))

    def under(self, arrivals_per_s: float) -> TwoPhases:
        """Return the steady state; the arrivals must be sustained."""
        beyond = self._beyond(arrivals_per_s / 1e3)
        return self._seen(self._steady(arrivals_per_s / 1e3, beyond), beyond)

    def _seen(self, chance: Floats, beyond: float) -> TwoPhases:
        reading, cycle, _, _ = self._rates
        level, place = np.arange(self.levels + 1)[:, None], np.arange(self.places + 1)[None, :]
        there = place + np.where(place == self.places, beyond / (1 - beyond), 0.0)
        queued = there - self._could
        by_memory = self._could < np.minimum(there, self.route.micro_batches)
        tokens = chance * level / cycle
        return TwoPhases(
            chance=chance,
            beyond=beyond,
            decoding=float((chance * level).sum()),
            reading=float((chance * reading).sum()),
            turning=float((chance * (self._could - reading)).sum()),
            for_prompts=float((chance * np.where(by_memory, 0.0, queued)).sum()),
            for_memory=float((chance * np.where(by_memory, queued, 0.0)).sum()),
            token_ms=cycle,
            token_share=tokens / tokens.sum(),
        )

    def _beyond(self, arrivals_per_ms: float) -> float:
        """Return η, at which π falls off beyond the last place: the least one at which the rates

            λ/η − λ − first(d) − last(d)  on the diagonal,  η · first(d) up,  last(d) down

        have no growing solution: all pivots of the matrix made symmetric are negative then."""
        _, _, first, last = (values[:, -1] for values in self._rates)
        low, high = 0.0, 1.0
        for _ in range(TAIL_ROUNDS):
            tried = low + (high - low) * np.arange(1, TAILS + 1) / (TAILS + 1)
            pivots = arrivals_per_ms * (1 / tried - 1) - first[:, None] - last[:, None]
            beside = tried * first[:-1, None] * last[1:, None]
            with np.errstate(divide="ignore", invalid="ignore"):  # after a pivot that is not negative nothing counts
                for d in range(self.levels):
                    pivots[d + 1] -= beside[d] / pivots[d]
            decays = (pivots < 0).all(axis=0)
            at = int(decays.argmax()) if decays.any() else TAILS
            low, high = (tried[at - 1] if at else low), (tried[at] if at < TAILS else high)
        return min(float(high), NEARLY_ONE)

    def _steady(self, arrivals_per_ms: float, beyond: float) -> Floats:
        """Return (levels + 1, places + 1): the chance of each state.

        Diagonals are found as what is left of a row, never by taking away: states that are hardly ever met are as exact
        as others (Grassmann, Taksar and Heyman, Operations Research 33, 1985)."""
        _, _, first, last = self._rates
        arrive = np.diag(np.full(self.places, arrivals_per_ms), 1)

        def up(level: int) -> Floats:
            rates = np.diag(first[level, 1:], -1)
            rates[-1, -2] *= 1 - beyond
            rates[-1, -1] = first[level, -1] * beyond
            return rates

        def with_diagonal(rates: Floats, leaves: Floats) -> Floats:
            """`leaves`: to the level below."""
            np.fill_diagonal(rates, 0.0)
            return rates - np.diag(rates.sum(axis=1) + leaves)

        above: list[Floats] = []
        local: Floats = with_diagonal(arrive.copy(), last[-1])
        for level in range(self.levels, 0, -1):
            onto = np.asarray(np.linalg.solve(-local.T, up(level - 1).T).T, np.float64)
            above.append(onto)
            local = with_diagonal(arrive + onto * last[level][None, :], last[level - 1])
        system = local.T.copy()
        system[-1] = 1.0
        found = [np.linalg.solve(system, np.append(np.zeros(self.places), 1.0))]
        for onto in reversed(above):
            found.append(found[-1] @ onto)
        chance = np.maximum(np.array(found), 0.0)
        return np.asarray(chance / chance.sum())


def _between(values: Floats, at: Floats) -> Floats:
    """Return values (levels, columns) of each level at columns (levels, …) between given ones."""
    level = np.arange(len(values))[:, None]
    low = np.minimum(at.astype(np.int64), values.shape[1] - 2)
    part = at - low
    return np.asarray(values[level, low] * (1 - part) + values[level, low + 1] * part)
