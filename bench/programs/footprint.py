"""Measure the probe's footprint with 32 peers: resident memory and share of a core, against a bare client, irtt and
ping.

33 probes and a collector are real processes on loopback. All figures are read from the operating system over the same
minute: CPU is what the kernel charged, so other work on the machine changes it little. One probe has timed a layer with
torch before (if torch is installed); the others run as where it is not, so that no layer is timed meanwhile. Hop rounds
and transfers come every some minutes: what fell into the minute is printed, and what all the first ones cost. A
collector calls itself unwatched ten minutes after the last viewer; here after UNWATCHED_S. Two probes join over TLS, as
from another machine, the others in plain text, as on the collector's own; for that the collector gets a certificate.
Two, one of them over TLS, have measured hops to each other over QUIC, as through a punched hole. Modules are compiled
beforehand, as pip does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.server import ServerConnection, serve

from bench.support.footprint_programs import (
    FLOOR,
    IMPORTS,
    IMPORTS_OF_QUIC,
    NO_TORCH,
    PROBE,
    UNWATCHED,
    only_by_quic,
)
from bench.support.harness import (
    MB,
    BenchError,
    Processes,
    cpu_s,
    folder,
    free_port,
    machine,
    record,
    start_collector,
    table,
)
from bench.support.peer_programs import left_out
from swarm_collector.scheduling.measurement_plan import IDLE_PACKETS_PER_S, OWN_PACKETS_PER_S
from swarm_collector.transport.certificate import load_or_make
from swarm_probe.owner_reports.status import Status, read_status
from swarmtop.progress import progress
from swarmtop.sources.live import LiveSource

PROBES = 33
PEERS = PROBES - 1
IDLE_S, WATCHED_S = 60.0, 30.0
TIMED_S = 120.0  # torch from a cold disk, beside everything else that starts
GOAL_MB, GOAL_QUIC_MB, GOAL_PERCENT, GOAL_WATCHED_PERCENT = 28.0, 40.0, 0.5, 0.3
TORCH, TLS = 0, 1  # the probe that times layers, and the one that joins over TLS
QUIC, QUIC_TLS = 2, 3  # those that measure hops to each other over QUIC


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What one process or several together took."""

    rss_mb: float
    pss_mb: float  # pages shared with others counted by share; NaN if the system does not say
    uss_mb: float  # pages nobody else maps
    cpu_percent: float  # of one core


def main() -> int:
    print(machine())
    print(f"a collector and {PROBES} probes on loopback; CPU over {IDLE_S:.0f} s ({WATCHED_S:.0f} s where watched)")
    try:
        with folder() as home, Processes(home) as processes:
            certificate = load_or_make(home).context
            with _echo() as url, _echo(certificate) as tls_url:
                return _run(processes, url, tls_url)
    except BenchError as error:
        print(f"footprint: {error}", file=sys.stderr)
        return 1


def _run(processes: Processes, *floor_urls: str) -> int:
    home = processes.folder
    collector, port = start_collector(processes, "--model", "tiny", "--weights", "fp32", before=UNWATCHED)
    torch, quic = (importlib.util.find_spec(name) is not None for name in ("torch", "aioquic"))
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(home / "compiled")}
    for imports in (IMPORTS, *([IMPORTS_OF_QUIC] if quic else [])):
        processes.start("compile.log", sys.executable, "-c", imports, environment=compiled).wait()
    probes = []
    for i in range(PROBES):
        first = "" if torch and i == TORCH else NO_TORCH
        if quic and i in (QUIC, QUIC_TLS):
            first += only_by_quic(*(f"node{each}" for each in (QUIC, QUIC_TLS)))
        program = f"{first}\n{PROBE}"
        where = ["--join", f"127.0.0.1:{port}", "--name", f"node{i}", "--state", str(home / f"node{i}")]
        if i in (TLS, QUIC_TLS):
            where += ["--fingerprint", _fingerprint(home / "collector.log")]
        log = f"node{i}.log"
        probes.append(processes.start(log, sys.executable, "-c", program, *where, environment=compiled))
    floors = [
        processes.start("floor.log", sys.executable, "-c", FLOOR, url, environment=compiled) for url in floor_urls
    ]
    with progress("probes join, one times a layer, the collector notices that nobody looks"):
        idle = _plan_line(IDLE_PACKETS_PER_S)
        processes.until(lambda: all(s and idle in s.plan for s in _statuses(home)), "every probe's idle plan", TIMED_S)
        if torch:
            processes.until(lambda: "timed layers" in _statuses(home)[0].compute, "a layer timed", TIMED_S)
        if quic:
            processes.until(lambda: all(map(_has_used_quic, (QUIC, QUIC_TLS), [home] * 2)), "hops over QUIC", TIMED_S)
    peers = _peers(processes)
    with progress(f"nobody looks: {IDLE_S:.0f} s"):
        before = _counters(home)
        start_s = statistics.median(cpu_s(p.pid) for p in probes)
        found = _watch([[p] for p in probes] + [[collector], *([floor] for floor in floors), *peers.values()], IDLE_S)
        after = _counters(home)
    with progress(f"somebody looks: {WATCHED_S:.0f} s"), _viewer(port):
        watched = _plan_line(OWN_PACKETS_PER_S)
        processes.until(lambda: all(watched in s.plan for s in _statuses(home)), "every probe's watched plan")
        looked = _watch([[p] for p in probes] + [[collector]], WATCHED_S)
    _print(found, looked, list(peers), torch=torch, quic=quic)
    print(f"a probe in the idle minute, mean of the status files (every 10 s): {_did(before, after)}")
    print(f"before it, since its start: {_did([{}] * PROBES, before)}; {start_s:.2f} s of CPU, imports included")
    return 0


