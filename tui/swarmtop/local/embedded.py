"""Run a collector and a probe of this machine as child processes, for `swarmtop` without arguments.

They use a folder of their own, listen on loopback by default, and end with this process, however it
ends (`parent_watchdog`). If this machine has a collector already, that one is watched instead and nothing is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_protocol.addresses import DEFAULT_PORT, address_text
from swarm_protocol.text import safe
from swarm_protocol.trust.identity import default_state_dir
from swarm_protocol.trust.loopback import is_loopback
from swarmtop.commands.invite import reachable_address
from swarmtop.errors import UNUSABLE, CommandError
from swarmtop.local.child_process import Child
from swarmtop.local.own_collector import operator_on
from swarmtop.local.supervisor import LocalPrograms, Supervisor
from swarmtop.parsed_options import LOOPBACK
from swarmtop.progress import progress
from swarmtop.shared_options import TOKEN_VARIABLE
from swarmtop.sources.live import LiveSource
from swarmtop.sources.source import SourceError, first_frame

EVERYWHERE: Final = ("0.0.0.0", "::")  # listens on every address of this machine


@dataclass(frozen=True, slots=True)
class EmbeddedProcesses:
    """The collector that the dashboard connects to."""

    host: str
    port: int
    token: str
    join: tuple[str, int] | None  # where others reach it; None: they cannot
    state: Path | None = None  # the folder of a collector that was started here
    keep: Callable[[], str] | None = None  # lets it outlive this process; returns the line that says how to end it
    programs: LocalPrograms | None = None  # what was started here, to be polled while the dashboard runs


@contextlib.contextmanager
def home(
    token: str = "",
    listen: tuple[str, int] | None = None,
    state_dir: Path | None = None,
    port: int = DEFAULT_PORT,
) -> Iterator[EmbeddedProcesses]:
    """Return the collector on this machine; if there is none, start one with a probe.

    `listen`: start one there, for others to join; without a token one is made, since strangers may reach it.
    Raises CommandError, and SourceError if a collector exists but refuses.
    """
    if listen is None and collector_at(LOOPBACK, port, token):
        yield EmbeddedProcesses(LOOPBACK, port, token, None)
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

        def start_collector(*, again: bool) -> Child:
            store = f"sqlite:///{folder / 'swarm.db'}"
            arguments = ["--listen", where, "--store", store, "--state", str(folder)]
            return Child("swarm_collector", arguments, folder, environment, again=again)

        def start_probe(*, again: bool) -> Child:
            arguments = ["--join", address_text(host, at), "--state", str(folder / "probe")]
            return Child("swarm_probe", arguments, folder, environment, again=again)

        collector = Supervisor(start_collector, time.monotonic(), "the collector started here has ended")
        stack.callback(collector.end)
        with progress("starting a collector on this machine"):
            at = collector.child.listening_port()
        where = address_text(listen[0] if listen is not None else LOOPBACK, at)  # a restarted one is found there
        host = LOOPBACK if listen is None or listen[0] in EVERYWHERE else listen[0]
        loss = "the probe started here has ended, so this machine is not measured"
        probe = Supervisor(start_probe, time.monotonic(), loss)
        stack.callback(probe.end)
        join = None
        if listen is not None and not is_loopback(listen[0]):
            join = (reachable_address()[0] if listen[0] in EVERYWHERE else listen[0], at)

        def keep() -> str:
            if collector.child.died() is not None:  # told below; a probe alone would try to join it for ever
                return ""
            collector.child.keep()
            probe.child.keep()
            return (
                f"the collector goes on at {address_text(host, at)}; swarmtop comes back to it, "
                f"kill {collector.child.pid} {probe.child.pid} ends it"
            )

        try:
            yield EmbeddedProcesses(host, at, token, join, folder, keep, EmbeddedPrograms(collector, probe))
        finally:
            for died in filter(None, (collector.child.died(), probe.child.died())):
                print(f"swarmtop: {died}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class EmbeddedPrograms:
    """The collector and the probe, with this machine's clock."""

    collector: Supervisor
    probe: Supervisor

    def poll(self) -> tuple[str, ...]:
        now_s = time.monotonic()
        return tuple(line for each in (self.collector, self.probe) if (line := each.poll(now_s)))

    @property
    def trouble(self) -> str:
        return self.collector.trouble or self.probe.trouble


def collector_at(host: str, port: int, token: str) -> bool:
    """Return whether a collector answers there. Raises SourceError if one does, but refuses this viewer."""

    async def ask() -> bool:
        source = LiveSource(host, port, token=token, operator=lambda: operator_on(port))
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
