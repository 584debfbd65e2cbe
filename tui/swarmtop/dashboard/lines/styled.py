"""Define styled lines and their layout: fit, cells, boxes, blocks side by side.

A line is a tuple of (text, role); a role names what the text *is* ("ok", "dim", "cursor"), never a colour. Widgets map
roles to colours and clean every text once more on its way out (`widgets/strips.py`), so nothing can harm a terminal.
Widths are terminal cells, not characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from rich.cells import cell_len, set_cell_size

from swarm_protocol.text import safe

Span = tuple[str, str]
Line = tuple[Span, ...]
Block = list[Line]
Align = Literal["<", ">"]

BLANK: Line = ()
NARROW: Final = 50  # cells below which parts are stacked


def clean(text: str, limit: int = 200) -> str:
    """Return `safe(text)`, without its cost if every character is plainly printable."""
    return text if len(text) <= limit and text.isprintable() else safe(text, limit)


def text_width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def line(*parts: str | Span) -> Line:
    """Make a line of plain texts and (text, role) spans."""
    return tuple((part, "") if isinstance(part, str) else part for part in parts)


def line_width(spans: Line) -> int:
    return sum(text_width(text) for text, _ in spans)


def changed(before: Line, after: Line, width: int) -> tuple[int, int]:
    """Return (first cell, cells) that differ between two lines of a screen `width` wide, to a span; (0, 0): none do."""
    if before == after:
        return 0, 0
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    start = line_width(after[:head])
    tail = 0
    if line_width(before) == line_width(after):
        while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
            tail += 1
    end = width if not tail else min(width, line_width(after[: len(after) - tail]))
    return start, max(0, end - start)


def cut(text: str, width: int) -> str:
    """Return at most `width` cells of `text`, with an ellipsis if it is cut."""
    if text_width(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    return set_cell_size(text, width - 1) + "…"


def pad(text: str, width: int, align: Align = "<") -> str:
    """Return exactly `width` cells."""
    kept = cut(text, width)
    fill = " " * (width - text_width(kept))
    return kept + fill if align == "<" else fill + kept


def fit(spans: Line, width: int, role: str = "") -> Line:
    """Return exactly `width` cells: cut with an ellipsis, or filled with blanks of `role`."""
    out: list[Span] = []
    left = width
    for text, span_role in spans:
        size = text_width(text)
        if size > left:
            if left > 0:
                out.append((cut(text, left), span_role))
            left = 0
            break
        out.append((text, span_role))
        left -= size
    if left > 0:
        out.append((" " * left, role))
    return tuple(out)


def spread(left: Line, right: Line, width: int) -> Line:
    """Put `left` at the left edge and `right` at the right one; the left is cut if needed, and a space follows."""
    right_width = min(line_width(right), width)
    room = width - right_width
    if right_width > 0 and 1 < room < line_width(left):
        return (*fit(left, room - 1), (" ", ""), *fit(right, right_width))
    return fit(left, room) + fit(right, right_width)


def rule(width: int) -> Line:
    return (("─" * width, "frame"),)


def height(block: Block, rows: int) -> Block:
    """Return exactly `rows` lines: blanks below, or a last line with the number of those that do not fit."""
    if len(block) <= rows:
        return block + [BLANK] * (rows - len(block))
    if rows <= 0:
        return []
    return [*block[: rows - 1], line((f"… {len(block) - rows + 1} more", "dim"))]


def box(title: str | Line, block: Block, width: int, rows: int) -> Block:
    """Draw a frame of outer size `width` × `rows` around `block`, with its title in the upper edge."""
    inner = max(0, width - 4)
    heading = line((title, "title")) if isinstance(title, str) else title
    heading = _clip(heading, max(0, width - 6))
    dashes = max(0, width - 3 - line_width(heading))
    top = (("┌ ", "frame"), *heading, (" " + "─" * (dashes - 1) + "┐" if dashes else "┐", "frame"))
    body = [(("│ ", "frame"), *fit(row, inner), (" │", "frame")) for row in height(block, max(0, rows - 2))]
    return [fit(top, width), *body, (("└" + "─" * max(0, width - 2) + "┘", "frame"),)]


def _clip(spans: Line, width: int) -> Line:
    return spans if line_width(spans) <= width else fit(spans, width)


def beside(blocks: Sequence[tuple[Block, int]]) -> Block:
    """Put blocks side by side, each fitted to its width; shorter ones are filled with blanks."""
    rows = max((len(block) for block, _ in blocks), default=0)
    out: Block = []
    for y in range(rows):
        joined: list[Span] = []
        for block, width in blocks:
            joined.extend(fit(block[y] if y < len(block) else BLANK, width))
        out.append(tuple(joined))
    return out


def separated(parts: Iterable[Line], between: str = "   ") -> Line:
    """Join the non-empty parts with `between`."""
    out: list[Span] = []
    for part in parts:
        if not part:
            continue
        if out:
            out.append((between, "dim"))
        out.extend(part)
    return tuple(out)


def fill_line(parts: Sequence[Line], width: int, between: str = "   ") -> Line:
    """Return as many of `parts`, from the first, as fit whole; a part that does not fit is left out, not cut."""
    chosen: list[Line] = []
    used = 0
    for part in parts:
        size = line_width(part) + (len(between) if chosen else 0)
        if part and used + size <= width:
            chosen.append(part)
            used += size
    return separated(chosen, between)


def wrap(text: str, width: int, role: str = "") -> Block:
    """Wrap the words of `text`, for notes and messages."""
    out: Block = []
    row = ""
    for word in text.split():
        trial = f"{row} {word}" if row else word
        if text_width(trial) <= width or not row:
            row = cut(trial, width)
        else:
            out.append(line((row, role)))
            row = cut(word, width)
    if row:
        out.append(line((row, role)))
    return out
