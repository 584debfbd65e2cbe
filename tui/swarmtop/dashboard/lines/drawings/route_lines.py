"""Draw a token's path: machines as boxes, paths as arrows, each as wide as its time; the slowest is highlighted.

    ┌ fiber-1 ───────┐             ┌ limper ─────┐
    │ 12.1 ms        ├── 20.3 ms ──▶ 8.10 ms     ├━━━━━━ 102 ms ━━━━━━▶
    └ layers 0-2 ────┘             └ 3-5 ────────┘ back to fiber-1

With less height it is one line of boxes, and one of their times; on a phone, a line for each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarm_predict.types import Prediction
from swarmtop.dashboard.lines.drawings.token_route import Part, Route, folded, route_of, widths
from swarmtop.dashboard.lines.styled import NARROW, Block, Line, Span, clean, cut, fill_line, line, pad, text_width
from swarmtop.text import quantities

TALL: Final = 3  # lines of boxes with frames
LONGEST_NAME: Final = 24
_MIN_MACHINE: Final = 10  # cells, in frames
_MIN_PATH: Final = 7
_MIN_SHORT: Final = 6  # cells of a machine in one line
_MIN_SHORT_PATH: Final = 4
MIN_WIDTH: Final = 20
MIN_STRIP: Final = 12  # cells that a path gets at least, however much shorter than the one beside it


def route(found: Prediction) -> Route:
    """Return a token's path through this placement, by the pattern of its engine."""
    from swarm_predict.cost.engines import ENGINES  # loaded with the planner: whoever has a prediction has imported it

    return route_of(found, star=ENGINES[found.engine].pattern == "star")


def heading(title: str, drawn: Route, found: Prediction, width: int) -> Line:
    """Return `token route  runs 191 ms  slowest limper → fiber-2, 102 ms, 53%`."""
    slowest = drawn.slowest
    parts = [
        line((title, "title")),
        line((quantities.ms(drawn.total_ms), "strong"), (" a token, mean", "dim")),
        line(("slowest ", "dim"), (said(slowest), "slow"), (f" {_share(slowest, drawn)}", "")) if slowest else (),
        line(("○ via the client", "dim")) if any(part.by_client for part in drawn.parts) else (),
        line((f"{clean(found.engine, 20)}, {clean(found.weights, 20)}", "dim")),
    ]
    return fill_line(parts, width, "  ")


def said(part: Part) -> str:
    """Return `limper → fiber-2 102 ms`, `limper 8.10 ms`."""
    if part.kind == "path":
        ends = f"{clean(part.origin, LONGEST_NAME) or 'client'} → {clean(part.name, LONGEST_NAME)}"
        return f"{ends} {quantities.ms(part.ms)}"
    return f"{clean(part.name, LONGEST_NAME)} {quantities.ms(part.ms)}"


def _share(part: Part, drawn: Route) -> str:
    return quantities.percent(part.ms / drawn.total_ms if drawn.total_ms else None)


def strip(drawn: Route, width: int, rows: int, longest_ms: float | None = None) -> Block:
    """Return two lines, or three if `rows` allows; on a narrow screen, a line for each part. `longest_ms`: of a path
    drawn beside it on the same scale."""
    if not drawn.parts or width < MIN_WIDTH or rows < 1:
        return []
    if width < NARROW and rows >= len(folded(drawn.parts, 1)):
        return _column(drawn, width, rows)
    most = width - 1
    inner = most
    if longest_ms and longest_ms > drawn.total_ms:
        inner = max(min(most, MIN_STRIP), round(most * drawn.total_ms / longest_ms))
    framed = _laid_out(drawn, inner, most, tall=True) if rows >= TALL else None
    short = _laid_out(drawn, inner, most, tall=False)
    if framed is not None and (
        short is None or len(framed[0]) >= len(short[0])
    ):  # draw frames, unless they hide more parts
        return _framed(*framed, drawn)
    return _short(*short)[:rows] if short is not None else _column(drawn, width, rows)


def _laid_out(drawn: Route, width: int, most: int, *, tall: bool) -> tuple[list[Part], list[int]] | None:
    """Return the parts, folded as far as needed, and the width of each. None: there is no room for frames."""
    for many in range(len(drawn.parts), 0, -1):
        parts = folded(drawn.parts, many)
        times = [part.ms for part in parts]
        for names in (True, False):
            least = [_least(part, tall=tall, names=names) for part in parts]
            if sum(least) <= (most if names else width):
                return parts, widths(times, least, max(width, sum(least))) or least
        if len(parts) > many:  # no more can be folded
            break
    parts = folded(drawn.parts, 1)
    least = [_least(part, tall=tall, names=False) for part in parts]
    return (parts, least) if sum(least) <= most else None


def _least(part: Part, *, tall: bool, names: bool) -> int:
    """Return the cells that the label of a part needs. `names`: in full, up to a limit."""
    figure = len(quantities.figure(part.ms))
    if part.kind == "rest":
        return figure + 2
    if part.kind == "path":
        if not tall:
            return max(figure + 1, _MIN_SHORT_PATH)
        return max(figure + 4 + (3 if names else 0) + 2 * part.by_client, _MIN_PATH)
    name = min(text_width(clean(part.name, LONGEST_NAME)), LONGEST_NAME)
    if tall:
        return max(_MIN_MACHINE, name + 5 if names else 0, figure + 7)
    return max(_MIN_SHORT, (name + 2 + part.slowest) if names else 0, figure + 2)


# ---------------------------------------------------------------- three lines


