"""The dashboard on a synthetic swarm, as a process of its own: what the tests of the terminal start.

SIGUSR1 makes the source raise a bug; DASH_HANG makes the planner stand still for ever. DASH_NODES is how many further
nodes there are; then the planner is the real one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import dash_fakes as fakes

from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.analysis.analysis import Analysis
from swarmtop.dashboard.run import run_dashboard


class Breakable(fakes.FakeSource):
    async def frames(self) -> AsyncIterator[Swarm]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.fail, KeyError("a bug\x1b[2J in the source"))
        async for frame in super().frames():
            yield frame


def stuck(*_: Any) -> Analysis:
    threading.Event().wait()
    raise AssertionError


if __name__ == "__main__":
    names = ["[@click=app.quit]x[/]", "\x1b]0;owned\x07evil", *fakes.NAMES]
    more = int(os.environ.get("DASH_NODES", "0"))
    names += [f"node-{number}" for number in range(more)]
    hang = bool(os.environ.get("DASH_HANG"))
    analyse = None if more else stuck if hang else fakes.analyse
    sys.exit(
        run_dashboard(
            Breakable(fakes.swarm(names)),
            fakes.options(color=None, state_dir=Path(os.environ["SWARMTOP_HOME"]), analyse=analyse),
        )
    )
