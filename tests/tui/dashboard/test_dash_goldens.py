"""Every screen as plain text, as a person sees it, at the three sizes of the mockups.

UPDATE_GOLDENS=1 writes them again; read the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dash_advice
import dash_fakes as fakes
import dash_pilot
import pytest

from swarm_predict.explain.usual import Range
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking.usual_layer import UsualComparison
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.screens import node
from swarmtop.dashboard.screens.node import NodePage
from swarmtop.dashboard.screens.placement import PlacementPage
from swarmtop.dashboard.widgets.colours import ANSI, PALETTES
from swarmtop.dashboard.widgets.strips import to_ascii
from swarmtop.sources.source import Mode

GOLDENS = Path(__file__).parents[1] / "goldens" / "screens"
SIZES = [(60, 15), (80, 24), (140, 40)]
SCREENS = ("overview", "node", "links", "placement", "time")


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """How a screen reads does not change with what published results are fitted to."""
    monkeypatch.setattr(node, "compare_with_usual", lambda *_: UsualComparison(2.0, Range(1.68, 2.5, 4.36)))


def check(name: str, size: tuple[int, int], text: str) -> None:
    path = GOLDENS / f"{name}_{size[0]}x{size[1]}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path.name} differs; UPDATE_GOLDENS=1 writes it anew"


async def minute_of_frames(app: Dashboard, source: fakes.FakeSource, pilot: Any) -> None:
    """A minute before the frame of the golden, so that sparklines have a past; one bucket of it is a gap."""
    for second in range(-55, 1, 5):
        if second == -25:
            continue
        frame = fakes.swarm(at_ns=fakes.NOW_NS + second * NS_PER_S)
        frame.links["rtt_p99_ms"] *= 1 + (second % 20) / 20
        source.put(frame)
        await fakes.until(pilot, lambda at_ns=frame.at_ns: app.session.analysis and app.session.analysis.at_ns == at_ns)


async def on_screen(app: Dashboard, pilot: Any, name: str) -> str:
    await pilot.press(str(SCREENS.index(name) + 1))
    page = app.screen
    if isinstance(page, PlacementPage):
        await fakes.until(pilot, lambda: page._state.study is not None or app.session.analysis.plan is None)
    if isinstance(page, NodePage):
        await fakes.until(pilot, lambda: len(page._past) == 8, "the history")
    await fakes.settle(app, pilot)
    return fakes.screen_text(app)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_screens_are_as_agreed(size: tuple[int, int]) -> None:
    source = fakes.FakeSource()
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=size) as pilot:
        await minute_of_frames(app, source, pilot)
        for name in SCREENS:
            check(name, size, await on_screen(app, pilot, name))
        await pilot.press("question_mark")
        await pilot.pause()
        check("help_time", size, fakes.screen_text(app))
        await pilot.press("escape", "4", "tab", "enter")
        await fakes.until(pilot, lambda: app.screen._state.prediction() is not None, "the what-if")
        await fakes.settle(app, pilot)
        check("placement_whatif", size, fakes.screen_text(app))


OVERLAYS = (
    ("sort", ["1", "s"]),
    ("columns", ["1", "c", "down", "space"]),
    ("filter", ["1", "slash", *"rtt99", "greater_than_sign", *"fast"]),
    ("palette", ["1", "colon", *"copy"]),
    ("go_to", ["g", *"noon", "enter"]),
    ("export", ["3", "x"]),
    ("model", ["4", "m", *"llama-2"]),
    ("engine", ["4", "e"]),
    ("launch", ["4", "l"]),
    ("help", ["1", "question_mark"]),
)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_overlays_are_as_agreed(size: tuple[int, int]) -> None:
    """Each over the screen it belongs to, and all of them again in ASCII."""
    drawn = await overlays(size, ascii_only=False)
    for name, text in drawn.items():
        check(name, (50, 10) if name == "too_small" else size, text)
    again = await overlays(size, ascii_only=True)
    for name, text in drawn.items():
        assert again[name].isascii()
        if not (name.startswith("overview") and size[1] == 15):  # the scroll bar, which is blocks, is left out there
            assert again[name] == as_ascii(text), name


async def overlays(size: tuple[int, int], *, ascii_only: bool) -> dict[str, str]:
    found = {}
    source = fakes.FakeSource()
    app = Dashboard(source, fakes.options(ascii=ascii_only))
    async with app.run_test(size=size) as pilot:
        await minute_of_frames(app, source, pilot)
        for name, keys in OVERLAYS:
            if keys[0] == "4":
                await on_screen(app, pilot, "placement")
            await pilot.press(*keys)
            await fakes.settle(app, pilot)
            found[f"over_{name}"] = fakes.screen_text(app)
            await pilot.press("escape")
            await fakes.settle(app, pilot)
        await pilot.press("1", "escape", "end", "F")
        await fakes.settle(app, pilot)
        found["overview_followed"] = fakes.screen_text(app)
        await pilot.press("space")
        await fakes.settle(app, pilot)
        found["overview_paused"] = fakes.screen_text(app)
        await pilot.resize_terminal(50, 10)
        await fakes.settle(app, pilot)
        found["too_small"] = fakes.screen_text(app)
    return found


def as_ascii(text: str) -> str:
    return "\n".join(to_ascii(row).rstrip() for row in text.splitlines()) + "\n"


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_ascii_without_colour_is_the_same_screen_cell_by_cell(size: tuple[int, int]) -> None:
    source = fakes.FakeSource()
    app = Dashboard(source, fakes.options(ascii=True, color=False))
    async with app.run_test(size=size) as pilot:
        await minute_of_frames(app, source, pilot)
        for name in SCREENS:
            text = await on_screen(app, pilot, name)
            assert text.isascii()
            golden = (GOLDENS / f"{name}_{size[0]}x{size[1]}.txt").read_text(encoding="utf-8")
            assert text == as_ascii(golden)
            assert not fakes.colours(app)


async def test_colours_are_seen_where_they_are_wanted() -> None:
    """What the test above relies on: it would notice a colour."""
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options(color=True))
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        assert len(fakes.colours(app)) > 5
        for theme, palette in PALETTES.items():
            if theme == ANSI:  # the ground is the terminal's
                continue
            app.use_theme(theme)
            await fakes.settle(app, pilot)
            assert app.screen.background_colors[1].hex.lower() == palette.ground


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_first_screen_stands_on_the_ground_of_its_theme(theme: str) -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options(theme=theme))
    async with app.run_test(size=(60, 15)):
        assert app.screen.background_colors[1].hex.lower() == PALETTES[theme].ground


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_swarm_that_cannot_be_planned_and_empty_one(size: tuple[int, int]) -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options(analyse=fakes.cannot_plan))
    async with app.run_test(size=size) as pilot:
        await fakes.ready(app, pilot)
        check("overview_no_plan", size, await on_screen(app, pilot, "overview"))
        check("placement_no_plan", size, await on_screen(app, pilot, "placement"))
    app = Dashboard(fakes.FakeSource(Swarm.empty((), at_ns=fakes.NOW_NS)), fakes.options())
    async with app.run_test(size=size) as pilot:
        await fakes.until(pilot, lambda: app.session.shown is not None)
        check("first_run", size, await on_screen(app, pilot, "overview"))


async def surveyed(app: Dashboard, pilot: Any) -> None:
    """Wait until every moment that a chart asked for was planned."""
    await fakes.settle(app, pilot)
    await fakes.until(pilot, lambda: all(w.is_finished for w in app.workers if w.group == "survey"), "the survey")


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_replay_and_a_pooled_matrix(size: tuple[int, int]) -> None:
    app = Dashboard(fakes.FakeRecording(fakes.swarm()), fakes.options())
    async with app.run_test(size=size) as pilot:
        await fakes.ready(app, pilot)
        await surveyed(app, pilot)
        app.travel.go_to(fakes.NOW_NS - 1800 * NS_PER_S)
        await fakes.until(pilot, lambda: app.session.shown.at_ns < fakes.NOW_NS)
        await fakes.until(pilot, lambda: app.session.analysis.at_ns < fakes.NOW_NS)
        await surveyed(app, pilot)
        await pilot.press("5")
        await surveyed(app, pilot)
        check("replay", size, await on_screen(app, pilot, "time"))
    app = Dashboard(fakes.FakeSource(fakes.swarm([f"node-{i:03}" for i in range(200)])), fakes.options())
    async with app.run_test(size=size) as pilot:
        await fakes.ready(app, pilot)
        check("links_pooled", size, await on_screen(app, pilot, "links"))


TALL = (200, 60)


@pytest.mark.parametrize("mode", ["live", "file"])
async def test_tall_screens_are_as_agreed(mode: Mode) -> None:
    """What fills the lines that a small swarm leaves: with a past, and of a file, which has none."""
    source = fakes.FakeSource(mode=mode)
    app = Dashboard(source, fakes.options(analyse=dash_advice.analyse, advise=dash_advice.advise))
    async with app.run_test(size=TALL) as pilot:
        if mode == "live":
            await minute_of_frames(app, source, pilot)
        else:
            source.put(fakes.swarm())
            await fakes.ready(app, pilot)
        for name in SCREENS:
            await pilot.press(str(SCREENS.index(name) + 1))
            await fakes.until(pilot, lambda: app.advising.settled(app.screen) or app.session.advice, "the advice")
            prefix = "" if mode == "live" else "file_"
            check(prefix + name, TALL, await on_screen(app, pilot, name))
