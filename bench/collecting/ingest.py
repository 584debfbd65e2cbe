"""Measure ingest in rows a second: the store's writer, a collector's WebSockets, against a bare executemany.

The bare one writes the same rows into the same table with the same settings of SQLite, prepared and sorted: only SQLite
is left. All are given as rows a second and as rows per second of CPU (of the process that stores; the simulated probes
are another process). Each is run REPEATS times in turn and the medians are given. The number of rows in the file is
counted after each run.
"""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.support.harness import BenchError, Processes, folder, machine, record, start_collector, table
from bench.support.synthetic import swarm_samples
from swarm_storage.rows import TABLES, Row
from swarm_storage.sqlite.connect import WriterLock, connect_writer
from swarm_storage.store import open_store
from swarm_storage.writer.transaction import NodeBatch
from swarm_storage.writer.writer import COMMIT_SAMPLES
from swarmtop.progress import progress

NODES, PEERS, ROUNDS = 200, 32, 20  # 128,000 rows; below the connections that one address may hold
SMALL_ROUNDS = 1  # a batch a sample, as an idle probe sends them
REPEATS = 3
WAITING = 2000  # batches given to the writer and not yet committed; far below its bound
GOAL = 0.9  # of the bare one


class Speed(NamedTuple):
    rows: int
    seconds: float
    cpu_s: float


def main() -> int:
    print(machine())
    print(f"{NODES} nodes, {PEERS} peers each; medians of {REPEATS}; synchronous=FULL, answers after the commit")
    ways: dict[str, Callable[[Path], Speed]] = {
        "bare executemany, ready and sorted rows": _bare,
        f"writer, batches of {PEERS}": lambda home: _writer(home, PEERS, ROUNDS),
        "writer, batches of 1": lambda home: _writer(home, 1, SMALL_ROUNDS),
        f"collector over {NODES} WebSockets, batches of {PEERS}": lambda home: _collector(home, PEERS, ROUNDS),
        f"collector over {NODES} WebSockets, batches of 1": lambda home: _collector(home, 1, SMALL_ROUNDS),
    }
    found: dict[str, list[Speed]] = {name: [] for name in ways}
    try:
        with progress("rows are written"):
            for _ in range(REPEATS):
                for name, way in ways.items():
                    with folder() as home:
                        found[name].append(way(home))
    except BenchError as error:
        print(f"ingest: {error}", file=sys.stderr)
        return 1
    wall = {name: statistics.median(s.rows / s.seconds for s in speeds) for name, speeds in found.items()}
    cpu = {name: statistics.median(s.rows / s.cpu_s for s in speeds) for name, speeds in found.items()}
    bare, *others = ways
    rows = [
        (name, f"{speeds[0].rows}", f"{wall[name]:.0f}", f"{wall[name] / wall[bare]:.2f}", f"{cpu[name]:.0f}",
         f"{cpu[name] / cpu[bare]:.2f}")
        for name, speeds in found.items()
    ]  # fmt: skip
    print(table(("", "rows", "rows/s", "of bare", "rows/CPU s", "of bare"), rows))
    for name in others:
        record(f"{name}: rows/s", wall[name], "", peer=("executemany", wall[bare]), more_is_better=True)
        record(f"{name}: rows per CPU s", cpu[name], "", peer=("executemany", cpu[bare]), more_is_better=True)
    for name in (others[0], others[2]):
        of_wall, of_cpu = wall[name] / wall[bare] / GOAL, cpu[name] / cpu[bare] / GOAL
        print(f"goal {GOAL} of bare: {name} has {of_wall:.2f} of it by the clock, {of_cpu:.2f} by CPU")
    return 0


def _bare(home: Path) -> Speed:
    names = {name: number for number, name in enumerate(swarm_samples.ids(NODES), start=1)}
    link = TABLES["link"]
    rows: list[Row] = [
        link.row(sample, node + 1, names[sample.peer], 0)
        for _, node, window in swarm_samples.link_rounds(NODES, PEERS, ROUNDS, time.time_ns())
        for sample in window
    ]
    commits = [sorted(rows[i : i + COMMIT_SAMPLES]) for i in range(0, len(rows), COMMIT_SAMPLES)]
    path = home / "bare.db"
    lock = WriterLock(path)
    with contextlib.closing(connect_writer(path)) as connection:
        began, began_cpu = time.monotonic(), time.process_time()
        for commit in commits:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(link.insert_of(1), commit)
            connection.execute("COMMIT")
        took, cpu = time.monotonic() - began, time.process_time() - began_cpu
    lock.release()
    _require_rows(path, len(rows))
    return Speed(len(rows), took, cpu)


def _writer(home: Path, size: int, rounds: int) -> Speed:
    names = swarm_samples.ids(NODES)
    seqs = [0] * NODES
    batches = []
    for _, node, window in swarm_samples.link_rounds(NODES, PEERS, rounds, time.time_ns()):
        for i in range(0, PEERS, size):
            seqs[node] += 1
            batches.append(NodeBatch(names[node], 1, seqs[node], time.time_ns(), window[i : i + size]))
    path = home / "writer.db"
    store = open_store(f"sqlite:///{path}")
    writer = store.writer()
    for number, name in enumerate(names):
        writer.upsert_node(name, f"bench-{number}", seen_ns=time.time_ns()).result()
    waiting: deque[Future[int]] = deque()
    began, began_cpu = time.monotonic(), time.process_time()
    for batch in batches:
        if len(waiting) >= WAITING:
            waiting.popleft().result()
        waiting.append(writer.submit(batch))
    for future in waiting:
        future.result()
    took, cpu = time.monotonic() - began, time.process_time() - began_cpu
    store.close()
    rows = NODES * PEERS * rounds
    _require_rows(path, rows)
    return Speed(rows, took, cpu)


def _collector(home: Path, size: int, rounds: int) -> Speed:
    with Processes(home) as processes:
        collector, port = start_collector(processes)
        numbers = [str(number) for number in (NODES, PEERS, rounds, size)]
        command = [sys.executable, "-m", "bench.support.processes.batch_senders", f"127.0.0.1:{port}", *numbers]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probes:
            assert probes.stdin is not None
            assert probes.stdout is not None
            try:
                if probes.stdout.readline() != "joined\n":
                    raise BenchError(f"the simulated probes did not join\n{processes.logs()}")
                charged = psutil.Process(collector.pid)
                before = charged.cpu_times()
                probes.stdin.write("go\n")
                probes.stdin.flush()
                answer = probes.stdout.readline()
                after = charged.cpu_times()
                if not answer:
                    how = f"the collector's exit code: {collector.poll()}\n{processes.logs()}"
                    raise BenchError(f"the simulated probes ended before everything was acknowledged; {how}")
            finally:
                probes.stdin.close()
                probes.wait()
    rows = NODES * PEERS * rounds
    _require_rows(home / "swarm.db", rows)
    cpu = after.user + after.system - before.user - before.system
    return Speed(rows, float(answer), cpu)


def _require_rows(path: Path, expected: int) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM link_sample").fetchone()
    if rows != expected:
        raise BenchError(f"{rows} rows in the file, {expected} were acknowledged")


if __name__ == "__main__":
    raise SystemExit(main())
