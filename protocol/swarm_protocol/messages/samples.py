"""Define the samples that probes measure, one struct for each kind; the CSV kinds add the node's name.

A sample never names its own node: that is the session's, so no node can report for another. `peer` is the other node's
id. None means "not measured", never 0. Ranges are checked at decoding (msgspec.Meta), so that no value outside them is
accepted; NaN and infinity are refused by `probe_messages.decode_from_probe`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from swarm_protocol.layer_shape import Timed

Ms = Annotated[float, Meta(ge=0, le=3_600_000)]
StampedMs = Annotated[float, Meta(ge=-1e13, le=1e13)]  # between two clocks, however wrong
Mbps = Annotated[float, Meta(ge=0, le=10_000_000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Ttl = Annotated[int, Meta(ge=0, le=255)]
Gbps = Annotated[float, Meta(gt=0, le=1_000_000)]  # gigabytes a second, decimal
TokensPerS = Annotated[float, Meta(ge=0, le=10_000_000)]
Percent = Annotated[float, Meta(ge=0, le=100)]
NodeId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}([0-9a-f]{16})?\Z")]  # 128 bits; 64 in older swarms
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(max_length=300)]
PlacementText = Annotated[str, Meta(max_length=4500)]  # a hundred stages with names of 32, and the description
WallNs = Annotated[int, Meta(ge=0, le=2**62)]

MAX_BATCH_SAMPLES: Final = 500  # of one message
BatchSeq = Annotated[int, Meta(ge=1, le=2**53)]

PathKind = Literal["direct", "punched", "relayed", "estimated", "none"]
# reported by the collector alone: a figure got worse; that is over; one got better; a change is the usual state now
CHANGE_KINDS: Final = ("degraded", "recovered", "improved", "settled")

NatKind = Literal["none", "endpoint-independent", "symmetric", "udp-blocked"]
# link-local: it is on a direct cable, and the owner of this probe has not allowed such addresses (said by the probe)
WhyNoPath = Literal["hard-nats", "udp-blocked", "no-answer", "link-local"]
# quic: over a punched UDP path, where TCP fails; relay: by way of the collector, where both fail
Transport = Literal["tcp", "quic", "relay"]
UplinkTransport = Literal["tcp", "quic", "relay", "udp"]  # udp: trains of packets
Stamping = Literal["kernel", "user"]  # source of the receive timestamps of a round trip
Phase = Literal["decode", "prefill"]
EventKind = Literal[
    "joined", "left", "lost", "back", "clock", "udp_off", "torch_missing", "compute_failed", "throttled",
    "spool_gap", "name_changed", "refused", "disk", "path", "note", "challenge", "running",
    "degraded", "recovered", "improved", "settled",
]  # fmt: skip


class LinkSample(msgspec.Struct, frozen=True, kw_only=True, tag="link"):
    """STAMP round trips to one peer over one window (RFC 8762). Quantiles cover the answered ones."""

    at_ns: WallNs  # end of the window
    peer: NodeId
    path: PathKind
    sent: Count
    lost: Count  # round trip: without the direction
    lost_out: Count | None = None  # on the way there, by the reflector's own sequence
    lost_back: Count | None = None
    rtt_min_ms: Ms | None = None  # None: nothing came back
    rtt_p50_ms: Ms | None = None
    rtt_p95_ms: Ms | None = None
    rtt_p99_ms: Ms | None = None
    pdv_ms: Ms | None = None  # p95 − min (RFC 5481)
    jitter_rfc3550_ms: Ms | None = None
    ipdv_ms: Ms | None = None  # mean |difference| of packets sent one after the other, both answered (RFC 3393)
    duplicates: Count = 0  # repeated answers
    reordered: Count = 0  # answers that came after one to a later packet (RFC 4737)
    ttl_out: Ttl | None = None  # sent with 255; what remained of it there, and of the answer's here
    ttl_back: Ttl | None = None
    hop_ms: Ms | None = None  # latest decode-sized hop to this peer, p50
    loaded: bool = False  # a transfer ran at one of the ends meanwhile
    timestamps: Stamping = "user"
    why: WhyNoPath | None = None  # there is no path; `relayed` figures are then those of the detour via the collector
    # least T2 − T1 and T4 − T3, each by the two ends' own clocks: their offset is in both, and cancels in the sum of
    # either around a closed loop (snapshot.estimates.one_way)
    stamped_out_ms: StampedMs | None = None
    stamped_back_ms: StampedMs | None = None
    address: Annotated[str, Meta(max_length=64)] | None = None  # of the peer, where it answers; kept of private ones
    interface: Annotated[str, Meta(max_length=32)] | None = None  # of this machine, that its answers come by


class HopSample(msgspec.Struct, frozen=True, kw_only=True, tag="hop"):
    """The time of an activation-sized message until its one-byte acknowledgement, over a connection used at decode
    cadence."""

    at_ns: WallNs
    peer: NodeId
    size_bytes: Count
    cadence_ms: Ms
    n: Count
    first_ms: Ms | None = None  # the first message on a fresh connection: slow start shows here
    after_idle_ms: Ms | None = None  # p50 of those after a pause in which TCP forgets how fast it may send
    min_ms: Ms
    p50_ms: Ms
    p95_ms: Ms
    p99_ms: Ms
    loaded: bool = False  # from older probes: a transfer ran meanwhile; newer ones end the round instead
    transport: Transport = "tcp"
    phase: Phase = "decode"  # size of the message: one step's, or one prefill chunk's


class UplinkSample(msgspec.Struct, frozen=True, kw_only=True, tag="uplink"):
    """One bounded transfer to a peer. `bound`: the path was not filled, the rate is at least this. `transport` udp: the
    rate is from trains of packets, as what TCP would deliver; `sent_bytes` is of the IP layer then."""

    at_ns: WallNs
    peer: NodeId
    sent_bytes: Count
    mbps: Mbps
    bound: bool
    rtt_idle_ms: Ms | None = None
    rtt_loaded_ms: Ms | None = None
    seconds: Annotated[float, Meta(ge=0, le=3600)]
    transport: UplinkTransport = "tcp"


class ComputeSample(msgspec.Struct, frozen=True, kw_only=True, tag="compute"):
    """Milliseconds that one decoder layer takes on one device. `context`: tokens in the cache, or in the prefill chunk.
    `phase` head and embed: the LM head and the embedding, whole, for `batch` tokens. `phase` visit: what each visit
    takes beyond its layers where tokens come one by one with a pause between them (an activation from bytes and back to
    bytes, with caches that other work has filled meanwhile).

    `marks`, with commas: `scaled` (measured at reduced width, scaled by the roofline), `contended` (other programs used
    the device), `throttled`, `battery`, `eager` (kernels launched one by one, as routed experts are: engines with fused
    ones are faster), `loose` (the budget ended before the median was known to 2 %)."""

    at_ns: WallNs
    device: Line
    model: Word
    dtype: Word
    phase: Timed
    batch: Annotated[int, Meta(ge=1, le=65536)]
    context: Annotated[int, Meta(ge=0, le=10_000_000)]
    ms_per_layer: Annotated[float, Meta(gt=0, le=3_600_000)]
    ms_p95: Ms
    n: Count
    verified: bool = False  # set by the collector alone: this node has passed a challenge since
    ms_p5: Ms | None = None
    marks: Annotated[str, Meta(pattern=r"^([a-z]+(,[a-z]+)*)?$", max_length=64)] = ""
    stage_layers: Annotated[int, Meta(ge=1, le=10_000)] | None = None  # of a visit: how many layers it was to


class RooflineSample(msgspec.Struct, frozen=True, kw_only=True, tag="roofline"):
    """Sustained memory bandwidth and matrix rate of one device: the basis for layers that were not timed."""

    at_ns: WallNs
    device: Line
    dtype: Word
    mem_gbps: Annotated[float, Meta(gt=0, le=1_000_000)]  # gigabytes a second, decimal
    tflops: Annotated[float, Meta(gt=0, le=1_000_000)]
    to_device_gbps: Gbps | None = None  # from pinned host memory; None: no device of its own memory
    from_device_gbps: Gbps | None = None
    disk_gbps: Gbps | None = None  # read from the disk that torch is on, past the page cache


class HostSample(msgspec.Struct, frozen=True, kw_only=True, tag="host"):
    """The machine's state now. GPU fields are None without a GPU; several GPUs are several samples."""

    at_ns: WallNs
    cpu_percent: Percent | None = None  # None, here and below: the machine does not tell
    ram_free_bytes: Count | None = None
    ram_total_bytes: Count | None = None
    gpu: Line | None = None
    gpu_util_percent: Percent | None = None
    vram_free_bytes: Count | None = None
    vram_total_bytes: Count | None = None
    temp_c: Annotated[float, Meta(ge=-100, le=300)] | None = None
    power_w: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    throttled: bool | None = None
    clock_mhz: Annotated[float, Meta(ge=0, le=100_000)] | None = None  # of the GPU's multiprocessors
    throttle: Line | None = None  # why its clock is reduced, in the driver's words; empty: it is not
    others: Count | None = None  # processes on the GPU that are not ours
    on_battery: bool | None = None
    nat: NatKind | None = None  # by the collector's two STUN ports, at most a minute ago; None: not known
    collector_rtt_ms: Ms | None = None  # the recent lowest, over UDP or the TCP connection to it
    tcp: Word | None = None  # congestion control that its programs get: cubic, bbr, reno
    tcp_slow_start_after_idle: bool | None = None  # the sysctl; only loss-based congestion control heeds it
    cpu_pressure_percent: Percent | None = None  # of ten seconds, in which work waited for a processor (PSI)


