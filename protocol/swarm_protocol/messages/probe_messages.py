"""Define the messages between probe and collector: ProbeMessage up, CollectorMessage down, over `/probe`.

Unknown fields are ignored (a newer peer may send more), unknown types and values out of range are not. Any bytes give a
message or `codec.DecodeError`. Messages of viewers are in `viewer_messages`.
"""

from __future__ import annotations

import functools
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.codec import decode, require_finite
from swarm_protocol.messages.column_batch import ColumnBatch
from swarm_protocol.messages.samples import (
    MAX_BATCH_SAMPLES,
    BatchSeq,
    Count,
    Line,
    Ms,
    NatKind,
    NodeId,
    ProbeSample,
    WallNs,
    Word,
)

PROTOCOL_VERSION: Final = 2  # 1: ids of 64 bits, proofs that did not name the collector
PROBE_PATH: Final = "/probe"
OPERATE_PATH: Final = "/operate"
COLLECTOR_HEADER: Final = "Swarm-Collector"  # of the same answer: the collector's id, in hex
NONCE_HEADER: Final = "Swarm-Nonce"  # of the answer that opens a probe's WebSocket: hex, to be signed in its Hello
MAX_RELAY_BYTES: Final = 48 << 10  # of one message by way of the collector

Port = Annotated[int, Meta(ge=0, le=65535)]  # 0: not listening
Address = Annotated[str, Meta(min_length=2, max_length=64)]
Vocab = Annotated[int, Meta(ge=0, le=1 << 24)]
Key = Annotated[bytes, Meta(min_length=16, max_length=64)]


# ---------------------------------------------------------------- probe → collector


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    name: Line
    vram_bytes: Count  # 0: its driver does not say
    untold: Line = ""  # which of its figures are not measured, and why; empty: all are


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the probe runs."""

    system: Line  # "Linux 6.1 x86_64"
    cpu: Line
    cores: Annotated[int, Meta(ge=1, le=65536)]
    ram_bytes: Count  # 0: not known
    gpus: Annotated[tuple[GpuFacts, ...], Meta(max_length=64)] = ()
    torch: Word | None = None  # None: not installed; the compute column says which command installs it
    offer_bytes: Count | None = None  # what its owner lets layers use, all devices together; None: the usual share


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The first message of a probe."""

    protocol: Annotated[int, Meta(ge=1, le=1000)]
    public_key: Annotated[bytes, Meta(max_length=32)] = b""  # Ed25519; the node's id is derived from it
    proof: Annotated[bytes, Meta(max_length=64)] = b""  # signature over `Handshake.signed("join")`
    bound_to: Annotated[bytes, Meta(max_length=32)] = b""  # `Handshake.bound_to`
    node_key: Key | None = None  # secret that identified this node before keys were used for signing; else None
    invite: Annotated[str, Meta(max_length=64)] = ""
    name: Annotated[str, Meta(min_length=1, max_length=300)]  # cleaned by the collector
    token: Annotated[str, Meta(max_length=200)] = ""
    epoch: WallNs  # names this spool; (node, epoch, seq) names a batch
    udp_port: Port  # 0: no UDP here
    tcp_port: Port
    addresses: Annotated[tuple[Address, ...], Meta(max_length=16)] = ()
    software: Line
    facts: HostFacts
    quic: bool = False  # hops and transfers over UDP are possible (the package is installed)
    relay: bool = False  # hops by way of the collector are possible
    follow_up: bool = False  # STAMP requests with a Follow-Up Telemetry TLV are answered (RFC 8972 §4.7)
    trains: bool = False  # trains of UDP packets are collected before, or instead of, a transfer
    at_ns: WallNs = 0  # this machine's clock at sending; 0: unknown (an older probe), the first heartbeat tells


class Mapped(msgspec.Struct, frozen=True, array_like=True):
    """A UDP address as another machine sees it (RFC 8489)."""

    host: Address
    port: Annotated[int, Meta(ge=1, le=65535)]


class Reach(msgspec.Struct, frozen=True, kw_only=True, tag="reach"):
    """What STUN told this probe about how others may reach its UDP port; sent again whenever it changes."""

    nat: NatKind | None = None  # None: not known
    mapped: Annotated[tuple[Mapped, ...], Meta(max_length=4)] = ()


class AboutMe(msgspec.Struct, frozen=True, kw_only=True, tag="about_me"):
    """Sent in place of a Hello to ask what is stored about this node; `forget`: and to delete it. Proven like a Hello,
    by a signature that is valid for this request alone (`Handshake.signed("show")`, or `("forget")`)."""

    public_key: Annotated[bytes, Meta(max_length=32)]
    proof: Annotated[bytes, Meta(max_length=64)]
    bound_to: Annotated[bytes, Meta(max_length=32)] = b""
    forget: bool = False


