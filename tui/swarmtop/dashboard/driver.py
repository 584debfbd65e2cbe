"""Textual's driver with the bytes it writes counted, whichever driver that is: of a terminal, or of a browser."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.driver import Driver

Wrote = Callable[[int, float], None]


def counting(base: type[Driver], wrote: Wrote) -> type[Driver]:
    """`wrote(bytes, seconds)` is told of each write, with the monotonic time of it."""

    def write(self: Driver, data: str) -> None:
        base.write(self, data)
        wrote(len(data) if data.isascii() else len(data.encode()), time.monotonic())

    return type(f"Counting{base.__name__}", (base,), {"write": write})


def waiting(driver: Driver | None) -> int:
    """Writes that the terminal has not taken yet; 0 where a driver has no queue before it."""
    thread = getattr(driver, "_writer_thread", None)
    return thread._queue.qsize() if thread is not None else 0
