"""Load the collector with simulated probes in another process: CPU, memory, acknowledgements, ingest, dashboards.

`python -m bench collector` runs all rounds small enough for a minute; `--probes 10000` and so on make them large.
Ratios: ingest is compared with a bare executemany into the same table of the same file system in the same run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from bench.support import harness
from bench.support.processes.load_client import link, node_id
from swarm_storage.rows import TABLES
from swarm_storage.sqlite.connect import WriterLock, connect_writer

HEALTH_S = 120.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench collector", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--probes", type=int, default=1000, help="of the steady round (%(default)s)")
    parser.add_argument("--every-s", type=float, default=10.0, help="a batch of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each round (%(default)s)")
    parser.add_argument("--rest-s", type=float, default=0.0, help="of steady life before it is measured (%(default)s)")
    parser.add_argument("--nodes", type=int, default=200, help="of the swarm that dashboards watch (%(default)s)")
    parser.add_argument("--viewers", type=int, default=50, help="dashboards (%(default)s)")
    parser.add_argument("--tls", action="store_true", help="the probes of the steady round connect over TLS")
    parser.add_argument("--rounds", default="steady,flood,viewers", help="which of them (%(default)s)")
    chosen = parser.parse_args(arguments if arguments is not None else [])
    print(f"  {harness.machine()}")
    rows = []
    for name in chosen.rounds.split(","):
        with harness.folder() as folder, harness.Processes(folder) as processes:
            rows += ROUNDS[name](processes, folder, chosen)
    print(harness.table(("round", "measured", "goal"), rows))
    return 0


def loaded(processes: harness.Processes, seconds: float, job: dict[str, Any]) -> dict[str, Any]:
    """Run a collector under `job`; return what the load saw, and what the collector used meanwhile."""
    before = (
        "import resource\nhard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))"
    )
    # a collector that other machines can reach has a certificate
    everywhere = ("--listen", "0.0.0.0:0") if job.get("tls") else ()
    collector, port = harness.start_collector(processes, *everywhere, before=before)
    process = psutil.Process(collector.pid)
    job |= {"port": port, "seconds": seconds}
    job.setdefault("peers", 32)
    load = subprocess.Popen(
        [sys.executable, "-m", "bench.support.processes.load_client", json.dumps(job)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert load.stdout is not None
        if load.stdout.readline().strip() != "go":
            raise harness.BenchError("the load ended before it began")
        joined_cpu_s, samples = cpu_s(process), samples_of(port)
        began = time.monotonic()
        load.stdout.readline()
        took_s = time.monotonic() - began
        result = {
            "cores": (cpu_s(process) - joined_cpu_s) / took_s,
            "rss_mb": process.memory_info().rss / harness.MB,
            "join_cpu_s": joined_cpu_s,
            "samples_per_s": (samples_of(port) - samples) / took_s,
        }
        return result | json.loads(load.stdout.readline())
    finally:
        load.kill()
        load.wait()


def cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def samples_of(port: int) -> int:
    """Return the samples stored so far. A collector that has just taken ten thousand probes may answer late."""
    ends = time.monotonic() + HEALTH_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
                return int(json.load(answer)["samples"])
        except (OSError, http.client.HTTPException):
            if time.monotonic() > ends:
                raise


def steady(processes: harness.Processes, folder: Path, chosen: argparse.Namespace) -> list[tuple[str, str, str]]:
    job = {"mode": "steady", "probes": chosen.probes, "every_s": chosen.every_s, "rest_s": chosen.rest_s,
           "tls": chosen.tls}  # fmt: skip
    got = loaded(processes, chosen.seconds, job)
    what = f"{chosen.probes} probes{' over TLS' if chosen.tls else ''}, a batch per {chosen.every_s:g} s"
    scale = chosen.probes / 10_000
    harness.record(f"{what}: CPU", got["cores"], "core")
    harness.record(f"{what}: memory", got["rss_mb"], "MB")
    harness.record(f"{what}: ack p99", got["ack_p99_ms"], "ms")
    return [
        (f"{what}: CPU", f"{got['cores']:.2f} core", f"{0.25 * scale:.2f} (0.25 at 10,000)"),
        (f"{what}: memory", f"{got['rss_mb']:.0f} MB", f"{500 if chosen.tls else 350} MB at 10,000"),
        (f"{what}: ack p50 / p99", f"{got['ack_p50_ms']:.0f} / {got['ack_p99_ms']:.0f} ms", "p99 under 1 s"),
        (f"{what}: joined at once, settled", f"{got['settle_s']:.1f} s", "60 s at 10,000"),
        (f"{what}: lost, slowed, refused", f"{got['lost']}, {got['slowed']}, {got['refused']}", "0"),
    ]


def flood(processes: harness.Processes, folder: Path, chosen: argparse.Namespace) -> list[tuple[str, str, str]]:
    got = loaded(processes, chosen.seconds, {"mode": "flood", "probes": 40, "size": 200, "ahead": 4})
    bare = bare_rows_per_s(folder, chosen.seconds / 3)
    harness.record(
        "link rounds into the store", got["samples_per_s"], "rows/s", peer=("executemany", bare), more_is_better=True
    )
    return [
        ("link rounds into the store", f"{got['samples_per_s']:,.0f}/s at {got['cores']:.2f} core", "40,000/s"),
        ("  beside a bare executemany", f"{got['samples_per_s'] / bare:.2f} of {bare:,.0f}/s", "0.5"),
        ("  per second of the collector's CPU", f"{got['samples_per_s'] / got['cores']:,.0f}", ""),
        ("  memory, ack p99", f"{got['rss_mb']:.0f} MB, {got['ack_p99_ms']:.0f} ms", "p99 under 1 s"),
    ]


def viewers(processes: harness.Processes, folder: Path, chosen: argparse.Namespace) -> list[tuple[str, str, str]]:
    job = {"mode": "steady", "probes": chosen.nodes, "every_s": 10.0, "viewers": chosen.viewers, "rate_hz": 4.0}
    got = loaded(processes, chosen.seconds, job)
    frames = got["frames"]
    what = f"{chosen.viewers} dashboards on {chosen.nodes} nodes"
    each = frames["frames"] / chosen.viewers / chosen.seconds
    harness.record(f"{what}: CPU", got["cores"], "core")
    return [
        (f"{what}: CPU", f"{got['cores']:.2f} core", "1 core at 50 on 1,000"),
        (f"{what}: frames each", f"{each:.1f}/s, {frames['keyframes']} keyframes", "4/s"),
        (f"{what}: to all", f"{frames['bytes'] / chosen.seconds / harness.MB:.2f} MB/s", ""),
        (f"{what}: memory", f"{got['rss_mb']:.0f} MB", ""),
    ]


def bare_rows_per_s(folder: Path, seconds: float) -> float:
    """Measure SQLite alone: the same rows, table and durability, one executemany and one commit per 10,000 rows."""
    path = folder / "bare.db"
    lock = WriterLock(path)
    connection = connect_writer(path)
    table = TABLES["link"]
    rows, took_s, base_ns = 0, 0.0, time.time_ns()
    while took_s < seconds:
        at_ns = base_ns + rows * 10
        some = [table.row(link(at_ns + i, node_id(1), 20.0), i // 250, i % 250, 0) for i in range(10_000)]
        some.sort(key=lambda row: row[:4])
        began = time.monotonic()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(table.insert_of(1), some)
        connection.execute("COMMIT")
        took_s += time.monotonic() - began
        rows += len(some)
    connection.close()
    lock.release()
    return rows / took_s


ROUNDS = {"steady": steady, "flood": flood, "viewers": viewers}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
