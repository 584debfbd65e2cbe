"""Watch lasting tasks and threads: one that ends is reported and restarted, or ends the program.

A program whose tasks end one by one while its sockets stay open looks alive and does nothing. So every lasting task
belongs to its program's `Supervisor`. An end of any kind is logged and listed in `troubles` (for /health and the
probe's status), and the part is restarted after a pause; a part that keeps ending, or cannot be restarted, is raised by
`failed`, and the program ends with its exit code. Used by collector and probe alike.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

MAX_FAILURES: Final = 5  # ends of one part within `FAILURE_WINDOW_S`; the next one ends the program
FAILURE_WINDOW_S: Final = 600.0
RESTART_DELAY_S: Final = 0.5  # before it is restarted
THREAD_POLL_S: Final = 1.0  # between two checks of threads


class PartFailed(Exception):
    """A lasting task or thread has ended, and restarting it does not help."""


class _Part(msgspec.Struct):
    begin: Callable[[], object] | None  # None: it restarts by itself, or not at all
    ends_s: deque[float] = msgspec.field(default_factory=deque)  # the latest, monotonic
    count: int = 0
    last: str = ""
    running: bool = True


class Supervisor:
    """The supervisor of a program. All methods are for the event loop's thread."""

    def __init__(self, log: logging.Logger, *, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._steady_s = steady_s
        self._parts: dict[str, _Part] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._threads: dict[str, Callable[[], bool]] = {}
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()
        self._closing = False
        self._timers_end = True

    # ------------------------------------------------------------ tasks and threads

    def task(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what `make` returns until `close`, and restart it whenever it ends."""

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(make(), name=name)
            self._tasks[name] = task
            task.add_done_callback(lambda done: self._task_ended(name, done))

        self._parts[name] = _Part(begin)
        begin()

    def thread(self, name: str, alive: Callable[[], bool], begin: Callable[[], object]) -> None:
        """Watch a thread that is started elsewhere; `begin` restarts it."""
        self._parts[name] = _Part(begin)
        self._threads[name] = alive
        if "thread watchdog" not in self._parts:
            self.task("thread watchdog", self._look)

    def watch_callbacks(self, *, timers_end: bool) -> None:
        """Report exceptions in callbacks of the loop from now on like those of a part. `timers_end`: a timer that keeps
        failing ends the program, since it did not set its successor. A callback that reads a socket is called again,
        and others can send what makes it fail: that is only reported."""
        self._timers_end = timers_end
        asyncio.get_running_loop().set_exception_handler(self._callback_failed)

    def lost(self, name: str, error: BaseException | None, *, final: bool = True) -> None:
        """Note the end of a part that runs elsewhere and is restarted there. Not `final`: however often."""
        self._parts.setdefault(name, _Part(None))
        self._ended(name, error, final=final)

    # ------------------------------------------------------------ condition

    @property
    def down(self) -> tuple[str, ...]:
        """Return what does not run now."""
        return tuple(name for name, part in self._parts.items() if not part.running)

    @property
    def troubles(self) -> dict[str, str]:
        """Return what has ended since the start, and how often."""
        now_s = self._steady_s()
        return {
            name: f"ended {part.count} times, last {now_s - part.ends_s[-1]:.0f} s ago ({part.last})"
            for name, part in self._parts.items()
            if part.count
        }

    @property
    def ends(self) -> dict[str, int]:
        """Return how often each part has ended."""
        return {name: part.count for name, part in self._parts.items()}

    async def failed(self) -> None:
        """Wait for a part that cannot continue, and raise its error."""
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    async def close(self) -> None:
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ ends

    def _task_ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self._closing:
            return
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._ended(name, error)

    async def _look(self) -> None:
        while True:
            for name, alive in self._threads.items():
                if self._parts[name].running and not alive():
                    self._ended(name, None)
            await asyncio.sleep(THREAD_POLL_S)

    def _ended(self, name: str, error: BaseException | None, *, final: bool = True) -> None:
        part, now_s = self._parts[name], self._steady_s()
        part.ends_s.append(now_s)
        while part.ends_s[0] < now_s - FAILURE_WINDOW_S:
            part.ends_s.popleft()
        part.count += 1
        part.last = _words(error)
        often = len(part.ends_s) > MAX_FAILURES
        if not often or final:
            self._log.error("%s ended (%s)", name, part.last, exc_info=error)
        if often and not final:
            part.ends_s.popleft()
        elif often:
            part.running = False
            self._fail(name, error)
        elif part.begin is not None:
            part.running = False
            asyncio.get_running_loop().call_later(RESTART_DELAY_S, self._begin, name)

    def _begin(self, name: str) -> None:
        part = self._parts[name]
        if self._closing or part.begin is None:
            return
        try:
            part.begin()
        except Exception as error:  # noqa: BLE001 - it cannot be begun again, for whatever reason
            self._fail(name, error)
            return
        part.running = True
        self._log.warning("%s was restarted", name)

    def _fail(self, name: str, error: BaseException | None) -> None:
        if self._failure is None:
            self._failure = PartFailed(f"{name} kept failing, last with {_words(error)}")
            self._failure.__cause__ = error
        self._failed.set()

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, handle = context.get("exception"), context.get("handle")
        if handle is None or self._closing:
            loop.default_exception_handler(context)
            return
        called = getattr(handle, "_callback", None)
        final = self._timers_end and isinstance(handle, asyncio.TimerHandle)
        self.lost(f"callback {getattr(called, '__qualname__', 'of the event loop')}", error, final=final)


def _words(error: BaseException | None) -> str:
    if error is None:
        return "without an error"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