def _framed(parts: Sequence[Part], cells: Sequence[int], drawn: Route) -> Block:
    rows: tuple[list[Span], list[Span], list[Span]] = ([(" ", "")], [(" ", "")], [(" ", "")])
    for i, (part, width) in enumerate(zip(parts, cells, strict=True)):
        if part.kind == "machine":
            from_path = i > 0 and parts[i - 1].kind == "path"
            to_path = i + 1 < len(parts) and parts[i + 1].kind == "path"
            made = _box(part, width, from_path=from_path, to_path=to_path)
        elif part.kind == "path":
            ends = i + 1 == len(parts) or parts[i + 1].kind != "machine"
            made = _arrow(part, width, ends=ends, home=drawn.client or part.name)
        else:
            blank = " " * width
            made = (
                [(blank, "")],
                [(pad(f" {quantities.figure(part.ms)}", width), "dim")],
                [(pad(" rest", width), "dim")],
            )
        for row, spans in zip(rows, made, strict=True):
            row.extend(spans)
    return [tuple(row) for row in rows]


def _box(part: Part, width: int, *, from_path: bool, to_path: bool) -> tuple[list[Span], list[Span], list[Span]]:
    frame = "slow" if part.slowest else "way-frame"
    dash = "╌" if part.folded else "─"
    text = "slow" if part.slowest else "strong"
    name = cut(_called(part), width - 4)
    layers = f"layers {part.layers}" if width >= len(part.layers) + 12 else part.layers
    layers = cut(layers, width - 4)
    top: list[Span] = [("┌ ", frame), (name, text), (" " + dash * (width - text_width(name) - 4) + "┐", frame)]
    inner = pad(quantities.ms(part.ms), width - 3)
    middle: list[Span] = [("▶ " if from_path else "│ ", frame if not from_path else "way-path"),
                          (inner, text if part.slowest else ""), ("├" if to_path else "│", frame)]  # fmt: skip
    low: list[Span] = [("└ ", frame), (layers, "dim"), (" " + dash * (width - text_width(layers) - 4) + "┘", frame)]
    return top, middle, low


def _called(part: Part) -> str:
    name = clean(part.name, LONGEST_NAME)
    return name if part.machines == 1 or part.folded else f"{name} +{part.machines - 1}"


def _arrow(part: Part, width: int, *, ends: bool, home: str) -> tuple[list[Span], list[Span], list[Span]]:
    """Draw an arrow. `ends`: it leads to no box but back to `home`, and has a head of its own."""
    role, dash = ("slow", "━") if part.slowest else ("way-path", "─")
    head = "▶" if ends else ""
    whole = quantities.ms(part.ms)
    figure = whole if width >= len(whole) + 4 + 2 * part.by_client else quantities.figure(part.ms)
    if part.by_client:
        figure += " ○"
    room = width - len(head) - text_width(figure) - 2
    left = max(0, room // 2)
    spans: list[Span] = [(f"{dash * left} {cut(figure, width - 3)} {dash * max(0, room - left)}{head}", role)]
    where = next((text for text in (f" back to {clean(home, LONGEST_NAME)}", " back") if text_width(text) < width), "")
    return [(" " * width, "")], spans, [(pad(where if ends else "", width), "dim")]


# ---------------------------------------------------------------- two lines


def _short(parts: Sequence[Part], cells: Sequence[int]) -> Block:
    """Return names and arrows, with the milliseconds under each. A ▲ marks the slowest machine without colours."""
    above: list[Span] = [(" ", "")]
    below: list[Span] = [(" ", "")]
    for part, cell in zip(parts, cells, strict=True):
        role = "slow" if part.slowest else "strong" if part.kind == "machine" else "way-path"
        figure = quantities.figure(part.ms)
        if part.kind == "machine":
            frame = "slow" if part.slowest else "way-frame"
            name = ("▲" if part.slowest else "") + _called(part)
            above += [("[", frame), (pad(name, cell - 2), role), ("]", frame)]
            below.append((pad(" " + figure, cell), "slow" if part.slowest else ""))
        elif part.kind == "path":
            dash = "━" if part.slowest else "─"
            mark = "○" if part.by_client else ""
            left = (cell - 1 - len(mark)) // 2
            above.append((dash * left + mark + dash * (cell - 1 - len(mark) - left) + "▶", role))
            at = max(0, (cell - len(figure)) // 2)
            below.append((pad(" " * at + figure, cell), "slow" if part.slowest else "dim"))
        else:
            above.append((" " * cell, ""))
            below.append((pad(" " + figure, cell), "dim"))
    return [tuple(above), tuple(below)]


# ---------------------------------------------------------------- a line each


def _column(drawn: Route, width: int, rows: int) -> Block:
    """Return a line for each part, from top to bottom, with a bar of its time: for a screen too narrow for boxes."""
    parts = folded(drawn.parts, rows)[:rows]
    names = min(16, max(4, width // 3))
    room = max(4, width - names - 12)
    most = max(part.ms for part in parts)
    block: Block = []
    for part in parts:
        role = "slow" if part.slowest else "compute" if part.kind == "machine" else "way-path"
        called = {"machine": _called(part), "path": "  ↓" + (" ○" if part.by_client else ""), "rest": "  rest"}
        glyph = "█" if part.kind == "machine" else "━" if part.slowest else "─"
        bar_of = glyph * max(1, round(part.ms / most * room))
        name_role = "slow" if part.slowest else "strong" if part.kind == "machine" else "dim"
        figure = pad(quantities.figure(part.ms), 6, ">")
        block.append(
            line(
                " ",
                (pad(called[part.kind], names), name_role),
                (figure, "slow" if part.slowest else ""),
                " ",
                (bar_of, role),
            )
        )
    return block
