"""Compare path measurements with the lab's truth, idle and with both cores busy: our probes, irtt and ping.

Real probes, irtt and ping measure the same emulated paths in the same minute; an observer on the interfaces of both
ends wrote down when each packet left and arrived (`bench.support.wire_truth` says why the router's own records are not
the truth). Everything is judged in windows of WINDOW packets: the difference of the window's p50 and p99 to those of
the very same packets, so that an error is one of measurement and not of sampling. What programs lose between their
clock and the wire counts against them: it is what a reader of the figure would be misled by. Then which of our four
time stamps the error comes from, and what each program took of memory and processor meanwhile. Needs root on Linux.
`python -m bench paths SECONDS` for another length.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import psutil

from bench.support import stamp_errors
from bench.support.harness import MB, BenchError, cpu_s, folder, machine, record, table
from bench.support.processes.wire_tap import WITHIN_S
from bench.support.wire_truth import observed
from swarm_lab.emulation import netns
from swarm_lab.emulation.emulator import public_address
from swarm_lab.emulation.netns import INTERFACE
from swarm_lab.emulation.scenario import Scenario, parse_scenario
from swarm_lab.emulation.truth import Kind, PacketOutcome, Records, Truth, round_trips
from swarm_lab.lab import Lab
from swarm_lab.verification.report import stored_samples, verify_run
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.units import NS_PER_MS

SECONDS = 45.0
WINDOW = 16  # packets; as many as the probes' windows have
EVERY_S = 0.375  # as often as the probes send with this many members, watched
GOAL_P50_MS, GOAL_P99_MS = 0.02, 0.05
SETTLE_S = 12.0
IRTT_PORT = 2112
IRTT_BYTES = 172  # distinguishes its packets from others of the same pair

SCENARIO = """
title = "paths for the error table"
model = "tiny"
[[host]]
name = "near"
access = { up_mbps = 100.0, down_mbps = 300.0, delay_ms = 1.0, queue_ms = 50.0 }
[[host]]
name = "far"
access = { up_mbps = 50.0, down_mbps = 100.0, delay_ms = 40.0, queue_ms = 100.0 }
[[host]]
name = "rough"
access = { up_mbps = 20.0, down_mbps = 100.0, delay_ms = 15.0, queue_ms = 150.0, jitter = { p95_ms = 4.0 } }
"""
PAIRS = (("near", "far"), ("near", "rough"))


@dataclass(frozen=True, slots=True)
class Error:
    """The error of one window, reported − true, in ms."""

    p50: float
    p99: float


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[0].endswith("paths.py") else SECONDS
    if why := netns.why_unavailable():
        print(f"paths: {why}", file=sys.stderr)
        return 1
    print(machine())
    scenario = parse_scenario(SCENARIO)
    try:
        for busy in (False, True):
            print(f"== {'every core busy' if busy else 'nothing else runs'}, {seconds:.0f} s")
            with folder() as home, _busy((os.cpu_count() or 1) if busy else 0):
                peers, taken = asyncio.run(_run(scenario, home, seconds))
                _print(scenario, home, peers, judged=busy)
                print(table(("what it took", "RSS MB", "% of a core"), taken))
    except (BenchError, netns.LabUnavailable) as error:
        print(f"paths: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _busy(cores: int) -> Iterator[None]:
    """Compute on every core, at the usual priority."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


Others = dict[tuple[str, str, str], Floats]


