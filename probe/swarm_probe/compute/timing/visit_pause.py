"""Decide the pause after which visits are timed, and detect when that pause has changed.

A visit costs more the longer the machine waited before it (`visit_timing`), so it is timed after the pause that a token
leaves there: what the collector's plan says, and before there is a plan the usual round trip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MIN_AWAY_S: Final = 0.005  # what a token spends elsewhere, with all stages in one room
MAX_AWAY_S: Final = 0.1  # longer pauses cost hardly more
MIN_BETWEEN_S: Final = 3600.0  # a swarm that is planned again and again would never stop timing
CHANGED: Final = 2.0  # times as long, or as short: a visit costs a few tenths of a millisecond more for each doubling


class VisitPause:
    def __init__(self, away_s: Callable[[], float | None]) -> None:
        """Create it. `away_s`: what a token usually spends elsewhere before it returns; None: not known yet."""
        self._away_s = away_s
        self._timed_s: float | None = None
        self._at_s = 0.0  # when that was, by the monotonic clock

    def take(self, now_s: float) -> float | None:
        """Return the pause in seconds of the visits that are timed now; None: not known."""
        self._at_s = now_s
        away_s = self._away_s()
        self._timed_s = None if away_s is None else timed_after_s(away_s)
        return self._timed_s

    def changed(self, now_s: float) -> bool:
        """Return whether visits should be timed again because they would be after another pause; once of each change,
        and at most once an hour."""
        before_s = self._timed_s
        if now_s < self._at_s + MIN_BETWEEN_S or before_s is None or (away_s := self._away_s()) is None:
            return False
        after_s = timed_after_s(away_s)
        if max(after_s / before_s, before_s / after_s) < CHANGED:
            return False
        self._timed_s, self._at_s = after_s, now_s
        return True


def timed_after_s(away_s: float) -> float:
    return min(max(away_s, MIN_AWAY_S), MAX_AWAY_S)
