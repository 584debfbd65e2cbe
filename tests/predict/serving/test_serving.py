"""Many users: the queueing model against an independent event simulation, and properties that must always hold."""

from __future__ import annotations

import itertools
import math

import pytest
from serving_cases import CASES, LINK, MODEL, node, swarm_of
from serving_events import quantile, simulate

from swarm_predict.cost.build import build_costs
from swarm_predict.errors import BadPlacement, DoesNotFit, PredictError
from swarm_predict.placement import parse_placement
from swarm_predict.serving.intervals import intervals, model_factors
from swarm_predict.serving.lengths import Lengths, listed, lognormal, parse_lengths
from swarm_predict.serving.queueing.continuous_batching import Loaded, erlang_c
from swarm_predict.serving.replicas import Replicas
from swarm_predict.serving.routes.build import route_of
from swarm_predict.serving.serve import serve
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import Workload
from swarm_protocol.swarm_files.swarm_file import parse_swarm


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("load", [0.15, 0.5])
def test_steady_state_is_that_of_an_event_simulation(name: str, load: float) -> None:
    """Up to half of the most that is sustained: times per token and how busy stations are within 6 %, sequences within
    8 %, the mean first token within 12 %. A seed's own error is a few percent of these.

    Where there are about as many sequences as micro-batches some share one while another stands still, which the model
    does not follow: its time per token is then up to 12 % too long."""
    about_as_many = (name, load) == ("uneven stages", 0.15)
    case = CASES[name]
    loaded = Loaded(case.route())
    arrivals = load * loaded.most_per_s
    found = loaded.under(arrivals)
    seen = simulate(
        case.services(), case.between, arrivals_per_s=arrivals, prompts=case.prompt.values,
        generate=case.generate.values, chunk=case.chunk, micro_batches=case.micro_batches,
        most_sequences=case.most, requests=1500, seed=5,
    )  # fmt: skip
    first = seen.ttft_ms()
    assert found.tpot_ms.mean == pytest.approx(seen.tpot_ms(), rel=0.12 if about_as_many else 0.06)
    assert found.sequences == pytest.approx(seen.in_pipeline, rel=0.12 if about_as_many else 0.08)
    assert max(found.busy) == pytest.approx(max(seen.busy), rel=0.06)
    assert found.ttft_ms.mean == pytest.approx(sum(first) / len(first), rel=0.12)
    assert found.ttft_ms.p95 == pytest.approx(quantile(first, 0.95), rel=0.35)


@pytest.mark.parametrize("name", CASES)
def test_four_fifths_of_the_most_are_sustained_and_more_than_it_is_not(name: str) -> None:
    """The queue of a simulation stays short below the most, and grows without bound above it."""
    case = CASES[name]
    loaded = Loaded(case.route())

    def waiting(load: float) -> int:
        return simulate(
            case.services(), case.between, arrivals_per_s=load * loaded.most_per_s, prompts=case.prompt.values,
            generate=case.generate.values, chunk=case.chunk, micro_batches=case.micro_batches,
            most_sequences=case.most, requests=1500, seed=5,
        ).waiting_at_end  # fmt: skip

    assert waiting(0.8) < 40
    assert waiting(1.25) > 150  # a fifth of 1500 have come in vain, less what is in flight


def test_time_per_token_at_four_fifths_is_that_of_a_simulation() -> None:
    case = CASES["uneven stages"]
    loaded = Loaded(case.route())
    arrivals = 0.8 * loaded.most_per_s
    seen = simulate(
        case.services(), case.between, arrivals_per_s=arrivals, prompts=case.prompt.values,
        generate=case.generate.values, chunk=case.chunk, micro_batches=case.micro_batches,
        most_sequences=case.most, requests=1500, seed=5,
    )  # fmt: skip
    assert loaded.under(arrivals).tpot_ms.mean == pytest.approx(seen.tpot_ms(), rel=0.06)


@pytest.mark.parametrize("name", CASES)
def test_more_arrivals_never_make_anything_faster(name: str) -> None:
    loaded = Loaded(CASES[name].route())
    rates = [loaded.most_per_s * load for load in (0.05, 0.3, 0.6, 0.9, 0.99)]
    found = [loaded.under(rate) for rate in rates]
    for before, after in itertools.pairwise(found):
        assert after.tpot_ms.mean >= before.tpot_ms.mean
        assert after.queue_ms.mean >= before.queue_ms.mean - 1e-9
        assert after.sequences > before.sequences
        assert after.tokens_per_s > before.tokens_per_s


@pytest.mark.parametrize("name", CASES)
def test_requests_in_the_pipeline_follow_littles_law(name: str) -> None:
    """Sequences = arrivals · (first token without the queue + time per token · further tokens)."""
    case = CASES[name]
    loaded = Loaded(case.route())
    found = loaded.under(0.3 * loaded.most_per_s)
    prompt_ms = found.ttft_ms.mean - found.queue_ms.mean
    stay_s = (prompt_ms + found.tpot_ms.mean * (case.generate.mean - 1)) / 1e3
    assert found.sequences == pytest.approx(found.arrivals_per_s * stay_s, rel=0.07)


