"""Draw on a canvas of braille dots, two by four in a cell, with lines and texts; every cell has one role."""

from __future__ import annotations

from swarmtop.dashboard.lines.charts.series import glyph, set_dot
from swarmtop.dashboard.lines.styled import Block, Span, text_width


class Dots:
    """A canvas of `width` × `rows` cells. Dots are counted from the upper left; what lies outside is not drawn."""

    def __init__(self, width: int, rows: int) -> None:
        self.width, self.rows = width, rows
        self._bits = [[0] * width for _ in range(rows)]
        self._role = [[""] * width for _ in range(rows)]
        self._text: list[list[Span | None]] = [[None] * width for _ in range(rows)]

    def dot(self, x: int, y: int, role: str) -> None:
        if 0 <= x < 2 * self.width and 0 <= y < 4 * self.rows:
            row, column = y // 4, x // 2
            if self._role[row][column] not in ("", role):  # later dots are drawn over earlier ones
                self._bits[row][column] = 0
            set_dot(self._bits, x, y)
            self._role[row][column] = role

    def line(self, start: tuple[float, float], end: tuple[float, float], role: str) -> None:
        steps = max(1, round(max(abs(end[0] - start[0]), abs(end[1] - start[1]))))
        for share in (i / steps for i in range(steps + 1)):
            x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            self.dot(round(x), round(y), role)

    def stamp(self, column: int, row: int, sign: str, role: str) -> None:
        """Put one cell over whatever is there except a text."""
        if self._text[row][column] is None:
            self._text[row][column] = (sign, role)

    def write(self, column: int, row: int, text: str, role: str) -> bool:
        """Write a text over the dots; return False, and write nothing, if it leaves the canvas or overlaps another
        text."""
        size = text_width(text)
        if row < 0 or row >= self.rows or column < 0 or column + size > self.width:
            return False
        if any(cell is not None for cell in self._text[row][column : column + size]):
            return False
        self._text[row][column] = (text, role)
        for covered in range(column + 1, column + size):
            self._text[row][covered] = ("", role)
        return True

    def block(self) -> Block:
        out: Block = []
        for bits, roles, texts in zip(self._bits, self._role, self._text, strict=True):
            spans: list[Span] = []
            for bit, role, text in zip(bits, roles, texts, strict=True):
                part = text if text is not None else (glyph(bit), role)
                if spans and spans[-1][1] == part[1]:
                    spans[-1] = (spans[-1][0] + part[0], part[1])
                else:
                    spans.append(part)
            out.append(tuple(spans))
        return out
