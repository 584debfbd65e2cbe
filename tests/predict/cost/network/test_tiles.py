"""Matrices computed in parts are those computed at once, whatever links hold."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from swarm_predict.cost.build import build_costs, build_tables, hop_parts
from swarm_predict.cost.network import tiles
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.snapshot.links.compact_links import compacted
from swarm_protocol.snapshot.swarm import Congestion, Kind, NodeFacts, Path, State, Swarm, Tcp, Transport

MODEL = model_named("llama-2-7b")
GIB = 1 << 30
AT_NS = 10**18


def any_swarm(nodes: int, seed: int = 0) -> Swarm:
    """Measured links of all ages, with gaps, losses, hops, bounds and delays that differ by direction."""
    rng = np.random.default_rng(seed)
    made = Swarm.empty(tuple(NodeFacts(f"{i:016x}", f"n{i}") for i in range(nodes)), at_ns=AT_NS, source="test")
    shape = nodes, nodes

    def some(share: float, values: np.ndarray) -> np.ndarray:
        return np.where(rng.random(shape) < share, values, np.nan)

    links = made.links
    rtt = rng.uniform(1, 300, shape)
    for name, factor in (("min", 0.9), ("p50", 1.0), ("p95", 1.3), ("p99", 1.8)):
        links[f"rtt_{name}_ms"][:] = some(0.8, rtt * factor)
        links[f"hop_{name}_ms"][:] = some(0.5, rtt * factor * 1.2)
    links["jitter_ms"][:] = some(0.8, rtt * 0.4)
    links["loss"][:] = some(0.7, rng.choice([0.0, 0.001, 0.05], shape))
    links["pooled_loss"][:] = some(0.3, rng.choice([0.0, 0.01], shape))
    links["pooled_sent"][:] = some(0.8, rng.integers(1, 900, shape).astype(float))
    links["oneway_ms"][:] = some(0.4, rtt * rng.uniform(0.3, 0.7, shape))
    links["hop_rtt_ms"][:] = some(0.5, rtt * rng.uniform(0.5, 1.5, shape))
    links["hop_mbps"][:] = some(0.5, rng.uniform(5, 900, shape))
    links["mbps"][:] = some(0.3, rng.uniform(5, 900, shape))
    links["mbps_kind"][:] = rng.choice([Kind.NONE, Kind.MEASURED, Kind.BOUND], shape)
    links["kind"][:] = rng.choice([Kind.NONE, Kind.MEASURED, Kind.ESTIMATE], shape)
    links["path"][:] = rng.choice([Path.DIRECT, Path.RELAYED], shape, p=[0.9, 0.1])
    links["hop_transport"][:] = rng.choice([Transport.TCP, Transport.RELAY], shape, p=[0.9, 0.1])
    links["sent"][:] = rng.integers(0, 100, shape)
    links["hop_bytes"][:] = rng.choice([0, 8192, 65536], shape)
    for name in ("at_ns", "hop_at_ns"):
        links[name][:] = AT_NS - rng.integers(0, 10**11, shape)
    columns = made.nodes
    columns["state"][:] = State.OK
    columns["vram_bytes"][:] = rng.choice([8, 12, 24], nodes) * GIB
    columns["mem_gbps"][:] = rng.uniform(200, 1000, nodes)
    columns["mem_kind"][:] = Kind.MEASURED
    columns["tflops"][:] = rng.uniform(10, 100, nodes)
    columns["tcp"][:] = rng.choice([Tcp.UNKNOWN, Tcp.SHRINKS, Tcp.PACES], nodes)
    columns["congestion"][:] = rng.choice([Congestion.UNKNOWN, Congestion.RENO], nodes)
    for way in ("up", "down"):
        columns[f"{way}_mbps"][:] = np.where(rng.random(nodes) < 0.8, rng.uniform(5, 900, nodes), np.nan)
        columns[f"{way}_kind"][:] = rng.choice([Kind.MEASURED, Kind.BOUND], nodes)
    return made


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(
    "work",
    [
        Workload(engine="chain"),
        Workload(engine="petals", client="n4"),
        Workload(engine="llama.cpp", client="n4"),
        Workload(engine="ring", slow_start=True),
    ],
    ids=lambda work: work.engine,
)
def test_in_parts_as_at_once(work: Workload, compact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = any_swarm(23)
    if compact:
        swarm = compacted(swarm)
    whole, parts = build_costs(swarm, MODEL, work, range(len(swarm))).tables, hop_parts(swarm, MODEL, work)
    assert np.isfinite(whole.hop_ms).sum() > len(swarm)
    monkeypatch.setattr(tiles, "WHOLE_NODES", 10)
    monkeypatch.setattr(tiles, "GROUP_NODES", 7)  # four groups, not all of one size
    for one, other in ((whole, build_tables(swarm, MODEL, work)), (parts, hop_parts(swarm, MODEL, work))):
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


def test_only_parts_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "WHOLE_NODES", 10)
    monkeypatch.setattr(tiles, "GROUP_NODES", 5)
    sizes = []

    def compute(at: np.ndarray) -> tuple[np.ndarray, ...]:
        sizes.append(len(at))
        return (at[:, None] * 100 + at,)

    (found,) = tiles.over_pairs(17, compute)
    rows = np.arange(17)
    np.testing.assert_array_equal(found, rows[:, None] * 100 + rows)
    assert max(sizes) <= 10
