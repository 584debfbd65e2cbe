"""Show lines in a widget that repaints only changed ones, so that a quiet swarm costs no bytes."""

from __future__ import annotations

from textual.events import MouseEvent
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import Reactive
from textual.strip import Strip
from textual.widget import Widget

from swarmtop.dashboard.lines.styled import BLANK, Block, Line, changed, text_width
from swarmtop.dashboard.widgets.strips import Ink


class Canvas(Widget):
    """`show(lines)` replaces what is drawn. Clicks arrive as `Canvas.Clicked` with cell coordinates."""

    DEFAULT_CSS = "Canvas { height: 1fr; width: 1fr; }"

    # no children: after a new size, for which the layout paints it, it needs neither a layout nor paint once more
    virtual_size = Reactive(Size(0, 0), repaint=False)

    class Clicked(Message):
        def __init__(self, canvas: Canvas, x: int, y: int, double: bool) -> None:
            super().__init__()
            self.canvas = canvas
            self.x = x
            self.y = y
            self.double = double

    def __init__(self, ink: Ink, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ink = ink
        self._lines: Block = []
        self._over = ""  # a role applied to the whole canvas
        self.painted = 0  # lines rendered so far: what the tests count

    def show(self, lines: Block, over: str = "") -> None:
        before, self._lines = self._lines, lines
        if over != self._over:
            self._over, before = over, []
        width = self.size.width
        for y in range(max(len(before), len(lines))):
            if y >= len(before) or y >= len(lines):
                self.refresh(Region(0, y, width, 1))
                continue
            x, cells = changed(before[y], lines[y], width)
            if cells:
                self.refresh(Region(x, y, cells, 1))

    def lines_from_mark(self, y: int) -> int | None:
        """Return how far line `y` is from the cursor's (the one marked >); None if it is no line of the same list.

        Every line of a list begins with a span of the cursor's role, blank unless the cursor is there.
        """
        marks = [(row, x) for row in range(len(self._lines)) for x, text in self._marks(row) if ">" in text]
        if not marks:
            return None
        row, x = marks[0]
        return y - row if any(x == other for other, _ in self._marks(y)) else None

    def _marks(self, y: int) -> list[tuple[int, str]]:
        found, x = [], 0
        for text, role in self._lines[y] if 0 <= y < len(self._lines) else BLANK:
            if role == "cursor-mark":
                found.append((x, text))
            x += text_width(text)
        return found

    def render_line(self, y: int) -> Strip:
        self.painted += 1
        spans: Line = self._lines[y] if y < len(self._lines) else BLANK
        return self._ink.strip(spans, self.size.width, self._over)

    def on_click(self, event: MouseEvent) -> None:
        event.stop()
        self.post_message(self.Clicked(self, event.x, event.y, getattr(event, "chain", 1) >= 2))
