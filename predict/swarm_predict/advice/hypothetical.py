"""Add a machine that does not exist yet to a swarm, to predict with it.

Specs are few, as people know them: memory, memory bandwidth, uplink, and a round trip to all others. What is left out
is taken from the median of the swarm, and the notes of a prediction say what was assumed of layer times (roofline).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarm_predict.types import BadPlacement
from swarm_protocol.snapshot.swarm import Kind, NodeFacts, Path, Swarm
from swarm_protocol.units import BYTES_PER_GIB


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that does not exist yet. None: as the median of the swarm."""

    name: str
    vram_gib: float
    mem_gbps: float | None = None
    tflops: float | None = None
    up_mbps: float | None = None
    down_mbps: float | None = None
    rtt_ms: float | None = None  # to every other node
    rtts_ms: tuple[float, ...] = ()  # to each other node, in their order; NaN: as rtt_ms. Empty: all as that
    jitter_ms: float | None = None
    device: str = ""
    device_class: str = ""
    sheet: str = ""  # whose data sheet its figures are from


def with_machine(swarm: Swarm, machine: Machine) -> Swarm:
    """Add a machine. Raises BadPlacement for a name that exists already."""
    if machine.name in swarm.names:
        raise BadPlacement(f"{machine.name} is in this swarm already; give the new machine another name")
    n = len(swarm)
    facts = (*swarm.facts, _facts(machine))
    nodes = {name: np.append(column, column[:1] * 0) for name, column in swarm.nodes.items()}
    links = {name: _grown(matrix) for name, matrix in swarm.links.items()}

    def put(column: str, value: float | None, times: float = 1.0) -> None:
        known = swarm.nodes[column][np.isfinite(swarm.nodes[column])]
        middle = float(np.median(known)) if len(known) else float("nan")
        nodes[column][n] = middle if value is None else value * times

    for column in nodes:
        if nodes[column].dtype == np.float64:
            nodes[column][n] = np.nan
    put("vram_bytes", machine.vram_gib, BYTES_PER_GIB)
    put("vram_free_bytes", machine.vram_gib, BYTES_PER_GIB)
    put("mem_gbps", machine.mem_gbps)
    put("tflops", machine.tflops)
    put("up_mbps", machine.up_mbps)
    put("down_mbps", machine.down_mbps)
    put("overhead_ms", None)
    nodes["mem_kind"][n] = Kind.ESTIMATE if machine.sheet or machine.mem_gbps is None else Kind.MEASURED
    nodes["up_kind"][n] = nodes["down_kind"][n] = Kind.ESTIMATE
    for column in ("seen_ns", "up_at_ns", "down_at_ns"):
        nodes[column][n] = swarm.at_ns
    known = swarm.links["rtt_p50_ms"][~np.eye(n, dtype=np.bool_) & np.isfinite(swarm.links["rtt_p50_ms"])]
    middle = float(np.median(known)) if len(known) else float("nan")
    given = machine.rtt_ms is not None and not machine.rtts_ms
    rtt = np.full(n, middle if machine.rtt_ms is None else machine.rtt_ms)
    if machine.rtts_ms:
        rtt = np.where(np.isnan(machine.rtts_ms), rtt, machine.rtts_ms)
    for column in ("rtt_min_ms", "rtt_p50_ms"):
        links[column][n, :n] = links[column][:n, n] = rtt
    if machine.jitter_ms is not None:
        links["jitter_ms"][n, :n] = links["jitter_ms"][:n, n] = machine.jitter_ms
    links["kind"][n, :n] = links["kind"][:n, n] = Kind.MEASURED if given else Kind.ESTIMATE
    links["path"][n, :n] = links["path"][:n, n] = Path.DIRECT if given else Path.ESTIMATED
    links["at_ns"][n, :n] = links["at_ns"][:n, n] = swarm.at_ns
    return dataclasses.replace(swarm, facts=facts, nodes=nodes, links=links, _index={})


def _facts(machine: Machine) -> NodeFacts:
    return NodeFacts(
        node_id=machine.name,
        name=machine.name,
        device=machine.device,
        note="not there yet",
        device_class=machine.device_class,
        sheet=machine.sheet,
    )


def _grown(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Add one row and one column of unknown values."""
    n = len(matrix)
    empty = np.nan if matrix.dtype == np.float64 else 0
    grown = np.full((n + 1, n + 1), empty, matrix.dtype)
    grown[:n, :n] = matrix
    return grown
