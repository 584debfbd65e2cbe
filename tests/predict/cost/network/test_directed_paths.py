"""Paths whose directions take different times: a token pays the sum around its loop, in either direction."""

from __future__ import annotations

import numpy as np
import pytest
from swarms import node, swarm_of

from swarm_predict.cost.build import build_costs
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Placement, Stage, Workload
from swarm_protocol.snapshot.swarm import Kind, Swarm

MODEL = model_named("llama-2-7b")
THERE_MS, BACK_MS = 10.0, 60.0


def ring(*, hops: bool = False) -> Swarm:
    """n0 → n1 → n2 → n0 is fast, the other way round slow; measured, not written by hand."""
    swarm = swarm_of(*(node(f"n{i}") for i in range(3)))
    swarm.at_ns = 10**18
    for i in range(3):
        for src, dst, oneway in ((i, (i + 1) % 3, THERE_MS), ((i + 1) % 3, i, BACK_MS)):
            swarm.links["rtt_min_ms"][src, dst] = swarm.links["rtt_p50_ms"][src, dst] = THERE_MS + BACK_MS
            swarm.links["oneway_ms"][src, dst] = oneway
            if hops:
                for name in ("min", "p50", "p95", "p99"):
                    swarm.links[f"hop_{name}_ms"][src, dst] = THERE_MS + BACK_MS + 1
                swarm.links["hop_bytes"][src, dst] = 8192
    swarm.links["kind"][:] = Kind.MEASURED
    swarm.links["at_ns"][:] = swarm.at_ns
    swarm.links["hop_at_ns"][:] = swarm.at_ns
    swarm.links["sent"][:] = 100
    return swarm


def around(*names: str) -> Placement:
    cuts = np.linspace(0, MODEL.layers, len(names) + 1).astype(int).tolist()
    return tuple(Stage(name, first, last - 1) for name, first, last in zip(names, cuts[:-1], cuts[1:], strict=True))


@pytest.mark.parametrize("hops", [False, True])
@pytest.mark.parametrize(("order", "loop_ms"), [(("n0", "n1", "n2"), 30.0), (("n0", "n2", "n1"), 180.0)])
def test_a_token_pays_its_loop_whichever_way_round_it_goes(order, loop_ms, hops):
    """Half the round trip would be 105 ms for both."""
    swarm, work = ring(hops=hops), Workload(engine="ring", context=128)
    parts = predict(swarm, MODEL, around(*order), work)
    assert parts.breakdown_ms.network == pytest.approx(loop_ms, abs=4)
    tables = build_costs(swarm, MODEL, work, range(3)).tables
    price = tables.price([swarm.index(name) for name in order], [10, 11, 11])
    assert parts.tpot_ms.p50 == pytest.approx(price, rel=0.05)


@pytest.mark.parametrize(("engine", "client"), [("star", "n0"), ("chain", "n0")])
def test_a_loop_of_two_is_a_round_trip(engine, client):
    found = predict(ring(), MODEL, around("n1"), Workload(engine=engine, context=128, client=client))
    assert found.breakdown_ms.network == pytest.approx(THERE_MS + BACK_MS, abs=2)


def test_nothing_takes_less_than_nothing_when_the_round_trip_has_shrunk_since():
    swarm = ring()
    for name in ("rtt_min_ms", "rtt_p50_ms"):
        swarm.links[name][:] = 20.0
    assert np.all(build_costs(swarm, MODEL, Workload(engine="ring"), range(3)).tables.hop_ms >= 0)


def test_all_reduces_do_not_wait_for_the_slow_way_every_time():
    """Two nodes that exchange: each round starts where the message of the one before came from."""
    work = Workload(engine="tensor-parallel", context=128)
    symmetric = ring()
    symmetric.links["oneway_ms"][:] = np.nan
    times = [predict(swarm, MODEL, around("n0", "n1"), work).tpot_ms.p50 for swarm in (ring(), symmetric)]
    assert times[0] == pytest.approx(times[1])
