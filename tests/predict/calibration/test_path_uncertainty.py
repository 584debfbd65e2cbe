"""Delays that a run's own network may have added are not attributed to the engine."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from boxes import Box, even, swarm_of

from swarm_predict.calibration.calibration_file import Learnt, decode, encode, learn, priors_of
from swarm_predict.calibration.runs import ObservedRun, observation, observe
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.conditioning import Observation, Part, condition, without_own
from swarm_predict.priors.posterior import Priors, fitted
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm

MODEL = model_named("llama-3.1-8b")
LLAMA = Workload(engine="llama.cpp", client="a")
RTT_MS = 40.0
PATHS = "measured.paths:llama.cpp"


def live(seen: float) -> Swarm:
    """Three machines whose paths have lost none of `seen` round trips."""
    swarm = swarm_of([Box(name, layers=[("decode", 1, 128, 0.1)]) for name in "abc"], RTT_MS)
    swarm.nodes["state"][:], swarm.nodes["overhead_ms"][:], swarm.at_ns = State.OK, 0.1, 10**18
    for name in ("min", "p50", "p95", "p99"):
        swarm.links[f"rtt_{name}_ms"][:] = RTT_MS
    swarm.links["oneway_ms"][:], swarm.links["pooled_loss"][:], swarm.links["pooled_sent"][:] = RTT_MS / 2, 0.0, seen
    swarm.links["kind"][:], swarm.links["sent"][:], swarm.links["at_ns"][:] = Kind.MEASURED, 20, swarm.at_ns
    return swarm


def run(seen: float, slower: float) -> ObservedRun:
    """A run that took so many times what is predicted."""
    swarm = live(seen)
    placement = parse_placement(even("bc", MODEL.layers), MODEL, swarm)
    expected_ms = predict(swarm, MODEL, placement, LLAMA).tpot_ms.p50
    found = observe("r", 1e3 / (expected_ms * slower), swarm, MODEL, placement, LLAMA)
    assert isinstance(found, ObservedRun)
    return found


def learnt_of_paths(found: ObservedRun) -> float:
    return priors_of([learn([found], fitted())], fitted()).log_median((PATHS,))


def test_a_run_that_losses_not_seen_yet_explain_says_less_of_the_engine() -> None:
    doubtful, sure = learnt_of_paths(run(150.0, 1.4)), learnt_of_paths(run(10**7, 1.4))
    assert 0 < doubtful < 0.7 * sure


def test_a_run_as_predicted_is_learnt_from_whatever_its_network_might_have_done() -> None:
    """Its network did nothing: the interval narrows as much as on a path that is known to be clean."""
    widths = [priors_of([learn([run(seen, 1.0)], fitted())], fitted()) for seen in (150.0, 10**7)]
    at = [priors.covariance[priors.names.index(PATHS), priors.names.index(PATHS)] for priors in widths]
    assert at[0] == pytest.approx(at[1], rel=0.1)
    assert at[0] < 0.9 * fitted().width(PATHS) ** 2


def priors(width: float) -> Priors:
    return Priors(("engine",), np.zeros(1), np.array([[width**2]]), {}, {}, {})


def test_a_delay_that_explains_the_run_is_taken_out_and_one_that_does_not_stays() -> None:
    own = (*[0.0] * 9, 50.0)
    late = Observation(150.0, (Part(100.0, ("engine",)),), 0.0, 0.02, own)
    found, chance = without_own(priors(0.03), late)
    assert found.observed_ms == pytest.approx(100.0, rel=0.01)
    assert found.noise == pytest.approx(0.02, rel=0.05)
    assert chance == pytest.approx(math.log(0.1 / math.hypot(0.03, 0.02)), abs=0.01)
    usual, _ = without_own(priors(0.03), Observation(101.0, late.parts, 0.0, 0.02, own))
    assert usual.observed_ms == pytest.approx(101.0, rel=1e-4)
    assert usual.noise == pytest.approx(0.02, rel=1e-3)


def test_a_run_between_two_explanations_is_noise() -> None:
    own = (*[0.0] * 9, 50.0)
    between = Observation(122.0, (Part(100.0, ("engine",)),), 0.0, 0.02, own)
    found, _ = without_own(priors(0.15), between)
    assert found.noise > 0.1
    moved = condition(priors(0.15), [between], ["r"]).mean[0]
    believed = condition(priors(0.15), [Observation(122.0, between.parts, 0.0, 0.02)], ["r"]).mean[0]
    assert 0 < moved < believed


def test_a_network_that_is_known_changes_nothing() -> None:
    known = Observation(120.0, (Part(100.0, ("engine",)),), 0.0, 0.05)
    same, _ = without_own(priors(0.1), known)
    assert same.observed_ms == pytest.approx(known.observed_ms)
    assert same.noise == pytest.approx(known.noise)


def test_the_delays_are_kept_in_the_file_and_files_without_them_are_read() -> None:
    found = run(150.0, 1.2)
    assert found.own_ms == tuple(sorted(found.own_ms))
    assert found.own_ms[-1] > 0.5 * RTT_MS
    kept = Learnt((found,))
    assert decode(encode(kept)) == kept
    older = msgspec.json.decode(encode(kept))
    del older["runs"][0]["own_ms"]
    read = decode(msgspec.json.encode(older))
    assert isinstance(read, Learnt)
    assert observation(read.runs[0], fitted()).own_ms == ()
