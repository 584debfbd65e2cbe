"""The lab with real packets and real probes: reports are compared with the truth, a race against its prediction.

Needs root (or user namespaces) on Linux; elsewhere these are skipped with the reason shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from swarm_lab.emulation import netns
from swarm_storage.history.replay import swarm_at
from swarm_storage.store import open_store

pytest.importorskip("torch")
WHY_NOT = netns.why_unavailable()
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.timeout(300),
]

# far enough apart that what this machine does meanwhile is small beside it
PAIR = """
title = "homes for CI"
model = "tiny"
[[host]]
name = "north"
access = { up_mbps = 50.0, down_mbps = 100.0, delay_ms = 10.0, queue_ms = 100.0, jitter = { p95_ms = 2.0 } }
[[host]]
name = "south"
access = { up_mbps = 20.0, down_mbps = 100.0, delay_ms = 15.0, queue_ms = 150.0, loss = { rate = 0.03 } }
[[path]]
from = "north"
to = "south"
delay_ms = 40.0
both = false
"""
TRIO = f"""{PAIR}
[[host]]
name = "west"
access = {{ up_mbps = 100.0, down_mbps = 100.0, delay_ms = 5.0, queue_ms = 50.0 }}
"""
LOOPS_MS = {("north", "south", "west"): 100.0, ("north", "west", "south"): 60.0}  # half of round trips: 80 for both


def written(scenario: str, folder: Path) -> str:
    file = folder / "homes.toml"
    file.write_text(scenario)
    return str(file)


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swarmtop", "lab", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"not done within 280 s; it said: {(late.stderr or b'').decode()}")


@pytest.mark.quiet
def test_what_probes_report_is_what_happened(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = lab("verify", written(TRIO, tmp_path), "--seconds", "30", "--json", "--keep", str(kept))
    assert (kept / "collector" / "watcher.log").read_text() == ""  # it was let in, so probes measured densely
    rows = json.loads(done.stdout)
    links = {(row["src"], row["dst"]) for row in rows}
    assert links == {(a, b) for a in ("north", "south", "west") for b in ("north", "south", "west") if a != b}
    wrong = [row for row in rows if row["metric"].startswith(("rtt", "pdv", "loss")) and not row["ok"]]
    assert wrong == []
    # the loss of south's line is seen, and told apart by direction
    lossy = [row for row in rows if row["metric"] == "loss_out" and row["src"] == "south"]
    assert all(row["truth"] == pytest.approx(row["reported"], abs=0.02) for row in lossy)
    with contextlib.closing(open_store(f"sqlite:///{kept / 'swarm.db'}", read_only=True)) as store:
        swarm = swarm_at(store.reader, time.time_ns())
    for loop, truth_ms in LOOPS_MS.items():
        rows_of = [swarm.index(name) for name in loop]
        ways = swarm.links["oneway_ms"][rows_of, [*rows_of[1:], rows_of[0]]]
        assert float(ways.sum()) == pytest.approx(truth_ms, rel=0.03)
    assert done.returncode in (0, 4), done.stderr  # 4: a hop or an uplink beyond its bound on a busy machine


@pytest.mark.quiet
def test_a_race_is_run_and_was_predicted(tmp_path: Path) -> None:
    """Over two hosts: most of the time goes into timing their layers, one after the other."""
    # south's line loses three packets in a hundred: retransmissions have a chance of their own
    placements = ("--placement", "north:0-3,south:4-7")
    done = lab("race", written(PAIR, tmp_path), *placements, "--steps", "24", "--prompt", "8", "--json")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)
    # two hops of 65 and 25 ms are physics; nobody is faster
    assert run["tpot_ms"]["measured"]["p50"] > 90
    assert abs(run["error"]) < 0.25
    for stage in run["stages"]:
        assert stage["compute_ms"]["measured"] > 0


def test_kill_9_leaves_no_process_behind(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "swarmtop",
        "lab",
        "verify",
        written(TRIO, tmp_path),
        "--seconds",
        "600",
        "--keep",
        str(folder),
    ]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    for line in parent.stderr:
        if "measuring for" in line:
            break
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 5  # router, collector, watcher, three probes
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert alive == []


AS_NOBODY = """
import ctypes, os, pathlib, sys
from swarm_lab.emulation import netns
netns.TUN = pathlib.Path(sys.argv[1])
os.setgroups([]), os.setgid(65534), os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as after an exec, so that /proc/self is ours
print(netns.why_unavailable())
"""


def why_nobody_may(tun: Path) -> str:
    command = [sys.executable, "-c", AS_NOBODY, str(tun)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.fixture
def own_tun() -> Iterator[Callable[[int], Path]]:
    """Makes a TUN device with the mode that udev gives it, or that a machine without udev has."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    with tempfile.TemporaryDirectory(dir="/dev" if os.access("/dev", os.W_OK) else None) as folder:
        os.chmod(folder, 0o755)  # pytest's own folders are closed to other users

        def make(mode: int) -> Path:
            path = Path(folder, "tun")
            try:
                os.mknod(path, stat.S_IFCHR, os.makedev(10, 200))
            except PermissionError:
                pytest.skip("this machine does not let root make devices (a container)")
            path.chmod(mode)
            return path

        yield make


def test_an_ordinary_user_may_build_hosts_too(own_tun: Callable[[int], Path]) -> None:
    """Through a user namespace, where the kernel has them; else the line names the settings."""
    said = why_nobody_may(own_tun(0o666))
    assert said == "None" or "user.max_user_namespaces" in said


def test_an_ordinary_user_is_told_what_opens_a_device_that_is_roots_alone(own_tun: Callable[[int], Path]) -> None:
    """As on a fresh Debian without udev."""
    tun = own_tun(0o600)
    assert why_nobody_may(tun) == (
        f"the lab needs the TUN device: this user may not open {tun} (its mode is 0600); "
        f"as root: chmod 0666 {tun}, or run the lab as root"
    ) or "user.max_user_namespaces" in why_nobody_may(tun)
