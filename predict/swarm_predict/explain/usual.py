"""Estimate what machines of the same kinds usually take: published figures in place of measurements here.

`as_usual` is the same swarm with every machine as its data sheet and published results describe it, so that the same
code prices both; `usual_layers` gives the range of one layer's time, for the Node screen and for `explain`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.cost.machine.layer_times import LayerColumns, by_hand, layer_columns
from swarm_predict.cost.network.delivery_times import Links
from swarm_predict.cost.speculative import step_width
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.factors import PLAIN, machine_of
from swarm_predict.types import Workload
from swarm_protocol.devices.machines import known_machine
from swarm_protocol.snapshot.swarm import Floats, Swarm

DRAWS: Final = 800
RANGE: Final = (0.05, 0.5, 0.95)
TIMED_AS: Final = "vllm"  # a probe times a layer as one CUDA graph, which is how vLLM runs it (docs/gpu.md)
COMPARED: Final = 2  # other paths needed to say what is usual


@dataclass(frozen=True, slots=True)
class Range:
    """The range of nine of ten machines of a kind."""

    p5: float
    p50: float
    p95: float

    def times(self, factor: float) -> Range:
        return Range(self.p5 * factor, self.p50 * factor, self.p95 * factor)

    def holds(self, value: float) -> bool:
        return self.p5 <= value <= self.p95


def range_of(draws: Floats) -> Range:
    return Range(*(float(value) for value in np.quantile(draws, RANGE)))


def usual_workload(workload: Workload) -> Workload:
    """Return the same question without constants of a calibration: software and compute from published results."""
    return dataclasses.replace(
        workload, compute_scale=1.0, hop_overhead_ms=0.0, client_ms=0.0, model_error=0.0, priors=None
    )


def as_usual(swarm: Swarm, workload: Workload) -> tuple[Swarm, frozenset[str]]:
    """Return (the swarm with its machines as others of their kinds, names of those whose kind is not known).

    Layer times are removed; bandwidth and matrix rate are those of the data sheet. Visit times are removed if they
    replace the engine's software. A machine without a data sheet, and without a bandwidth to estimate from, stays as it
    is.
    """
    facts = list(swarm.facts)
    mem, tflops = swarm.nodes["mem_gbps"].copy(), swarm.nodes["tflops"].copy()
    overhead = swarm.nodes["overhead_ms"].copy()
    unknown = set()
    for row, machine in enumerate(swarm.facts):
        sheet = known_machine(machine.device) if machine.device else None
        if sheet is not None:
            mem[row] = sheet.mem_gbps
            tflops[row] = tflops[row] if sheet.tflops is None else sheet.tflops
        if not np.isfinite(mem[row]) or not np.isfinite(tflops[row]) or not machine_of(machine).device_class:
            unknown.add(machine.name)
            continue
        facts[row] = dataclasses.replace(machine, layers=())
    if by_hand(swarm) or workload.engine in PLAIN:
        overhead[:] = np.nan
    nodes = {**swarm.nodes, "mem_gbps": mem, "tflops": tflops, "overhead_ms": overhead}
    return dataclasses.replace(swarm, facts=tuple(facts), nodes=nodes, _index={}), frozenset(unknown)


def usual_layers(swarm: Swarm, rows: Sequence[int], model: ModelShape, workload: Workload) -> tuple[Range | None, ...]:
    """Return for each row the range of one layer's decode step on machines like it, ms; None: its kind is not known."""
    load = usual_workload(workload)
    usual, unknown = as_usual(swarm, load)
    return tuple(
        None
        if swarm.facts[row].name in unknown
        else _usual_layer(usual, row, model, _as_timed(swarm, row, model, load))
        for row in rows
    )


def _as_timed(swarm: Swarm, row: int, model: ModelShape, load: Workload) -> Workload:
    """Without a named engine, compare a measured layer with engines that run one as it was timed."""
    if load.engine not in PLAIN or not _layer_of(swarm, row, model, load).measured[0]:
        return load
    return dataclasses.replace(load, engine=TIMED_AS)


def _usual_layer(usual: Swarm, row: int, model: ModelShape, load: Workload) -> Range | None:
    """Return the range of the machine alone, without what sharing layers adds."""
    layer = _layer_of(usual, row, model, load)
    if not np.isfinite(layer.ms[0]):
        return None
    sample = layer.assumed.sample(np.random.default_rng(load.seed), DRAWS)
    return range_of(layer.factor(sample, [0])[:, 0] * layer.ms[0])


def _layer_of(swarm: Swarm, row: int, model: ModelShape, load: Workload) -> LayerColumns:
    return layer_columns(
        swarm, [row], model, load.weights, "decode", step_width(load), load.context, engine=load.engine
    )


@dataclass(frozen=True, slots=True)
class UsualPath:
    """Return the usual figures of the other paths to or from the same two nodes. None: too few to compare with."""

    rtt_ms: float | None  # idle
    mbps: float | None
    said: str = ""  # how `rtt_ms` was chosen: "the others reach b in", "a reaches the others in"


def usual_path(paths: Links, names: Sequence[str], src: int, dst: int) -> UsualPath:
    """Return the usual path. `paths` are over the nodes of `names`. Of the two views of a path, from its start and to
    its end, the shorter is used: a path is long because one of its ends is far from all others."""
    alike = np.isfinite(paths.rtt_min_ms) & (paths.estimated == paths.estimated[src, dst])
    np.fill_diagonal(alike, False)
    to_end, from_start = alike[:, dst].copy(), alike[src, :].copy()
    to_end[src] = from_start[dst] = False
    views = []
    if some := np.flatnonzero(to_end).tolist():
        who = f"{names[some[0]]} reaches" if len(some) == 1 else "the others reach"
        views.append((float(np.median(paths.rtt_min_ms[to_end, dst])), f"{who} {names[dst]} in"))
    if rest := np.flatnonzero(from_start).tolist():
        whom = names[rest[0]] if len(rest) == 1 else "the others"
        views.append((float(np.median(paths.rtt_min_ms[src, from_start])), f"{names[src]} reaches {whom} in"))
    rtt_ms, said = min(views) if len(some) + len(rest) >= COMPARED else (None, "")
    rates = paths.rate_mbps[to_end, dst]
    rates = rates[np.isfinite(rates)]
    return UsualPath(rtt_ms, float(np.median(rates)) if len(rates) >= COMPARED else None, said)
