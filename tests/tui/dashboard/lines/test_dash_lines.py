"""The headless half of the dashboard: numbers and states in, lines out."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import dash_fakes as fakes
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.explain.usual import Range
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.snapshot.swarm import Kind, State, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking import reasons
from swarmtop.analysis.ranking.filter import FilterError, parse
from swarmtop.analysis.ranking.node_figures import aged, figures, no_links
from swarmtop.analysis.ranking.usual_layer import BesideUsual, beside_usual
from swarmtop.analysis.runs.engine_runs import placement_text
from swarmtop.dashboard.lines import columns, node_lines, overview_lines
from swarmtop.dashboard.lines.charts import series as charts
from swarmtop.dashboard.lines.columns import BY_NAME, COLUMNS, choose
from swarmtop.dashboard.lines.header_footer import alerts, header
from swarmtop.dashboard.lines.overview import ranking
from swarmtop.dashboard.lines.placement import placement_lines, run_lines
from swarmtop.dashboard.lines.styled import Line, beside, box, clean, cut, fit, line, line_width, pad, text_width
from swarmtop.dashboard.lines.timeline_lines import TimeError, parse_time
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state.recent_rtt import BUCKET_NS, BUCKETS, Recent
from swarmtop.dashboard.state.view import View
from swarmtop.sources.source import History, Span

VALUES = st.lists(st.one_of(st.none(), st.just(math.nan), st.floats(0, 1e6)), max_size=300)


def session(frame: Swarm, *, planned: bool = True, **changes: object) -> Session:
    made = Session("10.0.0.5:9470", "live", fakes.options(**changes))
    made.accept(frame)
    made.show(frame)
    if planned:
        question = made.ask()
        assert question is not None
        made.answer(question, fakes.analyse(frame, made.model, made.workload, None))
    return made


def view_of(frame: Swarm, *, planned: bool = True) -> View:
    view = session(frame, planned=planned).view(fakes.NOW_NS)
    assert view is not None
    return view


def said(row: Line) -> str:
    return "".join(text for text, _ in row)


# ---------------------------------------------------------------- lines and charts


@given(st.text(max_size=60), st.integers(0, 40))
def test_padded_text_has_exactly_the_cells_asked_for(text: str, width: int) -> None:
    assert text_width(pad(clean(text), width)) == width


@given(st.text(max_size=60), st.integers(0, 40))
def test_cut_text_never_exceeds_its_cells(text: str, width: int) -> None:
    assert text_width(cut(clean(text), width)) <= width


@given(st.lists(st.tuples(st.text(max_size=20), st.just("dim")), max_size=6), st.integers(0, 60))
def test_fitted_line_has_exactly_the_width(parts: list[tuple[str, str]], width: int) -> None:
    row = tuple((clean(text), role) for text, role in parts)
    assert line_width(fit(row, width)) == width


@given(st.integers(6, 80), st.integers(2, 12), st.text(max_size=90))
def test_box_is_a_rectangle_whatever_its_title(width: int, rows: int, title: str) -> None:
    drawn = box(clean(title), [line("x" * 100)], width, rows)
    assert len(drawn) == rows
    assert {line_width(row) for row in drawn} == {width}


def test_blocks_beside_each_other_keep_their_widths() -> None:
    joined = beside([([line("a")], 3), ([line("b"), line("c")], 4)])
    assert [said(row) for row in joined] == ["a  b   ", "   c   "]


@given(VALUES, st.integers(1, 60))
def test_sparkline_has_its_width_and_draws_gaps_as_gaps(values: list[float | None], width: int) -> None:
    drawn = charts.spark(values, width, gap=" ")
    assert len(drawn) == width
    if not any(charts.known(v) for v in values):
        assert drawn == " " * width


def test_gap_in_a_sparkline_is_not_the_lowest_level() -> None:
    assert charts.spark([1.0, None, 0.0, 8.0], 4, gap=" ") == "▁ ▁█"


def test_peak_survives_when_there_are_more_values_than_cells() -> None:
    values: list[float | None] = [1.0] * 99
    values[57] = 100.0
    assert charts.spark(values, 10).count("█") == 1


@given(VALUES, st.integers(1, 40), st.integers(1, 6))
def test_braille_chart_is_a_rectangle(values: list[float | None], width: int, rows: int) -> None:
    drawn = charts.braille(values, width, rows, 100.0)
    assert len(drawn) == rows
    assert all(len(row) == width for row in drawn)


def test_braille_line_is_not_drawn_across_a_gap() -> None:
    values: list[float | None] = [5.0] * 4 + [None] * 4 + [5.0] * 4
    drawn = charts.braille(values, 6, 1, 10.0)[0]
    assert [cell == " " for cell in drawn] == [False, False, True, True, False, False]


@given(st.floats(1e-6, 1e9))
def test_axis_ends_at_a_round_number_not_below_the_peak(highest: float) -> None:
    top = charts.nice_top(highest)
    assert top >= highest * (1 - 1e-6)
    assert top <= highest * 5.01


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=5), st.integers(1, 100))
def test_stacked_bar_shares_out_every_cell(parts: list[float], width: int) -> None:
    total = sum(parts)
    cells = charts.stacked([(part, "x") for part in parts], total, width)
    assert sum(n for _, n in cells) == (width if total > 0 else 0)


# ---------------------------------------------------------------- figures


def test_node_without_any_link_has_no_figures_not_zeros() -> None:
    frame = Swarm.empty(fakes.swarm().facts, at_ns=fakes.NOW_NS)
    found = figures(frame, fakes.MODEL.name, fakes.NOW_NS)
    for column in ("rtt50_ms", "rtt99_ms", "jitter_ms", "loss", "age_s", "rtt_age_s"):
        assert np.isnan(getattr(found, column)).all(), column
    assert (found.worst == -1).all()


def test_p99_is_that_of_the_worst_link_either_way() -> None:
    frame = fakes.swarm()
    frame.links["rtt_p99_ms"][1, 2] = 9000.0
    found = figures(frame, fakes.MODEL.name, fakes.NOW_NS)
    assert found.rtt99_ms[1] == 9000.0
    assert found.rtt99_ms[2] == 9000.0
    assert (found.worst[1], found.worst[2]) == (2, 1)


def test_estimated_links_count_only_where_nothing_was_measured() -> None:
    frame = fakes.swarm()
    found = figures(frame, fakes.MODEL.name, fakes.NOW_NS)
    assert found.estimated.tolist() == [False, False, False, False, True, False]
    frame.links["rtt_p50_ms"][0, 4] = 1e6  # an estimate; node 0 has measured links
    assert figures(frame, fakes.MODEL.name, fakes.NOW_NS).rtt50_ms[0] == found.rtt50_ms[0]


def test_empty_swarm_has_empty_figures() -> None:
    found = figures(Swarm.empty(()), fakes.MODEL.name, fakes.NOW_NS)
    assert len(found.rtt50_ms) == 0


@given(st.lists(st.integers(0, 40), max_size=30))
def test_recent_minute_never_shows_a_value_in_a_bucket_without_frames(steps: list[int]) -> None:
    recent = Recent()
    frame = fakes.swarm(fakes.NAMES[:2])
    seen: set[int] = set()
    at_ns = fakes.NOW_NS
    for step in steps:
        at_ns += step * NS_PER_S
        recent.add(dataclasses.replace(frame, at_ns=at_ns), np.array([5.0, 5.0]))
        seen.add(at_ns // BUCKET_NS)
    newest = at_ns // BUCKET_NS
    expected = [5.0 if newest - BUCKETS + 1 + i in seen else None for i in range(BUCKETS)]
    assert recent.series(frame.facts[0].node_id) == expected


def test_recent_minute_starts_again_when_somebody_goes_back_in_time() -> None:
    recent = Recent()
    frame = fakes.swarm(fakes.NAMES[:2])
    recent.add(frame, np.array([5.0, 5.0]))
    recent.add(dataclasses.replace(frame, at_ns=frame.at_ns - 3600 * NS_PER_S), np.array([7.0, 7.0]))
    assert recent.series(frame.facts[0].node_id) == [None] * (BUCKETS - 1) + [7.0]


# ---------------------------------------------------------------- ranking


def test_ranking_is_that_of_the_analysis() -> None:
    view = view_of(fakes.swarm())
    order = ranking.order(view, "cost", False, parse(""))
    assert view.analysis is not None
    assert [view.swarm.facts[i].name for i in order] == [row.name for row in view.analysis.rows]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.name)
@pytest.mark.parametrize("reverse", [False, True])
def test_every_column_sorts_and_every_cell_reads(column: object, reverse: bool) -> None:
    view = view_of(fakes.swarm())
    name = column.name  # type: ignore[attr-defined]
    order = ranking.order(view, name, reverse, parse(""))
    assert sorted(order.tolist()) == list(range(6))
    for row in range(6):
        text, _ = BY_NAME[name].cell(view, row)
        assert text != "" or name == "recent"


@pytest.mark.parametrize("reverse", [False, True])
def test_unknown_values_come_last_whichever_way_it_is_sorted(reverse: bool) -> None:
    view = view_of(fakes.swarm())
    order = ranking.order(view, "up", reverse, parse(""))
    assert order[-1] == 4  # its upload was not measured


def test_missing_figures_read_as_a_dash_bounds_and_estimates_carry_their_sign() -> None:
    view = view_of(fakes.swarm())
    assert BY_NAME["up"].cell(view, 4)[0] == "–"
    assert BY_NAME["up"].cell(view, 1)[0] == "≥50.0"
    assert BY_NAME["rtt50"].cell(view, 4)[0].startswith("~")
    assert BY_NAME["cost"].cell(view, 5)[0] == "–"


def test_figures_of_a_node_that_is_not_heard_fade() -> None:
    view = view_of(fakes.swarm())
    assert BY_NAME["rtt50"].cell(view, 3)[1] == "faded"
    assert BY_NAME["rtt50"].cell(view, 0)[1] == ""


def test_slow_is_a_living_node_of_the_placement_that_costs_the_swarm_a_twentieth() -> None:
    view = view_of(fakes.swarm())
    assert [view.word(i) for i in range(6)] == ["slow", "ok", "ok", "stale", "ok", "lost"]
    assert [view_of(fakes.swarm(), planned=False).word(i) for i in (0, 3, 5)] == ["ok", "stale", "lost"]


@pytest.mark.parametrize("width", [53, 73, 133, 300])
def test_chosen_columns_fit_the_width_and_name_and_state_always_stay(width: int) -> None:
    chosen = choose(width)
    assert sum(w + 1 for _, w in chosen) <= width
    assert [c.name for c, _ in chosen][:1] == ["node"]
    assert "state" in [c.name for c, _ in chosen]


def test_clicking_a_title_finds_its_column() -> None:
    chosen = choose(120)
    head = said(ranking.header(chosen, "cost", False))
    for column, _ in chosen:
        assert ranking.column_at(chosen, head.index(column.title) + len(column.title) // 2) == column.name


# ---------------------------------------------------------------- filter


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("BERLIN", [0]),
        ("state!=lost", [0, 1, 2, 3, 4]),
        ("state=slow", [0]),
        ("rtt99>1000 state!=stale", [0, 2, 4]),
        ("up<=50", [0, 1]),
        ("loss>0.5%", [0]),
        ("cause=rtt", [0, 3]),
        ("cost>50 rtt", []),
        ("device=t4", [3]),
        ("vram>=22", [0, 1, 2, 3, 4, 5]),
        ("layer>3", [2, 3, 5]),
        ("rtt99>1000 and state!=stale", [0, 2, 4]),
        ("berlin or osaka", [0, 1]),
        ("berlin or osaka and up>100", [0]),
        ("(berlin or osaka) and up<=50", [0, 1]),
        ("not state=ok", [0, 3, 5]),
        ("not up<1000", []),  # the one that is not known is not above either
        ("not (up<1000 or berlin)", []),
        ("rtt99 > 1000", [0, 2, 3, 4]),
        ("device~3080", [1]),
        ("cause==rtt", [0, 3]),
        ('"berlin"', [0]),
    ],
)
def test_filter_keeps(text: str, kept: list[int]) -> None:
    view = view_of(fakes.swarm())
    assert np.flatnonzero(parse(text).mask(view)).tolist() == kept


def test_unknown_figure_passes_no_comparison() -> None:
    view = view_of(fakes.swarm())
    assert not parse("up<1000000").mask(view)[4]
    assert not parse("up>0").mask(view)[4]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("speed>3", "no column speed; there are age, cause, cost"),
        ("rtt99>", "rtt99> needs a value after it"),
        ("rtt99>fast", "rtt99> needs a number, not fast"),
        ("(berlin", "a bracket is not closed"),
        ("berlin)", ") has nothing to belong to"),
        ("berlin and", "here a name or a comparison is missing"),
        ("or berlin", "here a name or a comparison is missing"),
        (">3", "> needs a column before it"),
        ('"berlin', '"berlin is not understood; quotes come in pairs'),
        ("(" * 50 + "a" + ")" * 50, "more than 20 brackets"),
        ("\x1b[2J>3", "no column ?[2j; there are age"),
    ],
)
def test_bad_filter_says_what_to_write(text: str, problem: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert str(caught.value).startswith(problem)


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    with contextlib.suppress(FilterError):
        assert len(parse(text).mask(view_of(fakes.swarm()))) == 6


# ---------------------------------------------------------------- node, placement, header, time


def past(values: list[float | None]) -> History:
    return History(tuple(fakes.NOW_NS + i * NS_PER_S for i in range(len(values))), tuple(values))


@pytest.mark.parametrize("size", [(60, 12), (80, 21), (140, 37), (300, 80)])
@pytest.mark.parametrize("row", range(6))
def test_node_screen_fits(size: tuple[int, int], row: int) -> None:
    view = view_of(fakes.swarm())
    drawn = node_lines.screen(view, row, (1, 6), node_lines.NodeState(), {"rtt_p99": past([1.0, None, 3.0])}, *size)
    assert len(drawn) == size[1]
    assert max(line_width(r) for r in drawn) <= size[0]


def test_missing_layer_time_names_the_command_that_fills_it() -> None:
    assert "pip install 'swarmtop[torch]'" in node_lines.empty_reason(view_of(fakes.swarm()), 4)


def test_chart_without_values_says_so_and_draws_no_line() -> None:
    view = view_of(fakes.swarm())
    text = "\n".join(said(r) for r in node_lines.chart(view, node_lines.NodeState(), past([None, None]), 60, 4))
    assert "nothing measured in this time" in text
    assert "┤" not in text


def test_peers_are_listed_worst_first_and_silent_ones_before_all() -> None:
    frame = fakes.swarm()
    frame.links["rtt_p99_ms"][0, 3] = np.nan
    frame.links["rtt_p99_ms"][3, 0] = np.nan
    assert node_lines.peers(view_of(frame), 0)[0] == 3


def test_a_rule_of_ones_own_is_told_when_it_fires_and_stands_among_the_alerts() -> None:
    made = session(fakes.swarm(), alerts=("rtt_p99_ms<1 for 30s clear 30s",))
    for second in (0, 20, 30):
        made.judge(second * NS_PER_S, fakes.NOW_NS)
    view = made.view(fakes.NOW_NS)
    assert view is not None
    assert len(view.firing) > 1
    assert all(text.startswith("rtt_p99_ms<1: ") for text in view.firing)
    assert made.notice(fakes.NOW_NS).startswith("rtt_p99_ms<1: ")
    assert {event.detail for event in view.events if event.kind == "alert"} == set(view.firing)
    assert any("! rule  rtt_p99_ms<1: " in said(row) for row in alerts(view))


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
    told = [event.detail for event in view.events if event.kind == "run"]
    assert told[1] == f"{placed}: 2.00 tok/s, predicted 1.90 tok/s, first token 900 ms"


def test_measured_and_predicted_are_two_lines_over_time_on_one_scale() -> None:
    """The engine halves its speed for the last third of the time; the prediction stays, and is said not to hold."""
    told = {"placement": "a:0-79", "predicted_p5": 3.8, "predicted_p50": 4.0, "predicted_p95": 4.2}
    runs = [run_of(900 - 100 * k, tpot_ms=250.0 if k < 6 else 500.0, **told) for k in range(10)]
    block = [said(row) for row in run_lines.over_time(view_of(fakes.swarm()), runs, 48)]
    assert [len(row) for row in block[:3]] == [48, 48, 41]
    assert block[0] == " measured  " + "█" * 19 + "▄" * 11 + "   2.00"
    assert block[1] == " predicted " + "█" * 30 + "   4.00"
    assert block[3] == " slower than predicted for longer than noise: swarmtop explain"
    assert run_lines.over_time(view_of(fakes.swarm()), runs[:1], 48) == []
    assert len(run_lines.over_time(view_of(fakes.swarm()), runs[:6], 48)) == 3


@pytest.mark.parametrize(("width", "rows"), [(140, 40), (80, 24)])
def test_the_placement_screen_shows_both_lines_of_what_was_watched_last(width: int, rows: int) -> None:
    told = {"placement": "elsewhere:0-79", "predicted_p50": 4.0}
    runs = tuple(run_of(300 - 100 * k, **told) for k in range(2))
    view = view_of(dataclasses.replace(fakes.swarm(), runs=runs))
    text = [said(row) for row in placement_lines.screen(view, placement_lines.PlacementState(), width, rows)]
    assert any(" measured  " in row and "2.00" in row for row in text)
    assert any(" predicted " in row and "4.00" in row for row in text)


def test_a_node_shows_its_layer_time_beside_what_is_usual_for_its_device() -> None:
    slow = BesideUsual(1.9, Range(0.37, 0.6, 1.13))
    lines = node_lines.hardware(view_of(fakes.swarm()), 0, slow)
    assert (("layer ", "dim"), ("1.90 ms, usual 0.37 to 1.13", "warn")) in lines
    assert BesideUsual(None, slow.usual).text == "–, usual 0.37 to 1.13"
    assert BesideUsual(0.5, None).text == "0.50 ms"
    assert BesideUsual(None, None).text is None


def test_what_is_usual_for_a_device_does_not_depend_on_what_was_measured_there() -> None:
    swarm, model, load = fakes.swarm(), model_named("llama-2-70b"), Workload(weights="int8", engine="llama.cpp")
    known = beside_usual(swarm, 0, model, load)
    bare = dataclasses.replace(swarm, facts=(dataclasses.replace(swarm.facts[0], layers=()), *swarm.facts[1:]))
    unknown = beside_usual(bare, 0, model, load)
    assert known.usual == unknown.usual is not None
    assert unknown.here_ms is None


@pytest.mark.parametrize("size", [(60, 12), (80, 21), (140, 37)])
@pytest.mark.parametrize("planned", [True, False])
def test_placement_screen_fits(size: tuple[int, int], planned: bool) -> None:
    drawn = placement_lines.screen(view_of(fakes.swarm(), planned=planned), placement_lines.PlacementState(), *size)
    assert len(drawn) == size[1]
    assert max(line_width(r) for r in drawn) <= size[0]


def test_certificate_says_how_far_from_the_optimum_and_of_what_bound() -> None:
    plan = view_of(fakes.swarm()).plan
    assert plan is not None
    assert placement_lines.certificate(plan) == "649 ms, within 2.2 % of the optimum (bound 635 ms)"
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


def test_header_says_live_paused_or_replay_at_every_width() -> None:
    made = session(fakes.swarm())
    for width in (60, 80, 140):
        view = made.view(fakes.NOW_NS)
        assert view is not None
        assert "● LIVE" in said(header(view, width))
        assert "tok/s" in said(header(view, width))
    made.toggle_pause()
    made.accept(fakes.swarm(at_ns=fakes.NOW_NS + 40 * NS_PER_S))
    view = made.view(fakes.NOW_NS + 40 * NS_PER_S)
    assert view is not None
    assert "‖ PAUSED  14:02:17 (40s behind)" in said(header(view, 80))
    assert "  1.54 tok/s" in said(header(view, 46))  # of the news, the speed alone


def test_header_says_when_live_news_are_old() -> None:
    view = session(fakes.swarm()).view(fakes.NOW_NS + 20 * NS_PER_S)
    assert view is not None
    assert "(20s old)" in said(header(view, 80))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("-10m", -600), ("+30s", 30), ("14:00", -137), ("13:02:17", -3600), ("2026-11-23 14:02", -17), ("-1.5h", -5400)],
)
def test_time_people_write_is_understood(text: str, seconds: int) -> None:
    view = view_of(fakes.swarm())
    assert parse_time(text, view) == fakes.NOW_NS + seconds * NS_PER_S


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_a_time_error(text: str) -> None:
    with contextlib.suppress(TimeError):
        assert isinstance(parse_time(text, view_of(fakes.swarm())), int)


# ---------------------------------------------------------------- session


def test_paused_frame_stays_and_the_newest_is_shown_when_it_runs_again() -> None:
    made = session(fakes.swarm())
    made.toggle_pause()
    later = fakes.swarm(at_ns=fakes.NOW_NS + NS_PER_S)
    made.accept(later)
    assert made.next_frame() is None
    made.toggle_pause()
    assert made.next_frame() is later


def test_minute_continues_while_the_screen_is_held_still_but_is_not_drawn_there() -> None:
    made = session(fakes.swarm())
    node_id = fakes.swarm().facts[0].node_id
    made.toggle_pause()
    for i in range(1, 4):
        made.accept(fakes.swarm(at_ns=fakes.NOW_NS + i * BUCKET_NS))
    held = made.view(fakes.NOW_NS)
    made.toggle_pause()
    running = made.view(fakes.NOW_NS)
    assert held is not None
    assert running is not None
    assert sum(v is not None for v in held.recent.series(node_id)) == 1
    assert sum(v is not None for v in running.recent.series(node_id)) == 4


def test_answer_about_a_model_no_longer_asked_for_is_dropped() -> None:
    made = session(fakes.swarm(), planned=False)
    question = made.ask()
    assert question is not None
    made.choose_engine("star")
    made.answer(question, fakes.analyse(fakes.swarm(), made.model, made.workload, None))
    assert made.analysis is None
    again = made.ask()
    assert again is not None
    made.answer(again, fakes.analyse(fakes.swarm(), made.model, made.workload, None))
    assert made.analysis is not None


def test_the_same_question_is_asked_once() -> None:
    made = session(fakes.swarm(), planned=False)
    assert made.ask() is not None
    assert made.ask() is None


def test_step_into_a_gap_of_a_recording_leads_to_its_other_side() -> None:
    made = Session("swarm-0921.db", "replay", fakes.options())
    at = fakes.NOW_NS
    made.recording = Span(at - 1000 * NS_PER_S, at, ((at - 500 * NS_PER_S, at - 200 * NS_PER_S),))
    assert made.clamp(at - 300 * NS_PER_S) == at - 200 * NS_PER_S
    assert made.clamp(at - 300 * NS_PER_S, forward=False) == at - 500 * NS_PER_S
    assert made.clamp(at + 5 * NS_PER_S) == at
    assert made.clamp(0) == at - 1000 * NS_PER_S


def test_events_are_kept_once_and_newest_first() -> None:
    made = session(fakes.swarm())
    made.accept(fakes.swarm(at_ns=fakes.NOW_NS))
    made.show(fakes.swarm(at_ns=fakes.NOW_NS))
    view = made.view(fakes.NOW_NS)
    assert view is not None
    assert [e.kind for e in view.events] == ["path", "lost", "joined"]


def test_why_a_node_stands_where_it_does_is_reported_in_one_line_and_never_as_shares_that_would_add_up() -> None:
    view = view_of(fakes.swarm())
    assert said(reasons.why_line(view, 0, 1, 120)) == (
        " why #1 kiln-berlin-07  rtt: typical here would give +0.22 tok/s; re-planned without it +0.06 tok/s"
    )
    assert said(reasons.why_line(view, 3, 4, 120)).endswith("stand-by for kiln-berlin-07: −0.34 tok/s")
    assert said(reasons.why_line(view, 5, 6, 120)).endswith("does not answer")
    assert [said(row) for row in reasons.reason_lines(view, 0, 60, most=1)][-1].startswith(" rtt        −80.0 ms")
    assert columns._unsigned_zero(-0.001) == "0"
    assert [columns.signed(value) for value in (3.1, -0.4, 0.001)] == ["+3.10", "−0.40", "0"]


def test_stage_is_always_visible_and_says_who_is_a_spare() -> None:
    view = view_of(fakes.swarm())
    assert [BY_NAME["stage"].cell(view, row)[0] for row in range(6)] == ["1", "2", "3", "spare", "spare", "out"]
    for width in (53, 73, 133):
        assert "stage" in [column.name for column, _ in choose(width)]


def test_before_there_is_a_plan_the_order_is_what_is_known() -> None:
    view = view_of(fakes.swarm(), planned=False)
    order = ranking.order(view, "win", False, parse(""))
    rtt, layer, loss = view.figures.rtt50_ms, view.figures.layer_ms, view.figures.loss

    def bad(row: int) -> float:
        parts = [values[row] / np.nanmedian(values) - 1 for values in (rtt, layer) if np.isfinite(values[row])]
        return sum(parts) + (10 * loss[row] if np.isfinite(loss[row]) else 0.0)

    worst = [bad(int(row)) for row in order]
    assert worst == sorted(worst, reverse=True)


def test_first_run_says_the_line_to_paste() -> None:
    text = "\n".join(said(r) for r in overview_lines.first_run(None, "swarm-probe --join a:1", "a:1", 80, 20))
    assert "swarm-probe --join a:1" in text
    assert "What will appear" in text


def test_progress_counts_what_is_still_missing_and_is_silent_when_nothing_is() -> None:
    frame = fakes.swarm()
    assert said(overview_lines.progress(view_of(frame))) == " measuring  upload 5/6 · layer times 5/6"
    full = fakes.swarm(fakes.NAMES[:3])
    assert overview_lines.progress(view_of(full)) == ()


def test_lost_node_is_an_alert() -> None:
    frame = fakes.swarm()
    assert "alerts 2" in said(header(view_of(frame), 140))
    frame.nodes["state"][:] = State.OK
    assert "alerts" not in said(header(view_of(frame), 140))


def test_kind_of_a_link_rate_is_shown_in_the_peers_table() -> None:
    frame = fakes.swarm()
    frame.links["mbps_kind"][0, :] = Kind.BOUND
    text = "\n".join(said(r) for r in node_lines.peer_table(view_of(frame), 0, 0, 120, 10))
    assert "≥40.0" in text


# ---------------------------------------------------------------- fleets without links


def test_fleet_whose_links_nobody_measured_costs_no_matrix_and_reads_the_same() -> None:
    """One value for all pairs (stride 0) is how a fleet of 10,000 can be held at all."""
    spelled = Swarm.empty(fakes.swarm().facts, at_ns=fakes.NOW_NS)
    spelled.nodes["seen_ns"][:] = fakes.NOW_NS - NS_PER_S
    n = len(spelled)
    shared = dataclasses.replace(
        spelled, links={name: np.broadcast_to(column[0, 0], (n, n)) for name, column in spelled.links.items()}
    )
    assert no_links(shared)
    assert not no_links(spelled)
    one, other = (figures(frame, fakes.MODEL.name, fakes.NOW_NS) for frame in (spelled, shared))
    for name in (f.name for f in msgspec.structs.fields(one)):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    later = fakes.NOW_NS + 5 * NS_PER_S
    np.testing.assert_array_equal(aged(other, shared, later).age_s, aged(one, spelled, later).age_s)
