"""Measure the time to first paint: from exec to the ranking on a real pseudo-terminal, against a bare Textual app and
htop.

"Painted" means that a person could read it: every text waited for is on the screen of a terminal emulator (pyte), as of
the read that brought the last of it. A blank screen or one that says "waiting" is not: the members' rows are. The first
rows have what a file or few rows of a database tell (names, states, devices), and say that figures are being read; rows
of their own are for the screens with the figures of all links. Commands without a dashboard are timed to their end,
beside a bare Python. Each is started REPEATS times, all in turn, after one start that warms the disk's cache; medians
are told. "CPU ms" is what the program itself had been charged by then: about what the time would be on a machine with
nothing else to do.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import pty
import re
import resource
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyte

from bench.support.harness import BenchError, cpu_s, folder, machine, record, table
from bench.support.peer_programs import left_out
from bench.support.synthetic.recording import record_swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop.progress import progress

COLUMNS, ROWS = 140, 40
REPEATS = 7
WAIT_S = 60.0
GOAL_MS = 400.0
LARGE_NODES, LARGE_PEERS, LARGE_ROUNDS = 1000, 32, 2
EXAMPLE = Path(__file__).parents[2] / "examples" / "garage.toml"

_BARE_TEXTUAL = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("painted")
Bare().run()
"""
# what pyte would print as text: queries and the kitty protocol
_UNKNOWN = re.compile(rb"\x1b\[[<>=?][\d;]*(?:\$p|u)|\x1b\[<u")


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    command: Sequence[str]
    texts: Sequence[str]  # all of them are painted; empty: it is timed to its end, without a terminal


class Took(NamedTuple):
    ms: float
    cpu_ms: float  # of the program, all threads


def main() -> int:
    print(machine())
    print(f"terminal of {COLUMNS}x{ROWS}; medians (and fastest) of {REPEATS} starts in turn, disk cache warm")
    try:
        with folder() as home:
            return _run(home)
    except BenchError as error:
        print(f"first_paint: {error}", file=sys.stderr)
        return 1


def _run(home: Path) -> int:
    with progress(f"a database of {LARGE_NODES} nodes is made"):
        large = home / "large.db"
        record_swarm(large, LARGE_NODES, LARGE_PEERS, LARGE_ROUNDS)
    dashboards, peers, commands = _cases(large)
    found: dict[str, list[Took]] = collections.defaultdict(list)
    with progress("programs are started"):
        for number in range(REPEATS + 1):
            for case in (*dashboards, *peers, *commands):
                took = _to_paint(case, home) if case.texts else _to_end(case, home)
                if number:
                    found[case.name].append(took)
    typical = {name: Took(*map(statistics.median, zip(*took, strict=True))) for name, took in found.items()}
    floor = typical[peers[0].name].ms
    rows = [
        (
            *_shown(case, found, typical),
            f"{typical[case.name].ms / GOAL_MS:.2f}",
            f"{typical[case.name].ms / floor:.2f}",
        )
        for case in (*dashboards, *peers)
    ]
    bare = ("a bare Textual app", floor)
    record("first paint, 6 nodes", typical[dashboards[0].name].ms, "ms", peer=bare)
    record("ranking of 6 nodes with its figures", typical[dashboards[1].name].ms, "ms", peer=bare)
    record(f"first paint, database of {LARGE_NODES} nodes", typical[dashboards[3].name].ms, "ms", peer=bare)
    record(f"all links of {LARGE_NODES} nodes on the screen", typical[dashboards[4].name].ms, "ms", peer=bare)
    print(table(("first paint", "ms", "fastest", "CPU ms", f"of {GOAL_MS:.0f} ms", "of bare Textual"), rows))
    python = typical[commands[0].name].ms
    ends = [(*_shown(case, found, typical), f"{typical[case.name].ms / python:.1f}") for case in commands]
    print(table(("start to end", "ms", "fastest", "CPU ms", "of bare Python"), ends))
    print(left_out("htop"))
    print(_imports(home))
    return 0


def _shown(case: Case, found: dict[str, list[Took]], typical: dict[str, Took]) -> tuple[str, str, str, str]:
    median, fastest = typical[case.name], min(took.ms for took in found[case.name])
    return case.name, f"{median.ms:.0f}", f"{fastest:.0f}", f"{median.cpu_ms:.0f}"


