"""Coordinates of a swarm, estimates from them, and the links that are measured more often for them."""

from __future__ import annotations

import numpy as np
import pytest
from collector_fixtures import FOCUS
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_collector.scheduling.network_coordinates import fit
from swarm_collector.scheduling.survey import Survey, columns_of, survey
from swarm_protocol.snapshot.estimates.unmeasured_pairs import COVERED, estimate_pairs
from swarm_protocol.snapshot.links.fill_unmeasured import Completer, completed
from swarm_protocol.snapshot.swarm import Kind, LayerTime, NodeFacts, Path, State, Swarm

N = 60


def towns(rng: np.random.Generator, n: int = N):
    """(src, dst, RTT) of all pairs of nodes on a sphere's worth of plane, each behind a line of its own."""
    at, height = rng.uniform(0, 100, (n, 2)), rng.uniform(1, 15, n)
    src, dst = np.triu_indices(n, 1)
    return src, dst, np.sqrt(((at[src] - at[dst]) ** 2).sum(-1)) + height[src] + height[dst]


def _ends(n: int):
    return np.triu_indices(n, 1)


def _among(n: int, src, dst, rtt):
    """The pairs among the first `n` nodes."""
    of = (src < n) & (dst < n)
    return src[of], dst[of], rtt[of]


def swarm_of(n: int) -> Swarm:
    layer = LayerTime(FOCUS.model, "decode", 1, 128, 2.0, dtype="*")
    swarm = Swarm.empty(tuple(NodeFacts(f"{i:016x}", f"n{i}", layers=(layer,)) for i in range(n)))
    swarm.nodes["state"][:] = State.OK
    swarm.nodes["vram_bytes"][:] = 8 << 30
    swarm.nodes["up_mbps"][:] = swarm.nodes["down_mbps"][:] = 100.0
    return swarm


def test_unmeasured_pairs_are_estimated_from_a_third_of_the_others() -> None:
    rng = np.random.default_rng(5)
    src, dst, rtt = towns(rng)
    seen = rng.random(len(src)) < 0.3
    found = fit(N, src[seen], dst[seen], rtt[seen], rng)
    error = np.abs(found.rtt_ms(src[~seen], dst[~seen]) / rtt[~seen] - 1)
    assert np.median(error) < 0.05


def test_a_few_absurd_paths_do_not_bend_the_rest() -> None:
    rng = np.random.default_rng(6)
    src, dst, rtt = towns(rng)
    seen = rng.random(len(src)) < 0.4
    absurd = rng.random(len(src)) < 0.05
    found = fit(N, src[seen], dst[seen], np.where(absurd, 20 * rtt, rtt)[seen], rng)
    error = np.abs(found.rtt_ms(src[~seen & ~absurd], dst[~seen & ~absurd]) / rtt[~seen & ~absurd] - 1)
    assert np.median(error) < 0.10


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
def test_an_interval_holds_nine_in_ten_of_the_pairs_that_were_left_out(noise: float) -> None:
    shares = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        src, dst, rtt = towns(rng, 100)
        rtt = rtt * np.exp(rng.normal(0, noise, len(rtt)))
        seen = rng.random(len(src)) < 0.4
        fitted = fit(100, src[seen], dst[seen], rtt[seen], rng)
        found = estimate_pairs(fitted.place, fitted.height, src[seen], dst[seen], rtt[seen])
        assert found is not None
        low, high = found.interval_of(src[~seen], dst[~seen])
        shares.append(np.mean((low <= rtt[~seen]) & (rtt[~seen] <= high)))
    assert COVERED - 0.05 < np.mean(shares) < COVERED + 0.05


