"""The boxes of screens with room: they fit, they are no higher than their content, and they are drawn once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dash_advice
import dash_fakes as fakes
import dash_pilot
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.model.catalogue import model_named
from swarm_predict.search.solve import plan
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop.analysis.analysis import Analysis
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.lines import node_lines, timeline_lines
from swarmtop.dashboard.lines.columns import offered as offered_columns
from swarmtop.dashboard.lines.links import matrix, pictures
from swarmtop.dashboard.lines.links.grid import LinksState
from swarmtop.dashboard.lines.overview import around_ranking, cards
from swarmtop.dashboard.lines.panels import advice_lines, box_catalogue, paths, token_time
from swarmtop.dashboard.lines.panels.arrange import FRAME, Panel, arrange, assign
from swarmtop.dashboard.lines.placement import placement_lines
from swarmtop.dashboard.lines.styled import Block, line, line_width
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state.advice import advise
from swarmtop.dashboard.state.memo import Newest
from swarmtop.dashboard.state.planner_question import Question
from swarmtop.dashboard.state.view import View
from swarmtop.sources.source import Mode

EXAMPLES = Path(__file__).parents[4] / "examples"
BIG = [(120, 57), (140, 57), (200, 57), (200, 97), (300, 77)]


def text(block: Block) -> str:
    return "\n".join("".join(part for part, _ in row) for row in block)


def view_of(frame: Swarm, mode: Mode = "live", answer: Callable[..., Analysis] = dash_advice.analyse) -> View:
    """A view with its answer and the advice about it."""
    options = fakes.options()
    session = Session("x", mode, options)
    session.accept(frame)
    session.show(frame)
    found = answer(frame, options.model, options.workload, None)
    session.answer(Question(1, frame, options.model, options.workload, None), found)
    if found.plan is not None and found.stands is not None:
        session.advice = dash_advice.advise(frame, options.model, options.workload, found.stands, found.plan)
    view = session.view(fakes.NOW_NS)
    assert view is not None
    return view


# ---------------------------------------------------------------- where boxes stand


def panel(wants: int, least: int, most: int, *, chart: bool) -> Panel:
    return Panel("x", lambda width, rows: [line("·" * width)] * rows, wants, least, most, chart)


PANELS = st.lists(
    st.builds(
        lambda least, more, most, chart: panel(least + more, least, least + more + most, chart=chart),
        st.integers(1, 8), st.integers(0, 8), st.integers(0, 20), st.booleans(),
    ),
    max_size=12,
)  # fmt: skip


@given(PANELS, st.integers(20, 300), st.integers(0, 80), st.sampled_from([None, 1, 2, 3]))
def test_boxes_fit_and_none_is_higher_than_it_profits_from(
    panels: list[Panel], width: int, rows: int, count: int | None
) -> None:
    block = arrange(panels, width, rows, count)
    assert len(block) == rows
    assert all(line_width(row) == width for row in block)
    for stack in assign(panels, count or 2, rows):
        assert sum(lines + FRAME for _, lines in stack) <= rows
        assert all(each.least <= lines <= each.top for each, lines in stack)


def test_spare_lines_go_to_charts_before_lists() -> None:
    lists, chart = panel(4, 1, 40, chart=False), panel(6, 6, 20, chart=True)
    [stack] = assign([lists, chart], 1, 30)
    assert [lines for _, lines in stack] == [6, 20]
    [stack] = assign([lists, chart], 1, 20)
    assert [lines for _, lines in stack] == [4, 12]


def test_each_column_gets_a_chart_before_one_gets_two() -> None:
    """Though the column of the first chart has more room left than that of the list."""
    chart, words = panel(6, 6, 20, chart=True), panel(15, 15, 15, chart=False)
    stacks = assign([chart, words, chart], 2, 40)
    assert [[each.chart for each, _ in stack] for stack in stacks] == [[True], [False, True]]


# ---------------------------------------------------------------- what is in them


def test_parts_by_machine_add_up_to_the_mean_token() -> None:
    found = dash_advice.analyse(fakes.swarm(), fakes.MODEL, Workload(), None).best
    assert found is not None
    shown = text(token_time.by_machine(found, 70, 20))
    figures = [float(row.split(" ms")[0].split()[-1]) for row in shown.splitlines()[:-1]]
    assert sum(figures) == pytest.approx(found.tpot_ms.mean, abs=1.0)
    assert len(figures) == token_time.parts_wanted(found) - 1


def test_parts_without_room_keep_the_longest_and_count_the_rest() -> None:
    found = dash_advice.analyse(fakes.swarm(), fakes.MODEL, Workload(), None).best
    assert found is not None
    shown = text(token_time.by_machine(found, 70, 4))
    assert "dorm-4090-b" in shown
    assert "3 more" in shown
    assert len(shown.splitlines()) == 4


def test_two_distributions_stand_on_one_axis() -> None:
    found = dash_advice.analyse(fakes.swarm(), fakes.MODEL, Workload(), None)
    assert found.best is not None
    assert found.stands is not None
    block = token_time.spread([("best", found.best), ("running", found.stands)], 80, 24)
    axes = ["".join(c for c in row if c not in "▲─") for row in text(block).splitlines() if "└" in row]
    assert len(axes) == 2
    assert axes[0] == axes[1]
    assert len(block) == 24
    assert len(token_time.spread([("best", found.best)], 80, 8)) == 8


def test_what_helps_nothing_is_left_out_and_the_best_comes_first() -> None:
    view = view_of(fakes.swarm())
    assert view.advice is not None
    shown = text(advice_lines.helps(view.advice, 70, 8)).splitlines()
    assert shown[0].startswith("all ")
    assert len(shown) == 3
    assert "+8 GiB" not in "".join(shown)
    own = text(advice_lines.helps(view.advice, 34, 8, "lofi-osaka-3080")).splitlines()
    assert len(own) == 1
    assert "+10 Mbit/s up" in own[0]


@pytest.mark.parametrize(("width", "barred"), [(62, True), (60, False)])
def test_bar_of_advice_gives_way_to_its_words(width: int, barred: bool) -> None:
    view = view_of(fakes.swarm())
    assert view.advice is not None
    shown = text(advice_lines.helps(view.advice, width, 8))
    assert "−20 ms round trip " in shown
    assert ("█" in shown) is barred


def test_advice_of_a_real_plan_has_every_part() -> None:
    """The planner's own answers, as the thread gets them."""
    frame, model, load = parse_swarm((EXAMPLES / "garage.toml").read_text()), model_named("llama-2-13b"), Workload()
    found = plan(frame, model, load)
    advice = advise(frame, model, load, found.prediction, found)
    assert advice is not None
    assert advice_lines.gains_of(advice)
    for part in (advice_lines.sure, advice_lines.verdicts, advice_lines.if_lost, advice_lines.front):
        block = part(advice, 60)
        assert block
        assert all(line_width(row) > 0 for row in block)
    assert {loss.node for loss in advice.losses} == {stage.node for stage in found.prediction.placement}


