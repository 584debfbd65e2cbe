"""Suggestions that cost little: each one's gain is that of a prediction with it."""

from __future__ import annotations

import dataclasses

import pytest
from swarms import both, plain

from swarm_predict.advice.robust import more_robust
from swarm_predict.advice.sensitivity import Gain
from swarm_predict.advice.suggestions import better_batch, cheap_gains
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm

MODEL = model_named("llama-2-70b")
PLACEMENT = (Stage("n0", 0, 26), Stage("n1", 27, 53), Stage("n2", 54, 79))
INT8 = Workload(weights="int8", draws=200)


def helps(swarm: Swarm, load: Workload, placement: Placement = PLACEMENT) -> dict[tuple[str | None, str], Gain]:
    found = predict(swarm, MODEL, placement, load)
    return {(gain.node, gain.change): gain for gain in cheap_gains(swarm, MODEL, placement, load, found)}


def test_int8_activations_are_named_with_the_window_they_fit() -> None:
    """16 KB do not fit the first ten segments, 8 KB do; the gain is that of a prediction with them."""
    swarm = plain(count=3, rtt_ms=60.0, up_mbps=10)
    gain = helps(swarm, INT8)[None, "int8 activations, which fit the first window"]
    small = dataclasses.replace(INT8, activations="int8")
    with_fp16, with_int8 = (predict(swarm, MODEL, PLACEMENT, load).tpot_ms.p50 for load in (INT8, small))
    assert gain.gain_ms >= (with_fp16 - with_int8) * 0.9
    assert not any("int8 activations" in change for _, change in helps(swarm, small))


def test_a_window_that_falls_back_is_worth_a_setting_only_where_tokens_are_slow() -> None:
    slow = helps(plain(count=3, rtt_ms=150.0), INT8)
    assert (None, "tcp_slow_start_after_idle=0, where it is 1") in slow
    quick = helps(plain(count=3, rtt_ms=5.0, mem_gbps=3000), dataclasses.replace(INT8, weights="nf4"))
    assert (None, "tcp_slow_start_after_idle=0, where it is 1") not in quick


def test_a_far_client_is_told_a_better_place() -> None:
    swarm = plain(count=5, trouble=both("n4", 200.0))
    found = helps(swarm, dataclasses.replace(INT8, client="n4"))
    places = [node for node, change in found if change == "the client runs here"]
    assert len(places) == 1
    assert places[0] != "n4"


def test_a_jittery_line_is_worth_a_cable_at_that_node_most() -> None:
    swarm = plain(count=3, trouble=both("n1", 30.0, jitter_ms=150.0))
    wired = [node for node, change in helps(swarm, INT8) if change == "a steady (wired) connection"]
    assert wired[0] == "n1"


def test_a_larger_batch_is_offered_while_it_gives_more_in_total_and_fits() -> None:
    swarm = plain(count=3)
    found = better_batch(swarm, MODEL, PLACEMENT, INT8)
    now = predict(swarm, MODEL, PLACEMENT, INT8)
    assert found is not None
    assert found.batch in (2, 4, 8, 16, 32)
    assert found.total_tokens_per_s > 1.1 * now.throughput_tokens_per_s


def test_patterns_without_stages_have_no_such_gains() -> None:
    load = dataclasses.replace(INT8, engine="tensor-parallel")
    placement = tuple(Stage(f"n{k}", 0, 79) for k in range(4))
    found = predict(plain(count=4), MODEL, placement, load)
    assert cheap_gains(plain(count=4), MODEL, placement, load, found) == ()


@pytest.mark.parametrize("late_ms", [0.0, 400.0])
def test_a_steadier_neighbour_is_named_only_where_the_slow_tokens_gain(late_ms: float) -> None:
    """n2 is no slower than n3 at the median, but its packets are late now and then."""
    swarm = plain(count=4, trouble=both("n2", 30.0, jitter_ms=2.0 + late_ms))
    found = more_robust(swarm, MODEL, PLACEMENT, INT8)
    assert (found is not None) == bool(late_ms)
    if found is not None:
        assert "n2" not in {stage.node for stage in found.placement}
        assert found.tpot_ms.p95 < found.best_ms.p95 * 0.97
