"""Make the README's moving picture from the bundled recording: a link degrades, is ranked first, and a new placement is
faster.

    python tools/moving_picture.py --out docs/story.svg

The dashboard runs on the bundled recording, as `swarmtop lab` shows it without root. Each scene is the screen at a
moment of it, counted from the event that reports the change or its end; CSS shows one after the other. Viewers without
animation, and readers who prefer reduced motion, see one scene. The same recording gives the same scenes.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import itertools
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from picture import until
from rich.cells import cell_len

from swarm_lab.recording import unpack
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.messages.samples import EventKind
from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard.app import Dashboard
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.dashboard.widgets.colours import PALETTES
from swarmtop.sources.replay import ReplaySource

MODEL: Final = "llama-3.2-1b"  # what was measured in the recording
WEIGHTS: Final = "fp32"
DEGRADED: Final = "paris"  # the machine whose link degrades
COLUMNS: Final = ("state", "stage", "share", "win", "cause", "rtt50", "rtt99", "layer", "vram", "recent")
WIDTH: Final = 112
HEIGHT: Final = 32
CELL_W: Final = 8.4  # of a letter of 14 pixels
CELL_H: Final = 18.0
MARGIN: Final = 14.0


@dataclass(frozen=True, slots=True)
class Scene:
    event: EventKind  # of the degraded link
    after_s: float  # of it; negative: before
    keys: tuple[str, ...]
    seconds: float  # it stays so long
    says: str


SCENES: Final = (
    Scene("degraded", -20, (), 4.0,
          "Three of five machines run a model that none of them holds alone. Boxes compute, arrows wait."),
    Scene("degraded", 2, (), 3.0, "Paris's link degrades. Tokens come slower, and the change is reported."),
    Scene("degraded", 25, (), 4.5, "Paris ranks first: the cause in milliseconds, and what another plan would gain."),
    Scene("degraded", 35, ("4",), 5.0,
          "The best placement above what runs, on one scale; l lists the commands that start it."),
    Scene("recovered", 8, ("1",), 4.0, "The link has recovered: tokens come as fast as before; the change is over."),
)  # fmt: skip
STILL: Final = 2  # the scene shown without animation


@dataclass(frozen=True, slots=True)
class Run:
    """Cells of one style."""

    x: int
    text: str
    ink: str
    ground: str
    bold: bool


Row = tuple[Run, ...]


async def scenes(database: Path) -> list[list[Row]]:
    """Return the rows of each scene. Raises SourceError, TimeoutError."""
    source = ReplaySource(str(database))
    app = Dashboard(
        source,
        DashboardOptions(model_named(MODEL), Workload(weights=WEIGHTS), color=True, zone=dt.UTC, columns=COLUMNS),
    )
    taken = []
    try:
        async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
            await until(app, pilot.pause, lambda: app.session.analysis is not None, "a plan")
            events = {e.kind: e.at_ns for e in app.session.all_events if e.node == DEGRADED}
            for scene in SCENES:
                for back_s in (20, 15, 10, 5, 0):  # so that the last minute of the ranking has a past
                    goal = app.session.clamp(
                        events[scene.event] + round((scene.after_s - back_s) * NS_PER_S), forward=False
                    )
                    app.travel.go_to(goal, forward=False)
                    await until(app, pilot.pause, lambda goal=goal: stands(app) == goal, "a frame")  # type: ignore[misc]
                await until(app, pilot.pause, lambda: planned(app) == stands(app), "a plan of it")
                await pilot.press(*scene.keys)
                await pilot.pause()
                waiting = [w for w in app.workers if w.group in ("history", "survey") or w.name == "study"]
                await app.workers.wait_for_complete(waiting)
                app.redraw()
                await pilot.pause()
                taken.append(rows_of(app))
    finally:
        await source.close()
    return taken


def stands(app: Dashboard) -> int:
    return app.session.shown.at_ns if app.session.shown is not None else 0


def planned(app: Dashboard) -> int:
    return app.session.analysis.at_ns if app.session.analysis is not None else 0


def rows_of(app: Dashboard) -> list[Row]:
    """Return what is on the screen, as runs of one style; blanks on the theme's background are left out."""
    palette = PALETTES[app.ink.theme]
    return [tuple(runs(strip, palette.text, palette.ground)) for strip in app.screen._compositor.render_strips()]


