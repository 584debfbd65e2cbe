"""How far engines deviate from predictions of measured layers and paths: by engine, and less after a run.

`python -m bench engines --fit` learns the widths; here is what they do.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from boxes import Box, even, swarm_of

from swarm_predict.calibration.calibration_file import Learnt, priors_of
from swarm_predict.calibration.runs import ObservedRun, observe
from swarm_predict.cost.machine.roofline import LayerWork
from swarm_predict.cost.network.delivery_times import links
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.engine_errors import OTHER, PLAIN_ENGINE, measured, width_of
from swarm_predict.priors.factors import PLAIN
from swarm_predict.priors.individual_effects import PATH_KINDS
from swarm_predict.priors.posterior import Priors, fitted
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm

pytestmark = pytest.mark.priors

MODEL = model_named("llama-3.1-8b")


def live(rtt_ms: float, *, loss: float = 0.0, layer_ms: float = 1.0) -> Swarm:
    """Three machines whose layers, software and paths were measured."""
    swarm = swarm_of([Box(name, layers=[("decode", 1, 128, layer_ms)]) for name in "abc"], rtt_ms)
    swarm.nodes["state"][:], swarm.nodes["overhead_ms"][:], swarm.at_ns = State.OK, 0.1, 10**18
    for i, j in itertools.permutations(range(3), 2):
        for name in ("min", "p50", "p95", "p99"):
            swarm.links[f"rtt_{name}_ms"][i, j] = rtt_ms
        swarm.links["loss"][i, j], swarm.links["oneway_ms"][i, j] = loss, rtt_ms / 2
    swarm.links["kind"][:], swarm.links["sent"][:], swarm.links["at_ns"][:] = Kind.MEASURED, 10_000, swarm.at_ns
    return swarm


def ask(swarm: Swarm, engine: str = "ring", priors: Priors | None = None) -> Prediction:
    placement = parse_placement(even("abc", MODEL.layers), MODEL, swarm)
    return predict(swarm, MODEL, placement, Workload(engine=engine, priors=priors))  # type: ignore[arg-type]


def priors_after(swarm: Swarm, slower: float) -> Priors:
    """Priors after one run that took so many times what was predicted."""
    placement = parse_placement(even("abc", MODEL.layers), MODEL, swarm)
    run = observe("r", 1e3 / (ask(swarm).tpot_ms.p50 * slower), swarm, MODEL, placement, Workload(engine="ring"))
    assert isinstance(run, ObservedRun)
    return priors_of([Learnt((run,))], fitted())


def width(found: Prediction) -> float:
    return math.log(found.tpot_ms.p95 / found.tpot_ms.p5)


def test_a_path_is_near_or_far_or_lossy():
    near, far, lossy = (PATH_KINDS.index(kind) for kind in ("near", "far", "lossy"))
    for swarm, kind in (
        (live(1.0), near),
        (live(80.0), far),
        (live(80.0, loss=0.01), lossy),
        (live(1.0, loss=0.01), lossy),
    ):
        assert links(swarm, range(3)).kinds[0, 1] == kind
    unknown = live(1.0)
    unknown.links["rtt_p50_ms"][:] = unknown.links["rtt_min_ms"][:] = np.nan
    assert links(unknown, range(3)).kinds[0, 1] == far


def test_an_engine_that_nobody_ran_lies_as_far_off_as_any_and_patterns_are_plain():
    known = measured().engines
    for what in ("layers", "paths", "kind", "run", "pace"):
        assert width_of(what, "vllm") == getattr(known[OTHER], what) == max(getattr(w, what) for w in known.values())
        assert {width_of(what, pattern) for pattern in PLAIN} == {getattr(known[PLAIN_ENGINE], what)}


def test_a_run_narrows_paths_of_its_kind_more_than_those_of_another():
    after = priors_after(live(80.0), 1.0)
    same, other = (
        width(ask(swarm, priors=after)) / width(ask(swarm)) for swarm in (live(80.0), live(80.0, loss=0.0011))
    )
    assert same < 0.95
    assert same < other


def test_a_calibrated_interval_holds_what_a_second_run_may_differ_by():
    """It never gets narrower than the spread of runs, whatever was learnt."""
    swarm = live(80.0)
    noise = width_of("run", PLAIN_ENGINE)
    found = ask(swarm, priors=priors_after(swarm, 1.0))
    assert width(found) >= 0.9 * 2 * 1.645 * noise


def test_what_a_run_took_longer_is_expected_of_the_next():
    swarm = live(80.0)
    usual, after = ask(swarm), ask(swarm, priors=priors_after(swarm, 1.1))
    assert 1.04 < after.tpot_ms.p50 / usual.tpot_ms.p50 < 1.11
    assert after.breakdown_ms.network > usual.breakdown_ms.network
    assert after.breakdown_ms.compute > usual.breakdown_ms.compute


@pytest.mark.parametrize("engine", ["ring", "star", "tensor-parallel"])
def test_measured_medians_stay_where_no_run_is_known(engine):
    swarm = live(80.0)
    placement = "a:0-31,b:0-31,c:0-31" if engine == "tensor-parallel" else even("abc", MODEL.layers)
    stages = parse_placement(placement, MODEL, swarm, engine)
    found = predict(swarm, MODEL, stages, Workload(engine=engine))  # type: ignore[arg-type]
    exact = dataclasses.replace(fitted(), spread={**fitted().spread, **_NOTHING})
    sure = predict(swarm, MODEL, stages, Workload(engine=engine, priors=exact))  # type: ignore[arg-type]
    assert found.tpot_ms.p50 == pytest.approx(sure.tpot_ms.p50, rel=0.005)


_NOTHING = {f"measured.{what}": 0.0 for what in ("layers", "paths", "kind")}


# ---------------------------------------------------------------- kernels of processors


def on(device: str, reading_ms: float | None = 0.4) -> Swarm:
    """Machines of this device, whose layers probes have timed; memory gives a layer in `reading_ms`, None: unknown."""
    swarm = live(20.0)
    swarm.facts = tuple(dataclasses.replace(facts, device=device) for facts in swarm.facts)
    if reading_ms is not None:
        swarm.nodes["mem_gbps"][:] = LayerWork(MODEL, "decode")("fp16", 1, 128).size_bytes / (reading_ms * 1e6)
        swarm.nodes["mem_kind"][:] = Kind.MEASURED
        swarm.nodes["tflops"][:] = 100.0
    return swarm


def compute_ms(swarm: Swarm, engine: str) -> float:
    return ask(swarm, engine).breakdown_ms.compute


def test_an_engine_with_kernels_of_its_own_is_priced_by_them_on_processors_alone() -> None:
    """Probes time torch; how fast they read memory shows what llama.cpp takes on a processor, and nothing about
    GPUs."""
    layers_ms = {
        (device, engine): compute_ms(on(device), engine)
        for device in ("cpu: AMD EPYC", "RTX 3090")
        for engine in ("star", "llama.cpp")
    }
    assert layers_ms["cpu: AMD EPYC", "llama.cpp"] < 0.8 * layers_ms["cpu: AMD EPYC", "star"]
    assert layers_ms["RTX 3090", "llama.cpp"] == pytest.approx(layers_ms["RTX 3090", "star"], rel=0.02)


def test_kernels_of_their_own_slow_down_with_memory_as_those_of_probes_need_not() -> None:
    """One small Llama took llama.cpp half as long as torch on a machine, and on its slower memory as long."""
    fast, slow = on("cpu: AMD EPYC"), on("cpu: AMD EPYC", 0.8)
    assert compute_ms(slow, "llama.cpp") == pytest.approx(2 * compute_ms(fast, "llama.cpp"), rel=0.02)
    assert compute_ms(slow, "star") == pytest.approx(compute_ms(fast, "star"), rel=0.02)


def test_where_the_bandwidth_is_unknown_layers_are_as_probes_time_them() -> None:
    swarm = on("cpu: AMD EPYC", None)
    assert compute_ms(swarm, "llama.cpp") == pytest.approx(compute_ms(swarm, "star"), rel=0.4)


def test_the_conversion_to_other_kernels_is_told() -> None:
    assert any("which time torch" in note for note in ask(on("cpu: AMD EPYC"), "llama.cpp").notes)
    assert not any("which time torch" in note for note in ask(on("RTX 3090"), "llama.cpp").notes)


def test_a_run_is_learnt_from_by_the_layers_as_they_were_timed() -> None:
    """The conversion is an effect of the run: times that contained it would count it twice."""
    swarm = on("cpu: AMD EPYC", None)
    placement = parse_placement(even("abc", MODEL.layers), MODEL, swarm)
    run = observe("r", 2.0, swarm, MODEL, placement, Workload(engine="llama.cpp"))
    assert isinstance(run, ObservedRun)
    assert sum(part.times for part in run.parts if part.what == "layers") >= MODEL.layers * 1.0  # and the head
