"""After which pause visits are timed: the plan's, within what makes a difference, and not again all the time."""

from __future__ import annotations

import pytest

from swarm_probe.compute.timing.visit_pause import MAX_AWAY_S, MIN_AWAY_S, MIN_BETWEEN_S, VisitPause


@pytest.mark.parametrize(("away_s", "pause_s"), [(None, None), (0.0001, MIN_AWAY_S), (0.04, 0.04), (3.0, MAX_AWAY_S)])
def test_the_pause_is_the_plans_within_what_makes_a_difference(away_s: float | None, pause_s: float | None) -> None:
    assert VisitPause(lambda: away_s).take(0.0) == pause_s


def test_a_pause_twice_as_long_is_reported_once_and_not_before_an_hour_has_passed() -> None:
    away_s = [0.01]
    pause = VisitPause(lambda: away_s[0])
    assert not pause.changed(MIN_BETWEEN_S)  # nothing was timed yet
    pause.take(100.0)
    later_s = 100.0 + MIN_BETWEEN_S
    away_s[0] = 0.019
    assert not pause.changed(later_s)
    away_s[0] = 0.021
    assert not pause.changed(later_s - 1.0)
    assert (pause.changed(later_s), pause.changed(later_s)) == (True, False)
    away_s[0] = 0.1
    assert not pause.changed(later_s + 1.0)
    assert pause.changed(later_s + MIN_BETWEEN_S)


def test_beyond_the_longest_pause_nothing_changes() -> None:
    away_s = [0.2]
    pause = VisitPause(lambda: away_s[0])
    pause.take(0.0)
    away_s[0] = 2.0
    assert not pause.changed(MIN_BETWEEN_S)
