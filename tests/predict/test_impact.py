"""Each kind of straggler is found, costs what it must, and is blamed for the right thing."""

from __future__ import annotations

import random

import pytest
from boxes import Box, swarm_of
from hypothesis import given
from hypothesis import strategies as st
from swarms import both, plain

from swarm_predict.advice.impact import OVERTAKE_MS, OVERTAKE_SHARE, impacts, rank
from swarm_predict.model.catalogue import model_named
from swarm_predict.search.solve import plan
from swarm_predict.types import Impact, Workload
from swarm_protocol.snapshot.swarm import Swarm

MODEL = model_named("llama-2-70b")
INT8 = Workload(weights="int8")  # 66 GiB: three of the plain nodes


def judged(swarm: Swarm, workload: Workload = INT8) -> dict[str, Impact]:
    return {impact.node: impact for impact in impacts(swarm, MODEL, workload, plan(swarm, MODEL, workload))}


@pytest.mark.parametrize("count", [5, 11])  # proven, and beyond what is proven
@pytest.mark.parametrize(
    ("cause", "changes", "trouble"),
    [
        ("rtt", {}, both("n2", 200.0)),
        ("jitter", {}, both("n2", 30.0, 240.0)),
        ("upload", {"up_mbps": 1.0}, ""),
        ("compute", {"mem_gbps": 150}, ""),
        ("overhead", {"overhead_ms": 80}, ""),
    ],
)
def test_a_straggler_ranks_first_with_its_cause(
    cause: str, changes: dict[str, float], trouble: str, count: int
) -> None:
    workload = INT8 if cause != "upload" else Workload(weights="int8", engine="star")  # a chain can hide it at the end
    found = judged(plain(count=count, trouble=trouble, **changes), workload)
    worst = rank(found.values())[0]
    assert (worst.node, worst.cause) == ("n2", cause)
    assert worst.cost_ms is not None
    assert worst.cost_ms > 0
    assert worst.in_placement == (cause == "jitter")  # p50 decides the plan, and jitter is not in it


def test_a_straggler_the_swarm_cannot_do_without_still_has_a_cost() -> None:
    """Three nodes hold the model only together: the comparison is with a typical machine in its place."""
    found = judged(plain(count=3, trouble=both("n2", 300.0)))
    worst = rank(found.values())[0]
    assert (worst.node, worst.cause, worst.in_placement, worst.gain_ms) == ("n2", "rtt", True, None)
    assert worst.cost_ms == pytest.approx(270.0, rel=0.02)  # two ways of 150 ms instead of 15


def test_memory_is_blamed_where_a_small_node_makes_the_chain_longer() -> None:
    found = judged(plain(count=5, vram_gib=8))
    assert found["n2"].cause == "memory"


def test_equal_nodes_cost_nothing_above_each_other_and_have_no_cause() -> None:
    found = judged(plain(count=5))
    assert {impact.cause for impact in found.values()} == {None}
    inside = [impact.cost_ms for impact in found.values() if impact.in_placement]
    assert inside == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)


def test_leaving_out_a_node_of_the_present_plan_gains_what_replanning_finds() -> None:
    fine, slow = plain(count=5), plain(count=5, trouble=both("n2", 200.0))
    present = plan(fine, MODEL, INT8, require=["n2"])
    found = {impact.node: impact for impact in impacts(slow, MODEL, INT8, present)}
    assert found["n2"].in_placement
    assert found["n2"].gain_ms == pytest.approx(170.0, rel=0.02)


def test_a_node_that_can_only_be_the_client_has_no_figures() -> None:
    swarm = plain(count=5)
    swarm.nodes["vram_bytes"][4] = float("nan")
    assert judged(swarm)["n4"] == Impact("n4", False, None, None, None, {})


def impact(node: str, cost_ms: float | None) -> Impact:
    return Impact(node, False, cost_ms, None, None, {})


def test_noise_does_not_reshuffle_the_ranking_and_real_changes_do() -> None:
    before = [impact("a", 10.0), impact("b", 9.9), impact("c", 1.0), impact("d", None)]
    names = [i.node for i in rank(before)]
    assert names == ["a", "b", "c", "d"]
    noise = [impact("a", 9.9), impact("b", 10.0 + OVERTAKE_MS - 0.2), impact("c", 1.2), impact("d", None)]
    assert [i.node for i in rank(noise, names)] == names
    assert [i.node for i in rank(noise)] == ["b", "a", "c", "d"]
    change = [impact("a", 9.9), impact("b", 10.0), impact("c", 30.0), impact("d", None)]
    assert [i.node for i in rank(change, names)] == ["c", "a", "b", "d"]


@given(costs=st.lists(st.floats(-100, 1000), min_size=1, max_size=12), data=st.data())
def test_nobody_stands_below_one_that_costs_clearly_less(costs: list[float], data: st.DataObject) -> None:
    before = data.draw(st.permutations([str(i) for i in range(len(costs))]))
    order = [int(i.node) for i in rank([impact(str(i), cost) for i, cost in enumerate(costs)], before)]
    assert sorted(order) == list(range(len(costs)))
    for above, i in enumerate(order):
        for j in order[above + 1 :]:
            assert costs[j] <= costs[i] + max(OVERTAKE_MS, OVERTAKE_SHARE * abs(costs[i]))


@given(before=st.permutations([str(i) for i in range(12)]), noise=st.randoms())
def test_noise_within_the_margin_leaves_the_order_as_it_was(before: list[str], noise: random.Random) -> None:
    shaken = {node: (1000.0 - 40.0 * place) * (1 + noise.uniform(-0.01, 0.01)) for place, node in enumerate(before)}
    found = [impact(node, shaken[node]) for node in sorted(before)]
    assert [i.node for i in rank(found, before)] == before


def test_a_node_beyond_an_ocean_is_blamed_for_its_round_trips_although_its_neighbour_is_near() -> None:
    """Its best partner is nearer than the swarm's median pair; what it is compared with is the nearer pair at home."""
    nodes = ("home-1", "home-2", "away-1", "away-2")
    near = {("home-1", "home-2"): 10.0, ("away-1", "away-2"): 60.0}
    rtt_ms = {(a, b): near.get((a, b), near.get((b, a), 150.0)) for a in nodes for b in nodes if a != b}
    swarm = swarm_of([Box(name, vram_gib=40.0) for name in nodes], rtt_ms)  # two hold the 66 GiB
    found = judged(swarm)
    assert {found[name].in_placement for name in ("home-1", "home-2")} == {True}
    for name in ("away-1", "away-2"):
        assert found[name].cause == "rtt"
        assert found[name].cost_ms == pytest.approx(50.0, rel=0.05)  # 60 there and back instead of 10
