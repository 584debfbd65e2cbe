"""Accepted guesses as engines report them, converted to the chances that --draft takes."""

from __future__ import annotations

import json
import random

import pytest

from swarmtop.option_types import draft
from swarmtop.watch.acceptance import by_mean, by_position
from swarmtop.watch.completion_stream import Completion
from swarmtop.watch.metrics import between, totals

VLLM = """
vllm:inter_token_latency_seconds_sum{{engine="0",model_name="m"}} {seconds}
vllm:inter_token_latency_seconds_count{{engine="0",model_name="m"}} {tokens}
vllm:prompt_tokens_total{{engine="0",model_name="m"}} 10
vllm:spec_decode_num_drafts_total{{engine="0",model_name="m"}} {drafts}
vllm:spec_decode_num_draft_tokens_total{{engine="0",model_name="m"}} {drafted}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",model_name="m",position="0"}} {a}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",model_name="m",position="1"}} {b}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",model_name="m",position="2"}} {c}
"""


def test_vllm_tells_the_chance_by_position_of_what_came_between_two_readings() -> None:
    before = totals(VLLM.format(seconds=1.0, tokens=100, drafts=50, drafted=150, a=40, b=30, c=10))
    after = totals(VLLM.format(seconds=3.0, tokens=340, drafts=150, drafted=450, a=120, b=90, c=40))
    found = between(before, after, 5.0)
    assert found is not None
    assert found.acceptance is not None
    assert found.acceptance.guesses == 3
    assert found.acceptance.chances == pytest.approx((80 / 100, 60 / 80, 30 / 60))
    assert draft(found.acceptance.option + ":5") == (3, (0.8, 0.75, 0.5), 5.0)


def test_without_guesses_nothing_is_said_of_them() -> None:
    plain = "\n".join(line for line in VLLM.splitlines() if "spec_decode" not in line)
    values = {"drafts": 0, "drafted": 0, "a": 0, "b": 0, "c": 0}
    before, after = (totals(plain.format(seconds=s, tokens=n, **values)) for s, n in ((1.0, 100), (3.0, 300)))
    found = between(before, after, 5.0)
    assert found is not None
    assert found.acceptance is None


def test_positions_that_were_never_reached_are_left_out() -> None:
    found = by_position(10, 30, [5, 0, 0])
    assert found is not None
    assert found.chances == (0.5, 0.0)


def test_llama_server_tells_one_chance_in_the_last_event_of_an_answer() -> None:
    completion = Completion(0, 64)
    completion.event(json.dumps({"choices": [{"delta": {"content": "a"}}]}), 1_000_000)
    timings = {"predicted_n": 30, "draft_n": 40, "draft_n_accepted": 20}
    last = {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}], "timings": timings}
    completion.event(json.dumps(last), 9_000_000)
    found = completion.observation().acceptance
    assert found is not None
    assert found.guesses == 4  # 40 in 30 − 20 steps
    assert found.drafts == 10
    assert sum(found.chances[0] ** k for k in range(1, 5)) == pytest.approx(2.0)


@pytest.mark.parametrize("chance", [0.3, 0.8])
def test_one_chance_is_found_again_from_an_answer_that_it_made(chance: float) -> None:
    """4,000 steps of four guesses: known within two percent of one."""
    rng = random.Random(7)
    accepted = 0
    for _ in range(4000):
        for _ in range(4):
            if rng.random() >= chance:
                break
            accepted += 1
    found = by_mean(4000 + accepted, 16_000, accepted)
    assert found is not None
    assert found.chances[0] == pytest.approx(chance, abs=0.02)


@pytest.mark.parametrize("figures", [(10, 0, 0), (10, 5, 12), (10, 20, 10)])
def test_figures_that_contradict_each_other_tell_nothing(figures: tuple[int, int, int]) -> None:
    assert by_mean(*figures) is None
