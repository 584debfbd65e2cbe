"""Claims about the placement that runs: how it is told, stored as an event, and sent in frames."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.messages.running import MAX_DETAIL, MAX_PLACEMENT, Running, detail_of, from_detail, tidy
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.frames import apply_diff, decode_keyframe, encode_diff, encode_keyframe
from swarm_protocol.snapshot.swarm import NodeFacts, Swarm

names = st.text("abcXYZ019._-", min_size=1, max_size=32)
stages = st.builds("{}:{}-{}".format, names, st.integers(0, 999), st.integers(0, 999))
words = st.text("abc019._-", max_size=20)


@given(
    placement=st.lists(stages, max_size=20).map(",".join),
    engine=words,
    model=words,
    source=st.text("abc -.", max_size=30).map(str.strip),
)
def test_an_event_says_what_was_reported_and_is_read_back(placement: str, engine: str, model: str, source: str) -> None:
    told = Running(placement, engine, model, source, 7)
    assert from_detail(7, detail_of(told)) == told


@pytest.mark.parametrize("text", ["", "a", "a:1-2;b:3-4", "a:x-y", "a:1-2,", "a:0-9," * 900 + "a:0-9"])
def test_what_is_no_placement_is_not_taken(text: str) -> None:
    assert tidy(text) is None


def test_a_hundred_stages_with_long_names_fit() -> None:
    text = ",".join(f"{'n' * 29}{i:03}:{i}-{i}" for i in range(90))
    assert tidy(text.replace(",", " , ")) == text
    assert len(text) <= MAX_PLACEMENT < MAX_DETAIL


def swarm(running: Running | None) -> Swarm:
    empty = Swarm.empty((NodeFacts(node_id="a" * 16, name="a"),), at_ns=1)
    return dataclasses.replace(empty, running=running)


def test_frames_carry_it_and_a_diff_only_where_it_changed() -> None:
    first, second = Running("a:0-31", "petals", at_ns=1), Running("a:0-15", at_ns=2)
    assert decode_keyframe(encode_keyframe(swarm(first))).running == first
    shown = decode_keyframe(encode_keyframe(swarm(None)))
    assert shown.running is None
    then = dataclasses.replace(swarm(first), at_ns=2)
    shown = apply_diff(shown, encode_diff(swarm(None), then))
    assert shown.running == first
    same = dataclasses.replace(then, at_ns=3)
    shown = apply_diff(shown, encode_diff(then, same))
    assert shown.running == first
    assert apply_diff(shown, encode_diff(same, dataclasses.replace(same, running=second, at_ns=4))).running == second


def test_the_newest_word_counts_and_a_watched_engine_is_one() -> None:
    builder = SwarmBuilder()
    builder.event(10, None, "running", "a:0-31 engine=petals told by launch lines")
    builder.event(5, None, "running", "a:0-3 told by somebody late")
    assert builder.snapshot(11).running == Running("a:0-31", "petals", source="launch lines", at_ns=10)
    run = {"endpoint": "h:1", "model": "m", "tokens": 4, "counted": True, "ttft_ms": 1.0}
    builder.run(RunSample(at_ns=20, placement="a:0-31", **run))  # type: ignore[arg-type]
    assert builder.snapshot(21).running == Running("a:0-31", "petals", source="watch", at_ns=20)
    builder.run(RunSample(at_ns=30, placement="b:0-31", baseline=True, **run))  # type: ignore[arg-type]
    builder.event(40, "f" * 16, "running", "c:0-31")  # a probe cannot say it
    assert builder.snapshot(41).running == Running("a:0-31", "petals", source="watch", at_ns=20)
