"""Run the dashboard: `run_dashboard(source, options)` shows a source until the user quits.

It owns the terminal and the exit code; `app` is the dashboard itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

import msgspec

from swarmtop.dashboard import heap, settings
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.dashboard.terminal import app_theme
from swarmtop.dashboard.terminal import restore as terminal
from swarmtop.errors import UNUSABLE
from swarmtop.sources.source import Source

__all__ = ["Dashboard", "DashboardOptions", "run_dashboard"]

SWITCH_S: Final = 0.001  # the planner's thread yields to a key within this


def with_settings(options: DashboardOptions, found: settings.Settings) -> DashboardOptions:
    """Combine the command line's options, which take precedence, with the person's settings."""
    return msgspec.structs.replace(
        options,
        keys={**found.keys, **options.keys},
        theme=app_theme.chosen(found.theme, os.environ),
        columns=found.columns,
        alerts=found.alerts,
        ascii=options.ascii or found.ascii,
    )


def run_dashboard(source: Source, options: DashboardOptions) -> int:
    """Show `source` until the person leaves, then close it. Returns an exit code: see `terminal.restore`, and those of
    SourceError."""
    try:
        options = with_settings(options, settings.load(settings.path()))
    except settings.SettingsError as error:
        terminal.say(str(error))
        asyncio.run(source.close())
        return UNUSABLE
    heap.return_large_blocks()
    tty = terminal.Terminal()
    app = Dashboard(source, options)
    switch_s = sys.getswitchinterval()

    async def show() -> None:
        with terminal.signals(tty, app.finish):
            try:
                await app.run_async()
            finally:
                await source.close()

    crash: BaseException | None = None
    try:
        sys.setswitchinterval(SWITCH_S)
        asyncio.run(show())
    except Exception as error:  # noqa: BLE001 told below, with its traceback in the log
        crash = error
    finally:
        sys.setswitchinterval(switch_s)
    crash = crash or app.crash
    tty.restore(left=crash is None or app.crash is crash)
    if crash is not None:
        path = terminal.log_error(options.state_dir, crash)
        what = f"{type(crash).__name__}: {crash}".splitlines()[0]
        terminal.say(f"internal error ({clean(what)}); " + (f"please report it with {path}" if path else "see above"))
        return 1
    if app.farewell:
        terminal.say(app.farewell)
    if app.ended is not None:
        terminal.say(str(app.ended))
    if app.wants_demo and options.demo is not None:
        return options.demo()
    return app.return_code or 0
