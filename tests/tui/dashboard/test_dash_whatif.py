"""The what-if of the placement screen, on the real planner and cost model: edits by keys, candidates, launch lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dash_fakes as fakes
import dash_pilot
import numpy as np
import pytest

from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Stage, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm
from swarm_protocol.snapshot.swarm import Path as LinkPath
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop.analysis.analysis import analyse
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.lines.placement import placement_parts
from swarmtop.dashboard.screens.overlays import Help, Picker, Prompt
from swarmtop.dashboard.state import what_if
from swarmtop.dashboard.state.own_placement import best_place, risks, study
from swarmtop.text import quantities

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"
MODEL = model_named("llama-2-13b")


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dash_pilot.brisk(monkeypatch)
    monkeypatch.chdir(tmp_path)


def garage() -> Swarm:
    return parse_swarm(GARAGE.read_text("utf-8"), source="garage.toml")


def placement_screen(engine: Any = "chain") -> Dashboard:
    """Live, so that everything is offered; the frame is that of the example."""
    source = fakes.FakeSource(garage())
    load = Workload(engine=engine, draws=200)
    return Dashboard(source, fakes.options(model=MODEL, workload=load, analyse=analyse, study=study))


async def opened(app: Dashboard, pilot: Any) -> Any:
    await fakes.ready(app, pilot)
    await pilot.press("4")
    page = app.screen
    await weighed(pilot, page)
    return page


async def weighed(pilot: Any, page: Any) -> None:
    """What the page shows has been predicted, and the candidates of its stage weighed."""

    def done() -> bool:
        made = page._state.study
        base = page._base(page.board.view())
        return made is not None and made.placement == base and made.stage == page._state.cursor

    await fakes.until(pilot, done, "the study")
    await fakes.settle(page.app, pilot)


# ---------------------------------------------------------------- the model


def studied(placement: Any, stage: int = 0, model: ModelShape = MODEL) -> what_if.Study:
    return study((), garage(), model, Workload(draws=200), placement, stage)


def test_candidates_are_those_that_fit_the_best_first_and_none_is_in_the_placement() -> None:
    made = studied((Stage("attic-3090", 0, 20), Stage("lab-a4000", 21, 39)), stage=1)
    names = [c.node for c in made.candidates]
    assert names
    assert not {"attic-3090", "lab-a4000"} & set(names)
    gains = [c.gain_tokens_per_s for c in made.candidates]
    assert gains == sorted(gains, reverse=True)
    for candidate in made.candidates:
        assert candidate.placement[1].node == candidate.node
        assert candidate.memory_share is not None
        assert candidate.memory_share <= 1


def test_gain_of_a_candidate_is_what_its_placement_would_be_priced_at() -> None:
    base = (Stage("attic-3090", 0, 20), Stage("lab-a4000", 21, 39))
    made = studied(base, stage=1)
    best = made.candidates[0]
    there = studied(best.placement)
    assert made.whatif is not None
    assert there.whatif is not None
    assert best.gain_tokens_per_s == pytest.approx(1e3 / there.whatif.value_ms - 1e3 / made.whatif.value_ms)


def test_placement_that_cannot_be_is_a_reason_and_no_candidates() -> None:
    made = studied((Stage("attic-3090", 0, 20), Stage("nobody", 21, 39)))
    assert made.prediction is None
    assert "nobody" in made.why_not
    assert made.candidates == ()


def test_node_is_added_where_it_does_best() -> None:
    made = studied((Stage("attic-3090", 0, 20), Stage("lab-a4000", 21, 39)))
    assert made.whatif is not None
    edit = best_place(made.whatif, "desk-4070")
    others = [made.whatif.add("desk-4070", at) for at in range(3)]
    assert edit.value_ms == min(other.value_ms for other in others)


def test_risks_name_what_the_milliseconds_do_not_say() -> None:
    frame = garage()
    placed = (Stage("attic-3090", 0, 20), Stage("lab-a4000", 21, 39))
    row, beside = frame.index("lab-a4000"), frame.index("attic-3090")
    frame.links["loss"][:] = 0.0
    frame.links["jitter_ms"][:] = 0.0
    assert risks(frame, placed, 1, 0.5) == ()
    frame.nodes["state"][row] = State.STALE
    frame.links["loss"][row, beside] = 0.021
    frame.links["path"][beside, row] = LinkPath.RELAYED
    frame.links["kind"][row, beside] = Kind.ESTIMATE
    frame.links["jitter_ms"][row, beside] = 0.6 * frame.links["rtt_p50_ms"][row, beside]
    frame.nodes["throttled"][row] = 1
    assert risks(frame, placed, 1, 0.93) == ("stale", "loss 2.1%", "vram", "jitter", "relay", "hot", "~link")


def test_unmeasured_loss_is_no_risk_that_anybody_knows_of() -> None:
    frame = garage()
    frame.links["loss"][:] = np.nan
    frame.links["jitter_ms"][:] = np.nan
    assert risks(frame, (Stage("attic-3090", 0, 20), Stage("lab-a4000", 21, 39)), 1, None) == ()


def test_changes_count_only_layers_that_were_not_there_before() -> None:
    before = (Stage("a", 0, 9), Stage("b", 10, 19), Stage("c", 20, 29))
    after = (Stage("a", 0, 11), Stage("d", 12, 19), Stage("c", 20, 29))
    lines, moved = what_if.changes(before, after, layer_bytes=10.0)
    assert lines == ("a  L0-9 → L0-11, loads 2", "d  new: L12-19, loads 8", "b  L10-19 → none")
    assert moved == 100.0


def test_difference_that_rounds_to_nothing_has_no_sign() -> None:
    assert [placement_parts.signed(v) for v in (0.0, 0.001, 0.23, -1.1)] == ["±0", "±0", "+0.23", "−1.10"]


# ---------------------------------------------------------------- by keys


async def test_layers_move_over_the_boundary_and_undo_brings_them_back() -> None:
    app = placement_screen()
    async with app.run_test(size=(140, 40)) as pilot:
        page = await opened(app, pilot)
        best = app.session.analysis.plan.prediction.placement
        assert len(best) == 2
        await pilot.press("right", "right")
        own = app.session.draft[-1].placement
        assert own[0].last == best[0].last + 2
        await weighed(pilot, page)
        text = fakes.screen_text(app)
        assert "2 edits, not saved" in text
        assert f"L{best[0].first}-{best[0].last} → L0-{best[0].last + 2}, loads 2" in text
        await pilot.press("u")
        assert app.session.draft[-1].placement[0].last == best[0].last + 1
        await pilot.press("U")
        assert app.session.draft == ()


async def test_what_if_shows_its_own_prediction_with_its_interval() -> None:
    app = placement_screen()
    async with app.run_test(size=(140, 40)) as pilot:
        page = await opened(app, pilot)
        await pilot.press("right")
        await weighed(pilot, page)
        found = page._state.study.prediction
        assert found.placement == app.session.draft[-1].placement
        line = next(row for row in fakes.screen_text(app).splitlines() if row.startswith(" WHAT-IF"))
        rate = found.tokens_per_s
        assert (
            f"{quantities.figure(rate.p50)} tok/s ({quantities.figure(rate.p5)}–{quantities.figure(rate.p95)})" in line
        )
        assert "against the best" in line


async def test_candidate_is_taken_with_tab_and_enter() -> None:
    app = placement_screen()
    async with app.run_test(size=(140, 40)) as pilot:
        page = await opened(app, pilot)
        first = page._state.study.candidates[0]
        await pilot.press("tab", "enter")
        assert app.session.draft[-1].placement == first.placement
        await weighed(pilot, page)
        assert first.node in fakes.screen_text(app)
        assert page._state.pane == "stages"


async def test_drop_swap_and_add_are_edits_and_refusals_are_reported() -> None:
    app = placement_screen()
    async with app.run_test(size=(140, 40)) as pilot:
        page = await opened(app, pilot)
        before = [s.node for s in app.session.analysis.plan.prediction.placement]
        await pilot.press("s")
        assert [s.node for s in app.session.draft[-1].placement] == before[::-1]
        await weighed(pilot, page)
        await pilot.press("plus")
        assert isinstance(app.screen, Picker)
        await pilot.press(*"desk", "enter")
        assert "desk-4070" in [s.node for s in app.session.draft[-1].placement]
        await weighed(pilot, page)
        count = len(app.session.draft)
        await pilot.press("end", "s")
        assert len(app.session.draft) == count
        assert "the last stage has none after it" in app.notice()
        await pilot.press("home", "d")
        assert len(app.session.draft[-1].placement) == 2


async def test_optimise_finds_the_best_order_of_the_same_nodes() -> None:
    app = placement_screen()
    async with app.run_test(size=(140, 40)) as pilot:
        page = await opened(app, pilot)
        best = app.session.analysis.plan.prediction.placement
        await pilot.press("s")
        await weighed(pilot, page)
        await pilot.press("o")
        await fakes.until(pilot, lambda: app.session.draft[-1].what == "best of these nodes", "the order")
        assert app.session.draft[-1].placement == best


async def test_another_model_drops_the_what_if() -> None:
    app = placement_screen()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        await pilot.press("right", "m", *"llama-2-7b", "enter")
        assert app.session.draft == ()


async def test_launch_lines_are_those_of_what_is_shown_and_can_be_saved(tmp_path: Path) -> None:
    app = placement_screen("petals")
    async with app.run_test(size=(140, 40)) as pilot:
        page = await opened(app, pilot)
        await pilot.press("right")
        await weighed(pilot, page)
        await pilot.press("l")
        assert isinstance(app.screen, Help)
        await pilot.pause()
        last = app.session.draft[-1].placement[0].last
        assert f"--block_indices 0:{last + 1}" in fakes.screen_text(app)
        await pilot.press("w")
        await pilot.pause()
        assert isinstance(app.screen, Prompt)
        await pilot.press("enter")
        await fakes.until(pilot, lambda: "wrote launch-petals.sh" in app.notice(), "the file")
    assert f"--block_indices 0:{last + 1}" in (tmp_path / "launch-petals.sh").read_text("utf-8")


async def test_plan_is_saved_as_json_with_the_what_if_and_nothing_is_overwritten(tmp_path: Path) -> None:
    app = placement_screen()
    (tmp_path / "plan.json").write_text("mine")
    async with app.run_test(size=(140, 40)) as pilot:
        page = await opened(app, pilot)
        await pilot.press("right")
        await weighed(pilot, page)
        await pilot.press("x", *"plan", "enter")
        assert app.screen.text == "plan-2.json"
        await pilot.press("ctrl+u", *"plan.json", "enter")
        await pilot.pause()
        assert "plan.json exists already" in fakes.screen_text(app)
        await pilot.press("ctrl+u", *"other.json", "enter")
        await fakes.until(pilot, lambda: "wrote other.json" in app.notice(), "the file")
    saved = json.loads((tmp_path / "other.json").read_text("utf-8"))
    assert saved["placement"] != saved["what_if"]["placement"]
    assert saved["bound_ms"] > 0
    assert (tmp_path / "plan.json").read_text() == "mine"
