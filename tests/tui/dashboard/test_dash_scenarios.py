"""Situations written as files: a swarm by hand, the real planner, and what each screen says. No terminal, no clock.

A user's report becomes a case by its swarm file. Unknown keys are refused, so that no expectation goes unchecked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import dash_fakes as fakes
import msgspec
import pytest

from swarm_predict.model.catalogue import model_named
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop.analysis.analysis import analyse
from swarmtop.analysis.ranking.filter import parse
from swarmtop.dashboard.lines import header_footer, node_lines, styled, timeline_lines
from swarmtop.dashboard.lines.columns import choose
from swarmtop.dashboard.lines.links import grid, matrix
from swarmtop.dashboard.lines.overview import around_ranking, ranking
from swarmtop.dashboard.lines.placement import placement_lines
from swarmtop.dashboard.lines.styled import Block
from swarmtop.dashboard.session import Session
from swarmtop.dashboard.state.view import View
from swarmtop.sources.source import History

FILES = sorted((Path(__file__).parents[2] / "scenarios" / "dash").glob("*.toml"))


class Look(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    screen: Literal["overview", "node", "links", "placement", "time"]
    size: tuple[int, int]
    shows: tuple[str, ...]
    hides: tuple[str, ...]


class Kept(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    text: str
    keeps: tuple[str, ...]


class Scenario(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    title: str
    model: str
    swarm: str
    ranking: tuple[str, ...]
    look: tuple[Look, ...]
    filter: tuple[Kept, ...]


def overview_block(view: View, width: int, rows: int) -> Block:
    chosen = choose(width - ranking.MARGIN)
    order = ranking.order(view, "cost", False, parse("")).tolist()
    table = [ranking.row_line(view, chosen, row, rank, rank == 1) for rank, row in enumerate(order, 1)]
    return [
        around_ranking.summary(view, width),
        *table,
        *around_ranking.bottom(view, order[0], 1, width, 8),
        around_ranking.progress(view),
    ]


SCREENS: dict[str, Callable[[View, int, int], Block]] = {
    "overview": overview_block,
    "node": lambda view, width, rows: node_lines.screen(
        view, 0, (1, 2), node_lines.NodeState(), {"rtt_p99": History((), ())}, width, rows
    ),
    "links": lambda view, width, rows: matrix.screen(view, grid.LinksState(), width, rows),
    "placement": lambda view, width, rows: placement_lines.screen(view, placement_lines.PlacementState(), width, rows),
    "time": lambda view, width, rows: timeline_lines.screen(view, timeline_lines.TimeState(), width, rows),
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_screens_say_what_the_situation_is(file: Path) -> None:
    scenario = msgspec.toml.decode(file.read_bytes(), type=Scenario)
    swarm = parse_swarm(scenario.swarm, source="by hand")
    session = Session("by hand", "file", fakes.options(model=model_named(scenario.model)))
    session.accept(swarm)
    session.show(swarm)
    question = session.ask()
    assert question is not None
    session.answer(question, analyse(swarm, question.model, question.workload))
    view = session.view(fakes.NOW_NS)
    assert view is not None
    order = ranking.order(view, "cost", False, parse(""))
    assert tuple(swarm.facts[row].name for row in order) == scenario.ranking
    for look in scenario.look:
        width, height = look.size
        block = [header_footer.header(view, width), *SCREENS[look.screen](view, width, height - 3)]
        text = "\n".join("".join(part for part, _ in row) for row in block)
        assert max(styled.line_width(row) for row in block) <= width, look
        assert [part for part in look.shows if part not in text] == [], text
        assert [part for part in look.hides if part in text] == [], text
    for kept in scenario.filter:
        found = [f.name for f, holds in zip(swarm.facts, parse(kept.text).mask(view), strict=True) if holds]
        assert tuple(found) == kept.keeps, kept.text
