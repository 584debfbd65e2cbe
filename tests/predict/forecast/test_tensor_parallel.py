"""All-reduces by four algorithms, hybrids of tensor and pipeline parallel, and their first token."""

from __future__ import annotations

import pytest
from boxes import Box, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_predict.cost.all_reduce import READY_BYTES, messages
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import BadPlacement, PredictError, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm

LLAMA70 = model_named("llama-2-70b")
KINDS = ("doubling", "ring", "tree", "mesh", "gloo")
ACTIVATION = 16384.0
ALL = ",".join(f"{n}:0-79" for n in "abcd")
LAYERS = [("decode", 1, 128, 5.0), ("prefill", 1, 1000, 40.0)]


def swarm(*, mbps: float = 1e9, rtt_ms: float | dict[tuple[str, str], float] = 20.0, names: str = "abcd") -> Swarm:
    return swarm_of([Box(n, vram_gib=200, up_mbps=mbps, down_mbps=mbps, layers=LAYERS) for n in names], rtt_ms)


def ask(where: Swarm, text: str = ALL, engine: str = "tensor-parallel", **load: object) -> Prediction:
    placement = parse_placement(text, LLAMA70, where, engine)
    return predict(where, LLAMA70, placement, Workload(engine=engine, **load))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8])
def test_after_all_rounds_everybody_has_every_share(kind, count):
    """Followed piece by piece: a ring hands on an n-th at a time, first adding up, then spreading."""
    knows = [{k} for k in range(count)]
    plan = messages(kind, count, ACTIVATION)
    if kind == "gloo":  # a ring, of whose data each round is announced by who receives it
        ring = messages("ring", count, ACTIVATION)
        assert plan[1::2] == ring
        assert [[(dst, src) for src, dst, _ in here] for here in ring] == [
            [(src, dst) for src, dst, _ in here] for here in plan[::2]
        ]
        return
    if kind == "ring":
        for part in range(count):  # the piece that ends at node `part` after n−1 rounds of adding up
            held = {(part + 1) % count: {(part + 1) % count}}
            for r in range(len(plan) // 2):
                at = (part + 1 + r) % count
                held[(at + 1) % count] = held[at] | {(at + 1) % count}
            assert len(held.get(part, {part})) == count
        assert len(plan) == 2 * (count - 1)
        return
    for here in plan:
        heard = [set(k) for k in knows]
        for src, dst, _ in here:
            heard[dst] |= knows[src]
        knows = heard
    assert all(known == set(range(count)) for known in knows)


@pytest.mark.parametrize(
    ("kind", "rounds", "sent"),
    [("doubling", 2, 2.0), ("tree", 4, 2.0), ("ring", 6, 1.5), ("mesh", 1, 3.0), ("gloo", 12, 1.5)],
)
def test_rounds_and_bytes_of_four_nodes(kind, rounds, sent):
    """Over distance only rounds count, over a thin uplink only what the busiest node sends."""
    plan = messages(kind, 4, ACTIVATION)
    assert len(plan) == rounds
    assert ask(swarm(), all_reduce=kind).breakdown_ms.network == pytest.approx(160 * rounds * 10.0, rel=1e-4)
    thin = ask(swarm(mbps=50.0, rtt_ms=0.0), all_reduce=kind).breakdown_ms.network
    waits = {"tree": 4.0}.get(kind, sent)  # a tree waits for both ways of each level
    if kind == "gloo":  # six announcements
        waits += 6 * READY_BYTES / ACTIVATION
    assert thin == pytest.approx(160 * waits * ACTIVATION * 8 / 50e3)


def test_the_ring_pays_for_its_slowest_link_in_every_round():
    rtts = {(a, b): 200.0 if "d" in (a, b) else 10.0 for a in "abcd" for b in "abcd" if a != b}
    assert ask(swarm(rtt_ms=rtts), all_reduce="ring").breakdown_ms.network == pytest.approx(160 * 6 * 100.0, rel=1e-4)


# -- hybrid


def test_a_hybrid_meets_inside_its_groups_and_hops_between_them():
    """Two pairs with 40 layers each: a round of 10 ms twice a layer, and two hops, there and home."""
    found = ask(swarm(), "a:0-39,b:0-39,c:40-79,d:40-79", "hybrid")
    assert found.breakdown_ms.network == pytest.approx(2 * 40 * 2 * 10.0 + 2 * 10.0, rel=1e-4)
    assert found.breakdown_ms.compute == pytest.approx(2 * 40 * 5.0 / 2)
    assert [stage.layers for stage in found.stages] == [40, 40, 40, 40]


def test_pairs_that_are_near_make_a_hybrid_faster_than_either():
    """Two machines in each of two homes: all-reduces stay inside, only one hop a token crosses."""
    homes = {"a": 0, "b": 0, "c": 1, "d": 1}
    rtts = {(x, y): 0.2 if homes[x] == homes[y] else 40.0 for x in homes for y in homes if x != y}
    where = swarm(rtt_ms=rtts, mbps=1000.0)
    hybrid = ask(where, "a:0-39,b:0-39,c:40-79,d:40-79", "hybrid").tpot_ms.p50
    assert hybrid < ask(where).tpot_ms.p50 / 10
    assert hybrid < ask(where, "a:0-19,b:20-39,c:40-59,d:60-79", "ring").tpot_ms.p50


def test_groups_of_one_are_a_ring():
    where = swarm(mbps=80.0)
    text = "a:0-19,b:20-39,c:40-59,d:60-79"
    hybrid, ring = ask(where, text, "hybrid"), ask(where, text, "ring")
    assert hybrid.tpot_ms.p50 == pytest.approx(ring.tpot_ms.p50)
    assert hybrid.breakdown_ms.head == pytest.approx(ring.breakdown_ms.head)


def test_one_group_of_all_is_tensor_parallel():
    assert ask(swarm(mbps=80.0), ALL, "hybrid").tpot_ms == ask(swarm(mbps=80.0)).tpot_ms


def test_memory_of_a_group_is_shared_and_ends_lie_where_they_belong():
    found = ask(swarm(), "a:0-39,b:0-39,c:40-79,d:40-79", "hybrid")
    weights = LLAMA70.stage_bytes(0, 39, "fp16")
    assert found.stages[0].memory_bytes > weights / 2
    assert found.stages[0].memory_bytes < weights * 0.55
    where = swarm_of([Box(n, vram_gib=40, layers=LAYERS) for n in "abcd"], 20.0)
    assert ask(where, "a:0-39,b:0-39,c:40-79,d:40-79", "hybrid").fits
    assert not ask(where, "a:0-49,b:0-49,c:50-79,d:50-79", "hybrid").fits


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:0-39,b:0-39,c:30-79", "layers 30-39 are on both"),
        ("a:0-39,b:0-39", "layers 40-79 of llama-2-70b are on no node"),
        ("a:0-39,a:0-39,b:40-79", "a is there twice"),
    ],
)
def test_groups_overlap_nowhere_and_leave_nothing_out(text, line):
    with pytest.raises(BadPlacement, match=line):
        parse_placement(text, LLAMA70, swarm(), "hybrid")


