"""Draw the node screen of a large terminal: framed panes, each as high as its content, and further boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from swarm_protocol.snapshot.metrics import METRICS
from swarmtop.analysis.ranking.reasons import reason_lines
from swarmtop.dashboard.lines import node_cards
from swarmtop.dashboard.lines.node_lines import (
    SMALL_METRICS,
    NodeState,
    chart,
    chart_title,
    empty_reason,
    events,
    hardware,
    identity,
    peer_table,
    peers,
    small_chart,
    span_words,
    title_line,
)
from swarmtop.dashboard.lines.panels import box_catalogue
from swarmtop.dashboard.lines.panels.arrange import Panel, arrange, columns, inner_width
from swarmtop.dashboard.lines.styled import Block, beside, box, clean, fit, height, line, wrap
from swarmtop.dashboard.state.view import View
from swarmtop.sources.source import History

LEFT: Final = 38  # cells of the column that describes the node
EVENTS: Final = 4  # lines
SPARE: Final = 8  # lines that charts and peers must leave over before there are more boxes


def wide(view: View, row: int, place: tuple[int, int], state: NodeState, past: Mapping[str, History],
         width: int, rows: int) -> tuple[Block, bool]:  # fmt: skip
    """`rows` lines, and whether they have room for advice."""
    right = width - LEFT
    title = title_line(view, row, place, width)
    if view.standing == "file":  # it has no past: neither charts nor events
        return [title, *_still(view, row, state, width, rows - 1)], True
    body = rows - 1 - EVENTS
    missing = len(node_cards.missing_figures(view, row, right - 4))
    about_cards = 7 + len(view.swarm.facts[row].cards) + missing if node_cards.has_cards(view, row) else 0
    top = max(9, min(24, body - 3 - about_cards - (len(peers(view, row)) + 4)))  # the charts take what the rest leaves
    top -= (top - 3) % 4  # so that the axis has its marks at whole lines
    history = past.get(state.metric)
    drawn = chart(view, state, history, right - 4, top - 3, heading=False)
    pane = box(chart_title(state, history), drawn, right, top) + _small(view, row, state, past, right, body - top)
    rest = body - len(pane)
    listed = max(4, len(peers(view, row)) + 3)  # in a box
    room = rest - listed >= SPARE and view.analysis is not None
    if room:
        column = _column(view, row, state, body)
        pane += box("peers, worst first", peer_table(view, row, state.peer, right - 4, listed - 2), right, listed)
        pane += _more(view, right, rest - listed)
    else:
        costs = reason_lines(view, row, LEFT - 4)
        cost_rows = min(max(5, len(costs) + 2), body - 8)
        column = box("node", _about(view, row, state), LEFT, body - cost_rows)
        column += box("what it costs", costs, LEFT, cost_rows)
        pane += box("peers, worst first", peer_table(view, row, state.peer, right - 4, rest - 2), right, rest)
    happened = events(view, row, EVENTS - 2) or [line(("none", "dim"))]
    return [title, *beside([(column, LEFT), (pane, right)]), *box("events", happened, width, EVENTS)], room


def _small(view: View, row: int, state: NodeState, past: Mapping[str, History], width: int, rows: int) -> Block:
    """The small charts, and the machine's cards; a line of those where `rows` leaves the peers too little."""
    half = width // 2
    block = beside([
        (box(METRICS[m].label, [small_chart(m, past.get(m), w - 4)], w, 3), w)
        for m, w in zip(SMALL_METRICS, (half, width - half), strict=True)
    ])  # fmt: skip
    if node_cards.has_cards(view, row):
        cards = node_cards.panel(view, row, past, width - 4)
        if len(cards) + 2 > rows - 3 - 6:  # of the peers at least so many lines
            cards = [node_cards.one_line(view, row, width - 4)]
        device = clean(view.swarm.facts[row].device, 60) or "card"
        block += box(f"{device}, last {span_words(state)}", cards, width, len(cards) + 2)
    return block


def _about(view: View, row: int, state: NodeState) -> Block:
    known = [part for part in identity(view, row) if part]
    about = [fit(part, LEFT - 4) for part in (*known, (), *hardware(view, row, state.layer))]
    return about + wrap(empty_reason(view, row), LEFT - 4, "warn")


def _column(view: View, row: int, state: NodeState, rows: int) -> Block:
    """Draw the node's facts, its cost and what would help it, in boxes as high as their content."""
    costs = reason_lines(view, row, LEFT - 4)
    panels = [_text("node", _about(view, row, state)), *([_text("what it costs", costs)] if costs else [])]
    panels += [*box_catalogue.helps(view, LEFT - 4, view.swarm.facts[row].name), *box_catalogue.spread(view)]
    return arrange(panels, LEFT, rows, 1)


def _still(view: View, row: int, state: NodeState, width: int, rows: int) -> Block:
    """Draw a node of a swarm file: its facts, its peers, and its part in the plan."""
    right = width - LEFT
    listed = min(max(4, len(peers(view, row)) + 3), max(6, rows // 2))
    pane = box("peers, worst first", peer_table(view, row, state.peer, right - 4, listed - 2), right, listed)
    pane += _more(view, right, rows - listed)
    return beside([(_column(view, row, state, rows), LEFT), (pane, right)])


def _text(title: str, block: Block) -> Panel:
    return Panel(title, lambda _width, lines: height(block, lines), len(block))


def _more(view: View, width: int, rows: int) -> Block:
    """Draw boxes about the whole swarm in the spare lines."""
    return arrange(box_catalogue.on_node(view, inner_width(width, columns(width))), width, rows)
