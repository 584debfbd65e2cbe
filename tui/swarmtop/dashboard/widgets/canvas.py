"""A widget that shows lines: only what changed in them is painted again, so that a quiet swarm costs no bytes."""

from __future__ import annotations

from textual.events import MouseEvent
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from swarmtop.dashboard.model.lines import BLANK, Block, Line, changed
from swarmtop.dashboard.widgets.strips import Ink


class Canvas(Widget):
    """`show(lines)` replaces what is drawn. Clicks arrive as `Canvas.Clicked` with cell coordinates."""

    DEFAULT_CSS = "Canvas { height: 1fr; width: 1fr; }"

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
        self.painted = 0  # lines rendered so far: what the tests count

    def show(self, lines: Block) -> None:
        before, self._lines = self._lines, lines
        width = self.size.width
        for y in range(max(len(before), len(lines))):
            if y >= len(before) or y >= len(lines):
                self.refresh(Region(0, y, width, 1))
                continue
            x, cells = changed(before[y], lines[y], width)
            if cells:
                self.refresh(Region(x, y, cells, 1))

    def render_line(self, y: int) -> Strip:
        self.painted += 1
        spans: Line = self._lines[y] if y < len(self._lines) else BLANK
        return self._ink.strip(spans, self.size.width)

    def on_click(self, event: MouseEvent) -> None:
        event.stop()
        self.post_message(self.Clicked(self, event.x, event.y, getattr(event, "chain", 1) >= 2))
