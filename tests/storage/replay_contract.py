"""What a moment of a recording shows, whatever database holds it: what the dashboard showed then."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from sample_fixtures import T0, A, B, C, bare_host, compute, event, hop, host, link, uplink
from store_contract import Maker, members, put

from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.samples import ComputeSample, LinkSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import Kind, State
from swarm_protocol.units import NS_PER_S
from swarm_storage.history.replay import swarm_at

NAMES = ((A, "ann"), (B, "ben"), (C, "cat"))
OUT_MS = {(A, B): 60.0, (B, C): 12.0, (A, C): 20.0}
BACK_MS = {(A, B): 40.0, (B, C): 8.0, (A, C): 30.0}


def the_swarm_of_a_moment_knows_what_came_before_and_nothing_after(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    members(writer)
    later = T0 + 400 * NS_PER_S
    put(writer, compute(T0), link(T0, rtt_p50_ms=1.0), host(T0 + 1), uplink(T0 + 2), link(later, rtt_p50_ms=2.0))
    put(writer, link(T0, peer=A, rtt_p50_ms=8.0), bare_host(T0 + 3), node_id=B)
    for at_ns, rtt in ((T0 + 10 * NS_PER_S, 1.0), (later - 1, 1.0), (later, 2.0)):
        swarm = swarm_at(store.reader, at_ns)
        a, b = swarm.index("ann"), swarm.index("ben")
        assert swarm.links["rtt_p50_ms"][a, b] == rtt
        assert swarm.links["rtt_p50_ms"][b, a] == 8.0
        assert swarm.nodes["up_mbps"][a] == swarm.nodes["down_mbps"][b] == 38.5
        assert swarm.nodes["vram_free_bytes"][a] == 20 << 30
        assert swarm.nodes["vram_bytes"][b] == 16 << 30
        assert [layer.ms for layer in swarm.facts[a].layers] == [1.9]
        assert swarm.at_ns == at_ns
    assert swarm_at(store.reader, T0 + 10 * NS_PER_S).nodes["state"].tolist() == [1, 1, 1]  # cat has just joined
    assert swarm_at(store.reader, later).nodes["state"].tolist() == [State.OK, State.LOST, State.LOST]
    assert len(swarm_at(store.reader, T0 - 1)) == 0
    store.close()


def a_hop_of_before_a_change_comes_back_with_the_round_trip_of_then(maker: Maker) -> None:
    """As the live collector had it: or the same moment would be predicted otherwise in replay."""
    turned = {"rtt_min_ms": 99.0, "rtt_p50_ms": 100.0, "rtt_p95_ms": 101.0, "rtt_p99_ms": 101.0, "lost": 0}
    quiet = {name: ms / 5 if name != "lost" else 0 for name, ms in turned.items()}
    samples = (
        link(T0, **quiet),
        hop(T0 + 3 * NS_PER_S, min_ms=22.0, p50_ms=22.5, p95_ms=23.0, p99_ms=23.0),
        link(T0 + 8 * NS_PER_S, **quiet),
        *(link(T0 + (16 + 8 * k) * NS_PER_S, **turned) for k in range(3)),
    )
    store = maker()
    writer = store.writer()
    members(writer)
    put(writer, *samples)
    live = named_nodes()
    for sample in samples:
        live.sample(A, sample)
    now_ns = T0 + 40 * NS_PER_S
    replayed, shown = swarm_at(store.reader, now_ns).links, live.snapshot(now_ns).links
    for name, ms in (("hop_rtt_ms", 20.0), ("rtt_p50_ms", 100.0), ("hop_p50_ms", 22.5)):
        assert replayed[name][0, 1] == shown[name][0, 1] == ms
    store.close()


def a_hop_of_before_a_slower_upload_comes_back_with_the_rate_of_then(maker: Maker) -> None:
    samples = (
        link(T0, rtt_p50_ms=20.0),
        uplink(T0 + 1, mbps=50.0),
        hop(T0 + 3 * NS_PER_S, min_ms=22.0, p50_ms=22.5),
        uplink(T0 + 200 * NS_PER_S, mbps=2.0),
        link(T0 + 400 * NS_PER_S, rtt_p50_ms=20.0),
    )
    store = maker()
    writer = store.writer()
    members(writer)
    put(writer, *samples)
    for at_s, mbps in ((100, 50.0), (500, 2.0)):
        shown = swarm_at(store.reader, T0 + at_s * NS_PER_S)
        assert (shown.nodes["up_mbps"][0], shown.links["hop_mbps"][0, 1]) == (mbps, 50.0)
    store.close()


def figures_older_than_the_window_are_not_shown_but_layer_times_are(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    members(writer)
    put(writer, link(T0), compute(T0))
    swarm = swarm_at(store.reader, T0 + 7200 * NS_PER_S)
    assert swarm.links["kind"][0, 1] == Kind.NONE
    assert len(swarm.facts[0].layers) == 1
    assert swarm_at(store.reader, T0 + 7200 * NS_PER_S, window_s=9000).links["kind"][0, 1] == Kind.MEASURED
    store.close()


def a_node_that_said_goodbye_has_left_until_it_is_heard_again(maker: Maker) -> None:
    store = maker()
    writer = store.writer()
    members(writer)
    put(writer, host(T0 + 1), event(T0 + 2, "left"), host(T0 + 9))
    assert swarm_at(store.reader, T0 + 5).nodes["state"][0] == State.LEFT
    assert swarm_at(store.reader, T0 + 9).nodes["state"][0] == State.OK
    store.close()


def layer_times_and_visits_come_back_as_they_were_shown(maker: Maker) -> None:
    """Visits of two sizes, one machine with two cards, and figures that others disturbed within the hour and after."""
    two = HostFacts(
        system="Linux", cpu="EPYC", cores=8, ram_bytes=64 << 30,
        gpus=(GpuFacts(name="RTX 3090", vram_bytes=24 << 30), GpuFacts(name="RTX 3060", vram_bytes=12 << 30)),
    )  # fmt: skip
    second = NS_PER_S

    def timed(at_ns: int, ms: float, **fields: object) -> ComputeSample:
        return compute(at_ns, ms_per_layer=ms, **{"marks": "", "stage_layers": None, **fields})

    samples = [
        (A, timed(T0, 1.9)),
        (A, timed(T0 + 1, 0.5, phase="visit", stage_layers=1)),
        (A, timed(T0 + 2, 1.5, phase="visit", stage_layers=6)),
        (A, timed(T0 + 3, 2.5, context=2048)),
        (A, timed(T0 + 600 * second, 4.0, marks="contended")),
        (A, timed(T0 + 3800 * second, 3.5, context=2048, marks="contended,loose")),
        (B, timed(T0, 1.0, device="RTX 3090")),
        (B, timed(T0 + 1, 4.0, device="RTX 3060")),
    ]
    store = maker()
    writer = store.writer()
    members(writer)
    writer.upsert_node(B, "ben", facts=two, seen_ns=T0).result(20.0)
    live = SwarmBuilder()
    for node_id, name in NAMES:
        live.node(node_id, name, two if node_id == B else None)
    for seq, (node_id, sample) in enumerate(samples, 1):
        put(writer, sample, node_id=node_id, seq=seq)
        live.sample(node_id, sample)
    now_ns = T0 + 3900 * second
    shown, replayed = live.snapshot(now_ns), swarm_at(store.reader, now_ns)
    a, b = (sorted((t.phase, t.context, t.stage_layers, t.ms) for t in shown.facts[row].layers) for row in (0, 1))
    assert a == [("decode", 128, 0, 1.9), ("decode", 2048, 0, 3.5), ("visit", 128, 1, 0.5), ("visit", 128, 6, 1.5)]
    assert b == [("decode", 128, 0, 2.0)]  # two thirds of the memory at 1 ms, one third at 4
    for row in (0, 1):
        assert {t.at_ns: t for t in replayed.facts[row].layers} == {t.at_ns: t for t in shown.facts[row].layers}
    for column, ms in (("overhead_ms", 0.3), ("visit_layer_ms", 0.2)):
        assert replayed.nodes[column][0] == shown.nodes[column][0] == pytest.approx(ms)
    store.close()


def windows(k: int, **fields: object) -> list[tuple[str, LinkSample]]:
    """The `k`th window of every pair: clocks that differ by seconds and drift, and round trips that vary a little."""
    at_ns = T0 + (10 + 8 * k) * NS_PER_S
    clock_ms = {A: 0.0, B: 4_000.0 + 0.3 * k, C: -900.0 - 0.1 * k}
    found = []
    for (src, dst), out_ms in OUT_MS.items():
        offset_ms, more_ms = clock_ms[dst] - clock_ms[src], 0.5 * ((7 * k) % 5)
        stamps = {
            "stamped_out_ms": out_ms + offset_ms + more_ms,
            "stamped_back_ms": BACK_MS[src, dst] - offset_ms,
        }
        found.append((src, link(at_ns, peer=dst, **{**stamps, **fields})))
    return found


def named_nodes() -> SwarmBuilder:
    """Return a live view of the three nodes, before any sample."""
    live = SwarmBuilder()
    for node_id, name in NAMES:
        live.node(node_id, name)
    return live


def pooled_losses_come_back_as_they_were_shown(maker: Maker) -> None:
    """A path that began to lose packets, and one that healed; the newest windows are loaded, or of no path."""
    store = maker()
    writer = store.writer()
    members(writer)
    live = named_nodes()
    rng = np.random.default_rng(7)
    recorded = []
    for k in range(40):
        for node_id, sample in windows(k):
            loss = 0.1 if (k < 20) == (C in (node_id, sample.peer)) else 0.0
            recorded.append((node_id, msgspec.structs.replace(sample, sent=16, lost=int(rng.binomial(16, loss)))))
    recorded += [*windows(40, loaded=True, lost=9), *windows(41, path="relayed", lost=9)]
    for seq, (node_id, sample) in enumerate(recorded, 1):
        put(writer, sample, node_id=node_id, seq=seq)
        live.sample(node_id, sample)
    now_ns = T0 + 350 * NS_PER_S
    shown, replayed = live.snapshot(now_ns).links, swarm_at(store.reader, now_ns).links
    assert shown["pooled_loss"][0, 1] == pytest.approx(0.1, abs=0.03)
    assert shown["pooled_loss"][0, 2] < 0.01
    for column in ("pooled_loss", "pooled_sent"):
        np.testing.assert_allclose(replayed[column], shown[column])
    store.close()


def one_way_delays_come_back_although_the_newest_windows_do_not_tell_them(maker: Maker) -> None:
    """A transfer loads the newest window, nothing of it was stamped, or all of it was lost."""
    store = maker()
    writer = store.writer()
    members(writer)
    live = named_nodes()
    recorded = [each for k in range(12) for each in windows(k)]
    recorded += [*windows(12, loaded=True), *windows(13, stamped_out_ms=None, stamped_back_ms=None)]
    recorded += windows(14, loaded=True, stamped_out_ms=None, stamped_back_ms=None)
    for seq, (node_id, sample) in enumerate(recorded, 1):
        put(writer, sample, node_id=node_id, seq=seq)
        live.sample(node_id, sample)
    now_ns = T0 + 140 * NS_PER_S
    shown, replayed = live.snapshot(now_ns).links, swarm_at(store.reader, now_ns).links
    assert np.isfinite(shown["oneway_ms"]).sum() == 2 * len(OUT_MS)
    for column in ("oneway_ms", "oneway_error_ms"):
        np.testing.assert_allclose(replayed[column], shown[column], atol=1e-6)
    store.close()


REPLAY_CHECKS: tuple[Callable[[Maker], None], ...] = (
    the_swarm_of_a_moment_knows_what_came_before_and_nothing_after,
    a_hop_of_before_a_change_comes_back_with_the_round_trip_of_then,
    a_hop_of_before_a_slower_upload_comes_back_with_the_rate_of_then,
    figures_older_than_the_window_are_not_shown_but_layer_times_are,
    a_node_that_said_goodbye_has_left_until_it_is_heard_again,
    pooled_losses_come_back_as_they_were_shown,
    one_way_delays_come_back_although_the_newest_windows_do_not_tell_them,
    layer_times_and_visits_come_back_as_they_were_shown,
)