class EventSample(msgspec.Struct, frozen=True, kw_only=True, tag="event"):
    """Something that people should know. `detail` is one line of ours with checked values in it, 300 characters at most
    unless it is a placement."""

    at_ns: WallNs
    kind: EventKind
    detail: PlacementText


class RunSample(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """One request to a running engine, as seen by a client that followed the answer stream. It belongs to no node."""

    at_ns: WallNs  # when the answer had ended
    endpoint: Line  # host and path; never a key
    model: Line  # as the engine calls it
    label: Line = ""  # name of its row; empty: the endpoint
    baseline: bool = False  # a service to compare with, not this swarm
    placement: PlacementText = ""  # what ran there, if known: "a:0-39,b:40-79"
    prompt_tokens: Count | None = None
    tokens: Count  # of the answer
    counted: bool  # by the engine; False: pieces of text were counted
    ttft_ms: Ms
    tpot_ms: Ms | None = None  # mean time per token after the first; None: the answer came in one piece
    tpot_p50_ms: Ms | None = None  # None: pieces held several tokens
    tpot_p95_ms: Ms | None = None
    predicted_p5: TokensPerS | None = None  # tokens a second that were predicted for this placement then
    predicted_p50: TokensPerS | None = None
    predicted_p95: TokensPerS | None = None

    @property
    def tokens_per_s(self) -> float | None:
        return 1e3 / self.tpot_ms if self.tpot_ms else None


OtherSample = HopSample | UplinkSample | ComputeSample | RooflineSample | HostSample | EventSample
ProbeSample = LinkSample | OtherSample  # by a probe
Sample = ProbeSample | RunSample

KINDS: dict[str, type[msgspec.Struct]] = {
    "link": LinkSample,
    "hop": HopSample,
    "uplink": UplinkSample,
    "compute": ComputeSample,
    "roofline": RooflineSample,
    "host": HostSample,
    "event": EventSample,
    "run": RunSample,
}
