"""Batches in columns: what is accepted in rows is accepted, what is refused in rows is refused, and at little cost."""

from __future__ import annotations

import math
import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.messages.codec import DecodeError, encode
from swarm_protocol.messages.column_batch import ColumnBatch, LinkColumns
from swarm_protocol.messages.probe_messages import Batch, Welcome, decode_from_collector, decode_from_probe
from swarm_protocol.messages.samples import MAX_BATCH_SAMPLES, EventSample, HopSample, LinkSample

PEER = "0123456789abcdef"
FIELDS = {field.name: field for field in msgspec.structs.fields(LinkSample)}
SURE = {"at_ns": 1, "peer": PEER, "path": "direct", "sent": 10, "lost": 1}

# of every type, at and beyond every bound
CELLS = st.sampled_from(
    [None, True, False, 0, 1, -1, 255, 256, 2**53, 2**53 + 1, 2**62, 2**62 + 1, 2**64 - 1, 3_600_000, 3_600_001, 0.0,
     -0.0, 0.5, -0.5, 3_600_000.5, 1e13, -1e13, 1.1e13, math.nan, math.inf, -math.inf, 1e308, "", "direct", "kernel",
     "hard-nats", "x" * 32, "x" * 33, "x" * 65, PEER, PEER * 2, PEER.upper(), f"{PEER}\n", f"{PEER[:15]} ", " " * 16,
     "é" * 16, b"", b"direct", [], {}]
)  # fmt: skip
ROWS = st.lists(st.dictionaries(st.sampled_from(sorted(FIELDS)), CELLS, max_size=2), min_size=1, max_size=4)


def in_rows(rows: list[dict[str, object]]) -> bytes:
    samples = [{"type": "link", **row} for row in rows]
    return msgspec.msgpack.encode({"type": "batch", "epoch": 7, "seq": 1, "samples": samples})


def in_columns(links: dict[str, object], **more: object) -> bytes:
    return msgspec.msgpack.encode({"type": "columns", "epoch": 7, "seq": 1, "links": links, **more})


def decoded(data: bytes) -> tuple[object, ...] | None:
    try:
        message = decode_from_probe(data)
    except DecodeError:
        return None
    assert isinstance(message, Batch | ColumnBatch)
    return message.samples if isinstance(message, Batch) else message.samples()


@settings(max_examples=400)
@given(changes=ROWS)
def test_rows_and_columns_are_accepted_alike(changes):
    """Bounds that differed would let a probe store by one form what the other refuses."""
    defaults = {name: field.default for name, field in FIELDS.items() if name not in SURE}
    rows = [{**SURE, **defaults, **row} for row in changes]
    columns = {name: [row[name] for row in rows] for name in FIELDS}
    assert decoded(in_columns(columns)) == decoded(in_rows(rows))


@pytest.mark.parametrize("name", FIELDS)
def test_every_column_has_the_bounds_of_its_field(name):
    """The peer's are checked together, by `_are_node_ids`."""
    columns = typing.get_type_hints(LinkColumns, include_extras=True)
    samples = typing.get_type_hints(LinkSample, include_extras=True)
    (of_rows,) = [each for each in _parts(columns[name]) if typing.get_origin(each) is tuple]
    assert name == "peer" or typing.get_args(of_rows)[0] == samples[name]
    assert LinkColumns.__struct_fields__ == LinkSample.__struct_fields__


def _parts(kind: object) -> list[object]:
    inner = [each for part in typing.get_args(kind) for each in _parts(part)]
    return [kind] if typing.get_origin(kind) is tuple else [kind, *inner]


def link(**changes: object) -> LinkSample:
    return LinkSample(**{**SURE, **changes})


OTHERS = (
    EventSample(at_ns=2, kind="note", detail="hello"),
    HopSample(at_ns=3, peer=PEER, size_bytes=1, cadence_ms=1.0, n=1, min_ms=1.0, p50_ms=1.0, p95_ms=1.0, p99_ms=1.0),
)


