"""A curve through layer times: exact if they are a sum of its terms, with its uncertainty elsewhere."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.cost.machine import timing_curve
from swarm_predict.cost.machine.layer_times import DOUBT_OUTSIDE, How, layer_columns
from swarm_predict.model.catalogue import model_named
from swarm_protocol.messages.samples import ComputeSample, RooflineSample
from swarm_protocol.snapshot.builder import SwarmBuilder
from swarm_protocol.snapshot.swarm import Swarm

MODEL = model_named("llama-3.1-8b")
GRID = [(b, c) for b in (1, 4, 16) for c in (128, 2048)]
NOW_NS = 10**18


@given(st.floats(0.01, 10), st.floats(0, 1), st.floats(0, 1), st.integers(1, 64), st.integers(1, 8192))
def test_a_sum_of_its_terms_is_found_again(fixed: float, each: float, cached: float, batch: int, tokens: int) -> None:
    def truth(b: int, c: int) -> float:
        return fixed + each * b + cached * b * c / 1024

    found = timing_curve.fit({(b, c): truth(b, c) for b, c in GRID}, timing_curve.terms_of(MODEL, "fp16", "decode"))
    assert found is not None
    assert found.ms(batch, tokens, tokens) == pytest.approx(truth(batch, tokens), rel=1e-6)
    assert found.residual == pytest.approx(0.0, abs=1e-6)


@given(st.lists(st.floats(0.01, 100), min_size=6, max_size=6))
def test_no_part_of_it_is_negative_whatever_was_measured(times: list[float]) -> None:
    found = timing_curve.fit(dict(zip(GRID, times, strict=True)), timing_curve.terms_of(MODEL, "fp16", "decode"))
    assert found is not None
    assert found.coefficients.min() >= 0
    assert found.ms(64, 100_000, 100_000.0) >= found.ms(1, 1, 1.0)


def test_as_many_points_as_coefficients_make_no_curve() -> None:
    three = {place: 1.0 + place[0] for place in GRID[:3]}
    assert timing_curve.fit(three, timing_curve.terms_of(MODEL, "fp16", "decode")) is None


def swarm_of(times: dict[tuple[int, int], float], phase: str = "decode", **fields: str) -> Swarm:
    builder = SwarmBuilder()
    node = "a" * 16
    builder.node(node, "ann", seen_ns=NOW_NS)
    builder.sample(node, RooflineSample(at_ns=NOW_NS, device="d", dtype="fp16", mem_gbps=1000.0, tflops=100.0))
    for (batch, context), ms in times.items():
        builder.sample(
            node,
            ComputeSample(
                at_ns=NOW_NS, device="d", model=MODEL.name, dtype="fp16", phase=phase, batch=batch, context=context,
                ms_per_layer=ms, ms_p95=ms, n=9, **fields,
            ),  # type: ignore[arg-type]
        )  # fmt: skip
    return builder.snapshot(NOW_NS)


def test_measured_points_are_taken_as_they_are_and_others_carry_the_residual_as_doubt() -> None:
    bent = {(1, 128): 1.0, (1, 2048): 1.2, (4, 128): 1.1, (4, 2048): 1.9, (16, 128): 2.6, (16, 2048): 5.0}
    swarm = swarm_of(bent)
    fitted = timing_curve.fit(bent, timing_curve.terms_of(MODEL, "fp16", "decode"))
    assert fitted is not None
    assert fitted.residual > 0.01
    at = layer_columns(swarm, [0], MODEL, "fp16", "decode", 4, 2048)
    assert (float(at.ms[0]), float(at.doubt[0]), at.how) == (1.9, 0.0, (How.MEASURED,))
    between = layer_columns(swarm, [0], MODEL, "fp16", "decode", 2, 1000)
    assert 1.0 < between.ms[0] < 1.9
    assert (float(between.doubt[0]), between.how) == (pytest.approx(fitted.residual), (How.MEASURED,))
    beyond = layer_columns(swarm, [0], MODEL, "fp16", "decode", 32, 8192)
    assert beyond.how == (How.OUTSIDE,)
    assert float(beyond.doubt[0]) == pytest.approx(math.hypot(fitted.residual, DOUBT_OUTSIDE))
    assert beyond.ms[0] > 5.0


def test_between_prompts_time_has_the_shape_of_the_roofline() -> None:
    """Short prompts take as long as their weights do, long ones as their operations: a line would be far off."""
    layer_bytes, layer_flops = MODEL.layer.params * 2, MODEL.layer.params * 2

    def truth(tokens: int) -> float:
        return max(layer_bytes / 1e9, tokens * layer_flops / 1e11)

    swarm = swarm_of({(1, t): truth(t) for t in (16, 2048)}, "prefill")
    for tokens in (32, 128, 512):
        found = layer_columns(swarm, [0], MODEL, "fp16", "prefill", 1, tokens).ms[0]
        assert float(found) == pytest.approx(truth(tokens), rel=0.15)


@pytest.mark.parametrize("marks", ["loose,scaled", "eager"])
def test_a_part_scaled_to_the_whole_and_kernels_launched_one_by_one_are_less_sure(marks: str) -> None:
    times = {(1, 128): 1.0}
    plain = layer_columns(swarm_of(times), [0], MODEL, "fp16", "decode", 1, 128)
    scaled = layer_columns(swarm_of(times, marks=marks), [0], MODEL, "fp16", "decode", 1, 128)
    assert float(scaled.doubt[0]) > float(plain.doubt[0])


def test_the_head_as_measured_goes_before_the_roofline() -> None:
    builder_swarm = swarm_of({(1, 128): 1.0})
    guessed = layer_columns(builder_swarm, [0], MODEL, "fp16", "decode", 1, 128).head_ms[0]
    head = {"model": MODEL.name, "dtype": "bf16", "batch": 1, "context": 0, "ms_p95": 3.0, "n": 9}
    builder = SwarmBuilder()
    builder.node("a" * 16, "ann", seen_ns=NOW_NS)
    for phase, ms in (("decode", 1.0), ("head", 3.0), ("embed", 0.25)):
        sample = ComputeSample(at_ns=NOW_NS, device="d", phase=phase, ms_per_layer=ms, **head)  # type: ignore[arg-type]
        builder.sample("a" * 16, sample)
    measured = layer_columns(builder.snapshot(NOW_NS), [0], MODEL, "fp16", "decode", 1, 128).head_ms[0]
    assert float(measured) == 3.25
    assert guessed != measured
