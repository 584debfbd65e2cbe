"""Samples that this folder's tests store: every field set to something that a mix-up of columns would show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import (
    ComputeSample,
    EventSample,
    HopSample,
    HostSample,
    LinkSample,
    RooflineSample,
    RunSample,
    Sample,
    UplinkSample,
)
from swarm_protocol.units import NS_PER_S
from swarm_storage.writer.transaction import NodeBatch

T0 = 1_790_000_100 * NS_PER_S  # the start of a bucket
A, B, C = "a" * 16, "b" * 16, "c" * 16
FACTS = HostFacts(
    system="Linux", cpu="EPYC", cores=8, ram_bytes=64 << 30, gpus=(GpuFacts(name="RTX 3090", vram_bytes=24 << 30),)
)


def link(at_ns: int = T0, peer: str = B, **fields: Any) -> LinkSample:
    filled: dict[str, Any] = {
        "path": "direct", "sent": 10, "lost": 1, "lost_out": 2, "lost_back": 3, "rtt_min_ms": 1.25, "rtt_p50_ms": 2.5,
        "rtt_p95_ms": 3.75, "rtt_p99_ms": 4.125, "pdv_ms": 2.0625, "jitter_rfc3550_ms": 0.1, "hop_ms": 9.0,
        "loaded": False, "timestamps": "kernel",
        "ipdv_ms": 0.75, "duplicates": 4, "reordered": 5, "ttl_out": 250, "ttl_back": 249,
        "stamped_out_ms": 120.625, "stamped_back_ms": -119.375,
    }  # fmt: skip
    return LinkSample(at_ns=at_ns, peer=peer, **{**filled, **fields})


def hop(at_ns: int = T0, peer: str = B, **fields: Any) -> HopSample:
    filled: dict[str, Any] = {
        "size_bytes": 16384, "cadence_ms": 150.0, "n": 20, "first_ms": 161.0, "min_ms": 81.0, "p50_ms": 83.0,
        "p95_ms": 90.0, "p99_ms": 99.0, "loaded": False, "after_idle_ms": 164.0, "transport": "quic",
    }  # fmt: skip
    return HopSample(at_ns=at_ns, peer=peer, **{**filled, **fields})


def uplink(at_ns: int = T0, peer: str = B, **fields: Any) -> UplinkSample:
    filled: dict[str, Any] = {
        "sent_bytes": 1 << 20, "mbps": 38.5, "bound": False, "rtt_idle_ms": 20.0, "rtt_loaded_ms": 55.0, "seconds": 0.4,
        "transport": "quic",
    }  # fmt: skip
    return UplinkSample(at_ns=at_ns, peer=peer, **{**filled, **fields})


def compute(at_ns: int = T0, **fields: Any) -> ComputeSample:
    filled: dict[str, Any] = {
        "device": "RTX 3090", "model": "llama-2-70b", "dtype": "fp16", "phase": "decode", "batch": 1, "context": 128,
        "ms_per_layer": 1.9, "ms_p95": 2.1, "n": 30, "verified": True,
        "ms_p5": 1.8, "marks": "contended,throttled", "stage_layers": 4,
    }  # fmt: skip
    return ComputeSample(at_ns=at_ns, **{**filled, **fields})


def roofline(at_ns: int = T0, **fields: Any) -> RooflineSample:
    filled: dict[str, Any] = {
        "device": "RTX 3090", "dtype": "fp16", "mem_gbps": 850.0, "tflops": 60.0, "disk_gbps": 1.5,
    }  # fmt: skip
    return RooflineSample(at_ns=at_ns, **{**filled, **fields})


def host(at_ns: int = T0, **fields: Any) -> HostSample:
    filled: dict[str, Any] = {
        "cpu_percent": 12.5, "ram_free_bytes": 3 << 30, "ram_total_bytes": 64 << 30, "gpu": "RTX 3090",
        "gpu_util_percent": 77.0, "vram_free_bytes": 20 << 30, "vram_total_bytes": 24 << 30, "temp_c": 61.0,
        "power_w": 210.0, "throttled": True, "clock_mhz": 1410.0, "throttle": "heat", "others": 1, "on_battery": False,
        "nat": "symmetric", "collector_rtt_ms": 41.5, "tcp": "cubic", "tcp_slow_start_after_idle": True,
        "cpu_pressure_percent": 3.25,
    }  # fmt: skip
    return HostSample(at_ns=at_ns, **{**filled, **fields})


def bare_host(at_ns: int = T0, **fields: Any) -> HostSample:
    """Of a machine without a GPU."""
    return HostSample(
        at_ns=at_ns, **{"cpu_percent": 5.0, "ram_free_bytes": 24 << 30, "ram_total_bytes": 32 << 30, **fields}
    )


def event(at_ns: int = T0, kind: str = "note", detail: str = "something") -> EventSample:
    return EventSample(at_ns=at_ns, kind=kind, detail=detail)  # type: ignore[arg-type]


def run(at_ns: int = T0, **fields: Any) -> RunSample:
    filled: dict[str, Any] = {
        "endpoint": "10.0.0.5:8000", "model": "llama-2-70b", "label": "ours", "baseline": True,
        "placement": "a:0-39,b:40-79",
        "prompt_tokens": 21, "tokens": 64, "counted": True, "ttft_ms": 812.5, "tpot_ms": 250.0, "tpot_p50_ms": 248.0,
        "tpot_p95_ms": 301.0, "predicted_p5": 3.5, "predicted_p50": 3.75, "predicted_p95": 4.125,
    }  # fmt: skip
    return RunSample(at_ns=at_ns, **{**filled, **fields})


def one_of_each(at_ns: int = T0) -> tuple[Sample, ...]:
    """In time order, a nanosecond apart."""
    return (
        link(at_ns), hop(at_ns + 1), uplink(at_ns + 2), compute(at_ns + 3), roofline(at_ns + 4), host(at_ns + 5),
        bare_host(at_ns + 6), event(at_ns + 7),
    )  # fmt: skip


def batch(seq: int, samples: Sequence[Sample], node_id: str = A, epoch: int = 7, received_ns: int = T0) -> NodeBatch:
    return NodeBatch(node_id, epoch, seq, received_ns, samples)
