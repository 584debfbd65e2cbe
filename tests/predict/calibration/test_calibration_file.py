"""Calibration: a run narrows its own terms most, and everything else in proportion to how closely it is related."""

from __future__ import annotations

import dataclasses
import math

import msgspec
import numpy as np
import pytest
from boxes import even
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.calibration.calibration_file import Learnt, changes, decode, encode, learn, priors_of
from swarm_predict.calibration.fit import Calibration
from swarm_predict.calibration.fit import encode as encode_constants
from swarm_predict.calibration.fit_priors import fit
from swarm_predict.calibration.published import published
from swarm_predict.calibration.published_evidence import evidence_of, placement_of, workload_of
from swarm_predict.calibration.published_evidence import swarm_of as swarm_of_result
from swarm_predict.calibration.runs import ObservedRun, Refused, observation, observe
from swarm_predict.cost.engines import ENGINES
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.conditioning import condition, expected_ms
from swarm_predict.priors.posterior import Priors, fitted
from swarm_predict.types import PredictError, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm

pytestmark = pytest.mark.priors

LLAMA8, LLAMA70, R1 = (model_named(name) for name in ("llama-3.1-8b", "llama-3.1-70b", "deepseek-r1"))
LINK = '[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 0.3\nmbps = 940.0\n'


def node(name: str, device: str = "M3 Ultra", gbps: float = 819.0) -> str:
    return f'[[node]]\nname = "{name}"\ndevice = "{device}"\nvram_gib = 480.0\nmem_gbps = {gbps}\ntflops = 57.0\n'


STUDIO = parse_swarm(node("studio"))
PAIR = parse_swarm(node("a") + node("b") + LINK)


def run_of(swarm: Swarm, placement: str, tokens_per_s: float, model=LLAMA70, **load) -> ObservedRun:
    workload = Workload(**{"weights": "q4_k_m", "engine": "llama.cpp", **load})
    stages = parse_placement(placement, model, swarm, workload.engine)
    found = observe("run", tokens_per_s, swarm, model, stages, workload)
    assert isinstance(found, ObservedRun)
    return found


def after(*runs: ObservedRun) -> Priors:
    return priors_of([Learnt(tuple(runs))], fitted())


def width(priors: Priors | None, swarm: Swarm, placement: str, model=LLAMA70, **load) -> float:
    workload = Workload(**{"weights": "q4_k_m", "engine": "llama.cpp", "priors": priors, **load})
    speed = predict(swarm, model, parse_placement(placement, model, swarm, workload.engine), workload).tokens_per_s
    return math.log(speed.p95 / speed.p5)


# ---------------------------------------------------------------- how far a run carries


def test_a_run_narrows_its_own_question_most_and_others_less_the_farther_they_are():
    updated = after(run_of(STUDIO, "studio:0-79", 14.4))
    other = parse_swarm(node("rig", "RTX 3090", 936.0))

    def narrowed(swarm: Swarm, placement: str, model=LLAMA70, **load) -> float:
        return width(updated, swarm, placement, model, **load) / width(None, swarm, placement, model, **load)

    same = narrowed(STUDIO, "studio:0-79")
    context = narrowed(STUDIO, "studio:0-79", context=4096)
    fp16 = narrowed(STUDIO, "studio:0-79", weights="fp16")
    routed = narrowed(STUDIO, "studio:0-60", R1)
    class_mate = narrowed(parse_swarm(node("macbook", "M4 Pro", 273.0)), "macbook:0-79")
    another_engine = narrowed(STUDIO, "studio:0-79", engine="exo")
    another_class = narrowed(other, "rig:0-79")
    assert max(same, context) < 0.45 < 0.6 < routed < 0.95
    assert same < fp16 < class_mate < 1.0
    assert same < another_engine < 1.0
    assert another_class == pytest.approx(1.0, abs=0.06)


def test_a_dense_run_leaves_room_for_what_experts_do():
    """70B at 14.4 tokens/s on an M3 Ultra; DeepSeek-R1 ran at 20.2 there."""
    updated = after(run_of(STUDIO, "studio:0-79", 14.4))
    workload = Workload(weights="q4_k_m", engine="llama.cpp", priors=updated)
    speed = predict(STUDIO, R1, parse_placement("studio:0-60", R1, STUDIO), workload).tokens_per_s
    assert speed.p5 < 20.2 < speed.p95
    assert speed.p95 / speed.p5 > 1.4


