"""List the boxes for the spare space of each screen, the most useful first; a box without data is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from swarm_predict.types import Prediction
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.lines.panels import advice_lines, paths, token_time
from swarmtop.dashboard.lines.panels.arrange import Panel
from swarmtop.dashboard.lines.styled import Block, Line, line
from swarmtop.dashboard.state.memo import Newest
from swarmtop.dashboard.state.view import View

TALLEST_MAP: Final = 30  # lines
GRAPH_STANDS_NS: Final = 10 * NS_PER_S  # how long the graph of a live swarm stays as it is
MAX_PARTS: Final = 12  # of a token's time by machine
_newest: Final = Newest()  # what is drawn of a plan, by the name of the box


def _kept(name: str, of: tuple[object, ...], draw: Callable[[int, int], Block]) -> Callable[[int, int], Block]:
    """Return `draw`, cached until its input or its size changes."""
    return lambda width, rows: _newest(name, (*of, width, rows), lambda: draw(width, rows))


def on_overview(view: View, width: int) -> list[Panel]:
    """`width`: cells of the content of a box."""
    return [*helps(view, width), *spread(view), *split(view), *heat(view, width), *verdicts(view, width),
            *sure(view, width), *world(view), *if_lost(view, width), *front(view, width), *graph(view)]  # fmt: skip


def on_placement(view: View, width: int, shown: Sequence[tuple[str, Prediction]]) -> list[Panel]:
    return [*sure(view, width), *spread(view, shown), *helps(view, width), *front(view, width), *if_lost(view, width),
            *verdicts(view, width), *heat(view, width), *world(view), *graph(view)]  # fmt: skip


def on_time(view: View, width: int) -> list[Panel]:
    return [*spread(view), *split(view), *helps(view, width), *heat(view, width), *world(view), *graph(view),
            *verdicts(view, width), *sure(view, width), *if_lost(view, width)]  # fmt: skip


def on_node(view: View, width: int) -> list[Panel]:
    """Return the boxes apart from `spread`, which is below the text about the node."""
    return [*split(view), *heat(view, width), *world(view), *graph(view), *if_lost(view, width), *sure(view, width),
            *verdicts(view, width)]  # fmt: skip


# ---------------------------------------------------------------- the prediction


def helps(view: View, width: int, node: str | None = None) -> list[Panel]:
    """List what would help, each change alone; of one machine if `node` is given."""
    advice = view.advice
    found = advice_lines.gains_of(advice, node) if advice is not None else []
    if advice is None or not found:
        return []
    draw = _kept("helps", (advice, node or ""), lambda w, r: advice_lines.helps(advice, w, r, node))
    return [Panel(f"would help{' what runs' if _runs(view) else ''}, each alone", draw, len(found))]


def _runs(view: View) -> bool:
    """Return whether the advice is about a running placement rather than the plan used instead."""
    running = view.analysis.running if view.analysis is not None else None
    return running is not None and bool(running.placement)


def spread(view: View, shown: Sequence[tuple[str, Prediction]] = ()) -> list[Panel]:
    """Show how the time of a token varies: of what runs, or of the plan used instead; `shown`: of these."""
    stands = view.analysis.stands if view.analysis is not None else None
    some = [(name, found) for name, found in shown or (("", stands),) if found is not None]
    some = [(name, found) for name, found in some if token_time.can_spread(found)]
    if not some:
        return []
    draw = _kept("spread", tuple(found for _, found in some), lambda w, r: token_time.spread(some, w, r))
    title = line(("time of a token, ms", "title"), ("  ▲ percentiles", "dim"))
    many = len(some)
    return [Panel(title, draw, many * token_time.WANTS, token_time.MIN_LINES, many * token_time.MAX_LINES, chart=True)]


def split(view: View) -> list[Panel]:
    stands = view.analysis.stands if view.analysis is not None else None
    if stands is None:
        return []
    draw = _kept("split", (stands,), lambda w, r: token_time.by_machine(stands, w, r))
    return [Panel("a token's time by machine", draw, min(MAX_PARTS, token_time.parts_wanted(stands)), least=3)]


def verdicts(view: View, width: int) -> list[Panel]:
    return _text(view, "good for", advice_lines.verdicts, width)


def sure(view: View, width: int) -> list[Panel]:
    return _text(view, "how sure the best plan is", advice_lines.sure, width)


def if_lost(view: View, width: int) -> list[Panel]:
    return _text(view, f"if a machine{' of what runs' if _runs(view) else ''} is lost", advice_lines.if_lost, width)


def front(view: View, width: int) -> list[Panel]:
    return _text(view, "between one stream and the total", advice_lines.front, width)


def _text(view: View, title: str, make: Callable[..., Block], width: int) -> list[Panel]:
    """Return a box as high as its text."""
    advice = view.advice
    if advice is None:
        return []
    found = _newest(title, (advice, width), lambda: make(advice, width))
    return [Panel(title, lambda _width, rows: found[:rows], len(found), least=len(found))] if found else []


# ---------------------------------------------------------------- the machines' places


def heat(view: View, width: int) -> list[Panel]:
    if not paths.has_round_trips(view):
        return []
    wants = paths.heat_wanted(view, width)
    draw = _kept("heat", (view.swarm, view.analysis), lambda w, r: paths.heat(view, w, r))
    return [Panel("round trips, ms, row to column", draw, wants, least=min(wants, 5))] if wants > 3 else []


def world(view: View) -> list[Panel]:
    if not paths.has_map(view):
        return []
    draw = _kept("map", paths.drawn_of(view), lambda w, r: paths.map_of(view, w, r))
    return [_picture(paths.map_title(view), draw)]


def graph(view: View) -> list[Panel]:
    if not paths.has_graph(view):
        return []
    moment = view.swarm.at_ns // GRAPH_STANDS_NS
    draw = _kept("graph", (*paths.drawn_of(view), moment), lambda w, r: paths.graph_of(view, w, r))
    return [_picture(paths.graph_title(view), draw)]


def _picture(title: Line, draw: Callable[[int, int], Block]) -> Panel:
    return Panel(title, draw, paths.MIN_MAP, paths.MIN_MAP, TALLEST_MAP, chart=True)
