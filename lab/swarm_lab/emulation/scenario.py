"""Read a scenario: hosts, their connections, and timed events. TOML in, checked data out.

The format is in docs/lab.md. Unknown keys are refused. Delays one way between two hosts are
access(from) + city(from → to) + access(to); rates are each host's own up- and downlink.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from swarm_lab.emulation.delay_models import Jitter, Loss
from swarm_lab.emulation.home_nat import NatKind
from swarm_protocol.snapshot.swarm import Floats
from swarm_protocol.text import is_name
from swarm_protocol.toml_errors import toml_error

Delay = Annotated[float, Meta(ge=0, le=60_000)]
Rate = Annotated[float, Meta(gt=0, le=100_000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
COLLECTOR: Final = "collector"  # the host that the collector runs on; added where the file has none
MAX_HOSTS: Final = 64


class ScenarioError(ValueError):
    """The file is no scenario; one line that says what and where."""


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A host's access link."""

    up_mbps: Rate
    down_mbps: Rate
    delay_ms: Delay  # one way, between the host and its exchange
    queue_ms: Delay = 200.0  # what the modem buffers at its rate; the rest is dropped
    jitter: Jitter = Jitter()
    loss: Loss = Loss()


# Access profiles: cluster, fiber, cable and 5G are those of the article that this project is based on.
PROFILES: Final[dict[str, Access]] = {
    "datacentre": Access(up_mbps=1000, down_mbps=1000, delay_ms=0.2, queue_ms=20),
    "lan": Access(up_mbps=1000, down_mbps=1000, delay_ms=0.1, queue_ms=20),
    "fiber": Access(up_mbps=100, down_mbps=300, delay_ms=5, queue_ms=50, jitter=Jitter(p95_ms=0.5)),
    "cable": Access(up_mbps=20, down_mbps=200, delay_ms=10, queue_ms=150, jitter=Jitter(p95_ms=4)),
    "5g": Access(
        up_mbps=20, down_mbps=150, delay_ms=15, queue_ms=300, jitter=Jitter(p95_ms=12, law="pareto", shape=2.5),
        loss=Loss(rate=0.001, burst=3),
    ),
}  # fmt: skip


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    access: str | Access = "fiber"  # a profile's name, or a table of your own
    city: str | None = None  # a row of the matrix; None: at the same exchange as every other such host
    nat: NatKind = "none"
    cpu: Annotated[float, Meta(gt=0, le=64)] | None = None  # cores this host may use; None: as much as there is
    memory_gib: Annotated[float, Meta(gt=0, le=10_000)] | None = None  # for layers, as reported to the planner
    tcp: Literal["cubic", "bbr", "reno"] = "cubic"  # its congestion control, as its system ships it
    probe: bool = True  # False: a host without a probe (the collector's, a client)


