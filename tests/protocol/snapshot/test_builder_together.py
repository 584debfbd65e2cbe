"""Windows taken together show what the same windows show one by one: the collector takes them so, a replay does not."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.messages.column_batch import LinkColumns
from swarm_protocol.messages.samples import HopSample, LinkSample, Sample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.links import link_figures
from swarm_protocol.snapshot.links.loss_history import AGE_NS, LossHistory
from swarm_protocol.units import NS_PER_S
from tests.protocol.builder_samples import T0, A, B, C, host, link, three, uplink

NODES = (A, B, C)
STRANGER = "d" * 16


@pytest.fixture(autouse=True)
def together(monkeypatch):
    """Take even two windows together."""
    monkeypatch.setattr(link_figures, "AT_ONCE", 1)


def some_window(rng: random.Random, at_ns: int) -> LinkSample:
    rtt_ms = rng.choice((None, 5.0, 5.2, 20.0, 80.0))
    sent = rng.choice((0, 10, 16, 70_000))
    stamps = rng.choice(((None, None), (3.0, 2.0), (30.0, -20.0), (3.0, None)))
    return link(
        at_ns,
        rng.choice((*NODES, STRANGER)),
        path=rng.choice(("direct", "direct", "punched", "relayed", "estimated", "none")),
        why=rng.choice((None, None, "no-answer", "hard-nats")),
        sent=sent,
        lost=rng.choice((0, 0, 1, sent)),
        rtt_min_ms=None if rtt_ms is None else rtt_ms - 1,
        rtt_p50_ms=rtt_ms,
        rtt_p95_ms=rng.choice((None, 6.0, 90.0)),
        loaded=rng.random() < 0.3,
        stamped_out_ms=stamps[0],
        stamped_back_ms=stamps[1],
        address=rng.choice((None, "192.168.1.7")),
    )


def some_sample(rng: random.Random) -> Sample:
    # times repeat, go back, run ahead of the node, and are hours apart
    at_ns = T0 + rng.choice((-3600, 0, 1, 2, 3, 10, 30, 70, 130, 4000)) * NS_PER_S
    which = rng.random()
    if which < 0.1:
        return HopSample(
            at_ns=at_ns, peer=rng.choice(NODES), size_bytes=8192, cadence_ms=50.0, n=10, min_ms=20.0, p50_ms=22.0,
            p95_ms=25.0, p99_ms=30.0,
        )  # fmt: skip
    if which < 0.15:
        return uplink(50.0, at_ns, rng.choice(NODES))
    return host(at_ns) if which < 0.2 else some_window(rng, at_ns)


def assert_same(one: SwarmBuilder, other: SwarmBuilder, now_ns: int) -> None:
    first, second = one.snapshot(now_ns), other.snapshot(now_ns)
    for shown, wanted in ((first.links, second.links), (first.nodes, second.nodes)):
        for name in wanted:
            np.testing.assert_array_equal(shown[name], wanted[name], err_msg=name)
    assert first.facts == second.facts
    for node in NODES:
        if node in one:
            assert one.rtt_from(node) == other.rtt_from(node)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_windows_taken_together_show_what_they_show_one_by_one(seed):
    rng = random.Random(seed)
    together, single = three(), three()
    for step in range(rng.randrange(1, 12)):
        node = rng.choice(NODES)
        batch = [some_sample(rng) for _ in range(rng.randrange(1, 30))]
        if rng.random() < 0.5 and (batch := [each for each in batch if isinstance(each, LinkSample)]):
            together.windows(node, LinkColumns.of(batch))
        else:
            together.samples(node, batch)
        for sample in batch:
            single.sample(node, sample)
        if rng.random() < 0.3:
            seen_ns = T0 + rng.choice((0, 100, 4000)) * NS_PER_S
            for builder in (together, single):
                builder.seen(node, seen_ns)
        if rng.random() < 0.3:
            assert_same(together, single, T0 + (step * 10 + 200) * NS_PER_S)
    assert_same(together, single, T0 + 5000 * NS_PER_S)


def test_windows_that_wait_belong_to_their_nodes_when_another_is_forgotten():
    builder = three()
    builder.samples(B, [link(peer=C, rtt_min_ms=7.0)])
    builder.samples(C, [link(peer=A, rtt_min_ms=9.0), link(peer=B, rtt_min_ms=8.0)])
    builder.forget(A)
    assert (builder.rtt_from(B), builder.rtt_from(C)) == ({C: 7.0}, {B: 8.0})
    builder.samples(C, [link(T0 + NS_PER_S, peer=B, rtt_min_ms=6.0)])
    assert builder.rtt_from(C) == {B: 6.0}


def losses(history: LossHistory) -> tuple[float, float]:
    ((_, _, share, packets),) = history.changed()
    return share, packets


def test_a_link_that_is_measured_twice_an_hour_needs_one_block():
    """Windows that no longer count make room, so memory is that of those that do."""
    history = LossHistory()
    for number in range(100):
        history.add(0, 1, link(T0 + number * AGE_NS // 2, sent=16, lost=0))
        losses(history)
    assert history._used == 2  # the empty one, and this link's
    assert losses_of_last(history) == 32.0


def losses_of_last(history: LossHistory) -> float:
    history.add(0, 1, link(T0 + 100 * AGE_NS // 2, sent=16, lost=0))
    return losses(history)[1]


def test_a_link_that_is_measured_all_the_time_keeps_thirty_two_windows():
    history = LossHistory()
    for number in range(100):
        history.add(0, 1, link(T0 + number * NS_PER_S, sent=16, lost=0))
    assert losses(history) == (0.0, 32 * 16.0)
    assert history._used == 9
