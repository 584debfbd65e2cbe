"""Hostile names and filters on every screen: they are shown as text and nothing else."""

from __future__ import annotations

from typing import Any

import dash_fakes as fakes
import dash_pilot
import pytest
from textual.geometry import Offset

from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.screens.overlays import Prompt


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


def dashboard(*frames: Swarm, **changes: Any) -> tuple[Dashboard, fakes.FakeSource]:
    source = fakes.FakeSource(*(frames or (fakes.swarm(),)))
    return Dashboard(source, fakes.options(**changes)), source


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (140, 40)])
async def test_hostile_names_reach_no_screen_as_anything_but_text(size: tuple[int, int]) -> None:
    names = [*fakes.HOSTILE, "plain"]
    app, _ = dashboard(fakes.swarm(names))
    async with app.run_test(size=size) as pilot:
        await fakes.ready(app, pilot)
        for key in "12345":
            await pilot.press(key, "down")
            await fakes.settle(app, pilot)
            for strip in app.screen._compositor.render_strips():
                assert strip.cell_length == size[0]
                assert strip.text.isprintable(), (key, strip.text)
                for segment in strip:
                    assert not (segment.style and segment.style.meta.get("@click")), segment
        for key in ("question_mark", "colon"):
            await pilot.press(key)
            await pilot.press("escape")


async def test_click_on_a_name_that_looks_like_a_link_only_selects_it() -> None:
    app, _ = dashboard(fakes.swarm(["[@click=app.quit]press[/]", "other"]))
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        rows = fakes.screen_text(app).splitlines()
        for y, x in [(y, row.index("@click")) for y, row in enumerate(rows) if "@click" in row]:  # drawings, then list
            await pilot.click(offset=Offset(x, y))
        await pilot.pause()
        assert app.is_running
        assert app.return_code is None
        assert app.session.chosen == app.session.shown.facts[0].node_id


async def test_filter_text_with_escapes_is_shown_harmless() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("slash")
        prompt = app.screen
        assert isinstance(prompt, Prompt)
        prompt._edit("\x1b[2J[red]")
        await pilot.pause()
        assert "?[2J[red]" in fakes.screen_text(app)
