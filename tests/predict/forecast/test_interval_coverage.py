"""The p5–p95 interval must hold what happens: a simulated internet is measured as a probe would, predicted, and run.

The truth is drawn by its own few lines here: each direction of each path has its own delay variation, of shapes that
the predictor does not assume; layers vary from step to step. Nine tokens in ten should fall inside, half of them below
the median (a little less or more where the shape between the measured quantiles is another than assumed).
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from boxes import Box, even, swarm_of

from swarm_predict.cost.network.delivery_times import links
from swarm_predict.forecast.access_links import access_share, late_together
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Floats, Kind, State, Swarm

MODEL = model_named("llama-3.1-8b")
NAMES = ["a", "b", "c", "d"]
PINGS, TOKENS, LAYER_MS = 400, 4000, 3.0
SERIAL_MS = MODEL.hop_bytes(1, "fp16") * 8 / 100e3


def excess(shape: str, scale_ms: float, size: int, rng: np.random.Generator) -> Floats:
    """Queueing of one direction."""
    if shape == "exponential":
        return rng.exponential(scale_ms, size)
    if shape == "lognormal":
        return scale_ms * rng.lognormal(-0.5, 1.0, size)
    return scale_ms * 2 * rng.random(size)  # uniform


def measured(shape: str, rng: np.random.Generator) -> tuple[Swarm, dict[tuple[int, int], tuple[float, float]]]:
    """A swarm as it looks after PINGS round trips on every pair, and the truth: (one way, scale) of each direction."""
    truth = {
        pair: (float(rng.uniform(10, 60)), float(rng.uniform(1, 10))) for pair in itertools.permutations(range(4), 2)
    }
    swarm = swarm_of([Box(name, layers=[("decode", 1, 128, LAYER_MS)]) for name in NAMES], 0.0)
    noisy = dataclasses.replace(swarm.facts[0].layers[0], ms_p95=LAYER_MS * 1.1, n=50)
    swarm.facts = tuple(dataclasses.replace(facts, layers=(noisy,)) for facts in swarm.facts)
    for (i, j), (oneway, scale) in truth.items():
        there = excess(shape, scale, PINGS, rng)
        back = excess(shape, truth[j, i][1], PINGS, rng)
        rtt = oneway + truth[j, i][0] + there + back
        columns = dict(zip(("min", "p50", "p95", "p99"), np.quantile(rtt, (0, 0.5, 0.95, 0.99)), strict=True))
        for name, value in columns.items():
            swarm.links[f"rtt_{name}_ms"][i, j] = value
        swarm.links["oneway_ms"][i, j] = oneway  # as the clocks of all pairs together told it
    swarm.nodes["state"][:], swarm.links["kind"][:], swarm.at_ns = State.OK, Kind.MEASURED, 10**18
    swarm.links["sent"][:], swarm.links["at_ns"][:] = PINGS, swarm.at_ns
    return swarm, truth


@pytest.mark.parametrize("engine", ["chain", "star"])
@pytest.mark.parametrize("shape", ["exponential", "lognormal", "uniform"])
def test_nine_tokens_in_ten_fall_inside(shape, engine):
    rng = np.random.default_rng(7)
    inside, below = [], []
    for _ in range(12):
        swarm, truth = measured(shape, rng)
        placement = parse_placement(even(NAMES, MODEL.layers), MODEL, swarm)
        found = predict(swarm, MODEL, placement, Workload(engine=engine))  # type: ignore[arg-type]
        chain = [(0, 1), (1, 2), (2, 3)]
        star = [(0, 1), (1, 0), (0, 2), (2, 0), (0, 3)]
        trips = [*(chain if engine == "chain" else star), (3, 0)]
        ran = np.full(TOKENS, found.breakdown_ms.head)
        for k, (i, j) in enumerate(trips):
            heavy = engine == "star" or k < len(trips) - 1
            ran += truth[i, j][0] + excess(shape, truth[i, j][1], TOKENS, rng) + (SERIAL_MS if heavy else 0.0)
        for stage in placement:
            ran += stage.layers * LAYER_MS * np.exp(0.058 * rng.standard_normal(TOKENS))
        inside.append(np.mean((ran >= found.tpot_ms.p5) & (ran <= found.tpot_ms.p95)))
        below.append(np.mean(ran < found.tpot_ms.p50))
    assert 0.85 <= float(np.mean(inside)) <= 0.95
    assert 0.35 <= float(np.mean(below)) <= 0.65


def at_the_client(scale_ms: float, rng: np.random.Generator) -> tuple[Swarm, Floats]:
    """A star whose delay varies only at the client's access link: a step finds one queue there, for every message."""
    swarm = swarm_of([Box(name, layers=[("decode", 1, 128, LAYER_MS)]) for name in NAMES], 0.0)
    for i, j in itertools.permutations(range(4), 2):
        queue = excess("exponential", scale_ms, 2 * PINGS, rng) if 0 in (i, j) else np.zeros(2 * PINGS)
        rtt = 40.0 + queue[:PINGS] + queue[PINGS:]
        for name, value in zip(("min", "p50", "p95", "p99"), np.quantile(rtt, (0, 0.5, 0.95, 0.99)), strict=True):
            swarm.links[f"rtt_{name}_ms"][i, j] = value
    swarm.nodes["state"][:], swarm.links["kind"][:], swarm.at_ns = State.OK, Kind.MEASURED, 10**18
    swarm.links["sent"][:], swarm.links["at_ns"][:] = PINGS, swarm.at_ns
    return swarm, excess("exponential", scale_ms, TOKENS, rng)