def test_a_run_again_is_predicted_as_it_was_and_two_runs_narrow_more():
    one, two = after(run_of(STUDIO, "studio:0-79", 14.4)), after(*[run_of(STUDIO, "studio:0-79", 14.4)] * 2)
    workload = Workload(weights="q4_k_m", engine="llama.cpp", priors=one)
    placement = parse_placement("studio:0-79", LLAMA70, STUDIO)
    found = predict(STUDIO, LLAMA70, placement, workload)
    assert found.tokens_per_s.p50 == pytest.approx(14.4, rel=0.02)
    assert found.runs == 1
    assert any("calibrated with 1 run of llama-3.1-70b q4_k_m (llama.cpp)" in note for note in found.notes)
    assert width(two, STUDIO, "studio:0-79") < width(one, STUDIO, "studio:0-79") < 0.25


def test_what_one_run_took_longer_is_shared_out_and_not_put_on_the_hops():
    """Twice as slow as expected: computing, which takes most and is not known well, takes most of that."""
    run = run_of(PAIR, "a:0-39,b:40-79", 5.5)
    before, updated = fitted(), after(run)
    found = {change.what: change for change in changes(Learnt((run,)), before, updated)}
    missing = found["a token"].after.p50 - found["a token"].before.p50
    messages = found["messages"].after.p50 - found["messages"].before.p50
    assert missing > 50
    assert 0 < messages < 0.2 * missing
    assert found["compute of a"].after.p50 > found["compute of a"].before.p50


def test_paths_written_by_hand_and_measured_layers_move_little():
    layer = '[[node.layer]]\nms = 5.0\ndtype = "fp16"\nmodel = "llama-3.1-70b"\n'
    swarm = parse_swarm(node("a") + layer + node("b") + layer + LINK.replace("0.3", "20.0"))
    run = run_of(swarm, even("ab", 80), 2.0, weights="fp16", engine="petals")
    found = {change.what: change for change in changes(Learnt((run,)), fitted(), after(run))}
    assert found["compute of a"].after.p50 == pytest.approx(200.0, rel=0.15)
    assert found["messages"].after.p50 > 1.5 * found["messages"].before.p50


def test_tensor_parallel_gets_its_width_the_same_way():
    run = run_of(PAIR, "a:0-79,b:0-79", 15.0, engine="tensor-parallel")
    updated = after(run)
    assert any(part.what == "reduce" for part in run.parts)
    narrow, wide = (width(priors, PAIR, "a:0-79,b:0-79", engine="tensor-parallel") for priors in (updated, None))
    assert 0.1 < narrow < 0.45 * wide
    workload = Workload(weights="q4_k_m", engine="tensor-parallel", priors=updated)
    placement = parse_placement("a:0-79,b:0-79", LLAMA70, PAIR, "tensor-parallel")
    assert predict(PAIR, LLAMA70, placement, workload).tokens_per_s.p50 == pytest.approx(15.0, rel=0.07)


def test_another_device_under_the_same_name_is_another_machine():
    updated = after(run_of(STUDIO, "studio:0-79", 14.4))
    changed = parse_swarm(node("studio", "M2 Ultra", 800.0))
    assert width(updated, changed, "studio:0-79") > 1.5 * width(updated, STUDIO, "studio:0-79")


# ---------------------------------------------------------------- what is not believed


def test_what_physics_forbids_is_refused_with_the_reason():
    stages = parse_placement("studio:0-79", LLAMA70, STUDIO)
    load = Workload(weights="q4_k_m", engine="llama.cpp")
    found = observe("tuesday", 40.0, STUDIO, LLAMA70, stages, load)
    assert isinstance(found, Refused)
    assert found.why.startswith(
        "a token in 25 ms is impossible: reading llama-3.1-70b (q4_k_m) at the memory bandwidth of these machines takes"
    )
    with pytest.raises(PredictError, match="tuesday: a token in 25 ms is impossible"):
        learn([found], fitted())
    kept = learn([found, run_of(STUDIO, "studio:0-79", 14.4)], fitted())
    assert (len(kept.runs), len(kept.refused)) == (1, 1)
    far = parse_swarm(node("a") + node("b") + LINK.replace("0.3", "400.0"))
    found = observe("far", 4.0, far, LLAMA70, parse_placement("a:0-39,b:40-79", LLAMA70, far), load)
    assert isinstance(found, Refused)
    assert "and its paths 40" in found.why
    assert isinstance(observe("one", 14.0, STUDIO, LLAMA70, stages, load), ObservedRun)


def test_runs_of_the_same_that_differ_and_the_one_that_is_odd_are_named():
    def named(label: str, tokens_per_s: float) -> ObservedRun:
        return msgspec.structs.replace(run_of(STUDIO, "studio:0-79", tokens_per_s), label=label)

    said = learn([named("a", 14.4), named("b", 9.0)], fitted()).contradictions
    assert said == ("a and b ran the same thing but took 69 and 111 ms; something unmeasured changed between them",)
    assert learn([named("a", 14.4), named("b", 14.0)], fitted()).contradictions == ()
    odd = learn([named("a", 14.4), named("b", 14.0), named("c", 14.2), named("d", 10.0)], fitted()).contradictions
    assert all(" and d ran the same thing but took" in line for line in odd)