class Path(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"src": "from", "dst": "to"}):
    """What one directed pair has in addition to its access links; "*" is any host, later entries override earlier
    ones."""

    src: str
    dst: str
    delay_ms: Delay | None = None  # one way, in place of the cities' half round trip
    both: bool = True  # also for the way back
    jitter: Jitter | None = None
    loss: Loss | None = None
    reorder: bool | None = None  # let packets overtake


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"src": "from", "dst": "to"}):
    """Something that happens at a moment. `parse_scenario` checks which fields an action needs."""

    at_s: Seconds
    action: Literal["path", "access", "cut", "heal", "freeze", "thaw", "leave", "join", "cpu", "rebind"]
    host: str | None = None
    hosts: tuple[str, ...] = ()  # of cut and heal: this side against the rest
    src: str | None = None
    dst: str | None = None
    delay_ms: Delay | None = None
    jitter: Jitter | None = None
    loss: Loss | None = None
    up_mbps: Rate | None = None
    down_mbps: Rate | None = None
    queue_ms: Delay | None = None
    cpu: Annotated[float, Meta(gt=0, le=64)] | None = None
    note: str = ""


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a report may be from the truth before `swarmtop lab verify` exits 4."""

    rtt_p50_ms: float = 0.3
    rtt_p95_ms: float = 3.0
    rtt_p99_ms: float = 10.0
    pdv_ms: float = 3.0
    loss: float = 0.02
    uplink_relative: float = 0.10
    hop_relative: float = 0.10


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    host: Annotated[tuple[Host, ...], Meta(min_length=2, max_length=MAX_HOSTS)]
    about: str = ""
    seed: int = 1
    duration_s: Annotated[float, Meta(gt=0, le=86_400)] = 120.0
    model: str = "tiny"
    running: str = ""  # the placement that is reported as running: "a:0-2,b:3-7"; empty: none is reported
    matrix: Literal["none", "azure"] = "none"
    path: tuple[Path, ...] = ()
    event: tuple[Event, ...] = ()
    bounds: Bounds = Bounds()

    def names(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.host)


_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "path": ("src", "dst"),
    "access": ("host",),
    "cut": ("hosts",),
    "heal": (),
    "freeze": ("host",),
    "thaw": ("host",),
    "leave": ("host",),
    "join": ("host",),
    "cpu": ("host", "cpu"),
    "rebind": ("host",),
}


def parse_scenario(text: str) -> Scenario:
    """Return the scenario that `text` describes, with a collector host added where it has none. Raises
    ScenarioError."""
    try:
        scenario = msgspec.toml.decode(text.encode(), type=Scenario)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ScenarioError(toml_error(error, text, Scenario)) from error
    if COLLECTOR not in scenario.names():
        collector = Host(name=COLLECTOR, access="datacentre", probe=False)
        scenario = msgspec.structs.replace(scenario, host=(*scenario.host, collector))
    _check_hosts(scenario)
    names = set(scenario.names())
    for line in scenario.path:
        for name in (line.src, line.dst):
            if name != "*" and name not in names:
                raise ScenarioError(f"[[path]] {line.src} → {line.dst}: there is no host {name!r}")
    for event in scenario.event:
        _check_event(event, names)
    return scenario


def _check_hosts(scenario: Scenario) -> None:
    names = scenario.names()
    for host in scenario.host:
        if not is_name(host.name):
            raise ScenarioError(f"host name {host.name!r} is not 1 to 32 of A-Z a-z 0-9 . _ -")
        if names.count(host.name) > 1:
            raise ScenarioError(f"host {host.name!r} appears twice; names must differ")
        if isinstance(host.access, str) and host.access not in PROFILES:
            raise ScenarioError(f"{host.name}: no access profile {host.access!r}; there are {', '.join(PROFILES)}")
        if host.city is not None and scenario.matrix == "none":
            raise ScenarioError(f'{host.name}: a city needs matrix = "azure"')


def _check_event(event: Event, names: set[str]) -> None:
    where = f"[[event]] at {event.at_s:g} s, {event.action}"
    for field in _NEEDS[event.action]:
        if getattr(event, field) in (None, ()):
            raise ScenarioError(f"{where}: needs {'from' if field == 'src' else 'to' if field == 'dst' else field}")
    for name in (event.host, event.src, event.dst, *event.hosts):
        if name is not None and name != "*" and name not in names:
            raise ScenarioError(f"{where}: there is no host {name!r}")


def access_of(host: Host) -> Access:
    return PROFILES[host.access] if isinstance(host.access, str) else host.access


def city_delays_ms(scenario: Scenario, cities: dict[tuple[str, str], float]) -> Floats:
    """Return one-way delays between the hosts' exchanges, shape (n, n), before access; `cities` has round trips in ms.

    Raises ScenarioError for a city that the matrix does not have.
    """
    n = len(scenario.host)
    delays = np.zeros((n, n))
    for i, a in enumerate(scenario.host):
        for j, b in enumerate(scenario.host):
            if i == j or a.city is None or b.city is None or a.city == b.city:
                continue
            rtt_ms = cities.get((a.city, b.city), cities.get((b.city, a.city)))
            if rtt_ms is None:
                raise ScenarioError(f"the matrix has no round trip {a.city!r} → {b.city!r}")
            delays[i, j] = rtt_ms / 2
    return delays