def test_a_queue_without_bound_says_so_and_gives_no_first_token() -> None:
    loaded = Loaded(CASES["uneven stages"].route())
    found = loaded.under(1.5 * loaded.most_per_s)
    assert not found.sustained
    assert math.isinf(found.ttft_ms.mean)
    assert math.isinf(found.waiting)
    assert found.tokens_per_s == pytest.approx(loaded.most_per_s * loaded.route.tokens)


def test_erlang_c_of_one_server_is_its_load_and_of_two_the_textbook_value() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


# ---------------------------------------------------------------- intervals


OWN = (0.9, 1.2)  # p5 and p95 of a single stream's token, over its median


def at_share(share: float) -> Replicas:
    """Two stages, asked about a share of the most that they sustain."""
    swarm = swarm_of("a", "b")
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    load = Workload(prefill_chunk=128)
    most = Replicas(swarm, MODEL, [placement], load, TRAFFIC).most_per_s
    return Replicas(swarm, MODEL, [placement], load, Traffic(share * most, TRAFFIC.prompt, TRAFFIC.generate))


def test_an_interval_is_wider_than_either_doubt_and_grows_with_load() -> None:
    widths = []
    for share in (0.3, 0.6):
        found = at_share(share)
        mean = found.at(found.traffic.arrivals_per_s).tpot_ms.mean
        token, first = intervals(found, OWN)
        assert token.p5 < OWN[0] * mean
        assert token.p95 > OWN[1] * mean
        assert token.p95 > model_factors("pipeline", share, "tpot")[1] * mean
        assert first.p5 < found.at(found.traffic.arrivals_per_s).ttft_ms.mean < first.p95
        widths.append(token.p95 / token.p5)
    assert widths[1] > widths[0]


def test_an_interval_has_no_upper_end_where_slower_machines_would_not_sustain_the_requests() -> None:
    found = at_share(0.9)
    token, first = intervals(found, OWN)
    assert math.isinf(token.p95)
    assert math.isinf(first.p95)
    assert token.p5 < found.at(found.traffic.arrivals_per_s).tpot_ms.mean


def test_without_any_doubt_of_its_own_an_interval_is_the_models() -> None:
    found = at_share(0.6)
    low, high = model_factors("pipeline", 0.6, "tpot")
    mean = found.at(found.traffic.arrivals_per_s).tpot_ms.mean
    token = intervals(found, (1.0, 1.0))[0]
    assert (token.p5, token.p95) == pytest.approx((mean * low, mean * high))


# ---------------------------------------------------------------- lengths


def test_lengths_are_a_number_a_lognormal_or_a_list() -> None:
    assert parse_lengths("512") == Lengths((512.0,))
    found = parse_lengths("lognormal:512:2000")
    assert found is not None
    assert found.quantile(0.5) == pytest.approx(512, rel=0.01)
    assert found.quantile(0.95) == pytest.approx(2000, rel=0.03)
    sigma = math.log(2000 / 512) / 1.6449
    assert found.mean == pytest.approx(512 * math.exp(sigma**2 / 2), rel=0.01)
    assert parse_lengths("lengths.txt") is None
    assert listed([3, 1, 2]).values == (1, 2, 3)


def test_thinned_lengths_keep_their_mean() -> None:
    found = lognormal(512, 4000)
    assert len(found.thinned(24).values) == 24
    assert found.thinned(24).mean == pytest.approx(found.mean)


@pytest.mark.parametrize("text", ["0", "lognormal:500:100", "lognormal:500", "-3"])
def test_lengths_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(PredictError):
        parse_lengths(text)


# ---------------------------------------------------------------- placements


TRAFFIC = Traffic(0.5, lognormal(256, 1000), lognormal(100, 300))


def test_alone_a_token_takes_what_one_stream_is_predicted_to_take() -> None:
    """The route and the tables of a single stream are the same arithmetic."""
    swarm = swarm_of("a", "b", "c")
    placement = parse_placement("a:0-9,b:10-20,c:21-31", MODEL, swarm)
    load = Workload(prefill_chunk=128)
    route = route_of(swarm, MODEL, placement, load, TRAFFIC)
    rare = Loaded(route).under(1e-6)
    context = Workload(context=round(TRAFFIC.cached_tokens))
    tables = build_costs(swarm, MODEL, context, [0, 1, 2]).tables
    assert rare.tpot_ms.mean == pytest.approx(tables.price([0, 1, 2], [10, 11, 11]), rel=1e-3)