@given(order=st.permutations([*OTHERS, link(), link(at_ns=5, rtt_min_ms=2.5), link(loaded=True, why="no-answer")]))
def test_a_batch_comes_back_in_its_order(order):
    batch = ColumnBatch.of(7, 3, order)
    assert batch is not None
    back = decode_from_probe(encode(batch))
    assert isinstance(back, ColumnBatch)
    assert (back.epoch, back.seq, back.samples()) == (7, 3, tuple(order))


def test_a_batch_without_windows_stays_in_rows():
    assert ColumnBatch.of(7, 3, OTHERS) is None


def test_columns_of_defaults_are_left_out():
    assert LinkColumns.of([link(), link()]) == LinkColumns(**{name: (cell, cell) for name, cell in SURE.items()})
    assert LinkColumns.of([link()]).cells("timestamps") == ("user",)


WHOLE = {name: [cell, cell] for name, cell in SURE.items()}
NOTE = {"type": "event", "at_ns": 2, "kind": "note", "detail": "hello"}
FULL = {name: [cell] * MAX_BATCH_SAMPLES for name, cell in SURE.items()}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (in_columns({**WHOLE, "lost": [1]}), "lost has 1 cells, at_ns 2"),
        (in_columns({**WHOLE, "hop_ms": [1.0, None, 1.0]}), "hop_ms has 3 cells, at_ns 2"),
        (in_columns({**WHOLE, "pdv_ms": [math.nan, None]}), "pdv_ms"),
        (in_columns({**WHOLE, "sent": [2**70 // 2**7, 1]}), r"<= 9007199254740992"),
        (in_columns({**WHOLE, "peer": [PEER, PEER + "0"]}), "a peer that is no node's id"),
        (in_columns({**WHOLE, "peer": [PEER[:8], PEER + PEER[8:]]}), "a peer that is no node's id"),
        (in_columns({name: [] for name in SURE}), "length >= 1"),
        (in_columns({name: [*cells, cells[0]] for name, cells in FULL.items()}), "length <= 500"),
        (in_columns(FULL, others=[NOTE], places=[0]), "a batch of 501 samples; at most 500 are taken"),
        (in_columns(WHOLE, others=[NOTE]), "places do not say"),
        (in_columns(WHOLE, places=[0]), "places do not say"),
        (in_columns(WHOLE, others=[NOTE, NOTE], places=[1, 1]), "places do not say"),
        (in_columns(WHOLE, others=[NOTE], places=[3]), "places do not say"),
        (in_columns(WHOLE, others=[{"type": "link", **SURE}], places=[0]), "Invalid value 'link'"),
        (in_columns({"at_ns": [1]}), "missing required field"),
    ],
)
def test_malformed_columns_are_refused_with_a_reason(data, why):
    with pytest.raises(DecodeError, match=why):
        decode_from_probe(data)


def test_a_length_that_is_only_claimed_takes_no_memory():
    """An array's header may claim four billion cells, in five bytes."""
    whole = in_columns({**SURE, "at_ns": [7]})
    claimed = whole.replace(b"\x91\x07", b"\xdd\xff\xff\xff\xff\x07")
    assert claimed != whole
    with pytest.raises(DecodeError, match="length <= 500"):
        decode_from_probe(claimed)


def test_an_older_collector_takes_no_columns():
    """Its welcome does not say so; to an older probe the new field is one to be ignored."""
    welcome = Welcome(node_id=PEER, name="a", committed_seq=0, heartbeat_ms=1.0, observed_host="::1", columns=True)
    fields = msgspec.msgpack.decode(encode(welcome))
    assert decode_from_collector(msgspec.msgpack.encode(fields)) == welcome
    del fields["columns"]
    older = decode_from_collector(msgspec.msgpack.encode(fields))
    assert isinstance(older, Welcome)
    assert not older.columns
