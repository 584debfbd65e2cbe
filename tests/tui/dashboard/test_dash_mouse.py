"""The mouse, the followed node, and how little is painted: counts rather than times, which CI can check."""

from __future__ import annotations

import dataclasses
from typing import Any

import dash_fakes as fakes
import dash_pilot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.events import MouseScrollDown
from textual.geometry import Offset, Region

from swarm_protocol.snapshot.swarm import State, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.lines import header_footer
from swarmtop.dashboard.lines.styled import Line, changed, fit, line_width
from swarmtop.dashboard.widgets.canvas import Canvas
from swarmtop.dashboard.widgets.table import Table


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    dash_pilot.brisk(monkeypatch)


async def click(pilot: Any, widget: str, x: int, y: int, times: int = 1) -> None:
    await pilot.click(widget, Offset(x, y), times=times)
    await fakes.settle(pilot.app, pilot)


async def test_footer_is_made_of_buttons_and_lists_take_clicks_and_the_wheel() -> None:
    app = Dashboard(fakes.FakeSource(fakes.swarm()), fakes.options())
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        footer = fakes.screen_text(app).splitlines()[-1]
        await click(pilot, "#bottom", footer.index("Node") + 1, 0)
        assert app.screen.name == "node"
        rows = fakes.screen_text(app).splitlines()
        third = next(y for y, row in enumerate(rows) if "dorm-4090-b" in row)
        await click(pilot, "#body", rows[third].index("dorm-4090-b"), third - 1)
        assert "> dorm-4090-b" in fakes.screen_text(app).splitlines()[third]
        app.screen.post_message(MouseScrollDown(app.screen, 0, 0, 0, 1, 0, False, False, False, screen_x=0, screen_y=0))
        await fakes.settle(app, pilot)
        assert "> dorm-4090-b" not in fakes.screen_text(app)
        await click(pilot, "#body", rows[third].index("dorm-4090-b"), third - 1, times=2)
        assert "dorm-4090-b" in fakes.screen_text(app).splitlines()[1]  # opened
        footer = fakes.screen_text(app).splitlines()[-1]
        await click(pilot, "#bottom", footer.index("q quit") + 3, 0)
    assert app.return_code == 0


@given(st.lists(st.tuples(st.text("ab ", max_size=6), st.sampled_from(["key", "", "dim", "frame"])), max_size=12))
def test_every_cell_of_a_footer_belongs_to_one_key_or_none(parts: list[tuple[str, str]]) -> None:
    keys = {text for text, role in parts if role == "key"}
    for x in range(line_width(tuple(parts)) + 2):
        assert header_footer.key_at(tuple(parts), x) in {None, *keys}


async def test_followed_node_stays_in_sight_and_its_changes_are_reported() -> None:
    names = [f"node-{i:03}" for i in range(100)]
    source = fakes.FakeSource(fakes.swarm(names))
    app = Dashboard(source, fakes.options())
    async with app.run_test(size=(80, 24)) as pilot:
        await fakes.ready(app, pilot)
        await pilot.press("end", "F", "home")
        await fakes.settle(app, pilot)
        followed = app.session.followed
        name = next(f.name for f in app.session.shown.facts if f.node_id == followed)
        line = next(row for row in fakes.screen_text(app).splitlines() if row.startswith("F"))
        assert name in line
        assert "100" in line.split()[1]
        after = fakes.swarm(names, at_ns=fakes.NOW_NS + NS_PER_S)
        row = next(i for i, f in enumerate(after.facts) if f.node_id == followed)
        after.nodes["state"][row] = State.LOST if after.nodes["state"][row] != State.LOST else State.OK
        source.put(after)
        await fakes.until(pilot, lambda: " → " in app.notice(), "the news")
        assert app.notice().startswith(f"{name}: ")
        await pilot.press("end", "F")
        assert app.session.followed is None


# ---------------------------------------------------------------- how little is painted

