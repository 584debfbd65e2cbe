"""Cards that are left out of groups, where the engine splits every layer among the cards of a machine."""

from __future__ import annotations

import numpy as np
import pytest

from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.search.fewer_cards import cuts, with_fewer_cards
from swarm_predict.search.solve import plan
from swarm_predict.types import Plan, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.named_nodes import swarm_of_nodes

pytestmark = pytest.mark.priors
MODEL = model_named("llama-3.3-70b")  # 64 heads
LOAD = Workload(weights="awq", engine="vllm")


def best(swarm: Swarm, load: Workload = LOAD) -> tuple[Swarm, Plan]:
    found, plan_ = with_fewer_cards(
        swarm, plan(swarm, MODEL, load), None, cuts(swarm, MODEL, load), lambda on: (plan(on, MODEL, load), None)
    )[:2]
    return found, plan_


def speed(count: int) -> float:
    """Return tokens a second on a machine with so many cards, all of them used."""
    swarm = swarm_of_nodes(f"a={count}x3090@Berlin lan")
    return predict(swarm, MODEL, parse_placement("a:0-79", MODEL, swarm, "vllm"), LOAD).tokens_per_s.p50


@pytest.mark.parametrize("count", [3, 5, 6, 7, 8])
def test_the_plan_is_as_fast_as_the_best_number_of_cards(count: int) -> None:
    """By brute force over how many of the cards are in the machine; fewer than two have no room."""
    swarm = swarm_of_nodes(f"a={count}x3090@Berlin lan")
    assert best(swarm)[1].prediction.tokens_per_s.p50 == pytest.approx(
        max(speed(n) for n in range(2, count + 1)), rel=0.03
    )


def test_what_is_left_out_is_said_and_the_swarm_stays_as_it_is() -> None:
    swarm = swarm_of_nodes("a=6x3090@Berlin lan")
    before = swarm.nodes["vram_bytes"].copy()
    used, found = best(swarm)
    assert used.facts[0].device == "4× GeForce RTX 3090"
    assert [each.why.partition(":")[0] for each in found.left_out] == ["2 of its 6 cards"]
    assert np.array_equal(swarm.nodes["vram_bytes"], before)
    assert used.nodes["vram_bytes"][0] == pytest.approx(before[0] * 4 / 6)


def test_all_cards_stay_where_fewer_have_no_room_or_take_turns() -> None:
    full = swarm_of_nodes("a=6x3090@Berlin lan")
    fp16 = Workload(weights="fp16", engine="vllm")  # 132 GiB
    assert best(full, fp16)[0] is full
    assert cuts(full, MODEL, Workload(weights="q4_k_m", engine="llama.cpp")) == []