async def _run(scenario: Scenario, home: Path, seconds: float) -> tuple[Others, list[tuple[str, ...]]]:
    """Return round trips in ms of each other program, by (program, src, dst), in the order of sending; and its cost."""
    lab = Lab(scenario, SCENARIO, home, print)
    lab.probe_module = "bench.support.processes.recording_probe"
    async with lab:
        running: list[tuple[str, str, str, subprocess.Popen[bytes]]] = []
        servers = []
        taps = [
            _in_host(lab, name, home / "tap.log", sys.executable, "-m", "bench.support.processes.wire_tap", INTERFACE,
                     str(home / f"{name}.tap"))
            for name in scenario.names()
        ]  # fmt: skip
        await asyncio.to_thread(_appear, [home / f"{name}.tap" for name in scenario.names()])
        for src, dst in PAIRS:
            address = public_address(scenario.names().index(dst))
            if irtt := shutil.which("irtt"):
                servers.append(_in_host(lab, dst, home / "server.log", irtt, "server", "-b", f"{address}:{IRTT_PORT}"))
                await asyncio.sleep(1.0)
                client = (irtt, "client", "-q", "-i", f"{round(EVERY_S * 1000)}ms", "-d", f"{seconds:.0f}s")
                more = ("-l", f"{IRTT_BYTES}", "-o", str(home / f"irtt-{dst}.json"), f"{address}:{IRTT_PORT}")
                running.append(("irtt", src, dst, _in_host(lab, src, home / f"irtt-{dst}.log", *client, *more)))
            if ping := shutil.which("ping"):
                count = str(round(seconds / EVERY_S))
                command = (ping, "-n", "-c", count, "-i", f"{EVERY_S}", address)
                running.append(("ping", src, dst, _in_host(lab, src, home / f"ping-{dst}.log", *command)))
        await asyncio.sleep(SETTLE_S)  # joining and the first hops are another matter
        watched = {
            "swarm-probe, 2 peers, watched (median of 3)": [h.probe for h in lab.hosts.values() if h.probe is not None],
            "irtt client": [process for name, *_, process in running if name == "irtt"],
            "irtt server": servers,
            "ping": [process for name, *_, process in running if name == "ping"],
        }
        before, began = {p.pid: cpu_s(p.pid) for group in watched.values() for p in group}, time.monotonic()
        await asyncio.sleep(max(1.0, seconds - SETTLE_S - 5))
        took_s = time.monotonic() - began
        taken = [_taken(name, group, before, took_s) for name, group in watched.items() if group]
        for *_, process in running:
            await asyncio.to_thread(process.wait, seconds + 30)
        await asyncio.sleep(2 * WITHIN_S)
        for process in (*servers, *taps):
            process.terminate()
            process.wait()
    read = {"irtt": _irtt_ms, "ping": _ping_ms}
    return {(name, src, dst): read[name](home, dst) for name, src, dst, _ in running}, taken


def _taken(
    name: str, group: list[subprocess.Popen[bytes]], before: dict[int, float], took_s: float
) -> tuple[str, str, str]:
    memory = statistics.median(psutil.Process(p.pid).memory_info().rss for p in group) / MB
    share = statistics.median(100 * (cpu_s(p.pid) - before[p.pid]) / took_s for p in group)
    return name, f"{memory:.1f}", f"{share:.2f}"


def _appear(files: list[Path]) -> None:
    """Wait until every file is there."""
    while not all(file.exists() for file in files):
        time.sleep(WITHIN_S)


def _in_host(lab: Lab, host: str, log: Path, *command: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            preexec_fn=netns.in_host(lab.hosts[host].net.namespace_fd),
        )


def _irtt_ms(home: Path, dst: str) -> Floats:
    trips = json.loads((home / f"irtt-{dst}.json").read_text())["round_trips"]
    return np.array([trip["delay"].get("rtt", np.nan) / NS_PER_MS for trip in trips])


def _ping_ms(home: Path, dst: str) -> Floats:
    found = re.findall(r"icmp_seq=(\d+) .*time=([\d.]+) ms", (home / f"ping-{dst}.log").read_text())
    times = np.full(max((int(seq) for seq, _ in found), default=0), np.nan)
    for seq, ms in found:
        times[int(seq) - 1] = float(ms)
    return times


# ---------------------------------------------------------------- against the truth


def true_ms(there: Records, back: Records) -> Floats:
    """Return the round trips of one program's packets, k-th request with k-th answer: these paths lose and reorder
    none."""
    for records in (there, back):
        if np.any(records["fate"] != PacketOutcome.DELIVERED):
            raise BenchError("a path that was to lose nothing lost a packet")
    n = min(len(there), len(back))
    there, back = np.sort(there, order="in_ns")[:n], np.sort(back, order="in_ns")[:n]
    both: Floats = (there["out_ns"] - there["in_ns"] + back["out_ns"] - back["in_ns"]) / NS_PER_MS
    return both


