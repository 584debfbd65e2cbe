"""Three nodes in a builder, and samples of each kind for them."""

from __future__ import annotations

from typing import Any

from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import (
    ComputeSample,
    HostSample,
    LinkSample,
    UplinkSample,
)
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.units import BYTES_PER_GIB, NS_PER_S

T0 = 1_790_000_000 * NS_PER_S
A, B, C = "a" * 16, "b" * 16, "c" * 16


def three(**facts: Any) -> SwarmBuilder:
    builder = SwarmBuilder()
    for node_id, name in ((A, "ann"), (B, "ben"), (C, "cat")):
        builder.node(node_id, name, seen_ns=T0, **facts)
    return builder


def link(at_ns: int = T0, peer: str = B, **fields: Any) -> LinkSample:
    return LinkSample(at_ns=at_ns, peer=peer, **{"path": "direct", "sent": 10, "lost": 1, "rtt_p50_ms": 5.0, **fields})


def uplink(mbps: float, at_ns: int = T0, peer: str = B, bound: bool = False) -> UplinkSample:
    return UplinkSample(at_ns=at_ns, peer=peer, sent_bytes=1, mbps=mbps, bound=bound, seconds=1.0)


def host(at_ns: int = T0, **fields: Any) -> HostSample:
    filled = {"cpu_percent": 9.0, "ram_free_bytes": 6 * BYTES_PER_GIB, "ram_total_bytes": 8 * BYTES_PER_GIB}
    return HostSample(at_ns=at_ns, **{**filled, **fields})


def compute(at_ns: int = T0, **fields: Any) -> ComputeSample:
    filled: dict[str, Any] = {
        "device": "RTX 3090", "model": "m", "dtype": "fp16", "phase": "decode", "batch": 1, "context": 128,
        "ms_per_layer": 2.0, "ms_p95": 3.0, "n": 5,
    }  # fmt: skip
    return ComputeSample(at_ns=at_ns, **{**filled, **fields})


def facts(*gpus: str, torch: str | None = "2.13") -> HostFacts:
    return HostFacts(
        system="Linux 6.1",
        cpu="EPYC",
        cores=8,
        ram_bytes=64 * BYTES_PER_GIB,
        gpus=tuple(GpuFacts(name=name, vram_bytes=24 * BYTES_PER_GIB) for name in gpus),
        torch=torch,
    )