SPANS = st.lists(st.tuples(st.text("abcä日", max_size=5), st.sampled_from(["", "dim"])), max_size=8)


@given(SPANS, SPANS, st.integers(1, 30))
def test_painting_what_changed_over_the_old_line_gives_the_new_one(
    before: list[tuple[str, str]], after: list[tuple[str, str]], width: int
) -> None:
    old, new = fit(tuple(before), width), fit(tuple(after), width)
    start, count = changed(old, new, width)
    assert 0 <= start <= start + count <= width
    cells_old, cells_new = cells(old), cells(new)
    assert cells_old[:start] == cells_new[:start]
    assert cells_old[start + count :] == cells_new[start + count :]


def cells(row: Line) -> list[tuple[str, str]]:
    """One entry a terminal cell; a wide character is two."""
    return [(c, role) for text, role in row for c in text for _ in range(line_width(((c, ""),)))]


class Asked:
    """Cells that widgets have asked to be painted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cells = 0
        for kind in (Canvas, Table):
            real = kind.refresh

            def refresh(widget: Any, *regions: Region, _real: Any = real, **options: Any) -> Any:
                self.cells += sum(r.area for r in regions) if regions else 0
                return _real(widget, *regions, **options)

            monkeypatch.setattr(kind, "refresh", refresh)


def fleet(n: int, at_ns: int) -> Swarm:
    """Nodes without links, as one value for every pair: a matrix of 10,000 nodes is no swarm that anybody measures."""
    import numpy as np

    from swarm_protocol.snapshot.columns import LINK_COLUMNS, NODE_COLUMNS
    from swarm_protocol.snapshot.swarm import Kind, NodeFacts

    facts = tuple(NodeFacts(f"{i:016x}", f"node-{i:05}") for i in range(n))
    nodes = {name: np.full(n, np.nan if kind is np.float64 else 0, kind) for name, kind in NODE_COLUMNS.items()}
    links = {
        name: np.broadcast_to(np.array(np.nan if kind is np.float64 else 0, kind), (n, n))
        for name, kind in LINK_COLUMNS.items()
    }
    nodes["state"][:] = State.OK
    nodes["seen_ns"][:] = at_ns
    nodes["up_mbps"][:] = 100.0 + np.arange(n) % 500
    nodes["up_kind"][:] = Kind.MEASURED
    return Swarm(at_ns, facts, nodes, links, source="fleet")


async def test_one_new_figure_among_ten_thousand_nodes_paints_one_cell_of_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = fleet(10_000, fakes.NOW_NS)
    source = fakes.FakeSource(first)
    app = Dashboard(source, fakes.options(analyse=fakes.cannot_plan))
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        asked = Asked(monkeypatch)
        nodes = dict(first.nodes) | {"up_mbps": first.nodes["up_mbps"].copy()}
        nodes["up_mbps"][3] = 777.0
        after = dataclasses.replace(first, nodes=nodes, _index={})
        source.put(after)
        await fakes.until(pilot, lambda: app.session.shown is after, "the frame")
        await fakes.settle(app, pilot)
        assert "777" in fakes.screen_text(app)
        assert 0 < asked.cells <= 20
        asked.cells = 0
        await pilot.press("down")
        await fakes.settle(app, pilot)
        assert asked.cells <= 4 * 140  # two lines of the table, and what stands below it about the node


async def test_frame_of_another_second_paints_the_clock_and_ages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [fakes.NOW_NS]
    source = fakes.FakeSource(fakes.swarm())
    app = Dashboard(source, fakes.options(now_ns=lambda: now[0]))
    async with app.run_test(size=(140, 40)) as pilot:
        await fakes.ready(app, pilot)
        asked = Asked(monkeypatch)
        now[0] += NS_PER_S
        await fakes.settle(app, pilot)
        assert asked.cells <= 6 * 20  # an age a node; a whole screen has 5600