def test_memory_limits_the_sequences_and_names_the_machine() -> None:
    nodes = node("wide") + node("narrow", vram=10)
    swarm = parse_swarm(nodes + LINK.format(rtt=20))
    placement = parse_placement("wide:0-15,narrow:16-31", MODEL, swarm)
    route = route_of(swarm, MODEL, placement, Workload(), TRAFFIC)
    assert route.limit == "narrow"
    cache = MODEL.stage_cache_bytes(16, 31, math.ceil(TRAFFIC.cached_tokens))
    assert 1 < route.most_sequences < 10 * 2**30 / cache


def test_engines_that_reserve_caches_hold_fewer_sequences() -> None:
    swarm = swarm_of("a", "b")
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    paged = route_of(swarm, MODEL, placement, Workload(engine="vllm"), TRAFFIC)
    reserved = route_of(swarm, MODEL, placement, Workload(engine="llama.cpp", weights="q8_0"), TRAFFIC)
    assert reserved.most_sequences < paged.most_sequences


def test_vllm_keeps_as_many_micro_batches_in_flight_as_stages_and_loses_by_it_over_distance() -> None:
    swarm = swarm_of("a", "b", rtt=200.0)
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    vllm = serve(swarm, MODEL, [placement], Workload(engine="vllm", prefill_chunk=128), TRAFFIC)
    free = serve(swarm, MODEL, [placement], Workload(prefill_chunk=128), TRAFFIC)
    assert vllm.replicas[0].micro_batches == 2
    assert free.replicas[0].micro_batches > 2
    assert free.most_per_s > vllm.most_per_s


def test_a_thin_uplink_limits_what_is_sustained() -> None:
    swarm = swarm_of("a", "b", up=2.0)
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    found = serve(swarm, MODEL, [placement], Workload(prefill_chunk=128), TRAFFIC)
    assert found.replicas[0].limited_by == "a's uplink"
    assert {each.name: each.share for each in found.replicas[0].busy}["a's uplink"] > 0.2


def test_two_equal_replicas_sustain_twice_the_requests_at_the_same_times() -> None:
    swarm = swarm_of("a", "b", "c", "d")
    one = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    two = parse_placement("c:0-15,d:16-31", MODEL, swarm)
    alone = serve(swarm, MODEL, [one], Workload(prefill_chunk=128), TRAFFIC)
    twice = Traffic(2 * TRAFFIC.arrivals_per_s, TRAFFIC.prompt, TRAFFIC.generate)
    both = serve(swarm, MODEL, [one, two], Workload(prefill_chunk=128), twice)
    assert both.most_per_s == pytest.approx(2 * alone.most_per_s)
    assert both.tpot_ms.mean == pytest.approx(alone.tpot_ms.mean)
    assert both.ttft_ms.p95 == pytest.approx(alone.ttft_ms.p95, rel=0.02)
    assert [each.share for each in both.replicas] == [0.5, 0.5]


def test_the_same_placement_twice_is_refused() -> None:
    swarm = swarm_of("a", "b")
    one = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    with pytest.raises(BadPlacement, match="a:0-15,b:16-31 is there twice"):
        serve(swarm, MODEL, [one, one], Workload(), TRAFFIC)


def test_no_room_for_one_request_does_not_fit() -> None:
    swarm = swarm_of("a", "b", vram=7.0)
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    with pytest.raises(DoesNotFit, match="and the cache of one request"):
        route_of(swarm, MODEL, placement, Workload(), TRAFFIC)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (Workload(windows=2), "set their number with --draft"),
        (Workload(engine="vllm-tp", draft_tokens=4, draft_accept=0.7, windows=2), "leave out --windows"),
        (Workload(draft_tokens=4, offload_gbps=12.0, offload_cache=True), "--draft"),
        (Workload(batch=4), "--batch"),
        (Workload(redundancy=2), "--redundancy"),
        (Workload(offload_gbps=12.0), "--offload-cache"),
        (Workload(offload_gbps=12.0, offload_cache=True), "--micro-batches"),
    ],
)
def test_what_is_not_modelled_with_arrivals_is_refused(load: Workload, said: str) -> None:
    swarm = swarm_of("a", "b")
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    with pytest.raises(PredictError, match=said):
        route_of(swarm, MODEL, placement, load, TRAFFIC)


def test_the_most_within_a_limit_of_time_per_token_keeps_to_it() -> None:
    swarm = swarm_of("a", "b")
    placement = parse_placement("a:0-15,b:16-31", MODEL, swarm)
    replicas = Replicas(swarm, MODEL, [placement], Workload(prefill_chunk=128), TRAFFIC)
    light = replicas.at(1e-3).tpot_ms.mean
    within = replicas.most_within(1.5 * light)
    assert 0 < within < replicas.most_per_s
    assert replicas.at(within).tpot_ms.mean == pytest.approx(1.5 * light, rel=0.01)
    assert replicas.most_within(0.5 * light) == 0
