"""Simulate the change detector: false alarms on quiet links, per node and week, and the delay until it finds steps.

Every link of a full mesh reports windows of 16 packets every 8 s, as under a dashboard; delays have Pareto tails (index
3 to 1.2: below 2 there is no variance), losses come in runs, and in the worst case bursts of cross traffic delay every
tenth window. Goal: at most one event per node and week, by the upper end of the 95 % interval of a Poisson count.
"""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Iterator

import numpy as np

from bench.support.harness import record
from bench.support.synthetic.rtt_windows import WINDOW_S, Line, windows
from swarm_collector.changes.detected_change import Found, describe
from swarm_collector.changes.detector import ChangeDetector
from swarm_protocol.messages.samples import LinkSample
from swarm_protocol.units import NS_PER_S

GOAL = 1.0  # events per node and week
NODES, DAYS = 8, 3.0  # 3.4 node-weeks a case: enough to show a rate below one
PIECE = 200  # windows made at a time
WEEK_S = 7 * 86_400.0
CASES = {
    "fibre, light tails": Line(20.0, 0.2, 3.0),
    "cable, heavy tails": Line(25.0, 2.0, 1.8, loss=0.005),
    "Wi-Fi, no variance": Line(12.0, 3.0, 1.2, loss=0.01, loss_run=3.0),
    "bursts in every tenth window": Line(30.0, 1.0, 2.0, burst=0.1, burst_ms=80.0, loss=0.005),
}
STEPS = (1.3, 1.5, 2.0, 5.0)
TRIES = 40
T0 = 1_790_000_000 * NS_PER_S


def main(_: list[str] | None = None) -> int:
    worst = 0.0
    for name, line in CASES.items():
        began = time.perf_counter()
        found, samples = quiet(line, NODES, DAYS, seed=1)
        weeks = NODES * DAYS * 86_400 / WEEK_S
        most = upper(len(found)) / weeks
        worst = max(worst, most)
        took = (time.perf_counter() - began) / samples * 1e6
        print(f"  quiet: {name:<30} {len(found)} events in {weeks:.1f} node-weeks: at most {most:.2f} a node and week "
              f"(goal {GOAL:g}); {took:.1f} us a sample, made and tested")  # fmt: skip
        for each in found[:5]:
            print(f"    {each.kind} {each.subject.node}: {describe(each, str)}")
    record("events of quiet links, at most", worst, "a node and week")
    missed = 0
    for name, line in list(CASES.items())[:2]:
        for step in STEPS:
            delays = [delay_s(line, step, seed) for seed in range(TRIES)]
            seen = [delay for delay in delays if delay is not None]
            missed += len(delays) - len(seen)
            p50, p95 = np.quantile(seen, (0.5, 0.95)) if seen else (np.nan, np.nan)
            print(f"  step: {name:<22} x{step:<4g} of one node's links: {len(seen)} of {TRIES} found, "
                  f"p50 {p50:.0f} s, p95 {p95:.0f} s")  # fmt: skip
    return 0 if worst <= GOAL and not missed else 1


def mesh(
    line: Line, nodes: int, count: int, rng: np.random.Generator, first_ns: int = T0
) -> Iterator[tuple[str, LinkSample]]:
    """Yield windows of all links ordered by time; each node's end at its own phase."""
    names = [f"{k:016x}" for k in range(nodes)]
    phases = rng.random(nodes) * WINDOW_S

    def of(src: int, dst: int) -> Iterator[tuple[int, str, LinkSample]]:
        at_ns = first_ns + round(phases[src] * NS_PER_S)
        for begin in range(0, count, PIECE):
            piece = min(PIECE, count - begin)
            for sample in windows(line, names[dst], at_ns + round(begin * WINDOW_S * NS_PER_S), piece, rng):
                yield sample.at_ns, names[src] + names[dst], sample

    for _, pair, sample in heapq.merge(*(of(i, j) for i in range(nodes) for j in range(nodes) if i != j)):
        yield pair[:16], sample


def quiet(line: Line, nodes: int, days: float, seed: int) -> tuple[list[Found], int]:
    """Return (false alarms, samples)."""
    detector, rng = ChangeDetector(), np.random.default_rng(seed)
    return run(detector, mesh(line, nodes, round(days * 86_400 / WINDOW_S), rng))


def run(detector: ChangeDetector, samples: Iterator[tuple[str, LinkSample]]) -> tuple[list[Found], int]:
    found: list[Found] = []
    next_ns = count = 0
    for node, sample in samples:
        if sample.at_ns >= next_ns:
            found += detector.advance(sample.at_ns)
            next_ns = sample.at_ns + NS_PER_S
        detector.add(node, sample)
        count += 1
    found += detector.advance(next_ns + 10 * NS_PER_S)
    return found, count


def delay_s(line: Line, step: float, seed: int) -> float | None:
    """Return the delay from a step of all links of one node to the event; None: none came within ten minutes."""
    rng = np.random.default_rng(seed)
    detector = ChangeDetector()
    run(detector, mesh(line, 5, 40, rng))
    changed = Line(line.rtt_ms * step, line.jitter_ms, line.tail, loss=line.loss)
    turned_ns = T0 + round(40 * WINDOW_S * NS_PER_S)
    slow = f"{0:016x}"
    before, after = (mesh(kind, 5, 75, rng, turned_ns) for kind in (line, changed))
    merged = heapq.merge(
        ((s.at_ns, node, s) for node, s in before if slow not in (node, s.peer)),
        ((s.at_ns, node, s) for node, s in after if slow in (node, s.peer)),
        key=lambda each: each[:2],
    )
    found, _ = run(detector, ((node, sample) for _, node, sample in merged))
    found = [each for each in found if each.kind == "degraded" and each.subject.node == slow and not each.subject.peer]
    return (found[0].at_ns - turned_ns) / NS_PER_S if found else None


def upper(count: int) -> float:
    """Return the upper end of the one-sided 95 % interval of a Poisson mean."""
    mean = float(count)
    while True:  # P(at most count | mean) falls as the mean grows
        terms = np.cumsum([0.0, *np.log(np.arange(1, count + 1))])
        if float(np.sum(np.exp(-mean + np.arange(count + 1) * np.log(max(mean, 1e-300)) - terms))) <= 0.05:
            return mean
        mean += 0.01


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
