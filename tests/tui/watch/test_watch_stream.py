"""Claims about what is read from an engine's stream, and when it is asked again: bytes and times in, no socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmtop.watch.completion_stream import Completion, Observation
from swarmtop.watch.request_schedule import Pace, PaceConfig
from swarmtop.watch.sse import MAX_EVENT_BYTES, EventStream, StreamError
from swarmtop.watch.verdicts import fitness

MS = 1_000_000
S = 1_000 * MS

# ---------------------------------------------------------------- bytes to events


@given(
    st.lists(st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), min_size=1), max_size=5),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.data(),
)
def test_events_are_the_same_wherever_the_pieces_end(events: list[str], end: bytes, data: st.DataObject) -> None:
    whole = b"".join(b": comment" + end + b"data: " + event.encode() + end + end for event in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    stream = EventStream()
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert [event for piece in pieces for event in stream.feed(piece)] == events


def test_several_data_lines_are_one_event() -> None:
    assert EventStream().feed(b"event: x\ndata: one\ndata:two\n\n") == ["one\ntwo"]


def test_an_event_without_end_is_refused() -> None:
    stream = EventStream()
    line = b"data: " + b"x" * (MAX_EVENT_BYTES // 2) + b"\n"
    assert stream.feed(line) == []
    with pytest.raises(StreamError, match="one event of this stream has more than 1024 KiB"):
        stream.feed(line + b"data: x")


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_bytes_are_events_or_nothing(pieces: list[bytes]) -> None:
    stream = EventStream()
    for piece in pieces:
        assert all(isinstance(event, str) for event in stream.feed(piece))


# ---------------------------------------------------------------- events to an observation


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> str:
    delta = {} if text is None else {"content": text}
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def observed(*events: tuple[str, int]) -> Observation:
    answer = Completion(asked_ns=10 * MS, max_tokens=9)
    for data, at_ms in events:
        answer.event(data, at_ms * MS)
    return answer.observation()


def test_a_role_is_no_token_and_the_wait_for_the_first_is_not_in_the_speed() -> None:
    found = observed((chunk(""), 20), (chunk("a"), 310), (chunk("b"), 360), (chunk("c"), 420), ("[DONE]", 430))
    assert found.ttft_ms == 300
    assert (found.tokens, found.counted) == (3, False)
    assert found.tpot_ms == pytest.approx(55)
    assert found.tokens_per_s == pytest.approx(1000 / 55)
    assert (found.tpot_p50_ms, found.tpot_p95_ms) == (50, 60)


def test_the_engine_counts_its_tokens_where_it_says_so() -> None:
    """Two events with five tokens: only the mean is known, not the spread of single tokens."""
    usage = json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
    found = observed((chunk("a b"), 100), (chunk("c d e"), 180), (chunk(None, "stop"), 181), (usage, 182))
    assert (found.tokens, found.counted, found.prompt_tokens, found.finished) == (5, True, 7, True)
    assert found.tpot_ms == pytest.approx(20)
    assert found.tpot_p50_ms is None


def test_an_answer_that_stopped_at_its_limit_has_that_many_tokens() -> None:
    """llama.cpp's server reports no usage, and sends no event for bytes of an incomplete character."""
    found = observed((chunk("a"), 100), (chunk("b"), 180), (chunk(None, "length"), 181))
    assert (found.tokens, found.counted, found.tpot_ms, found.tpot_p50_ms) == (9, True, 10, None)


@pytest.mark.parametrize("text", ["reasoning_content", "reasoning", "content"])
def test_reasoning_is_text_too(text: str) -> None:
    first = json.dumps({"choices": [{"delta": {text: "hm"}}]})
    assert observed((first, 110)).ttft_ms == 100


def test_completions_without_chat_have_their_text_elsewhere() -> None:
    first, second = (json.dumps({"choices": [{"text": text}]}) for text in "ab")
    assert observed((first, 60), (second, 70)).tpot_ms == 10


def test_a_stream_that_ends_early_is_said_to_be_cut() -> None:
    found = observed((chunk("a"), 100), (chunk("b"), 150))
    assert not found.finished


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([("nonsense", 1)], "an event of this stream is not JSON ('nonsense')"),
        ([("[1]", 1)], "an event of this stream is no completion ('[1]')"),
        ([(json.dumps({"error": {"message": "out of \x1b[31mmemory"}}), 1)], "the engine says: out of ?[31mmemory"),
        ([("[DONE]", 1)], "the engine answered without a single token; correct --max-tokens or --text"),
    ],
)
def test_what_is_no_answer_is_one_line(events: list[tuple[str, int]], problem: str) -> None:
    with pytest.raises(StreamError) as raised:
        observed(*events)
    assert str(raised.value) == problem


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "delta", "content", "usage", "completion_tokens", "text"]), inner)
    ),
)


