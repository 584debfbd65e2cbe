"""Predictions: the plain formula where nothing varies, distributions that add up, and nothing beyond physics."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from boxes import Box, even, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import ENGINES
from swarm_predict.cost.network.delivery_times import links
from swarm_predict.cost.network.window_after_loss import mean_flights
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import BadPlacement, NotMeasured, Prediction, Stage, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm, Tcp

TINY = model_named("tiny")
LLAMA8 = model_named("llama-3.1-8b")
LLAMA70 = model_named("llama-2-70b")
STAGED = sorted(name for name, facts in ENGINES.items() if facts.pattern != "all-reduce")
ABC = ("a", "b", "c")


def answer(swarm: Swarm, text: str | None = None, model=LLAMA70, **load: object) -> Prediction:
    workload = Workload(**load)  # type: ignore[arg-type]
    text = text if text is not None else even([n for n in swarm.names if n != "home"], model.layers)
    return predict(swarm, model, parse_placement(text, model, swarm, workload.engine), workload)


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
            layers=[("decode", 1, 128, draw(st.floats(0.1, 50)))],
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
        (time,) = swarm.facts[1].layers
        slower = dataclasses.replace(swarm.facts[1], layers=(dataclasses.replace(time, ms=time.ms * factor),))
        swarm.facts = (swarm.facts[0], slower, swarm.facts[2])
    after = answer(swarm, "a:0-29,b:30-59,c:60-79", engine=engine)
    assert after.tpot_ms.mean >= before.tpot_ms.mean * (1 - 1e-12)
    assert after.tpot_ms.p50 >= before.tpot_ms.p50 * (1 - 1e-12)
    assert after.tpot_ms.p95 >= before.tpot_ms.p95 * (1 - 1e-12)


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


def test_quantiles_of_a_sum_are_not_the_sum_of_quantiles():
    """Twelve hops rarely all have a bad moment at once."""
    names = [f"n{k}" for k in range(12)]
    one = answer(swarm_of([Box("n0"), Box("n1")], 50.0, jitter_ms=60.0), model=LLAMA70).tpot_ms
    many = answer(swarm_of([Box(n) for n in names], 50.0, jitter_ms=60.0), model=LLAMA70).tpot_ms
    tail_of_one, tail_of_many = (one.p95 - one.mean) / 2, many.p95 - many.mean
    assert tail_of_many < 12 * tail_of_one * 0.5
    assert many.p5 < many.p50 < many.p95


def test_jitter_adds_its_mean_and_widens_the_answer():
    """PDV of 60 ms is p95 − min of an exponential: mean 20 ms a round trip, 10 ms a one-way trip."""
    calm, shaky = (answer(swarm_of([Box("a"), Box("b")], 50.0, jitter_ms=j), draws=50_000).tpot_ms for j in (0.0, 60.0))
    assert shaky.mean - calm.mean == pytest.approx(2 * 10, rel=0.08)  # two trips
    assert shaky.p95 - shaky.p5 > 20
    assert calm.p95 == calm.p5


def test_measured_quantiles_are_used_where_there_are_any():
    swarm = swarm_of([Box("a"), Box("b")], 50.0)
    swarm.links["rtt_p95_ms"][:], swarm.links["rtt_p99_ms"][:] = 150.0, 250.0
    found = answer(swarm)
    assert found.tpot_ms.p95 - found.tpot_ms.p50 > 30
    assert found.limited_by == "compute"


def test_loss_costs_a_retransmission_now_and_then():
    """One token message a step is alone in flight: RTT + 200 ms each time one of its packets is lost. An activation
    of BBR is also paced more slowly than before the first losses."""
    calm, lossy = (swarm_of([Box("a"), Box("b")], 50.0, loss=loss) for loss in (0.0, 0.02))
    calm.nodes["tcp"][:] = lossy.nodes["tcp"][:] = Tcp.PACES
    slower = float(links(lossy, range(2)).lossy_window_ms(16_384.0)[0, 1])
    before, found = (answer(swarm, draws=50_000).tpot_ms for swarm in (calm, lossy))
    one_way = 1 - math.sqrt(1 - 0.02)
    token = one_way * 250
    activation = (1 - (1 - one_way) ** 12) * (100 / 12 + 62.5 * 2 / 12 + 50 * 9 / 12)
    assert slower > 20
    assert found.mean - before.mean == pytest.approx(token + activation + slower, rel=0.1)


def test_losses_keep_the_window_small_where_congestion_control_goes_by_them():
    """16 KB exceed the window half of the time at 1 % one way; the typical token pays for it, not only the late one."""
    paced, cubic = (swarm_of([Box("a"), Box("b")], 50.0, loss=0.02) for _ in range(2))
    paced.nodes["tcp"][:] = Tcp.PACES
    waits = answer(cubic, draws=50_000).tpot_ms.mean - answer(paced, draws=50_000).tpot_ms.mean
    waits += float(links(paced, range(2)).usual_delivery_ms(16_384.0)[0, 1])
    waits -= float(links(cubic, range(2)).delivery_ms(16_384.0)[0, 1])
    (note,) = [note for note in answer(cubic).notes if "lost packets" in note]
    assert "BBR on a" in note
    assert not any("lost packets" in note for note in answer(paced).notes)
    flights = float(mean_flights(12, 0, np.array([1 - math.sqrt(1 - 0.02)]))[0])
    retransmitted_less = flights * 0.06 * 55  # of two flights only the last one's losses cost a round trip
    assert waits == pytest.approx(flights * 50 - retransmitted_less, rel=0.1)


def test_a_measured_hop_brings_its_own_tail():
    swarm = swarm_of([Box("a"), Box("b")], 80.0)
    for column, value in (("min", 90.0), ("p50", 100.0), ("p95", 180.0), ("p99", 300.0)):
        swarm.links[f"hop_{column}_ms"][:] = value
    swarm.links["hop_bytes"][:] = 16384
    found = answer(swarm, draws=20_000)
    assert found.stages[1].hop_ms == pytest.approx(73, rel=0.1)  # p50 60, and a tail
    assert found.tpot_ms.p95 - found.tpot_ms.p50 > 40


def live(kind: Kind = Kind.MEASURED, **columns: float) -> Swarm:
    swarm = swarm_of([Box("a"), Box("b")], 80.0)
    swarm.nodes["state"][:] = State.OK
    swarm.at_ns = 10**18
    swarm.links["kind"][:] = kind
    swarm.links["sent"][:] = 1000
    swarm.links["at_ns"][:] = swarm.at_ns
    swarm.links["oneway_ms"][:] = 40.0
    for name, value in columns.items():
        swarm.links[name][:] = value
    return swarm


def width(swarm: Swarm) -> float:
    found = answer(swarm, draws=20_000)
    return found.tpot_ms.p95 - found.tpot_ms.p5


def test_estimates_bounds_age_and_few_samples_widen():
    fresh = width(live())
    bound = live()
    bound.nodes["up_kind"][:] = Kind.BOUND
    assert fresh > 0
    assert width(live(Kind.ESTIMATE)) > fresh * 3
    assert width(bound) > fresh
    assert width(live(at_ns=10**18 - 10 * 24 * 3_600_000_000_000)) > fresh
    assert width(live(rtt_p95_ms=120.0, sent=5)) > width(live(rtt_p95_ms=120.0))


def test_estimates_and_bounds_stand_in_the_notes():
    swarm = live(Kind.ESTIMATE)
    swarm.nodes["up_kind"][:] = Kind.BOUND
    notes = answer(swarm).notes
    assert "some round trips are estimates (~), not measurements" in notes
    assert "some uploads are lower bounds (≥): the real hop may be faster" in notes


def test_spread_of_layer_times_widens():
    swarm = swarm_of([Box("a"), Box("b")], 0.0)
    noisy = dataclasses.replace(swarm.facts[0].layers[0], ms_p95=10.0)
    swarm.facts = tuple(dataclasses.replace(f, layers=(noisy,)) for f in swarm.facts)
    found = answer(swarm, draws=20_000)
    assert found.tpot_ms.p95 > 1.4 * found.tpot_ms.p5


def test_the_same_seed_gives_the_same_answer_and_another_one_nearly():
    swarm = swarm_of([Box("a"), Box("b")], 50.0, jitter_ms=40.0)
    assert answer(swarm, seed=1) == answer(swarm, seed=1)
    assert answer(swarm, seed=1).tpot_ms.mean == pytest.approx(answer(swarm, seed=2).tpot_ms.mean, rel=0.02)


# -- memory


def test_too_big_a_stage_is_named_with_what_to_do():
    swarm = swarm_of([Box("t4-1", vram_gib=16.0), Box("big")])
    found = answer(swarm, "t4-1:0-39,big:40-79")
    assert not found.fits
    assert found.limited_by == "memory"
    assert found.notes[0] == "t4-1 needs 64.3 GiB for layers 0-39, has 16.0; give it fewer layers or --weights int8"
    assert found.stages[0].memory_free_bytes < 0 < found.stages[1].memory_free_bytes


@given(
    vram=st.floats(0.5, 40),
    context=st.integers(0, 20_000),
    streams=st.integers(1, 8),
    weights=st.sampled_from(["fp16", "int8", "q4_k_m"]),
    engine=st.sampled_from(STAGED),
)
def test_what_capacity_allows_always_fits(vram, context, streams, weights, engine):
    """The planner trusts capacity, the prediction counts exactly: they must not contradict each other."""
    load = Workload(context=context, streams=streams, weights=weights, engine=engine)
    swarm = swarm_of([Box("a", vram_gib=vram), Box("rest")])
    tables = build_tables(swarm, LLAMA8, load)
    count = int(tables.capacity_first[0])
    if count == 0:
        assert tables.capacity_only[0] == 0
    elif count < LLAMA8.layers:
        placement = (Stage("a", 0, count - 1), Stage("rest", count, LLAMA8.layers - 1))
        assert predict(swarm, LLAMA8, placement, load).fits


# -- what limits


@pytest.mark.parametrize(
    ("boxes", "rtt_ms", "jitter_ms", "cause"),
    [
        ([Box("a", layers=[("decode", 1, 128, 20.0)]), Box("b")], 10.0, 0.0, "compute"),
        ([Box("a"), Box("b")], 2000.0, 0.0, "rtt"),
        ([Box("a"), Box("b")], 10.0, 5000.0, "jitter"),
        ([Box("a", up_mbps=0.1), Box("b")], 10.0, 0.0, "upload"),
        ([Box("a", overhead_ms=3000.0), Box("b")], 10.0, 0.0, "overhead"),
    ],
)
def test_the_largest_share_is_what_limits(boxes, rtt_ms, jitter_ms, cause):
    assert answer(swarm_of(boxes, rtt_ms, jitter_ms=jitter_ms)).limited_by == cause


# -- throughput and the first token


def test_one_stream_is_bound_by_latency_and_many_by_the_slowest_stage():
    swarm = swarm_of([Box("a", layers=[("decode", 1, 128, 10.0)]), Box("b", layers=[("decode", 1, 128, 5.0)])], 200.0)
    one, many = answer(swarm, streams=1), answer(swarm, streams=100)
    assert one.throughput_tokens_per_s == pytest.approx(1000 / one.tpot_ms.mean)
    assert many.throughput_tokens_per_s == pytest.approx(1000 / 400)  # 40 layers of 10 ms
    assert answer(swarm, streams=2).throughput_tokens_per_s == pytest.approx(2 * one.throughput_tokens_per_s)


def test_a_thin_uplink_bounds_throughput():
    swarm = swarm_of([Box("a", up_mbps=0.1, layers=[("decode", 1, 128, 0.1)]), Box("b")], 20.0)
    found = answer(swarm, "a:0-78,b:79-79", streams=1000)
    assert found.throughput_tokens_per_s == pytest.approx(0.1e6 / (16384 * 8))


def test_a_batch_counts_every_sequence():
    swarm = swarm_of([Box("a", layers=[("decode", 1, 128, 10.0), ("decode", 8, 128, 12.0)])])
    found = answer(swarm, "a:0-79", batch=8)
    assert found.throughput_tokens_per_s == pytest.approx(8 * 1000 / found.tpot_ms.mean)


def test_the_first_token_takes_the_prompt_through_every_stage():
    layers = [("decode", 1, 128, 7.0), ("prefill", 1, 1000, 59.0)]
    swarm = swarm_of([Box("a", layers=layers), Box("b", layers=layers)], 20.0)
    found = answer(swarm, prompt=1000)
    network = 10 + 1000 * 16384 * 8 / 100e3 + 10
    assert found.ttft_ms.p50 == pytest.approx(80 * 59.0 + network + found.breakdown_ms.head, rel=0.001)


def test_the_first_token_is_not_known_without_prefill_time_or_tflops():
    found = answer(swarm_of([Box("a"), Box("b")]))
    assert math.isnan(found.ttft_ms.p50)
    assert "first token not known: no prefill time and no tflops of a, b" in found.notes


def test_a_prompt_is_never_faster_than_reading_the_weights():
    box = Box("a", layers=[("decode", 1, 0, 7.0)], tflops=1e6)
    found = answer(swarm_of([box]), "a:0-79", prompt=1)
    assert found.ttft_ms.p50 >= 80 * 7.0 * 0.99


# -- what is refused, and what is said


def test_an_unknown_speed_is_not_guessed():
    with pytest.raises(NotMeasured, match="how fast a runs llama-2-70b is not known; measure it"):
        answer(swarm_of([Box("a", layers=()), Box("b")]))


def test_an_unknown_path_is_not_guessed():
    with pytest.raises(NotMeasured, match=r"no round trip a → b is known; measure it or write a \[\[link\]\]"):
        answer(swarm_of([Box("a"), Box("b")], None))


def test_an_unknown_upload_is_not_guessed_when_live():
    swarm = live()
    swarm.nodes["up_mbps"][:] = swarm.nodes["down_mbps"][:] = np.nan
    with pytest.raises(NotMeasured, match="no upload a → b is known; wait for its uplink test or write up_mbps"):
        answer(swarm)


def test_paths_that_the_placement_does_not_use_need_not_be_known():
    swarm = swarm_of([Box("a"), Box("b"), Box("c", layers=(), up_mbps=None)], {("a", "b"): 20.0})
    found = answer(swarm, "a:0-39,b:40-79")
    assert found.tpot_ms.mean > 0
    assert not any("c" in note.split() for note in found.notes)


def test_a_bad_placement_from_anywhere_is_refused():
    with pytest.raises(BadPlacement):
        predict(swarm_of([Box("a")]), TINY, (Stage("a", 0, 3),), Workload())


def test_slow_start_is_reported_where_it_would_matter():
    swarm = swarm_of([Box(name) for name in "abcdef"], 200.0)
    (note,) = [n for n in answer(swarm).notes if "tcp_slow_start_after_idle" in n]
    assert note.startswith("16.4 KB is more than TCP sends at once after idle: up to 994 ms a token more")
    assert not [n for n in answer(swarm, activations="int8").notes if "tcp_slow_start_after_idle" in n]
    assert answer(swarm, slow_start=True).tpot_ms.p50 == pytest.approx(answer(swarm).tpot_ms.p50 + 994, abs=1)


def test_a_lost_node_is_predicted_and_told():
    swarm = live()
    swarm.nodes["state"][1] = State.LOST
    assert "b is lost" in answer(swarm).notes


def test_memory_that_is_taken_just_now_is_reported():
    swarm = live()
    swarm.nodes["vram_free_bytes"][0] = 2.0 * 2**30
    found = answer(swarm)
    assert found.fits
    assert "a has 2.0 GiB free at the moment, this stage takes 64.3" in found.notes


@pytest.mark.parametrize("seed", range(5))
def test_a_layer_time_that_varies_keeps_its_median_whatever_the_seed(seed):
    """So that a plan is never below its own bound by the luck of the draw."""
    swarm = swarm_of([Box("a"), Box("b")], 20.0)
    noisy = [dataclasses.replace(facts.layers[0], ms_p95=6.0) for facts in swarm.facts]
    swarm.facts = tuple(dataclasses.replace(f, layers=(t,)) for f, t in zip(swarm.facts, noisy, strict=True))
    tables = build_tables(swarm, LLAMA70, Workload())
    one = answer(swarm, "a:0-79", seed=seed).tpot_ms.p50
    assert one == pytest.approx(tables.price([0], [80]), rel=1e-4)
    two = answer(swarm, "a:0-39,b:40-79", seed=seed).tpot_ms.p50
    assert two == pytest.approx(tables.price([0, 1], [40, 40]), rel=0.005)


def test_notes_never_repeat():
    notes = answer(swarm_of([Box("a", layers=(), mem_gbps=300.0), Box("b", layers=(), mem_gbps=300.0)])).notes
    assert len(notes) == len(set(notes))
    assert "layer time of a, b is a best case from memory bandwidth (roofline): no layer was measured" in notes


# -- tensor parallel


def test_tensor_parallel_pays_two_all_reduces_a_layer():
    """Four nodes 20 ms apart (round trip): two rounds of 10 ms, 160 times."""
    boxes = [Box(n, up_mbps=1e6, down_mbps=1e6) for n in "abcd"]
    found = answer(swarm_of(boxes, 20.0), "a:0-79,b:0-79,c:0-79,d:0-79", engine="tensor-parallel")
    assert found.breakdown_ms.network == pytest.approx(3200, rel=0.001)
    assert found.breakdown_ms.compute == pytest.approx(80 * 5.0 / 4)
    assert found.limited_by == "rtt"


def test_tensor_parallel_shares_follow_the_layers_given():
    swarm = swarm_of([Box("a"), Box("b")], 20.0)
    found = answer(swarm, "a:0-59,b:60-79", engine="tensor-parallel")
    assert found.breakdown_ms.compute == pytest.approx(80 * 5.0 * 0.75)
    assert found.stages[0].memory_bytes > 2.5 * found.stages[1].memory_bytes


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_all_reduce_rounds_reach_everybody(count):
    from swarm_predict.cost.all_reduce import doubling

    knows = [{k} for k in range(count)]
    for pairs in doubling(count):
        heard = [set(k) for k in knows]
        for src, dst in pairs:
            heard[dst] |= knows[src]
        knows = heard
    assert all(known == set(range(count)) for known in knows)


# -- what only a person would notice


@settings(max_examples=25)
@given(data=st.data(), name=st.sampled_from(["mixtral-8x7b", "deepseek-v3", "gemma-3-27b", "gpt-oss-20b", "tiny"]))
def test_every_kind_of_model_is_predicted_in_every_engine(data, name):
    model = model_named(name)
    engine = data.draw(st.sampled_from([*STAGED, "tensor-parallel"]))
    swarm = swarm_of([Box(n, mem_gbps=900.0, tflops=70.0, layers=()) for n in ABC], 30.0)
    found = answer(swarm, even(ABC, model.layers), model=model, engine=engine)
    assert 0 < found.tpot_ms.p5 <= found.tpot_ms.p95 < 1e6
