"""Measure prediction speed: a point, a distribution and 1,000 candidate placements, against the same formula in plain
Python.

The plain one adds up p50 times from lists: no memory limits, no engines, no spread; for a distribution it draws each
stage and hop from a normal and ranks the sums. SimPy (a discrete-event simulator) sends as many tokens through the same
stages and hops as there are draws. Where they give a point they must agree, or nothing is printed. vidur was looked at:
its wheel has no device profiles, and its networks are those of one data centre.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.support.harness import machine, record, table
from bench.support.peer_programs import left_out
from swarm_predict.cost.build import build_tables
from swarm_predict.cost.tables import CostTables
from swarm_predict.forecast.candidates import DRAWS, distributions
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Kind, LayerTime, NodeFacts, Path, Swarm
from swarmtop.progress import progress

MODEL = "llama-2-70b"
NODES, STAGES, CANDIDATES = 100, 8, 1000
REPEATS = 7
GOAL_POINT_US, GOAL_DISTRIBUTION_MS, GOAL_CANDIDATES_S = 50.0, 10.0, 1.0
WORKLOAD = Workload()


@dataclass(frozen=True, slots=True)
class Candidate:
    order: list[int]
    layers: list[int]


class Took(NamedTuple):
    median_s: float
    fastest_s: float
    cpu_s: float  # median; what waiting for a busy machine does not lengthen


def main() -> int:
    print(machine())
    model = model_named(MODEL)
    swarm = _swarm(model)
    candidates = _candidates(model.layers)
    placements = [_placement(swarm, candidate) for candidate in candidates]
    print(
        f"{MODEL}, {NODES} nodes with all paths measured, {CANDIDATES} chains of {STAGES} stages, "
        f"{WORKLOAD.draws} draws; medians (and fastest) of {REPEATS}"
    )
    tables = build_tables(swarm, model, WORKLOAD)
    plain = Plain(tables)
    off = max(abs(plain.point(c) - tables.price(c.order, c.layers)) for c in candidates)
    if not off < 1e-6:
        print(f"predict: the plain formula is off by {off} ms: this benchmark compares unequal things", file=sys.stderr)
        return 1
    with progress("placements are predicted"):
        make = _timed(lambda: build_tables(swarm, model, WORKLOAD))
        price = _timed(lambda: [tables.price(c.order, c.layers) for c in candidates])
        by_hand = _timed(lambda: [plain.point(c) for c in candidates])
        one = _timed(lambda: predict(swarm, model, placements[0], WORKLOAD))
        drawn = _timed(lambda: plain.drawn(candidates[0], WORKLOAD.draws))
        simulated = _simulated(plain, candidates[0])
        many = _timed(lambda: distributions(swarm, model, placements, WORKLOAD), repeats=3)
        fully = _timed(lambda: [predict(swarm, model, each, WORKLOAD) for each in placements[:100]], repeats=3)
    rows = [
        _row(f"cost tables of {NODES} nodes", make, 1e3, "ms"),
        _row(f"{CANDIDATES} points by the tables", price, 1e3, "ms"),
        _row("  the same in plain Python, from lists", by_hand, 1e3, "ms"),
        _row("one distribution (with first token and notes)", one, 1e3, "ms"),
        _row("  plain Python's draws of it", drawn, 1e3, "ms"),
        *([_row("  SimPy, one token a draw", simulated, 1e3, "ms")] if simulated else []),
        _row(f"{CANDIDATES} distributions, {DRAWS} draws each", many, 1.0, "s"),
        _row("  100 of them one by one, all of their draws", fully, 1.0, "s"),
    ]
    print(table(("", "median", "fastest", "CPU", ""), rows))
    point_us = (make.median_s + price.median_s) / CANDIDATES * 1e6
    plain_us = by_hand.median_s / CANDIDATES * 1e6
    one_ms, many_s = one.median_s * 1e3, many.median_s
    print(
        f"goal {GOAL_POINT_US:.0f} µs a point, tables included: {point_us:.1f} µs, "
        f"{point_us / GOAL_POINT_US:.2f} of it; {point_us / plain_us:.1f} × plain Python ({plain_us:.1f} µs, no tables)"
    )
    print(
        f"goal {GOAL_DISTRIBUTION_MS:.0f} ms a distribution: {one_ms / GOAL_DISTRIBUTION_MS:.2f} of it; "
        f"{one_ms / (drawn.median_s * 1e3):.2f} × plain Python"
        + (f", {one_ms / (simulated.median_s * 1e3):.2f} × SimPy" if simulated else f"; {left_out('simpy')}")
    )
    record("a point, tables included", point_us, "µs", peer=("plain Python", plain_us))
    record("a distribution", one_ms, "ms", peer=("plain Python's draws", drawn.median_s * 1e3))
    record(f"{CANDIDATES} distributions", many_s, "s")
    print(f"goal {GOAL_CANDIDATES_S:.0f} s for {CANDIDATES} distributions: {many_s / GOAL_CANDIDATES_S:.2f} of it")
    return 0


def _timed(work: Callable[[], object], repeats: int = REPEATS) -> Took:
    """Time it after one run that warms the caches."""
    work()
    wall, cpu = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    return Took(statistics.median(wall), min(wall), statistics.median(cpu))


def _row(name: str, took: Took, factor: float, unit: str) -> tuple[str, ...]:
    return (name, *(f"{seconds * factor:.2f}" for seconds in took), unit)


def _simulated(plain: Plain, candidate: Candidate) -> Took | None:
    """Send SimPy's tokens one after another through the same pipeline; None if it is not installed."""
    try:
        import simpy
    except ImportError:
        return None

    def run(tokens: int, spread: float) -> list[float]:
        rng, world, took = random.Random(0), simpy.Environment(), []
        steps = plain.steps(candidate)
        stages = [simpy.Resource(world, capacity=1) for _ in steps]

        def stream() -> Iterator[object]:
            for _ in range(tokens):
                began = world.now
                for stage, (work, way) in zip(stages, steps, strict=True):
                    with stage.request() as turn:
                        yield turn
                        yield world.timeout(work * rng.gauss(1.0, spread))
                    yield world.timeout(way * rng.gauss(1.0, spread))
                took.append(world.now - began)

        world.process(stream())
        world.run()
        return took

    (once,) = run(1, 0.0)
    if abs(once - plain.point(candidate)) > 1e-6:
        raise SystemExit(f"predict: SimPy is off by {once - plain.point(candidate)} ms: unequal things are compared")
    return _timed(lambda: run(WORKLOAD.draws, 0.1))


