"""The ranking: its figures, columns, order, filter and reasons."""

from __future__ import annotations

import contextlib
import dataclasses

import dash_fakes as fakes
import numpy as np
import pytest
from dash_views import said, session, view_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.ranking import reasons
from swarmtop.analysis.ranking.filter import FilterError, parse
from swarmtop.analysis.ranking.node_figures import aged, figures, no_links
from swarmtop.dashboard.lines import columns
from swarmtop.dashboard.lines.columns import BY_NAME, COLUMNS, choose
from swarmtop.dashboard.lines.overview import around_ranking, ranking
from swarmtop.dashboard.state.recent_rtt import BUCKET_NS, BUCKETS, Recent


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


def test_at_forty_cells_a_node_has_its_state_and_what_the_swarm_would_gain() -> None:
    """There was room for the name and the state alone, which do not say which machine to mend."""
    chosen = choose(40 - ranking.MARGIN - 1)
    assert [c.name for c, _ in chosen] == ["node", "state", "gain"]
    assert [c.name for c, _ in choose(31)] == ["node", "state"]


def test_clicking_a_title_finds_its_column() -> None:
    chosen = choose(120)
    head = said(ranking.header(chosen, "cost", False))
    for column, _ in chosen:
        assert ranking.column_at(chosen, head.index(column.title) + len(column.title) // 2) == column.name


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
        ("berlin)", ") has nothing to apply to"),
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
    order = ranking.order(view, "gain", False, parse(""))
    rtt, layer, loss = view.figures.rtt50_ms, view.figures.layer_ms, view.figures.loss

    def bad(row: int) -> float:
        parts = [values[row] / np.nanmedian(values) - 1 for values in (rtt, layer) if np.isfinite(values[row])]
        return sum(parts) + (10 * loss[row] if np.isfinite(loss[row]) else 0.0)

    worst = [bad(int(row)) for row in order]
    assert worst == sorted(worst, reverse=True)


def test_of_a_recording_being_read_nothing_is_called_unmeasured_and_nothing_is_planned() -> None:
    """Until its links have been read nobody knows whether they were measured."""
    frame = Swarm.empty(fakes.swarm().facts, at_ns=fakes.NOW_NS)
    unmeasured = said(ranking.row_line(view_of(frame, planned=False), choose(140), 0, 1, False))
    frame.unread = True
    unread = session(frame, planned=False)
    view = unread.view(fakes.NOW_NS)
    assert view is not None
    row = said(ranking.row_line(view, choose(140), 0, 1, False))
    assert row == unmeasured.replace("–", "…")
    assert "…" in row
    assert "being read" in said(around_ranking.summary(view, 140))
    assert said(around_ranking.progress(view)).startswith(" reading ")
    assert unread.ask() is None


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
    for name in one.__struct_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    later = fakes.NOW_NS + 5 * NS_PER_S
    np.testing.assert_array_equal(aged(other, shared, later).age_s, aged(one, spelled, later).age_s)
