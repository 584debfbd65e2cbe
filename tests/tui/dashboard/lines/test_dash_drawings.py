"""Drawings without a terminal: their figures add up, they fit, and they omit nothing that matters."""

from __future__ import annotations

import dataclasses

import dash_fakes as fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.types import Breakdown, Engine, Prediction, Quantiles, Stage, StageCost
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.dashboard.lines.charts.band import band
from swarmtop.dashboard.lines.charts.histogram import histogram
from swarmtop.dashboard.lines.charts.series import smooth_bar
from swarmtop.dashboard.lines.drawings import graph, route_lines, world
from swarmtop.dashboard.lines.drawings.coverage import coverage
from swarmtop.dashboard.lines.drawings.token_route import folded, route_of, widths
from swarmtop.dashboard.lines.links import matrix, pictures
from swarmtop.dashboard.lines.links.grid import LinksState, Look
from swarmtop.dashboard.lines.overview.layout import SUMMARY, heights
from swarmtop.dashboard.lines.styled import Block, line, line_width, spread
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state.link_metrics import LINK_METRICS, scaled
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities


def prediction(compute: list[float], hops: list[float], *, back: float = 20.0, engine: Engine = "chain") -> Prediction:
    names = [f"node-{i:02}" for i in range(len(compute))]
    stages = tuple(StageCost(name, 4, c, h, 1.0, 1.0) for name, c, h in zip(names, compute, hops, strict=True))
    parts = Breakdown(sum(compute), sum(hops) + back, 3.0, 2.0)
    total = parts.compute + parts.network + parts.overhead + parts.head
    spread = Quantiles(total, total, total, total)
    return Prediction(
        "llama-2-70b", "fp16", engine, None, tuple(Stage(n, 4 * i, 4 * i + 3) for i, n in enumerate(names)), True,
        spread, Quantiles(1e3 / total, 1.0, 1e3 / total, 1.0), 1.0, spread, parts, stages, "rtt", (),
    )  # fmt: skip


def text(block: Block) -> str:
    return "\n".join("".join(part for part, _ in row) for row in block)


def slow_text(block: Block) -> str:
    return "".join(part for row in block for part, role in row if role == "slow")


THREE = prediction([12.1, 8.1, 9.0], [0.0, 20.3, 102.0])


@given(st.lists(st.floats(0.1, 500), min_size=1, max_size=30), st.integers(1, 30), st.sampled_from(["chain", "petals"]))
def test_parts_of_a_way_add_up_to_the_mean_token_however_they_fold(
    compute: list[float], most: int, engine: Engine
) -> None:
    found = prediction(compute, [0.0, *[7.0] * (len(compute) - 1)], engine=engine)
    drawn = route_lines.route(found)
    some = folded(drawn.parts, most)
    assert sum(part.ms for part in some) == pytest.approx(found.tpot_ms.mean)
    assert sum(part.machines for part in some if part.kind == "machine") == len(compute)
    assert drawn.slowest in some


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 12)), min_size=1, max_size=40), st.integers(1, 300))
def test_widths_fill_the_line_and_leave_each_label_its_room(parts: list[tuple[float, int]], width: int) -> None:
    least = [cells for _, cells in parts]
    found = widths([ms for ms, _ in parts], least, width)
    if sum(least) > width:
        assert found is None
        return
    assert found is not None
    assert sum(found) == width
    assert all(cells >= low for cells, low in zip(found, least, strict=True))


def test_widths_are_in_proportion_to_time_where_labels_leave_room() -> None:
    assert widths([10, 30, 60], [5, 5, 5], 100) == [10, 30, 60]
    assert widths([1, 33, 66], [10, 5, 5], 109) == [10, 33, 66]