class Plain:
    """The additive model of a chain over Python's own floats and lists."""

    def __init__(self, tables: CostTables) -> None:
        self._overhead: list[float] = tables.overhead_ms.tolist()
        self._layer: list[float] = tables.layer_ms.tolist()
        self._hop: list[list[float]] = tables.hop_ms.tolist()
        self._back: list[list[float]] = tables.back_ms.tolist()
        self._head: list[float] = tables.head_ms.tolist()
        self._client_head = tables.client_head_ms

    def point(self, candidate: Candidate) -> float:
        total = self._client_head
        before = -1
        for node, layers in zip(candidate.order, candidate.layers, strict=True):
            total += self._overhead[node] + layers * self._layer[node]
            if before >= 0:
                total += self._hop[before][node]
            before = node
        return total + self._back[before][candidate.order[0]] + self._head[before]

    def steps(self, candidate: Candidate) -> list[tuple[float, float]]:
        """Return (time at a stage, way to the next one) of a token; the rest belongs to the last way."""
        work = [
            self._overhead[node] + layers * self._layer[node]
            for node, layers in zip(candidate.order, candidate.layers, strict=True)
        ]
        ways = [self._hop[i][j] for i, j in itertools.pairwise(candidate.order)]
        ways.append(self.point(candidate) - sum(work) - sum(ways))
        return list(zip(work, ways, strict=True))

    def drawn(self, candidate: Candidate, draws: int) -> tuple[float, float, float]:
        """Return p5, p50, p95 where each stage and each hop varies by a tenth."""
        rng = random.Random(0)
        parts = [layers * self._layer[node] for node, layers in zip(candidate.order, candidate.layers, strict=True)]
        parts += [self._hop[i][j] for i, j in itertools.pairwise(candidate.order)]
        fixed = self.point(candidate) - sum(parts)
        sums = sorted(fixed + sum(part * rng.gauss(1.0, 0.1) for part in parts) for _ in range(draws))
        return sums[draws // 20], sums[draws // 2], sums[draws * 19 // 20]


# ---------------------------------------------------------------- what is predicted


def _swarm(model: ModelShape) -> Swarm:
    """Return a swarm with live figures of every kind: round trips, losses, rates, layer times with their spread."""
    rng = np.random.default_rng(3)
    now_ns = time.time_ns()

    def times(ms: float) -> tuple[LayerTime, ...]:
        spread = {"ms_p95": ms * 1.1, "dtype": "fp16", "n": 30, "at_ns": now_ns}
        decode = [LayerTime(model.name, "decode", 1, context, ms, **spread) for context in (128, 1024)]  # type: ignore[arg-type]
        return (*decode, LayerTime(model.name, "prefill", 1, 128, ms * 4, **spread))  # type: ignore[arg-type]

    facts = tuple(
        NodeFacts(f"{i:016x}", f"n{i}", layers=times(float(ms))) for i, ms in enumerate(rng.uniform(1.0, 6.0, NODES))
    )
    swarm = Swarm.empty(facts, at_ns=now_ns)
    nodes, links = swarm.nodes, swarm.links
    nodes["vram_bytes"][:] = nodes["vram_free_bytes"][:] = 80e9
    nodes["up_mbps"][:] = rng.choice([20.0, 40.0, 100.0, 500.0], NODES)
    nodes["down_mbps"][:] = 500.0
    nodes["up_kind"][:] = nodes["down_kind"][:] = Kind.MEASURED
    nodes["mem_gbps"][:], nodes["tflops"][:], nodes["overhead_ms"][:] = 800.0, 60.0, 1.0
    for column in ("seen_ns", "up_at_ns", "down_at_ns", "host_at_ns", "compute_at_ns"):
        nodes[column][:] = now_ns
    nodes["state"][:] = 1
    least = rng.uniform(5.0, 150.0, (NODES, NODES))
    links["kind"][:], links["path"][:], links["at_ns"][:], links["sent"][:] = Kind.MEASURED, Path.DIRECT, now_ns, 16
    for column, factor in (("min", 1.0), ("p50", 1.05), ("p95", 1.3), ("p99", 1.5)):
        links[f"rtt_{column}_ms"][:] = least * factor
    links["jitter_ms"][:], links["loss"][:] = least * 0.3, 0.002
    return swarm


def _candidates(layers: int) -> list[Candidate]:
    rng = random.Random(5)
    made = []
    for _ in range(CANDIDATES):
        cuts = sorted(rng.sample(range(1, layers), STAGES - 1))
        counts = [b - a for a, b in itertools.pairwise([0, *cuts, layers])]
        made.append(Candidate(rng.sample(range(NODES), STAGES), counts))
    return made


def _placement(swarm: Swarm, candidate: Candidate) -> Placement:
    stages, first = [], 0
    for node, layers in zip(candidate.order, candidate.layers, strict=True):
        stages.append(Stage(swarm.facts[node].name, first, first + layers - 1))
        first += layers
    return tuple(stages)


if __name__ == "__main__":
    raise SystemExit(main())
