"""Define what both kinds of session share: reasons to end, and the times after which a peer counts as dead."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import WSCloseCode


class SessionOver(Exception):
    """This session has to end; the text is sent as the close reason."""

    def __init__(self, reason: str, code: int = WSCloseCode.POLICY_VIOLATION) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class KeepaliveTimes:
    """The times after which a peer counts as dead."""

    ping_s: float = 15.0  # interval of pings; the answer may take half of it
    silence_s: float = 30.0  # without a complete message for this time a probe has stopped, whatever its TCP says
    send_s: float = 30.0  # a peer that reads nothing for this time is gone


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts of a session until one of them ends; raise its exception, if it has one."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
