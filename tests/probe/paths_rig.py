"""Two probes' paths in one event loop: nodes that collect what they emit, and plans that introduce them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from swarm_probe.measure.paths import Paths, PathsConfig
from swarm_protocol.messages.probe_messages import Peer, Plan
from swarm_protocol.messages.samples import HopSample, LinkSample, Sample, UplinkSample

S = TypeVar("S", LinkSample, HopSample, UplinkSample)
ID_A, ID_B = "a" * 16, "b" * 16
KEY = bytes(range(32))
PATIENCE_S = 15.0


class Node:
    """A probe, what it emitted, and a way to wait for more."""

    def __init__(self, config: PathsConfig) -> None:
        self.samples: list[Sample] = []
        self._more = asyncio.Event()
        self.paths = Paths(config, self._emit)

    def _emit(self, sample: Sample) -> None:
        self.samples.append(sample)
        self._more.set()

    async def first(self, kind: type[S], wanted: Callable[[S], bool] = lambda _: True) -> S:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for sample in self.samples:
                    if isinstance(sample, kind) and wanted(sample):
                        return sample
                self._more.clear()
                await self._more.wait()


def peer(node_id: str, of: Paths, *, out: int, inn: int, **changes: object) -> Peer:
    facts: dict[str, object] = {
        "node_id": node_id,
        "name": node_id[:4],
        "hosts": ("127.0.0.1",),
        "udp_port": of.udp_port,
        "tcp_port": of.tcp_port,
        "stamp_key": KEY,
        "ssid_out": out,
        "ssid_in": inn,
    } | changes
    return Peer(**facts)  # type: ignore[arg-type]


def plan(*peers: Peer, hop_every_ms: float = 60_000.0, window_ms: float = 300.0) -> Plan:
    return Plan(
        revision=1,
        peers=peers,
        stamp_interval_ms=30.0,
        window_ms=window_ms,
        hop_bytes=16_384,
        hop_cadence_ms=5.0,
        hop_every_ms=hop_every_ms,
        host_every_ms=1000.0,
    )


def introduce(a: Node, b: Node) -> None:
    a.paths.update(plan(peer(ID_B, b.paths, out=1, inn=2)))
    b.paths.update(plan(peer(ID_A, a.paths, out=2, inn=1)))
