"""Claims about the first two minutes and the last key: a model that fits, the invite, leaving, a silent collector."""

from __future__ import annotations

import dataclasses
from typing import Any

import dash_fakes as fakes

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.messages.running import Running
from swarmtop.analysis.open_question import CompleteQuestion, OpenQuestion
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.screens.first_minutes import qr_lines


def dashboard(source: fakes.FakeSource | None = None, **changes: Any) -> tuple[Dashboard, fakes.FakeSource]:
    source = source or fakes.FakeSource(fakes.swarm())
    return Dashboard(source, fakes.options(**changes)), source


async def test_leaving_asks_where_others_have_joined_and_can_let_the_collector_continue() -> None:
    kept: list[str] = []

    def keep() -> str:
        kept.append("kept")
        return "the collector goes on"

    app, _ = dashboard(keep_collector=keep)
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("q")
        await fakes.settle(app, pilot)
        assert "4 other machines are joined" in fakes.screen_text(app)
        await pilot.press("enter")  # cancel is what the cursor is on
        await fakes.settle(app, pilot)
        assert (kept, app.return_code) == ([], None)
        await pilot.press("q", *"keep", "enter")
    assert (kept, app.farewell, app.return_code) == (["kept"], "the collector goes on", 0)


async def test_leaving_a_collector_that_is_not_ours_asks_nothing() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("f10")
    assert app.return_code == 0


class Silent(fakes.FakeSource):
    silent_since_ns: int | None = None

    def __init__(self, *frames: Any) -> None:
        super().__init__(*frames)
        self.told: list[Running] = []

    async def tell_running(self, running: Running) -> None:
        self.told.append(running)


async def test_a_collector_that_is_not_heard_turns_the_first_line_red_and_says_since_when() -> None:
    source = Silent(fakes.swarm())
    app, _ = dashboard(source)
    async with app.run_test(size=(100, 24)) as pilot:
        await fakes.ready(app, pilot)
        source.silent_since_ns = fakes.NOW_NS
        await fakes.until(pilot, lambda: "x NO COLLECTOR since 14:02:17" in fakes.screen_text(app))
        source.silent_since_ns = None
        await fakes.until(pilot, lambda: "● LIVE" in fakes.screen_text(app))


async def test_launch_lines_that_are_accepted_run_from_then_on_for_everybody() -> None:
    source = Silent(fakes.swarm())
    app, _ = dashboard(source)
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("4")
        await fakes.until(pilot, lambda: app.screen.name == "placement")
        await pilot.press("R")
        await fakes.until(pilot, lambda: len(source.told) == 1)
    told = source.told[0]
    assert told.placement.startswith("kiln-berlin-07:0-")
    assert (told.engine, told.model, told.source) == ("chain", "llama-2-70b", "launch lines")
    assert app.session.shown is not None
    assert app.session.shown.running == told


async def test_what_a_person_left_open_is_filled_in_by_what_fits_and_said() -> None:
    small = model_named("llama-3.2-1b")

    def choose(frame: Any, asked: OpenQuestion) -> CompleteQuestion:
        if asked.model is not None:
            return CompleteQuestion(asked.model, asked.workload)
        return CompleteQuestion(
            small, dataclasses.replace(asked.workload, weights="q8_0"), "it does not fit: showing q8_0"
        )

    app, source = dashboard(open_question=OpenQuestion(None, Workload(), False, False), choose=choose)
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        text = fakes.screen_text(app)
        assert "it does not fit: showing q8_0; w changes it" in text
        assert (app.session.model.name, app.session.workload.weights) == ("llama-3.2-1b", "q8_0")
        await fakes.until(pilot, lambda: source.focused == ["llama-3.2-1b"])  # and nothing before it was known
        assert source.chosen == [False]  # so that it replaces no model that a person chose
        await pilot.press("w", *"int8", "enter")
        await fakes.until(
            pilot, lambda: app.session.open_question is not None and app.session.open_question.weights_are_chosen
        )


async def test_every_part_of_the_question_has_a_key() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(100, 30)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("C", "ctrl+u", *"4096", "enter", "B", "ctrl+u", *"4", "enter", "P", "ctrl+u", *"8", "enter")
        await pilot.press("A", *"int8", "enter", "e", *"mesh-llm", "enter", "H", *"hut", "enter")
        await fakes.settle(app, pilot)
        load = app.session.workload
        assert (load.context, load.batch, load.streams, load.activations) == (4096, 4, 8, "int8")
        assert (load.engine, load.client) == ("mesh-llm", "hut-tromso")
        await pilot.press("B", "ctrl+u", *"0", "enter")
        await fakes.settle(app, pilot)
        assert "a whole number from 1 to 65536" in fakes.screen_text(app)


async def test_hands_that_know_htop_and_vi_find_their_keys() -> None:
    app, _ = dashboard()
    async with app.run_test(size=(100, 30)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("G")
        await fakes.settle(app, pilot)
        assert app.session.chosen == fakes.swarm().facts[5].node_id
        await pilot.press("f6", *"jit", "enter")
        assert app.session.sort == "jit"
        await pilot.press("h")
        assert app.session.sort != "jit"
        await pilot.press("f3", *"zzz", "enter", "tab")
        await fakes.until(pilot, lambda: app.screen.name == "node")


async def test_the_invite_shows_the_line_copies_it_and_draws_a_code_that_is_square() -> None:
    app, _ = dashboard()
    copied: list[str] = []
    app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
    async with app.run_test(size=(100, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("i")
        await fakes.settle(app, pilot)
        assert "swarm-probe --join 10.0.0.5:9470" in fakes.screen_text(app)
        await pilot.press("y", "i", "c")
        await fakes.settle(app, pilot)
        drawn = ["".join(part for part, _ in row) for row in qr_lines(app.options.join_hint)]
        text = fakes.screen_text(app)
        assert all(row in text for row in drawn)
    assert copied == [app.options.join_hint]
    assert len({len(row) for row in drawn}) == 1
    assert 2 * len(drawn) - len(drawn[0]) in (0, 1)


async def test_a_code_that_does_not_fit_says_how_much_room_it_needs() -> None:
    app, _ = dashboard(join_hint="x" * 500)
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("i", "c")
        await fakes.until(pilot, lambda: "the code needs 87 columns and 46 rows" in fakes.screen_text(app))


async def test_a_viewer_of_somebody_elses_collector_is_told_who_makes_invites() -> None:
    app, _ = dashboard(join_hint="", join_elsewhere="10.0.0.5:9470")
    async with app.run_test(size=(100, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("i")
        await fakes.until(pilot, lambda: "swarmtop invite --connect 10.0.0.5:9470 prints" in fakes.screen_text(app))