# -- first token, throughput, limits


def test_the_first_token_pays_prompt_sized_all_reduces():
    """1000 tokens: 40 ms a layer over four, and 160 all-reduces of two rounds of 16 MB."""
    found = ask(swarm(mbps=1000.0, rtt_ms=0.0), prompt=1000)
    assert found.ttft_ms.p50 == pytest.approx(80 * 40.0 / 4 + 160 * 2 * 1000 * ACTIVATION * 8 / 1e6, rel=0.01)
    by_ring = ask(swarm(mbps=1000.0, rtt_ms=0.0), prompt=1000, all_reduce="ring")
    assert by_ring.ttft_ms.p50 < found.ttft_ms.p50


def test_a_first_token_without_prefill_times_is_not_known():
    where = swarm_of([Box(n, vram_gib=200) for n in "abcd"], 20.0)
    found = ask(where)
    assert found.ttft_ms.p50 != found.ttft_ms.p50
    assert any(note.startswith("first token not known") for note in found.notes)


def test_groups_work_on_several_requests_at_once():
    one, many = (ask(swarm(), "a:0-39,b:0-39,c:40-79,d:40-79", "hybrid", streams=s) for s in (1, 100))
    assert one.throughput_tokens_per_s == pytest.approx(1e3 / one.tpot_ms.mean)
    assert many.throughput_tokens_per_s == pytest.approx(1e3 / (40 * 5.0 / 2 + one.breakdown_ms.head))


def test_what_is_not_modelled_is_refused():
    with pytest.raises(PredictError, match="compared copies are not modelled for tensor-parallel"):
        ask(swarm(), redundancy=2)
    with pytest.raises(PredictError, match="offloading is not modelled for hybrid"):
        ask(swarm(), ALL, "hybrid", offload_gbps=10.0)


@settings(max_examples=30, deadline=None)
@given(
    rtt=st.floats(0, 100), more=st.floats(0.1, 100), mbps=st.floats(1, 1000), kind=st.sampled_from(KINDS),
    text=st.sampled_from([ALL, "a:0-39,b:0-39,c:40-79,d:40-79", "a:0-9,b:10-79,c:10-79,d:10-79"]),
)  # fmt: skip
def test_distance_never_helps_and_parts_add_up(rtt, more, mbps, kind, text):
    near, far = (ask(swarm(rtt_ms=ms, mbps=mbps), text, "hybrid", all_reduce=kind) for ms in (rtt, rtt + more))
    assert far.tpot_ms.p50 >= near.tpot_ms.p50
    parts = near.breakdown_ms
    assert parts.compute + parts.network + parts.overhead + parts.head == pytest.approx(near.tpot_ms.mean)
    assert near.tpot_ms.mean >= 80 * 5.0 / 4  # never faster than all four machines together
