"""What a daemon is made with: its owner's settings, and what it needs of the part that measures paths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swarm_probe.compute.supervisor import ComputeLimits
from swarm_probe.courtesy import Courtesy
from swarm_probe.ledger import DAILY_BYTES, Ledger
from swarm_probe.link import LinkTimes
from swarm_probe.nat import Finding
from swarm_probe.transfers import Outcome
from swarm_protocol.messages import Plan, Relay, UplinkGrant, UplinkLease
from swarm_protocol.samples import ProbeSample


class PathsLike(Protocol):
    """What the daemon needs of swarm_probe.paths.Paths."""

    udp_port: int
    tcp_port: int

    @property
    def udp_error(self) -> str | None: ...

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
    times: LinkTimes | None = None  # of the link
    compute: ComputeLimits | None = None


PathsMaker = Callable[[Callable[[ProbeSample], None], Ledger, Courtesy], PathsLike]


def real_paths(
    emit: Callable[[ProbeSample], None], ledger: Ledger, courtesy: Courtesy, *, lan: bool = False
) -> PathsLike:
    from swarm_probe.allowed import Scope
    from swarm_probe.paths import Paths, PathsConfig  # late: tests of the daemon bring their own

    config = PathsConfig(scope=Scope.LAN if lan else Scope.INTERNET, lan=lan, grants=True)
    return Paths(config, emit, ledger=ledger, courtesy=courtesy)
