"""Run a collector for hours, and check whether its memory, files and threads stay the same.

`python -m bench soak --minutes N` runs simulated probes that send, beat, leave and come back, dashboards that come and
go, and exports, for N minutes. Memory is given as the slope of a straight line through the second half of its readings,
with the spread of the readings themselves: a leak is a slope that the spread does not explain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from bench.support import harness
from bench.support.processes import load_client
from bench.support.processes.load_client import AN_ADDRESS

READ_EVERY_S = 5.0
GOAL_MB_PER_HOUR = 10.0
WARM_SHARE = 0.5  # of the run: caches, pages of SQLite and the allocator's pools fill at first


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (%(default)s)")
    parser.add_argument("--probes", type=int, default=200, help="%(default)s")
    parser.add_argument("--every-s", type=float, default=5.0, help="a batch of each (%(default)s)")
    parser.add_argument("--store", default=None, help="another store than a file, e.g. postgresql://…")
    chosen = parser.parse_args(arguments if arguments is not None else [])
    print(f"  {harness.machine()}")
    with harness.folder() as folder, harness.Processes(folder) as processes:
        extra = ["--store", chosen.store] if chosen.store else []
        collector, port = harness.start_collector(processes, *extra, "--retain", "1h")
        job = {"port": port, "probes": chosen.probes, "every_s": chosen.every_s, "seconds": 60.0 * chosen.minutes}
        load = subprocess.Popen(
            [sys.executable, "-m", "bench.programs.soak", "--load", json.dumps(job)], stdout=subprocess.PIPE
        )
        try:
            readings = _watch(collector.pid, folder, load)
        finally:
            if load.poll() is None:
                load.kill()
            load.wait()
        assert load.stdout is not None
        said = json.loads(load.stdout.read() or "{}")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
            health = json.load(answer)
    print(harness.table(("", "first", "last", "highest"), [_row(name, readings) for name in readings[0]]))
    steady = readings[int(len(readings) * WARM_SHARE) :]
    minutes = [i * READ_EVERY_S / 60 for i in range(len(steady))]
    slope, _ = statistics.linear_regression(minutes, [reading["RSS MB"] for reading in steady])
    spread = statistics.pstdev(reading["RSS MB"] for reading in steady)
    per_hour = 60 * slope
    harness.record("memory of a collector", per_hour, "MB an hour")
    print(f"  RSS over the second half: {per_hour:+.1f} MB an hour (goal {GOAL_MB_PER_HOUR:g}), spread {spread:.2f} MB")
    print(f"  sent {said.get('sent')}, acknowledged {said.get('acked')}, lost sessions {said.get('lost')}, "
          f"came back {said.get('returns')} times, dashboards {said.get('dashboards')}, exports {said.get('exports')}; "
          f"stored {health['samples']} samples, {health['refused_batches']} batches refused")  # fmt: skip
    return 0 if per_hour <= GOAL_MB_PER_HOUR or slope * minutes[-1] < 3 * spread else 1


def _watch(pid: int, folder: Path, load: subprocess.Popen[bytes]) -> list[dict[str, float]]:
    process = psutil.Process(pid)
    readings: list[dict[str, float]] = []
    while load.poll() is None:
        time.sleep(READ_EVERY_S)
        if load.poll() is not None:  # its connections are gone
            break
        readings.append(
            {
                "RSS MB": process.memory_info().rss / harness.MB,
                "without files MB": _own_mb(pid),
                "open files": process.num_fds(),
                "threads": process.num_threads(),
                "log MB": _size(folder / "swarm.db-wal") / harness.MB,
                "database MB": _size(folder / "swarm.db") / harness.MB,
                "CPU s": harness.cpu_s(pid),
            }
        )
    if len(readings) < 8:
        raise harness.BenchError("too short to say anything; give --minutes 1 or more")
    return readings


def _own_mb(pid: int) -> float:
    """Return memory without pages of files, which the kernel takes back freely. NaN where unknown (not Linux)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return math.nan
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024 / harness.MB


def _row(name: str, readings: list[dict[str, float]]) -> tuple[str, str, str, str]:
    values = [reading[name] for reading in readings]
    return name, f"{values[0]:.1f}", f"{values[-1]:.1f}", f"{max(values):.1f}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _live(job: dict[str, float]) -> dict[str, int]:
    """Run probes that send and reconnect now and then; a dashboard for a while; an export."""
    rng = random.Random(3)
    load = load_client.Load({"port": job["port"], "probes": int(job["probes"]), "peers": 16})
    await load.connect()
    counts = {"returns": 0, "dashboards": 0, "exports": 0, "sent": 0}
    ends = time.monotonic() + job["seconds"]
    tally = {"frames": 0, "keyframes": 0, "bytes": 0}
    while time.monotonic() < ends:
        for probe in load.probes:
            if not probe.lost and rng.random() < 1 / job["every_s"]:
                probe.batch(load.steady_samples(probe))
                counts["sent"] += 1
        if rng.random() < 0.2:
            gone = rng.randrange(len(load.probes))
            assert load.probes[gone].transport is not None
            load.probes[gone].transport.abort()  # type: ignore[union-attr]
            back = await _again(load, load.probes[gone].number)
            load.probes[gone] = back
            counts["returns"] += 1
        if rng.random() < 0.1:
            (dashboard,) = await load_client.watch(load.port, 1, 4.0, tally)
            asyncio.get_running_loop().call_later(rng.uniform(1, 10), dashboard.transport.abort)  # type: ignore[union-attr]
            counts["dashboards"] += 1
        if rng.random() < 0.02:
            command = [sys.executable, "-c", "from swarmtop.cli import main; main()", "export", "--connect",
                       f"127.0.0.1:{load.port}", "--kind", "link", "--since", "-1m", "--csv", "-"]  # fmt: skip
            await (await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)).wait()
            counts["exports"] += 1
        await asyncio.sleep(1.0)
    return counts | {"acked": load.acked, "lost": sum(probe.lost for probe in load.probes)}


async def _again(load: load_client.Load, number: int) -> load_client.Probe:
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()
    _, probe = await loop.create_connection(
        lambda: load_client.Probe(load, number, opened), "127.0.0.1", load.port,
        local_addr=(f"127.1.{number // AN_ADDRESS // 250}.{number // AN_ADDRESS % 250 + 1}", 0),
    )  # fmt: skip
    await opened
    probe.hello()
    return probe


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(asyncio.run(_live(json.loads(sys.argv[2])))), flush=True)
    else:
        raise SystemExit(main(sys.argv[1:]))
