"""Count the bytes that Textual's driver writes, whether to a terminal or to a browser."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.driver import Driver

Wrote = Callable[[int, float], None]


def counting(base: type[Driver], wrote: Wrote) -> type[Driver]:
    """Return a driver class that calls `wrote(bytes, seconds)` at each write, with its monotonic time."""

    def write(self: Driver, data: str) -> None:
        base.write(self, data)
        wrote(len(data) if data.isascii() else len(data.encode()), time.monotonic())

    return type(f"Counting{base.__name__}", (base,), {"write": write})


def waiting(driver: Driver | None) -> int:
    """Return the writes that the terminal has not taken yet; 0 if a driver has no queue."""
    thread = getattr(driver, "_writer_thread", None)
    return thread._queue.qsize() if thread is not None else 0
