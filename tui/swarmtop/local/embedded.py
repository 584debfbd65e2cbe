"""Run a collector and a probe of this machine as child processes, for `swarmtop` without arguments.

They use a folder of their own, listen on loopback by default, and end with this process, however it
ends (`parent_watchdog`). If this machine has a collector already, that one is watched instead and nothing is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from swarm_protocol.addresses import DEFAULT_PORT, address_text
from swarm_protocol.text import safe
from swarm_protocol.trust.identity import default_state_dir
from swarm_protocol.trust.loopback import is_loopback
from swarmtop.commands.invite import reachable_address
from swarmtop.errors import UNUSABLE, CommandError
from swarmtop.local.parent_watchdog import keep_line
from swarmtop.parsed_options import LOOPBACK
from swarmtop.progress import progress
from swarmtop.shared_options import TOKEN_VARIABLE
from swarmtop.sources.live import LiveSource
from swarmtop.sources.source import SourceError, first_frame

EVERYWHERE: Final = ("0.0.0.0", "::")  # listens on every address of this machine
READY_WITHIN_S: Final = 60.0  # a first start compiles and creates a database, on a slow disk too
END_WITHIN_S: Final = 12.0  # longer than the watchdog's own grace
READ_WITHIN_S: Final = 1.0  # for the last output of an ended child, unless a child of its own holds the pipe open
_LISTENING = re.compile(r"listening on \S*?:(\d+)\b")


@dataclass(frozen=True, slots=True)
class Home:
    """The collector that the dashboard connects to."""

    host: str
    port: int
    token: str
    join: tuple[str, int] | None  # where others reach it; None: they cannot
    state: Path | None = None  # the folder of a collector that was started here
    keep: Callable[[], str] | None = None  # lets it outlive this process; returns the line that says how to end it
    ended: Callable[[], str] | None = None  # returns that it ended by itself, and what to do; "" while it runs


@contextlib.contextmanager
def home(
    token: str = "",
    listen: tuple[str, int] | None = None,
    state_dir: Path | None = None,
    port: int = DEFAULT_PORT,
) -> Iterator[Home]:
    """Return the collector on this machine; if there is none, start one with a probe.

    `listen`: start one there, for others to join; without a token one is made, since strangers may reach it.
    Raises CommandError, and SourceError if a collector exists but refuses.
    """
    if listen is None and collector_at(LOOPBACK, port, token):
        yield Home(LOOPBACK, port, token, None)
        return
    folder = (state_dir or default_state_dir()) / "local"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"cannot make {safe(str(folder))} ({error.strerror}); name another place with SWARMTOP_HOME"
        ) from error
    if listen is None:
        where = address_text(LOOPBACK, free_port(port))
    else:
        where = address_text(*listen)
        token = token or ("" if is_loopback(listen[0]) else secrets.token_urlsafe(12))
    environment = {**os.environ, TOKEN_VARIABLE: token}  # not as an argument: those can be read by every user
    with contextlib.ExitStack() as stack:
        store = f"sqlite:///{folder / 'swarm.db'}"
        collector = Child(
            "swarm_collector", ["--listen", where, "--store", store, "--state", str(folder)], folder, environment
        )
        stack.callback(collector.end)
        with progress("starting a collector on this machine"):
            at = collector.listening_port()
        host = LOOPBACK if listen is None or listen[0] in EVERYWHERE else listen[0]
        probe = Child(
            "swarm_probe", ["--join", address_text(host, at), "--state", str(folder / "probe")], folder, environment
        )
        stack.callback(probe.end)
        join = None
        if listen is not None and not is_loopback(listen[0]):
            join = (reachable_address()[0] if listen[0] in EVERYWHERE else listen[0], at)

        def ended() -> str:
            """Runs in the event loop, so it waits for nothing."""
            died = collector.died() if collector.is_over else None
            return f"the collector started here has ended: quit, and start swarmtop again ({died})" if died else ""

        def keep() -> str:
            if collector.died() is not None:  # told below; a probe alone would try to join it for ever
                return ""
            collector.keep()
            probe.keep()
            return (
                f"the collector goes on at {address_text(host, at)}; swarmtop comes back to it, "
                f"kill {collector.pid} {probe.pid} ends it"
            )

        try:
            yield Home(host, at, token, join, folder, keep, ended)
        finally:
            for died in filter(None, (collector.died(), probe.died())):
                print(f"swarmtop: {died}", file=sys.stderr)


def collector_at(host: str, port: int, token: str) -> bool:
    """Return whether a collector answers there. Raises SourceError if one does, but refuses this viewer."""

    async def ask() -> bool:
        source = LiveSource(host, port, token=token)
        try:
            await first_frame(source)
        finally:
            await source.close()
        return True

    try:
        with progress(f"looking for a collector on {address_text(host, port)}"):
            return asyncio.run(ask())
    except SourceError as error:
        if error.exit_code == UNUSABLE:
            raise
        return False


def free_port(wanted: int) -> int:
    """Return `wanted` if it is free, else 0: any free one. With the default `swarmtop --once` finds it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted))
        except OSError:
            return 0
    return wanted


class Child:
    """A child program under the parent watchdog; its output goes into its log file."""

    def __init__(
        self, module: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = module.replace("_", "-")
        self.log = folder / f"{self.name}.log"
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
    def is_over(self) -> bool:
        """Whether it has ended, and all of its output was read."""
        return self._process.poll() is not None and not self._reader.is_alive()

    def died(self) -> str | None:
        """Return that it has ended unexpectedly, and its last output."""
        code = self._process.poll()
        if code is None:
            return None
        self._reader.join(READ_WITHIN_S)
        said = f": {safe(self._last)}" if self._last else ""
        return f"{self.name} ended by itself (exit code {code}){said}; its log is {safe(str(self.log))}"

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
            self._process.stdin.close()

    def _read(self, lines: IO[str]) -> None:
        """Read until the child's output ends. A log that cannot be written must not stop the child: lines are lost
        then."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._ready.set)
            stack.enter_context(lines)
            log = None
            with contextlib.suppress(OSError):
                log = stack.enter_context(self.log.open("w", encoding="utf-8"))
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
