"""Large swarms: only what is visible is painted, and the computing leaves the event loop free."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import AsyncIterator
from typing import Any

import dash_fakes as fakes
import dash_pilot
import pytest

from swarm_protocol.snapshot.links.compact_links import compacted
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard import app as app_module
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.widgets.table import Table


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


def dashboard(*frames: Swarm, **changes: Any) -> tuple[Dashboard, fakes.FakeSource]:
    source = fakes.FakeSource(*(frames or (fakes.swarm(),)))
    return Dashboard(source, fakes.options(**changes)), source


async def test_thousand_nodes_paint_only_the_lines_on_the_screen() -> None:
    app, _ = dashboard(fakes.swarm([f"node-{i:04}" for i in range(1000)]))
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        table = app.screen.query_one(Table)
        table.painted = 0
        await pilot.press("down")
        await pilot.pause()
        assert 1 <= table.painted <= 4  # the line it left and the one it is on
        table.painted = 0
        await pilot.press("end")
        await pilot.pause()
        assert table.painted <= 3 * table.size.height
        assert table.cursor == 999


async def test_frame_that_changes_nothing_paints_nothing() -> None:
    app, source = dashboard()
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        table = app.screen.query_one(Table)
        canvases = [app.screen.query_one(name) for name in ("#top", "#above", "#head", "#below", "#bottom")]
        before = [widget.painted for widget in (table, *canvases)]  # type: ignore[attr-defined]
        again = fakes.swarm()
        source.put(again)
        await fakes.until(pilot, lambda: app.session.shown is again)
        await fakes.settle(app, pilot)
        assert [widget.painted for widget in (table, *canvases)] == before  # type: ignore[attr-defined]


async def test_figures_of_a_large_swarm_leave_the_processor_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that come while the figures of one rest are skipped for the newest; none is queued."""
    worked: list[int] = []
    real = app_module._timed_figures

    def counted(frame: Swarm, model: str, work: Any) -> tuple[Any, float]:
        worked.append(frame.at_ns)
        return real(frame, model, work)[0], 3600 / app_module.FIGURES_REST  # as if it had taken minutes

    monkeypatch.setattr(app_module, "_timed_figures", counted)
    monkeypatch.setattr(app_module, "MAX_FIGURES_REST_S", 3600.0)
    names = [f"node-{i:04}" for i in range(200)]
    app, source = dashboard(fakes.swarm(names))
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        for second in (1, 2, 3):
            source.put(fakes.swarm(names, at_ns=fakes.NOW_NS + second * NS_PER_S))
        await fakes.until(pilot, lambda: app.session.latest.at_ns == fakes.NOW_NS + 3 * NS_PER_S)
        app.tick()
        assert worked == [fakes.NOW_NS]
        app._figures_at = 0.0
        await fakes.until(pilot, lambda: app.session.shown is app.session.latest, "the newest frame")
        assert worked == [fakes.NOW_NS, fakes.NOW_NS + 3 * NS_PER_S]


async def test_large_frames_of_a_recording_are_worked_through_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    real = app_module._timed_figures

    def noted(frame: Swarm, model: str, work: Any) -> tuple[Any, float]:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(frame, model, work)

    monkeypatch.setattr(app_module, "_timed_figures", noted)
    app = Dashboard(fakes.FakeRecording(fakes.swarm([f"node-{i:04}" for i in range(200)])), fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        threads.clear()
        await pilot.press("T")
        await fakes.until(pilot, lambda: app.session.shown.at_ns == fakes.NOW_NS - 5 * NS_PER_S)
        assert threads == [False]


class Stages(fakes.FakeRecording):
    """Yields the members, then the links; what comes after them takes the processor, as looking for changes does."""

    def __init__(self, members: Swarm, links: Swarm) -> None:
        super().__init__(members)
        self._stages = (members, links)
        self.app: Dashboard | None = None
        self.shown_before_the_rest: Swarm | None = None

    async def frames(self) -> AsyncIterator[Swarm]:
        for each in self._stages:
            yield each
        assert self.app is not None
        self.shown_before_the_rest = self.app.session.shown
        yield dataclasses.replace(self._stages[-1], _index={})


async def test_links_of_a_recording_are_on_the_screen_before_the_source_reads_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long the page with the members took to draw: figures and what the source does would share one core."""
    monkeypatch.setattr(app_module, "MAX_FRAME_REST_S", 3600.0)
    monkeypatch.setattr(app_module, "FRAME_REST", 1e9)
    whole = fakes.swarm([f"node-{i:04}" for i in range(200)])
    source = Stages(dataclasses.replace(whole, unread=True, _index={}), whole)
    source.app = app = Dashboard(source, fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.until(pilot, lambda: source.shown_before_the_rest is not None, "the rest")
        assert source.shown_before_the_rest is whole


async def test_every_screen_draws_a_large_swarm_whose_links_are_compact() -> None:
    """As a collector's frames are held: screens, views and marks read rows and cells of them."""
    app, source = dashboard(compacted(fakes.swarm([f"node-{i:03}" for i in range(160)])))
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("M", "2", "down", "3")
        await fakes.settle(app, pilot)
        assert "160 nodes" in fakes.screen_text(app)
        for key in ("right", "down", "m", "m", "z", "d", "v", "v", "v", "4", "5", "1"):
            await pilot.press(key)
            await fakes.settle(app, pilot)
        source.put(compacted(fakes.swarm([f"node-{i:03}" for i in range(160)], at_ns=fakes.NOW_NS + NS_PER_S)))
        await fakes.until(pilot, lambda: app.session.shown.at_ns > fakes.NOW_NS)
    assert app.crash is None
