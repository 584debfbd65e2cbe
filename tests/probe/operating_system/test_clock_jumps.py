"""A wall clock that was set, or a machine that slept, is an event."""

from __future__ import annotations

import pytest

from swarm_probe.operating_system.clock_jumps import ClockWatch
from swarm_protocol.units import NS_PER_S


@pytest.mark.parametrize(
    ("wall_s", "mono_s", "jump"),
    [
        (110.0, 10.0, None),
        (110.4, 10.0, None),
        (3710.0, 10.0, "+3600.0 s"),
        (50.0, 10.0, "-60.0 s"),
    ],
)
def test_a_clock_that_was_set_is_reported_with_its_jump(wall_s: float, mono_s: float, jump: str | None) -> None:
    watch = ClockWatch(100 * NS_PER_S, 0)
    event = watch.look(int(wall_s * NS_PER_S), int(mono_s * NS_PER_S))
    assert (event is not None and f"by {jump} (" in event.detail) if jump else event is None
    assert watch.look(int((wall_s + 1) * NS_PER_S), int((mono_s + 1) * NS_PER_S)) is None