def test_boxes_without_data_are_left_out() -> None:
    """No advice, no distribution, no round trip, no place: no box, rather than an empty one."""
    frame = fakes.swarm()
    for column in ("rtt_p50_ms", "rtt_p99_ms"):
        frame.links[column][:] = np.nan
    frame = dataclasses.replace(frame, facts=tuple(dataclasses.replace(f, region="") for f in frame.facts))
    view = dataclasses.replace(view_of(frame, answer=fakes.cannot_plan), advice=None)
    assert box_catalogue.on_overview(view, 60) == []
    assert box_catalogue.on_placement(view, 60, ()) == []
    assert box_catalogue.on_node(view, 60) == []


def test_heat_map_begins_with_the_placement_and_shows_gaps_as_gaps() -> None:
    view = view_of(fakes.swarm())
    shown = text(paths.heat(view, 80, 20)).splitlines()
    assert [row.split()[0] for row in shown[1:4]] == ["dorm-4090-b", "lofi-osaka-30…", "kiln-berlin-07"]
    assert any("–" in row for row in shown)
    assert "no data" in shown[-1]
    assert paths.heat(view, 10, 20) == []


# ---------------------------------------------------------------- cards


def test_memory_of_a_card_that_was_not_measured_is_a_dash() -> None:
    frame = fakes.swarm()
    frame.nodes["vram_free_bytes"][0] = np.nan
    row = text(cards.all_cards(view_of(frame), 60, 20)).splitlines()
    mine = next(each for each in row if each.startswith("kiln"))
    assert mine.rstrip().endswith("–")
    assert "1.5/24.0" in text(cards.all_cards(view_of(frame), 60, 20))


def test_file_and_machines_without_a_card_have_no_memory_in_use() -> None:
    frame = fakes.swarm()
    frame.nodes["gpu_util_percent"][:] = np.nan
    assert cards.shown(view_of(frame))
    assert not cards.shown(view_of(frame, "file"))
    plain = dataclasses.replace(frame, facts=tuple(dataclasses.replace(f, device="cpu: AMD EPYC") for f in frame.facts))
    assert not cards.shown(view_of(plain))
    assert "– free of 24.0 GiB" in text(node_lines.hardware(view_of(frame, "file"), 0))


def test_columns_that_stay_empty_in_a_file_are_left_out_unless_chosen() -> None:
    assert {"age", "recent"} <= {c.name for c in offered_columns((), marked=False)}
    still = [c.name for c in offered_columns((), marked=False, past=False)]
    assert not {"age", "recent"} & set(still)
    assert len(still) == len(offered_columns((), marked=False)) - 2
    assert "age" in [c.name for c in offered_columns(("age",), marked=False, past=False)]


# ---------------------------------------------------------------- whole screens


def screens(view: View, width: int, rows: int) -> dict[str, Block]:
    state = placement_lines.PlacementState()
    return {
        "overview": around_ranking.bottom(view, 0, 1, width, rows - 20),
        "node": node_lines.screen(view, 0, (1, 6), node_lines.NodeState(), {}, width, rows),
        "links": matrix.screen(view, LinksState(), width, rows),
        "placement": placement_lines.screen(view, state, width, rows),
        "time": timeline_lines.screen(view, timeline_lines.TimeState(), width, rows),
    }


