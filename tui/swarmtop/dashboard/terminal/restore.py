"""Restore the terminal however the dashboard ends: a key, a signal, a lost connection, a crash.

Exit codes: 0 after `q`; 128 + the signal's number where one ended it (130 Ctrl+C or SIGINT, 143 SIGTERM, 129 SIGHUP),
as shells expect; 1 after a crash, with the traceback in `swarmtop.log` and one line on stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from swarm_protocol.text import safe

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S: Final = 5.0  # for an orderly exit; then the terminal is restored from outside the event loop
GRACE_GONE_S: Final = 1.0  # after a hang-up: Textual's writer may block on a full queue that is no longer read

# What Textual turns on and may leave on; turning each off again is harmless.
_QUIET: Final = (
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l"  # mouse
    "\x1b[?1004l\x1b[?2004l\x1b[?2048l"  # focus, paste and size reports
    "\x1b[?7h\x1b[?25h\x1b[0m"  # line wrap, cursor, colours
)
# Only if Textual did not leave in order: on a plain screen it would move the cursor.
_LEAVE: Final = "\x1b[<u\x1b[?1049l"


class Terminal:
    """The terminal's modes found at the start, to be restored at the end."""

    def __init__(self) -> None:
        self._modes: list[Any] | None = None
        self._fd = -1
        with contextlib.suppress(OSError, ValueError, termios.error):
            self._fd = sys.__stdin__.fileno() if sys.__stdin__ else -1
            self._modes = termios.tcgetattr(self._fd)

    def is_gone(self) -> bool:
        """Return whether the other end has hung up; writing would fail or block."""
        if self._modes is None:
            return False
        try:
            termios.tcgetattr(self._fd)
        except termios.error:
            return True
        return False

    def restore(self, *, left: bool) -> None:
        """Restore the terminal. `left`: the alternate screen was left in order."""
        if self._modes is None or self.is_gone():
            return
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._modes)
        with contextlib.suppress(OSError):
            os.write(2, (_QUIET if left else _LEAVE + _QUIET).encode())


def detach() -> None:
    """After a hang-up, discard what is still written, so that the clean-up does not fail."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


@contextlib.contextmanager
def signals(terminal: Terminal, end: Callable[[int], None]) -> Iterator[None]:
    """Within the running loop, have SIGINT, SIGTERM and SIGHUP call `end(128 + number)`; if that does not end it,
    exit."""
    loop = asyncio.get_running_loop()
    finished = threading.Event()

    def on_signal(number: int) -> None:
        code = 128 + number
        gone = terminal.is_gone()
        if gone:
            detach()
        grace_s = GRACE_GONE_S if gone else GRACE_S
        threading.Thread(
            target=_ensure_end, args=(terminal, finished, code, grace_s), name="ensure-end", daemon=True
        ).start()
        end(code)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        finished.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _ensure_end(terminal: Terminal, finished: threading.Event, code: int, grace_s: float) -> None:
    if not finished.wait(grace_s):
        terminal.restore(left=False)
        os._exit(code)


def log_error(state_dir: Path, error: BaseException) -> Path | None:
    """Append the traceback to `swarmtop.log`; return None if that fails, and print it on stderr."""
    text = "".join(traceback.format_exception(error))
    path = state_dir / "swarmtop.log"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError:
        sys.stderr.write(text)
        return None
    return path


def say(text: str) -> None:
    """Print a cleaned line on stderr, which may be closed."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"swarmtop: {safe(text, 500)}\n")
        sys.stderr.flush()
