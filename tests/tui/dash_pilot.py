"""Drive the dashboard in tests without its waits."""

from __future__ import annotations

import pytest
import textual.app
import textual.pilot
from textual._context import active_app
from textual.pilot import Pilot

from swarmtop.dashboard import app as app_module
from swarmtop.dashboard.planner import thread as planner_thread


def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for quarter seconds that nobody sees, nor for a second between two plans; and Pilot goes on when every
    message has been handled, where it would else watch the processor's clock until the whole process idles."""
    for module in (textual.app, textual.pilot):
        monkeypatch.setattr(module, "wait_for_idle", _handled)
    monkeypatch.setattr(planner_thread, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(app_module, "REDRAW_S", 0.02)


async def _handled(*_: float) -> None:
    """A key goes from the app to its screen to a widget to the screen again: as many rounds. What Textual puts off by a
    timer of some milliseconds (a new size, the layout, what waits for it) is done in each. What a list lies over is
    updated in the last round alone: Textual draws everything anew whenever a screen below was updated."""
    app = active_app.get()
    pilot = Pilot(app)
    for left in reversed(range(4)):
        await pilot._wait_for_screen()
        if app._resize_timer is not None:
            app._check_resize()
        for screen in app._screen_stack[-1:] if left else app._screen_stack:
            screen._on_timer_update()
