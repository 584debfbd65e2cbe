"""Many placements predicted at once give the same as each alone."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from boxes import Box, even, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_predict.cost.engines import ENGINES
from swarm_predict.forecast.candidates import AT_ONCE, distributions
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import BadPlacement, Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm

LLAMA70 = model_named("llama-2-70b")
NAMES = tuple("abcdef")

STAGED = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")


def random_swarm(seed: int, jitter_ms: float = 0.0) -> Swarm:
    rng = np.random.default_rng(seed)
    boxes = [
        Box(n, vram_gib=200, up_mbps=float(rng.uniform(5, 500)), overhead_ms=float(rng.uniform(0, 5)),
            layers=[("decode", 1, 128, float(rng.uniform(1, 10)))])
        for n in NAMES
    ]  # fmt: skip
    rtts = {pair: float(rng.uniform(1, 150)) for pair in itertools.permutations(NAMES, 2)}
    return swarm_of(boxes, rtts, jitter_ms=jitter_ms)


def candidates(seed: int, count: int) -> list[Placement]:
    rng = np.random.default_rng(seed)
    swarm = random_swarm(0)
    picked = [rng.permutation(NAMES)[: rng.integers(1, 6)] for _ in range(count)]
    return [parse_placement(even([str(n) for n in names], 80), LLAMA70, swarm) for names in picked]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    engine=st.sampled_from(STAGED),
    client=st.sampled_from([None, "a", "f"]),
    draft=st.sampled_from([0, 3]),
)
def test_without_variation_each_is_exactly_what_it_is_alone(seed, engine, client, draft):
    swarm, asked = random_swarm(seed), candidates(seed, 6)
    load = Workload(engine=engine, client=client, draft_tokens=draft, draft_accept=0.5, client_ms=2.0, proof_ms=0.1)
    for placement, found in zip(asked, distributions(swarm, LLAMA70, asked, load, draws=3), strict=True):
        alone = predict(swarm, LLAMA70, placement, load).tpot_ms
        assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(alone))


def test_connections_that_rest_for_a_step_start_slowly_here_too():
    """Four sequences of 70B are 64 kB a hop, far beyond the initial window, and a step here takes seconds."""
    by_hand, asked = random_swarm(5), candidates(5, 8)
    measured = dataclasses.replace(by_hand, at_ns=1)
    load = Workload(batch=4, draws=2000, compute_scale=4.0)
    described = distributions(by_hand, LLAMA70, asked, load, draws=2000)
    for placement, found, without in zip(
        asked, distributions(measured, LLAMA70, asked, load, 2000), described, strict=True
    ):
        alone = predict(measured, LLAMA70, placement, load).tpot_ms
        assert found.mean == pytest.approx(alone.mean, rel=0.02)  # what was measured is doubted, by draws of its own
        if len(placement) > 2:
            assert found.p50 > 1.05 * without.p50


def test_with_variation_intervals_agree_with_those_of_each_alone():
    swarm, asked = random_swarm(3, jitter_ms=25.0), candidates(3, 8)
    for placement, found in zip(asked, distributions(swarm, LLAMA70, asked, Workload(), draws=4000), strict=True):
        alone = predict(swarm, LLAMA70, placement, Workload(draws=4000)).tpot_ms
        assert found.mean == pytest.approx(alone.mean, rel=0.01)
        assert found.p95 == pytest.approx(alone.p95, rel=0.02)
        assert found.p5 == pytest.approx(alone.p5, rel=0.02)


def test_more_than_are_drawn_at_once_keep_their_order():
    swarm, asked = random_swarm(5), candidates(5, 2 * AT_ONCE + 7)
    found = distributions(swarm, LLAMA70, asked, Workload(), draws=2)
    for k in (0, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE + 6):
        assert found[k].p50 == pytest.approx(predict(swarm, LLAMA70, asked[k], Workload()).tpot_ms.p50)


def test_what_is_not_known_is_nan_and_leaves_the_others_alone():
    swarm, asked = random_swarm(7), candidates(7, 20)
    for name in ("rtt_min_ms", "rtt_p50_ms"):
        swarm.links[name][0, :] = swarm.links[name][:, 0] = np.nan
    for placement, found in zip(asked, distributions(swarm, LLAMA70, asked, Workload(), draws=2), strict=True):
        alone_at_a = [stage.node for stage in placement] == ["a"]
        has_a = any(stage.node == "a" for stage in placement)
        assert math.isnan(found.p50) == (has_a and not alone_at_a)


def test_a_placement_that_is_none_is_refused_and_nothing_asked_is_nothing():
    with pytest.raises(BadPlacement, match="layers 10-79 of llama-2-70b are on no node"):
        distributions(random_swarm(1), LLAMA70, [(Stage("a", 0, 9),)], Workload())
    assert distributions(random_swarm(1), LLAMA70, [], Workload()) == []