@pytest.mark.parametrize(("nodes", "measured"), [(20, 0.8), (20, 0.3), (30, 0.5), (30, 0.2), (50, 0.1), (60, 0.3)])
def test_intervals_of_small_swarms_hold_too(nodes: int, measured: float) -> None:
    """The swarms that most people have, while they have just been started: with 0.1 of the pairs of 50 nodes half as
    many are measured as there are parameters, and the usual error of coordinates is most of what is known."""
    shares = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        src, dst, rtt = towns(rng, nodes)
        rtt = rtt * np.exp(rng.normal(0, 0.1, len(rtt)))
        seen = rng.random(len(src)) < measured
        fitted = fit(nodes, src[seen], dst[seen], rtt[seen], rng)
        found = estimate_pairs(fitted.place, fitted.height, src[seen], dst[seen], rtt[seen])
        assert found is not None
        judged = ~seen & (fitted.known[src] > 0) & (fitted.known[dst] > 0)
        low, high = found.interval_of(src[judged], dst[judged])
        shares.append(np.mean((low <= rtt[judged]) & (rtt[judged] <= high)))
    assert COVERED - 0.05 < np.mean(shares) < COVERED + 0.08


def test_a_completer_estimates_again_when_the_coordinates_change() -> None:
    rng = np.random.default_rng(11)
    src, dst, rtt = towns(rng)
    seen = rng.random(len(src)) < 0.5
    swarm = swarm_of(N)
    swarm.links["rtt_min_ms"][src[seen], dst[seen]] = rtt[seen]
    completer, shown = Completer(), []
    for _ in range(2):
        found = fit(N, src[seen], dst[seen], rtt[seen], rng)
        for name, column in columns_of(found).items():
            swarm.nodes[name] = column
        shown.append(completer.completed(swarm).links["rtt_min_ms"])
        np.testing.assert_array_equal(shown[-1], completed(swarm).links["rtt_min_ms"])
        np.testing.assert_array_equal(shown[-1], completer.completed(swarm).links["rtt_min_ms"])
    assert not np.array_equal(shown[0], shown[1])
    assert np.median(np.abs(shown[1][src[~seen], dst[~seen]] / rtt[~seen] - 1)) < 0.05


def test_the_spread_says_which_nodes_fit_badly() -> None:
    rng = np.random.default_rng(7)
    src, dst, rtt = towns(rng)
    rtt = np.where((src == 3) | (dst == 3), rtt * rng.uniform(0.5, 2.0, len(rtt)), rtt)
    found = fit(N, src, dst, rtt, rng)
    assert found.spread[3] > 3 * np.median(found.spread)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0.001, 5000)), max_size=20))
def test_any_measurements_give_finite_places_and_estimates_above_zero(pairs: list[tuple[int, int, float]]) -> None:
    """Repeats, contradictions and nodes of which nothing is known among them."""
    pairs = [(a, b, rtt) for a, b, rtt in pairs if a != b]
    src, dst = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    found = fit(6, src, dst, np.array([rtt for *_, rtt in pairs]), np.random.default_rng(1))
    i, j = np.triu_indices(6, 1)
    assert np.all(np.isfinite(found.rtt_ms(i, j)))
    assert np.all(found.rtt_ms(i, j) > 0)
    assert np.all(found.spread > 0)


def test_a_fit_continues_from_the_one_before() -> None:
    rng = np.random.default_rng(8)
    src, dst, rtt = towns(rng)
    first = fit(N, src, dst, rtt, rng)
    again = fit(N, src, dst, rtt, rng, before=first)
    moved = np.abs(again.rtt_ms(src, dst) / first.rtt_ms(src, dst) - 1)
    assert np.quantile(moved, 0.95) < 0.05


