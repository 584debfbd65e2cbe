"""Let tasks that act every second or every few share their wake-ups with each other and with the packets of round
trips.

A wake-up costs more than what a task does in it: the processor has to fetch this program again.
"""

from __future__ import annotations

import asyncio
from typing import Final

EARLIER: Final = 0.25  # share of a pause by which it may end earlier; a packet's wake-ups are no further apart
MAX_EARLIER_S: Final = 0.5  # for a longer one: what is done every few seconds is not done much more often


class WakeUps:
    def __init__(self) -> None:
        # who waits → from when on it may go on, by the loop; and what lets it go on at the next wake-up
        self._waiting: dict[asyncio.Future[None], tuple[float, asyncio.Event | None]] = {}

    async def pause(self, most_s: float, until: asyncio.Event | None = None) -> None:
        """Wait until `awake` is called in the last part of this time, or after `until` was set, or until its end."""
        loop = asyncio.get_running_loop()
        waiter, now_s = loop.create_future(), loop.time()
        self._waiting[waiter] = now_s + most_s - min(EARLIER * most_s, MAX_EARLIER_S), until
        timer = loop.call_at(now_s + most_s, self.awake)
        try:
            await waiter
        finally:
            timer.cancel()
            del self._waiting[waiter]

    def awake(self) -> None:
        """Let those go on whose time has come or nearly so: this process is awake."""
        if self._waiting:
            now_s = asyncio.get_running_loop().time()
            for waiter, (from_s, until) in self._waiting.items():
                if (from_s <= now_s or (until is not None and until.is_set())) and not waiter.done():
                    waiter.set_result(None)