def _of_program(name: str, records: Records) -> Records:
    if name == "irtt":
        chosen: Records = records[(records["kind"] == Kind.UDP) & (records["size"] == IRTT_BYTES + 28)]
    else:
        chosen = records[(records["kind"] == Kind.OTHER) & (records["size"] == 84)]
    return chosen


def errors(reported: Floats, true: Floats) -> list[Error]:
    """Return errors window by window; a window with a lost packet is left out on both sides."""
    found = []
    for start in range(0, min(len(reported), len(true)) - WINDOW + 1, WINDOW):
        ours, theirs = reported[start : start + WINDOW], true[start : start + WINDOW]
        if not np.any(np.isnan(ours)):
            a, b = (np.quantile(each, (0.5, 0.99), method="inverted_cdf") for each in (ours, theirs))
            found.append(Error(*(a - b).tolist()))
    return found


def _print(scenario: Scenario, home: Path, peers: Others, *, judged: bool) -> None:
    router = Truth.read(home / "truth.bin")
    names = scenario.names()
    addresses = [int(ipaddress.IPv4Address(public_address(index))) for index in range(len(names))]
    truth, *router_late = observed(router, [home / f"{name}.tap" for name in names], addresses)
    by_program: dict[str, dict[str, list[Error]]] = defaultdict(lambda: defaultdict(list))
    for src, dst, found in _ours(scenario, home, truth):
        by_program["swarm-probe"][f"{src} → {dst}"] += found
    for (name, src, dst), reported in peers.items():
        there, back = (truth.pair(names.index(a), names.index(b)) for a, b in ((src, dst), (dst, src)))
        true = true_ms(_of_program(name, there), _of_program(name, back))
        if name == "irtt":  # the handshake before the first
            true = true[len(true) - len(reported) :]
        by_program[name][f"{src} → {dst}"] += errors(reported, true)
    rows = [_row(name, path, found) for name, paths in by_program.items() for path, found in sorted(paths.items())]
    title = ("path and program", "windows", "p50 bias", "|p50|", "|p50| worst", "|p99|", "|p99| worst")
    print(f"error of round trips in ms, windows of {WINDOW} packets")
    print(table(title, rows))
    ours = [each for found in by_program["swarm-probe"].values() for each in found]
    p50, p99 = (float(np.median([abs(getattr(e, name)) for e in ours])) for name in ("p50", "p99"))
    record(f"error of a round trip's p50, {'cores busy' if judged else 'idle'}", 1e3 * p50, "µs")
    print(f"goal p50 within {GOAL_P50_MS} ms: {p50 / GOAL_P50_MS:.2f} of it; p99 within {GOAL_P99_MS} ms: "
          f"{p99 / GOAL_P99_MS:.2f} of it (medians over {len(ours)} windows)")  # fmt: skip
    _by_stamp(scenario, home, truth)
    for what, late in zip(("read a packet after it had left", "noted a delivery after it"), router_late, strict=True):
        p50, p99 = (1e3 * float(np.quantile(late, q)) for q in (0.5, 0.99))
        print(f"the router {what}: p50 {p50:.0f}, p99 {p99:.0f} µs, of {len(late)} packets")
    _agree(home, peers)
    if not judged:
        return
    emulation = router.emulation_error_ms()
    print(f"the emulator's own error, due against delivered: p50 {np.quantile(emulation, 0.5):.3f}, "
          f"p99 {np.quantile(emulation, 0.99):.3f} ms")  # fmt: skip
    rest = [
        row for row in verify_run(scenario, home / "truth.bin", home / "swarm.db") if not row.metric.startswith("rtt")
    ]
    worst = {row.metric: row for row in sorted(rest, key=lambda row: row.error if row.error == row.error else -1)}
    for metric, row in sorted(worst.items()):
        print(f"  {metric}: worst of {sum(r.metric == metric for r in rest)} links {row.error:.4f} "
              f"({row.src} → {row.dst}: {row.reported:.3f}, really {row.truth:.3f})")  # fmt: skip


