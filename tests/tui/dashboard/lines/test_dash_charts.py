"""Padding, cutting, boxes and charts: every line has exactly its width."""

from __future__ import annotations

import math

from dash_views import said
from hypothesis import given
from hypothesis import strategies as st

from swarmtop.dashboard.lines.charts import series as charts
from swarmtop.dashboard.lines.styled import beside, box, clean, cut, fit, line, line_width, pad, text_width

VALUES = st.lists(st.one_of(st.none(), st.just(math.nan), st.floats(0, 1e6)), max_size=300)


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


@given(st.floats(1e-6, 1e9), st.integers(1, 60))
def test_labels_of_an_axis_are_exact_and_fit_beside_it(highest: float, rows: int) -> None:
    """A path of microseconds had `0.003…` beside its chart: a third of 0.01."""
    top = charts.nice_top(highest)
    for step in (rows // charts.parts_of_axis(top, rows), charts.lines_apart(top, rows)):
        for row in range(0, rows, step):
            value = top * (rows - row) / rows
            label = charts.axis_label(value)
            assert len(label) <= charts.MAX_LABEL
            assert math.isclose(float(label), value, rel_tol=1e-9)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=5), st.integers(1, 100))
def test_stacked_bar_shares_out_every_cell(parts: list[float], width: int) -> None:
    total = sum(parts)
    cells = charts.stacked([(part, "x") for part in parts], total, width)
    assert sum(n for _, n in cells) == (width if total > 0 else 0)
