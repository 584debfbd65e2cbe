"""Uplink tests against the lab's truth: rates 5 to 200 Mbit/s, 10 to 160 ms, without and with jitter, beside iperf3.

Each cell is one transfer of at most 4 MiB by the probe's own code over an emulated path of its own. A measured figure
has to be within 5 % of what TCP can carry there (1448 of 1500 bytes); a bound has to be no more than that. iperf3
sends as many bytes over some of the same paths, and its figure is its usual one: bytes by time. Needs root on Linux.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench._rig import folder, machine, table
from swarm_lab.emulation import netns
from swarm_lab.emulation.emulator import public_address
from swarm_lab.emulation.scenario import parse_scenario
from swarm_lab.lab import Lab
from swarm_lab.verification.verify import MSS_SHARE

RATES_MBPS = (5, 20, 50, 100, 200)
RTTS_MS = (10, 40, 80, 160)
JITTERS_MS = (0, 4)  # p95 of the extra delay, one way
MAX_BYTES = 4 << 20
GOAL = 0.05
QUEUE_MS = 100.0


@dataclass(frozen=True, slots=True)
class Cell:
    rate: int
    rtt: int
    jitter: int
    mbps: float
    bound: bool
    sent: int
    seconds: float
    ended: str

    @property
    def error(self) -> float:
        return self.mbps / (self.rate * MSS_SHARE) - 1

    @property
    def verdict(self) -> str:
        if self.bound:
            return "bound" if self.error <= GOAL else "WRONG bound"
        return "right" if abs(self.error) <= GOAL else "WRONG"


def scenario_text(tcp: str) -> str:
    lines = ['title = "uplinks"']
    for rate in RATES_MBPS:
        access = f"up_mbps = {rate}.0, down_mbps = 1000.0, delay_ms = 0.5, queue_ms = {QUEUE_MS}"
        lines.append(f'[[host]]\nname = "s{rate}"\nprobe = false\ntcp = "{tcp}"\naccess = {{ {access} }}')
    for rtt in RTTS_MS:
        for jitter in JITTERS_MS:
            access = f"up_mbps = 1000.0, down_mbps = 1000.0, delay_ms = {rtt / 2 - 0.5}, queue_ms = {QUEUE_MS}"
            access += f", jitter = {{ p95_ms = {jitter}.0 }}"
            lines.append(f'[[host]]\nname = "r{rtt}-{jitter}"\nprobe = false\naccess = {{ {access} }}')
    return "\n".join(lines)


def main() -> int:
    if why := netns.why_unavailable():
        print(f"uplink: {why}", file=sys.stderr)
        return 1
    print(machine())
    wrong = 0
    for tcp in sys.argv[1:] if sys.argv[0].endswith("uplink.py") and sys.argv[1:] else ("cubic",):
        with folder() as home:
            cells, iperf = asyncio.run(_run(tcp, home))
        wrong += _print(tcp, cells, iperf)
    return 1 if wrong else 0


async def _run(tcp: str, home: Path) -> tuple[list[Cell], dict[tuple[int, int, int], float]]:
    text = scenario_text(tcp)
    scenario = parse_scenario(text)
    names = scenario.names()
    cells: list[Cell] = []
    iperf: dict[tuple[int, int, int], float] = {}
    async with Lab(scenario, text, home, print) as lab:
        for name in names:
            if name.startswith("r"):
                lab.start(name, ["-m", "bench._uplink_end", "serve", public_address(names.index(name))], "end.log")
                if tool := shutil.which("iperf3"):
                    lab.hosts[name].processes.append(_in_host(lab, name, tool, "-s"))
        await asyncio.sleep(4.0)  # ten Pythons start
        for jitter in JITTERS_MS:
            for rtt in RTTS_MS:
                for rate in RATES_MBPS:
                    to = public_address(names.index(f"r{rtt}-{jitter}"))
                    idle_ms = rtt + jitter / math.exp(1.645) * (2 if jitter else 0)
                    arguments = ["-m", "bench._uplink_end", "send", to, str(MAX_BYTES), str(idle_ms), str(jitter)]
                    process = lab.start(f"s{rate}", arguments, "send.log", talk=True)
                    out, _ = await asyncio.to_thread(process.communicate)
                    said = json.loads(out)
                    if "error" in said:
                        print(f"  {rate} Mbit/s {rtt} ms jitter {jitter}: {said['error']}")
                        continue
                    cells.append(Cell(rate, rtt, jitter, said["mbps"], said["bound"], said["sent"], said["seconds"],
                                      said["ended"]))  # fmt: skip
                    if rate in (20, 100) and rtt in (40, 160) and shutil.which("iperf3"):
                        iperf[rate, rtt, jitter] = await _iperf_mbps(lab, f"s{rate}", to)
    return cells, iperf


async def _iperf_mbps(lab: Lab, host: str, to: str) -> float:
    process = _in_host(lab, host, "iperf3", "-c", to, "-n", str(MAX_BYTES), "-J")
    out, _ = await asyncio.to_thread(process.communicate)
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e6


def _in_host(lab: Lab, host: str, *command: str) -> subprocess.Popen[bytes]:
    prepare = netns.in_host(lab.hosts[host].net.namespace_fd)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=prepare)


def _print(tcp: str, cells: list[Cell], iperf: dict[tuple[int, int, int], float]) -> int:
    print(f"transfers of at most {MAX_BYTES >> 20} MiB, the sender's TCP is {tcp} where the probe does not choose")
    rows = []
    for cell in cells:
        other = iperf.get((cell.rate, cell.rtt, cell.jitter))
        rows.append(
            (
                f"{cell.rate} Mbit/s, {cell.rtt} ms" + (f", jitter {cell.jitter} ms" if cell.jitter else ""),
                f"{'≥ ' if cell.bound else ''}{cell.mbps:.1f}",
                f"{cell.rate * MSS_SHARE:.1f}",
                f"{cell.error:+.1%}",
                cell.verdict,
                f"{cell.sent / 2**20:.2f}",
                f"{cell.seconds:.1f}",
                cell.ended,
                f"{other:.1f}" if other is not None else "",
            )
        )
    print(table(("path", "shown", "truth", "error", "", "MiB", "s", "ended", "iperf3"), rows))
    right = sum(cell.verdict == "right" for cell in cells)
    wrong = sum(cell.verdict.startswith("WRONG") for cell in cells)
    bounds = sum(cell.bound for cell in cells)
    print(f"{right} of {len(cells)} measured within {GOAL:.0%}, {bounds} shown as bounds, {wrong} wrong")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
