"""What every engine's forecast must do, whatever its pattern: intervals, notes, and medians that agree with the tables.

A new engine is added to PLACEMENTS, and has to pass all of this.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from boxes import Box, swarm_of

from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import ENGINES
from swarm_predict.forecast.candidates import distributions
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.posterior import NEUTRAL
from swarm_predict.types import Breakdown, Prediction, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm

MODEL = model_named("llama-3.1-8b")
NOW_NS = 1_700_000_000 * 10**9
MEASURED = (("decode", 1, 128, 3.0), ("decode", 2, 128, 3.5), ("prefill", 1, 128, 9.0))
SPLIT = "a:0-15,b:16-31"
PLACEMENTS = dict.fromkeys(ENGINES, SPLIT) | {
    name: "a:0-15,b:0-15,c:16-31,d:16-31" if facts.groups else "a:0-31,b:0-31"
    for name, facts in ENGINES.items()
    if facts.pattern == "all-reduce"
}
PIPELINES = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")

every_engine = pytest.mark.parametrize("engine", sorted(ENGINES))


def hand_written(**of_b: object) -> Swarm:
    """Four equal nodes, whose paths do not vary; `of_b` changes the second one."""
    plain: dict[str, object] = {"layers": MEASURED, "dtype": "fp16", "mem_gbps": 900.0, "tflops": 70.0}
    plain |= {"up_mbps": 1e5, "down_mbps": 1e5}
    return swarm_of([Box(n, **(plain | (of_b if n == "b" else {}))) for n in "abcd"], 20.0)  # type: ignore[arg-type]


def live(**of_b: object) -> Swarm:
    """The same, measured just now."""
    swarm = dataclasses.replace(hand_written(**of_b), at_ns=NOW_NS)
    swarm.nodes["state"][:] = State.OK
    swarm.links["at_ns"][:] = NOW_NS
    return swarm


def ask(swarm: Swarm, engine: str, **load: object) -> Prediction:
    placement = parse_placement(PLACEMENTS[engine], MODEL, swarm, engine)
    return predict(swarm, MODEL, placement, Workload(engine=engine, **load))  # type: ignore[arg-type]


def half_width(found: Prediction) -> float:
    return (found.tpot_ms.p95 - found.tpot_ms.p5) / 2 / found.tpot_ms.mean


@every_engine
@pytest.mark.parametrize("error", [0.05, 0.1, 0.2])
def test_the_interval_widens_with_the_calibrations_error(engine, error):
    plain, calibrated = ask(hand_written(), engine), ask(hand_written(), engine, model_error=error)
    assert half_width(calibrated) == pytest.approx(np.hypot(half_width(plain), 1.645 * error), rel=0.1)
    assert calibrated.tpot_ms.mean == pytest.approx(plain.tpot_ms.mean)
    assert calibrated.tpot_ms.p50 == pytest.approx(plain.tpot_ms.p50, rel=0.01)
    assert any(note.startswith("calibrated:") for note in calibrated.notes)
    assert not any(note.startswith("calibrated:") for note in plain.notes)


@every_engine
@pytest.mark.parametrize(
    ("of_b", "load", "note"),
    [
        ({"layers": ()}, {}, "layer time of b is a best case from memory bandwidth (roofline)"),
        ({}, {"batch": 8, "context": 4096}, "scaled by the roofline to batch 8, context 4096"),
        ({}, {"weights": "int8"}, "scaled by bytes: not measured with int8"),
        ({"model": "llama-2-70b"}, {}, "layer time of b scaled from another model"),
    ],
)
def test_a_layer_time_that_was_not_measured_is_noted(engine, of_b, load, note):
    assert any(note in line for line in ask(hand_written(**of_b), engine, **load).notes)


@every_engine
def test_measured_layer_times_are_not_noted(engine):
    assert not any("layer time" in line for line in ask(hand_written(), engine).notes)


@every_engine
@pytest.mark.parametrize(("state", "note"), [(State.STALE, "stale"), (State.LOST, "is lost"), (State.LEFT, "has left")])
def test_a_node_that_is_not_there_is_noted(engine, state, note):
    swarm = live()
    swarm.nodes["state"][1] = state
    about_b = [line for line in ask(swarm, engine).notes if line.startswith("b ")]
    assert len(about_b) == 1
    assert note in about_b[0]


@pytest.mark.priors
@every_engine
@pytest.mark.parametrize("of_b", [{}, {"layers": ()}, {"model": "llama-2-70b"}])
@pytest.mark.parametrize("swarm_from", [hand_written, live])
def test_no_interval_is_without_width_where_something_is_not_measured(engine, of_b, swarm_from):
    for load in ({"weights": "int8"}, {"batch": 8}, {}):
        found = ask(swarm_from(**of_b), engine, **load).tpot_ms
        assert found.p5 < found.p50 < found.p95


@pytest.mark.priors
@every_engine
def test_measured_layers_keep_their_time_where_software_is_assumed(engine):
    """What is assumed is centred on its median; what was measured is not moved with it."""
    swarm = live()
    swarm.nodes["overhead_ms"][:] = np.nan
    assumed, none = (ask(swarm, engine, priors=priors) for priors in (None, NEUTRAL))
    assert assumed.breakdown_ms.overhead > none.breakdown_ms.overhead
    assert assumed.breakdown_ms.compute == pytest.approx(none.breakdown_ms.compute, rel=0.005)


@every_engine
def test_an_estimated_path_widens_every_engine_by_its_doubt(engine):
    """How far off an estimate may be is the same for every message that takes the path, so that sums do not average
    it away. Paths that nearly all of the time is spent on."""
    measured, estimated = live(), live()
    estimated.links["kind"][:] = Kind.ESTIMATE
    sure, unsure = ask(measured, engine), ask(estimated, engine)
    assert any("estimates (~)" in line for line in unsure.notes)
    doubt = 0.15 * unsure.breakdown_ms.network / unsure.tpot_ms.mean
    messages = min(unsure.hops, 4)  # of a pipeline: independent paths
    assert half_width(unsure) > max(half_width(sure), 1.645 * doubt / np.sqrt(messages) * 0.8)


@every_engine
def test_uploads_that_are_not_known_are_noted(engine):
    free = swarm_of([Box(n, up_mbps=None, down_mbps=None, layers=MEASURED) for n in "abcd"], 20.0)
    assert any(line.startswith("no up_mbps of a, b") for line in ask(free, engine).notes)
    bound = live()
    bound.nodes["up_kind"][:] = Kind.BOUND
    assert any("lower bounds" in line for line in ask(bound, engine).notes)


@every_engine
def test_memory_that_somebody_else_holds_is_noted(engine):
    swarm = live()
    swarm.nodes["vram_free_bytes"][1] = 1.0
    assert any(line.startswith("b has 0.0 GiB free at the moment") for line in ask(swarm, engine).notes)


@every_engine
def test_the_parts_add_up_and_the_largest_limits(engine):
    """Also where a step yields several tokens, so that a step's parts are larger than a token's."""
    for load in ({}, {"draft_tokens": 3, "draft_accept": 0.9, "draft_ms": 0.5}, {"model_error": 0.2}):
        found = ask(hand_written(), engine, **load)
        parts = found.breakdown_ms
        assert sum(getattr(parts, name) for name in Breakdown.__struct_fields__) == pytest.approx(found.tpot_ms.mean)
        machines, software = parts.compute + parts.head, parts.overhead
        largest = max(machines, software, parts.network)
        expected = {machines: ("compute",), software: ("overhead",), parts.network: ("rtt", "jitter", "upload")}
        assert found.limited_by in expected[largest]
        assert any("draft tokens a step" in line for line in found.notes) == ("draft_tokens" in load)


@pytest.mark.parametrize("engine", PIPELINES)
def test_medians_of_prediction_candidates_and_tables_agree(engine):
    swarm = hand_written()
    found = ask(swarm, engine)
    tables = build_tables(swarm, MODEL, Workload(engine=engine))
    order = [swarm.index(stage.node) for stage in found.placement]
    price = tables.price(order, [stage.layers for stage in found.placement])
    assert found.tpot_ms.p50 == pytest.approx(price, rel=0.01)
    several = distributions(swarm, MODEL, [found.placement], Workload(engine=engine), 2000)[0]
    assert several.p50 == pytest.approx(price, rel=0.01)


@every_engine
def test_candidates_have_the_interval_of_the_prediction(engine):
    for load in ({}, {"model_error": 0.1}):
        found = ask(live(), engine, **load)
        [listed] = distributions(live(), MODEL, [found.placement], Workload(engine=engine, **load), 2000)
        assert listed.p50 == pytest.approx(found.tpot_ms.p50, rel=0.02)
        assert listed.p95 - listed.p5 == pytest.approx(found.tpot_ms.p95 - found.tpot_ms.p5, rel=0.15)