@pytest.mark.parametrize(("width", "rows"), [(36, 12), (60, 2), (80, 2), (100, 3), (140, 3), (200, 3)])
@pytest.mark.parametrize("stages", [1, 3, 12, 60])
def test_strip_fits_and_shows_the_slowest_part_in_its_colour(width: int, rows: int, stages: int) -> None:
    compute = [5.0 + (i % 7) for i in range(stages)]
    hops = [0.0, *[20.0] * (stages - 1)]
    compute[stages // 2] = 345.0
    block = route_lines.strip(route_lines.route(prediction(compute, hops)), width, rows)
    assert 1 <= len(block) <= rows
    assert all(line_width(row) <= width for row in block)
    assert "345" in slow_text(block)
    assert f"node-{stages // 2:02}"[:2] in slow_text(block)


def test_a_way_by_the_client_is_marked_and_machines_that_share_layers_are_one_box() -> None:
    star = route_lines.route(prediction([10, 10, 10], [0, 20, 20], engine="petals"))
    assert [part.by_client for part in star.parts if part.kind == "path"] == [True, True, False]
    shared = prediction([10, 12], [5, 5], back=0.0)
    both = tuple(Stage(stage.node, 0, 7) for stage in shared.placement)
    drawn = route_of(dataclasses.replace(shared, placement=both))
    machines = [part for part in drawn.parts if part.kind == "machine"]
    assert [(part.machines, part.ms) for part in machines] == [(2, 12)]


def test_boxes_without_frames_are_drawn_where_frames_would_hide_machines() -> None:
    drawn = route_lines.route(THREE)
    narrow = text(route_lines.strip(drawn, 50, 3))
    assert all(name in narrow for name in ("node-00", "node-01", "node-02"))
    assert "┌" not in narrow
    assert "┌ node-00" in text(route_lines.strip(drawn, 100, 3))


def test_shorter_way_is_drawn_shorter_beside_the_longer_one() -> None:
    drawn = route_lines.route(THREE)
    whole = route_lines.strip(drawn, 140, 3)
    half = route_lines.strip(drawn, 140, 3, longest_ms=2 * drawn.total_ms)
    assert line_width(half[1]) < 0.6 * line_width(whole[1])


def test_band_has_its_line_inside_and_gaps_stay_empty() -> None:
    low, middle, high = [2.0] * 4 + [None] * 4, [5.0] * 4 + [None] * 4, [8.0] * 4 + [None] * 4
    block = band(low, middle, high, 4, 4, 10.0)
    drawn = text(block).splitlines()
    assert all(row[2:] == "  " for row in drawn)
    roles = [{role for part, role in row if part.strip()} for row in block]
    assert roles == [{"band"}, {"chart"}, {"band"}, {"band"}] or {"chart"} in roles
    assert sum("chart" in found for found in roles) == 1


@given(st.floats(0, 1.5), st.integers(1, 30))
def test_smooth_bar_fills_its_cells_and_shows_what_is_not_nothing(share: float, width: int) -> None:
    drawn = smooth_bar(share, width)
    assert len(drawn) == width
    assert (drawn.strip() == "") == (share == 0)


def test_coverage_names_who_holds_what_and_shows_a_gap() -> None:
    placement = (Stage("alpha", 0, 29), Stage("beta", 50, 79))
    bar, ruler = text(coverage(placement, {"beta": "lost"}, 100, 2)).splitlines()
    assert all(part in bar for part in ("alpha", "beta", "···"))
    assert ruler.split() == ["0", "50", "79"]
    assert any(role == "lost" for _, role in coverage(placement, {"beta": "lost"}, 100, 1)[0])


@pytest.mark.parametrize("size", [(40, 30), (60, 12), (80, 21), (100, 27), (140, 37), (200, 57)])
@pytest.mark.parametrize("nodes", [1, 6, 40, 1000])
@pytest.mark.parametrize("drawn", [False, True])
def test_parts_of_the_overview_fit_and_the_list_keeps_its_lines(size: tuple[int, int], nodes: int, drawn: bool) -> None:
    width, rows = size
    found = heights(width, rows, nodes, chart=drawn, way=drawn)
    rest = rows - SUMMARY - found.chart - found.way - found.layers - found.head - found.below
    assert rest >= min(nodes, 5)
    assert min(found.chart, found.way, found.layers, found.below - 1) >= 0
    if drawn and width >= 100:  # a screen with room leaves little of it blank
        assert rest - min(rest, nodes) <= max(2, rows // 5)
    if nodes == 1000:
        assert rest >= rows // 4


# ---------------------------------------------------------------- distributions, graph and map


@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=200), st.integers(30, 160), st.integers(4, 20))
def test_histogram_fits_and_says_its_median(found: list[float], width: int, rows: int) -> None:
    block = histogram(np.array(found), "ms", "links", width, rows)
    assert len(block) == rows
    assert all(line_width(row) <= width for row in block)
    assert f"p50 {quantities.figure(float(np.median(found)))}" in text(block)


def test_histogram_takes_a_log_scale_where_values_span_decades() -> None:
    assert "log scale" in text(histogram(np.array([1.0, 10.0, 1000.0]), "ms", "links", 80, 8))
    assert "log scale" not in text(histogram(np.array([20.0, 41.0, 52.0]), "ms", "links", 80, 8))


