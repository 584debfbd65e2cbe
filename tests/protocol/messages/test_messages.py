"""Messages: any bytes give a message or DecodeError; what a probe sends is decoded unchanged."""

from __future__ import annotations

import contextlib
import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.messages import probe_messages, viewer_messages
from swarm_protocol.messages.codec import DecodeError, encode, require_finite
from swarm_protocol.messages.probe_messages import Batch
from swarm_protocol.messages.samples import KINDS, EventSample, LinkSample

DECODERS = [
    probe_messages.decode_from_probe,
    probe_messages.decode_from_collector,
    viewer_messages.decode_from_viewer,
    viewer_messages.decode_from_stream,
]


def link(**changes: object) -> LinkSample:
    sample = LinkSample(at_ns=1, peer="0123456789abcdef", path="direct", sent=10, lost=1, rtt_min_ms=1.5)
    return msgspec.structs.replace(sample, **changes)


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_message_or_decode_error(decode, data):
    with contextlib.suppress(DecodeError):
        assert isinstance(decode(data), msgspec.Struct)


def test_a_batch_comes_back_as_it_was():
    batch = Batch(epoch=7, seq=1, samples=(link(), EventSample(at_ns=2, kind="note", detail="hello")))
    assert probe_messages.decode_from_probe(encode(batch)) == batch


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_a_finite_number_is_refused_by_name(value):
    data = encode(Batch(epoch=7, seq=1, samples=(link(rtt_min_ms=value),)))
    with pytest.raises(DecodeError, match=r"rtt_min_ms|<= 3600000"):
        probe_messages.decode_from_probe(data)


@pytest.mark.parametrize(
    "packed",
    [
        b"\xcb" + struct.pack(">Q", bits)
        for bits in (0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0_0000_0000_0001, 0xFFFF_FFFF_FFFF_FFFF)
    ]
    + [b"\xca" + struct.pack(">I", bits) for bits in (0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF)],
)
def test_what_is_no_number_is_refused_however_it_is_packed(packed):
    data = encode(Batch(epoch=7, seq=1, samples=(link(rtt_min_ms=1.2345),)))
    number = b"\xcb" + struct.pack(">d", 1.2345)
    assert data.count(number) == 1
    with pytest.raises(DecodeError, match=r"rtt_min_ms"):
        probe_messages.decode_from_probe(data.replace(number, packed))


def test_every_cut_of_a_batch_is_refused():
    data = encode(Batch(epoch=7, seq=1, samples=(link(),)))
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            probe_messages.decode_from_probe(data[:size])


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_every_number_of_every_kind_of_sample_must_be_finite(wrong: float):
    """NaN passes range checks and is stored as nothing: each field that can hold a float is asked."""
    asked = {}
    for kind in KINDS.values():
        fields = [field.name for field in msgspec.structs.fields(kind) if "float" in repr(field.type)]
        asked[kind] = len(fields)
        for name in fields:
            values = {field.name: None for field in msgspec.structs.fields(kind)}
            with pytest.raises(DecodeError, match=rf"{name} is -?(nan|inf), not a finite number"):
                require_finite((kind(**{**values, name: wrong}),))
    assert [kind for kind, fields in asked.items() if not fields] == [EventSample]


def test_a_node_that_cannot_compute_can_say_so():
    """Its session was closed for it, again and again."""
    ready = probe_messages.ChallengeReady(challenge_id=7, trouble="torch cannot be loaded")
    assert probe_messages.decode_from_probe(encode(ready)) == ready
