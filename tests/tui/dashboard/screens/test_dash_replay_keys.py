"""The keys of a replay: step, jump, play, and how to get there from a live swarm."""

from __future__ import annotations

from typing import Any

import dash_fakes as fakes
import dash_pilot
import pytest

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.app import Dashboard


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


def dashboard(*frames: Swarm, **changes: Any) -> tuple[Dashboard, fakes.FakeSource]:
    source = fakes.FakeSource(*(frames or (fakes.swarm(),)))
    return Dashboard(source, fakes.options(**changes)), source


async def test_recording_is_replayed_by_step_jump_and_time() -> None:
    source = fakes.FakeRecording(fakes.swarm())
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("5")
        await fakes.settle(app, pilot)
        assert "« REPLAY  14:02:17" in fakes.screen_text(app)

        async def stands_at(seconds: int) -> None:
            goal = fakes.NOW_NS + seconds * NS_PER_S
            await fakes.until(pilot, lambda: app.session.shown.at_ns == goal, f"{seconds} s")

        await pilot.press("T")
        await stands_at(-5)
        await pilot.press("J")
        await stands_at(-65)
        await pilot.press("t")
        await stands_at(-60)
        await pilot.press("g", *"13", "colon", *"30", "enter")
        await stands_at(-(32 * 60 + 17))
        await fakes.settle(app, pilot)
        assert "« REPLAY  13:30:00" in fakes.screen_text(app)
        assert "(32m behind)" in fakes.screen_text(app)
        await pilot.press("L")
        await stands_at(0)
        await pilot.press("home", "down", "down", "enter")  # the oldest event
        await stands_at(-900)
        await pilot.press("n")
        await stands_at(-227)
        await pilot.press("n", "n")
        await fakes.until(pilot, lambda: app.notice() == "no later event")
        await stands_at(-37)
        await pilot.press("N")
        await stands_at(-227)


async def test_playing_moves_on_and_ends_at_the_end() -> None:
    source = fakes.FakeRecording(fakes.swarm())
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("T")
        await fakes.until(pilot, lambda: app.session.shown.at_ns < fakes.NOW_NS)
        await pilot.press("greater_than_sign", "greater_than_sign", "greater_than_sign", "greater_than_sign", "space")
        assert app.session.playing
        await fakes.until(pilot, lambda: app.session.shown.at_ns == fakes.NOW_NS)
        await fakes.until(pilot, lambda: not app.session.playing)


async def test_keys_pressed_while_a_frame_is_read_move_the_goal_not_a_queue() -> None:
    source = fakes.FakeRecording(fakes.swarm())
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        for _ in range(20):
            app.travel.go_by(-5 * NS_PER_S)
        await fakes.until(pilot, lambda: app.session.shown.at_ns == fakes.NOW_NS - 100 * NS_PER_S)
        # the curve of tokens per second looks at frames before these
        assert sum(at >= fakes.NOW_NS - 100 * NS_PER_S for at in source.visited) <= 2


class _Large(fakes.FakeRecording):
    async def count_at(self, at_ns: int) -> int:
        return 1000


@pytest.mark.parametrize(("kind", "reads"), [(fakes.FakeRecording, True), (_Large, False)])
async def test_moments_with_too_many_nodes_to_plan_are_not_read(kind: type[fakes.FakeRecording], reads: bool) -> None:
    """One of 1,000 nodes takes a second, and only plans of up to 64 are drawn over time."""
    source = kind(fakes.swarm())
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await fakes.settle(app, pilot)
        await fakes.until(pilot, lambda: any(w.group == "survey" for w in app.workers) or not reads)
        await fakes.until(pilot, lambda: all(w.is_finished for w in app.workers if w.group == "survey"))
        assert any(at < fakes.NOW_NS for at in source.visited) is reads


async def test_live_swarm_says_how_to_stand_in_the_past() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("5")
        await fakes.settle(app, pilot)
        assert "swarmtop --db FILE" in fakes.screen_text(app)