def runs(strip: Any, text: str, ground: str) -> list[Run]:
    found, x = [], 0
    for segment in strip:
        style = segment.style
        ink = style.color.triplet.hex if style and style.color and style.color.triplet else text
        back = style.bgcolor.triplet.hex if style and style.bgcolor and style.bgcolor.triplet else ground
        if style and style.reverse:
            ink, back = back, ink
        for part in re.split(r"(\s{2,})", segment.text):  # viewers collapse blanks
            if part.strip() or (part and back != ground):
                found.append(Run(x, part, ink, back, bool(style and style.bold)))
            x += cell_len(part)
    return found


def drawn(taken: Sequence[Sequence[Row]]) -> str:
    """Return the SVG: rows that never change once, the others once for each scene."""
    palette = PALETTES["dark"]
    inks: dict[tuple[str, bool], str] = {}
    width, height = WIDTH * CELL_W + 2 * MARGIN, (HEIGHT + 2) * CELL_H + 2 * MARGIN
    total = sum(scene.seconds for scene in SCENES)
    ends = list(itertools.accumulate(scene.seconds for scene in SCENES))
    body, frames = [], []
    still = {y for y in range(HEIGHT) if len({scene[y] for scene in taken}) == 1}
    body += [row_svg(y, taken[0][y], inks, palette.ground) for y in sorted(still)]
    for i, scene in enumerate(taken):
        begins, over = 100 * (ends[i] - SCENES[i].seconds) / total, 100 * ends[i] / total
        hidden = f"0%{{visibility:hidden}}{begins:.2f}%{{visibility:visible}}" if begins else "0%{visibility:visible}"
        after = "hidden" if over < 100 else "visible"
        frames.append(f"@keyframes s{i}{{{hidden}{over:.2f}%,100%{{visibility:{after}}}}}")
        frames.append(f".s{i}{{animation:s{i} {total:g}s step-end infinite}}")
        rows = "".join(row_svg(y, scene[y], inks, palette.ground) for y in range(HEIGHT) if y not in still)
        y = MARGIN + (HEIGHT + 1.2) * CELL_H
        caption = f'<text class="c" x="{MARGIN:g}" y="{y:.1f}">{escape(SCENES[i].says)}</text>'
        body.append(f'<g class="s s{i}">{rows}{caption}</g>')
    classes = [f".{name}{{fill:{ink}{';font-weight:700' if bold else ''}}}" for (ink, bold), name in inks.items()]
    style = "".join((
        "text{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre}",
        f".c{{fill:{palette.text};font:600 15px system-ui,sans-serif}}.s{{visibility:hidden}}"
        f".s{STILL}{{visibility:visible}}",  # viewers without animation show this scene
        *classes, *frames,
        f"@media (prefers-reduced-motion:reduce){{.s{{animation:none}}.s{STILL}{{visibility:visible}}}}",
    ))  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(" ".join(scene.says for scene in SCENES))}"><style>{style}</style>'
        f'<rect width="100%" height="100%" rx="8" fill="{palette.ground}"/>{"".join(body)}</svg>\n'
    )


def row_svg(y: int, row: Row, inks: dict[tuple[str, bool], str], ground: str) -> str:
    out = []
    top = MARGIN + y * CELL_H
    for run in row:
        size = cell_len(run.text)
        if run.ground != ground:
            left = MARGIN + run.x * CELL_W
            box = f'x="{left:.1f}" y="{top:.1f}" width="{size * CELL_W:.1f}" height="{CELL_H:g}"'
            out.append(f'<rect {box} fill="{run.ground}"/>')
        text = run.text.strip()
        if text:
            name = inks.setdefault((run.ink, run.bold), f"i{len(inks)}")
            left = MARGIN + (run.x + cell_len(run.text) - cell_len(run.text.lstrip())) * CELL_W
            # every run is pinned at both ends, whatever font there is
            out.append(
                f'<text class="{name}" x="{left:.1f}" y="{top + 13.5:.1f}" textLength="{cell_len(text) * CELL_W:.1f}" '
                f'lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
            )
    return "".join(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.svg")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swarmtop-story-") as folder:
        database, _ = unpack(Path(folder))
        taken = asyncio.run(scenes(database))
    args.out.write_text(drawn(taken), encoding="utf-8")
    print(f"{args.out}: {len(taken)} scenes, {args.out.stat().st_size >> 10} KiB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
