"""Groups, guesses and shared machines under arrivals: against an event simulation, and what must always hold."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_cases import CASES, MODEL, node, swarm_of
from serving_events import simulate as by_hand

from swarm_predict.cost.speculative import outcomes, step_yield, window_yields
from swarm_predict.forecast.prediction import predict
from swarm_predict.placement import parse_placement
from swarm_predict.serving.lengths import exactly, lognormal
from swarm_predict.serving.queueing.continuous_batching import Loaded
from swarm_predict.serving.queueing.shared_stations import fair_flow
from swarm_predict.serving.replica_planning import plan_serving
from swarm_predict.serving.replicas import Replicas
from swarm_predict.serving.routes.build import offer_of, route_of
from swarm_predict.serving.routes.route import Loop, shared_wait_ms
from swarm_predict.serving.routes.verify_windows import cycles_of, passes_of
from swarm_predict.serving.serve import serve
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import BadPlacement, DoesNotFit, PredictError, Workload
from swarm_protocol.swarm_files.swarm_file import parse_swarm

TRAFFIC = Traffic(0.5, lognormal(256, 1000), exactly(100), most_sequences=48)
AS_MEMORY_ALLOWS = replace(TRAFFIC, most_sequences=0)
LOAD = Workload(prefill_chunk=128)
DRAFT = replace(LOAD, draft_tokens=4, draft_accept=0.7, draft_ms=1.0)


# ---------------------------------------------------------------- against a simulation


@pytest.mark.parametrize("kind", ["pipeline", "groups", "drafts", "windows", "shared"])
def test_time_per_token_is_that_of_an_event_simulation(kind: str) -> None:
    """One drawn case of each kind at three tenths of the most; `python -m bench serving` has many, and their errors."""
    pytest.importorskip("simpy")
    from bench.predicting.serving import compare

    for found in compare(kind, 1, loads=(0.3,), requests=400):
        assert found.tpot == pytest.approx(0, abs=0.15)


def test_both_simulators_see_the_same() -> None:
    """The one in SimPy and the one in plain Python were written apart; 1500 requests leave some percent of noise."""
    pytest.importorskip("simpy")
    from bench.support.serving_simulation import SimulatedRoute, simulate

    case = CASES["uneven stages"]
    route, services = case.route(), case.services()
    rate = 0.4 * Loaded(route).most_per_s
    one = by_hand(
        services, case.between, arrivals_per_s=rate, prompts=case.prompt.values, generate=case.generate.values,
        chunk=case.chunk, micro_batches=case.micro_batches, most_sequences=case.most, requests=1500, seed=3,
    )  # fmt: skip
    prompts = case.prompt.thinned(24).values
    parts = [int(passes) for passes in route.prompts.passes]
    other = simulate(
        [
            SimulatedRoute(
                [station.name for station in route.stations],
                lambda k, decoding, kind: services[k](decoding, 0.0 if kind is None else prompts[kind] / parts[kind]),
                case.between, parts, case.generate.values, case.micro_batches, case.most, rate,
            )
        ],
        requests=1500,
        seed=4,
    )  # fmt: skip
    assert other.routes[0].tpot_ms == pytest.approx(one.tpot_ms(), rel=0.08)
    assert max(other.busy.values()) == pytest.approx(max(one.busy), rel=0.08)


# ---------------------------------------------------------------- groups


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("tensor-parallel", "a:0-31,b:0-31"),
        ("tensor-parallel", "a:0-20,b:21-31"),
        ("hybrid", "a:0-15,b:0-15,c:16-31,d:16-31"),
        ("vllm-tp", "a:0-15,b:0-15,c:16-31,d:16-31"),
        ("distributed-llama", "a:0-31,b:0-31"),
    ],
)
def test_alone_in_groups_a_token_takes_what_one_stream_is_predicted_to_take(engine: str, text: str) -> None:
    swarm = swarm_of("a", "b", "c", "d", rtt=1.0)
    load = Workload(engine=engine, prefill_chunk=128)  # type: ignore[arg-type]
    placement = parse_placement(text, MODEL, swarm, engine)
    rare = Loaded(route_of(swarm, MODEL, placement, load, TRAFFIC)).under(1e-6)
    alone = predict(swarm, MODEL, placement, replace(load, context=round(TRAFFIC.cached_tokens)))
    assert rare.tpot_ms.mean == pytest.approx(alone.tpot_ms.p50, rel=0.015)


def test_a_group_is_one_station_that_its_all_reduces_keep_busy() -> None:
    """A longer way between the machines of a group costs requests a second; between stages it is hidden."""
    placement, load = "a:0-31,b:0-31", Workload(engine="tensor-parallel", prefill_chunk=128)
    short = Traffic(0.01, exactly(16), exactly(100), most_sequences=16)
    near, far = (
        serve(swarm, MODEL, [parse_placement(placement, MODEL, swarm, load.engine)], load, short)
        for swarm in (swarm_of("a", "b", rtt=1.0, up=900.0), swarm_of("a", "b", rtt=20.0, up=900.0))
    )
    assert far.most_per_s < 0.6 * near.most_per_s
    assert far.replicas[0].limited_by == "a + b"
    assert [part.name for part in far.replicas[0].busy] == ["a", "b"]
    assert any("meet in all-reduces for" in note for note in far.notes)


def test_distributed_llama_answers_one_request_at_a_time() -> None:
    swarm = swarm_of("a", "b", rtt=1.0)
    load = Workload(engine="distributed-llama")
    found = serve(swarm, MODEL, [parse_placement("a:0-31,b:0-31", MODEL, swarm, load.engine)], load, TRAFFIC)
    assert found.replicas[0].most_sequences == 1
    assert any("one request at a time" in note for note in found.notes)
    with pytest.raises(PredictError, match="no speculative decoding"):
        offer_of(swarm, MODEL, found.replicas[0].placement, replace(load, draft_tokens=2), TRAFFIC)


def test_a_machine_of_two_groups_is_refused() -> None:
    swarm = swarm_of("a", "b", "c", rtt=1.0)
    placements = [parse_placement(f"a:0-31,{other}:0-31", MODEL, swarm, "tensor-parallel") for other in "bc"]
    with pytest.raises(PredictError, match="a is in two placements"):
        serve(swarm, MODEL, placements, Workload(engine="tensor-parallel"), TRAFFIC)


def test_plan_shares_layers_only_where_that_serves_more() -> None:
    """Two machines hold the model only together; over a fast path they share it, and each request has both."""
    swarm = swarm_of("a", "b", vram=12.0, rtt=0.1)
    found = plan_serving(swarm, MODEL, Workload(engine="tensor-parallel"), TRAFFIC)
    assert [sorted(stage.node for stage in each.placement) for each in found.serving.replicas] == [["a", "b"]]
    roomy = plan_serving(swarm_of("a", "b", rtt=20.0), MODEL, Workload(engine="tensor-parallel"), TRAFFIC)
    assert all(len(each.placement) == 1 for each in roomy.serving.replicas)


# ---------------------------------------------------------------- guesses


def test_passes_of_an_answer_are_those_of_a_random_walk() -> None:
    yields, rng = window_yields(DRAFT), random.Random(1)

    def windows(tokens: float) -> int:
        count = 0
        while tokens > 0:
            tokens -= rng.choices(range(1, len(yields) + 1), yields)[0]
            count += 1
        return count

    answers = lognormal(60, 1200)
    drawn = [windows(rng.choice(answers.values) - 1) for _ in range(3000)]
    mean, variance = passes_of(answers, yields)
    assert mean == pytest.approx(np.mean(drawn), rel=0.1)
    assert variance == pytest.approx(np.var(drawn), rel=0.3)
    assert sum(chance * (n + 1) for n, chance in enumerate(yields)) == pytest.approx(step_yield(DRAFT))


def test_drafting_pays_up_to_the_rate_that_is_said() -> None:
    """On machines with little compute verifying fills a batch early."""
    swarm = swarm_of("a", "b", rtt=30.0, tflops=10.0)
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    found = serve(swarm, MODEL, [placement], DRAFT, AS_MEMORY_ALLOWS).drafting
    assert found is not None
    turns = found.pays_to_per_s
    assert 0 < turns < found.without_most_per_s
    assert found.filled in ("a", "b")
    guessing, plain = (
        Replicas(swarm, MODEL, [placement], load, AS_MEMORY_ALLOWS) for load in (DRAFT, replace(DRAFT, draft_tokens=0))
    )
    for rate, pays in ((0.8 * turns, True), (min(1.1 * turns, 0.9995 * guessing.most_per_s), False)):
        one, other = (each.at(rate) for each in (guessing, plain))
        assert bool(one.ttft_ms.mean + 99 * one.tpot_ms.mean < other.ttft_ms.mean + 99 * other.tpot_ms.mean) is pays


@pytest.mark.parametrize("chunk", [0, 256])
def test_with_nobody_else_a_prompt_over_a_lossy_path_takes_what_one_stream_is_predicted_to_take(chunk: int) -> None:
    """Losses keep TCP's window below the message, so that prompts take far longer than bits at the uplink's rate."""
    nodes = "".join(node(name, vram=12.0, up=500.0) for name in "ab")
    swarm = parse_swarm(f'{nodes}[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 40.0\nloss = 0.002\n')
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    load = Workload(prompt=1000, prefill_chunk=chunk, draws=4000)
    alone = predict(swarm, MODEL, placement, load).ttft_ms
    found = Replicas(swarm, MODEL, [placement], load, Traffic(1e-4, exactly(1000), exactly(100), most_sequences=48))
    assert alone is not None
    assert found.at(1e-4).ttft_ms.mean == pytest.approx(alone.p50, rel=0.3)


def test_small_chunks_do_not_outrun_a_connection_that_losses_keep_slow() -> None:
    nodes = "".join(node(name, vram=12.0, up=500.0) for name in "ab")
    swarm = parse_swarm(f'{nodes}[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 40.0\nloss = 0.002\n')
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    whole, parts = (predict(swarm, MODEL, placement, Workload(prompt=1000, prefill_chunk=chunk)) for chunk in (0, 64))
    assert whole.ttft_ms is not None
    assert parts.ttft_ms is not None
    assert parts.ttft_ms.p50 > 0.6 * whole.ttft_ms.p50
    assert whole.prompt_limited_by == parts.prompt_limited_by == "lost packets from a to b"


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_with_nobody_else_windows_in_flight_take_what_one_stream_is_predicted_to_take(windows: int) -> None:
    """`forecast.windows` follows each window of a stream without end; here answers are long enough to be near that."""
    swarm = swarm_of("a", "b", rtt=60.0)
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    load = Workload(draft_tokens=4, draft_accept=0.8, draft_ms=1.0, windows=windows, prefill_chunk=128, context=500)
    traffic = Traffic(1e-4, exactly(250), exactly(501), most_sequences=48)
    found = Replicas(swarm, MODEL, [placement], load, traffic).at(1e-4).tpot_ms.mean
    assert found == pytest.approx(predict(swarm, MODEL, placement, load).tpot_ms.p50, rel=0.06)


def test_cycles_of_an_answer_are_those_of_a_random_walk() -> None:
    """One valid window after the other: a W-th of a cycle behind one that is right, a cycle behind a miss."""
    load, rng = Workload(draft_tokens=3, draft_accept=0.8, windows=4), random.Random(0)
    found = outcomes(load)
    taken = []
    for _ in range(20_000):
        tokens, cycles = 0, 1.0
        while True:
            got = rng.choices(range(len(found.ends) + 1), (found.goes_on, *found.ends))[0]
            tokens += got or found.tokens_on
            if tokens >= 40:
                break
            cycles += 1.0 if got else 1 / load.windows
        taken.append(cycles)
    mean, variance = cycles_of(exactly(41), found, load.windows)
    assert mean == pytest.approx(np.mean(taken), rel=0.01)
    assert variance == pytest.approx(np.var(taken), rel=0.05)


def test_a_station_that_nobody_keeps_busy_limits_no_flow() -> None:
    for hardly in (0.0, 1e-310, 1e-20):
        flow = fair_flow(np.array([[0.1, 0.2], [hardly, 0.0]]), np.array([5.0, 7.0]))
        assert flow == pytest.approx([5.0, 2.5], rel=0.01)


def test_windows_in_flight_are_quicker_alone_and_sustain_less() -> None:
    """Windows behind a miss keep machines busy for nothing."""
    swarm = swarm_of("a", "b", rtt=60.0)
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    load = Workload(draft_tokens=4, draft_accept=0.8, draft_ms=1.0, prefill_chunk=128)
    each = [Replicas(swarm, MODEL, [placement], replace(load, windows=w), TRAFFIC) for w in (1, 2, 4)]
    light = [found.at(0.01).tpot_ms.mean for found in each]
    assert light[0] > light[1] > light[2]
    assert each[0].most_per_s > each[1].most_per_s > each[2].most_per_s


def test_plan_keeps_fewer_windows_in_flight_where_many_requests_come() -> None:
    swarm = swarm_of("a", "b", vram=12.0, rtt=60.0)
    load = Workload(draft_tokens=4, draft_accept=0.8, draft_ms=1.0, windows=4, prefill_chunk=128)
    quiet = plan_serving(swarm, MODEL, load, replace(TRAFFIC, arrivals_per_s=0.01))
    most = quiet.serving.most_per_s
    busy = plan_serving(swarm, MODEL, load, replace(TRAFFIC, arrivals_per_s=1.5 * most))
    assert quiet.workload.windows > 1
    assert busy.workload.windows < quiet.workload.windows


def test_guesses_that_are_never_right_never_pay() -> None:
    swarm = swarm_of("a", "b")
    wrong = replace(DRAFT, draft_accept=0.0)
    found = serve(swarm, MODEL, [parse_placement("a:0-15,b:16-31", MODEL, swarm)], wrong, TRAFFIC).drafting
    assert found is not None
    assert found.pays_to_per_s == 0
    assert found.tokens_a_pass == pytest.approx(1)


def test_plan_guesses_less_where_many_requests_come() -> None:
    swarm = swarm_of("a", "b", rtt=30.0, tflops=10.0)
    few = plan_serving(swarm, MODEL, DRAFT, replace(TRAFFIC, arrivals_per_s=0.01))
    many = plan_serving(swarm, MODEL, DRAFT, replace(TRAFFIC, arrivals_per_s=100.0))
    assert few.workload.draft_tokens > many.workload.draft_tokens == 0


# ---------------------------------------------------------------- machines of several placements

BOTH = ["a:0-15,c:16-31", "b:0-15,c:16-31"]


def test_a_shared_machine_that_limits_is_asked_for_no_more_than_its_time() -> None:
    swarm = swarm_of("a", "b", "c", rtt=20.0, up=1000.0)
    placements = [parse_placement(text, MODEL, swarm) for text in ["a:0-3,c:4-31", "b:0-3,c:4-31"]]
    both = Replicas(swarm, MODEL, placements, LOAD, TRAFFIC)
    one = Replicas(swarm, MODEL, placements[:1], LOAD, TRAFFIC)
    assert both.most_per_s < 1.2 * one.most_per_s  # c was full already
    found = serve(swarm, MODEL, placements, LOAD, replace(TRAFFIC, arrivals_per_s=0.9 * both.most_per_s))
    (shared,) = found.shared
    assert (shared.node, shared.twice) == ("c", 28)
    assert shared.busy > 0.85
    assert [each.share for each in found.replicas] == [pytest.approx(0.5, abs=0.02)] * 2
    assert {each.limited_by for each in found.replicas} == {"c"}


def test_placements_that_share_a_strong_machine_sustain_more_than_one() -> None:
    swarm = swarm_of("a", "b", "c", rtt=20.0, up=20.0)  # a's and b's uplinks limit
    placements = [parse_placement(text, MODEL, swarm) for text in BOTH]
    one = Replicas(swarm, MODEL, placements[:1], LOAD, TRAFFIC)
    both = Replicas(swarm, MODEL, placements, LOAD, TRAFFIC)
    assert both.most_per_s > 1.6 * one.most_per_s
    rate = 0.5 * one.most_per_s
    assert both.at(rate).tpot_ms.mean < one.at(rate).tpot_ms.mean


def test_more_requests_never_make_a_shared_machine_faster() -> None:
    swarm = swarm_of("a", "b", "c", rtt=20.0)
    replicas = Replicas(swarm, MODEL, [parse_placement(text, MODEL, swarm) for text in BOTH], LOAD, TRAFFIC)
    points = [replicas.at(share * replicas.most_per_s) for share in (0.1, 0.4, 0.7, 0.9)]
    for before, after in itertools.pairwise(points):
        assert after.tpot_ms.mean > before.tpot_ms.mean
        assert after.tokens_per_s > before.tokens_per_s


def test_layers_of_both_placements_are_in_memory_once_and_caches_are_divided() -> None:
    """16 of 32 layers with fp16 are about 6.5 GiB and the LM head 1: one copy fits 12 GiB, two would not."""
    swarm = swarm_of("a", "b", "c", vram=12.0)
    placements = [parse_placement(text, MODEL, swarm) for text in BOTH]
    one = Replicas(swarm, MODEL, placements[:1], LOAD, AS_MEMORY_ALLOWS)
    both = Replicas(swarm, MODEL, placements, LOAD, AS_MEMORY_ALLOWS)
    (alone,), pair = one.routes, both.routes
    assert sum(route.most_sequences for route in pair) == pytest.approx(alone.most_sequences, abs=2)


def test_no_room_for_both_says_what_is_missing() -> None:
    swarm = swarm_of("a", "b", "c", vram=12.0)
    placements = [parse_placement(text, MODEL, swarm) for text in ("a:0-15,c:16-31", "c:0-15,b:16-31")]
    with pytest.raises(
        DoesNotFit, match=r"c needs 1\d\.\d GiB for layers 16-31 and 0-15 and the caches of one request"
    ):
        serve(swarm, MODEL, placements, LOAD, TRAFFIC)


def test_more_placements_than_a_flow_is_found_for_are_refused() -> None:
    swarm = swarm_of(*"abcdefgh", vram=40.0)
    placements = [parse_placement(f"{name}:0-15,h:16-31", MODEL, swarm) for name in "abcdefg"]
    with pytest.raises(BadPlacement, match="more than 6 placements"):
        serve(swarm, MODEL, placements, LOAD, TRAFFIC)


def test_plan_lets_a_spare_machine_stand_beside_the_one_that_limits() -> None:
    """Only b holds the second half; two weak machines can each hold the first."""
    swarm = swarm_of("a", "b", "c", vram=12.0, up=3.0)
    found = plan_serving(swarm, MODEL, LOAD, replace(TRAFFIC, arrivals_per_s=100.0), time_limit_s=1.0)
    used = [{stage.node for stage in each.placement} for each in found.serving.replicas]
    assert len(used) == 2
    assert set.union(*used) == {"a", "b", "c"}
    assert found.serving.shared
    assert [each.node for each in found.roles].count(found.serving.shared[0].node) == 2


@given(
    st.lists(st.floats(0.0, 2.0), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 5.0), min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_a_flow_is_allowed_and_as_large_as_any_on_a_grid(each: list[float], most: list[float]) -> None:
    """One station that three routes share: the largest flow fills the cheapest routes first."""
    flow = fair_flow(np.array([each]), np.array(most))
    assert np.all(flow >= -1e-9)
    assert np.all(flow <= np.array(most) * (1 + 1e-6))
    assert float(np.array(each) @ flow) <= 1 + 1e-6
    left, total = 1.0, 0.0
    for cost, limit in sorted(zip(each, most, strict=True)):
        taken = min(limit, left / cost if cost > 1e-12 else limit)
        total, left = total + taken, left - taken * cost
    assert float(flow.sum()) >= total * (1 - 2e-3)


@given(st.lists(st.tuples(st.integers(1, 8), st.floats(1, 50), st.floats(0, 300)), min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_visits_wait_until_a_station_is_asked_for_all_its_time(drawn: list[tuple[int, float, float]]) -> None:
    loops = [Loop(count, ms, ms + way, ms + way) for count, ms, way in drawn]
    wait = shared_wait_ms(loops)
    asked = sum(each.in_flight * each.service_ms / (each.way_ms + wait) for each in loops)
    assert asked <= 1 + 1e-3
    if wait > 0:
        assert asked == pytest.approx(1, rel=1e-2)
