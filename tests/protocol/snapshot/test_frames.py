"""Frames: a viewer holds, bit for bit, the swarm the collector has, and no bytes make it hold anything else."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.messages.samples import RunSample
from swarm_protocol.snapshot import frames
from swarm_protocol.snapshot.columns import LINK_COLUMNS, NODE_COLUMNS
from swarm_protocol.snapshot.frames import (
    FrameError,
    MembershipChanged,
    apply_diff,
    decode_keyframe,
    encode_diff,
    encode_keyframe,
)
from swarm_protocol.snapshot.swarm import Event, Kind, LayerTime, Nat, NodeFacts, Path, State, Swarm, Transport, Why

HIGHEST = {
    "state": max(State),
    "path": max(Path),
    "nat": max(Nat),
    "why": max(Why),
    "hop_transport": max(Transport),
    "mbps_transport": max(Transport),
}


def same(a: Swarm, b: Swarm) -> bool:
    columns = all(
        mine[name].dtype == theirs[name].dtype and np.array_equal(_bits(mine[name]), _bits(theirs[name]))
        for mine, theirs in ((a.nodes, b.nodes), (a.links, b.links))
        for name in mine
    )
    texts = (a.at_ns, a.client, a.source, a.events) == (b.at_ns, b.client, b.source, b.events) and a.runs == b.runs
    return columns and texts and a.facts == b.facts and a.nodes.keys() == b.nodes.keys()


def _bits(column):
    return column.view(np.int64) if column.dtype == np.float64 else column


def facts_of(n: int) -> tuple[NodeFacts, ...]:
    layer = LayerTime(model="llama-2-70b", phase="decode", batch=1, context=128, ms=1.25, ms_p95=1.5, at_ns=7)
    return tuple(NodeFacts(node_id=f"{i:016x}", name=f"node-{i}", layers=(layer,)) for i in range(n))


def cells_for(name: str, dtype: type[np.generic]) -> st.SearchStrategy[float]:
    if dtype is np.float64:
        return st.floats(allow_infinity=False)
    if dtype is np.uint8:
        return st.integers(0, int(HIGHEST.get(name, max(Kind))))
    return st.integers(-(2**63), 2**63 - 1)


@st.composite
def changes(draw: st.DrawFn, n: int) -> list[tuple[str, str, int, float]]:
    picked = []
    for _ in range(draw(st.integers(0, 8))):
        table = draw(st.sampled_from(["nodes", "links"]))
        columns = NODE_COLUMNS if table == "nodes" else LINK_COLUMNS
        name = draw(st.sampled_from(sorted(columns)))
        cell = draw(st.integers(0, (n if table == "nodes" else n * n) - 1))
        picked.append((table, name, cell, draw(cells_for(name, columns[name]))))
    return picked


def changed(swarm: Swarm, edits: list[tuple[str, str, int, float]], at_ns: int) -> Swarm:
    tables = {"nodes": dict(swarm.nodes), "links": dict(swarm.links)}
    for table, name, cell, value in edits:
        column = tables[table][name].copy()
        column.reshape(-1)[cell] = value
        tables[table][name] = column
    return replace(swarm, at_ns=at_ns, nodes=tables["nodes"], links=tables["links"], _index={})


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(1, 6))
def test_a_keyframe_and_any_diffs_after_it_give_the_same_swarm_bit_for_bit(data, n):
    sent = changed(Swarm.empty(facts_of(n), source="10.0.0.5:9470"), data.draw(changes(n)), at_ns=1)
    held = decode_keyframe(encode_keyframe(sent))
    assert same(held, sent)
    for at_ns in (2, 3):
        following = changed(sent, data.draw(changes(n)), at_ns)
        held = apply_diff(held, encode_diff(sent, following))
        sent = following
        assert same(held, sent)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_keyframe_or_a_frame_error(data):
    for tail in (data, b"r" + data, b"z" + data, b"z" + zlib.compress(data)):
        with contextlib.suppress(FrameError):
            assert isinstance(decode_keyframe(tail), Swarm)


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_frame_is_a_swarm_or_a_frame_error_and_leaves_the_old_one_alone(data):
    before = Swarm.empty(facts_of(3), at_ns=1)
    after = changed(before, [("links", "rtt_p50_ms", 4, 17.5), ("nodes", "state", 1, 1)], at_ns=2)
    for frame, read in (
        (encode_keyframe(after), decode_keyframe),
        (encode_diff(before, after), lambda raw: apply_diff(before, raw)),
    ):
        damaged = bytearray(frame)
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(FrameError):
            assert isinstance(read(bytes(damaged)), Swarm)
    assert same(before, Swarm.empty(facts_of(3), at_ns=1))


def test_every_cut_of_a_keyframe_is_refused():
    frame = encode_keyframe(Swarm.empty(facts_of(2), at_ns=1))
    for size in range(len(frame)):
        with pytest.raises(FrameError):
            decode_keyframe(frame[:size])


def test_a_diff_of_another_frame_is_refused_so_that_a_gap_is_never_drawn_over():
    first = Swarm.empty(facts_of(2), at_ns=1)
    second = changed(first, [("nodes", "up_mbps", 0, 40.0)], at_ns=2)
    third = changed(second, [("nodes", "up_mbps", 1, 50.0)], at_ns=3)
    with pytest.raises(FrameError, match="another frame"):
        apply_diff(first, encode_diff(second, third))


def test_another_membership_needs_a_keyframe():
    with pytest.raises(MembershipChanged, match="send a keyframe"):
        encode_diff(Swarm.empty(facts_of(2)), Swarm.empty(facts_of(3)))


def test_a_new_name_and_new_layer_times_travel_in_a_diff():
    before = Swarm.empty(facts_of(3), at_ns=1)
    renamed = replace(before.facts[1], name="kiln-07", layers=())
    after = replace(before, at_ns=2, facts=(before.facts[0], renamed, before.facts[2]), _index={})
    held = apply_diff(decode_keyframe(encode_keyframe(before)), encode_diff(before, after))
    assert held.index("kiln-07") == 1
    assert held.facts[1].layers == ()


@given(old=st.lists(st.integers(0, 3), max_size=6), new=st.lists(st.integers(0, 3), max_size=6))
def test_events_that_rolled_off_and_came_in_are_the_same_at_the_viewer(old, new):
    def swarm(picked: list[int], at_ns: int) -> Swarm:
        events = tuple(Event(at_ns=i, node="a", kind="note", detail="") for i in picked)
        return replace(Swarm.empty(facts_of(1), at_ns=at_ns), events=events)

    before, after = swarm(old, 1), swarm(new, 2)
    assert apply_diff(before, encode_diff(before, after)).events == after.events


def test_one_link_of_a_hundred_nodes_costs_less_than_a_packet():
    before = Swarm.empty(facts_of(100), at_ns=1)
    columns = ["kind", "sent", "rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms", "rtt_p99_ms", "jitter_ms", "loss"]
    after = changed(before, [("links", name, 1234, 2.0 if name != "kind" else 1) for name in columns], at_ns=2)
    assert len(encode_diff(before, after)) < 500


def test_columns_that_did_not_change_are_shared_and_none_can_be_written():
    before = decode_keyframe(encode_keyframe(Swarm.empty(facts_of(4), at_ns=1)))
    after = apply_diff(before, encode_diff(before, changed(before, [("links", "loss", 2, 0.5)], at_ns=2)))
    assert after.links["rtt_p50_ms"] is before.links["rtt_p50_ms"]
    with pytest.raises(ValueError, match="read-only"):
        after.links["loss"][0, 2] = 1.0
    assert np.isnan(before.links["loss"]).all()


def test_a_thousand_unmeasured_nodes_cost_no_link_memory():
    """A keyframe of 60 KB must not make a viewer allocate 160 MB of columns."""
    frame = encode_keyframe(Swarm.empty(facts_of(1000), at_ns=1))
    tracemalloc.start()
    swarm = decode_keyframe(frame)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert swarm.links["rtt_p50_ms"].shape == (1000, 1000)
    assert peak < 8 << 20


def tampered(swarm: Swarm, **changes: object) -> bytes:
    body = msgspec.msgpack.decode(_raw(encode_keyframe(swarm)))
    return b"r" + msgspec.msgpack.encode(body | changes)


def _raw(frame: bytes) -> bytes:
    return zlib.decompress(frame[1:]) if frame[:1] == b"z" else frame[1:]


def test_twenty_thousand_nodes_with_one_known_link_are_refused_before_allocating():
    facts = [{"node_id": f"{i:x}", "name": f"n{i}"} for i in range(20_000)]
    column = [np.uint32(5).tobytes(), {"rtt_p50_ms": np.float64(1.0).tobytes()}]
    with pytest.raises(FrameError, match="bytes of link columns"):
        decode_keyframe(tampered(Swarm.empty(()), facts=facts, links=[column]))


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ([np.uint32(4).tobytes(), {"loss": bytes(8)}], "cell 4 of 4"),
        ([b"abc", {"loss": bytes(8)}], "3 bytes of cell numbers"),
        ([bytes(400), {"loss": bytes(800)}], "400 bytes of cell numbers for 4 cells"),
        ([np.uint32(1).tobytes(), {"loss": bytes(16)}], "16 bytes of loss for 1 cells of 8"),
        ([None, {"loss": bytes(8)}], "8 bytes of loss for 4 cells of 8"),
        ([np.uint32(1).tobytes(), {"loss": np.float64(np.inf).tobytes()}], "loss is infinite"),
        ([np.uint32(1).tobytes(), {"path": b"\x09"}], "path is 9, at most 4"),
    ],
)
def test_cells_that_do_not_fit_are_refused_by_name(column, line):
    with pytest.raises(FrameError, match=line):
        decode_keyframe(tampered(Swarm.empty(facts_of(2)), links=[column]))


def test_a_column_of_a_newer_collector_is_ignored():
    held = decode_keyframe(tampered(Swarm.empty(facts_of(2)), nodes=[[None, {"fan_rpm": bytes(999)}]]))
    assert set(held.nodes) == set(NODE_COLUMNS)


def test_two_nodes_of_one_name_are_refused():
    facts = [{"node_id": "a", "name": "twin"}, {"node_id": "b", "name": "twin"}]
    with pytest.raises(FrameError, match="one name"):
        decode_keyframe(tampered(Swarm.empty(()), facts=facts))


def test_a_bomb_is_refused_before_it_unpacks():
    bomb = b"z" + zlib.compress(bytes(100 << 20), 9)
    tracemalloc.start()
    with pytest.raises(FrameError, match="unpacks to more"):
        decode_keyframe(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_keyframe_packs_when_it_pays():
    swarm = changed(Swarm.empty(facts_of(30), at_ns=1), [], at_ns=1)
    swarm.links["rtt_p50_ms"] = np.arange(900, dtype=np.float64).reshape(30, 30)
    frame = encode_keyframe(swarm)
    assert frame[:1] == b"z"
    assert len(frame) < 900 * 8
    assert same(decode_keyframe(frame), swarm)
    assert len(encode_diff(swarm, replace(swarm, at_ns=2, _index={}))) < frames.PACK_FROM_BYTES


def test_runs_of_watched_engines_are_sent_once_and_stay() -> None:
    run = RunSample(at_ns=5, endpoint="h:1", model="m", tokens=3, counted=True, ttft_ms=1.0)
    first = replace(Swarm.empty(facts_of(2), at_ns=1), runs=(run,))
    quiet, more = replace(first, at_ns=2), replace(first, at_ns=3, runs=(run, run))
    held = decode_keyframe(encode_keyframe(first))
    assert held.runs == (run,)
    diff = encode_diff(first, quiet)
    assert b"h:1" not in diff
    held = apply_diff(held, diff)
    assert held.runs == (run,)
    assert apply_diff(held, encode_diff(quiet, more)).runs == (run, run)
