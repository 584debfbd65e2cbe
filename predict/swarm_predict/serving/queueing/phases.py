"""Prompts and answers as two phases: a Markov chain over how many requests are in each.

The prompt of a request comes as it arrives, not when the pipeline has passes to spare, and its parts may take many
times a decode step: those that decode meanwhile pile up behind it. A state is (d, p): d sequences decode, p requests
are at their prompt or wait for it, of which j are computed, one of each micro-batch at most,

    arrival        (d, p) → (d, p + 1)       λ
    first token    (d, p) → (d + 1, p − 1)   j / (parts of a prompt · C(d, j))
    last token     (d, p) → (d − 1, p)       d / (passes of an answer · C(d, j))

with C(d, j) the cycle while j prompts are computed (`cycle.cycle_with_prompts_ms`). A request that arrives while no
micro-batch stands still waits until one without a prompt comes round: half of what is between two, which a long pass
makes uneven. That lets fewer than all of the p be computed at a time; j is then a fraction, and C is interpolated.

The chain is a level-dependent quasi-birth-death process with d as its level, solved from the highest one down (Gaver,
Jacobs and Latouche, Adv. Appl. Prob. 16, 1984). Phases are taken as exponential.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from swarm_predict.serving.cycle import TINY_MS, cycle_with_prompts_ms
from swarm_predict.serving.routes.route import Route
from swarm_protocol.snapshot.swarm import Floats

MOST_DECODING: Final = 256  # levels; with more at once, single prompts hardly matter (`Phases.covers`)
MOST_READING: Final = 48  # requests at their prompt or before it
DECODING_POINTS: Final = 14  # numbers of sequences whose cycle is computed; between them it is interpolated
READING_POINTS: Final = 6  # the same of prompts


@dataclass(frozen=True, slots=True)
class TwoPhases:
    """The steady state under one arrival rate."""

    token_ms: Floats  # (levels,) time of a decoding pass while 1, 2 … sequences decode
    token_share: Floats  # (levels,) of all tokens
    ttft_ms: float  # on average, from arrival
    turn_ms: float  # of it, until a micro-batch takes the request in


class Phases:
    """A route that no other shares, under any arrivals."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.levels = min(route.most_sequences, MOST_DECODING)

    @property
    def covers(self) -> bool:
        return self.route.others is None and self.route.most_sequences <= MOST_DECODING

    @property
    def part_ms(self) -> float:
        """Return what a part of a prompt takes, all stations together, on average."""
        in_way = [k for k, station in enumerate(self.route.stations) if station.in_way]
        return float(self.route.prompts.mean_ms()[in_way].sum())

    @property
    def decoding_ms(self) -> float:
        return self._cycle_ms(1, 0)

    @cached_property
    def _cycles_ms(self) -> Floats:
        """Return (levels + 1, micro-batches + 1): C(d, j)."""
        most = self.route.micro_batches
        prompts = np.unique(np.round(np.linspace(0, most, min(most + 1, READING_POINTS))).astype(np.int64))
        decoding = np.unique(np.append(np.round(np.geomspace(1, self.levels, DECODING_POINTS)), 0).astype(np.int64))
        known = np.array([[self._cycle_ms(int(d), int(j)) for j in prompts] for d in decoding])
        at = np.arange(self.levels + 1)
        by_level = np.array([np.interp(at, decoding, column) for column in known.T]).T
        return np.array([np.interp(np.arange(most + 1), prompts, row) for row in by_level])

    def _cycle_ms(self, decoding: int, prompts: int) -> float:
        route = self.route
        each = route.with_prompts(decoding, prompts)
        return max(cycle_with_prompts_ms(each, route.in_flight(decoding + prompts), prompts), TINY_MS)

    @cached_property
    def _reading(self) -> Floats:
        """Return (levels + 1, micro-batches + 1): prompts that are computed at a time, of those who could be."""
        route, cycles = self.route, self._cycles_ms
        at = np.arange(self.levels + 1)
        found = np.zeros_like(cycles)
        for j in range(1, route.micro_batches + 1):
            before, free = cycles[:, j - 1], route.micro_batches - (j - 1)
            long_ms = np.minimum(self.part_ms, before) if j > 1 else np.zeros_like(before)
            even = (before - long_ms) / free
            turn = ((even + long_ms) ** 2 + (free - 1) * even**2) / (2 * before)
            turn = np.where(at + j - 1 < route.micro_batches, 0.0, turn)  # one stands still and starts at once
            computing = route.prompts.mean_passes * cycles[:, j]
            found[:, j] = found[:, j - 1] + computing / (computing + turn)
        return found

    @cached_property
    def _rates(self) -> tuple[Floats, Floats, Floats]:
        """Return (reading, first tokens per ms, last tokens per ms), each (levels + 1, waiting or reading + 1)."""
        route, cycles = self.route, self._cycles_ms
        level = np.arange(self.levels + 1)[:, None]
        room = np.maximum(route.most_sequences - level, 0)
        could = np.minimum(np.minimum(np.arange(MOST_READING + 1)[None, :], route.micro_batches), room)
        reading = self._reading[level, could]
        low = np.minimum(reading.astype(np.int64), route.micro_batches - 1)
        part = reading - low
        cycle = cycles[level, low] * (1 - part) + cycles[level, low + 1] * part
        first = reading / (route.prompts.mean_passes * cycle)
        first[-1] = 0.0
        return reading, first, level / (route.decode_passes * cycle)

    def under(self, arrivals_per_s: float) -> TwoPhases:
        """Return the steady state of what the chain holds; beyond its last place nobody arrives."""
        reading, first, last = self._rates
        chance = self._steady(arrivals_per_s / 1e3, first, last)
        ended = chance * last
        by_level, ends = chance.sum(axis=1)[1:], ended.sum(axis=1)[1:]
        decoding = np.arange(1, self.levels + 1)
        token_ms = decoding * by_level / np.maximum(ends, 1e-300) / self.route.decode_passes
        through = float(ended.sum())
        there = float((chance * np.arange(MOST_READING + 1)).sum())
        return TwoPhases(
            token_ms=token_ms,
            token_share=ends / through,
            ttft_ms=there / through,
            turn_ms=(there - float((chance * reading).sum())) / through,
        )

    def _steady(self, arrivals_per_ms: float, first: Floats, last: Floats) -> Floats:
        """Return (levels + 1, waiting or reading + 1): the chance of each state."""
        count = MOST_READING + 1
        arrive = np.diag(np.full(count - 1, arrivals_per_ms), 1)
        leaves = np.append(np.full(count - 1, arrivals_per_ms), 0.0)
        ups = [np.diag(rates[1:], -1) for rates in first]
        stays = [arrive - np.diag(leaves + up + down) for up, down in zip(first, last, strict=True)]
        above: list[Floats] = []
        local = stays[-1]
        for level in range(self.levels, 0, -1):
            onto = np.linalg.solve(-local.T, ups[level - 1].T).T
            above.append(onto)
            local = stays[level - 1] + onto * last[level][None, :]
        system = local.T.copy()
        system[-1] = 1.0
        found = [np.linalg.solve(system, np.append(np.zeros(count - 1), 1.0))]
        for onto in reversed(above):
            found.append(found[-1] @ onto)
        chance = np.maximum(np.array(found), 0.0)
        return np.asarray(chance / chance.sum())