@given(st.lists(_JSON, min_size=1, max_size=4))
def test_any_json_is_an_observation_or_a_stream_error(events: list[Any]) -> None:
    answer = Completion(0, 9)
    try:
        for at, event in enumerate(events):
            answer.event(json.dumps(event), at)
        found = answer.observation()
    except StreamError:
        return
    assert found.tokens >= 1


# ---------------------------------------------------------------- pace


def test_requests_start_at_a_steady_pace_however_long_answers_take() -> None:
    pace = Pace(PaceConfig(every_s=60), now_ns=5 * S)
    assert pace.next_ns() == 5 * S
    pace.answered(asked_ns=5 * S, tokens=100)
    assert pace.next_ns() == 65 * S


def test_failures_wait_twice_as_long_each_time_and_one_answer_forgets_them() -> None:
    pace = Pace(PaceConfig(every_s=60), now_ns=0)
    due = []
    for _ in range(6):
        pace.failed(asked_ns=0, now_ns=0)
        due.append(pace.next_ns())
    assert due == [60 * S, 120 * S, 240 * S, 480 * S, 600 * S, 600 * S]
    pace.answered(0, 1)
    assert pace.next_ns() == 60 * S


def test_what_a_server_asks_for_is_waited() -> None:
    pace = Pace(PaceConfig(every_s=1), now_ns=0)
    pace.failed(asked_ns=0, now_ns=2 * S, retry_after_s=30)
    assert pace.next_ns() == 32 * S


def test_a_watch_ends_with_its_tokens_or_its_requests() -> None:
    pace = Pace(PaceConfig(every_s=1, requests=3, budget_tokens=150), now_ns=0)
    pace.answered(0, 100)
    assert pace.next_ns() is not None
    pace.answered(0, 50)
    assert (pace.next_ns(), pace.over_because) == (None, "the budget of 150 tokens is spent")
    few = Pace(PaceConfig(every_s=1, requests=1), now_ns=0)
    few.failed(0, 0)
    assert (few.next_ns(), few.over_because) == (None, "1 request was made")


# ---------------------------------------------------------------- what it is good for


@pytest.mark.parametrize(
    ("ttft_ms", "tokens_per_s", "chat", "completion"),
    [
        (1000, 10, True, False), (1001, 10, False, False), (900, 9.9, False, False), (1000, 50, True, True),
        (1001, 50, False, False),
    ],
)  # fmt: skip
def test_thresholds_are_those_that_are_documented(
    ttft_ms: float, tokens_per_s: float, chat: bool, completion: bool
) -> None:
    found = {fit.workload: fit.good for fit in fitness(ttft_ms, tokens_per_s)}
    assert found == {"chat": chat, "completion": completion, "batch": None}


# ---------------------------------------------------------------- what llama-server tells in its last event


def last_event_of_llama_server(prompt_ms: float) -> str:
    """As llama-cpp-python 0.3.36's llama-server sends it."""
    timings = {"cache_n": 10, "prompt_n": 18, "prompt_ms": prompt_ms, "predicted_n": 16, "predicted_ms": 1781.8}
    usage = {"completion_tokens": 16, "prompt_tokens": 28, "prompt_tokens_details": {"cached_tokens": 10}}
    return json.dumps({"choices": [], "usage": usage, "timings": timings})


def test_what_of_a_prompt_was_cached_and_when_the_engine_began_with_it_is_read() -> None:
    answer = Completion(0, 64)
    answer.event(json.dumps({"choices": [{"delta": {"content": "a"}}]}), 810 * MS)
    answer.event(last_event_of_llama_server(258.4), 2600 * MS)
    found = answer.observation()
    assert found.cached_tokens == 10
    assert found.before_ms == pytest.approx(810 - 258.4)


@pytest.mark.parametrize("prompt_ms", [0.0, -1.0, 811.0])
def test_a_prompt_that_took_longer_than_its_first_token_says_nothing(prompt_ms: float) -> None:
    answer = Completion(0, 64)
    answer.event(json.dumps({"choices": [{"delta": {"content": "a"}}]}), 810 * MS)
    answer.event(last_event_of_llama_server(prompt_ms), 2600 * MS)
    assert answer.observation().before_ms is None
