"""Unmeasured machines: published results give their distributions, and every measurement replaces them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources

import msgspec
import numpy as np
import pytest
from boxes import even

import swarm_predict.priors
from swarm_predict.calibration.fit_priors import fit
from swarm_predict.calibration.published import devices, published, read_table
from swarm_predict.calibration.published_evidence import Evidence, evidence_of, placement_of, swarm_of, workload_of
from swarm_predict.cost.build import build_costs
from swarm_predict.forecast.candidates import distributions
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.assumed_figures import assume
from swarm_predict.priors.engine_errors import measured
from swarm_predict.priors.factors import CLASSES, load_of, machine_of
from swarm_predict.priors.posterior import NEUTRAL, Fitted, fitted
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import NodeFacts
from swarm_protocol.swarm_files.swarm_file import parse_swarm

pytestmark = pytest.mark.priors

LLAMA8 = model_named("llama-3.1-8b")
LLAMA70 = model_named("llama-3.1-70b")
RESULTS = published()


def evidence() -> list[Evidence]:
    return [row for row in map(evidence_of, RESULTS) if row.refused is None]


def node(name: str, device: str = "RTX 3090", more: str = "", gbps: float = 936.0, vram: float = 24.0) -> str:
    lines = [
        "[[node]]", f'name = "{name}"', f'device = "{device}"', f"vram_gib = {vram}", f"mem_gbps = {gbps}",
        "tflops = 71.0",
    ]  # fmt: skip
    return "\n".join([*lines, more])


LINK = '[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 0.3\nmbps = 940.0\n'
LAYER = '[[node.layer]]\nms = 0.2\ndtype = "q4_k_m"\nmodel = "llama-3.1-8b"\n'


def ask(text: str, placement: str = "a:0-31", model=LLAMA8, **load) -> Prediction:
    swarm = parse_swarm(text)
    workload = Workload(**{"weights": "q4_k_m", "engine": "llama.cpp", **load})
    return predict(swarm, model, parse_placement(placement, model, swarm, workload.engine), workload)


# ---------------------------------------------------------------- the table, and what is stored of it


def test_every_result_names_its_source_and_licence():
    text = importlib.resources.files(swarm_predict.priors).joinpath("published.toml").read_text("utf-8")
    assert text.count("[[source]]") == text.count('\nlicence = "') == len({result.source for result in RESULTS})
    assert len(RESULTS) > 300
    assert len({result.system for result in RESULTS}) > 100


@pytest.mark.parametrize(("name", "device"), devices().items())
def test_a_device_of_the_table_is_classed_by_its_name_as_the_table_says(name, device):
    assert device.device_class in CLASSES
    assert machine_of(NodeFacts("n", "n", name)).device_class == device.device_class


def stored() -> Fitted:
    folder = importlib.resources.files(swarm_predict.priors)
    return msgspec.json.decode(folder.joinpath("fitted.json").read_bytes(), type=Fitted)


def test_stored_coefficients_are_of_this_table():
    """`python -m bench priors --fit` was run after the table changed."""
    text = importlib.resources.files(swarm_predict.priors).joinpath("published.toml").read_bytes()
    assert stored().table == hashlib.sha256(text).hexdigest()[:16]
    assert stored().results == len(evidence())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_fit_to_the_table_and_to_runs_of_engines_gives_the_stored_coefficients():
    from bench.predicting.priors import with_software

    again, kept = with_software(fit(evidence()).priors, measured().software), fitted()
    assert again.names == kept.names
    assert np.abs(again.mean - kept.mean).max() < 0.01
    assert np.abs(np.sqrt(np.diag(again.covariance)) - np.sqrt(np.diag(kept.covariance))).max() < 0.01
    assert again.left == pytest.approx(kept.left, abs=1e-3)


def test_what_physics_forbids_is_refused_by_name():
    refused = [row.refused for row in map(evidence_of, RESULTS) if row.refused]
    assert len(refused) == 1
    assert refused[0].startswith("3x M2 Ultra, 405B at 7.3 tok/s: llama-3.1-405b int4_g128 decode at 7.3 tok/s: 137 ms")
    other = read_table(
        """
        [[source]]
        name = "a claim"
        licence = "none"
        engine = "chain"
        [[source.system]]
        name = "one Pi"
        nodes = ["Raspberry Pi 5"]
        decode = { "llama-3.1-8b q4_0" = 9.0, "llama-3.1-8b q4_k_m" = 2.0 }
        """,
        devices(),
    )
    assert [evidence_of(result).refused is None for result in other] == [False, True]


@pytest.mark.parametrize("engine", ["llama.cpp", "exo", "petals", "vllm", "prima.cpp"])
def test_parts_of_a_published_result_are_what_the_tables_price(engine):
    """Otherwise coefficients would mean one thing in the fit and another in prediction."""
    priors = fitted()
    rows = [row for row in evidence() if row.result.engine == engine and row.result.metric == "decode"]
    for row in rows:
        parts = sum(part.times * np.exp(priors.log_median(part.effects)) for part in row.parts) + row.fixed_ms
        result, swarm, placement = row.result, swarm_of(row.result), placement_of(row.result)
        if result.host or result.layer_ms or result.engine != result.software or result.batch > 1:
            continue
        costs = build_costs(swarm, result.model, workload_of(result), [swarm.index(s.node) for s in placement])
        priced = costs.tables.price(list(range(len(placement))), [stage.layers for stage in placement])
        assert priced == pytest.approx(parts, rel=0.02), result.label


# ---------------------------------------------------------------- predictions


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_systems_that_were_left_out_are_predicted_within_their_intervals():
    """Every tenth system; `python -m bench priors` prints them all."""
    rows = evidence()
    systems = list(dict.fromkeys(row.result.system for row in rows))[::10]
    errors, inside = [], []
    for system in systems:
        priors = fit([row for row in rows if row.result.system != system], fitted()).priors
        for row in (row for row in rows if row.result.system == system):
            load = dataclasses.replace(workload_of(row.result), priors=priors, draws=1000)
            found = predict(swarm_of(row.result), row.result.model, placement_of(row.result), load)
            times = found.tpot_ms if row.result.metric == "decode" else found.ttft_ms
            errors.append(row.result.measured_ms / times.p50 - 1)
            inside.append(times.p5 <= row.result.measured_ms <= times.p95)
    assert np.median(np.abs(errors)) <= 0.20
    assert 0.80 <= np.mean(inside) <= 0.99
    assert 0.30 <= np.mean(np.array(errors) > 0) <= 0.70


def test_no_interval_of_unmeasured_machines_is_a_point():
    for device in ("RTX 3090", "M3 Ultra", "Raspberry Pi 5", "something new", ""):
        found = ask(node("a", device))
        assert found.tpot_ms.p5 < 0.95 * found.tpot_ms.p50 < 0.9 * found.tpot_ms.p95
        assert found.measured == 0.0
    shared = ask(node("a") + node("b") + LINK, "a:0-31,b:0-31", engine="tensor-parallel")
    assert shared.tpot_ms.p5 < 0.95 * shared.tpot_ms.p50


def test_a_hand_written_layer_time_is_a_measurement_with_a_little_width():
    assumed, measured = ask(node("a")), ask(node("a", more=LAYER))
    assert measured.breakdown_ms.compute == pytest.approx(32 * 0.2, rel=0.01)
    width = measured.tpot_ms.p95 / measured.tpot_ms.p5
    assert 1.02 < width < 1.2 < assumed.tpot_ms.p95 / assumed.tpot_ms.p5
    assert (assumed.measured, measured.measured) == (0.0, pytest.approx(1.0))


def test_one_measured_machine_of_two_measures_its_share_of_a_token():
    text = node("a", more=LAYER) + "\n" + node("b", gbps=400.0) + "\n" + LINK
    found = ask(text, "a:0-15,b:16-31")
    assert 0.1 < found.measured < 0.6
    assert any("published results of its kind" in note for note in found.notes)


def test_a_layer_time_without_a_format_is_doubted_and_said():
    stated, silent = (ask(node("a", more=LAYER.replace(*change))) for change in (("", ""), ('dtype = "q4_k_m"\n', "")))
    assert silent.tpot_ms.p95 / silent.tpot_ms.p5 > stated.tpot_ms.p95 / stated.tpot_ms.p5
    assert any("names no dtype" in note for note in silent.notes)


def test_a_visit_that_a_person_wrote_down_replaces_the_software_assumed():
    assumed = ask(node("a") + "\n" + node("b") + "\n" + LINK, "a:0-15,b:16-31")
    stated = [node(name, more="overhead_ms = 0.5\n") for name in "ab"]
    known = ask("".join(stated) + LINK, "a:0-15,b:16-31")
    assert assumed.breakdown_ms.overhead > 2.0
    assert known.breakdown_ms.overhead == pytest.approx(1.0)
    assert known.tpot_ms.p95 - known.tpot_ms.p5 < assumed.tpot_ms.p95 - assumed.tpot_ms.p5


def test_machines_of_a_class_vary_together_and_each_by_itself():
    swarm = parse_swarm(node("a") + "\n" + node("b") + "\n" + node("c", "Raspberry Pi 5", gbps=17.0))
    assumed = assume(swarm, [0, 1, 2], load_of(LLAMA8, "q4_k_m", "llama.cpp"), "decode", fitted())
    rates = np.log(assumed.sample(np.random.default_rng(1), 20_000).rate)
    alike, unlike = np.corrcoef(rates.T)[0, 1], np.corrcoef(rates.T)[0, 2]
    assert 0.2 < unlike < alike < 0.95


def test_a_machine_of_no_known_class_takes_the_population_with_wider_spread():
    known, unknown = ask(node("a", "RTX 4090", gbps=1008.0)), ask(node("a", "", gbps=1008.0))
    assert unknown.tpot_ms.p95 / unknown.tpot_ms.p5 > 1.15 * known.tpot_ms.p95 / known.tpot_ms.p5
    assert any("device of a is not named" in note for note in unknown.notes)


def test_a_seed_gives_the_same_answer_and_another_seed_nearly():
    one, again, other = (ask(node("a"), seed=seed) for seed in (3, 3, 4))
    assert one.tpot_ms == again.tpot_ms
    assert other.tpot_ms.p50 == pytest.approx(one.tpot_ms.p50, rel=0.01)
    assert other.tpot_ms.p95 == pytest.approx(one.tpot_ms.p95, rel=0.05)


def test_plan_and_prediction_price_the_same_median():
    text = node("a") + "\n" + node("b", "M2 Ultra", gbps=800.0, vram=150.0) + "\n" + LINK
    swarm = parse_swarm(text)
    for engine in ("llama.cpp", "chain", "exo"):
        load = Workload(weights="q4_k_m", engine=engine, draws=4000)
        placement = parse_placement("a:0-19,b:20-79", LLAMA70, swarm)
        tables = build_costs(swarm, LLAMA70, load, [0, 1]).tables
        found = predict(swarm, LLAMA70, placement, load)
        assert found.tpot_ms.p50 == pytest.approx(tables.price([0, 1], [20, 60]), rel=0.04)
        (many,) = distributions(swarm, LLAMA70, [placement], load, draws=4000)
        assert many.p50 == pytest.approx(found.tpot_ms.p50, rel=0.03)
        assert many.p95 == pytest.approx(found.tpot_ms.p95, rel=0.06)


def test_neutral_priors_are_the_data_sheet_as_exact():
    found = ask(node("a"), priors=NEUTRAL)
    assert found.tpot_ms.p5 == found.tpot_ms.p95
    layer_ms = LLAMA8.bytes_touched("q4_k_m", 1, 128) / 936e6
    assert found.breakdown_ms.compute == pytest.approx(32 * layer_ms)


SETUPS = [  # published tokens a second of machines as people write them down, without what their name does not say
    ("llama-3.1-70b", "q4_k_m", "llama.cpp", [("M3 Ultra", 819, 57, 480)], 14.4),
    ("deepseek-r1", "q4_k_m", "llama.cpp", [("M3 Ultra", 819, 57, 480)], 20.2),
    ("llama-3.2-3b", "q4_k_m", "llama.cpp", [("M3 Ultra", 819, 57, 480)], 171),
    ("llama-3.1-405b", "q4_k_m", "llama.cpp", [("M3 Ultra", 819, 57, 480)], 1.96),
    ("llama-3.1-70b", "q4_k_m", "llama.cpp", [("Radeon 8060S", 256, 59, 110)], 4.97),
    ("llama-3.1-405b", "q4_k_m", "llama.cpp", [("", 256, 59, 110)] * 4, 0.71),
    ("llama-3.1-8b", "q4_0", "tensor-parallel", [("Pi 5", 17, 0.08, 7)] * 2, 3.07),
    ("llama-3.1-8b", "q4_0", "tensor-parallel", [("Pi 5", 17, 0.08, 7)] * 4, 4.08),
    ("llama-2-7b", "fp16", "llama.cpp", [("RTX 3090", 936, 71, 23)], 48.1),
    ("llama-2-7b", "q4_0", "llama.cpp", [("RTX 3090", 936, 71, 23)], 119.9),
]


@pytest.mark.parametrize(("model", "weights", "engine", "machines", "published_speed"), SETUPS)
def test_setups_of_public_reports_lie_inside_their_intervals(model, weights, engine, machines, published_speed):
    shape = model_named(model)
    names = [f"n{k}" for k in range(len(machines))]
    text = LINK + "".join(
        f'[[node]]\nname = "{name}"\ndevice = "{device}"\nvram_gib = {vram}.0\nmem_gbps = {float(gbps)}\n'
        f"tflops = {float(tflops)}\n"
        for name, (device, gbps, tflops, vram) in zip(names, machines, strict=True)
    )
    shared = ",".join(f"{name}:0-{shape.layers - 1}" for name in names)
    placement = shared if engine == "tensor-parallel" else even(names, shape.layers)
    kind = "int8" if engine == "tensor-parallel" else "fp16"
    speed = ask(text, placement, shape, weights=weights, engine=engine, activations=kind).tokens_per_s
    # 405B takes 58 % of the bandwidth of a machine that gives 70B and DeepSeek R1 73 %: at the edge of its interval
    assert 0.97 * speed.p5 <= published_speed <= speed.p95
    assert speed.p50 == pytest.approx(published_speed, rel=0.4)