def test_shades_come_from_the_data_and_41_ms_is_none_of_52_ms() -> None:
    metric = LINK_METRICS[0]
    found = np.array([[np.nan, 20.0, 41.0], [52.0, np.nan, 80.0], [104.0, 41.0, np.nan]])
    limits = scaled(metric, found).limits
    assert sum(limit < 41.0 for limit in limits) != sum(limit < 52.0 for limit in limits)
    assert sorted(limits) == list(limits)
    nothing_lost = scaled(LINK_METRICS[2], np.zeros((3, 3)))
    assert matrix.shade(0.0, nothing_lost)[1] == "heat0"


def test_graph_puts_near_machines_near_and_is_the_same_each_time() -> None:
    at = np.array([[0.0, 0.0], [3.0, 0.0], [90.0, 0.0], [90.0, 4.0]])
    rtt = np.sqrt(((at[:, None] - at[None, :]) ** 2).sum(axis=2)) + 10.0
    np.fill_diagonal(rtt, np.nan)
    found = graph.positions(rtt)
    apart = np.sqrt(((found[:, None] - found[None, :]) ** 2).sum(axis=2))
    assert apart[0, 1] < apart[0, 2]
    assert apart[2, 3] < apart[1, 3]
    assert np.array_equal(found, graph.positions(rtt))
    assert np.isfinite(graph.positions(np.full((5, 5), np.nan))).all()


def test_map_knows_cities_and_regions_and_draws_them_where_they_are() -> None:
    assert world.place_of("Utrecht") == (52.1, 5.1)
    assert world.place_of("us-east-1b") == world.place_of("US-EAST-1")
    assert world.place_of("behind the moon") is None
    tokyo, seattle = world.place_of("Tokyo"), world.place_of("Seattle")
    assert tokyo is not None
    assert seattle is not None
    frame = world.frame_of([tokyo, seattle], 100, 30)
    (left, _), (right, _) = frame.dot(tokyo), frame.dot(seattle)
    assert 0 < left < right < 200  # over the Pacific, which is the shorter way
    assert frame == world.frame_of([tokyo, tokyo, seattle, seattle], 100, 30)  # two machines of one city
    assert world.land()[84 - 52, 180 + 5]  # the Netherlands
    assert not world.land()[84 - 40, 180 - 40]  # the Atlantic


def links_view(frame: Swarm) -> View:
    session = Session("x", "live", fakes.options())
    session.accept(frame)
    session.show(frame)
    view = session.view(fakes.NOW_NS)
    assert view is not None
    return view


def test_room_below_a_small_matrix_shows_its_distribution() -> None:
    view = links_view(fakes.swarm())
    assert "RTT p50, ms" in text(matrix.screen(view, LinksState(), 140, 37))
    assert "RTT p50, ms" not in text(matrix.screen(view, LinksState(), 60, 12))


def test_a_narrow_matrix_keeps_its_figures() -> None:
    drawn = text(matrix.screen(links_view(fakes.swarm()), LinksState(halves=True), 60, 12))
    assert "▀" not in drawn
    assert all(line_width(row) <= 60 for row in matrix.screen(links_view(fakes.swarm()), LinksState(), 60, 12))


def test_distributions_leave_out_what_nobody_measured() -> None:
    frame = fakes.swarm()
    frame.links["hop_p50_ms"][:] = np.nan
    assert "nothing measured" not in text(pictures.distributions(links_view(frame), LinksState(), 140, 30))


@pytest.mark.parametrize("look", ["graph", "map", "spread"])
@pytest.mark.parametrize("size", [(60, 12), (80, 21), (140, 37), (200, 57)])
def test_pictures_of_links_fit_every_screen(look: Look, size: tuple[int, int]) -> None:
    view = links_view(fakes.swarm())
    block = pictures.screen(view, LinksState(look=look), *size)
    assert len(block) == size[1]
    assert all(line_width(row) <= size[0] for row in block)


def test_a_text_that_is_cut_keeps_a_space_before_the_text_at_the_right_edge() -> None:
    """`w chang…sort gain` read as one word."""
    left, right = line("showing q8_0; w changes it"), line("sort gain")
    texts = ["".join(text for text, _ in spread(left, right, width)) for width in (30, 40)]
    assert texts == ["showing q8_0; w cha… sort gain", "showing q8_0; w changes it     sort gain"]
