"""Runs beside their predictions: noticed if they differ for longer than noise, with the likely term."""

from __future__ import annotations

import dataclasses
import random

import pytest

from swarm_predict.explain.disagreement import LOOKS, Looks, Parts, Watched, disagreement, parts_of
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.types import Stage, Workload
from swarm_protocol.swarm_files.named_nodes import swarm_of_nodes

# a token of three placements, and the first token of a prompt of 200 of each
TOKEN = (Parts(40.0, 3.0, 25.0), Parts(60.0, 2.0, 17.0), Parts(45.0, 5.0, 42.0))
FIRST = tuple(Parts(parts.layers_ms * 4, parts.round_trips, parts.kilobytes * 200) for parts in TOKEN)
EACH: dict[Looks, float] = {"layers": 0.6, "round trips": 12.0, "bytes": 1.1, "every token": 40.0}


def took(parts: Parts, looks: Looks | None) -> float:
    """Beyond the prediction."""
    if looks is None:
        return 0.0
    column = dict(zip(LOOKS, (parts.layers_ms, parts.round_trips, parts.kilobytes, 1.0), strict=True))
    return column[looks] * EACH[looks]


def runs(
    looks: Looks | None, count: int = 9, *, placements: int = 3, first: bool = True, scatter: float = 0.01, way: int = 1
) -> list[Watched]:
    rng = random.Random(7)
    found = []
    for k in range(count):
        token, prompt = TOKEN[k % placements], FIRST[k % placements]
        p50, first_p50 = token.layers_ms + 20 * token.round_trips, prompt.layers_ms + 20 * prompt.round_trips
        found.append(
            Watched(
                k, (p50 + way * took(token, looks)) * rng.gauss(1, scatter), p50 * 0.93, p50, p50 * 1.08, token,
                (first_p50 + way * took(prompt, looks)) * rng.gauss(1, scatter) if first else None,
                first_p50 if first else None, None, prompt if first else None,
            )
        )  # fmt: skip
    return found


def test_runs_inside_their_intervals_and_single_outliers_are_no_disagreement() -> None:
    good = runs(None, 20, scatter=0.03)
    assert disagreement(good) is None
    slow = dataclasses.replace(good[-1], tpot_ms=3 * good[-1].tpot_ms)
    assert disagreement([*good, slow]) is None
    assert disagreement([*good, slow, slow]) is None
    assert disagreement([]) is None


def test_few_runs_say_nothing_and_scattered_ones_need_to_be_further_off() -> None:
    assert disagreement(runs("every token", 2)) is None
    assert disagreement(runs("every token", 3)) is not None
    near = [dataclasses.replace(run, tpot_ms=run.p95_ms * 1.02) for run in runs(None, 5)]
    assert disagreement(near) is None


@pytest.mark.parametrize("looks", LOOKS)
def test_the_term_that_grew_is_told_from_the_others_by_placements_and_first_tokens(looks: Looks) -> None:
    found = disagreement(runs(looks))
    assert found is not None
    assert (found.slower, found.looks_like) == (True, (looks,))
    assert found.each == pytest.approx(EACH[looks], rel=0.1)
    assert (found.runs, found.since_ns) == (9, 0)


def test_one_placement_without_first_tokens_cannot_tell() -> None:
    found = disagreement(runs("layers", placements=1, first=False))
    assert found is not None
    assert set(found.looks_like) == set(LOOKS)


def test_a_first_token_alone_tells_bytes_and_layers_from_round_trips() -> None:
    found = disagreement(runs("round trips", placements=1))
    assert found is not None
    assert {"layers", "bytes"}.isdisjoint(found.looks_like)
    heavy = disagreement(runs("bytes", placements=1))
    assert heavy is not None
    assert heavy.looks_like == ("bytes",)


def test_faster_runs_disagree_as_well_and_the_end_of_it_is_seen() -> None:
    found = disagreement(runs("layers", way=-1))
    assert found is not None
    assert not found.slower
    assert found.looks_like[0] == "layers"
    assert disagreement([*runs("layers"), *runs(None, 5)]) is None


def test_the_parts_of_a_placement_are_those_of_its_prediction() -> None:
    swarm, model = swarm_of_nodes("a=4090@Utrecht fiber, b=3090@Berlin fiber"), model_named("llama-3.1-8b")
    placement, load = (Stage("a", 0, 15), Stage("b", 16, 31)), Workload(prompt=100)
    predicted = predict(swarm, model, placement, load)
    token, first = parts_of(swarm, model, placement, load, predicted)
    assert first is not None
    assert token.round_trips == first.round_trips == predicted.hops == 2
    assert token.kilobytes == pytest.approx((8192 + 4) / 1e3)
    assert first.kilobytes == pytest.approx((100 * 8192 + 4) / 1e3)
    assert token.layers_ms == pytest.approx(predicted.breakdown_ms.compute + predicted.breakdown_ms.head, rel=0.1)
    assert 0 < first.layers_ms < predicted.ttft_ms.p50


# a gloo pipeline on three emulated hosts: one path took 10 ms, and 35 from the ninth run on. Milliseconds of a token
# and of the first one, whose prediction was 27 ms too fast from the start
BEFORE = ((51.3, 141), (56.2, 148), (54.8, 139), (51.6, 135), (50.7, 136), (52.3, 140), (53.1, 133), (52.0, 134))
AFTER = ((82.1, 218), (82.2, 151), (80.6, 150), (77.9, 145), (77.5, 145), (77.0, 146))


def live(*taken: tuple[float, float]) -> list[Watched]:
    token, first = Parts(19.6, 3, 4.1), Parts(72.1, 3, 69.6)
    return [
        Watched(k, tpot_ms, 43.9, 51.5, 60.3, token, first_ms, 109.8, 119.9, first)
        for k, (tpot_ms, first_ms) in enumerate(taken)
    ]


