"""Run one child program under the parent watchdog, keep its output in a log file, and say how it ended."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from swarm_protocol.text import safe
from swarmtop.errors import CommandError
from swarmtop.local.parent_watchdog import keep_line

READY_WITHIN_S: Final = 60.0  # a first start compiles and creates a database, on a slow disk too
END_WITHIN_S: Final = 12.0  # longer than the watchdog's own grace
READ_WITHIN_S: Final = 1.0  # for the last output of an ended child, unless a child of its own holds the pipe open
_LISTENING: Final = re.compile(r"listening on \S*?:(\d+)\b")


class Child:
    """A child program; its output goes into its log file, which `again` continues."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        again: bool = False,
    ) -> None:
        self.name = module.replace("_", "-")
        self.log = folder / f"{self.name}.log"
        self._mode = "a" if again else "w"
        self._last = ""
        self._kept = False
        self._port: int | None = None
        self._ready = threading.Event()  # the port is known, or never will be
        self._process = subprocess.Popen(
            [sys.executable, "-m", "swarmtop.local.parent_watchdog", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl+C is for the dashboard; it ends its children in order
            text=True,
            errors="replace",
            env=environment,
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def listening_port(self) -> int:
        """Return the port, as soon as the child reports it. Raises CommandError if it ends before."""
        self._ready.wait(READY_WITHIN_S)
        if self._port is None:
            self.end()
            said = f": {safe(self._last)}" if self._last else ""
            raise CommandError(f"{self.name} did not start{said}; its log is {safe(str(self.log))}")
        return self._port

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and once it is kept; negative: killed by that signal."""
        return None if self._kept else self._process.poll()

    @property
    def is_read(self) -> bool:
        """Whether all of its output was read."""
        return not self._reader.is_alive()

    def died(self) -> str | None:
        """Return that it has ended unexpectedly, and its last output."""
        code = self.exit_code
        if code is None:
            return None
        self._reader.join(READ_WITHIN_S)
        said = f": {safe(self._last)}" if self._last else ""
        return f"{self.name} {how_ended(code)}{said}; its log is {safe(str(self.log))}"

    def keep(self) -> None:
        """Let it outlive this process; `end` does nothing then."""
        if self._process.stdin is not None and self._process.poll() is None:
            self._process.stdin.write(keep_line(str(self.log)))
            self._process.stdin.flush()
            self._kept = True

    def end(self) -> None:
        """Send SIGTERM, and kill where that does not help in time."""
        if self._kept:
            return
        self._process.terminate()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def _read(self, lines: IO[str]) -> None:
        """Read until the child's output ends. A log that cannot be written must not stop the child: lines are lost
        then."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._ready.set)
            stack.enter_context(lines)
            log = None
            with contextlib.suppress(OSError):
                log = stack.enter_context(self.log.open(self._mode, encoding="utf-8"))
            for line in lines:
                self._last = line.strip() or self._last
                match = _LISTENING.search(line)
                if match and self._port is None:
                    self._port = int(match[1])
                    self._ready.set()
                if log is not None:
                    with contextlib.suppress(OSError):
                        log.write(line)
                        log.flush()


def how_ended(code: int) -> str:
    """Return `was killed (SIGKILL)` or `ended by itself (exit code 2)`."""
    if code >= 0:
        return f"ended by itself (exit code {code})"
    with contextlib.suppress(ValueError):
        return f"was killed ({signal.Signals(-code).name})"
    return f"was killed (signal {-code})"