def test_messages_that_queue_at_one_access_link_are_late_together():
    """Six messages of a step through one queue; drawn one by one, the interval would hold less than half of tokens."""
    rng = np.random.default_rng(11)
    inside = []
    for _ in range(12):
        swarm, queue = at_the_client(float(rng.uniform(2, 10)), rng)
        placement = parse_placement(even(NAMES, MODEL.layers), MODEL, swarm)
        found = predict(swarm, MODEL, placement, Workload(engine="star"))
        ran = 6 * (20.0 + queue) + 6 * SERIAL_MS + MODEL.layers * LAYER_MS + found.breakdown_ms.head
        inside.append(np.mean((ran >= found.tpot_ms.p5) & (ran <= found.tpot_ms.p95)))
    assert 0.82 <= float(np.mean(inside)) <= 0.95


@pytest.mark.parametrize("part", [0.0, 0.4, 1.0])
def test_what_is_shared_changes_no_message_by_itself(part):
    share = np.full((5, 5), part)
    uniform = late_together(share, [(0, 1), (2, 0), (0, 3)], np.random.default_rng(3), 40_000)
    for column in uniform.T:
        assert np.quantile(column, [0.05, 0.5, 0.95]) == pytest.approx([0.05, 0.5, 0.95], abs=0.01)
    assert np.corrcoef(uniform.T)[0, 1] == pytest.approx(part, abs=0.02)


def test_messages_of_a_chain_share_nothing():
    uniform = late_together(np.ones((4, 4)), [(0, 1), (1, 2), (2, 3)], np.random.default_rng(3), 40_000)
    assert abs(np.corrcoef(uniform.T)[0, 2]) < 0.02


def test_shares_are_found_where_access_links_vary_and_not_where_paths_do():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(20):
        swarm, _ = at_the_client(5.0, rng)
        found.append(access_share(links(swarm, range(4)))[0, 1])
    assert np.median(found) > 0.8
    found = []
    for _ in range(20):
        swarm, _ = measured("exponential", rng)
        found.append(access_share(links(swarm, range(4)))[0, 1])
    assert np.median(found) < 0.3


def test_three_nodes_or_equal_paths_tell_nothing():
    swarm, _ = at_the_client(5.0, np.random.default_rng(5))
    assert not access_share(links(swarm, range(3))).any()
    alike = swarm_of([Box(name) for name in NAMES], 20.0, jitter_ms=10.0)
    assert not access_share(links(alike, range(4))).any()