def _print(found: list[Taken], looked: list[Taken], peers: list[str], *, torch: bool, quic: bool) -> None:
    idle, watched = found[:PROBES], looked[:PROBES]
    typical, floor, floor_tls = _median(idle), *found[PROBES + 1 : PROBES + 3]
    worst = _worst([taken for i, taken in enumerate(idle) if not quic or i not in (QUIC, QUIC_TLS)])
    rows = [_row(f"probe, nobody watches: median of {PROBES}", typical)]
    rows.append(_row(f"probe, nobody watches: worst of {PROBES}, without QUIC", worst))
    if torch:
        rows.append(_row("probe that has timed a layer with torch", idle[TORCH]))
    rows.append(_row("probe that has joined over TLS", idle[TLS]))
    if quic:
        rows.append(_row("probe that has measured hops over QUIC", idle[QUIC]))
        rows.append(_row("probe with QUIC that has joined over TLS", idle[QUIC_TLS]))
    rows.append(_row("probe, watched: median", _median(watched)))
    rows += [_row("collector, nobody watches", found[PROBES]), _row("collector, one viewer", looked[PROBES])]
    rows.append(_row("floor: bare Python with one WebSocket", floor))
    rows.append(_row("floor: the same over TLS", floor_tls))
    rows += [_row(name, taken) for name, taken in zip(peers, found[PROBES + 3 :], strict=True)]
    print(table(("", "RSS MB", "PSS MB", "USS MB", "% of a core"), rows))
    record("a probe: memory", typical.rss_mb, "MB", peer=("bare Python with a WebSocket", floor.rss_mb))
    record(
        "a probe over TLS: memory",
        idle[TLS].rss_mb,
        "MB",
        peer=("bare Python with a WebSocket over TLS", floor_tls.rss_mb),
    )
    if quic:
        record("a probe with QUIC: memory", idle[QUIC].rss_mb, "MB")
        record("a probe with QUIC over TLS: memory", idle[QUIC_TLS].rss_mb, "MB")
    record("a probe: CPU", typical.cpu_percent, "% of a core", peer=("bare Python with a WebSocket", floor.cpu_percent))
    record("a probe, watched: CPU", _median(watched).cpu_percent, "% of a core")
    print(
        f"goal {GOAL_MB:.0f} MB resident: {typical.rss_mb / GOAL_MB:.2f} of it (worst probe "
        f"{worst.rss_mb / GOAL_MB:.2f}); {typical.rss_mb / floor.rss_mb:.2f} × the floor"
    )
    if quic:
        most = max(idle[QUIC].rss_mb, idle[QUIC_TLS].rss_mb)
        print(f"goal {GOAL_QUIC_MB:.0f} MB resident with QUIC: {most / GOAL_QUIC_MB:.2f} of it, over TLS")
    print(
        f"goal {GOAL_PERCENT} % of a core: {typical.cpu_percent / GOAL_PERCENT:.2f} of it (worst probe "
        f"{worst.cpu_percent / GOAL_PERCENT:.2f}); {typical.cpu_percent / floor.cpu_percent:.1f} × the floor"
    )
    print(
        f"goal {GOAL_WATCHED_PERCENT} % of a core while watched: "
        f"{_median(watched).cpu_percent / GOAL_WATCHED_PERCENT:.2f} of it"
    )


def _fingerprint(log: Path) -> str:
    found = re.search(r"SHA256:[\w-]{43}", log.read_text())
    if found is None:
        raise BenchError("the collector's log shows no fingerprint")
    return found[0]


def _row(name: str, taken: Taken) -> tuple[str, ...]:
    memory = (taken.rss_mb, taken.pss_mb, taken.uss_mb)
    return (name, *(f"{mb:.1f}" if mb == mb else "–" for mb in memory), f"{taken.cpu_percent:.3f}")


def _median(several: list[Taken]) -> Taken:
    return Taken(*(statistics.median(column) for column in zip(*map(dataclasses.astuple, several), strict=True)))


def _worst(several: list[Taken]) -> Taken:
    return Taken(*(max(column) for column in zip(*map(dataclasses.astuple, several), strict=True)))


# ---------------------------------------------------------------- what the probes say of themselves


def _plan_line(packets_per_s: float) -> str:
    return f"measure {PEERS} of {PEERS} members every {1000 * PEERS / packets_per_s:g} ms"


def _statuses(home: Path) -> list[Status]:
    """Return all status files; empty until every probe has written one."""
    found = [read_status(home / f"node{i}") for i in range(PROBES)]
    return [status for status in found if status is not None] if None not in found else [_NONE] * PROBES


