"""Define the Swarm: what is known of all nodes and all directed links at one moment, as numpy columns.

Everything that reads the swarm reads this: the dashboard, `--once`, the predictor, the planner. It comes live from the
collector (`frames`), from a recorded database (`builder` over stored samples) or from a file written by hand
(`swarm_file`). NaN means "not known"; a value's kind says whether it was measured, is a bound or an estimate.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from swarm_protocol.layer_shape import Timed
from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import RunSample

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


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


# column → its contents. The order is the order on the wire.
NODE_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "state": np.uint8,
    "seen_ns": np.int64,  # wall clock of the last message; 0 = never
    "vram_bytes": np.float64,  # memory that layers may take on this node; NaN = can only be the client
    "vram_free_bytes": np.float64,
    "up_mbps": np.float64,
    "up_kind": np.uint8,
    "up_at_ns": np.int64,
    "down_mbps": np.float64,
    "down_kind": np.uint8,
    "down_at_ns": np.int64,
    "mem_gbps": np.float64,
    "tflops": np.float64,
    "overhead_ms": np.float64,  # what each visit to a stage here takes beyond its layers
    "visit_layer_ms": np.float64,  # what a layer of it takes beyond one in a loop
    "cpu_percent": np.float64,
    "ram_free_bytes": np.float64,
    "gpu_util_percent": np.float64,
    "temp_c": np.float64,
    "power_w": np.float64,
    "throttled": np.float64,  # 0, 1 or NaN
    "host_at_ns": np.int64,
    "compute_at_ns": np.int64,
    "nat": np.uint8,
    "collector_rtt_ms": np.float64,
    "place_0": np.float64,  # coordinates, in ms, for estimates of unmeasured round trips
    "place_1": np.float64,
    "place_2": np.float64,
    "place_3": np.float64,
    "height_ms": np.float64,
    "place_spread": np.float64,  # relative: half of this node's estimates are within it
    "spooled": np.int64,  # batches the probe still holds
    "tcp": np.uint8,
    "congestion": np.uint8,
    "cpu_pressure_percent": np.float64,
    "clock_mhz": np.float64,  # of the card; with several, of the slowest
    "mem_kind": np.uint8,  # of mem_gbps and tflops: ESTIMATE is a data sheet's
}

LINK_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "kind": np.uint8,
    "path": np.uint8,
    "why": np.uint8,  # if there is no path
    "at_ns": np.int64,
    "sent": np.int64,  # of the window the figures are of
    "rtt_min_ms": np.float64,
    "rtt_p50_ms": np.float64,
    "rtt_p95_ms": np.float64,
    "rtt_p99_ms": np.float64,
    "jitter_ms": np.float64,  # PDV: p95 − min of the round trip (RFC 5481)
    "jitter_rfc3550_ms": np.float64,
    "loss": np.float64,  # fraction, round trip
    "pooled_loss": np.float64,  # of the recent windows of both ends that are of the path's present state, likewise
    "pooled_sent": np.float64,  # packets that say as much about it as is known
    "oneway_ms": np.float64,  # least one-way delay, estimated from all pairs' stamps; sums around loops are exact
    "oneway_error_ms": np.float64,  # its standard deviation: how far the two directions may share another round trip
    "hop_bytes": np.int64,  # 0 = no hop measured
    "hop_min_ms": np.float64,  # message until acknowledgement
    "hop_p50_ms": np.float64,
    "hop_p95_ms": np.float64,
    "hop_p99_ms": np.float64,
    "hop_first_ms": np.float64,
    "hop_at_ns": np.int64,
    "hop_rtt_ms": np.float64,  # round trip of the path when the hop was measured; NaN: not known
    "hop_mbps": np.float64,  # measured rate between the two ends at that time; NaN: not known
    "hop_transport": np.uint8,
    "mbps": np.float64,  # of the last transfer over this link
    "mbps_kind": np.uint8,
    "rtt_loaded_ms": np.float64,
    "mbps_at_ns": np.int64,
    "mbps_transport": np.uint8,
}


def _empty(dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.full(shape, np.nan, dtype) if dtype is np.float64 else np.zeros(shape, dtype)


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One measured layer time. `model` may be "*": any model."""

    model: str
    phase: Timed
    batch: int
    context: int  # tokens in the cache (decode) or in the chunk (prefill)
    ms: float
    ms_p95: float = float("nan")  # NaN: no spread known
    dtype: str = "fp16"  # "*": whatever weights are asked for
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
    device_class: str = ""  # one of swarm_protocol.devices.table.CLASSES; empty = unknown
    cards: tuple[Card, ...] = ()  # where a machine has several; of one, the columns say all
    ways: tuple[Way, ...] = ()  # to the peers that answer
    sheet: str = ""  # the device whose data sheet gives mem_gbps and tflops; empty: they are measured or written
    untold: str = ""  # which figures of its cards are not measured, and why


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
        n = len(facts)
        return cls(
            at_ns=at_ns,
            facts=facts,
            nodes={name: _empty(dtype, (n,)) for name, dtype in NODE_COLUMNS.items()},
            links={name: _empty(dtype, (n, n)) for name, dtype in LINK_COLUMNS.items()},
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
