"""Flood a collector with pings, STUN requests and half-open hellos, and measure how much later honest probes are
acknowledged.

The flood comes over a veth from a network namespace of its own, 24 Mbit/s as sent; the probes are on loopback. Quiet
and flooded rounds alternate on one collector. Needs root on Linux, `ip` and `unshare`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from bench.support import harness

GOAL = 2.0  # times the quiet p99
# Collector and honest probes go first, in quiet rounds too: a flood comes from the processors of other machines, and
# neighbours on this one are no part of the question.
LOAD = "bench.support.processes.load_client"
FIRST = "import os\nos.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
NETWORK = "198.18.77"  # of the range that RFC 2544 has for benchmarks
DEVICE = "swarmflood"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench flood", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--probes", type=int, default=100, help="honest ones (%(default)s)")
    parser.add_argument("--every-s", type=float, default=1.0, help="a batch of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="quiet and flooded ones each (%(default)s)")
    parser.add_argument("--sources", type=int, default=4, help="addresses that the flood comes from (%(default)s)")
    parser.add_argument("--ping-mbps", type=float, default=12.0, help="of empty pings (%(default)s)")
    parser.add_argument("--stun-mbps", type=float, default=8.0, help="of STUN requests (%(default)s)")
    parser.add_argument("--half-open-mbps", type=float, default=4.0, help="of connections begun (%(default)s)")
    given = sys.argv[1:] if sys.argv[0].endswith("flood.py") else []
    chosen = parser.parse_args(arguments if arguments is not None else given)
    if os.name != "posix" or os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        print("flood: needs root on Linux, ip (iproute2) and unshare (util-linux)", file=sys.stderr)
        return 1
    print(f"  {harness.machine()}")
    with harness.folder() as folder, harness.Processes(folder) as processes:
        return _run(processes, chosen)


def _run(processes: harness.Processes, chosen: argparse.Namespace) -> int:
    collector, port = harness.start_collector(processes, "--listen", "0.0.0.0:0", "--insecure", before=FIRST)
    process = psutil.Process(collector.pid)
    quiet, flooded, sent, cores = [], [], [], []
    for number in range(chosen.rounds):
        quiet.append(_load(port, chosen, epoch=2 * number + 1))
        flooder = _begin_flood(port, chosen)
        try:
            before_s, began = harness.cpu_s(collector.pid), time.monotonic()
            flooded.append(_load(port, chosen, epoch=2 * number + 2))
            cores.append((harness.cpu_s(collector.pid) - before_s) / (time.monotonic() - began))
            came_bytes = int(Path(f"/sys/class/net/{DEVICE}/statistics/rx_bytes").read_text())
            took_s = time.monotonic() - began
            assert flooder.stdin is not None
            assert flooder.stdout is not None
            flooder.stdin.write("\n")
            flooder.stdin.flush()
            sent.append(json.loads(flooder.stdout.readline()) | {"mbps": came_bytes * 8 / 1e6 / took_s})
        finally:
            flooder.kill()
            flooder.wait()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
        health = json.load(answer)
    log_lines = len((processes.folder / "collector.log").read_text().splitlines())
    return _print(chosen, quiet, flooded, sent, cores, process.memory_info().rss, health, log_lines)


def _load(port: int, chosen: argparse.Namespace, epoch: int) -> dict[str, Any]:
    job = {"port": port, "mode": "steady", "probes": chosen.probes, "every_s": chosen.every_s, "peers": 8,
           "seconds": chosen.seconds, "epoch": epoch, "rest_s": 3.0}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", f"{FIRST}\nimport runpy\nrunpy.run_module({LOAD!r}, run_name='__main__')",
         json.dumps(job)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=300,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _begin_flood(port: int, chosen: argparse.Namespace) -> subprocess.Popen[str]:
    """Start a flooder in a namespace that ends with it, joined to this one by a veth."""
    sources = [f"{NETWORK}.{2 + i}" for i in range(chosen.sources)]
    job = {"host": f"{NETWORK}.1", "port": port, "stun_port": port, "sources": sources, "pingers": 50, "held": 1000,
           "ping_mbps": chosen.ping_mbps, "stun_mbps": chosen.stun_mbps, "half_open_mbps": chosen.half_open_mbps,
           "most_s": chosen.seconds + 120}  # fmt: skip
    flooder = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-m", "bench.support.processes.flooder", json.dumps(job)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert flooder.stdin is not None
        assert flooder.stdout is not None
        if flooder.stdout.readline().strip() != "ready":
            raise harness.BenchError("the flooder did not start")
        namespace = ["nsenter", "-t", str(flooder.pid), "-n"]
        for command in (
            ["ip", "link", "add", DEVICE, "type", "veth", "peer", "name", "eth0", "netns", str(flooder.pid)],
            ["ip", "address", "add", f"{NETWORK}.1/24", "dev", DEVICE],
            ["ip", "link", "set", DEVICE, "up"],
            *([*namespace, "ip", "address", "add", f"{source}/24", "dev", "eth0"] for source in sources),
            [*namespace, "ip", "link", "set", "eth0", "up"],
        ):
            subprocess.run(command, check=True, timeout=30)
        flooder.stdin.write("\n")
        flooder.stdin.flush()
    except BaseException:
        flooder.kill()
        flooder.wait()
        raise
    return flooder


def _print(
    chosen: argparse.Namespace,
    quiet: list[dict[str, Any]],
    flooded: list[dict[str, Any]],
    sent: list[dict[str, Any]],
    cores: list[float],
    rss_bytes: int,
    health: dict[str, Any],
    log_lines: int,
) -> int:
    def middle(rounds: list[dict[str, Any]], what: str) -> float:
        return statistics.median(each[what] for each in rounds)

    ratio = middle(flooded, "ack_p99_ms") / middle(quiet, "ack_p99_ms")
    span = ", ".join(f"{b['ack_p99_ms'] / a['ack_p99_ms']:.2f}" for a, b in zip(quiet, flooded, strict=True))
    each_s = chosen.seconds + 3.0
    harness.record("ack p99, flooded", middle(flooded, "ack_p99_ms"), "ms", peer=("quiet", middle(quiet, "ack_p99_ms")))
    offered_mbps = chosen.ping_mbps + chosen.stun_mbps + chosen.half_open_mbps
    rows = [
        ("quiet: ack p50 / p99", f"{middle(quiet, 'ack_p50_ms'):.1f} / {middle(quiet, 'ack_p99_ms'):.1f} ms", ""),
        ("flooded: ack p50 / p99", f"{middle(flooded, 'ack_p50_ms'):.1f} / {middle(flooded, 'ack_p99_ms'):.1f} ms", ""),
        ("p99, flooded by quiet", f"{ratio:.2f} (rounds: {span})", f"{GOAL:g}"),
        ("all joined, quiet / flooded", f"{middle(quiet, 'settle_s'):.1f} / {middle(flooded, 'settle_s'):.1f} s", ""),
        ("honest sessions lost, refused",
         f"{sum(each['lost'] for each in flooded)}, {sum(each['refused'] for each in flooded)}", "0"),
        ("flood: offered / came over the wire", f"{offered_mbps:g} / {middle(sent, 'mbps'):.1f} Mbit/s", "24 offered"),
        ("  pings, STUN, connections",
         f"{middle(sent, 'ping_bytes') / 6 / each_s:,.0f}/s, {middle(sent, 'stun') / each_s:,.0f}/s, "
         f"{middle(sent, 'connects') / each_s:,.0f}/s", ""),
        ("collector meanwhile", f"{statistics.median(cores):.2f} core, {rss_bytes / harness.MB:.0f} MB", ""),
        ("lines of its log, all rounds", f"{log_lines}", ""),
        ("descriptors left", f"{health.get('descriptors_left')} of {health.get('descriptors_limit')}", ""),
    ]  # fmt: skip
    print(harness.table(("", "measured", "goal"), rows))
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
