"""Going back in the last minutes of a live swarm: kept frames, steps back and forward, and the return to live."""

from __future__ import annotations

import dataclasses

import dash_fakes as fakes
import dash_pilot
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.state.live_history import EVERY_NS, GAP_NS, Kept
from swarmtop.dashboard.terminal.redraw_rate import BURST_S, WAITING_WRITES, Pace, bytes_per_s

SMALL = fakes.swarm(fakes.NAMES[:2])


def frame(second: float, of: Swarm = SMALL) -> Swarm:
    return dataclasses.replace(of, at_ns=fakes.NOW_NS + round(second * NS_PER_S))


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1000, 40_000))
def test_kept_frames_stay_within_time_and_bytes_and_in_order(steps: list[int], most_bytes: int) -> None:
    kept = Kept(most_bytes, most_ns=300 * NS_PER_S)
    at = 0
    for step in steps:
        at += step
        # each frame has figures of its own, as a live one has
        nodes = {name: column.copy() for name, column in SMALL.nodes.items()}
        kept.add(dataclasses.replace(frame(at), nodes=nodes))
    times = [f.at_ns for f in kept.between(0, 1 << 63)]
    assert times == sorted(set(times))
    if kept.span is not None:
        assert kept.span.last_ns - kept.span.first_ns <= 300 * NS_PER_S
    if len(times) > 2:
        assert sum(column.nbytes for f in kept.between(0, 1 << 63) for column in f.nodes.values()) <= most_bytes


def test_thinning_keeps_the_minutes_and_makes_the_steps_longer() -> None:
    kept = Kept(most_bytes=60_000)
    for second in range(600):
        nodes = {name: column.copy() for name, column in SMALL.nodes.items()}
        kept.add(dataclasses.replace(frame(second), nodes=nodes))
    assert kept.span is not None
    assert kept.span.first_ns == fakes.NOW_NS
    assert fakes.NOW_NS + 599 * NS_PER_S - kept.span.last_ns < 60 * NS_PER_S
    assert 10 < len(kept.between(0, 1 << 63)) < 300


def test_frames_within_a_second_are_one_and_silence_is_a_gap() -> None:
    kept = Kept()
    for second in (0, 0.25, 0.5, 0.75, 1):
        kept.add(frame(second))
    assert len(kept.between(0, 1 << 63)) == 2
    kept.add(frame(1 + GAP_NS / NS_PER_S))
    assert kept.span is not None
    assert kept.span.gaps == ((fakes.NOW_NS + EVERY_NS, fakes.NOW_NS + EVERY_NS + GAP_NS),)


def test_frame_that_would_fill_the_room_alone_is_not_kept() -> None:
    kept = Kept(most_bytes=1000)
    kept.add(frame(0))
    kept.add(frame(1))
    assert kept.span is None


def test_columns_that_stand_for_every_pair_with_one_value_take_no_room() -> None:
    n = 10_000
    wide = Swarm(
        fakes.NOW_NS, SMALL.facts, SMALL.nodes, {"loss": np.broadcast_to(np.array(np.nan), (n, n))}, source="x"
    )
    kept = Kept(most_bytes=50_000)
    kept.add(wide)
    kept.add(dataclasses.replace(wide, at_ns=wide.at_ns + NS_PER_S))
    assert kept.span is not None


async def test_live_screen_goes_back_and_forth_and_home(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)
    source = fakes.FakeSource()
    app = Dashboard(source, fakes.options())

    def last() -> int:
        assert app.session.shown is not None
        return (app.session.shown.at_ns - fakes.NOW_NS) // NS_PER_S

    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("T")
        assert "no frames are kept yet" in app.notice()
        for second in range(-60, 1, 5):
            source.put(fakes.swarm(at_ns=fakes.NOW_NS + second * NS_PER_S))
        await fakes.until(pilot, lambda: app.session.shown is not None and last() == 0, "the newest frame")
        await fakes.ready(app, pilot)
        await pilot.press("T", "T")
        await fakes.until(pilot, lambda: last() == -10, "two steps back")
        await fakes.settle(app, pilot)
        assert "« REPLAY  14:02:07 ‖ ×1 (10s behind)" in fakes.screen_text(app)
        source.put(fakes.swarm(at_ns=fakes.NOW_NS + 5 * NS_PER_S))
        await fakes.until(pilot, lambda: app.session.latest.at_ns > fakes.NOW_NS, "what goes on being kept")
        assert last() == -10
        await pilot.press("t")
        await fakes.until(pilot, lambda: last() == -5, "a step forward")
        await pilot.press("g", *"13", "colon", *"00", "enter")
        await fakes.until(pilot, lambda: last() == -60, "the oldest there is")
        assert "kept here since 14:01:17" in app.notice()
        await pilot.press("L")
        await fakes.until(pilot, lambda: last() == 5, "the newest frame")
        await fakes.settle(app, pilot)
        assert "● LIVE  14:02:22" in fakes.screen_text(app)


async def test_playing_what_is_kept_runs_into_live(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)
    source = fakes.FakeSource()
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        for second in range(-20, 1, 5):
            source.put(fakes.swarm(at_ns=fakes.NOW_NS + second * NS_PER_S))
        await fakes.until(pilot, lambda: app.session.shown and app.session.shown.at_ns == fakes.NOW_NS)
        await pilot.press("T", "T", *["greater_than_sign"] * 5)
        await fakes.until(pilot, lambda: app.session.standing == "replay")
        await pilot.press("space")
        await fakes.until(pilot, lambda: app.session.standing == "live", "live again")
        assert not app.session.paused


# ---------------------------------------------------------------- bytes to the terminal


@given(st.lists(st.tuples(st.integers(0, 60_000), st.floats(0, 2)), max_size=200), st.integers(2_000, 500_000))
def test_redraws_never_write_more_than_the_line_carries(writes: list[tuple[int, float]], rate: int) -> None:
    """Whatever the redraws cost: over any time, no more than the rate, the burst and the last one."""
    pace, now, sent, largest = Pace(rate), 0.0, 0, 0
    for count, wait in writes:
        now += wait
        if pace.ready(now):
            pace.wrote(count, now)
            sent, largest = sent + count, max(largest, count)
    assert sent <= rate * (now + BURST_S) + largest + 1


def test_terminal_that_does_not_take_its_bytes_is_not_given_more() -> None:
    pace = Pace(10_000)
    assert pace.ready(0.0)
    assert not pace.ready(0.0, waiting=WAITING_WRITES)


def test_ssh_has_a_smaller_share_than_a_terminal_here() -> None:
    assert bytes_per_s({"SSH_CONNECTION": "198.51.100.1 5 198.51.100.2 22"}) < bytes_per_s({}) / 4
