"""Hold the settings of a daemon, and declare the interface of the part that measures paths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from swarm_probe.collector_client.client_times import ClientTimes
from swarm_probe.compute.limits import ComputeLimits
from swarm_probe.measure.transfers.leased_transfers import Outcome
from swarm_probe.operating_system.interfaces import addresses, chosen_link, is_link_local
from swarm_probe.owner_limits.compute_budget import Allowance
from swarm_probe.owner_limits.idle_policy import IdlePolicy
from swarm_probe.owner_limits.traffic_budget import DAILY_BYTES, TrafficBudget
from swarm_probe.udp.nat_discovery import Finding
from swarm_probe.wake_ups import WakeUps
from swarm_protocol.messages.probe_messages import Plan, Relay, UplinkGrant, UplinkLease
from swarm_protocol.messages.samples import ProbeSample
from swarm_protocol.supervisor import Supervisor


class PathMeasurements(Protocol):
    """What the daemon needs of swarm_probe.measure.paths.Paths."""

    udp_port: int
    tcp_port: int
    wake_ups: WakeUps  # shared with the packets of round trips

    @property
    def udp_error(self) -> str | None: ...

    def supervise(self, supervisor: Supervisor) -> None: ...

    async def start(self) -> None: ...

    @property
    def finding(self) -> Finding: ...

    def joined(self, collector: str, stun_ports: tuple[int, ...], on_reach: Callable[[Finding], None]) -> None: ...

    def linked(self, send: Callable[[Relay], Awaitable[bool]], carried: Callable[[], tuple[int, int]]) -> None: ...

    def relayed(self, message: Relay) -> None: ...

    def update(self, plan: Plan) -> None: ...

    def usual_away_s(self) -> float | None: ...

    def grant(self, grant: UplinkGrant) -> None: ...

    async def run_uplink(self, lease: UplinkLease) -> Outcome: ...

    def counters(self) -> dict[str, int]: ...

    async def close(self) -> None: ...


class ProbeConfig(msgspec.Struct, frozen=True):
    url: str  # of parse_join
    name: str
    state: Path
    token: str = ""
    daily_bytes: int | None = DAILY_BYTES  # both directions; None: no limit
    invite: str = ""
    pin: str | None = None  # fingerprint of the collector's certificate; None: what was seen first
    by_authority: bool = False  # a wss:// URL: certificate authorities verify the collector
    lan: bool = False  # members at private addresses are measured wherever the collector is
    bind_host: str = ""  # the address of this machine that members are measured from; empty: any
    interface: str = ""  # and the interface; empty: as the system routes
    offer_bytes: int | None = None  # what the owner lets layers use; None: the usual share
    compute_budget: Allowance | None = None  # seconds of processor; None: the default for so many cores
    gpu_budget: Allowance | None = None  # None: the default for so many GPUs
    times: ClientTimes | None = None  # of the collector client
    compute: ComputeLimits | None = None

    @property
    def links(self) -> bool:
        """Return whether the owner lets link-local addresses be measured, wherever the collector is."""
        return self.lan or chosen_link(self.bind_host, self.interface)

    def addresses(self, collector: str) -> tuple[str, ...]:
        """Return the addresses of this machine that a collector reached at this address may know."""
        link_local = self.links or is_link_local(collector)
        return addresses(self.bind_host, interface=self.interface, link_local=link_local)


PathsMaker = Callable[[Callable[[ProbeSample], None], TrafficBudget, IdlePolicy], PathMeasurements]


def real_paths(
    config: ProbeConfig, emit: Callable[[ProbeSample], None], traffic_budget: TrafficBudget, idle_policy: IdlePolicy
) -> PathMeasurements:
    from swarm_probe.measure.paths import Paths, PathsConfig  # late: tests of the daemon use their own
    from swarm_probe.owner_limits.egress_policy import Scope

    paths_config = PathsConfig(
        scope=Scope.LAN if config.lan else Scope.INTERNET,
        lan=config.lan,
        links=config.links,
        grants=True,
        bind_host=config.bind_host,
        interface=config.interface,
    )
    return Paths(paths_config, emit, traffic_budget=traffic_budget, idle_policy=idle_policy)
