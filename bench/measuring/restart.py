"""Measure what TCP adds to a message after a pause, on emulated paths against the model, by congestion control.

Senders with each congestion control that the kernel has send messages of 8 to 256 KB over 60 ms each way, with pauses
of 50 ms to 3 s after each acknowledgement, all at once: some four minutes. Needs root on Linux.
"""

from __future__ import annotations

import statistics
from typing import Final

import numpy as np

from bench.support.harness import machine, record, table
from bench.support.tcp_flows import Flow, Leg, Message, controls, messages
from swarm_lab.emulation import netns
from swarm_predict.cost.network.window_after_idle import waiting_ms, window_bytes

ONEWAY_MS: Final = 60.0
MBPS: Final = 100.0
SIZES: Final = (8192, 16384, 33000, 65536, 131072, 262144)
GAPS_MS: Final = (50.0, 200.0, 300.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0)
SETTLE: Final = 3  # with the pause, until each leaves the window as the one before did
REPEATS: Final = 3
CONNECTIONS: Final = 3  # of each kind: one that was disturbed once may keep a smaller window for good
WORST_GOAL: Final = 0.2  # of every cell
SHOWN: Final = 6  # of the cells that are off by more than the goal
GOAL: Final = 0.1  # of nine cells in ten: a machine that does other things delays some


def main() -> int:
    if why := netns.why_unavailable():
        print(f"skipped: {why}")
        return 0
    print(machine())
    legs = {
        size: tuple(Leg(size, gap_ms, REPEATS, settle=SETTLE) for gap_ms in GAPS_MS) * CONNECTIONS for size in SIZES
    }
    flows = [Flow(control, ONEWAY_MS, MBPS, 0.0, legs[size]) for control in controls() for size in SIZES]
    taken: dict[tuple[str, int, float], list[Message]] = {}
    for message in messages(flows):
        flow = flows[message.flow]
        leg = flow.legs[message.leg]
        taken.setdefault((flow.control, leg.size_bytes, leg.gap_ms), []).append(message)
    errors: dict[tuple[str, int, float], float] = {}
    for control in controls():
        rows = []
        for size in SIZES:
            steady_ms = statistics.median(
                each.took_ms
                for gap_ms in GAPS_MS
                if _restart_ms(control, size, gap_ms) == 0
                for each in taken[control, size, gap_ms]
            )
            cells = []
            for gap_ms in GAPS_MS:
                measured_ms = statistics.median(each.took_ms for each in taken[control, size, gap_ms])
                model_ms = steady_ms + _restart_ms(control, size, gap_ms)
                errors[control, size, gap_ms] = abs(model_ms / measured_ms - 1)
                cells.append(f"{measured_ms:.0f}/{model_ms:.0f}")
            rows.append([f"{size / 1e3:.0f} KB", *cells])
        print(f"{control}: ms until the acknowledgement, measured/model, by ms of pause")
        print(table(["size", *(f"{gap_ms:.0f}" for gap_ms in GAPS_MS)], rows))
    for cell, error in sorted(errors.items(), key=lambda each: -each[1])[:SHOWN]:
        if error > GOAL:
            print(_what_the_kernel_had(cell, error, taken[cell]))
    middle, most = statistics.median(errors.values()), statistics.quantiles(errors.values(), n=10)[-1]
    worst = max(errors.values())
    record("model of an idle connection: error, median", 100 * middle, "%")
    record("model of an idle connection: error, worst", 100 * worst, "%")
    print(
        f"error of the model: median {middle:.1%}, worst {worst:.1%}, nine in ten within {most:.1%} "
        f"(goals {WORST_GOAL:.0%} and {GOAL:.0%}: {worst / WORST_GOAL:.1f} and {most / GOAL:.1f} of them)"
    )
    return int(most > GOAL or worst > WORST_GOAL)


def _what_the_kernel_had(cell: tuple[str, int, float], error: float, those: list[Message]) -> str:
    control, size, gap_ms = cell
    took = " ".join(f"{each.took_ms:.0f}" for each in those)
    windows = " ".join(str(each.window) for each in those)
    return (
        f"  {error:.0%}: {control}, {size / 1e3:.0f} KB after {gap_ms:.0f} ms: took {took} ms, "
        f"windows before the pause ended {windows}, timeout {those[-1].rto_ms:.0f} ms"
    )


def _restart_ms(control: str, size: int, gap_ms: float) -> float:
    """Return the model's wait. The pause begins with the acknowledgement, when the connection has been idle for a round
    trip."""
    if control == "bbr":
        return 0.0
    sizes, rtt = np.array([float(size)]), np.array([2 * ONEWAY_MS])
    window = window_bytes(sizes, rtt + gap_ms, rtt)
    return float(waiting_ms(sizes, window, rtt, np.array([MBPS]))[0])


if __name__ == "__main__":
    raise SystemExit(main())
