"""Run one lab: hosts, the router between them, a collector, a real probe on each host, and the scenario's events.

Every child dies with this process (prctl), and namespaces and interfaces disappear with their last user, so nothing is
left behind on any exit; the next lab removes the cgroups of a killed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from swarm_lab.emulation import cpu_limit, netns
from swarm_lab.emulation.emulator import own_address, public_address
from swarm_lab.emulation.scenario import COLLECTOR, Event, Scenario
from swarm_protocol.addresses import DEFAULT_PORT
from swarm_protocol.trust import certificate_pins

CERTIFICATE_FILE: Final = "collector.crt"  # as the collector calls it, in its folder
READY_TIMEOUT_S: Final = 30.0  # a collector's or router's start on a machine as busy as a lab makes it
STOP_TIMEOUT_S: Final = 5.0  # a probe says goodbye and flushes; then it is killed
FIRST_NICE: Final = -15
MACHINE_ACTIONS: Final = ("freeze", "thaw", "leave", "join", "cpu")

Say = Callable[[str], None]


@dataclass(slots=True)
class LabHost:
    index: int
    name: str
    net: netns.HostNet
    folder: Path
    share: cpu_limit.CpuShare | None = None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    probe: subprocess.Popen[bytes] | None = None


class Lab:
    """`async with Lab(…) as lab`: up when entered, gone when left. Raises LabUnavailable."""

    def __init__(
        self,
        scenario: Scenario,
        scenario_text: str,
        folder: Path,
        say: Say,
        *,
        model: str | None = None,
        probes_first: bool = False,
    ):
        """`probes_first`: probes run with a higher priority than other programs of this machine."""
        self.scenario = scenario
        self.folder = folder
        self.hosts: dict[str, LabHost] = {}
        self.token = secrets.token_urlsafe(9)
        self.started_ns = 0  # wall clock of the timeline's zero
        self._text = scenario_text
        self.say = say
        self._model = model or scenario.model
        self._probes_first = probes_first
        self.probe_module = "swarm_probe"  # what runs as a probe; with the same arguments
        self._router: subprocess.Popen[bytes] | None = None
        self._collector: subprocess.Popen[bytes] | None = None

    @property
    def truth_file(self) -> Path:
        return self.folder / "truth.bin"

    @property
    def database(self) -> Path:
        return self.folder / "swarm.db"

    @property
    def collector_address(self) -> str:
        index = self.scenario.names().index(COLLECTOR)
        return f"{public_address(index)}:{DEFAULT_PORT}"

    @property
    def collector_pin(self) -> str:
        """Return the fingerprint of the collector's certificate, which each lab creates. Raises LabUnavailable."""
        try:
            certificate = (self.folder / COLLECTOR / CERTIFICATE_FILE).read_text()
        except OSError as error:
            raise netns.LabUnavailable(f"the collector's certificate cannot be read ({error})") from error
        return certificate_pins.fingerprint(ssl.PEM_cert_to_DER_cert(certificate))

    async def __aenter__(self) -> Lab:
        if os.geteuid() != 0:
            netns.enter_user_namespace()
        cpu_limit.sweep()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._make_hosts()
            await self._start_router()
            await self._start_collector()
            self.start(
                COLLECTOR,
                ["-m", "swarm_lab.verification.headless_viewer", self.collector_address, self.scenario.running],
                "watcher.log",
            )
            for host in self.scenario.host:
                if host.probe:
                    self.start_probe(host.name)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def _make_hosts(self) -> None:
        for index, host in enumerate(self.scenario.host):
            folder = self.folder / host.name
            folder.mkdir(exist_ok=True)
            net = netns.make_host(own_address(self.scenario, index), host.tcp)
            self.hosts[host.name] = LabHost(index, host.name, net, folder)
            if net.congestion != host.tcp:
                self.say(f"{host.name} runs TCP {net.congestion}: {host.tcp} is not available here")
            if host.cpu is not None:
                try:
                    self.hosts[host.name].share = cpu_limit.CpuShare(host.name, host.cpu)
                except OSError as error:
                    self.say(f"{host.name} runs at full speed: no cgroup can be made ({error.strerror})")

    async def _start_router(self) -> None:
        self._router = router = self._spawn_router()
        assert router.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(router.stdout.readline), READY_TIMEOUT_S)
        if not line.startswith(b"ready"):
            raise netns.LabUnavailable(f"the router did not start; see {self.folder / 'router.log'}")
        if b"normal" in line:
            self.say("no right to real-time priority here: expect delays off by milliseconds when the machine is busy")

    def _spawn_router(self) -> subprocess.Popen[bytes]:
        text = self.folder / "scenario.toml"
        text.write_text(self._text)
        tuns = [host.net.tun_fd for host in self.hosts.values()]
        command = [
            sys.executable,
            "-m",
            "swarm_lab.emulation.router",
            "--scenario",
            str(text),
            "--truth",
            str(self.truth_file),
        ]
        command += ["--tuns", ",".join(map(str, tuns))]
        parent = os.getpid()
        with (self.folder / "router.log").open("wb") as log:
            return subprocess.Popen(
                command,
                pass_fds=tuns,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl+C is the dashboard's
                preexec_fn=lambda: netns.die_with_parent(parent),
            )

    async def _start_collector(self) -> None:
        ready = self.folder / "collector.ready"
        command = ["--listen", self.collector_address, "--store", f"sqlite:///{self.database}"]
        command += ["--model", self._model, "--weights", "fp32", "--ready-file", str(ready)]
        command += ["--transfers-a-day", "1000GiB"]  # the emulator's links cost nothing
        self._collector = self.start(COLLECTOR, ["-m", "swarm_collector", *command], "collector.log")
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not ready.exists():
            if self._collector.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / COLLECTOR / "collector.log").read_text().strip().splitlines()
                raise netns.LabUnavailable(f"the collector did not start: {said[-1] if said else 'it printed nothing'}")
            await asyncio.sleep(0.02)

    def start(
        self,
        host: str,
        arguments: list[str],
        log_name: str,
        *,
        talk: bool = False,
        first: bool = False,
        program: str = sys.executable,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Run `PROGRAM ARGUMENTS` (Python by default) on a host; its output goes to a file there. It ends with the lab.

        `talk`: standard input and output are pipes to the caller instead. `first`: with higher priority than other
        programs of this machine, where that is allowed: a host of the lab stands for a machine of its own.
        """
        where = self.hosts[host]
        enter = netns.in_host(where.net.namespace_fd)
        share = where.share

        def prepare() -> None:
            enter()
            if share is not None:
                share.join()
            if first:
                _raise_priority()

        environment = {**os.environ, "SWARMTOP_TOKEN": self.token, "SWARMTOP_HOME": str(where.folder)}
        environment["OMP_NUM_THREADS"] = "1"  # hosts share the cores, and threads that wait for each other would spin
        environment |= variables or {}
        with (where.folder / log_name).open("ab") as log:
            process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talk else log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=prepare,
            )
        where.processes.append(process)
        return process

    def start_probe(self, name: str) -> None:
        host = self.hosts[name]
        arguments = ["-m", self.probe_module, "--join", self.collector_address, "--name", name]
        arguments += ["--state", str(host.folder / "probe")]
        arguments += ["--daily-bytes", "none"]  # the emulator's links may be measured without a limit
        memory_gib = self.scenario.host[host.index].memory_gib
        if memory_gib is not None:
            arguments += ["--offer-gib", str(memory_gib)]
        host.probe = self.start(name, arguments, "probe.log", first=self._probes_first)

    def freeze_probes(self) -> None:
        """Stop every probe and what it started, so that it takes no cores and no bytes from what runs next."""
        for host in self.hosts.values():
            for process in _probe_family(host):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()

    async def play_timeline(self) -> None:
        """Play the events of machines from now on; the router plays those of the network."""
        assert self._router is not None
        assert self._router.stdin is not None
        self.started_ns = time.time_ns()
        self._router.stdin.write(b"play\n")
        self._router.stdin.flush()
        for event in sorted(self.scenario.event, key=lambda e: e.at_s):
            await asyncio.sleep(max(event.at_s - (time.time_ns() - self.started_ns) / 1e9, 0))
            if event.note:
                self.say(f"{event.at_s:g} s: {event.note}")
            if event.action in MACHINE_ACTIONS:
                await self._carry_out(event)

    async def _carry_out(self, event: Event) -> None:
        assert event.host is not None
        host = self.hosts[event.host]
        if event.action == "freeze":
            _signal_all(host, signal.SIGSTOP)
        elif event.action == "thaw":
            _signal_all(host, signal.SIGCONT)
        elif event.action == "cpu" and host.share is not None and event.cpu is not None:
            host.share.set(event.cpu)
        elif event.action == "leave" and host.probe is not None:
            await _stop(host.probe)
        elif event.action == "join":
            self.start_probe(host.name)

    async def close(self) -> None:
        """End everything in order: probes send what they hold, then the collector, then the router. Idempotent."""
        everyone = [process for host in self.hosts.values() for process in host.processes]
        for host in self.hosts.values():
            _signal_all(host, signal.SIGCONT)
            for process in _probe_family(host):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
        await asyncio.gather(*(_stop(process) for process in everyone if process is not self._collector))
        if self._collector is not None:
            await _stop(self._collector)
        if self._router is not None:
            assert self._router.stdin is not None
            self._router.stdin.close()
            await _wait(self._router)
            self._router = None
        for host in self.hosts.values():
            os.close(host.net.tun_fd)
            os.close(host.net.namespace_fd)
            if host.share is not None:
                host.share.remove()
        self.hosts.clear()


def _probe_family(host: LabHost) -> list[psutil.Process]:
    """Return a probe and all it started: layers are timed in a session of their own."""
    if host.probe is None or host.probe.poll() is not None:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        probe = psutil.Process(host.probe.pid)
        return [probe, *probe.children(recursive=True)]
    return []


def _raise_priority() -> None:
    """Raise the priority of this process, where that is allowed: in its session, and of its session among others, which
    is what counts where the kernel groups processes by session (sched(7), autogroup)."""
    with contextlib.suppress(PermissionError):
        os.nice(FIRST_NICE)
    with contextlib.suppress(OSError):  # a kernel without it, or no right to
        Path("/proc/self/autogroup").write_text(str(FIRST_NICE))


def _signal_all(host: LabHost, number: int) -> None:
    """Signal each process group of the host: a probe's compute child freezes with it."""
    for process in host.processes:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


async def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        await _wait(process)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # processes that it started and left, as Petals' servers do


async def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)
