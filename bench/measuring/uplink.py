"""Compare uplink tests with the lab's truth and iperf3, over paths drawn at random: 20 to 100 Mbit/s, 10 to 200 ms.

Each path is emulated on its own, with 0 to 10 ms of jitter and 0 to 1 % of loss; the probes' own code runs one test of
at most 2 MiB over it, with the round trips before it that it would have. A measured figure has to be within 3 % of what
TCP can carry there (1448 of 1500 bytes); a bound has to be no more than that. iperf3 sends as many bytes over some of
the same paths; its figure is its usual one, bytes by time. Needs root on Linux.

    --paths N     how many (20)         --seed S    another draw (1)         --law L   of the jitter: uniform (usual),
    --only K      the K-th one alone    --no-trains TCP alone                          normal, lognormal, pareto
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.support.harness import folder, machine, record, table
from swarm_lab.emulation import netns
from swarm_lab.emulation.emulator import public_address
from swarm_lab.emulation.scenario import parse_scenario
from swarm_lab.lab import Lab
from swarm_lab.verification.verify import MSS_SHARE

RATES_MBPS = (20.0, 100.0)
RTTS_MS = (10.0, 200.0)
JITTER_MS = 10.0  # 95 % of the extra delay, one way, is below what is drawn up to here
LOSS = 0.01  # one way
MAX_BYTES = 2 << 20
GOAL = 0.03
QUEUE_MS = 100.0
IPERF_PATHS = 4
START_S = 2.0  # for Python or iperf3 to listen


@dataclass(frozen=True, slots=True)
class Line:
    rate: float
    rtt: float
    jitter: float
    loss: float


@dataclass(frozen=True, slots=True)
class Result:
    path: Line
    mbps: float
    bound: bool
    sent: int
    seconds: float
    transport: str
    iperf_mbps: float | None

    @property
    def error(self) -> float:
        return self.mbps / (self.path.rate * MSS_SHARE) - 1

    @property
    def verdict(self) -> str:
        if self.bound:
            return "bound" if self.error <= GOAL else "WRONG bound"
        return "right" if abs(self.error) <= GOAL else "WRONG"


def draw(count: int, seed: int) -> list[Line]:
    """Return paths: rates, jitter and loss uniform, round trips log-uniform."""
    rng = random.Random(seed)
    return [
        Line(
            round(rng.uniform(*RATES_MBPS), 1),
            round(RTTS_MS[0] * (RTTS_MS[1] / RTTS_MS[0]) ** rng.random(), 1),
            round(rng.uniform(0, JITTER_MS), 1),
            round(rng.uniform(0, LOSS), 4),
        )
        for _ in range(count)
    ]


def scenario_text(paths: Sequence[Line], law: str) -> str:
    lines = ['title = "uplinks"']
    for number, path in enumerate(paths):
        access = f"up_mbps = {path.rate}, down_mbps = 1000.0, delay_ms = 0.5, queue_ms = {QUEUE_MS}"
        lines.append(f'[[host]]\nname = "s{number}"\nprobe = false\naccess = {{ {access} }}')
        access = f"up_mbps = 1000.0, down_mbps = 1000.0, delay_ms = {path.rtt / 2 - 0.5:.3f}, queue_ms = {QUEUE_MS}"
        access += f', jitter = {{ p95_ms = {path.jitter}, law = "{law}" }}, loss = {{ rate = {path.loss} }}'
        lines.append(f'[[host]]\nname = "r{number}"\nprobe = false\naccess = {{ {access} }}')
    return "\n".join(lines)


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench uplink")
    parser.add_argument("--paths", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--law", choices=("uniform", "normal", "lognormal", "pareto"), default="uniform")
    parser.add_argument("--only", type=int, help="number of one path, from 1")
    parser.add_argument("--no-trains", action="store_true")
    chosen = parser.parse_args(arguments)
    if why := netns.why_unavailable():
        print(f"uplink: {why}", file=sys.stderr)
        return 1
    print(machine())
    paths = draw(chosen.paths, chosen.seed)
    if chosen.only is not None:
        paths = paths[chosen.only - 1 : chosen.only]
    with folder() as home:
        results = asyncio.run(_run(paths, chosen.law, home, trains=not chosen.no_trains))
    return 1 if _print(results, chosen.law) or len(results) < len(paths) else 0


async def _run(paths: Sequence[Line], law: str, home: Path, *, trains: bool) -> list[Result]:
    text = scenario_text(paths, law)
    scenario = parse_scenario(text)
    names = scenario.names()
    results: list[Result] = []
    async with Lab(scenario, text, home, print) as lab:
        for number, path in enumerate(paths):
            sender, receiver = (public_address(names.index(f"{end}{number}")) for end in "sr")
            server = lab.start(f"r{number}", ["-m", "bench.support.processes.uplink_end", "serve", receiver], "end.log")
            await asyncio.sleep(START_S)
            arguments = ["-m", "bench.support.processes.uplink_end", "send", sender, receiver, str(MAX_BYTES)]
            arguments += [] if trains else ["--no-trains"]
            process = lab.start(f"s{number}", arguments, "send.log", talk=True)
            out, _ = await asyncio.to_thread(process.communicate)
            _end(server)
            said = json.loads(out)
            if "error" in said:
                print(f"  {path}: {said['error']}")
                continue
            print(f"  {path}: {said['ended']}, {said['carried']} bytes in all", flush=True)
            iperf = await _iperf_mbps(lab, number, receiver) if number < IPERF_PATHS else None
            results.append(
                Result(path, said["mbps"], said["bound"], said["sent"], said["seconds"], said["transport"], iperf)
            )
    return results


async def _iperf_mbps(lab: Lab, number: int, to: str) -> float | None:
    if not shutil.which("iperf3"):
        return None
    server = _in_host(lab, f"r{number}", "iperf3", "-s")
    await asyncio.sleep(START_S)
    process = _in_host(lab, f"s{number}", "iperf3", "-c", to, "-n", str(MAX_BYTES), "-J")
    out, _ = await asyncio.to_thread(process.communicate)
    _end(server)
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e6


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait()


def _in_host(lab: Lab, host: str, *command: str) -> subprocess.Popen[bytes]:
    prepare = netns.in_host(lab.hosts[host].net.namespace_fd)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=prepare)


def _print(results: Sequence[Result], law: str) -> int:
    print(f"tests of at most {MAX_BYTES >> 20} MiB, {law} jitter, up to 1 % lost")
    rows = [
        (
            f"{result.path.rate:.1f} Mbit/s, {result.path.rtt:.0f} ms",
            f"{result.path.jitter:.1f}",
            f"{result.path.loss:.2%}",
            f"{'≥ ' if result.bound else ''}{result.mbps:.1f}",
            f"{result.path.rate * MSS_SHARE:.1f}",
            f"{result.error:+.1%}",
            result.verdict,
            result.transport,
            f"{result.sent / 2**20:.2f}",
            f"{result.seconds:.1f}",
            f"{result.iperf_mbps:.1f}" if result.iperf_mbps is not None else "",
        )
        for result in results
    ]
    title = ("path", "jitter ms", "loss", "shown", "truth", "error", "", "by", "MiB", "s", "iperf3")
    print(table(title, rows))
    right = sum(result.verdict == "right" for result in results)
    wrong = sum(result.verdict.startswith("WRONG") for result in results)
    bounds = sum(result.bound for result in results)
    record(f"uplinks measured within {GOAL:.0%}", 100 * right / max(1, len(results)), "%", more_is_better=True)
    print(f"{right} of {len(results)} measured within {GOAL:.0%}, {bounds} shown as bounds, {wrong} wrong")
    return wrong
