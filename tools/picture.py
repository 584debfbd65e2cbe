"""Save a screen of the dashboard as SVG: the pictures of the README are made by this command.

    python tools/picture.py --db swarm.db --model tiny --screen 1 --out docs/overview.svg

Any source works (--db, --connect, --swarm). The dashboard runs as always, only without a terminal: the picture is what
a person would see once the plan is there. In a recording the minute before is played first, so that the sparklines have
a history (`--back 20` stands 20 s before its end, where nodes have not yet said goodbye); live, `--after` waits for it.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from swarm_predict.types import PredictError
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.errors import CommandError
from swarmtop.option_types import joined_times, number, whole
from swarmtop.parsed_options import load_model, open_source, workload
from swarmtop.shared_options import Parser, add_question, add_source
from swarmtop.sources.source import Source, SourceError

SCREENS: Final = ("overview", "node", "links", "placement", "time")
ASKED: Final = ("history", "survey", "default")  # groups of workers whose answers the picture waits for
MINUTE: Final = range(-55, 1, 5)  # seconds before the moment shown: one frame for each bucket of a sparkline
WAIT_S: Final = 120.0  # for the first frame and the plan: a live swarm may have to be measured first


def main() -> int:
    parser = Parser("picture.py", "Writes a picture of a screen of the dashboard, as SVG.", __doc__.splitlines()[2])
    add_source(parser)
    add_question(parser)
    parser.add_argument("--screen", type=whole(1, 5), default=1, metavar="N", help="1 Overview … 5 Time (1)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.svg", help="where the picture goes")
    parser.add_argument("--width", type=whole(60, 400), default=120, metavar="N", help="characters (120)")
    parser.add_argument("--height", type=whole(15, 200), default=36, metavar="N", help="lines (36)")
    parser.add_argument("--after", type=number(0, 3600), default=0.0, metavar="S", help="live: seconds to let pass (0)")
    parser.add_argument(
        "--back", type=number(0, 1e9), default=0.0, metavar="S", help="seconds before a recording's end"
    )
    parser.add_argument("--keys", default="", metavar="KEYS", help="pressed before the picture, as `down,down,enter`")
    args = parser.parse_args(joined_times(sys.argv[1:]))
    try:
        source = open_source(args)
        options = DashboardOptions(load_model(args.model), workload(args), color=True, zone=dt.UTC)
        svg = asyncio.run(picture(source, options, args))
        args.out.write_text(svg, encoding="utf-8")
    except (CommandError, PredictError, SourceError, OSError, TimeoutError) as error:
        print(f"picture.py: {error}", file=sys.stderr)
        return 1
    return 0


async def picture(source: Source, options: DashboardOptions, args: argparse.Namespace) -> str:
    """Return the screen `args.screen` of `source` as SVG. Raises SourceError, TimeoutError."""
    if source.mode == "live":
        options = msgspec.structs.replace(options, join_hint="")
    app = Dashboard(source, options)
    try:
        async with app.run_test(size=(args.width, args.height)) as pilot:
            await until(app, pilot.pause, lambda: app.session.analysis is not None, "a plan")
            if app.session.recording is not None and app.session.shown is not None:
                await _walk(app, pilot.pause, app.session.shown.at_ns - round(args.back * NS_PER_S))
            ends = time.monotonic() + args.after
            await until(app, pilot.pause, lambda: time.monotonic() >= ends, "the time to pass", WAIT_S + args.after)
            await pilot.press(str(args.screen), *filter(None, args.keys.split(",")))
            await pilot.pause()
            for _round in range(2):  # what has come may leave room for more, which is asked for when it is drawn
                await app.workers.wait_for_complete([w for w in app.workers if w.group in ASKED])
                app.redraw()
                await pilot.pause()
            await until(app, pilot.pause, lambda: app.advising.settled(app.screen), "advice about the plan")
            app.redraw()
            await pilot.pause()
            return app.picture(f"swarmtop: {SCREENS[args.screen - 1]}")
    finally:
        await source.close()


async def _walk(app: Dashboard, pause: Callable[[float], Awaitable[None]], until_ns: int) -> None:
    """Play the minute before `until_ns`, and plan for its last frame."""
    for second in MINUTE:
        goal = app.session.clamp(until_ns + second * NS_PER_S, forward=False)
        app.travel.go_to(goal, forward=False)
        await until(app, pause, lambda goal=goal: _stands(app) == goal, "a frame of the recording")  # type: ignore[misc]
    await until(app, pause, lambda: app.session.analysis.at_ns == _stands(app), "a plan")  # type: ignore[union-attr]


def _stands(app: Dashboard) -> int:
    return app.session.shown.at_ns if app.session.shown is not None else 0


async def until(
    app: Dashboard,
    pause: Callable[[float], Awaitable[None]],
    holds: Callable[[], bool],
    what: str,
    wait_s: float = WAIT_S,
) -> None:
    ends = time.monotonic() + wait_s
    while not holds():
        if app.ended is not None:
            raise app.ended
        if app.crash is not None:
            raise app.crash
        if time.monotonic() > ends:
            raise TimeoutError(f"{what} did not come about in {wait_s:.0f} s")
        await pause(0.05)


if __name__ == "__main__":
    sys.exit(main())
