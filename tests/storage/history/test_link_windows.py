"""A recording's links put in by columns give the snapshot that the same samples give one by one."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sample_fixtures import FACTS, T0, A, B, C, bare_host, compute, event, hop, link, roofline, run, uplink
from store_contract import put

from swarm_protocol.messages.samples import Sample
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarm_storage.history import link_windows, replay
from swarm_storage.history.replay import swarm_at
from swarm_storage.store import open_store

NODES = (A, B, A, B, C, "d" * 16)  # some more often, so that the samples of a link come in every order
MS = (2.5, 2.6, 20.0, 21.0, 80.0)
# a window without answers, one of a detour, and some of the path
WINDOWS: list[dict[str, Any]] = [
    {"rtt_min_ms": None, "rtt_p50_ms": None, "rtt_p95_ms": None, "rtt_p99_ms": None, "pdv_ms": None, "path": "none",
     "lost": 10, "stamped_out_ms": None, "stamped_back_ms": None},
    {"path": "relayed", "sent": 0, "lost": 0, "why": "hard-nats"},
    {"path": "punched", "lost": 0, "address": "203.0.113.9:9471", "interface": "eth0"},
    {"path": "direct", "stamped_out_ms": None, "stamped_back_ms": None, "address": "198.51.100.4:9471"},
    {"path": "direct", "jitter_rfc3550_ms": None},
    {"path": "direct", "lost": 7, "stamped_out_ms": 30.0, "stamped_back_ms": 10.0},
]  # fmt: skip


def drawn(rng: random.Random) -> tuple[str, Sample]:
    node, at_ns = rng.choice(NODES), T0 + rng.randrange(0, 700, 35) * NS_PER_S
    peer = rng.choice([other for other in NODES if other != node])
    ms, loaded = rng.choice(MS), rng.random() < 0.5
    phase = "prefill" if ms == 80.0 else "decode"
    window = {"rtt_min_ms": ms, "rtt_p50_ms": ms * 1.1, "rtt_p95_ms": ms * 1.5, **rng.choice(WINDOWS)}
    makers: list[Callable[[], Sample]] = [
        lambda: link(at_ns, peer, **{"loaded": loaded, **window}),
        lambda: link(at_ns, peer, **window),
        lambda: hop(at_ns, peer, min_ms=ms, p50_ms=ms * 1.2, loaded=loaded, phase=phase),
        lambda: uplink(at_ns, peer, mbps=10.0 if ms < 20 else 38.5, bound=loaded),
        lambda: bare_host(at_ns),
        lambda: compute(at_ns, ms_per_layer=ms),
        lambda: roofline(at_ns),
        lambda: event(at_ns, kind="left" if loaded else "note"),
        lambda: run(at_ns),
    ]
    return node, rng.choice([*makers[:4] * 4, *makers[4:]])()


def recorded(folder: str, history: list[tuple[str, Sample]]) -> Path:
    path = Path(folder) / "swarm.db"
    store = open_store(str(path))
    writer = store.writer(retain_ns=None)
    for number, node_id in enumerate((A, B, C, "d" * 16)):
        joined_ns = T0 if node_id[0] != "d" else T0 + 300 * NS_PER_S  # not in snapshots of before
        writer.upsert_node(node_id, f"node-{number}", facts=FACTS, seen_ns=joined_ns).result()
    for seq, node_id in enumerate(dict(history), 1):
        put(writer, *(sample for sender, sample in history if sender == node_id), node_id=node_id, seq=seq)
    store.close()
    return path


def same(one: Swarm, other: Swarm) -> None:
    for mine, theirs in ((one.nodes, other.nodes), (one.links, other.links)):
        for name, column in mine.items():
            np.testing.assert_array_equal(np.asarray(column[:]), np.asarray(theirs[name][:]), err_msg=name)
    # as texts: NaN is not equal to itself
    assert repr((one.facts, one.events, one.runs, one.running)) == repr(
        (other.facts, other.events, other.runs, other.running)
    )


@settings(max_examples=40, deadline=None)
@given(
    rng=st.randoms(use_true_random=True),
    size=st.integers(0, 80),
    at_s=st.integers(400, 700),
    looked_up=st.sampled_from((0, 2, 2_500)),
)
@example(rng=random.Random(621), size=43, at_s=525, looked_up=0)  # windows of both ends at the same moment
def test_links_by_columns_are_those_that_come_one_by_one(
    rng: random.Random, size: int, at_s: int, looked_up: int
) -> None:
    """`looked_up`: links whose earlier windows replace what was taken from the newest."""
    history = [drawn(rng) for _ in range(size)]
    at_ns = T0 + at_s * NS_PER_S
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "_MAX_EARLIER", looked_up)
        store = open_store(str(recorded(folder, history)), read_only=True)
        by_columns = swarm_at(store.reader, at_ns)
        patch.setattr(link_windows, "plain", lambda *_: set())
        one_by_one = swarm_at(store.reader, at_ns)
        store.close()
    same(by_columns, one_by_one)


def test_pairs_without_anything_odd_go_by_columns() -> None:
    row = {"path": "direct", "rtt_min_ms": 20.0, "rtt_p50_ms": 21.0, "loaded": 0}
    usual = (1, 2, T0, *(row.get(name) for name in link_windows.LINK.fields))
    slow = hop(T0 - NS_PER_S, B, min_ms=80.0)
    fast = hop(T0 - NS_PER_S, B, min_ms=21.0)
    links = {(A, B): usual, (B, A): usual, (A, C): usual}
    assert link_windows.plain(links, []) == set(links)
    assert link_windows.plain(links, [(A, fast)]) == set(links)
    assert link_windows.plain(links, [(A, fast), (A, fast)]) == {(A, C)}
    assert link_windows.plain(links, [(A, slow)]) == {(A, C)}
    disturbed = (1, 2, T0, *({**row, "loaded": 1}.get(name) for name in link_windows.LINK.fields))
    assert link_windows.plain({**links, (A, B): disturbed}, []) == {(A, C)}
