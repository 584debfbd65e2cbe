"""Provide the base of every screen: header, footer, the registered keys, and the notice of a too small terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final

from textual.events import MouseScrollDown, MouseScrollUp, Resize
from textual.screen import Screen
from textual.widget import Widget

from swarmtop.dashboard import keymap
from swarmtop.dashboard.lines import header_footer
from swarmtop.dashboard.lines.overview.around_ranking import first_run, nobody_yet, progress
from swarmtop.dashboard.lines.styled import BLANK, Block, Line, fit, line
from swarmtop.dashboard.state.view import View
from swarmtop.dashboard.widgets.canvas import Canvas
from swarmtop.dashboard.widgets.strips import Ink

if TYPE_CHECKING:
    from swarmtop.dashboard.screen_api import DashboardBase
    from swarmtop.dashboard.screens.save_or_copy import Export

BRAND: Final = line(("swarmtop", "brand"))
TO_THE_END: Final = 1 << 30  # lines; more than any list has


class Page(Screen[None]):
    """`body` yields the widgets between header and footer; `draw` fills them from a View."""

    NAME: ClassVar[keymap.Screen]
    AUTO_FOCUS = None
    DEFAULT_CSS = """
    Page { layout: vertical; }
    Page #top, Page #status, Page #bottom { height: 1; }
    Page #notice { display: none; }
    Page.-instead #notice { display: block; }
    Page.-instead > #body { display: none; }
    Page > #body { height: 1fr; }
    """

    def __init__(self, ink: Ink, keys: Iterable[keymap.Action]) -> None:
        super().__init__(name=self.NAME)
        self.ink = ink
        self.keys = tuple(keys)
        self._redraw_waits = False
        self._top = Canvas(ink, id="top")
        self._status = Canvas(ink, id="status")
        self._notice = Canvas(ink, id="notice")
        self._bottom = Canvas(ink, id="bottom")
        for action in self.keys:
            own = hasattr(self, f"action_{action.name}")
            for key in action.keys:
                self._bindings.key_to_bindings.pop(
                    key, None
                )  # Textual's own keys, such as Tab; the registry decides instead
                self._bindings.bind(key, action.name if own else f"app.{action.name}")

    @property
    def board(self) -> DashboardBase:
        from swarmtop.dashboard.screen_api import DashboardBase

        assert isinstance(self.app, DashboardBase)
        return self.app

    def compose(self) -> Iterable[Widget]:
        yield self._top
        self._body = self.body()
        yield self._body
        yield self._notice
        yield self._status
        yield self._bottom

    def body(self) -> Widget:
        raise NotImplementedError

    def draw(self, view: View, width: int, rows: int) -> None:
        raise NotImplementedError

    def on_resize(self, event: Resize) -> None:
        # the event has the new size; the widgets get theirs in the layout that follows
        self._redraw_after_refresh()

    def on_screen_resume(self) -> None:
        self._redraw_after_refresh()

    def _redraw_after_refresh(self) -> None:
        """Redraw once after the next refresh, however many events ask for it: there are several at the start."""
        if not self._redraw_waits:
            self._redraw_waits = True
            # before the first page is on the screen nothing needs the sizes that a refresh gives widgets
            (self.call_after_refresh if self.board.painted else self.call_later)(self.redraw)

    def redraw(self) -> None:
        self._redraw_waits = False
        width, rows = self.size
        if not width or not self.is_mounted:
            return
        view = self.board.view()
        instead = self._instead(view, width, rows)
        self.set_class(instead is not None, "-instead")
        if instead is not None:
            self._notice.show(instead)
        elif view is not None:
            self.draw(view, width, rows - 3)
        listed = view is None and bool(self.board.members)
        if (view is not None or listed) and not self.board.painted:
            self.board.on_first_draw()
        small = width < header_footer.MIN_WIDTH or rows < header_footer.MIN_HEIGHT
        over = ""
        if view is not None and not small:
            silent = view.silent_since_ns is not None
            over = "bar silent" if silent else f"bar {view.standing}" if view.standing in ("paused", "replay") else ""
        self._top.show([self._header(view, width) if (view or listed) and not small else BRAND], over)
        self._status.show([BLANK if small else self._status_line(view, width)])
        self._bottom.show([BLANK if small else header_footer.footer(self.shown_keys(), self.NAME, width)])
        self.board.on_filled(self, self._body if instead is None else self._notice)

    def _header(self, view: View | None, width: int) -> Line:
        if view is not None:
            return header_footer.header(view, width)
        board = self.board
        return header_footer.before_frames(board.session.standing, len(board.members), board.title_text, width)

    # ------------------------------------------------------------ mouse

    def on_canvas_clicked(self, message: Canvas.Clicked) -> None:
        """Handle clicks on the footer's keys and tabs; other clicks are the screen's."""
        if message.canvas is not self._bottom:
            self.clicked(message)
            return
        key = header_footer.key_at(header_footer.footer(self.shown_keys(), self.NAME, self.size.width), message.x)
        action = next((a for a in self.shown_keys() if keymap.shown(a.keys[0]) == key), None)
        if action is not None:
            self.perform(action.name)

    def clicked(self, message: Canvas.Clicked) -> None:
        """Handle a click on the screen."""

    def perform(self, name: str) -> None:
        """Run the action of that name, of this screen or of every one, as its key would."""
        target = self if hasattr(self, f"action_{name}") else self.board
        self.call_later(getattr(target, f"action_{name}"))

    # ------------------------------------------------------------ out

    def exports(self, view: View) -> list[Export]:
        """Return what this screen offers to save, its own items first."""
        return []

    def action_export(self) -> None:
        view = self.board.view()
        if view is None:
            self.board.say("nothing to save yet")
            return
        from swarmtop.dashboard.screens import exports, save_or_copy  # imported when something is saved

        save_or_copy.choose(self.board, [*self.exports(view), *exports.of_every_screen(self.board, view, self.NAME)])

    def copied(self, view: View) -> tuple[str, str]:
        """Return the text that `copy` takes, and what it is; empty: nothing under the cursor."""
        return "", ""

    def action_copy(self) -> None:
        view = self.board.view()
        text, what = self.copied(view) if view is not None and len(view.swarm) else ("", "")
        if text:
            from swarmtop.dashboard.screens import save_or_copy

            save_or_copy.copy(self.board, text, what)
        else:
            self.board.say("nothing under the cursor to copy")

    def shown_keys(self) -> tuple[keymap.Action, ...]:
        recording = self.board.session.span is not None
        return tuple(a for a in self.keys if recording or not a.recording)

    def _instead(self, view: View | None, width: int, rows: int) -> Block | None:
        """Return what is shown instead of the screen: the terminal is too small, or there is nothing to show yet."""
        if width < header_footer.MIN_WIDTH or rows < header_footer.MIN_HEIGHT:
            return header_footer.too_small(width, rows)
        if view is None or not len(view.swarm):
            session = self.board.session
            if view is None and not session.options.join_hint:
                return [BLANK, line((f" waiting for {self.board.title_text}…", "dim"))]
            if view is not None and view.standing == "replay":
                return nobody_yet(view, width)
            return first_run(view, session.options.join_hint, self.board.title_text, width, rows - 3)
        return None

    def _status_line(self, view: View | None, width: int) -> Line:
        notice = self.board.notice()
        if notice:
            return fit(line((" " + notice, "warn")), width)
        return fit(progress(view), width) if view is not None else BLANK


class ListPage(Page):
    """A page of one canvas with a list in it; `move` says what a line up or down means there."""

    PAGE_LINES: ClassVar[int] = 10

    def body(self) -> Widget:
        self.canvas = Canvas(self.ink, id="body")
        return self.canvas

    def move(self, by: int) -> None:
        raise NotImplementedError

    def clicked(self, message: Canvas.Clicked) -> None:
        """Move the cursor to the clicked line of the list; a double click opens it."""
        if message.canvas is not self.canvas:
            return
        by = self.canvas.lines_from_mark(message.y)
        if by is not None:
            self.move(by)
            if message.double:
                self.perform("open")

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.move(-1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.move(1)

    def action_up(self) -> None:
        self.move(-1)

    def action_down(self) -> None:
        self.move(1)

    def action_page_up(self) -> None:
        self.move(-self.PAGE_LINES)

    def action_page_down(self) -> None:
        self.move(self.PAGE_LINES)

    def action_first(self) -> None:
        self.move(-TO_THE_END)

    def action_last(self) -> None:
        self.move(TO_THE_END)
