"""Layers after a pause: their extra time is priced with the stage's size, and a note says what was not measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from boxes import Box, swarm_of

from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm

MODEL = model_named("gpt2")


def measured() -> Swarm:
    swarm = swarm_of([Box("a", layers=[("decode", 1, 128, 2.0)]), Box("b", layers=[("decode", 1, 128, 2.0)])], 20.0)
    swarm.nodes["state"][:], swarm.links["kind"][:], swarm.at_ns = State.OK, Kind.MEASURED, 10**18
    swarm.links["at_ns"][:] = swarm.at_ns
    swarm.nodes["overhead_ms"][:] = 0.5
    for name in ("min", "p50", "p95", "p99"):
        swarm.links[f"hop_{name}_ms"][:] = 20.5
    swarm.links["hop_bytes"][:], swarm.links["hop_at_ns"][:] = 1536, swarm.at_ns
    return swarm


def answer(swarm: Swarm) -> Prediction:
    return predict(swarm, MODEL, parse_placement("a:0-2,b:3-11", MODEL, swarm), Workload())


def test_each_layer_of_a_stage_pays_for_the_pause():
    swarm = measured()
    before = answer(swarm)
    swarm.nodes["visit_layer_ms"][:] = 0.5
    after = answer(swarm)
    for stage, layers in ((0, 3), (1, 9)):
        more_ms = after.stages[stage].compute_ms - before.stages[stage].compute_ms
        assert more_ms == pytest.approx(0.5 * layers, rel=0.1)


def test_a_visit_that_was_not_measured_and_layers_that_others_disturbed_are_reported():
    swarm = measured()
    assert not any("visit" in note or "other programs" in note for note in answer(swarm).notes)
    swarm.nodes["overhead_ms"][0] = np.nan
    busy = dataclasses.replace(swarm.facts[1].layers[0], marks="contended")
    swarm.facts = (swarm.facts[0], dataclasses.replace(swarm.facts[1], layers=(busy,)))
    notes = answer(swarm).notes
    assert "the cost of a visit after a pause was not measured on a: counted as 0 there" in notes
    assert "other programs used b whenever its layers were timed: these times may be too long" in notes
