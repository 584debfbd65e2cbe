"""Speculation with verify windows in flight: against an event simulation, bounds, and published receipts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from boxes import Box, swarm_of
from hypothesis import given, settings
from hypothesis import strategies as st
from window_events import simulate

from swarm_predict.cost.speculative import Outcomes, outcomes, step_yield
from swarm_predict.forecast.prediction import predict
from swarm_predict.forecast.windows import Route, flow, least_ms, outcome_sequence
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.posterior import NEUTRAL
from swarm_predict.search.solve import plan
from swarm_predict.search.speculation import plan_speculation
from swarm_predict.types import PredictError, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm

GPT_OSS, LLAMA8 = model_named("gpt-oss-120b"), model_named("llama-3.1-8b")


def workload(**load: object) -> Workload:
    return Workload(priors=NEUTRAL, **load)  # type: ignore[arg-type]


def one(draft_ms: float, service_ms: list[float], delay_ms: list[float], drafter: int | None = None) -> Route:
    return Route(np.array([draft_ms]), np.array([service_ms]).T, np.array([delay_ms]).T, drafter)


def mean_ms(route: Route, chances: Outcomes, windows: int, *, count: int = 400, runs: int = 64) -> float:
    """Of many runs, as nothing in one run of fixed times depends on chance but the outcomes."""
    sequences = np.array([outcome_sequence(chances, count, seed) for seed in range(runs)]).T
    many = Route(
        np.repeat(route.draft_ms, runs),
        np.repeat(route.service_ms, runs, axis=1),
        np.repeat(route.delay_ms, runs, axis=1),
        route.drafter,
    )
    return float(flow(many, sequences, windows).ms_per_token.mean())


# -- the sampler


# thirds and sevenths: times that fall together only where the route makes them
times = st.integers(0, 60).map(lambda k: k * 0.731)


@settings(max_examples=60, deadline=None)
@given(
    draft=st.integers(1, 60).map(lambda k: k * 0.517),
    stations=st.lists(st.tuples(times, times), min_size=1, max_size=6),
    windows=st.integers(1, 9), guesses=st.integers(1, 6), accept=st.floats(0, 1), shared=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_windows_in_flight_are_followed_as_an_event_simulation_has_them(
    draft, stations, windows, guesses, accept, shared, seed
):
    chances = outcomes(Workload(draft_tokens=guesses, draft_accept=accept))
    sequence = outcome_sequence(chances, 50, seed)
    service, delay = [s for s, _ in stations], [d for _, d in stations]
    found = flow(one(draft, service, delay, 0 if shared else None), sequence, windows)
    ms, sent = simulate(draft, service, delay, sequence.tolist(), windows, shared=shared)
    assert found.ms_per_token[0] == pytest.approx(ms, rel=1e-9)
    assert found.windows_per_token[0] == pytest.approx(sent, rel=1e-9)


@pytest.mark.parametrize(("accept", "windows", "guesses"), [(0.6, 3, 4), (0.9, 6, 4), (0.95, 8, 2), (1.0, 4, 3)])
def test_without_queues_the_bound_is_the_time(accept, windows, guesses):
    """The draft is the slowest and a trip is a whole number of drafts: nothing queues or is drafted in vain."""
    chances = outcomes(Workload(draft_tokens=guesses, draft_accept=accept))
    found = mean_ms(one(10.0, [4.0, 3.0], [33.0, 0.0]), chances, windows)
    bound = least_ms(40.0, 4.0, 10.0, chances, windows)
    assert found == pytest.approx(bound, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(
    draft=times, stations=st.lists(st.tuples(times, times), min_size=1, max_size=5), windows=st.integers(1, 9),
    accept=st.floats(0, 0.99), more=st.floats(1.0, 2.0),
)  # fmt: skip
def test_no_route_is_faster_than_its_bound_and_a_longer_one_has_none_below(draft, stations, windows, accept, more):
    chances = outcomes(Workload(draft_tokens=3, draft_accept=accept))
    service, delay = [s for s, _ in stations], [d for _, d in stations]
    trip, slowest = sum(service) + sum(delay), max(service)
    bound = least_ms(trip, slowest, draft, chances, windows)
    found = mean_ms(one(draft, service, delay), chances, windows, count=100, runs=100)
    assert found >= bound * 0.96  # of ten thousand windows
    assert least_ms(trip * more, slowest * more, draft, chances, windows) >= bound


@pytest.mark.parametrize("profile", [(), (0.9, 0.5, 0.2), (0.93, 0.85, 0.83, 0.95, 0.84)])
@pytest.mark.parametrize(("branches", "further"), [(1, 0.0), (3, 0.25)])
def test_outcomes_are_all_that_can_happen(profile, branches, further):
    load = Workload(
        draft_tokens=5, draft_accept=0.7, draft_profile=profile, tree_branches=branches, tree_accept=further
    )
    found = outcomes(load)
    assert found.goes_on + sum(found.ends) == pytest.approx(1)
    drawn = outcome_sequence(found, 40_000)
    assert np.abs(drawn).mean() == pytest.approx(found.tokens_a_window, rel=0.01)
    assert (drawn > 0).mean() == pytest.approx(found.goes_on, abs=0.01)


def test_a_tree_yields_more_and_costs_width():
    row = Workload(draft_tokens=4, draft_accept=0.7)
    tree = dataclasses.replace(row, tree_branches=3, tree_accept=0.3)
    # 1 + Σ a^j with a = 1 − 0.3 · 0.7² = 0.853
    assert step_yield(tree) == pytest.approx(sum(0.853**k for k in range(5)))
    assert step_yield(tree) > step_yield(row)
    assert outcomes(tree).goes_on == outcomes(row).goes_on  # only the branch that was drafted on keeps windows valid


# -- receipts: leyten/shard bca9308


def scattered() -> Swarm:
    """docs/receipts/gpt-oss-120b-libp2p-20260619.json: three RTX 4090 in three states; the return took 45 ms then.
    Nine layers take 4.4 ms for a window of five tokens (docs/research/wan-speculative-decoding.md)."""
    layers = [("decode", 5, 128, 4.4 / 9)]
    boxes = [Box(n, vram_gib=24, up_mbps=500, down_mbps=500, layers=layers) for n in ("ca", "nv", "wa")]
    edges = {("ut", "ca"): 16.0, ("ca", "nv"): 11.0, ("nv", "wa"): 40.0, ("wa", "ut"): 45.0}
    return swarm_of([*boxes, Box("ut", vram_gib=None, up_mbps=500, down_mbps=500, layers=())], edges, client="ut")


def receipt(windows: int, **load: object) -> Prediction:
    """Four guesses in 29 ms; a traversal yielded 4.00 tokens, so that each guess was right with chance 0.89."""
    given: dict[str, object] = {"draft_tokens": 4, "draft_accept": 0.89, "draft_ms": 29 / 4, "context": 128}
    swarm = scattered()
    placement = parse_placement("ca:0-11,nv:12-23,wa:24-35", GPT_OSS, swarm)
    return predict(swarm, GPT_OSS, placement, workload(weights="mxfp4", windows=windows, **(given | load)))


def test_the_receipts_of_three_scattered_cards():
    """33.5 tokens/s one window after the other, 44.8 with two in flight, 39.3 with four; single runs of 87 tokens over
    paths that made the same ring 18 to 36 tokens/s on another day (STATE.md). The first run calibrates the software."""
    assert step_yield(workload(draft_tokens=4, draft_accept=0.89)) == pytest.approx(4.0, rel=0.01)
    one_window, two, four = (receipt(windows, hop_overhead_ms=3.7) for windows in (1, 2, 4))
    assert one_window.tokens_per_s.p50 == pytest.approx(33.5, rel=0.02)
    assert two.tokens_per_s.p50 == pytest.approx(44.8, rel=0.1)
    assert four.tokens_per_s.p50 == pytest.approx(39.3, rel=0.25)
    assert four.tokens_per_s.p50 < two.tokens_per_s.p50  # more windows than the path holds are drafted in vain
    assert any("one stream is limited by the draft, 29.0 ms a window" in note for note in four.notes)
    assert receipt(1, draft_tokens=0).tokens_per_s.p50 < one_window.tokens_per_s.p50 / 2


def test_the_receipt_of_744b_over_seven_edges_bound_by_its_draft():
    """Two guesses, six windows, 1.94 of 2 right (commit 5e46245); plain decoding took 535 ms, 146 of them paths."""
    trip = 1000 / 1.87
    chances = outcomes(Workload(draft_tokens=2, draft_accept=0.98))
    assert chances.goes_on + 0.98 == pytest.approx(1.94, abs=0.01)
    stages = (trip - 146.0) / 6
    route = one(2 * 49.7, [stages] * 6 + [0.0], [146.0 / 7] * 7)
    assert 1e3 / mean_ms(route, chances, 6) == pytest.approx(16.6, rel=0.05)


def test_what_744b_over_seven_edges_would_need_for_30_tokens_a_second():
    """Published as well, without guesses and windows. Two guesses a window do not get there, however many travel and
    even if all are right at no cost: the slowest stage gives 30.9. Four as good do, drafted within a stage."""
    trip = 1000 / 1.87
    stage = (trip - 146.0) / 6

    def rate(guesses: int, accept: float, draft_ms: float, windows: int) -> float:
        chances = outcomes(Workload(draft_tokens=guesses, draft_accept=accept))
        return 1e3 / mean_ms(one(draft_ms, [stage] * 6 + [0.0], [146.0 / 7] * 7), chances, windows)

    assert 1e3 / least_ms(trip, stage, 0.0, outcomes(Workload(draft_tokens=2, draft_accept=1.0)), 64) < 31
    assert rate(2, 0.98, stage, 10) < 24
    assert rate(4, 0.98, 2 * 49.7, 8) < 28  # the draft that they had is slower than a stage
    assert rate(4, 0.98, stage, 6) == pytest.approx(30.4, rel=0.02)
    assert rate(4, 0.95, stage, 8) < 24


def test_the_receipt_with_chances_by_position():
    """docs/V4_TREE_VERDICT.md: five guesses with these chances, one burst a trip of 156 ms: 29.2 tokens/s."""
    load = Workload(draft_tokens=5, draft_profile=(0.93, 0.85, 0.83, 0.95, 0.84))
    assert step_yield(load) / 0.156 == pytest.approx(29.2, rel=0.02)


# -- predictions and plans


def ring(*, mbps: float = 200.0, rtt_ms: float = 60.0) -> Swarm:
    layers = [("decode", 1, 128, 0.5), ("decode", 8, 128, 0.6)]
    boxes = [Box(n, vram_gib=24, up_mbps=mbps, down_mbps=mbps, layers=layers) for n in "abc"]
    return swarm_of(
        [*boxes, Box("home", vram_gib=None, up_mbps=mbps, down_mbps=mbps, layers=())], rtt_ms, client="home"
    )


def ask(swarm: Swarm, **load: object) -> Prediction:
    placement = parse_placement("a:0-10,b:11-21,c:22-31", LLAMA8, swarm)
    return predict(swarm, LLAMA8, placement, workload(**load))


DRAFT = {"draft_tokens": 4, "draft_accept": 0.9, "draft_ms": 2.0}


def test_more_windows_hide_the_paths_until_a_station_is_the_bound():
    speeds = [ask(ring(), windows=w, **DRAFT).tokens_per_s.p50 for w in (1, 2, 4, 24, 32)]
    assert speeds[1] > speeds[0]
    assert speeds[2] > speeds[1]
    assert speeds[4] == pytest.approx(speeds[3], rel=0.02)
    thin = ask(ring(mbps=4.0), windows=16, **DRAFT)
    assert any("one stream is limited by the uplink of" in note for note in thin.notes)
    assert thin.limited_by == "upload"


def test_parts_of_a_token_add_up_with_windows_in_flight():
    for windows in (2, 5):
        found = ask(ring(), windows=windows, **DRAFT)
        parts = found.breakdown_ms
        assert parts.compute + parts.network + parts.overhead + parts.head == pytest.approx(found.tpot_ms.mean)


def test_lost_windows_cost_other_streams():
    """Many streams fill the slowest stage; windows behind a miss occupy it for nothing."""
    alone, ahead = (ask(ring(), windows=w, streams=1000, **DRAFT).throughput_tokens_per_s for w in (1, 8))
    assert ahead < alone * 0.8


def test_a_plan_chooses_guesses_and_windows_and_is_bounded():
    found, chosen = plan_speculation(
        ring(), LLAMA8, workload(draft_tokens=16, draft_accept=0.9, draft_ms=2.0), most_windows=8
    )
    assert 1 < chosen.windows <= 8
    assert 1 <= chosen.draft_tokens <= 16
    assert found.bound_ms <= found.prediction.tpot_ms.p50 <= found.bound_ms * 1.25
    for guesses, windows in ((4, 1), (4, 2), (8, 8), (16, 1), (1, 4)):
        other = ask(ring(), draft_tokens=guesses, draft_accept=0.9, draft_ms=2.0, windows=windows)
        assert other.tpot_ms.p50 >= found.bound_ms
        assert other.tpot_ms.p50 >= found.prediction.tpot_ms.p50 * 0.96


def test_guesses_that_are_never_right_are_not_made():
    _, chosen = plan_speculation(ring(), LLAMA8, workload(draft_tokens=8, draft_accept=0.01, draft_ms=20.0))
    assert chosen.draft_tokens == 0
    assert chosen.windows == 1


def test_a_star_takes_guesses_but_no_windows():
    load = workload(engine="petals", **DRAFT)
    _, chosen = plan_speculation(ring(), LLAMA8, load)
    assert chosen.windows == 1
    with pytest.raises(PredictError, match="modelled for pipelines, not for petals"):
        plan(ring(), LLAMA8, dataclasses.replace(load, windows=4))


def test_the_certificate_of_a_plan_with_given_windows_is_a_bound():
    found = plan(ring(), LLAMA8, workload(windows=4, **DRAFT))
    assert not found.exact
    assert found.bound_ms <= found.prediction.tpot_ms.p50


@pytest.mark.parametrize(
    ("load", "line"),
    [
        ({"windows": 4}, "set their number with --draft"),
        ({"windows": 4, "batch": 2, **DRAFT}, "leave out --batch"),
        ({"windows": 4, "redundancy": 2, **DRAFT}, "leave out --redundancy"),
    ],
)
def test_windows_that_make_no_sense_are_refused(load, line):
    with pytest.raises(PredictError, match=line):
        ask(ring(), **load)