# ---------------------------------------------------------------- parts, and the file


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_parts_of_a_run_sum_to_what_is_predicted(engine):
    """Otherwise an effect would mean one thing in calibration and another in prediction."""
    model, load = LLAMA8, Workload(weights="q4_k_m", engine=engine)
    mixed = parse_swarm(
        node("a") + node("b") + '[[node.layer]]\nms = 0.2\ndtype = "q4_k_m"\nmodel = "llama-3.1-8b"\n'
        + node("c", "RTX 3090", 936.0) + LINK
    )  # fmt: skip
    facts = ENGINES[engine]
    shares = facts.pattern == "all-reduce"
    # the software of its rounds is wide, and the slowest of several wide draws lies above the draw of the slowest
    close = 0.1 if engine == "distributed-llama" else 0.05
    three = "abc" if 3 in facts.sizes_allowed(model, 3) or not shares else "bc"
    for swarm, names in ((PAIR, "ab"), (mixed, three)):
        text = ",".join(f"{name}:0-31" for name in names) if shares else even(names, 32)
        placement = parse_placement(text, model, swarm, engine)
        run = observe("r", 10.0, swarm, model, placement, load)
        assert isinstance(run, ObservedRun)
        median, deviation = expected_ms(fitted(), observation(run, fitted()))
        found = predict(swarm, model, placement, dataclasses.replace(load, draws=4000)).tpot_ms
        assert found.p50 == pytest.approx(median, rel=close)
        assert math.log(found.p95 / found.p5) == pytest.approx(2 * 1.645 * deviation, rel=0.3)


def test_conditioning_on_nothing_changes_nothing_and_order_does_not_matter():
    one, two = run_of(STUDIO, "studio:0-79", 14.4), run_of(STUDIO, "studio:0-31", 90.0, LLAMA8)
    seen = [observation(run, fitted()) for run in (one, two)]
    assert condition(fitted(), [], []) is fitted()
    ahead, behind = condition(fitted(), seen, ["", ""]), condition(fitted(), seen[::-1], ["", ""])
    back = [behind.names.index(name) for name in ahead.names]
    assert np.allclose(ahead.mean, behind.mean[back], atol=1e-4)
    assert np.allclose(ahead.covariance, behind.covariance[np.ix_(back, back)], atol=1e-4)
    assert np.linalg.eigvalsh(ahead.covariance).min() > -1e-9


def test_a_calibration_reads_back_as_it_was_written_and_one_of_constants_too():
    kept = learn([run_of(PAIR, "a:0-39,b:40-79", 6.0)], fitted())
    assert decode(encode(kept)) == kept
    constants = Calibration("petals", "m", "int8", hop_overhead_ms=12.0)
    assert decode(encode_constants(constants)) == constants


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_in_one_line(data):
    with pytest.raises(PredictError) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def test_a_file_whose_parts_name_no_machine_is_refused():
    data = encode(learn([run_of(STUDIO, "studio:0-79", 14.4)], fitted()))
    for wrong in (data.replace(b'"machine": 0', b'"machine": 7'), data.replace(b'"version": 2', b'"version": 3')):
        assert wrong != data
        with pytest.raises(PredictError):
            decode(wrong)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_other_results_of_a_system_after_one_run_of_it():
    """Every third system; `python -m bench priors --calibrated` prints all, after one and after two runs."""
    rows = [row for row in map(evidence_of, published()) if row.refused is None and row.result.metric == "decode"]
    by_system: dict[str, list] = {}
    for row in rows:
        by_system.setdefault(row.result.system, []).append(row.result)
    errors, inside = [], []
    for system, results in [entry for entry in by_system.items() if len(entry[1]) > 1][::3]:
        priors = fit([row for row in rows if row.result.system != system], fitted()).priors
        updated, *others = results
        load = dataclasses.replace(workload_of(updated), priors=priors)
        run = observe("r", updated.tokens_per_s, swarm_of_result(updated), updated.model, placement_of(updated), load)
        assert isinstance(run, ObservedRun)
        learnt = condition(priors, [observation(run, priors)], ["r"])
        for result in others:
            load = dataclasses.replace(workload_of(result), priors=learnt, draws=1000)
            found = predict(swarm_of_result(result), result.model, placement_of(result), load).tpot_ms
            errors.append(abs(result.measured_ms / found.p50 - 1))
            inside.append(found.p5 <= result.measured_ms <= found.p95)
    assert np.median(errors) <= 0.12
    assert np.mean(inside) >= 0.75  # of 42; of all together it is 90 %
