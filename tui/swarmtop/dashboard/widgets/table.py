"""Show the ranking as a table on Textual's Line API: rows are numbered, and only visible lines are rendered.

The caller says how a line is drawn (`draw(position, selected)`) and what identifies a row (`keys`), so that the cursor
stays on its node when ranks change. DataTable would keep an object for every cell; this keeps one list.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from swarmtop.dashboard.lines.styled import Line, changed
from swarmtop.dashboard.widgets.strips import Ink

Draw = Callable[[int, bool], Line]


class Table(ScrollView, can_focus=False):
    DEFAULT_CSS = """
    Table { height: 1fr; width: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """

    class Chosen(Message):
        """The cursor is on another row, or a row was opened with a double click."""

        def __init__(self, key: str, opened: bool) -> None:
            super().__init__()
            self.key = key
            self.opened = opened

    def __init__(self, ink: Ink, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ink = ink
        if ink.ascii_only:  # Textual's scroll bar is drawn in blocks
            self.styles.scrollbar_size_vertical = 0
        self._keys: Sequence[str] = ()
        self._draw: Draw = lambda _position, _selected: ()
        self._drawn: dict[int, tuple[Line, bool]] = {}  # what is on the screen now
        self._made: dict[tuple[int, bool], Line] = {}  # lines of the content shown, by position and cursor
        self.cursor = 0
        self.painted = 0  # lines rendered so far: what the tests count

    @property
    def key(self) -> str | None:
        return self._keys[self.cursor] if self._keys else None

    @property
    def visible_rows(self) -> range:
        top = self.scroll_offset.y
        return range(top, min(len(self._keys), top + self.size.height))

    def show(self, keys: Sequence[str], draw: Draw, key: str | None) -> None:
        """Show new content; the cursor follows `key`, or stays in place if that row is gone."""
        stood_at = self.cursor - self.scroll_offset.y
        fewer = len(keys) < len(self._keys)
        self._keys, self._draw = keys, draw
        if len(keys) != self.virtual_size.height:
            self.virtual_size = Size(self.size.width, len(keys))
        place = self._place(key)
        moved = place != self.cursor
        self.cursor = place
        if moved:
            # the cursor's line stays where it is on the screen; the ranks move under it
            self.scroll_to(y=max(0, place - max(0, stood_at)), animate=False, force=True)
            self._keep_in_sight()
        self._made = {}
        for position in self.visible_rows:
            selected = position == self.cursor
            before, was_selected = self._drawn.get(position, ((), None))
            x, cells = changed(before, self._line(position, selected), self.size.width)
            if was_selected != selected:
                x, cells = 0, self.size.width
            if cells:
                self.refresh(Region(x, position - self.scroll_offset.y, cells, 1))
        bottom = self.visible_rows.stop - self.scroll_offset.y
        if fewer and bottom < self.size.height:
            self.refresh(Region(0, bottom, self.size.width, self.size.height - bottom))

    def _place(self, key: str | None) -> int:
        if key is not None:
            if self.cursor < len(self._keys) and self._keys[self.cursor] == key:
                return self.cursor
            with contextlib.suppress(ValueError):  # it is gone
                return self._keys.index(key)
        return max(0, min(self.cursor, len(self._keys) - 1))

    def move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def move_to(self, position: int) -> None:
        place = max(0, min(position, len(self._keys) - 1))
        if not self._keys or place == self.cursor:
            return
        before, self.cursor = self.cursor, place
        self._keep_in_sight()
        self.refresh_line(before)
        self.refresh_line(place)
        self.post_message(self.Chosen(self._keys[place], opened=False))

    def _keep_in_sight(self) -> None:
        top, rows = self.scroll_offset.y, max(1, self.size.height)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + rows:
            self.scroll_to(y=self.cursor - rows + 1, animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        position = y + self.scroll_offset.y
        self.painted += 1
        if position >= len(self._keys):
            return Strip.blank(self.size.width)
        selected = position == self.cursor
        spans = self._line(position, selected)
        if len(self._drawn) > 4 * max(1, self.size.height):
            self._drawn.clear()
        self._drawn[position] = (spans, selected)
        return self._ink.strip(spans, self.size.width, over="cursor" if selected else "")

    def _line(self, position: int, selected: bool) -> Line:
        """Return a line of the present content, made once."""
        made = self._made.get((position, selected))
        if made is None:
            made = self._made[position, selected] = self._draw(position, selected)
        return made

    def on_click(self, event: Click) -> None:
        event.stop()
        position = event.y + self.scroll_offset.y
        if position < len(self._keys):
            self.move_to(position)
            self.post_message(self.Chosen(self._keys[position], opened=event.chain >= 2))
