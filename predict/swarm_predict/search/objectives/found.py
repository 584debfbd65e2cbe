"""Define what is searched for and what is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from swarm_predict.cost.tables import CostTables
from swarm_predict.search.chain import TIE_MS, Bools


@dataclass(frozen=True, slots=True)
class Question:
    tables: CostTables
    usable: Bools
    required: Bools
    max_stages: int
    seed: int
    warm: tuple[int, ...]
    prove: bool
    streams: float
    out_of_time: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of the tables, in the order of the stages, and the layers of each."""

    order: tuple[int, ...]
    layers: tuple[int, ...]
    value_ms: float  # latency: of one step; throughput: between two steps
    bound_ms: float  # proven: no placement has less
    exact: bool

    @property
    def gap(self) -> float:
        """Return how much better the optimum could be, as a fraction of the bound."""
        if self.exact or self.value_ms <= self.bound_ms:
            return 0.0
        return self.value_ms / self.bound_ms - 1 if self.bound_ms > 0 else float("inf")


def tie(value: float) -> float:
    return TIE_MS + 1e-9 * abs(value)


def best_of(answers: Sequence[Found]) -> Found:
    """Return the best answer to questions that are all placements together."""
    best, bound = min(answers, key=lambda each: each.value_ms), min(each.bound_ms for each in answers)
    exact = best.value_ms <= bound + tie(bound)
    return replace(best, bound_ms=best.value_ms if exact else bound, exact=exact)
