"""A prompt after a pause meets TCP windows that have shrunk: measured swarms show it, hand-written ones on request."""

from __future__ import annotations

import pytest
from boxes import Box, swarm_of

from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm

RTT_MS = 80.0
MODEL = model_named("gpt2")  # 1.5 KB a token in fp16


def measured(*, slow_start: bool = False, prompt: int) -> tuple[Prediction, Prediction]:
    """The same figures as measured, and as written by hand."""

    def swarm() -> Swarm:
        layers = (("decode", 1, 128, 2.0), ("prefill", 1, prompt, 2.0))
        made = swarm_of([Box("a", layers=layers), Box("b", layers=layers)], RTT_MS)
        made.links["hop_bytes"][:], made.links["hop_min_ms"][:], made.links["hop_p50_ms"][:] = 1536, 80.1, 80.1
        return made

    live = swarm()
    live.nodes["state"][:], live.links["kind"][:], live.at_ns = State.OK, Kind.MEASURED, 10**18
    for column in ("hop_at_ns", "at_ns"):
        live.links[column][:] = live.at_ns
    work = Workload(prompt=prompt, slow_start=slow_start)
    first, second = (predict(s, MODEL, parse_placement("a:0-5,b:6-11", MODEL, s), work) for s in (live, swarm()))
    return first, second


def test_a_prompt_above_the_initial_window_waits_a_round_trip_for_each_further_window() -> None:
    """32 tokens are 49 KB: 14.5 go at once, 29.2 a round trip later, the rest after another."""
    live, by_hand = measured(prompt=32)
    waited_ms = live.ttft_ms.p50 - by_hand.ttft_ms.p50
    assert waited_ms == pytest.approx(2 * RTT_MS, rel=0.1)
    assert any("TCP starting slowly" in note for note in live.notes)
    assert not any("TCP starting slowly" in note for note in by_hand.notes)


def test_a_prompt_that_fits_the_initial_window_waits_for_nothing() -> None:
    live, by_hand = measured(prompt=8)
    assert live.ttft_ms.p50 == pytest.approx(by_hand.ttft_ms.p50, rel=0.02)


def test_who_asks_for_slow_start_gets_it_by_hand_too() -> None:
    _, plain = measured(prompt=32)
    _, asked = measured(prompt=32, slow_start=True)
    assert asked.ttft_ms.p50 - plain.ttft_ms.p50 == pytest.approx(2 * RTT_MS, rel=0.1)
