"""Limit the log of the whole process: a handler filter that sees the lines of every logger and thread.

A cause is the place in the code that logs, with the kind of exception if there is one; `because` names it where one
place reports several things. Lines of aiohttp, asyncio and the store are limited like our own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from swarm_collector.transport.log_rate_limit import LogRateLimiter
from swarm_protocol.text import safe

LOOK_EVERY_S: Final = 5.0  # for summaries that are due
LIKE_CHARACTERS: Final = 300  # of an example line for those left out

_log = logging.getLogger("swarm_collector.log")


def because(cause: str) -> dict[str, str]:
    """Return a log call's `extra` that says which lines count together. Never pass what a stranger can choose."""
    return {"cause": cause}


class LogFilter(logging.Filter):
    def __init__(
        self, log_limiter: LogRateLimiter | None = None, steady_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__()
        self._log_limiter = log_limiter or LogRateLimiter()
        self._steady_ns = steady_ns
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == _log.name:
            return True  # a summary
        cause, now_ns = _cause_of(record), self._steady_ns()
        with self._lock:
            if self._log_limiter.passes(cause, now_ns):
                return True
            first = not self._log_limiter.left_out(cause)
            self._log_limiter.leave_out(cause, now_ns, safe(record.getMessage(), LIKE_CHARACTERS) if first else "")
            return False

    def sum_up(self, *, all_of_them: bool = False) -> None:
        """Log how many lines were left out, for each cause whose time has come."""
        with self._lock:
            due = self._log_limiter.due(self._steady_ns(), all_of_them=all_of_them)
        for summary in due:
            _log.warning("%s", summary.text)

    async def run(self) -> None:
        """Log summaries periodically, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.sum_up()

    def close(self) -> None:
        self.sum_up(all_of_them=True)


def _cause_of(record: logging.LogRecord) -> str:
    cause = getattr(record, "cause", None)
    if isinstance(cause, str):
        return cause
    kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] is not None else ""
    return f"{record.pathname}:{record.lineno} {kind}"
