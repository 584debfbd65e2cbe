"""Start and end processes for the benchmarks, by their id whatever happens, and describe the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from bench.support.results import record as record  # what a benchmark needs comes from here

READY_S = 60.0  # a loaded machine starts ten Pythons slowly; a healthy run waits for none of it
END_S = 15.0  # a probe delivers its samples before it exits
MB = 1e6  # decimal, as the goals are


class BenchError(Exception):
    """The benchmark cannot be run here; one line that says why."""


class Processes:
    """The processes of one benchmark. `folder` takes their logs; a context manager, so that none outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._all:
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, log: str, *command: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, **(environment or {})}
            )
        self._all.append(process)
        return process

    def until(self, ready: Callable[[], bool], what: str, within_s: float = READY_S) -> None:
        """Wait. Raises BenchError if a process ends meanwhile or the time is over."""
        deadline = time.monotonic() + within_s
        while not ready():
            ended = [process for process in self._all if process.poll() not in (None, 0)]
            if ended or time.monotonic() > deadline:
                why = f"{ended[0].args!r} ended" if ended else f"not within {within_s:.0f} s"
                raise BenchError(f"{what}: {why}\n{self.logs()}")
            time.sleep(0.05)

    def logs(self) -> str:
        """Return the end of each log, for errors."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1000:]}" for log in sorted(self.folder.glob("*.log")))


def start_collector(processes: Processes, *arguments: str, before: str = "") -> tuple[subprocess.Popen[bytes], int]:
    """Start a collector on a port of its own; return (process, port). `before` is Python that runs ahead of its
    main."""
    ready = processes.folder / "ready"
    store = f"sqlite:///{processes.folder / 'swarm.db'}"
    program = f"{before}\nfrom swarm_collector.cli import main\nmain()"
    collector = processes.start(
        "collector.log", sys.executable, "-c", program, "--listen", "127.0.0.1:0", "--store", store,
        "--ready-file", str(ready), "--state", str(processes.folder / "collector"), *arguments,
    )  # fmt: skip
    processes.until(ready.exists, "the collector starts")
    return collector, int(ready.read_text().strip().rpartition(":")[2])


def machine() -> str:
    """Describe the machine of these figures, and whether it is busy."""
    memory = psutil.virtual_memory().total / (1 << 30)
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores of "
        f"{_processor() or platform.machine()}, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; load before the run {load:.1f}"
    )


def _processor() -> str:
    """Return its name and the numbers that tell its generation: of virtual ones the name is often only a make."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    first = dict(reversed([(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]))
    numbers = [f"{key.split()[-1]} {first[key]}" for key in ("cpu family", "model", "stepping") if key in first]
    return f"{first.get('model name', '')} ({' '.join(numbers)})" if numbers else first.get("model name", "")


def cpu_s(pid: int) -> float:
    """Return the CPU that a process has used; to the nanosecond where Linux reports it (a tick is 10 ms)."""
    try:
        threads = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="swarmtop-bench-") as name:
        yield Path(name)


def free_port(kind: int) -> int:
    """Return a port that was free a moment ago, for programs that cannot report theirs."""
    import socket

    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def table(title: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table: left column of words, the others right-aligned."""
    widths = [max(len(row[i]) for row in (title, *rows)) for i in range(len(title))]
    lines = []
    for row in (title, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
