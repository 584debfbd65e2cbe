"""Decide when a node that is silent, or sends no new figures, is stale or lost."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from swarm_protocol.snapshot.swarm import State
from swarm_protocol.units import NS_PER_S

STALE_AFTER_NS: Final = 12 * NS_PER_S  # two heartbeats missed, and a slow link
LOST_AFTER_NS: Final = 20 * NS_PER_S  # as the collector does
NUMBERS_OLD_NS: Final = 150 * NS_PER_S  # an idle swarm still sends host figures every minute: two of them missed


def aged(
    state: npt.NDArray[Any],
    seen_ns: npt.NDArray[Any],
    fresh_ns: npt.NDArray[Any],
    now_ns: int,
    stale_after_ns: int,
    lost_after_ns: int,
) -> npt.NDArray[Any]:
    """Return OK and STALE by when nodes were last heard, and last sent something new. Written so that no difference
    overflows, whatever clocks say."""
    living = (state == State.OK) | (state == State.STALE)
    silent = seen_ns <= now_ns - stale_after_ns
    old = fresh_ns <= now_ns - max(NUMBERS_OLD_NS, stale_after_ns)
    result = state.copy()
    result[living & (silent | old)] = State.STALE
    result[living & (seen_ns <= now_ns - lost_after_ns)] = State.LOST
    result[living & (seen_ns == 0)] = State.UNKNOWN
    return result