def _cases(large: Path) -> tuple[list[Case], list[Case], list[Case]]:
    installed = Path(sys.executable).with_name("swarmtop")
    ours = (str(installed),) if installed.exists() else (sys.executable, "-m", "swarmtop")
    names = [name for name in parse_swarm(EXAMPLE.read_text()).names if name != "home"]
    model = ("--model", "llama-3.1-8b")
    dashboards = [
        Case("swarmtop --swarm, 6 nodes: members", (*ours, "--swarm", str(EXAMPLE), *model), [*names, "q quit"]),
        Case(
            "swarmtop --swarm, 6 nodes: ranking",
            (*ours, "--swarm", str(EXAMPLE), *model),
            [*names, "links measured 30 of 30", "q quit"],
        ),
        Case("swarmtop --swarm, 6 nodes: with its plan", (*ours, "--swarm", str(EXAMPLE), *model), [*names, "tok/s"]),
        Case(
            f"swarmtop --db, {LARGE_NODES} nodes: members",
            (*ours, "--db", str(large), *model),
            ["bench-", f"{LARGE_NODES} nodes", f"{LARGE_NODES} ok", "q quit"],
        ),
        Case(
            f"swarmtop --db, {LARGE_NODES} nodes: all links",
            (*ours, "--db", str(large), *model),
            ["bench-", f"{LARGE_NODES} nodes", f"links measured {LARGE_NODES * LARGE_PEERS}", "q quit"],
        ),
    ]
    peers = [Case("bare Textual app (the floor)", (sys.executable, "-c", _BARE_TEXTUAL), ["painted"])]
    if htop := shutil.which("htop"):
        peers.append(Case("htop", (htop,), ["Load average", "PID", "F10"]))
    commands = [
        Case("bare Python (the floor)", (sys.executable, "-c", "pass"), []),
        Case("Python and numpy", (sys.executable, "-c", "import numpy"), []),
        Case("swarmtop --help", (*ours, "--help"), []),
        Case("swarmtop --once --swarm, 6 nodes", (*ours, "--once", "--swarm", str(EXAMPLE), *model), []),
        Case("swarm-probe --help", (sys.executable, "-m", "swarm_probe", "--help"), []),
    ]
    return dashboards, peers, commands


# ---------------------------------------------------------------- one start


def _environment(home: Path) -> dict[str, str]:
    """Bytecode is kept, as pip compiles it when it installs a program: beside the sources of a checkout there may be
    none, and each start would compile ours but not the peer's."""
    unset = ("NO_COLOR", "COLORTERM", "TEXTUAL", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if k not in unset}
    own = {"SWARMTOP_HOME": str(home), "PYTHONPYCACHEPREFIX": str(home / "bytecode")}
    return kept | own | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}


def _to_paint(case: Case, home: Path) -> Took:
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        began = time.monotonic()
        process = subprocess.Popen(
            case.command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=_environment(home),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        try:
            painted_at, cpu_s = _painted(master, case, process)
            return Took((painted_at - began) * 1e3, cpu_s * 1e3)
        finally:
            _end(process, master)
    finally:
        os.close(master)
        os.close(slave)


def _painted(master: int, case: Case, process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Return (when, seconds of CPU until then)."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        data = os.read(master, 65536)
        came = time.monotonic(), cpu_s(process.pid)  # before pyte, which is slow, looks at it
        stream.feed(_UNKNOWN.sub(b"", data))
        shown = "\n".join(screen.display)
        if all(text in shown for text in case.texts):
            return came
    raise BenchError(f"{case.name}: never saw {case.texts}; the screen is\n" + "\n".join(screen.display).rstrip())


def _end(process: subprocess.Popen[bytes], master: int) -> None:
    """Read on, so that a process that still writes is not blocked."""
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
        if select.select([master], [], [], 0.02)[0]:
            with contextlib.suppress(OSError):
                os.read(master, 65536)


def _to_end(case: Case, home: Path) -> Took:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(case.command, env=_environment(home), capture_output=True, text=True, check=False)
    after, took_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        raise BenchError(f"{case.name} ended with {done.returncode}: {done.stderr.strip()}")
    return Took(took_s * 1e3, cpu * 1e3)


# ---------------------------------------------------------------- where the start goes


def _imports(home: Path) -> str:
    """Return the milliseconds of importing the dashboard by package, the fastest of REPEATS; -X importtime adds a
    little."""
    program = "import swarmtop.cli, swarmtop.commands.dashboard, swarmtop.dashboard.run, swarmtop.sources.swarmfile"
    command = (sys.executable, "-X", "importtime", "-c", program)
    runs = [
        subprocess.run(command, env=_environment(home), capture_output=True, text=True, check=True) for _ in range(3)
    ]
    spent = [_by_package(run.stderr) for run in runs]
    packages = {package for each in spent for package in each}
    fastest = {p: min(each.get(p, 0.0) for each in spent) for p in packages}
    total = sum(fastest.values())
    rows = [(p, f"{ms:.0f}", f"{ms / total:.0%}") for p, ms in sorted(fastest.items(), key=_second, reverse=True)[:10]]
    return table((f"imports of the dashboard ({total:.0f} ms)", "ms", "share"), rows)


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _by_package(lines: str) -> dict[str, float]:
    """Sum `import time: self [us] | cumulative | name` lines by package; the standard library is one."""
    spent: dict[str, float] = collections.defaultdict(float)
    for found in re.finditer(r"^import time: +(\d+) \| +\d+ \| +(\S+)", lines, re.MULTILINE):
        top = found[2].partition(".")[0]
        spent["standard library" if top in sys.stdlib_module_names else top] += int(found[1]) / 1e3
    return spent


if __name__ == "__main__":
    raise SystemExit(main())
