"""Search parts in ascending order of their bounds; the lowest bound holds for the whole problem."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import numpy as np

from swarm_predict.search.chain import TIE_MS
from swarm_predict.search.solvers.descent import Descent

_KICK_EVERY: Final = 8  # parts, and then so many kicks of the incumbent: a better one rules out more
_KICKS: Final = 2
_MAX_PARTS: Final = 2000  # worked on in all, whatever the clock says


class Bounded(Protocol):
    @property
    def bound(self) -> float: ...


P = TypeVar("P", bound=Bounded)


def best_first(
    whole: P, work: Callable[[P], Sequence[P] | None], descent: Descent, out_of_time: Callable[[], bool]
) -> tuple[list[int] | None, float, bool]:
    """Return (order, bound, exact); the order is None if none is found. `work`: the rest of a part, in one or
    several; None if it is finished."""
    queue: list[tuple[float, int, P]] = [(-np.inf, 0, whole)]
    given_up = np.inf  # the lowest bound of parts that nothing more is tried on
    worked = 0
    while queue and queue[0][0] < descent.best_cost - TIE_MS:
        if worked and (out_of_time() or worked >= _MAX_PARTS or queue[0][0] >= given_up):
            break
        _, _, part = heapq.heappop(queue)
        children = work(part)
        if children is None:
            given_up = min(given_up, part.bound)
            continue
        if worked % _KICK_EVERY == 0:
            descent.kick(_KICKS)
        for child in children:
            worked += 1
            heapq.heappush(queue, (child.bound, worked, child))
    bound = min(given_up, queue[0][0] if queue else np.inf)
    if bound >= descent.best_cost - TIE_MS:
        return descent.best, descent.best_cost, True
    return descent.best, bound, False
