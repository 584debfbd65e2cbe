"""Predictions: the plain formula where nothing varies, parts that add up, and nothing beyond physics."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from answers import LLAMA70, answer
from boxes import Box, swarm_of
from hypothesis import given
from hypothesis import strategies as st

from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import ENGINES
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import Swarm

TINY = model_named("tiny")
LLAMA8 = model_named("llama-3.1-8b")
STAGED = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")
ROUNDING = 1 - 1e-12
ABC = ("a", "b", "c")


def plain(
    swarm: Swarm, order: list[int], layers: list[int], *, star: bool, client: int | None, sizes: tuple[float, float]
):
    """The formula of the design, written once more and independently: milliseconds without head."""
    rtt, up, down = swarm.links["rtt_p50_ms"], swarm.nodes["up_mbps"], swarm.nodes["down_mbps"]

    def d(i: int, j: int, size: float) -> float:
        return 0.0 if i == j else rtt[i, j] / 2 + size * 8 / min(up[i], down[j]) / 1000

    hop, result = sizes
    home = order[0] if client is None else client
    total = 0.0
    for i, count in zip(order, layers, strict=True):
        total += swarm.nodes["overhead_ms"][i] + count * swarm.facts[i].layers[0].ms
    if star:
        total += sum(d(home, i, hop) for i in order) + sum(d(i, home, hop) for i in order[:-1])
    else:
        total += sum(d(i, j, hop) for i, j in itertools.pairwise(order)) + (
            0 if client is None else d(home, order[0], 4)
        )
    return total + d(order[-1], home, result)


def random_swarm(draw: st.DrawFn, *, names: tuple[str, ...] = ABC, jitter: float = 0.0) -> Swarm:
    boxes = [
        Box(
            name,
            up_mbps=draw(st.floats(1, 1000)),
            down_mbps=draw(st.floats(1, 1000)),
            overhead_ms=draw(st.floats(0, 20)),
            layers=[("decode", 1, 128, draw(st.floats(0.1, 50))), ("prefill", 1, 128, draw(st.floats(1, 500)))],
        )
        for name in names
    ]
    rtts = {pair: draw(st.floats(0, 300)) for pair in itertools.permutations(names, 2)}
    return swarm_of(boxes, rtts, jitter_ms=jitter)


swarms = st.composite(random_swarm)


@given(swarm=swarms(), star=st.booleans(), client=st.sampled_from([None, 0, 2]))
def test_without_variation_the_answer_is_the_formula_of_the_design(swarm, star, client):
    engine = "star" if star else "chain"
    found = answer(swarm, "a:0-29,b:30-59,c:60-79", engine=engine, client=None if client is None else ABC[client])
    sizes = (16384, 16384 if star else 4)
    head = found.breakdown_ms.head
    expected = plain(swarm, [0, 1, 2], [30, 30, 20], star=star, client=client, sizes=sizes) + head
    for value in (found.tpot_ms.mean, found.tpot_ms.p5, found.tpot_ms.p50, found.tpot_ms.p95):
        assert value == pytest.approx(expected)


@given(swarm=swarms(), engine=st.sampled_from(STAGED), client=st.sampled_from([None, "a", "c"]))
def test_without_variation_the_median_is_the_price_of_the_tables(swarm, engine, client):
    """Search optimises the tables, people read predictions: they must be one model."""
    found = answer(swarm, "b:0-29,a:30-59,c:60-79", engine=engine, client=client)
    tables = build_tables(swarm, LLAMA70, Workload(engine=engine, client=client))
    assert found.tpot_ms.p50 == pytest.approx(tables.price([1, 0, 2], [30, 30, 20]))


@given(swarm=swarms(), engine=st.sampled_from(STAGED))
def test_one_stage_pays_no_network_beside_its_client(swarm, engine):
    found = answer(swarm, "a:0-79", engine=engine)
    assert found.breakdown_ms.network == 0
    assert found.tpot_ms.p50 == pytest.approx(build_tables(swarm, LLAMA70, Workload(engine=engine)).price([0], [80]))


@given(swarm=swarms(), jitter=st.floats(0, 100), engine=st.sampled_from([*STAGED, "tensor-parallel"]))
def test_parts_add_up_to_the_mean_and_quantiles_are_in_order(swarm, jitter, engine):
    swarm.links["jitter_ms"][:] = jitter
    found = answer(swarm, "a:0-29,b:30-59,c:60-79", engine=engine, hop_overhead_ms=1.0)
    parts = found.breakdown_ms
    assert parts.compute + parts.network + parts.overhead + parts.head == pytest.approx(found.tpot_ms.mean)
    assert found.tpot_ms.p5 <= found.tpot_ms.p50 <= found.tpot_ms.p95
    assert found.tokens_per_s.p5 == pytest.approx(1000 / found.tpot_ms.p95)
    assert found.tokens_per_s.p5 <= found.tokens_per_s.p50 <= found.tokens_per_s.p95


@given(
    swarm=swarms(),
    change=st.sampled_from(["rtt", "jitter", "loss", "up", "down", "layer", "overhead"]),
    factor=st.floats(1.01, 10),
    engine=st.sampled_from(STAGED),
)
def test_a_worse_machine_or_path_is_never_faster(swarm, change, factor, engine):
    swarm.links["jitter_ms"][:], swarm.links["loss"][:] = 5.0, 0.01
    before = answer(swarm, "a:0-29,b:30-59,c:60-79", engine=engine)
    if change in ("rtt", "jitter", "loss"):
        columns = ["rtt_min_ms", "rtt_p50_ms"] if change == "rtt" else [{"jitter": "jitter_ms", "loss": "loss"}[change]]
        for column in columns:
            swarm.links[column] = swarm.links[column] * factor
    elif change in ("up", "down"):
        swarm.nodes[f"{change}_mbps"] = swarm.nodes[f"{change}_mbps"] / factor
    elif change == "overhead":
        swarm.nodes["overhead_ms"] = swarm.nodes["overhead_ms"] * factor
    else:
        times = tuple(dataclasses.replace(time, ms=time.ms * factor) for time in swarm.facts[1].layers)
        slower = dataclasses.replace(swarm.facts[1], layers=times)
        swarm.facts = (swarm.facts[0], slower, swarm.facts[2])
    after = answer(swarm, "a:0-29,b:30-59,c:60-79", engine=engine)
    for mine, worse in ((before.tpot_ms, after.tpot_ms), (before.ttft_ms, after.ttft_ms)):
        assert worse.mean >= mine.mean * ROUNDING
        assert worse.p50 >= mine.p50 * ROUNDING
        assert worse.p95 >= mine.p95 * ROUNDING
    assert after.throughput_tokens_per_s * ROUNDING <= before.throughput_tokens_per_s


@given(swarm=swarms(jitter=20.0), renamed=st.permutations(["x", "y", "z"]), engine=st.sampled_from(STAGED))
def test_names_do_not_matter(swarm, renamed, engine):
    before = answer(swarm, "a:0-29,b:30-59,c:60-79", engine=engine)
    names = dict(zip(ABC, renamed, strict=True))
    swarm.facts = tuple(dataclasses.replace(f, name=names[f.name]) for f in swarm.facts)
    swarm._index.clear()
    text = f"{renamed[0]}:0-29,{renamed[1]}:30-59,{renamed[2]}:60-79"
    assert answer(swarm, text, engine=engine).tpot_ms == before.tpot_ms


@given(swarm=swarms(jitter=20.0), order=st.permutations([0, 1, 2]), engine=st.sampled_from(STAGED))
def test_the_order_of_rows_does_not_matter(swarm, order, engine):
    before = answer(swarm, "a:0-29,b:30-59,c:60-79", engine=engine)
    grid = np.ix_(order, order)
    moved = Swarm(
        at_ns=0,
        facts=tuple(swarm.facts[k] for k in order),
        nodes={name: column[order] for name, column in swarm.nodes.items()},
        links={name: column[grid] for name, column in swarm.links.items()},
    )
    assert answer(moved, "a:0-29,b:30-59,c:60-79", engine=engine).tpot_ms == before.tpot_ms


@given(
    gbps=st.lists(st.floats(50, 3000), min_size=3, max_size=3),
    rtt=st.floats(0, 300),
    weights=st.sampled_from(["fp16", "int8", "q4_k_m", "nf4"]),
    engine=st.sampled_from([*STAGED, "tensor-parallel"]),
    context=st.integers(0, 30_000),
    batch=st.integers(1, 16),
)
def test_nothing_is_faster_than_memory_and_light(gbps, rtt, weights, engine, context, batch):
    boxes = [Box(name, mem_gbps=rate, layers=()) for name, rate in zip(ABC, gbps, strict=True)]
    swarm = swarm_of(boxes, rtt, jitter_ms=10.0)
    found = answer(swarm, "a:0-29,b:30-59,c:60-79", engine=engine, weights=weights, context=context, batch=batch)
    touched = LLAMA70.bytes_touched(weights, batch, context)
    if engine == "tensor-parallel":
        least = 80 * touched / (sum(gbps) * 1e6) + 160 * rtt / 2
    else:
        reading = sum(n * touched / (rate * 1e6) for n, rate in zip([30, 30, 20], gbps, strict=True))
        least = reading + (4 if ENGINES[engine].pattern == "star" else 3) * rtt / 2
    assert found.tpot_ms.p5 >= least * (1 - 1e-9)
    rate = found.throughput_tokens_per_s
    assert rate <= batch * 1000 * sum(gbps) * 1e6 / (80 * touched) * (1 + 1e-9)


@given(swarm=swarms(), client=st.sampled_from([None, "a"]))
def test_a_star_is_never_faster_than_a_chain_where_detours_do_not_pay(swarm, client):
    """With one round trip everywhere a star makes the chain's trips and more."""
    swarm.links["rtt_min_ms"][:] = swarm.links["rtt_p50_ms"][:] = 50.0
    swarm.nodes["up_mbps"][:] = swarm.nodes["down_mbps"][:] = 100.0
    text = "a:0-29,b:30-59,c:60-79"
    star, chain = (answer(swarm, text, engine=engine, client=client) for engine in ("star", "chain"))
    assert star.breakdown_ms.network >= chain.breakdown_ms.network


def test_the_client_computes_the_head_on_the_machine_that_serves_beside_it():
    """Throughput counted them as two machines: 4 streams got up to 16 % more than the machine has time for."""
    swarm = swarm_of([Box("a", mem_gbps=500.0), Box("b", mem_gbps=500.0)], 2.0)
    beside, apart = (answer(swarm, "a:0-79", engine="star", streams=64, client=name) for name in ("a", "b"))
    parts = beside.breakdown_ms
    assert beside.throughput_tokens_per_s == pytest.approx(1e3 / (parts.compute + parts.head), rel=1e-3)
    assert apart.throughput_tokens_per_s == pytest.approx(1e3 / parts.compute, rel=1e-3)
