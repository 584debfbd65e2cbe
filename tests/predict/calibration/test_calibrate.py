"""Calibration: constants come back from runs made with them, what runs cannot tell apart is not invented, and runs that
contradict each other are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.calibration.fit import Calibration, Observed, decode, encode, fit
from swarm_predict.types import PredictError

SHAPES = [(40.0, 100.0, 3), (90.0, 100.0, 7), (60.0, 220.0, 4), (10.0, 300.0, 2), (120.0, 60.0, 9)]


def run(
    k: int, *, hop: float = 0.0, compute: float = 1.0, client: float = 0.0, off: float = 1.0, label: str = ""
) -> Observed:
    fixed, busy, hops = SHAPES[k]
    took = (fixed + compute * busy + hop * hops + client) * off
    return Observed(label or f"run {k + 1}", took, fixed, busy, hops)


def made(runs: list[Observed], **more: object) -> Calibration:
    return fit(runs, "petals", "bloom-176b", "int8", **more)  # type: ignore[arg-type]


@given(hop=st.floats(0, 80), compute=st.floats(0.3, 5), client=st.floats(0, 60), count=st.integers(3, 5))
def test_constants_come_back_from_runs_that_were_made_with_them(hop, compute, client, count):
    found = made([run(k, hop=hop, compute=compute, client=client) for k in range(count)])
    assert found.fitted == ("hop", "compute", "client")
    assert found.hop_overhead_ms == pytest.approx(hop, abs=1e-6)
    assert found.compute_scale == pytest.approx(compute, rel=1e-6)
    assert found.client_ms == pytest.approx(client, abs=1e-5)
    assert found.error == (pytest.approx(0, abs=1e-6) if count > 3 else 0.05)  # three runs leave nothing over
    assert found.contradictions == ()


def test_one_run_fits_one_constant_and_explains_itself():
    found = made([run(0, hop=20.0)])
    assert (found.fitted, found.hop_overhead_ms, found.compute_scale) == (("hop",), pytest.approx(20.0), 1.0)
    assert found.runs[0].relative == pytest.approx(0)


def test_one_run_faster_than_predicted_means_faster_machines():
    found = made([run(0, compute=0.7)])
    assert (found.fitted, found.hop_overhead_ms) == (("compute",), 0.0)
    assert found.compute_scale == pytest.approx(0.7)


def test_two_runs_of_the_same_shape_fit_no_more_than_one():
    assert made([run(0, hop=10.0), run(0, hop=10.0)]).fitted == ("hop",)
    with pytest.raises(PredictError, match=r"2 runs cannot tell hop and compute apart; add runs with other placements"):
        made([run(0), run(0)], wanted=("hop", "compute"))


def test_no_constant_is_fitted_below_what_it_can_be():
    """The first run is slow, the second fast: a negative overhead would fit both exactly."""
    found = made([run(0, compute=2.0), run(1, compute=1.4)])
    assert found.hop_overhead_ms == 0.0
    assert 1.0 < found.compute_scale < 2.0
    assert found.error > 0.01


def test_the_run_that_disagrees_is_named():
    runs = [run(k, hop=12.0, compute=1.2) for k in range(5)]
    runs[2] = run(2, hop=12.0, compute=1.2, off=1.5, label="tuesday")
    found = made(runs, wanted=("hop", "compute"))
    assert found.contradictions == (
        "tuesday is 50% slower than the other runs imply; measure it again, or calibrate it separately",
    )


def test_the_same_placement_with_two_speeds_is_a_contradiction():
    found = made([run(0, hop=10.0, label="a"), run(0, hop=10.0, off=1.3, label="b")])
    assert found.contradictions[0].startswith("a and b ran the same thing but took 170 and 221 ms; ")


def test_faster_than_its_own_paths_is_reported():
    found = made([Observed("quick", 30.0, 40.0, 100.0, 3)])
    assert found.contradictions[0].startswith(
        "quick: a token in 30 ms is less than the 40 ms that its paths alone take"
    )


def test_runs_that_no_constants_explain_contradict_each_other():
    runs = [run(k, hop=10.0, off=off) for k, off in enumerate((1.0, 1.6, 0.7, 1.5, 0.8))]
    assert any("contradict each other" in line for line in made(runs).contradictions)


@given(noise=st.lists(st.floats(0.96, 1.04), min_size=5, max_size=5))
def test_runs_that_repeat_within_a_few_percent_are_no_contradiction(noise):
    found = made([run(k, hop=15.0, off=off) for k, off in enumerate(noise)], wanted=("hop",))
    assert found.contradictions == ()
    assert found.hop_overhead_ms == pytest.approx(15.0, abs=5.0)


def test_nothing_to_fit_is_one_line():
    with pytest.raises(PredictError, match="no run is given"):
        made([])
    found = made([Observed("lonely", 10.0, 0.0, 0.0, 0)])  # nothing but the client can have taken the time
    assert (found.fitted, found.client_ms) == (("client",), pytest.approx(10.0))


@given(
    st.builds(
        Calibration,
        engine=st.sampled_from(["chain", "petals"]),
        model=st.text(max_size=20),
        weights=st.just("fp16"),
        compute_scale=st.floats(0.01, 1000),
        hop_overhead_ms=st.floats(0, 600_000),
    )
)
def test_a_calibration_reads_back_as_it_was_written(found):
    assert decode(encode(found)) == found


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_in_one_line(data):
    with pytest.raises(PredictError) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def test_constants_out_of_range_and_other_versions_are_refused():
    good = encode(Calibration("petals", "m", "int8"))
    for wrong in (
        good.replace(b'"hop_overhead_ms": 0.0', b'"hop_overhead_ms": -1.0'),
        good.replace(b'"compute_scale": 1.0', b'"compute_scale": 0'),
        good.replace(b'"version": 1', b'"version": 2'),
        good.replace(b'"engine"', b'"motor"'),
    ):
        assert wrong != good
        with pytest.raises(PredictError):
            decode(wrong)