@pytest.mark.parametrize("size", BIG)
@pytest.mark.parametrize("mode", ["live", "file"])
def test_big_screens_fit_and_leave_little_blank(size: tuple[int, int], mode: Mode) -> None:
    width, rows = size
    for name, block in screens(view_of(fakes.swarm(), mode), width, rows).items():
        assert len(block) == rows - 20 * (name == "overview"), name
        assert all(line_width(row) <= width for row in block), name
        if rows == 57:
            blank = sum(not "".join(part for part, _ in row).strip(" │") for row in block)
            assert blank <= len(block) // 4, (name, blank)


# ---------------------------------------------------------------- drawn once, asked for where there is room


def test_newest_draws_again_only_for_another_object_or_size() -> None:
    newest, drawn = Newest(), []
    one, other = [1], [1]

    def draw() -> int:
        drawn.append(1)
        return len(drawn)

    assert [newest("a", (one, 60), draw), newest("a", (one, 60), draw)] == [1, 1]
    assert newest("b", (one, 60), draw) == 2
    assert newest("a", (other, 60), draw) == 3
    assert newest("a", (other, 61), draw) == 4


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


class Counting:
    def __init__(self) -> None:
        self.asked: list[Prediction] = []

    def __call__(self, frame: Swarm, model: Any, workload: Workload, found: Prediction, plan: Any) -> Any:
        self.asked.append(found)
        return dash_advice.advise(frame, model, workload, found, plan)


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 40)])
async def test_file_of_few_machines_fills_smaller_screens_as_well(size: tuple[int, int]) -> None:
    options = fakes.options(analyse=dash_advice.analyse, advise=dash_advice.advise)
    app = Dashboard(fakes.FakeSource(fakes.swarm(fakes.NAMES[:4]), mode="file"), options)
    async with app.run_test(size=size) as pilot:
        await fakes.ready(app, pilot)
        await fakes.until(pilot, lambda: app.advising.settled(app.screen), "the advice")
        await fakes.settle(app, pilot)
        shown = fakes.screen_text(app)
        assert "would help" in shown
        assert sum(not row.strip() for row in shown.splitlines()) <= 4


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize(("size", "times"), [((80, 24), 0), ((140, 40), 0), ((200, 60), 1)])
async def test_advice_is_asked_for_once_and_only_where_a_screen_has_room(size: tuple[int, int], times: int) -> None:
    counting = Counting()
    options = fakes.options(analyse=dash_advice.analyse, advise=counting)
    app = Dashboard(fakes.FakeSource(fakes.swarm()), options)
    async with app.run_test(size=size) as pilot:
        await fakes.ready(app, pilot)
        await fakes.until(pilot, lambda: app.advising.settled(app.screen), "the advice")
        for _ in range(3):
            await fakes.settle(app, pilot)
        assert len(counting.asked) == times
        assert ("would help" in fakes.screen_text(app)) == bool(times)


@pytest.mark.usefixtures("brisk")
async def test_live_advice_rests_while_frames_come_but_not_for_another_placement() -> None:
    counting = Counting()
    source = fakes.FakeSource(fakes.swarm())
    app = Dashboard(source, fakes.options(analyse=dash_advice.analyse, advise=counting))
    async with app.run_test(size=(200, 60)) as pilot:
        await fakes.ready(app, pilot)
        await fakes.until(pilot, lambda: len(counting.asked) == 1, "the advice")
        source.put(fakes.swarm(at_ns=fakes.NOW_NS + 10**9))
        await fakes.until(pilot, lambda: app.session.analysis.at_ns > fakes.NOW_NS, "the next answer")
        await fakes.settle(app, pilot)
        assert len(counting.asked) == 1
        source.put(fakes.swarm(fakes.NAMES[::-1], at_ns=fakes.NOW_NS + 2 * 10**9))
        await fakes.until(pilot, lambda: len(counting.asked) == 2, "advice about the other placement")


@pytest.mark.usefixtures("brisk")
async def test_map_is_drawn_once_while_keys_and_ticks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = pictures.map_dots

    def counted(*args: Any) -> Any:
        drawn.append(1)
        return real(*args)

    monkeypatch.setattr(pictures, "map_dots", counted)
    options = fakes.options(analyse=dash_advice.analyse, advise=dash_advice.advise)
    app = Dashboard(fakes.FakeSource(fakes.swarm(), mode="file"), options)
    async with app.run_test(size=(200, 60)) as pilot:
        await fakes.ready(app, pilot)
        await fakes.until(pilot, lambda: app.advising.settled(app.screen), "the advice")
        await fakes.settle(app, pilot)
        before = len(drawn)
        assert before > 0
        await pilot.press("down", "down", "up")
        for _ in range(3):
            await fakes.settle(app, pilot)
        assert len(drawn) <= before + 1  # another story may leave another height, once
