"""The settings of a daemon, and the interface of the part that measures paths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swarm_probe.collector_client.client_times import ClientTimes
from swarm_probe.compute.supervisor import ComputeLimits
from swarm_probe.measure.transfers import Outcome
from swarm_probe.owner_limits.compute_budget import Allowance
from swarm_probe.owner_limits.idle_policy import IdlePolicy
from swarm_probe.owner_limits.traffic_budget import DAILY_BYTES, TrafficBudget
from swarm_probe.udp.nat_discovery import Finding
from swarm_protocol.messages.probe_messages import Plan, Relay, UplinkGrant, UplinkLease
from swarm_protocol.messages.samples import ProbeSample
from swarm_protocol.supervisor import Supervisor


class PathsLike(Protocol):
    """What the daemon needs of swarm_probe.measure.paths.Paths."""

    udp_port: int
    tcp_port: int

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

    def usual_rtt_s(self) -> float | None: ...

    def grant(self, grant: UplinkGrant) -> None: ...

    async def run_uplink(self, lease: UplinkLease) -> Outcome: ...

    def counters(self) -> dict[str, int]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    url: str  # of parse_join
    name: str
    state: Path
    token: str = ""
    daily_bytes: int | None = DAILY_BYTES  # both directions; None: no limit
    invite: str = ""
    pin: str | None = None  # fingerprint of the collector's certificate; None: what was seen first
    by_authority: bool = False  # a wss:// URL: certificate authorities vouch for the collector
    lan: bool = False  # members at private addresses are measured wherever the collector is
    offer_bytes: int | None = None  # what the owner lets layers take; None: the usual share
    compute_budget: Allowance | None = None  # seconds of processor; None: what is usual for so many cores
    gpu_budget: Allowance | None = None  # None: what is usual for so many cards
    times: ClientTimes | None = None  # of the link
    compute: ComputeLimits | None = None


PathsMaker = Callable[[Callable[[ProbeSample], None], TrafficBudget, IdlePolicy], PathsLike]


def real_paths(
    emit: Callable[[ProbeSample], None], traffic_budget: TrafficBudget, idle_policy: IdlePolicy, *, lan: bool = False
) -> PathsLike:
    from swarm_probe.measure.paths import Paths, PathsConfig  # late: tests of the daemon bring their own
    from swarm_probe.owner_limits.egress_policy import Scope

    config = PathsConfig(scope=Scope.LAN if lan else Scope.INTERNET, lan=lan, grants=True)
    return Paths(config, emit, traffic_budget=traffic_budget, idle_policy=idle_policy)
