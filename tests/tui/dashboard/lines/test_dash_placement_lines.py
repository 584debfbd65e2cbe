"""The Placement screen's lines, and runs of engines beside their prediction."""

from __future__ import annotations

import dataclasses

import dash_fakes as fakes
import pytest
from dash_views import said, session, view_of

from swarm_protocol.messages.samples import RunSample
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.runs.engine_runs import placement_text
from swarmtop.dashboard.lines.placement import placement_lines, placement_parts, run_lines
from swarmtop.dashboard.lines.styled import line_width


def run_of(at_s: int, **fields: object) -> RunSample:
    filled = {
        "endpoint": "10.0.0.9:8000",
        "model": "m",
        "tokens": 64,
        "counted": True,
        "ttft_ms": 900.0,
        "tpot_ms": 500.0,
    }
    return RunSample(at_ns=fakes.NOW_NS - at_s * NS_PER_S, **{**filled, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "rows"), [(140, 40), (80, 24)])
def test_a_watched_engine_stands_beside_its_prediction(width: int, rows: int) -> None:
    plain = fakes.swarm()
    placed = placement_text(view_of(plain, planned=True).plan.prediction.placement)  # type: ignore[union-attr]
    runs = (
        run_of(400, label="Big Cloud", baseline=True, tpot_ms=20.0),
        run_of(300, placement="elsewhere:0-79", tpot_ms=1000.0),
        run_of(130, placement=placed, predicted_p50=1.9), run_of(120, placement=placed),
    )  # fmt: skip
    view = view_of(dataclasses.replace(plain, runs=runs), planned=True)
    text = "\n".join(said(r) for r in placement_lines.screen(view, placement_lines.PlacementState(), width, rows))
    assert "this placement 2.00 tok/s" in text
    assert "2 runs, 2m ago" in text
    assert "elsewhere:0-79 1.00 tok/s" in text
    assert "Big Cloud 50.0 tok/s" in text
    reported = [event.detail for event in view.events if event.kind == "run"]
    assert reported[1] == f"{placed}: 2.00 tok/s, predicted 1.90 tok/s, first token 900 ms"


def test_measured_and_predicted_are_two_lines_over_time_on_one_scale() -> None:
    """The engine halves its speed for the last third of the time; the prediction stays, and is said not to hold."""
    reported = {"placement": "a:0-79", "predicted_p5": 3.8, "predicted_p50": 4.0, "predicted_p95": 4.2}
    runs = [run_of(900 - 100 * k, tpot_ms=250.0 if k < 6 else 500.0, **reported) for k in range(10)]
    block = [said(row) for row in run_lines.over_time(view_of(fakes.swarm()), runs, 48)]
    assert [len(row) for row in block[:3]] == [48, 48, 41]
    assert block[0] == " measured  " + "█" * 19 + "▄" * 11 + "   2.00"
    assert block[1] == " predicted " + "█" * 30 + "   4.00"
    assert block[3] == " slower than predicted for longer than noise: swarmtop explain"
    assert run_lines.over_time(view_of(fakes.swarm()), runs[:1], 48) == []
    assert len(run_lines.over_time(view_of(fakes.swarm()), runs[:6], 48)) == 3


@pytest.mark.parametrize(("width", "rows"), [(140, 40), (80, 24)])
def test_the_placement_screen_shows_both_lines_of_what_was_watched_last(width: int, rows: int) -> None:
    reported = {"placement": "elsewhere:0-79", "predicted_p50": 4.0}
    runs = tuple(run_of(300 - 100 * k, **reported) for k in range(2))
    view = view_of(dataclasses.replace(fakes.swarm(), runs=runs))
    text = [said(row) for row in placement_lines.screen(view, placement_lines.PlacementState(), width, rows)]
    assert any(" measured  " in row and "2.00" in row for row in text)
    assert any(" predicted " in row and "4.00" in row for row in text)


@pytest.mark.parametrize("size", [(60, 12), (80, 21), (140, 37)])
@pytest.mark.parametrize("planned", [True, False])
def test_placement_screen_fits(size: tuple[int, int], planned: bool) -> None:
    drawn = placement_lines.screen(view_of(fakes.swarm(), planned=planned), placement_lines.PlacementState(), *size)
    assert len(drawn) == size[1]
    assert max(line_width(r) for r in drawn) <= size[0]


def test_certificate_says_how_far_from_the_optimum_and_of_what_bound() -> None:
    plan = view_of(fakes.swarm()).plan
    assert plan is not None
    assert placement_lines.certificate(plan) == "649 ms, within 2.2% of the optimum (bound 635 ms)"
    assert placement_lines.certificate(dataclasses.replace(plan, exact=True, gap=0.0)) == (
        "649 ms, the optimum (all placements considered)"
    )


def test_without_a_plan_the_reason_is_one_line() -> None:
    made = session(fakes.swarm(), planned=False)
    question = made.ask()
    assert question is not None
    made.answer(question, fakes.cannot_plan(fakes.swarm(), made.model, made.workload, None))
    view = made.view(fakes.NOW_NS)
    assert view is not None
    text = [said(r).strip() for r in placement_lines.screen(view, placement_lines.PlacementState(), 100, 20)]
    assert "no placement: no layer time of llama-2-70b yet on kiln-berlin-07, hut-tromso" in text


@pytest.mark.parametrize("width", [40, 52, 60, 80, 120])
def test_columns_of_stages_that_do_not_fit_are_left_out_whole(width: int) -> None:
    """At 40 cells the table ended with `HOP …`."""
    view = view_of(fakes.swarm())
    assert view.plan is not None
    state = placement_lines.PlacementState()
    table = placement_parts.stage_table(view, view.plan.prediction, state, width, 10)
    assert all(line_width(row) <= width for row in table)
    assert {"comp", "hop"} <= set(said(table[0]).lower().split())
