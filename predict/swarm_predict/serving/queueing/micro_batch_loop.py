"""Draw the times of a loop of micro-batches in which a given number of prompts is computed, by the max-plus recursion.

Micro-batches circulate through the stations of a route in order, first come first served. None overtakes another, so
the p-th visit of station s ends at

    end(p, s) = max(end(p, s − 1) + way, end(p − 1, s)) + service(p, s)

and a micro-batch begins its next pass when its last one ends: a closed tandem line (Baccelli, Cohen, Olsder and
Quadrat, Synchronization and Linearity, 1992, §2). A service takes longer if the pass contains a prompt chunk, and the
chunks of a prompt follow each other in one micro-batch. The resulting waits have no closed form, so they are drawn.
When a prompt ends, the next one goes to the micro-batch without a prompt that comes round next, so about the given
number of prompts is always being computed; if a request has its micro-batch to itself, the prompt may start at any
time. Draws are the same for every route and number of sequences, so that their noise does not distinguish two
placements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from swarm_protocol.snapshot.swarm import Floats

LANES: Final = 24  # loops drawn of each kind
PASSES: Final = 288  # of each loop, all micro-batches together, at least
ROUNDS: Final = 10  # of each micro-batch, at least
WARM: Final = 0.2  # of the passes, which are not counted
SEED: Final = 17
TINY_MS: Final = 1e-9


@dataclass(frozen=True, slots=True)
class LoopTimes:
    """By loop; times in ms, on average."""

    cycle_ms: Floats  # a pass with decoding in it
    prompts: Floats  # that are computed at a time: fewer than asked for, as one begins when its micro-batch comes round
    part_ms: Floats  # of a pass that computes a part of a prompt
    turn_ms: Floats  # from any moment until the next micro-batch without a prompt comes round


def loop_times(
    decode_ms: Floats, beside_ms: Floats, part_ms: Floats, passes: Floats, between_ms: float,
    in_flight: NDArray[np.int64], prompts: NDArray[np.int64], alone: NDArray[np.bool_],
) -> LoopTimes:  # fmt: skip
    """Return the times of loops (loops,) with so many micro-batches in flight, and prompts among them.

    `decode_ms` is (loops, stations) of a pass that only decodes, `beside_ms` of what is decoded beside a part of a
    prompt; `part_ms` is (lengths, stations) of such a part, `passes` (lengths,) how many a prompt has. Lengths of
    prompts are equally likely. `alone`: each request has a micro-batch of its own."""
    run = _Lanes(decode_ms, beside_ms, part_ms, passes, between_ms, in_flight, prompts, alone)
    count = max(PASSES, ROUNDS * int(in_flight.max()))
    warm = int(WARM * count)
    for number in range(count):
        if number == warm:
            run.count_from_here()
        run.step()
    return run.seen()


class _Lanes:
    """Loops side by side, LANES of each; one pass of each in a step."""

    def __init__(
        self, decode_ms: Floats, beside_ms: Floats, part_ms: Floats, passes: Floats, between_ms: float,
        in_flight: NDArray[np.int64], prompts: NDArray[np.int64], alone: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        self.loops = len(decode_ms)
        lanes, most = self.loops * LANES, int(in_flight.max())
        stations = decode_ms.shape[1]
        self.rng = np.random.default_rng(SEED)
        self.at = np.arange(lanes)
        self.decode_ms, self.beside_ms = (np.repeat(each, LANES, axis=0) for each in (decode_ms, beside_ms))
        self.part_ms, self.passes, self.hop_ms = part_ms, passes.astype(np.int64), between_ms / stations
        self.alone = np.repeat(alone, LANES)
        self.free_ms = np.zeros((lanes, stations))
        places = np.arange(most)[None, :]
        self.there = places < np.repeat(in_flight, LANES)[:, None]
        self.ready_ms = np.where(self.there, 0.0, np.inf)
        self.left = np.zeros((lanes, most), np.int64)  # parts of the prompt that is computed
        self.kind = np.zeros((lanes, most), np.int64)
        # when the next prompt may begin in it; infinity: none is to
        self.next_ms = np.where(places < np.repeat(prompts, LANES)[:, None], 0.0, np.inf)
        self.started_ms, self.last_free_ms = np.zeros(lanes), np.zeros(lanes)
        self.read_ms, self.reads, self.pass_ms, self.passed, self.turns = np.zeros((5, lanes))

    def count_from_here(self) -> None:
        self.started_ms = self.ready_ms.min(axis=1)
        self.last_free_ms = self.started_ms.copy()
        for counted in (self.read_ms, self.reads, self.pass_ms, self.passed, self.turns):
            counted[:] = 0.0

    def step(self) -> None:
        each = (self.at, self.ready_ms.argmin(axis=1))
        begun = self.ready_ms[each]
        drawn = np.tile(self.rng.integers(0, len(self.passes), LANES), self.loops)
        starts = (self.left[each] == 0) & (self.next_ms[each] <= begun)
        kind = np.where(starts, drawn, self.kind[each])
        left = np.where(starts, self.passes[kind], self.left[each])
        self.kind[each] = kind
        self.next_ms[each] = np.where(starts, np.inf, self.next_ms[each])
        reads = left > 0
        service = np.where(reads[:, None], self.beside_ms + self.part_ms[kind], self.decode_ms)
        now = begun
        for k in range(service.shape[1]):
            now = np.maximum(now, self.free_ms[:, k]) + service[:, k]
            self.free_ms[:, k] = now
            now = now + self.hop_ms
        left = left - reads
        self.ready_ms[each], self.left[each] = now, left
        spent = now - begun
        self.read_ms += np.where(reads, spent, 0.0)
        self.reads += reads
        decodes = ~(reads & self.alone)
        self.pass_ms += np.where(decodes, spent, 0.0)
        self.passed += decodes
        gap = np.where(left == 0, now - self.last_free_ms, 0.0)
        self.turns += gap * gap / 2
        self.last_free_ms = np.where(left == 0, now, self.last_free_ms)
        self._place_next(
            np.flatnonzero(reads & (left == 0)), now, spent, self.rng.random((LANES, self.ready_ms.shape[1] + 1))
        )

    def _place_next(self, lanes: NDArray[np.int64], now_ms: Floats, spent_ms: Floats, chance: Floats) -> None:
        """Give the next prompt to any micro-batch that has none, as it comes round after now."""
        free = self.there[lanes] & (self.left[lanes] == 0) & np.isinf(self.next_ms[lanes])
        place = np.where(free, chance[lanes % LANES, :-1], -1.0).argmax(axis=1)
        self.next_ms[lanes, place] = now_ms[lanes]
        # a request that has it alone ends, and another comes at any moment of a pass
        self.ready_ms[lanes, place] += np.where(self.alone[lanes], spent_ms[lanes] * chance[lanes % LANES, -1], 0.0)

    def seen(self) -> LoopTimes:
        def total(values: Floats) -> Floats:
            return np.asarray(values.reshape(self.loops, LANES).sum(axis=1))

        ms = np.maximum(total(self.ready_ms.min(axis=1) - self.started_ms), TINY_MS)
        part = total(self.read_ms) / np.maximum(total(self.reads), 1.0)
        passed = total(self.passed)
        return LoopTimes(
            cycle_ms=np.where(passed > 0, total(self.pass_ms) / np.maximum(passed, 1.0), part),
            prompts=total(self.read_ms) / ms,
            part_ms=part,
            turn_ms=total(self.turns) / ms,
        )
