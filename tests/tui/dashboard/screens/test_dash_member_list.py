"""Before the first frame the members are on the screen: names, machines and states, without a figure."""

from __future__ import annotations

from typing import Any

import dash_fakes as fakes
import dash_pilot
import pytest
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App

from swarm_protocol.snapshot.swarm import Member, State
from swarm_protocol.units import BYTES_PER_GIB
from swarmtop.dashboard.app import Dashboard

MEMBERS = (
    Member("oven", State.OK, "RTX 3090", "nl", 22.5 * BYTES_PER_GIB, 480.0, 500.0),
    Member("attic", State.LOST, "T4"),
    Member("\x1b[2Jkiln", State.UNKNOWN),
)


class MemberListSource(fakes.FakeSource):
    """Tells its members; a test puts the first frame."""

    async def members(self) -> tuple[Member, ...]:
        return MEMBERS


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


async def test_members_are_listed_until_the_first_frame_is_there() -> None:
    source = MemberListSource(mode="file", title="garage.toml")
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.until(pilot, lambda: app.painted, "the list")
        shown = fakes.screen_text(app).splitlines()
        assert shown[0].split() == ["swarmtop", "·", "FILE", "3", "nodes", "garage.toml"]
        assert [line.split()[1] for line in shown if "+ ok" in line or "x lost" in line] == ["attic", "oven"]
        oven = next(line for line in shown if " oven " in line)
        assert "480" in oven
        assert oven.split()[-1] == "22.5"
        assert "\x1b" not in "".join(shown)
        assert app.session.analysis is None
        source.put(fakes.swarm())
        await fakes.ready(app, pilot)
        assert "oven" not in fakes.screen_text(app)
        assert fakes.NAMES[0] in fakes.screen_text(app)


async def test_keys_pressed_while_members_are_listed_do_no_harm() -> None:
    source = MemberListSource(mode="file", title="garage.toml")
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.until(pilot, lambda: app.painted, "the list")
        await pilot.press("down", "enter", "escape", "2", "3", "4", "5", "1", "s", "x", "y")
        await pilot.pause()
        source.put(fakes.swarm())
        await fakes.ready(app, pilot)
        assert app.crash is None


async def test_a_terminal_too_small_says_so_and_still_goes_on() -> None:
    source = MemberListSource(mode="file", title="garage.toml")
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(30, 10)) as pilot:
        await fakes.until(pilot, lambda: app.painted, "the notice")
        assert "terminal too small" in fakes.screen_text(app)
        source.put(fakes.swarm())
        await fakes.until(pilot, lambda: app.session.shown is not None, "the frame")


async def test_the_whole_screen_is_written_once_and_not_before_it_says_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blank screens, and the whole screen again, are what a thin line would wait for."""
    written: list[LayoutUpdate | ChopsUpdate] = []

    def note(app: App[object], screen: Any, update: Any) -> None:
        if isinstance(update, LayoutUpdate | ChopsUpdate):
            written.append(update)

    monkeypatch.setattr(App, "_display", note)
    source = MemberListSource(mode="file", title="garage.toml")
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.until(pilot, lambda: app.painted, "the list")
        await pilot.pause()
        assert isinstance(written[0], LayoutUpdate)
        source.put(fakes.swarm())
        await fakes.until(pilot, lambda: app.session.shown is not None, "the frame")
        await pilot.pause()
        assert len(written) > 1
        assert not any(isinstance(update, LayoutUpdate) for update in written[1:])
