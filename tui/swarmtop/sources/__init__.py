"""The three places numbers come from: a running collector (live), a database (replay), a file written by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from swarmtop.sources.source import Source, SourceError

if TYPE_CHECKING:  # numpy: `--help` comes by here, and needs SourceError alone
    from swarm_protocol.snapshot.swarm import Swarm


async def first_frame(source: Source) -> Swarm:
    """The first state a source has; live, it waits for it. Raises SourceError."""
    frames = cast("AsyncGenerator[Swarm, None]", source.frames())
    try:
        return await anext(frames)
    except StopAsyncIteration:
        raise SourceError(f"{source.title} has no state to show", 2) from None
    finally:
        await frames.aclose()
