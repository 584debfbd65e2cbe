"""Define the messages between viewer and collector over the WebSocket at `/view`: ViewerMessage up, StreamMessage down.

As in `probe_messages`: unknown fields are ignored, and any bytes give a message or `codec.DecodeError`.
"""

from __future__ import annotations

import functools
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from swarm_protocol.layer_shape import LayerShape
from swarm_protocol.messages.codec import decode, require_finite
from swarm_protocol.messages.probe_messages import Vocab
from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import Count, Line, NodeId, RunSample, WallNs, Word

VIEW_PROTOCOL_VERSION: Final = 1
VIEW_PATH: Final = "/view"
MAX_STREAM_BYTES: Final = 64 << 20  # of one frame to a viewer: a keyframe of 1,000 nodes, all pairs known, packed


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, tag="subscribe"):
    protocol: Annotated[int, Meta(ge=1, le=1000)]
    token: Annotated[str, Meta(max_length=200)] = ""
    rate_hz: Annotated[float, Meta(gt=0, le=30)] = 4.0
    operator: Annotated[str, Meta(max_length=100)] = ""  # the secret of OPERATOR_FILE; empty: only a viewer


class KeyframeRequest(msgspec.Struct, frozen=True, kw_only=True, tag="keyframe_request"):
    """Request a keyframe after a gap in the sequence."""


FOCUS_SETTING: Final = "focus"  # in the store: the Focus that a viewer requested last


class Focus(msgspec.Struct, frozen=True, kw_only=True, tag="focus"):
    """The focused model: what hops and layers the swarm measures from now on."""

    model: Word
    layer: LayerShape
    dtype: Word
    hop_bytes: Annotated[int, Meta(ge=1, le=1 << 20)]
    vocab: Vocab = 0
    chosen: bool | None = None  # by a person; False: a program's default; None: not said, as by older viewers


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True, tag="history_request"):
    """Request one metric's history. `peer` empty: over all peers of the node (the median of each bucket)."""

    request_id: Count
    metric: Word  # a key of swarm_protocol.snapshot.metrics.METRICS
    node: NodeId
    peer: NodeId | None = None
    since_ns: WallNs
    until_ns: WallNs
    points: Annotated[int, Meta(ge=1, le=4096)] = 240


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True, tag="export_request"):
    """Request rows of one kind, as CSV text in `ExportChunk`s."""

    request_id: Count
    kind: Word
    since_ns: WallNs = 0
    until_ns: WallNs = 2**62


class RunReport(msgspec.Struct, frozen=True, kw_only=True, tag="run_report"):
    """Report a run of a watched engine; answered by RunKept once it is in the store."""

    request_id: Count
    run: RunSample


class RunningReport(msgspec.Struct, frozen=True, kw_only=True, tag="running_report"):
    """Report what the swarm runs from now on; answered by RunKept once it is published."""

    request_id: Count
    running: Running  # the collector sets its time


ViewerMessage = Subscribe | KeyframeRequest | Focus | HistoryRequest | ExportRequest | RunReport | RunningReport


class Keyframe(msgspec.Struct, frozen=True, kw_only=True, tag="keyframe"):
    """A whole Swarm: `body` is `swarm_protocol.snapshot.frames.encode_keyframe`."""

    seq: Count
    at_ns: WallNs
    body: bytes


class Diff(msgspec.Struct, frozen=True, kw_only=True, tag="diff"):
    """What changed since frame `seq − 1`: `body` is `swarm_protocol.snapshot.frames.encode_diff`."""

    seq: Count
    at_ns: WallNs
    body: bytes


class HistoryReply(msgspec.Struct, frozen=True, kw_only=True, tag="history"):
    """Equal-width buckets over the requested span; a bucket without samples is None (a gap, never 0)."""

    request_id: Count
    at_ns: tuple[int, ...]  # bucket centres
    values: tuple[float | None, ...]
    rolled_until_ns: WallNs = 0  # earlier values are medians of rollups, within 1 %; 0: all come from samples


class ExportChunk(msgspec.Struct, frozen=True, kw_only=True, tag="export_chunk"):
    request_id: Count
    text: str
    done: bool
    rows_total: Count | None = None


class Notice(msgspec.Struct, frozen=True, kw_only=True, tag="notice"):
    """A line for the person at the screen (refused, store full, …). `final`: the connection ends."""

    text: Line
    final: bool = False


class RunKept(msgspec.Struct, frozen=True, kw_only=True, tag="run_kept"):
    request_id: Count
    refused: Line = ""  # why it was not stored; empty: it is committed


StreamMessage = Keyframe | Diff | HistoryReply | ExportChunk | Notice | RunKept

# Decoders are made on first use: that takes milliseconds, and each program decodes one side's messages, or none.


@functools.cache
def _viewer_decoder() -> msgspec.msgpack.Decoder[ViewerMessage]:
    return msgspec.msgpack.Decoder(ViewerMessage)


@functools.cache
def _stream_decoder() -> msgspec.msgpack.Decoder[StreamMessage]:
    return msgspec.msgpack.Decoder(StreamMessage)


def decode_from_viewer(data: bytes) -> ViewerMessage:
    """Decode a message of a viewer. Raises DecodeError."""
    message = decode(_viewer_decoder(), data)
    if isinstance(message, RunReport):
        require_finite((message.run,))
    return message


def decode_from_stream(data: bytes) -> StreamMessage:
    """Decode a message of the stream. Raises DecodeError."""
    return decode(_stream_decoder(), data, MAX_STREAM_BYTES)
