"""List what each screen can save: the ranking as CSV or JSON (as `--once` prints it), samples, and a picture."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm_protocol.units import NS_PER_S
from swarmtop.dashboard import workers
from swarmtop.dashboard.keymap import TITLES, Screen
from swarmtop.dashboard.lines.styled import clean
from swarmtop.dashboard.screens.save_or_copy import Export
from swarmtop.dashboard.state.view import View
from swarmtop.sources.source import SourceError

if TYPE_CHECKING:
    from swarmtop.dashboard.screen_api import DashboardBase

SAMPLES_S: Final = 3600  # back from the moment shown
KINDS: Final = {
    "link": "round trips", "uplink": "uploads", "compute": "layer times", "host": "host figures", "event": "events",
}  # fmt: skip


def of_every_screen(board: DashboardBase, view: View, screen: Screen) -> list[Export]:
    found: list[Export] = []
    analysis = view.analysis
    if analysis is not None:
        from swarmtop.commands.monitoring.once import as_csv, as_object
        from swarmtop.text import json_csv

        found += [
            Export("csv", "ranking, CSV", "as --once --csv prints it", "ranking.csv", lambda: as_csv(analysis)),
            Export("json", "ranking, JSON", "as --once --json prints it", "ranking.json",
                   lambda: json_csv.dumps(as_object(view.swarm, analysis)) + "\n"),
        ]  # fmt: skip
    found.append(
        Export("svg", "picture, SVG", f"{TITLES[screen]} as it stands", f"swarmtop-{screen}.svg",
               lambda: board.picture(f"swarmtop: {TITLES[screen]}"))
    )  # fmt: skip
    if view.standing != "file":
        found += [_samples(board, view, kind, what) for kind, what in KINDS.items()]
    return found


def _samples(board: DashboardBase, view: View, kind: str, what: str) -> Export:
    until_ns = view.swarm.at_ns + 1
    since_ns = until_ns - SAMPLES_S * NS_PER_S

    def start(path: Path) -> None:
        workers.start(board, _stream, board, kind, since_ns, until_ns, path, name=f"export {kind}")

    return Export(f"samples-{kind}", f"{what}, CSV", "every sample of the hour before", f"{kind}.csv", None, start)


async def _stream(board: DashboardBase, kind: str, since_ns: int, until_ns: int, path: Path) -> None:
    """Write piece by piece, with the progress on the line below the screen; an incomplete file is removed."""
    rows = -1  # the header does not count
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            async for piece in board.source.export(kind, since_ns, until_ns):
                await asyncio.to_thread(file.write, piece)
                rows += piece.count("\n")
                board.say(f"writing {clean(str(path), 80)}: {max(0, rows)} rows")
    except FileExistsError:
        board.say(f"{clean(str(path), 80)} exists already; nothing was saved")
    except (OSError, SourceError) as error:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else error
        board.say(f"cannot write {clean(str(path), 80)} ({clean(str(reason))}); nothing was saved")
    else:
        board.say(f"wrote {clean(str(path), 80)} ({max(0, rows)} rows)")
