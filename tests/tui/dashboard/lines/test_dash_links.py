"""The matrix of links: what a cell stands for, how it is drawn, and how one moves, zooms and groups."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from typing import Any

import dash_fakes as fakes
import dash_pilot
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.snapshot.swarm import Kind, Nat, Path, Transport, Why
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.lines.links import grid
from swarmtop.dashboard.lines.links import matrix as links_lines
from swarmtop.dashboard.lines.styled import Line, line_width
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state import mark
from swarmtop.dashboard.state.link_metrics import LINK_METRICS, LinkMetric, since_mark
from swarmtop.dashboard.state.view import View


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


def view_of(n: int = 6) -> View:
    names = fakes.NAMES if n == 6 else [f"node-{i:03}" for i in range(n)]
    session = Session("10.0.0.5:9470", "live", fakes.options())
    frame = fakes.swarm(names)
    session.accept(frame)
    session.show(frame)
    view = session.view(fakes.NOW_NS)
    assert view is not None
    return view


def said(row: Line) -> str:
    return "".join(text for text, _ in row)


# ---------------------------------------------------------------- what a cell says


def test_no_data_never_looks_like_a_small_value() -> None:
    for metric in LINK_METRICS:
        assert links_lines.shade(math.nan, metric)[0] == "?"
        assert "?" not in {links_lines.shade(v, metric)[0] for v in (0.0, 1.0, 50.0, 1e6)}


def test_a_pair_without_a_path_says_why_and_shows_the_detour_as_an_estimate() -> None:
    view = view_of()
    swarm = view.swarm
    a, b = 0, 1
    for column in ("rtt_p50_ms", "rtt_p99_ms", "loss", "hop_p50_ms"):
        swarm.links[column][a, b] = np.nan
    swarm.links["hop_bytes"][a, b] = 0
    swarm.nodes["nat"][[a, b]] = Nat.SYMMETRIC, Nat.ENDPOINT_INDEPENDENT
    swarm.links["why"][a, b] = Why.HARD_NATS
    swarm.links["path"][a, b], swarm.links["kind"][a, b] = Path.RELAYED, Kind.ESTIMATE
    swarm.links["rtt_p50_ms"][a, b] = 52.0
    lines = [said(line) for line in links_lines.cell_details(view, links_lines.LinksState(), grid.Pair(a, b, 1), 34)]
    assert " rtt ~52.0 p99 –" in lines
    assert " no path: hard NAT × NAT" in lines
    assert any(line.startswith(" rtt by the collector") for line in lines)
    # without an estimate the cell itself says that there is no path
    swarm.links["path"][a, b], swarm.links["kind"][a, b] = Path.NONE, Kind.NONE
    swarm.links["rtt_p50_ms"][a, b] = np.nan
    block = [said(line) for line in links_lines.screen(view, links_lines.LinksState(), 140, 40)]
    assert "× no path" in block[1]
    assert any("×     –" in line for line in block)


def test_ends_that_disagree_about_their_round_trip_are_shown_with_how_far() -> None:
    """Both measure the same path: where they do not agree, one of them is wrong, and the reader should know."""
    view = view_of()
    for there_ms, back_ms, says in ((80.0, 79.0, "agree (1"), (80.0, 20.0, "disagree (75"), (80.0, np.nan, "")):
        view.swarm.links["rtt_p50_ms"][0, 1], view.swarm.links["rtt_p50_ms"][1, 0] = there_ms, back_ms
        lines = [
            said(line) for line in links_lines.cell_details(view, links_lines.LinksState(), grid.Pair(0, 1, 1), 34)
        ]
        assert lines[-1].startswith(f" both ends {says}" if says else " only one end measured it"), lines[-1]


def test_a_hop_over_quic_and_one_where_only_tcp_passes_are_named() -> None:
    view = view_of()
    swarm = view.swarm
    a, b = 0, 1
    swarm.links["hop_bytes"][a, b], swarm.links["hop_p50_ms"][a, b] = 16_384, 45.0
    swarm.links["hop_transport"][a, b] = Transport.QUIC
    lines = [said(line) for line in links_lines.cell_details(view, links_lines.LinksState(), grid.Pair(a, b, 1), 34)]
    assert " hop 45.0 ms over QUIC" in lines
    swarm.links["hop_transport"][a, b] = Transport.TCP
    swarm.links["path"][a, b], swarm.links["why"][a, b] = Path.NONE, Why.UDP_BLOCKED
    swarm.nodes["nat"][b] = Nat.UDP_BLOCKED
    lines = [said(line) for line in links_lines.cell_details(view, links_lines.LinksState(), grid.Pair(a, b, 1), 110)]
    assert f"TCP only: UDP blocked at {swarm.facts[b].name}" in " ".join(lines)


def test_the_loss_of_recent_windows_stands_beside_that_of_the_newest_one() -> None:
    view = view_of()
    links = view.swarm.links
    links["loss"][0, 1], links["sent"][0, 1] = 0.0625, 16
    for pooled, packets, says in (
        (0.008, 940.0, " loss 6.2% of 16, lately 0.8% ±0.3%"),
        (0.0, 640.0, " loss 6.2% of 16, lately 0%"),
        (0.09, 16.0, " loss 6.2% of 16"),  # the newest window is all that there is
        (np.nan, 0.0, " loss 6.2% of 16"),
    ):
        links["pooled_loss"][0, 1], links["pooled_sent"][0, 1] = pooled, packets
        lines = [
            said(line) for line in links_lines.cell_details(view, links_lines.LinksState(), grid.Pair(0, 1, 1), 44)
        ]
        assert says in lines, lines


def test_more_ink_is_worse_whichever_way_the_metric_points() -> None:
    by_name = {m.name: m for m in LINK_METRICS}
    assert links_lines.shade(1e6, by_name["p50"])[0] == "█"
    assert links_lines.shade(1e6, by_name["mbps"])[0] == "·"


@pytest.mark.parametrize("metric", range(len(LINK_METRICS)))
def test_half_cells_have_the_shades_of_whole_ones(metric: int) -> None:
    view = view_of()
    state = grid.LinksState(metric=metric)
    drawn = grid.grid(view, state, 1)
    heats = links_lines._heats(drawn, LINK_METRICS[metric])
    for y, row in enumerate(heats):
        for x, letter in enumerate(row):
            whole = links_lines.shade(float(drawn.values[y, x]), LINK_METRICS[metric])[1].removeprefix("heat")
            assert letter == ("n" if x == y else {"?": "q"}.get(whole, whole))


def test_estimate_in_a_cell_carries_its_sign() -> None:
    text = "\n".join(said(row) for row in links_lines.screen(view_of(), grid.LinksState(), 140, 37))
    assert "~290" in text


# ---------------------------------------------------------------- pooling and groups


@given(st.integers(1, 30), st.integers(1, 8), st.sampled_from(grid.POOLS), st.integers(0, 2**32 - 1))
def test_pooling_loses_no_extreme_and_invents_no_value(n: int, per_cell: int, pool: grid.Pool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((n, n)) < 0.4, np.nan, rng.uniform(1, 100, (n, n)))
    out = grid.pooled(matrix, per_cell, pool)
    cells = -(-n // per_cell)
    assert out.shape == (cells, cells)
    for y in range(cells):
        for x in range(cells):
            block = matrix[y * per_cell : (y + 1) * per_cell, x * per_cell : (x + 1) * per_cell]
            assert out[y, x] == pytest.approx(of_block(block, pool), nan_ok=True)


def of_block(block: Any, pool: grid.Pool) -> float:
    kept = block[np.isfinite(block)]
    if not len(kept):
        return math.nan
    return float({"max": np.max, "min": np.min, "median": np.median}[pool](kept))


@pytest.mark.parametrize("pool", grid.POOLS)
def test_group_is_pooled_over_all_its_links_and_none_of_others(pool: grid.Pool) -> None:
    view = view_of(20)
    state = grid.LinksState(group="region", pool=pool)
    drawn = grid.grid(view, state, 1)
    names = grid.group_names(view, "region")
    regions = sorted(set(names))
    assert drawn.values.shape == (len(regions), len(regions))
    matrix = grid.values(view, LINK_METRICS[0])
    for y, source in enumerate(regions):
        for x, target in enumerate(regions):
            rows = [i for i, name in enumerate(names) if name == source]
            columns = [i for i, name in enumerate(names) if name == target]
            assert drawn.values[y, x] == pytest.approx(of_block(matrix[np.ix_(rows, columns)], pool), nan_ok=True)


def test_details_are_of_the_link_that_the_pooling_picked() -> None:
    view = view_of(60)
    state = grid.LinksState(source=13, target=40)
    drawn = grid.grid(view, state, 10)
    y, x = drawn.cell(13, 40)
    chosen = grid.pair(view, state, drawn)
    assert grid.values(view, LINK_METRICS[0])[chosen.source, chosen.target] == drawn.values[y, x]
    assert chosen.of == 100
    assert "worst of 100 links" in said(links_lines.cell_details(view, state, chosen, 80)[0])


# ---------------------------------------------------------------- where it stands


@pytest.mark.parametrize("size", [(60, 12), (80, 21), (140, 37)])
@pytest.mark.parametrize("n", [2, 6, 40, 300])
@pytest.mark.parametrize("group", grid.GROUPS)
@pytest.mark.parametrize("halves", [False, True])
def test_matrix_fits_every_screen(size: tuple[int, int], n: int, group: grid.Group, halves: bool) -> None:
    drawn = links_lines.screen(view_of(n), grid.LinksState(group=group, halves=halves), *size)
    assert len(drawn) == size[1]
    assert max(line_width(row) for row in drawn) <= size[0]


def test_two_rows_a_line_halve_how_many_nodes_share_a_cell() -> None:
    whole, halved = (grid.shape(200, 140, 37, halves) for halves in (False, True))
    assert halved.halves
    assert halved.per_cell <= whole.per_cell / 2 + 0.5
    assert not grid.shape(20, 140, 37, True).halves  # where there is room, the figures stand in the cells


@pytest.mark.parametrize("n", [6, 200])
@pytest.mark.parametrize("halves", [False, True])
def test_mouse_finds_the_cell_it_is_on(n: int, halves: bool) -> None:
    view, state = view_of(n), grid.LinksState(halves=halves)
    where, drawn = links_lines.laid_out(view, state, 140, 37)
    lines = 2 if where.halves else 1
    assert grid.cell_at(where, drawn, where.left + 2 * where.stretch, where.top + 3) == (
        3 * lines * where.per_cell, 2 * where.per_cell
    )  # fmt: skip
    assert grid.cell_at(where, drawn, 0, 0) is None


@given(st.integers(2, 60), st.integers(1, 7), st.integers(0, 4), st.lists(st.sampled_from("udlrzZ"), max_size=30))
def test_cursor_never_leaves_the_window_nor_the_window_the_swarm(n: int, per: int, zoom: int, keys: list[str]) -> None:
    view = view_of(n)
    state = grid.framed(grid.LinksState(zoom=zoom), n)
    for key in keys:
        drawn = grid.grid(view, state, per)
        if key in "zZ":
            state = grid.zoomed(state, drawn, 1 if key == "z" else -1)
        else:
            dx, dy = {"u": (0, -1), "d": (0, 1), "l": (-1, 0), "r": (1, 0)}[key]
            state = grid.moved(state, drawn, dx, dy)
        span = state.window(n)
        assert 0 <= state.top <= state.source < state.top + span <= n
        assert 0 <= state.left <= state.target < state.left + span <= n


def test_arrows_reach_every_node_of_a_zoomed_matrix() -> None:
    view = view_of(30)
    state = grid.zoomed(grid.LinksState(), grid.grid(view, grid.LinksState(), 1), 2)
    seen = set()
    for _ in range(40):
        seen.add(state.source)
        state = grid.moved(state, grid.grid(view, state, 1), 0, 1)
    assert seen == set(range(30))


# ---------------------------------------------------------------- worst, and out


def test_worst_links_are_listed_worst_first() -> None:
    view = view_of()
    p50 = LINK_METRICS[0]
    found = links_lines.worst_pairs(view, p50, 5)
    assert [v for _, _, v in found] == sorted((v for _, _, v in found), reverse=True)
    rate = next(m for m in LINK_METRICS if m.name == "mbps")
    view.swarm.links["mbps"][1, 2] = 0.5
    assert links_lines.worst_pairs(view, rate, 1)[0] == (1, 2, 0.5)


def test_matrix_as_csv_is_plain_numbers_with_gaps_empty_and_names_defused() -> None:
    frame = fakes.swarm(["=1+1", *fakes.NAMES[1:]])
    session = Session("x", "live", fakes.options())
    session.accept(frame)
    session.show(frame)
    view = session.view(fakes.NOW_NS)
    assert view is not None
    rows = list(csv.reader(io.StringIO(links_lines.as_csv(view, LINK_METRICS[0]))))
    assert rows[0][1] == rows[1][0] == "'=1+1"
    assert rows[1][1] == ""  # to itself
    assert rows[3][4] == ""  # not measured
    assert float(rows[1][2]) == frame.links["rtt_p50_ms"][0, 1]


async def test_keys_zoom_group_and_say_what_is_shown() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm([f"node-{i:03}" for i in range(120)])), fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("3")
        await fakes.settle(app, pilot)
        assert "120 nodes by region" in fakes.screen_text(app)
        assert "▀▀▀" in fakes.screen_text(app)
        await pilot.press("z", "z", "z", "z")
        await fakes.settle(app, pilot)
        assert "8×8 shown (zoom 4)" in fakes.screen_text(app)
        await pilot.press("Z")
        await fakes.settle(app, pilot)
        assert "15×15 shown (zoom 3)" in fakes.screen_text(app)
        await pilot.press("b")
        await fakes.settle(app, pilot)
        assert "groups by region of 120 nodes, max of each" in fakes.screen_text(app)
        assert "eu-n (40)" in fakes.screen_text(app)
        await pilot.press("z")
        assert "b returns to single nodes" in app.notice()


# ---------------------------------------------------------------- since the mark


def marked_view(now: View) -> View:
    """`now` of a minute later, beside a mark of six nodes."""
    kept = mark.take(view_of(6))
    return dataclasses.replace(now, mark=kept)


def metric_named(name: str) -> LinkMetric:
    return next(metric for metric in LINK_METRICS if metric.name == name)


def test_difference_is_in_per_cent_of_then_and_of_losses_in_points() -> None:
    view = marked_view(view_of(6))
    a, b = 1, 2
    before = float(view.swarm.links["rtt_p50_ms"][a, b])
    view.swarm.links["rtt_p50_ms"][a, b] = 1.5 * before
    view.swarm.links["loss"][a, b] += 0.03
    view.swarm.links["mbps"][a, b] *= 0.4
    for name, expected, heat in (("p50", 50.0, "heat3"), ("loss", 3.0, "heat3"), ("mbps", -60.0, "heat4")):
        metric = since_mark(metric_named(name))
        matrix = grid.values(view, metric)
        assert matrix[a, b] == pytest.approx(expected, rel=1e-4)
        assert links_lines.shade(float(matrix[a, b]), metric)[1] == heat
        assert matrix[b, a] == pytest.approx(0.0, abs=1e-4) or np.isnan(matrix[b, a])


def test_who_was_not_there_at_the_mark_differs_from_nothing() -> None:
    view = marked_view(view_of(8))
    matrix = grid.values(view, since_mark(metric_named("p50")))
    old = [row for row, facts in enumerate(view.swarm.facts) if facts.node_id in view.mark.links.rows]  # type: ignore[union-attr]
    new = [row for row in range(8) if row not in old]
    assert len(old) == 6
    assert np.isnan(matrix[new]).all()
    assert np.isnan(matrix[:, new]).all()
    assert np.isfinite(matrix[np.ix_(old, old)]).any()


def test_nodes_that_changed_places_are_compared_with_themselves() -> None:
    view = marked_view(view_of(6))
    turned = [5, 4, 3, 2, 1, 0]
    for column in view.swarm.links:
        view.swarm.links[column][:] = view.swarm.links[column][np.ix_(turned, turned)]
    swarm = dataclasses.replace(view.swarm, facts=tuple(view.swarm.facts[row] for row in turned))
    matrix = grid.values(dataclasses.replace(view, swarm=swarm), since_mark(metric_named("p50")))
    assert np.nanmax(np.abs(matrix)) < 1e-4


async def test_key_shows_the_difference_and_without_a_mark_says_what_to_do() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("3", "d")
        await fakes.settle(app, pilot)
        assert "M marks this moment" in fakes.screen_text(app)
        await pilot.press("M", "d")
        await fakes.settle(app, pilot)
        text = fakes.screen_text(app)
        assert "RTT p50 since the mark" in text
        assert ">+100" in text
        assert " since " in text.partition("cell")[2]
        await pilot.press("d")
        await fakes.settle(app, pilot)
        assert "since the mark %" not in fakes.screen_text(app)
