"""The ranking under noise: a quiet hour accuses no node, an injected straggler is first at the next look, with its
cause.

The noise is what the lab measured of its own probes: medians of round trips within 0.15 ms (`swarmtop lab verify`),
layer times within three percent, uplinks within ten.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Engine, Workload
from swarm_protocol.snapshot.swarm import Kind, LayerTime, Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.analysis import Analysis, analyse

sys.path.insert(0, str(Path(__file__).parents[2] / "predict"))

from swarms import node, swarm_of

MODEL = model_named("llama-2-70b")
LOAD = Workload(weights="int8", context=1024)
LOOK_S = 30
NODES = 6
CITIES_MS = (8.0, 14.0, 22.0, 31.0, 40.0, 52.0)  # each to the middle and back


def quiet(rng: np.random.Generator, at_s: float) -> Swarm:
    """Six equal machines in six cities at one moment, as their probes see them."""
    swarm = swarm_of(*(node(f"n{i}", vram_gib=24) for i in range(NODES)))
    swarm.at_ns = int(at_s * NS_PER_S)
    far = np.array(CITIES_MS)
    least = far[:, None] + far
    noise = np.abs(rng.normal(0.0, 0.15, (NODES, NODES)))
    links = swarm.links
    links["kind"][:], links["at_ns"][:], links["sent"][:] = Kind.MEASURED, swarm.at_ns, 30
    links["rtt_min_ms"][:], links["rtt_p50_ms"][:] = least, least + 0.5 + noise
    links["rtt_p95_ms"][:], links["jitter_ms"][:] = least + 3.0 + noise * 4, 3.0 + noise * 4
    links["loss"][:] = 0.0
    swarm.nodes["up_mbps"][:] = 100.0 * rng.normal(1.0, 0.1, NODES)
    swarm.nodes["state"][:] = 1
    timed = []
    for facts in swarm.facts:
        ms = 2.0 * float(rng.normal(1.0, 0.03))
        timed.append(dataclasses.replace(facts, layers=(LayerTime(MODEL.name, "decode", 1, 1024, ms, dtype="int8"),)))
    swarm.facts = tuple(timed)
    return swarm


def with_rtt(swarm: Swarm, row: int) -> None:
    for column in ("rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms"):
        swarm.links[column][row, :] += 120.0
        swarm.links[column][:, row] += 120.0


def with_jitter(swarm: Swarm, row: int) -> None:
    for column in ("rtt_p95_ms", "jitter_ms"):
        swarm.links[column][row, :] += 400.0
        swarm.links[column][:, row] += 400.0


def with_upload(swarm: Swarm, row: int) -> None:
    swarm.nodes["up_mbps"][row] = 1.5


def with_compute(swarm: Swarm, row: int) -> None:
    facts = list(swarm.facts)
    slow = tuple(dataclasses.replace(layer, ms=layer.ms * 5) for layer in facts[row].layers)
    facts[row] = dataclasses.replace(facts[row], layers=slow)
    swarm.facts = tuple(facts)


def looked(frames: list[Swarm], before: Analysis | None = None, load: Workload = LOAD) -> list[Analysis]:
    seen = []
    for frame in frames:
        before = analyse(frame, MODEL, load, before)
        seen.append(before)
    return seen


def test_a_quiet_hour_changes_neither_the_plan_nor_who_is_first() -> None:
    """Though the best plan of a moment, and the order of near equals, would be another one now and then."""
    rng = np.random.default_rng(1)
    seen = looked([quiet(rng, 1000 + LOOK_S * k) for k in range(0, 3600 // LOOK_S, 6)])
    plans = {each.plan.prediction.placement for each in seen if each.plan is not None}
    assert len(plans) == 1
    assert len({each.rows[0].name for each in seen}) == 1
    orders = [tuple(row.name for row in each.rows) for each in seen]
    assert sum(one != other for one, other in itertools.pairwise(orders)) <= 2


@pytest.mark.parametrize(
    ("inject", "cause", "engine"),
    [
        (with_rtt, "rtt", "chain"),
        (with_jitter, "jitter", "chain"),
        # a chain puts a thin uplink last, where it sends a token id only; in a star it answers with activations
        (with_upload, "upload", "petals"),
        (with_compute, "compute", "chain"),
    ],
)
def test_an_injected_straggler_is_first_with_its_cause_at_the_next_look(
    inject: Callable[[Swarm, int], None], cause: str, engine: Engine
) -> None:
    rng, load = np.random.default_rng(2), dataclasses.replace(LOAD, engine=engine)
    before = looked([quiet(rng, 1000 + LOOK_S * k) for k in range(2)], load=load)[-1]
    assert before.plan is not None
    row = int(before.plan.prediction.placement[1].node[1:])  # one that is in use
    after = quiet(rng, 1000 + LOOK_S * 2)
    inject(after, row)
    first = looked([after], before, load)[-1].rows[0]
    assert (first.name, first.cause) == (f"n{row}", cause)
    assert first.cost_ms is not None
    assert first.cost_ms > 5.0