class Batch(msgspec.Struct, frozen=True, kw_only=True, tag="batch"):
    """Samples in the order they were spooled. Repeats of a committed seq are acknowledged and dropped."""

    epoch: WallNs
    seq: BatchSeq
    samples: Annotated[tuple[ProbeSample, ...], Meta(max_length=MAX_BATCH_SAMPLES)]

    def __len__(self) -> int:
        return len(self.samples)


class LeaseDone(msgspec.Struct, frozen=True, kw_only=True, tag="lease_done"):
    """The transfer of this lease has ended, well or not; its slot may be given to another."""

    lease_id: Count
    ok: bool
    detail: Line = ""
    begun: bool = True  # False: no byte of the transfer was sent


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    at_ns: WallNs
    spooled: Count  # batches waiting


class Leaving(msgspec.Struct, frozen=True, kw_only=True, tag="leaving"):
    reason: Line


class ChallengeReady(msgspec.Struct, frozen=True, kw_only=True, tag="challenge_ready"):
    """The matrix is drawn and one product takes so long; or the reason why not."""

    challenge_id: Count
    dtype: Annotated[str, Meta(max_length=64)] = ""  # empty: nothing was drawn
    step_ms: Ms = 0.0
    trouble: Line = ""  # not empty: this node cannot take part


class ChallengeCommit(msgspec.Struct, frozen=True, kw_only=True, tag="challenge_commit"):
    """One hash for each output, in order."""

    challenge_id: Count
    hashes: Annotated[bytes, Meta(max_length=1 << 16)]


class ChallengeOpened(msgspec.Struct, frozen=True, kw_only=True, tag="challenge_opened"):
    """The requested outputs, in single precision, little endian."""

    challenge_id: Count
    outputs: Annotated[tuple[Annotated[bytes, Meta(max_length=1 << 16)], ...], Meta(max_length=32)]


class Relay(msgspec.Struct, frozen=True, kw_only=True, tag="relay"):
    """Bytes for a member that nothing else reaches; the collector relays them, with the sender in `peer`."""

    peer: NodeId
    flow: Annotated[int, Meta(ge=0, le=2**32 - 1)]  # chosen by whoever opened the flow
    opened_here: bool  # by the sender of this message
    data: Annotated[bytes, Meta(max_length=MAX_RELAY_BYTES)] = b""
    end: bool = False


ProbeMessage = (
    Hello
    | AboutMe
    | Reach
    | Batch
    | ColumnBatch
    | LeaseDone
    | Heartbeat
    | Leaving
    | ChallengeReady
    | ChallengeCommit
    | ChallengeOpened
    | Relay
)