def test_steps_of_a_part_of_the_pairs_end_where_steps_of_all_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collectors of thousands of probes survey them every minute, beside the ingest."""
    rng = np.random.default_rng(9)
    src, dst, rtt = towns(rng, 100)
    rtt = rtt * np.exp(rng.normal(0.0, 0.1, len(rtt)))
    seen = rng.random(len(src)) < 0.5
    errors = []
    for least in (1 << 14, 400):  # all 2,500 pairs in each step, and a sixth of them
        monkeypatch.setattr("swarm_collector.scheduling.network_coordinates.MIN_STEP_PAIRS", least)
        found = fit(100, src[seen], dst[seen], rtt[seen], np.random.default_rng(3))
        errors.append(np.median(np.abs(found.rtt_ms(src[~seen], dst[~seen]) / rtt[~seen] - 1)))
    assert errors[1] < 1.1 * errors[0] < 0.1


def test_a_survey_continues_although_nodes_came_and_went() -> None:
    """One of ten thousand joins or leaves every minute; a fit from nothing takes ten times as long."""
    rng = np.random.default_rng(10)
    src, dst, rtt = towns(rng)
    before = survey(swarm_of(N - 1), _among(N - 1, src, dst, rtt), FOCUS, Survey())
    assert before.coordinates is not None
    whole = survey(swarm_of(N), (src, dst, rtt), FOCUS, before)
    assert whole.coordinates is not None
    moved = np.abs(whole.coordinates.rtt_ms(*_ends(N - 1)) / before.coordinates.rtt_ms(*_ends(N - 1)) - 1)
    assert np.median(moved) < 0.03  # a fit from nothing ends elsewhere: rotated, but also with other distances
    error = np.abs(whole.coordinates.rtt_ms(src, dst) / rtt - 1)
    assert np.median(error[(src == N - 1) | (dst == N - 1)]) < 0.1  # the newcomer has found its place


def test_only_pairs_that_neither_end_measured_are_estimated_and_they_say_so() -> None:
    swarm = swarm_of(4)
    swarm.links["rtt_min_ms"][0, 1], swarm.links["rtt_p50_ms"][0, 1] = 10.0, 12.0
    swarm.links["rtt_p95_ms"][0, 1], swarm.links["rtt_p99_ms"][0, 1] = 15.0, 20.0
    swarm.links["kind"][0, 1] = Kind.MEASURED
    src, dst = np.array([0, 0, 1]), np.array([1, 2, 2])
    found = fit(4, src, dst, np.array([10.0, 20.0, 20.0]), np.random.default_rng(1))
    for name, column in columns_of(found).items():
        swarm.nodes[name] = column
    filled = completed(swarm)
    kind = filled.links["kind"]
    assert kind[0, 1] == Kind.MEASURED
    assert kind[1, 0] == Kind.NONE  # the other direction of what was measured
    assert kind[0, 2] == kind[2, 1] == Kind.ESTIMATE
    assert filled.links["path"][0, 2] == Path.ESTIMATED
    assert np.all(kind[3] == Kind.NONE)  # of node 3 nothing is known
    least, p50, p95 = (filled.links[name][0, 2] for name in ("rtt_min_ms", "rtt_p50_ms", "rtt_p95_ms"))
    assert least == pytest.approx(20.0, rel=0.1)
    assert p50 / least == pytest.approx(1.2)  # as measured links have it
    assert p95 >= p50
    assert filled.links["at_ns"][0, 2] == 0
    assert np.isnan(swarm.links["rtt_min_ms"][0, 2])  # the swarm it was made from is as it was


def test_without_coordinates_a_swarm_stays_the_same_object() -> None:
    swarm = swarm_of(3)
    assert completed(swarm) is swarm


def test_a_survey_names_the_links_among_the_best_chains_nodes_and_who_is_near() -> None:
    rng = np.random.default_rng(9)
    src, dst, rtt = towns(rng)
    seen = rng.random(len(src)) < 0.3
    swarm = swarm_of(N)
    swarm.nodes["vram_bytes"][:] = 24e9  # of some 140: no node does it alone
    swarm.links["rtt_min_ms"][src[seen], dst[seen]] = swarm.links["rtt_p50_ms"][src[seen], dst[seen]] = rtt[seen]
    swarm.links["kind"][src[seen], dst[seen]] = Kind.MEASURED
    found = survey(swarm, (src[seen], dst[seen], rtt[seen]), FOCUS, Survey())
    assert found.why_not == ""
    for node, peers in found.wanted.items():
        assert node not in peers
        assert all(node in found.wanted[peer] for peer in peers)
    near = found.near(found.ids[0])
    assert found.ids[0] not in near
    others = np.flatnonzero(np.arange(N) != 0)
    true = {found.ids[j]: float(rtt[(src == 0) & (dst == j)][0]) for j in others}
    closest = sorted(true, key=true.__getitem__)[:5]
    assert set(closest) <= set(near)


def test_a_survey_of_nothing_is_no_survey() -> None:
    nothing = np.array([], np.int64)
    found = survey(swarm_of(3), (nothing, nothing, np.array([])), FOCUS, Survey())
    assert found.coordinates is None
    assert found.near(found.ids[0]) == {}
