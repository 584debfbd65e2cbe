"""The dashboard through its keys (Textual's Pilot): what a person does, and what the screen shows then."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import dash_fakes as fakes
import dash_pilot
import pytest
from textual.geometry import Offset

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.analysis import Analysis
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.lines.header_footer import MIN_HEIGHT, MIN_WIDTH
from swarmtop.dashboard.screens.overlays import Help, Picker, Prompt
from swarmtop.dashboard.widgets.table import Table
from swarmtop.sources.source import SourceError


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


def dashboard(*frames: Swarm, **changes: Any) -> tuple[Dashboard, fakes.FakeSource]:
    source = fakes.FakeSource(*(frames or (fakes.swarm(),)))
    return Dashboard(source, fakes.options(**changes)), source


async def test_number_keys_lead_to_every_screen_and_escape_back() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        visited = []
        for key in "2345":
            await pilot.press(key)
            visited.append(app.screen.name)
        assert visited == ["node", "links", "placement", "time"]
        back = []
        for _ in range(4):
            await pilot.press("escape")
            back.append(app.screen.name)
        assert back == ["placement", "links", "node", "overview"]


async def test_q_ends_with_0_and_ctrl_c_with_130() -> None:
    for key, code in (("q", 0), ("ctrl+c", 130)):
        app, _ = dashboard()
        async with app.run_test(size=(80, 24)) as pilot:
            await fakes.ready(app, pilot)
            await pilot.press(key)
        assert app.return_code == code


async def test_ctrl_c_ends_it_even_under_an_open_list() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("s")
        assert isinstance(app.screen, Picker)
        await pilot.press("ctrl+c")
    assert app.return_code == 130


async def test_screen_follows_the_terminal_when_it_is_resized() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        for key in "12345":
            await pilot.press(key)
            for size in ((60, 15), (36, 15), (35, 15), (140, 40), (20, 4)):
                await pilot.resize_terminal(*size)
                await fakes.settle(app, pilot)
                rows = fakes.screen_text(app).splitlines()
                small = size[0] < MIN_WIDTH or size[1] < MIN_HEIGHT
                assert ("too small" in "\n".join(rows)) == small, (key, size)
                assert max(map(len, rows)) <= size[0]


async def test_cursor_stays_on_its_node_when_the_ranks_move() -> None:
    frames = [fakes.swarm(at_ns=fakes.NOW_NS + i * NS_PER_S) for i in range(2)]
    app, source = dashboard(frames[0])
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("s", *"rtt50", "enter")
        await pilot.press("home", "down", "down")
        table = app.screen.query_one(Table)
        followed = table.key
        before = table.cursor
        frames[1].links["rtt_p50_ms"][:] = frames[1].links["rtt_p50_ms"][::-1, ::-1]
        source.put(frames[1])
        await fakes.until(pilot, lambda: app.session.shown is frames[1])
        await fakes.settle(app, pilot)
        assert table.key == followed
        assert table.cursor != before


async def test_cursor_nobody_moved_stays_on_the_worst() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.until(pilot, lambda: app.session.shown is not None)
        await fakes.ready(app, pilot)
        assert app.screen.query_one(Table).cursor == 0


async def test_filter_narrows_as_it_is_typed_and_escape_brings_the_old_one_back() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("slash", *"berlin")
        assert isinstance(app.screen, Prompt)
        await pilot.press("enter")
        await fakes.settle(app, pilot)
        assert "filter: berlin" in fakes.screen_text(app)
        assert "1 of 6 nodes" in fakes.screen_text(app)
        await pilot.press("slash", *"xyz", "escape")
        assert app.session.filter.text == "berlin"
        await pilot.press("escape")
        await fakes.settle(app, pilot)
        assert "6 of 6 nodes" in fakes.screen_text(app)


async def test_bad_filter_is_explained_while_it_is_typed_and_not_taken() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("slash", *"speed", "greater_than_sign", "3", "enter")
        assert isinstance(app.screen, Prompt)
        await pilot.pause()
        assert "no column speed" in fakes.screen_text(app)


async def test_filter_that_matches_nothing_says_so() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("slash", *"zzz", "enter")
        await fakes.settle(app, pilot)
        assert "no node matches zzz; Esc clears the filter" in fakes.screen_text(app)
        await pilot.press("down", "enter", "2")
        assert app.screen.name == "node"


async def test_columns_sort_by_arrows_by_list_and_by_mouse() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("right")
        assert (app.session.sort, app.session.reverse) == ("cause", False)
        await pilot.press("S")
        assert app.session.reverse
        await pilot.press("s", *"jit", "enter")
        assert (app.session.sort, app.session.reverse) == ("jit", False)
        head = app.screen.query_one("#head")
        titles = next(row for row in fakes.screen_text(app).splitlines() if "LOSS" in row)
        await pilot.click(head, Offset(titles.index("LOSS") + 1, 0))
        assert app.session.sort == "loss"


async def test_pause_holds_the_screen_while_frames_go_on_coming() -> None:
    app, source = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("space")
        source.put(fakes.swarm(at_ns=fakes.NOW_NS + 60 * NS_PER_S))
        await fakes.until(pilot, lambda: app.session.latest.at_ns > fakes.NOW_NS)
        await fakes.settle(app, pilot)
        assert "‖ PAUSED  14:02:17 (1m behind)" in fakes.screen_text(app)
        await pilot.press("space")
        # on a busy machine a redraw that took long is followed by a rest
        await fakes.until(pilot, lambda: app.session.shown is app.session.latest, "the newest frame")
        await fakes.settle(app, pilot)
        assert "● LIVE  14:03:17" in fakes.screen_text(app)


async def test_keys_do_not_wait_for_the_planner() -> None:
    """The planner stands still for the whole test; every key still answers."""
    hold, started = threading.Event(), threading.Event()

    def slow(*question: Any) -> Analysis:
        started.set()
        hold.wait(30)
        return fakes.analyse(*question)

    app, _ = dashboard(analyse=slow)
    try:
        async with app.run_test(size=(80, 24)) as pilot:
            await fakes.until(pilot, started.is_set)
            await pilot.press("2")
            assert app.screen.name == "node"
            await pilot.press("4")
            await fakes.settle(app, pilot)
            assert "planning…" in fakes.screen_text(app)
            await pilot.press("q")
        assert app.return_code == 0
    finally:
        hold.set()


async def test_planner_that_fails_is_reported_and_logged_and_the_figures_stay(tmp_path: Path) -> None:
    def broken(*_: Any) -> Analysis:
        raise ZeroDivisionError("[red]nothing[/] to share")

    app, _ = dashboard(analyse=broken, state_dir=tmp_path)
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.until(pilot, lambda: app.notice() != "")
        await fakes.settle(app, pilot)
        text = fakes.screen_text(app)
        assert "the planner failed (ZeroDivisionError: [red]nothing[/] to share)" in text
        assert "kiln-berlin-07" in text
    assert "ZeroDivisionError" in (tmp_path / "swarmtop.log").read_text()


async def test_choosing_a_model_asks_the_swarm_and_the_planner() -> None:
    asked: list[str] = []

    def planner(frame: Swarm, model: Any, *rest: Any) -> Analysis:
        asked.append(model.name)
        return fakes.analyse(frame, model, *rest)

    app, source = dashboard(analyse=planner)
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("4", "m", *"bloom-176b", "enter")
        await fakes.until(pilot, lambda: "bloom-176b" in source.focused and "bloom-176b" in asked)
        await fakes.ready(app, pilot)
        assert source.focused == ["llama-2-70b", "bloom-176b"]
        assert source.chosen == [True, True]
        assert "placement: bloom-176b  fp16  engine chain" in fakes.screen_text(app)


async def test_choosing_an_engine_plans_again() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("4", "e", *"petals", "enter")
        await fakes.until(pilot, lambda: app.session.analysis and app.session.analysis.engine == "petals")
        assert app.session.workload.engine == "petals"


async def test_node_screen_shows_the_chosen_node_and_steps_through_the_ranking() -> None:
    app, source = dashboard()
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("down", "enter")
        await fakes.until(pilot, lambda: set(source.asked) >= {"rtt_p99", "loss", "layer"})
        await fakes.settle(app, pilot)
        assert "node 2/6  lofi-osaka-3080" in fakes.screen_text(app)
        await pilot.press("right_square_bracket")
        await fakes.settle(app, pilot)
        assert "node 3/6  dorm-4090-b" in fakes.screen_text(app)
        await pilot.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
        await fakes.settle(app, pilot)
        assert "node 6/6  den-oslo-7" in fakes.screen_text(app)


async def test_enter_on_a_peer_leads_to_that_peer() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("2", "enter")
        await fakes.settle(app, pilot)
        assert "hut-tromso" in fakes.screen_text(app).splitlines()[1]


async def test_range_and_metric_are_asked_of_the_source() -> None:
    app, source = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("2", "m", "r")
        await fakes.until(pilot, lambda: source.asked.count("rtt_p50") >= 1)
        await fakes.until(pilot, lambda: "RTT p50 ms, last 1 h  p50" in fakes.screen_text(app))


async def test_arrows_move_the_cell_and_enter_opens_its_source() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("3", "down", "right")
        await fakes.settle(app, pilot)
        assert "kiln-berlin-07 → den-oslo-7" in fakes.screen_text(app)
        await pilot.press("m")
        await fakes.settle(app, pilot)
        assert "links: RTT p99 ms" in fakes.screen_text(app)
        await pilot.press("enter")
        await fakes.settle(app, pilot)
        assert app.screen.name == "node"
        assert "kiln-berlin-07" in fakes.screen_text(app).splitlines()[1]


async def test_stage_opens_its_node() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("4", "down", "down", "enter")
        await fakes.settle(app, pilot)
        assert "dorm-4090-b" in fakes.screen_text(app).splitlines()[1]


async def test_palette_finds_an_action_by_its_words() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("colon", *"matrix", "enter")
        await pilot.pause()
        assert app.screen.name == "links"


async def test_help_opens_scrolls_and_closes() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("end")
        await pilot.pause()
        assert "its worst round trip above the" in fakes.screen_text(app)
        await pilot.press("escape")
        assert app.screen.name == "overview"


async def test_empty_swarm_says_what_volunteers_paste() -> None:
    app, source = dashboard(Swarm.empty((), at_ns=fakes.NOW_NS))
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.until(pilot, lambda: app.session.shown is not None)
        await fakes.settle(app, pilot)
        assert "swarm-probe --join 10.0.0.5:9470" in fakes.screen_text(app)
        for key in "2345":
            await pilot.press(key, "down", "enter", "m", "escape")
        source.put(fakes.swarm(at_ns=fakes.NOW_NS + NS_PER_S))
        await fakes.ready(app, pilot)
        await pilot.press("1")
        await fakes.settle(app, pilot)
        assert "kiln-berlin-07" in fakes.screen_text(app)


async def test_source_that_gives_up_ends_the_dashboard_with_its_exit_code() -> None:
    app, source = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        source.fail(SourceError("cannot reach 10.0.0.5:9470 (refused); start swarm-collector there", 3))
        await fakes.until(pilot, lambda: app.ended is not None)
    assert app.return_code == 3
