"""Share helpers among commands: read one frame of a source, find the width of the page."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from typing import Final

from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.progress import progress
from swarmtop.sources.source import Source, first_frame

PIPE_WIDTH: Final = 100  # of a page that goes into a file


def one_frame(source: Source) -> Swarm:
    """Return the first state of `source`, which is closed again. Raises SourceError."""

    async def work() -> Swarm:
        try:
            return await first_frame(source)
        finally:
            await source.close()

    with progress(f"waiting for {source.title}"):
        return asyncio.run(work())


def table_width() -> int | None:
    """Return the width of the terminal, or of COLUMNS; None (unlimited) where the table goes into a pipe or a file."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return shutil.get_terminal_size().columns


def page_width() -> int:
    return table_width() or PIPE_WIDTH
