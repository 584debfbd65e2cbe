"""Record a synthetic swarm in a database, as a collector does."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Final

from bench.support.synthetic import swarm_samples
from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import HostSample, RooflineSample, Sample, UplinkSample
from swarm_storage.store import open_store
from swarm_storage.writer.transaction import NodeBatch

# (name, bytes of memory, GB/s, teraflops): data sheets, rounded
_CARDS: Final = (
    ("NVIDIA GeForce RTX 3060", 12 << 30, 360.0, 51.0),
    ("NVIDIA GeForce RTX 3090", 24 << 30, 936.0, 142.0),
    ("Tesla T4", 16 << 30, 320.0, 65.0),
)
_UP_MBPS: Final = (10.0, 20.0, 40.0, 100.0, 500.0, 1000.0)


def record_swarm(path: Path, nodes: int, peers: int, rounds: int, *, plannable: bool = False) -> None:
    """Record `nodes` that measure `peers` others each, `rounds` times until now. `plannable`: with cards, their
    bandwidths and upload rates, so that a plan can be found."""
    store = open_store(f"sqlite:///{path}")
    writer = store.writer()
    names = swarm_samples.ids(nodes)
    now_ns = time.time_ns()
    joined_ns = now_ns - (rounds + 1) * swarm_samples.WINDOW_NS  # before the first sample: nobody is shown earlier
    for number, name in enumerate(names):
        writer.upsert_node(name, f"bench-{number}", facts=_facts(number, plannable), seen_ns=joined_ns)
    rng = random.Random(8)
    seqs = [0] * nodes
    futures = []
    for turn, node, window in swarm_samples.link_rounds(nodes, peers, rounds, now_ns):
        at_ns = window[-1].at_ns
        host = HostSample(at_ns=at_ns, cpu_percent=5.0, ram_free_bytes=32 << 30, ram_total_bytes=64 << 30)
        once = _measured_once(at_ns, node, window[-1].peer, rng) if plannable and turn == 0 else ()
        seqs[node] += 1
        futures.append(writer.submit(NodeBatch(names[node], 1, seqs[node], now_ns, (*window, host, *once))))
    for future in futures:
        future.result()
    store.close()


def _facts(number: int, plannable: bool) -> HostFacts:
    name, memory, _, _ = _CARDS[number % len(_CARDS)]
    cards = (GpuFacts(name=name, vram_bytes=memory),) if plannable else ()
    return HostFacts(system="Linux", cpu="made up", cores=8, ram_bytes=64 << 30, gpus=cards)


def _measured_once(at_ns: int, node: int, peer: str, rng: random.Random) -> tuple[Sample, ...]:
    name, _, mem_gbps, tflops = _CARDS[node % len(_CARDS)]
    share = rng.uniform(0.5, 0.8)  # of the data sheet: what programs reach
    return (
        RooflineSample(at_ns=at_ns, device=name, dtype="fp16", mem_gbps=share * mem_gbps, tflops=share * tflops),
        UplinkSample(
            at_ns=at_ns, peer=peer, sent_bytes=4 << 20, mbps=rng.choice(_UP_MBPS), bound=False, seconds=2.0
        ),
    )  # fmt: skip
