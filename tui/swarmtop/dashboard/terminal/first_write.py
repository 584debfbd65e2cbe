"""Hold back what Textual writes at the start until the first page can be written at once.

While the first page is mounted, Textual lays it out some four times and writes blank lines each time: with a slow
terminal, or over ssh, several screens come before the one that says something.

Textual lays out and writes at ticks of a timer of its own. Three ticks came before the first page, which is a tenth of
the time until it is there, so updates are made at once here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from textual._compositor import LayoutUpdate  # a whole screen; a part of one is a ChopsUpdate
from textual.errors import NoWidget

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.screen import Screen
    from textual.widget import Widget

AGAIN_S: Final = 0.004  # a quarter of Textual's own time between two updates
TRIES: Final = 250  # a few are enough; a screen that is never laid out is written as it is


class FirstWrite:
    def __init__(self) -> None:
        self._tries = 0
        self._whole = self._began = False

    def filled(self, screen: Screen[Any], part: Widget) -> None:
        """Note that `part` of this screen has been filled: write the screen once it has a place there."""
        if not self._tries:
            self._ask(screen, part)

    def _ask(self, screen: Screen[Any], part: Widget) -> None:
        self._tries += 1
        try:
            screen.find_widget(part)
        except NoWidget:  # its style and the layout are still to come
            if self._tries < TRIES:
                _update_now(screen)
                screen.set_timer(AGAIN_S, lambda: self._ask(screen, part))
                return
        self._whole = True
        screen.refresh()
        _update_now(screen)

    def begins(self, renderable: RenderableType | None) -> bool:
        """Return whether to write this; everything after the first whole screen is written."""
        self._began = self._began or (self._whole and isinstance(renderable, LayoutUpdate))
        return self._began


def _update_now(screen: Screen[Any]) -> None:
    """Make the screen's updates without waiting for Textual's timer. The method is not public: where a version of
    Textual has none, the timer makes them."""
    update = getattr(screen, "_on_timer_update", None)
    if update is not None:
        update()