# ---------------------------------------------------------------- collector → probe


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    node_id: NodeId
    name: Word  # as admitted: cleaned, made unique
    committed_seq: Annotated[int, Meta(ge=0, le=2**53)]  # of the epoch in Hello; the spool drops up to here
    heartbeat_ms: Ms
    observed_host: Address  # the address that the collector saw this probe come from
    stun_ports: Annotated[tuple[Port, ...], Meta(max_length=4)] = ()  # UDP, at the address that was connected to
    columns: bool = False  # a ColumnBatch is understood too; an older collector ends the session about one


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """`final`: trying again with the same arguments is useless (wrong token, protocol too old)."""

    reason: Line
    final: bool
    retry_ms: Ms = 0.0


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another member to measure. `stamp_key` and the session ids are known only to the two and the collector."""

    node_id: NodeId
    name: Word
    hosts: Annotated[tuple[Address, ...], Meta(max_length=16)]  # to be tried in this order
    udp_port: Port
    tcp_port: Port
    stamp_key: Key
    ssid_out: Annotated[int, Meta(ge=1, le=65535)]  # in packets this probe sends to the peer (RFC 8972)
    ssid_in: Annotated[int, Meta(ge=1, le=65535)]  # in packets the peer sends to this probe
    measure: bool = True  # False: only answer
    often: Annotated[int, Meta(ge=1, le=16)] = 1  # so many times as often as others, because the best placement uses it
    nat: NatKind | None = None  # of the peer; None: not known
    mapped: Annotated[
        tuple[Mapped, ...], Meta(max_length=4)
    ] = ()  # its UDP port as STUN saw it, in addition to `hosts`
    quic: bool = False  # it accepts hops and transfers over UDP where TCP fails
    relay: bool = False  # and hops by way of the collector where both fail
    follow_up: bool = False  # it answers requests for follow-ups; an older one ignores such packets
    trains: bool = False  # it collects trains of UDP packets; an older one refuses the connection about them


class ComputeTask(msgspec.Struct, frozen=True, kw_only=True):
    """The layer to time. An unchanged `task_id` is not measured again."""

    task_id: Count
    model: Word
    layer: LayerShape
    dtype: Word
    batches: Annotated[tuple[int, ...], Meta(max_length=16)] = (1,)
    contexts: Annotated[tuple[int, ...], Meta(max_length=16)] = (128, 1024)
    prefill_tokens: Annotated[tuple[int, ...], Meta(max_length=16)] = (128,)
    budget_ms: Ms = 10_000.0
    vocab: Vocab = 0  # rows of LM head and embedding; 0: they are not timed


class Plan(msgspec.Struct, frozen=True, kw_only=True, tag="plan"):
    """Everything this probe is to do, complete each time; it keeps the last plan while disconnected."""

    revision: Count
    peers: Annotated[tuple[Peer, ...], Meta(max_length=512)]
    stamp_interval_ms: Ms
    window_ms: Ms  # one LinkSample a peer each
    hop_bytes: Annotated[int, Meta(ge=1, le=1 << 20)]  # one decode step's activation of the focused model
    prefill_bytes: Annotated[int, Meta(ge=0, le=1 << 20)] = 0  # one prefill chunk's; 0: not measured now
    hop_cadence_ms: Ms
    hop_every_ms: Annotated[float, Meta(ge=0, le=86_400_000)]  # how often a round of hops is run with each peer
    host_every_ms: Ms
    daily_bytes: Count | None = None  # both directions; counts where it is less than the probe's owner allows
    compute: ComputeTask | None = None
    away_ms: Ms | None = None  # what a token of the best placement spends elsewhere before it returns; None: not known
    left: Annotated[
        tuple[NodeId, ...], Meta(max_length=512)
    ] = ()  # members that said goodbye, or whose membership ended
    heartbeat_ms: Ms | None = None  # the interval of heartbeats from now on; None: it stays as it is


class UplinkLease(msgspec.Struct, frozen=True, kw_only=True, tag="uplink_lease"):
    """Permission for one transfer to `peer`; no other transfer touches either end until it is done or expired."""

    lease_id: Count
    peer: NodeId
    max_bytes: Annotated[int, Meta(ge=1, le=16 << 20)]
    expires_ms: Ms


class AboutYou(msgspec.Struct, frozen=True, kw_only=True, tag="about_you"):
    """What is stored about a node, one line each, for the person who owns it."""

    lines: Annotated[tuple[Line, ...], Meta(max_length=64)]


class UplinkGrant(msgspec.Struct, frozen=True, kw_only=True, tag="uplink_grant"):
    """The other side of a lease: `peer` may send this probe so many bytes. Without it nothing is accepted."""

    lease_id: Count
    peer: NodeId
    max_bytes: Annotated[int, Meta(ge=1, le=16 << 20)]
    expires_ms: Ms


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag="ack"):
    """Everything of this epoch up to `seq` is committed."""

    epoch: WallNs
    seq: Annotated[int, Meta(ge=0, le=2**53)]
    credit: Annotated[int, Meta(ge=1, le=64)] = 4  # batches that may be in flight from now on


class SlowDown(msgspec.Struct, frozen=True, kw_only=True, tag="slow_down"):
    """Nothing was accepted (the store is full or behind); the spool keeps it. Try again after this time."""

    reason: Line
    retry_ms: Ms


class Challenge(msgspec.Struct, frozen=True, kw_only=True, tag="challenge"):
    """Draw this matrix and report when ready (swarm_protocol.trust.attestation). It replaces an earlier challenge."""

    challenge_id: Count
    matrix_seed: Annotated[bytes, Meta(min_length=32, max_length=32)]
    dtype: Word  # requested; the device uses its own where it has no fast one


class ChallengeGo(msgspec.Struct, frozen=True, kw_only=True, tag="challenge_go"):
    """The clock runs: so many products from this seed, committed to within `deadline_ms` of being sent."""

    challenge_id: Count
    seed: Annotated[bytes, Meta(min_length=32, max_length=32)]
    steps: Annotated[int, Meta(ge=1, le=2048)]
    deadline_ms: Ms


class ChallengeOpen(msgspec.Struct, frozen=True, kw_only=True, tag="challenge_open"):
    challenge_id: Count
    steps: Annotated[tuple[int, ...], Meta(max_length=32)]


CollectorMessage = (
    Welcome
    | Refused
    | Plan
    | UplinkLease
    | UplinkGrant
    | Ack
    | SlowDown
    | Challenge
    | ChallengeGo
    | ChallengeOpen
    | AboutYou
    | Relay
)

# Decoders are made on first use: that takes milliseconds, and each program decodes one side's messages, or none.


@functools.cache
def _probe_decoder() -> msgspec.msgpack.Decoder[ProbeMessage]:
    return msgspec.msgpack.Decoder(ProbeMessage)


@functools.cache
def _collector_decoder() -> msgspec.msgpack.Decoder[CollectorMessage]:
    return msgspec.msgpack.Decoder(CollectorMessage)


def decode_from_probe(data: bytes) -> ProbeMessage:
    """Decode a message of a probe. Raises DecodeError."""
    message = decode(_probe_decoder(), data)
    if isinstance(message, Batch):
        require_finite(message.samples)
    elif isinstance(message, ColumnBatch):
        message.require_finite()
    return message


def decode_from_collector(data: bytes) -> CollectorMessage:
    """Decode a message of the collector. Raises DecodeError."""
    return decode(_collector_decoder(), data)