@pytest.mark.parametrize("count", [3, 6])
def test_what_changed_is_told_whatever_first_tokens_lay_off_before(count: int) -> None:
    found = disagreement(live(*BEFORE, *AFTER[:count]))
    assert found is not None
    assert found.agreed
    assert found.looks_like[0] in ("round trips", "every token")
    assert "layers" not in found.looks_like
    assert found.each == pytest.approx({"round trips": 9, "every token": 27}[found.looks_like[0]], rel=0.15)


def test_without_runs_that_agreed_a_first_token_says_as_much_as_it_is_predicted() -> None:
    found = disagreement(live(*AFTER))
    assert found is not None
    assert not found.agreed
    assert {"round trips", "every token"} <= set(found.looks_like)


# llama-server on two RPC servers over 20 ms one way and 100 Mbit/s, watched on 30 November 2026: (a token, the first
# one since the engine began with the prompt), milliseconds. Of 28 prompt tokens ten were cached.
# What changed is the line of one of the two servers
LLAMA_BEFORE = ((106, 822), (112, 280), (110, 328), (108, 275), (123, 202), (122, 252), (116, 254), (116, 659))
LLAMA_FARTHER = ((158, 249), (159, 304), (153, 426), (169, 338), (163, 300), (159, 355), (160, 439))  # 20 ms more
LLAMA_THIN = ((176, 1179), (175, 1230), (176, 1133), (171, 1094), (180, 1131), (169, 1117))  # 2 Mbit/s both ways


def llama(*taken: tuple[float, float]) -> list[Watched]:
    token, first = Parts(13.0, 4, 21.3), Parts(319.6, 4, 323.7)
    return [
        Watched(k, tpot_ms, 83.5, 101.0, 120.6, token, first_ms, 433.9, 457.5, first)
        for k, (tpot_ms, first_ms) in enumerate(taken)
    ]


@pytest.mark.parametrize("count", [4, 6])
def test_an_engine_whose_link_got_thin_both_ways_is_slow_by_bytes(count: int) -> None:
    found = disagreement(llama(*LLAMA_BEFORE, *LLAMA_THIN[:count]))
    assert found is not None
    assert found.agreed
    assert found.looks_like[0] == "bytes"
    assert found.each == pytest.approx(4 * 12.8 / 21.3, rel=0.3)  # 4 ms a kilobyte, of which three fifths go there


def test_an_engine_whose_path_got_longer_is_slow_by_round_trips() -> None:
    found = disagreement(llama(*LLAMA_BEFORE, *LLAMA_FARTHER))
    assert found is not None
    assert {"round trips", "every token"} == set(found.looks_like)
    assert found.each == pytest.approx({"round trips": 10, "every token": 40}[found.looks_like[0]], rel=0.2)


# the same with the prompt cache, which is read back before each prompt: meanwhile connections to servers rest, and
# the windows of a prompt's messages have shrunk. 20 ms more one way to one server; one server with 0.15 of a core
CACHE_BEFORE = ((119, 246), (120, 232), (127, 323), (110, 279), (111, 245), (118, 217), (115, 248), (119, 225))
CACHE_FARTHER = ((158, 454), (157, 517), (160, 305), (155, 468), (148, 543), (160, 488), (158, 480), (163, 514))
CACHE_BUSY = ((150, 391), (147, 368), (160, 413), (170, 384), (178, 449), (182, 510), (166, 528), (192, 490))


@pytest.mark.parametrize(("taken", "cause"), [(CACHE_FARTHER, "round trips"), (CACHE_BUSY, "layers")])
def test_over_connections_that_rested_the_cause_is_among_those_named(
    taken: tuple[tuple[float, float], ...], cause: Looks
) -> None:
    token, first = Parts(17.6, 4, 21.3), Parts(331.6, 4, 323.7, windows=15.0)
    runs = [
        Watched(k, tpot_ms, 86.6, 105.4, 125.7, token, first_ms, 444.5, 471.4, first)
        for k, (tpot_ms, first_ms) in enumerate((*CACHE_BEFORE, *taken))
    ]
    found = disagreement(runs)
    assert found is not None
    assert found.agreed
    assert cause in found.looks_like
    assert "bytes" not in found.looks_like


def test_the_layers_of_a_first_token_take_what_the_runs_that_agreed_took() -> None:
    """Prompts are computed at a fifth of the predicted speed: slower layers then add five times as much to them."""
    token, first = Parts(40.0, 2, 4.0), Parts(100.0, 2, 80.0)

    def run(k: int, factor: float) -> Watched:
        return Watched(k, 40 + 40 * factor, 75.0, 80.0, 85.0, token, 40 + 500 * factor, 140.0, None, first)

    found = disagreement([*(run(k, 1.0) for k in range(6)), *(run(6 + k, 2.0) for k in range(5))])
    assert found is not None
    assert found.looks_like == ("layers",)
    assert found.each == pytest.approx(1.0, rel=0.05)


def test_what_was_cached_of_a_prompt_is_sent_to_nobody() -> None:
    swarm, model = swarm_of_nodes("a=4090@Utrecht fiber, b=3090@Berlin fiber"), model_named("llama-3.1-8b")
    placement = (Stage("a", 0, 15), Stage("b", 16, 31))
    load = Workload(prompt=100, cached_prompt=60)
    _, first = parts_of(swarm, model, placement, load, predict(swarm, model, placement, load))
    assert first is not None
    assert first.kilobytes == pytest.approx((40 * 8192 + 4) / 1e3)
