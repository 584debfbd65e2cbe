"""Each kind of straggler is found, has the right cost, and is given the right cause."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from boxes import Box, swarm_of
from hypothesis import given
from hypothesis import strategies as st
from swarms import both, plain

from swarm_predict.advice.nodes.impact import impacts, mean_tables
from swarm_predict.advice.nodes.ranking import OVERTAKE_MS, OVERTAKE_SHARE, is_slow, rank
from swarm_predict.advice.nodes.token_share import parts_of_token
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.search.solve import plan
from swarm_predict.types import Engine, Impact, Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import State, Swarm

MODEL = model_named("llama-2-70b")
INT8 = Workload(weights="int8")  # 66 GiB: three of the plain nodes


def judged(swarm: Swarm, workload: Workload = INT8, running: Placement | None = None) -> dict[str, Impact]:
    """`running`: what runs; None: the best plan takes its place."""
    best = plan(swarm, MODEL, workload)
    now = predict(swarm, MODEL, running, workload) if running is not None else None
    return {impact.node: impact for impact in impacts(swarm, MODEL, workload, best, now)}


def rate(swarm: Swarm, running: Placement, workload: Workload = INT8) -> float:
    return predict(swarm, MODEL, running, workload).tokens_per_s.p50


def even(*names: str) -> Placement:
    """The layers in equal parts on these nodes."""
    part = -(-MODEL.layers // len(names))
    return tuple(Stage(n, i * part, min(MODEL.layers, (i + 1) * part) - 1) for i, n in enumerate(names))


STRAGGLERS = [
    ("rtt", {}, both("n2", 200.0)),
    ("jitter", {}, both("n2", 30.0, 240.0)),
    ("upload", {"up_mbps": 1.0}, ""),
    ("compute", {"mem_gbps": 150}, ""),
    ("overhead", {"overhead_ms": 80}, ""),
]


@pytest.mark.parametrize("count", [3, 5, 11])  # nobody to replace it, proven, and beyond what is proven
@pytest.mark.parametrize(("cause", "changes", "trouble"), STRAGGLERS)
def test_a_straggler_that_runs_ranks_first_with_its_cause_and_alone_is_slow(
    cause: str, changes: dict[str, float], trouble: str, count: int
) -> None:
    workload = Workload(weights="int8", engine="star") if cause == "upload" else INT8  # a chain can hide it at the end
    swarm, running = plain(count=count, trouble=trouble, **changes), even("n0", "n2", "n1")
    found = judged(swarm, workload, running)
    worst = rank(found.values())[0]
    assert (worst.node, worst.role, worst.cause) == ("n2", "in", cause)
    now = rate(swarm, running, workload)
    assert [node for node, each in found.items() if is_slow(each, now)] == ["n2"]
    assert worst.typical_tokens_per_s is not None
    assert worst.typical_tokens_per_s > 1.05 * now


def test_a_node_that_is_as_good_as_typical_has_its_largest_part_as_cause() -> None:
    """`79% of a token, mostly rtt` was said of a node that computes: its round trips were µs above typical."""
    found = judged(plain(count=3, rtt_ms=1.0, trouble=both("n2", 1.01)), INT8, even("n0", "n2", "n1"))["n2"]
    assert list(found.cause_ms) == ["rtt"]
    assert found.cause == "compute"


@pytest.mark.parametrize(("cause", "changes", "trouble"), STRAGGLERS)
def test_a_straggler_that_does_not_run_is_a_spare_and_never_slow(
    cause: str, changes: dict[str, float], trouble: str
) -> None:
    running = even("n0", "n1", "n3")
    found = judged(plain(count=5, trouble=trouble, **changes), INT8, running)
    assert found["n2"].role == "spare"
    assert [i.role for i in rank(found.values())] == ["in"] * 3 + ["spare"] * 2
    assert not any(is_slow(each, rate(plain(count=5), running)) for each in found.values())
    assert rank(found.values())[-1].node == "n2"  # the other one is the better stand-by
    assert found["n4"].stand_by_for in ("n0", "n1", "n3")


def test_a_bad_arrangement_is_nobodys_fault() -> None:
    """Four equal machines where three would do: planning again wins, and it does so with any of them kept as it is."""
    swarm = plain(count=6)
    running = even("n0", "n1", "n2", "n3", "n4", "n5")
    found = judged(swarm, INT8, running)
    now = rate(swarm, running)
    assert plan(swarm, MODEL, INT8).prediction.tokens_per_s.p50 > 1.3 * now
    assert not any(is_slow(each, now) for each in found.values())


def test_two_stragglers_are_both_found_although_they_are_each_others_peers() -> None:
    trouble = both("n2", 200.0) + "\n" + both("n3", 200.0)
    swarm, running = plain(count=7, trouble=trouble), even("n0", "n2", "n3", "n1")
    found = judged(swarm, INT8, running)
    now = rate(swarm, running)
    assert {node for node, each in found.items() if is_slow(each, now)} == {"n2", "n3"}


def test_what_the_swarm_gives_without_a_node_is_what_the_planner_says_without_it() -> None:
    swarm = plain(count=5, trouble=both("n2", 200.0))
    for running in (None, even("n0", "n2", "n1")):
        for node, each in judged(swarm, INT8, running).items():
            if each.role == "in":
                without = plan(swarm, MODEL, INT8, forbid=[node]).prediction.tokens_per_s.p50
                assert each.without_tokens_per_s == pytest.approx(without)


def test_a_straggler_the_swarm_cannot_do_without_has_no_plan_without_it_and_is_still_first() -> None:
    """Three nodes hold the model only together: the comparison is with a typical machine in its place."""
    found = judged(plain(count=3, trouble=both("n2", 300.0)))
    worst = rank(found.values())[0]
    assert (worst.node, worst.cause, worst.role) == ("n2", "rtt", "in")
    assert (worst.gain_ms, worst.without_tokens_per_s) == (None, None)
    assert worst.win_ms == pytest.approx(270.0, rel=0.05)  # two ways of 150 ms instead of 15


def test_memory_is_blamed_where_a_small_node_makes_the_chain_longer() -> None:
    found = judged(plain(count=5, vram_gib=8))
    assert found["n2"].cause == "memory"


def test_equal_nodes_win_the_swarm_nothing_and_none_is_slow() -> None:
    found = judged(plain(count=5))
    inside = [impact for impact in found.values() if impact.role == "in"]
    assert [impact.win_ms for impact in inside] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert all(impact.cause_ms == {} for impact in inside)


@pytest.mark.parametrize("engine", ["chain", "star", "ring", "petals", "llama.cpp", "exo", "prima.cpp"])
@pytest.mark.parametrize("client", [None, "n4", "n0"])
def test_the_shares_of_a_token_add_up_to_the_token(engine: Engine, client: str | None) -> None:
    workload = Workload(weights="int8", engine=engine, client=client, hop_overhead_ms=2.0)
    swarm = plain(count=5, trouble=both("n2", 90.0), overhead_ms=3)
    running = even("n0", "n2", "n1")
    tables, parts = mean_tables(swarm, MODEL, workload)
    order, layers = [0, 2, 1], [stage.layers for stage in running]
    shares = parts_of_token(tables, parts, order, layers)
    total = sum(sum(each.values()) for each in shares.values())
    assert total + tables.client_head_ms == pytest.approx(tables.price(order, layers))


def test_a_node_of_the_placement_that_does_not_answer_is_never_planned_with() -> None:
    swarm, running = plain(count=5), even("n0", "n2", "n1")
    best = plan(plain(count=5), MODEL, INT8, forbid=["n2"])
    now = predict(swarm, MODEL, running, INT8)
    found = {i.node: i for i in impacts(swarm, MODEL, INT8, best, now, gone=["n2"])}
    assert found["n2"].role == "in"
    assert (found["n2"].win_ms, found["n2"].without_tokens_per_s) == (None, best.prediction.tokens_per_s.p50)
    assert found["n3"].stand_by_for == "n2"


def test_a_node_that_can_only_be_the_client_has_no_figures() -> None:
    swarm = plain(count=5)
    swarm.nodes["vram_bytes"][4] = float("nan")
    assert judged(swarm)["n4"] == Impact("n4", "out", None, None, None, {})


def impact(node: str, win_ms: float | None) -> Impact:
    return Impact(node, "in", None, None, None, {}, win_ms=win_ms)


def test_noise_does_not_reshuffle_the_ranking_and_real_changes_do() -> None:
    before = [impact("a", 10.0), impact("b", 9.9), impact("c", 1.0), impact("d", None)]
    names = [i.node for i in rank(before)]
    assert names == ["a", "b", "c", "d"]
    noise = [impact("a", 9.9), impact("b", 10.0 + OVERTAKE_MS - 0.2), impact("c", 1.2), impact("d", None)]
    assert [i.node for i in rank(noise, names)] == names
    assert [i.node for i in rank(noise)] == ["b", "a", "c", "d"]
    change = [impact("a", 9.9), impact("b", 10.0), impact("c", 30.0), impact("d", None)]
    assert [i.node for i in rank(change, names)] == ["c", "a", "b", "d"]


@given(costs=st.lists(st.floats(0, 1000), min_size=1, max_size=12), data=st.data())
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
    assert {found[name].role for name in ("home-1", "home-2")} == {"in"}
    for name in ("away-1", "away-2"):
        assert (found[name].role, found[name].cause) == ("spare", "rtt")
        assert found[name].cost_ms == pytest.approx(50.0, rel=0.05)  # 60 there and back instead of 10
    running = (Stage("home-1", 0, 39), Stage("away-1", 40, 79))
    found = judged(swarm, INT8, running)
    now = rate(swarm, running)
    assert [node for node, each in found.items() if is_slow(each, now)] == ["away-1"]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("unknown", [[2, 3], [1, 2, 3], [0, 1, 2, 3, 4]])
def test_rates_that_nobody_has_measured_are_not_compared(unknown: list[int]) -> None:
    """In a live swarm's first minute: the delivery between two of them is infinite, which less itself is nothing."""
    swarm = dataclasses.replace(plain(count=5), at_ns=10)
    swarm.nodes["state"][:] = State.OK
    for column in ("up_mbps", "down_mbps"):
        swarm.nodes[column][unknown] = np.nan
    tables, parts = mean_tables(swarm, MODEL, INT8)
    assert np.isinf(tables.hop_ms[2, 3])
    assert np.isnan(parts.upload_ms[2, 3])
    if len(unknown) < 5:
        found = judged(swarm)
        assert all(np.isfinite(ms) for impact in found.values() for ms in impact.cause_ms.values())
