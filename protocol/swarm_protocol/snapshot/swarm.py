"""Define the Swarm: what is known of all nodes and all directed links at one moment, as numpy columns.

Everything that reads the swarm reads this: the dashboard, `--once`, the predictor, the planner. It comes live from the
collector (`frames`), from a recorded database (`builder` over stored samples) or from a file written by hand
(`swarm_file`). NaN means "not known"; a value's kind says whether it was measured, is a bound or an estimate.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from swarm_protocol.layer_shape import Timed
from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import RunSample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bytes = npt.NDArray[np.uint8]
else:  # names of annotations only: the first paint of the dashboard does without numpy
    Floats = Ints = Bytes = object


class State(enum.IntEnum):
    UNKNOWN = 0  # written by hand, or never heard of
    OK = 1
    STALE = 2  # connected now or recently, but its numbers are old
    LOST = 3  # no heartbeat
    LEFT = 4  # said goodbye


class Kind(enum.IntEnum):
    NONE = 0  # not measured
    MEASURED = 1
    BOUND = 2  # at least this (≥)
    ESTIMATE = 3  # inferred from other pairs (~)


class Path(enum.IntEnum):
    NONE = 0
    DIRECT = 1
    PUNCHED = 2
    RELAYED = 3
    ESTIMATED = 4


class Nat(enum.IntEnum):
    """What lies between a node and the internet, for UDP. The names are those of samples.NatKind."""

    UNKNOWN = 0
    NONE = 1
    ENDPOINT_INDEPENDENT = 2  # one outside port for all destinations: holes can be punched (RFC 4787)
    SYMMETRIC = 3  # another outside port for each destination: peers cannot learn it
    UDP_BLOCKED = 4


class Why(enum.IntEnum):
    """Why a link has no path."""

    UNKNOWN = 0  # it has one, or the reason is unknown
    HARD_NATS = 1
    UDP_BLOCKED = 2
    NO_ANSWER = 3
    LINK_LOCAL = 4


class Tcp(enum.IntEnum):
    """What a node's TCP does to the window of an idle connection."""

    UNKNOWN = 0
    SHRINKS = 1  # loss-based: halves it for each idle timeout (RFC 5681 §4.1, RFC 2861)
    KEEPS = 2  # the same with tcp_slow_start_after_idle=0
    PACES = 3  # BBR: no restart, but the window is not sent at once either


class Congestion(enum.IntEnum):
    """The congestion control that a node's TCP gives its programs."""

    UNKNOWN = 0
    CUBIC = 1  # RFC 9438; the default of Linux, macOS and Windows
    RENO = 2  # RFC 5681
    BBR = 3  # of any version
    OTHER = 4  # one of the further ones of Linux: htcp, vegas, dctcp


class Transport(enum.IntEnum):
    """The transport of a measured hop or transfer."""

    TCP = 0
    QUIC = 1
    RELAY = 2
    UDP = 3  # trains of packets


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One measured layer time. `model` may be "*": any model."""

    model: str
    phase: Timed
    batch: int
    context: int  # tokens in the cache (decode) or in the chunk (prefill)
    ms: float
    ms_p95: float = float("nan")  # NaN: no spread known
    dtype: str = "fp16"  # "*": any weights
    n: int = 1
    at_ns: int = 0
    verified: bool = False
    marks: str = ""  # of ComputeSample
    stage_layers: int = 0  # of a visit; 0: unknown


class Way(msgspec.Struct, frozen=True):
    """The addresses that packets to one peer use."""

    peer: str  # node id
    address: str  # of the peer; empty: unknown, or hidden
    interface: str  # of this machine; empty: unknown


class Card(msgspec.Struct, frozen=True):
    """One of several cards of a machine, as it was last read. None: it does not say."""

    name: str
    util_percent: float | None = None
    vram_free_bytes: float | None = None
    vram_bytes: float | None = None
    temp_c: float | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    throttle: str = ""  # why its clock is held down


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The texts and lists of a node; the numbers are in the columns."""

    node_id: str  # 32 hex digits (16 in older versions), or the name in a swarm written by hand
    name: str
    device: str = ""  # "RTX 3090", "cpu: AMD EPYC"; empty = unknown
    system: str = ""
    host: str = ""  # address as the collector sees it; empty = hidden or unknown
    region: str = ""
    note: str = ""  # why something is missing ("torch not installed: pip install 'swarmtop[torch]'")
    layers: tuple[LayerTime, ...] = ()
    device_class: str = ""  # one of swarm_protocol.devices.data_sheets.CLASSES; empty = unknown
    cards: tuple[Card, ...] = ()  # where a machine has several; of one, the columns say all
    ways: tuple[Way, ...] = ()  # to the peers that answer
    sheet: str = ""  # the device whose data sheet gives mem_gbps and tflops; empty: they are measured or written
    untold: str = ""  # which figures of its cards are not measured, and why


class Member(msgspec.Struct, frozen=True):
    """What is known of a node before any figure is read. None: not told."""

    name: str
    state: State = State.UNKNOWN
    device: str = ""
    region: str = ""
    memory_bytes: float | None = None  # that layers may take
    up_mbps: float | None = None
    down_mbps: float | None = None


class Event(msgspec.Struct, frozen=True):
    at_ns: int
    node: str  # name
    kind: str
    detail: str


@dataclass(slots=True)
class Swarm:
    """`nodes[c]` has shape (n,), `links[c]` shape (n, n) with [src, dst]; the diagonal is never read."""

    at_ns: int
    facts: tuple[NodeFacts, ...]
    nodes: dict[str, npt.NDArray[Any]]
    links: dict[str, npt.NDArray[Any]]
    client: str | None = None  # name; None: at the first stage, no network between
    source: str = ""  # "10.0.0.5:9470", a file's name
    events: tuple[Event, ...] = ()
    runs: tuple[RunSample, ...] = ()  # of watched engines, oldest first
    assumed: tuple[str, ...] = ()  # for a swarm made from names: assumptions, one line each
    running: Running | None = None  # the placement that runs, as reported; None: no report
    measured_for: tuple[str, str] | None = None  # of a recording: model, and weights or ""
    unread: bool = False  # of a recording: members only; links, transfers and layer times are still to be read
    _index: dict[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def empty(cls, facts: tuple[NodeFacts, ...], *, at_ns: int = 0, source: str = "") -> Swarm:
        """Return a swarm with all columns present, nothing known."""
        from swarm_protocol.snapshot.columns import LINK_COLUMNS, NODE_COLUMNS, blank

        n = len(facts)
        return cls(
            at_ns=at_ns,
            facts=facts,
            nodes={name: blank(dtype, (n,)) for name, dtype in NODE_COLUMNS.items()},
            links={name: blank(dtype, (n, n)) for name, dtype in LINK_COLUMNS.items()},
            source=source,
        )

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.facts)

    def index(self, name: str) -> int:
        """Return the row of the node called `name`. Raises KeyError."""
        if len(self._index) != len(self.facts):
            self._index.update({f.name: i for i, f in enumerate(self.facts)})
        return self._index[name]
