"""Generate swarms to plan on: real round trips between 222 cities, last miles, and GPUs as volunteers have them."""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from swarm_predict.cost.tables import CostTables
from swarm_protocol.snapshot.swarm import Floats

_RTT = Path(__file__).parents[1] / "data" / "rtt-222-cities.u16.xz"
_CITIES = 222
# (memory in GB, memory bandwidth in GB/s, share of the swarm): 3060, 3080, 3090, 4090, T4, A10, 4060, V100
_GPUS = np.array(
    [
        (12, 360, 0.2), (10, 760, 0.15), (24, 936, 0.2), (24, 1008, 0.15),
        (16, 320, 0.1), (24, 600, 0.05), (8, 272, 0.1), (16, 900, 0.05),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    layers: int
    layer_bytes: float
    hidden: int


MODELS = {
    model.name: model
    for model in (
        Model("70B fp16", 80, 1.711e9, 8192),
        Model("70B 4-bit", 80, 0.5e9, 8192),
        Model("405B 4-bit", 126, 1.84e9, 16384),
        Model("405B int8", 126, 3.2e9, 16384),
    )
}


def round_trips() -> Floats:
    """Return (222, 222) milliseconds."""
    raw = np.frombuffer(lzma.decompress(_RTT.read_bytes()), "<u2")
    return raw.reshape(_CITIES, _CITIES).astype(np.float64) / 10


def swarm(nodes: int, model: Model, seed: int, *, client: bool = False) -> CostTables:
    """Return `nodes` volunteers in random cities; the client, if any, is another member without a GPU."""
    rng = np.random.default_rng(seed)
    city = rng.integers(0, _CITIES, nodes)
    last_mile = rng.gamma(2.0, 3.0, nodes)  # ms there and back
    rtt = np.maximum(round_trips()[np.ix_(city, city)], 0.5) + last_mile[:, None] + last_mile
    gpu = _GPUS[rng.choice(len(_GPUS), nodes, p=_GPUS[:, 2])]
    bandwidth = gpu[:, 1] * 1e9 * rng.uniform(0.5, 0.8, nodes)
    up_mbps = rng.choice([10.0, 20.0, 40.0, 100.0, 500.0, 1000.0], nodes)
    activation, head = model.hidden * 2.0, 128_256 * model.hidden * 2.0
    hop = rtt / 2 + activation * 8 / (up_mbps[:, None] * 1e3)
    back = rtt / 2
    for matrix in (hop, back):
        np.fill_diagonal(matrix, 0.0)
    free = gpu[:, 0] * 1e9 * 0.9 - 0.5e9
    middle = np.floor(free / model.layer_bytes).astype(np.int64)
    ends = np.floor(np.clip(free - head, 0, None) / model.layer_bytes).astype(np.int64)
    none = np.zeros(nodes)
    overhead = rng.uniform(0.2, 2.0, nodes)
    if client:
        middle[0] = ends[0] = 0
    return CostTables(
        names=tuple(f"n{i}" for i in range(nodes)),
        pattern="chain",
        client=0 if client else None,
        layers=model.layers,
        layer_ms=model.layer_bytes / bandwidth * 1e3,
        overhead_ms=overhead,
        capacity=middle,
        capacity_first=ends,
        capacity_last=ends,
        capacity_only=np.floor(np.clip(free - 2 * head, 0, None) / model.layer_bytes).astype(np.int64),
        hop_ms=hop,
        back_ms=back,
        enter_ms=rtt[0] / 2 if client else none,
        leave_ms=hop[:, 0].copy() if client else none,
        final_ms=rtt[:, 0] / 2 if client else none,
        head_ms=head / bandwidth * 1e3,
        client_head_ms=0.0,
    )