def _has_used_quic(probe: int, home: Path) -> bool:
    return _statuses(home)[probe].counters.get("quic_stream_bytes_received", 0) > 0


_NONE = Status(
    pid=0, version="", started_ns=0, at_ns=0, collector="", link="", joined=False, node_id="", name="", plan="",
    compute="", udp="", spool_batches=0, spool_bytes=0,
)  # fmt: skip


def _counters(home: Path) -> list[dict[str, int]]:
    return [status.counters for status in _statuses(home)]


def _did(before: list[dict[str, int]], after: list[dict[str, int]]) -> str:
    words = {
        "stamp_sent": "round trips asked",
        "stamp_answered": "answered",
        "hops_measured": "hop rounds",
        "uplinks_measured": "transfers",
    }
    parts = []
    for key, word in words.items():
        each = [b.get(key, 0) - a.get(key, 0) for a, b in zip(before, after, strict=True)]
        parts.append(f"{statistics.fmean(each):.1f} {word}")
    return ", ".join(parts)


# ---------------------------------------------------------------- what the system says of them


def _watch(groups: list[list[subprocess.Popen[bytes]]], seconds: float) -> list[Taken]:
    """Return memory at the end, CPU over the time; a group's processes are added up."""
    known = [[psutil.Process(process.pid) for process in group] for group in groups]
    began = time.monotonic()
    before = [sum(cpu_s(process.pid) for process in group) for group in known]
    time.sleep(seconds)
    after = [sum(cpu_s(process.pid) for process in group) for group in known]
    took = time.monotonic() - began
    return [
        dataclasses.replace(_memory(group), cpu_percent=100 * (end - start) / took)
        for group, start, end in zip(known, before, after, strict=True)
    ]


def _memory(group: list[psutil.Process]) -> Taken:
    full = [process.memory_full_info() for process in group]
    return Taken(
        sum(info.rss for info in full) / MB,
        sum(getattr(info, "pss", float("nan")) for info in full) / MB,
        sum(info.uss for info in full) / MB,
        0.0,
    )


# ---------------------------------------------------------------- beside whom


def _peers(processes: Processes) -> dict[str, list[subprocess.Popen[bytes]]]:
    """Return the installed programs that measure round trips at that rate."""
    every_s = 1 / IDLE_PACKETS_PER_S
    found: dict[str, list[subprocess.Popen[bytes]]] = {}
    if irtt := shutil.which("irtt"):
        port = free_port(socket.SOCK_DGRAM)
        server = processes.start("irtt-server.log", irtt, "server", "-b", f"127.0.0.1:{port}")
        log = processes.folder / "irtt-server.log"
        processes.until(lambda: "[ListenerStart]" in log.read_text(), "irtt's server")
        client = (irtt, "client", "-q", "-i", f"{every_s}s", "-d", f"{IDLE_S + 240:.0f}s", f"127.0.0.1:{port}")
        found[f"irtt client and server, {IDLE_PACKETS_PER_S} packets/s"] = [
            server,
            processes.start("irtt-client.log", *client),
        ]
    if ping := shutil.which("ping"):
        command = (ping, "-q", "-n", "-i", f"{every_s}", "127.0.0.1")
        found[f"ping, {IDLE_PACKETS_PER_S} packets/s (the kernel answers)"] = [processes.start("ping.log", *command)]
    if missing := left_out("irtt", "ping"):
        print(missing)
    return found


@contextlib.contextmanager
def _echo(certificate: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run a WebSocket server for the lower bound, in a thread; return its URL. `certificate`: over TLS."""

    async def swallow(connection: ServerConnection) -> None:
        async for _ in connection:
            pass

    async def work(ready: Callable[[int], None]) -> None:
        async with serve(swallow, "127.0.0.1", 0, compression=None, ssl=certificate) as server:
            ready(server.sockets[0].getsockname()[1])
            await asyncio.get_running_loop().create_future()

    with _in_thread(work) as port:
        yield f"{'ws' if certificate is None else 'wss'}://127.0.0.1:{port}"


@contextlib.contextmanager
def _viewer(port: int) -> Iterator[None]:
    """Watch like a person: take every frame, draw nothing."""

    async def work(ready: Callable[[int], None]) -> None:
        source = LiveSource("127.0.0.1", port)
        try:
            async for swarm in source.frames():
                ready(len(swarm))
        finally:
            await source.close()

    with _in_thread(work):
        yield


@contextlib.contextmanager
def _in_thread(work: Callable[[Callable[[int], None]], Coroutine[Any, Any, None]]) -> Iterator[int]:
    """Run `work(ready)` in a loop of its own until the end of the block; yield what it was first ready with."""
    loop = asyncio.new_event_loop()
    numbers: list[int] = []
    event = threading.Event()

    def ready(number: int) -> None:
        numbers.append(number)
        event.set()

    task = loop.create_task(work(ready))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        event.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    event.wait(30)
    if not numbers:
        raise BenchError("a part of the benchmark itself did not start within 30 s")
    try:
        yield numbers[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


if __name__ == "__main__":
    raise SystemExit(main())
