"""A collector client on a real spool, and what it said."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

from swarm_probe.collector_client.certificate_pinning import Certificates
from swarm_probe.collector_client.client import ClientState, CollectorClient
from swarm_probe.collector_client.client_times import ClientTimes
from swarm_probe.spool import Spool
from swarm_protocol.messages.probe_messages import (
    Hello,
    HostFacts,
    Plan,
    UplinkLease,
)
from swarm_protocol.messages.samples import EventSample
from swarm_protocol.trust.signing import Handshake

QUICK = ClientTimes(
    open_s=2.0, ping_s=0.1, ping_wait_s=0.1, ack_wait_s=5.0, retry_base_s=0.01, retry_cap_s=0.02, leave_s=1.0
)
PLAN = Plan(
    revision=7,
    peers=(),
    stamp_interval_ms=1000,
    window_ms=1000,
    hop_bytes=1,
    hop_cadence_ms=1,
    hop_every_ms=1,
    host_every_ms=1,
)


class Rig:
    """A link on a real spool, and what it said."""

    def __init__(self, url: str, folder: Path, times: ClientTimes = QUICK) -> None:
        self.spool = Spool(folder, now_ns=lambda: 1_700_000_000_000_000_000, say=print)
        self.states: list[ClientState] = []
        self.plans: list[Plan] = []
        self.leases: list[UplinkLease] = []
        self.news = asyncio.Event()
        self.link = CollectorClient(
            url,
            hello=self.hello,
            certificates=Certificates("127.0.0.1", folder, print, tls=False),
            spool=self.spool,
            on_plan=lambda plan: (self.plans.append(plan), self.news.set()),  # type: ignore[func-returns-value]
            on_lease=lambda lease: (self.leases.append(lease), self.news.set()),  # type: ignore[func-returns-value]
            on_state=lambda state: (self.states.append(state), self.news.set()),  # type: ignore[func-returns-value]
            rng=random.Random(1),
            times=times,
        )

    async def hello(self, handshake: Handshake) -> Hello:
        return Hello(
            protocol=1,
            name="kiln-07",
            token="secret-token",
            epoch=self.spool.epoch,
            udp_port=0,
            tcp_port=0,
            software="test",
            facts=HostFacts(system="Linux", cpu="cpu", cores=1, ram_bytes=1),
        )

    def measure(self, n: int) -> None:
        self.spool.append([EventSample(at_ns=n, kind="note", detail=str(n))])
        self.link.more()

    async def until(self, kind: str, count: int = 1) -> ClientState:
        async with asyncio.timeout(10):
            while len(found := [s for s in self.states if s.kind == kind]) < count:
                self.news.clear()
                await self.news.wait()
        return found[count - 1]


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[asyncio.Task[str | None]]:
    task = asyncio.create_task(rig.link.run())
    try:
        yield task
    finally:
        rig.link.leave()
        async with asyncio.timeout(10):
            await task
