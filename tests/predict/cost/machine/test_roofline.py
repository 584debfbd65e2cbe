"""Layer times: measured ones exactly, between them linearly, outside them by the roofline, and never beyond physics."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from boxes import Box, swarm_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.cost.machine.layer_times import How, LayerColumns, layer_columns
from swarm_predict.cost.machine.roofline import Work, least_ms
from swarm_predict.model.catalogue import model_named
from swarm_protocol.layer_shape import Phase
from swarm_protocol.snapshot.swarm import State

LLAMA70 = model_named("llama-2-70b")
LAYER_GB = 1.711276032  # fp16


def layer(
    box: Box, *, model: str = "llama-2-70b", weights: str = "fp16", batch: int = 1, tokens: int = 128,
    phase: Phase = "decode",
) -> LayerColumns:  # fmt: skip
    return layer_columns(swarm_of([box]), [0], model_named(model), weights, phase, batch, tokens)


def test_roofline_is_the_slower_of_bytes_and_operations():
    assert least_ms(Work(1e9, 1e12), 1000.0, 10.0, "decode") == 100.0
    assert least_ms(Work(1e9, 1e9), 1000.0, 10.0, "decode") == 1.0
    assert least_ms(Work(1e9, 1e9), 1000.0, float("nan"), "decode") == 1.0


def test_roofline_needs_the_rate_that_decides():
    assert least_ms(Work(1e9, 1e12), float("nan"), 10.0, "decode") == np.inf
    assert least_ms(Work(1e9, 1e12), 1000.0, float("nan"), "prefill") == np.inf
    assert least_ms(Work(1e9, 1e12), float("nan"), 10.0, "prefill") == 100.0


def test_without_measurement_bandwidth_decides():
    found = layer(Box("t4", layers=(), mem_gbps=320.0, tflops=65.0))
    assert found.how == (How.ROOFLINE,)
    assert found.ms[0] == pytest.approx(LAYER_GB / 0.320, rel=1e-3)  # the KV cache of 128 tokens is 0.5 MB


def test_nothing_known_is_infinity_not_a_guess():
    found = layer(Box("t4", layers=()))
    assert found.how == (How.UNKNOWN,)
    assert found.ms[0] == np.inf
    assert layer(Box("t4", layers=(), tflops=65.0)).ms[0] == np.inf


def test_measured_points_are_used_as_they_are_even_beside_a_roofline():
    found = layer(Box("t4", layers=[("decode", 1, 128, 7.1)], mem_gbps=320.0))
    assert found.ms[0] == 7.1
    assert found.how == (How.MEASURED,)
    assert found.beats_roofline == (False,)


def test_a_measurement_that_beats_its_own_bandwidth_is_reported():
    assert layer(Box("t4", layers=[("decode", 1, 128, 1.0)], mem_gbps=320.0)).beats_roofline == (True,)


# ms a layer of Llama-2-70B by batch, from the Helix artifact (simulator/model_manager)
HELIX_T4 = [("decode", 2, 128, 7.1), ("decode", 20, 128, 9.0), ("decode", 100, 128, 11.7), ("decode", 300, 128, 31.0)]


def test_between_batches_time_is_linear():
    box = Box("t4", layers=HELIX_T4, model="llama-2-70b")
    assert layer(box, batch=20).ms[0] == 9.0
    assert layer(box, batch=60).ms[0] == pytest.approx((9.0 + 11.7) / 2)
    assert layer(box, batch=60).how == (How.MEASURED,)


def test_below_the_smallest_batch_the_nearest_is_scaled_by_the_roofline():
    found = layer(Box("t4", layers=HELIX_T4, model="llama-2-70b"), batch=1)
    assert found.how == (How.OUTSIDE,)
    assert found.ms[0] == pytest.approx(7.1, rel=0.01)
    assert found.ms[0] < 7.1


def test_between_contexts_time_is_linear_and_beyond_them_it_grows_by_the_cache():
    box = Box("x", layers=[("decode", 1, 0, 4.0), ("decode", 1, 1000, 6.0)])
    assert layer(box, tokens=250).ms[0] == 4.5
    beyond = layer(box, tokens=100_000)
    model = LLAMA70
    ratio = model.bytes_touched("fp16", 1, 100_000) / model.bytes_touched("fp16", 1, 1000)
    assert beyond.ms[0] == pytest.approx(6.0 * ratio)
    assert beyond.how == (How.OUTSIDE,)


def test_the_model_asked_for_wins_over_the_star_and_the_star_over_other_models():
    swarm = swarm_of([Box("x", layers=[("decode", 1, 128, 9.0)])])
    (star,) = swarm.facts[0].layers
    own = dataclasses.replace(star, model="llama-2-70b", ms=7.0)
    other = dataclasses.replace(star, model="llama-2-7b", ms=1.0)

    def ms(*times: object) -> float:
        swarm.facts = (dataclasses.replace(swarm.facts[0], layers=times),)
        return float(layer_columns(swarm, [0], LLAMA70, "fp16", "decode", 1, 128).ms[0])

    assert ms(other, star, own) == 7.0
    assert ms(other, star) == 9.0
    scaled = LLAMA70.bytes_touched("fp16", 1, 128) / model_named("llama-2-7b").bytes_touched("fp16", 1, 128)
    assert ms(other) == pytest.approx(scaled)


def test_layers_of_a_model_nobody_knows_are_not_used():
    assert layer(Box("x", model="secret-12b")).how == (How.UNKNOWN,)


def test_another_dtype_is_scaled_by_bytes():
    box = Box("x", layers=[("decode", 1, 128, 8.0)], model="llama-2-70b", dtype="float16")
    assert layer(box, weights="bf16").how == (How.MEASURED,)
    found = layer(box, weights="int8")
    assert found.how == (How.OTHER_DTYPE,)
    assert found.ms[0] == pytest.approx(4.0, rel=0.01)


def test_a_layer_without_dtype_means_whatever_weights_are_asked_for():
    box = Box("x", layers=[("decode", 1, 128, 8.0)], model="llama-2-70b")
    assert layer(box, weights="nf4").ms[0] == 8.0


def test_scaling_never_passes_what_memory_can_deliver():
    """8 ms in fp16 at 320 GB/s is fine; a quarter of that in nf4 would be too, but a lying 1 ms is stopped."""
    box = Box("x", layers=[("decode", 1, 128, 1.0)], model="llama-2-70b", dtype="fp16", mem_gbps=320.0)
    assert layer(box, weights="nf4").ms[0] >= LAYER_GB * 4.5 / 16 / 0.320


def test_prefill_comes_from_prefill_times_or_from_operations():
    box = Box("x", layers=[("prefill", 1, 1000, 59.0)], model="llama-2-70b", tflops=65.0)
    assert layer(box, phase="prefill", tokens=1000).ms[0] == 59.0
    bare = Box("x", layers=(), mem_gbps=320.0, tflops=65.0)
    assert layer(bare, phase="prefill", tokens=1000).ms[0] == pytest.approx(
        LLAMA70.prefill_flops(1, 1000) / 65e9, rel=1e-9
    )
    assert layer(Box("x", layers=(), mem_gbps=320.0), phase="prefill").ms[0] == np.inf


def test_live_figures_carry_doubt_and_hand_written_ones_none():
    swarm = swarm_of([Box("x", layers=[("decode", 1, 128, 8.0)])])
    assert layer_columns(swarm, [0], LLAMA70, "fp16", "decode", 4, 128).doubt[0] == 0
    swarm.nodes["state"][:] = State.OK
    swarm.at_ns = 10**18
    assert layer_columns(swarm, [0], LLAMA70, "fp16", "decode", 4, 128).doubt[0] > 0


@given(
    points=st.dictionaries(
        st.tuples(st.sampled_from([1, 2, 8, 64]), st.sampled_from([0, 128, 4096])), st.floats(0.1, 100), min_size=1
    ),
    batch=st.integers(1, 200),
    tokens=st.integers(0, 10_000),
    gbps=st.none() | st.floats(10, 5000),
)
def test_any_points_give_a_positive_time_that_a_slower_machine_lengthens(points, batch, tokens, gbps):
    def ms(scale: float) -> float:
        layers = [("decode", b, c, value * scale) for (b, c), value in points.items()]
        return float(layer(Box("x", layers=layers, mem_gbps=gbps), batch=batch, tokens=tokens).ms[0])

    once, twice = ms(1.0), ms(2.0)
    assert 0 < once < float("inf")
    assert twice >= once