def _by_stamp(scenario: Scenario, home: Path, truth: Truth) -> None:
    """Print what each of the four time stamps adds to our round trips."""
    names = scenario.names()
    found = []
    for src, dst in permutations(names, 2):
        there, back = (truth.pair(names.index(a), names.index(b)) for a, b in ((src, dst), (dst, src)))
        found.append(stamp_errors.errors_ms(stamp_errors.read(home / src), there, back, truth))
    stamps = np.concatenate(found)
    if not len(stamps):
        raise BenchError("the probes recorded no round trip")
    columns = [*zip(stamp_errors.STAMPS, stamps.T, strict=True), ("round trip", stamps.sum(axis=1))]
    rows = [(name, *(f"{np.quantile(each, q):+.3f}" for q in (0.0, 0.01, 0.5, 0.99, 1.0))) for name, each in columns]
    print(f"what each time stamp adds to a round trip, in ms, over {len(stamps)} packets")
    print(table(("stamp", "least", "p1", "p50", "p99", "most"), rows))


def _agree(home: Path, peers: Others) -> None:
    """Compare ours with irtt's over the same path in the same minute: two programs' samples, not the same packets."""
    for (name, src, dst), theirs in peers.items():
        if name != "irtt":
            continue
        mine = [
            sample
            for a, b, sample in stored_samples(home / "swarm.db")
            if isinstance(sample, LinkSample) and (a, b) == (src, dst) and sample.rtt_p50_ms and not sample.loaded
        ]
        p50 = statistics.median(sample.rtt_p50_ms or 0.0 for sample in mine)
        ipdv = statistics.fmean(sample.ipdv_ms for sample in mine if sample.ipdv_ms is not None)
        irtt_p50, irtt_ipdv = float(np.nanmedian(theirs)), float(np.nanmean(np.abs(np.diff(theirs))))
        print(
            f"{src} → {dst}: RTT p50 {p50:.3f} ms, irtt {irtt_p50:.3f} ({p50 - irtt_p50:+.3f}); "
            f"mean |IPDV| {ipdv:.3f} ms, irtt {irtt_ipdv:.3f} ({ipdv - irtt_ipdv:+.3f})"
        )


def _ours(scenario: Scenario, home: Path, truth: Truth) -> Iterator[tuple[str, str, list[Error]]]:
    names = scenario.names()
    last_ns: dict[tuple[str, str], int] = {}
    for src, dst, sample in stored_samples(home / "swarm.db"):
        if not isinstance(sample, LinkSample):
            continue
        until_ns = sample.at_ns - truth.wall_minus_mono_ns
        since_ns = last_ns.get((src, dst), until_ns - 6_000_000_000)
        last_ns[src, dst] = until_ns
        if sample.rtt_p50_ms is None or sample.rtt_p99_ms is None or sample.loaded:
            continue
        there, back = (truth.pair(names.index(a), names.index(b)) for a, b in ((src, dst), (dst, src)))
        chosen = there[(there["in_ns"] >= since_ns) & (there["in_ns"] < until_ns)]
        true = round_trips(chosen, back[(back["in_ns"] >= since_ns) & (back["in_ns"] < until_ns + 2_000_000_000)])
        if len(true.rtt_ms) == sample.sent - sample.lost:
            p50, p99 = np.quantile(true.rtt_ms, (0.5, 0.99), method="inverted_cdf").tolist()
            yield src, dst, [Error(sample.rtt_p50_ms - p50, sample.rtt_p99_ms - p99)]


def _row(name: str, path: str, found: list[Error]) -> tuple[str, ...]:
    if not found:
        return (f"{path}  {name}", "0", *("–" for _ in range(5)))
    p50, p99 = (np.array([getattr(e, which) for e in found]) for which in ("p50", "p99"))
    figures = (np.median(p50), np.median(abs(p50)), abs(p50).max(), np.median(abs(p99)), abs(p99).max())
    return (f"{path}  {name}", str(len(found)), *(f"{figure:.3f}" for figure in figures))


if __name__ == "__main__":
    raise SystemExit(main())
