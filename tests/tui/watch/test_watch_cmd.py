"""Claims about `swarmtop watch` against a real HTTP endpoint of a known speed, and against ones that misbehave."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_thread import Served
from openai_server import Manner

from swarmtop import cli
from swarmtop.errors import CommandError
from swarmtop.watch.client import Client, Endpoint, Question, RequestFailed, endpoint_base

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"
TWO = "attic-3090:0-21,lab-a4000:22-31"


@pytest.fixture
def engine() -> Iterator[Served]:
    served = Served(Manner(ttft_ms=20, tpot_ms=2))
    yield served
    served.close()


def watched(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["watch", *words, "--every", "0"])
    out, err = capsys.readouterr()
    return code, out, err


def test_what_is_measured_is_never_less_than_what_was_done(engine: Served, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = watched(capsys, engine.url, "--requests", "2", "--max-tokens", "8", "--json")
    assert (code, err) == (0, "")
    for line in out.splitlines():
        found = json.loads(line)
        assert found["ttft_ms"] >= 20
        assert found["ttft_ms"] + found["tpot_ms"] * 7 >= 20 + 7 * 2
        assert (found["tokens"], found["tokens_counted_by_engine"], found["prompt_tokens"]) == (8, True, 7)
        assert (found["finished"], found["model"]) == (True, "numbered-words")


def test_no_two_requests_have_the_same_beginning(engine: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the engine's prefix cache would answer, and the first token look faster than a person's is. Nor have those
    of a watch that was started again: llama-server keeps the prompts of hours."""
    watched(capsys, engine.url, "--requests", "2", "--max-tokens", "2")
    prompts = [request["messages"][0]["content"] for request in engine.manner.requests]
    first, second = (int(prompt.split()[0].strip("[]")[::-1]) for prompt in prompts)
    assert second == first + 1
    assert abs(first / 1000 - time.time()) < 3600
    assert prompts[0][1] != prompts[1][1]


def test_a_long_wait_before_the_prompt_is_told_once(engine: Served, capsys: pytest.CaptureFixture[str]) -> None:
    engine.manner.ttft_ms, engine.manner.prompt_ms, engine.manner.cached = 300.0, 20.0, 5
    _, _, error = watched(capsys, engine.url, "--requests", "2", "--every", "0", "--max-tokens", "2")
    told = [line for line in error.splitlines() if "passed before the engine started on the prompt" in line]
    assert len(told) == 1
    assert "-cram 0" in told[0]
    _, out, _ = watched(capsys, engine.url, "--requests", "1", "--max-tokens", "2", "--json")
    found = json.loads(out)
    assert found["cached_tokens"] == 5
    assert found["before_ms"] == pytest.approx(found["ttft_ms"] - 20)


def test_an_engine_that_counts_no_usage_is_asked_again_without(
    engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.manner.usage = False
    code, out, _ = watched(capsys, engine.url, "--requests", "1", "--max-tokens", "4", "--json")
    found = json.loads(out)
    assert (code, found["tokens"], found["tokens_counted_by_engine"]) == (0, 4, True)  # it stopped at its limit
    assert [("stream_options" in request) for request in engine.manner.requests] == [True, False]


def test_events_that_hold_several_tokens_show_no_spread(engine: Served, capsys: pytest.CaptureFixture[str]) -> None:
    engine.manner.per_event = 3
    engine.manner.tpot_ms = 50  # far enough apart that a busy machine reads its events one by one
    _, out, _ = watched(capsys, engine.url, "--requests", "1", "--max-tokens", "9", "--json", "--completions")
    found = json.loads(out)
    assert (found["tokens"], found["tpot_p50_ms"]) == (9, None)
    assert found["tpot_ms"] is not None


def test_an_answer_that_was_buffered_has_no_time_per_token(engine: Served, capsys: pytest.CaptureFixture[str]) -> None:
    engine.manner.buffered = True
    code, out, err = watched(capsys, engine.url, "--requests", "2", "--max-tokens", "8", "--json")
    assert code == 0
    for line in out.splitlines():
        found = json.loads(line)
        assert (found["tokens"], found["tpot_ms"], found["tokens_per_s"]) == (8, None, None)
    assert err.count("all 8 tokens came at once") == 1


def test_measured_is_shown_beside_predicted(engine: Served, capsys: pytest.CaptureFixture[str]) -> None:
    engine.manner.tpot_ms = 50  # far enough apart that a busy machine reads them one by one
    code, out, _ = watched(
        capsys, engine.url, "--requests", "1", "--max-tokens", "4", "--swarm", str(GARAGE), "--placement", TWO
    )
    assert code == 0
    assert "predicted      " in out
    assert "chat           good" in out


def test_a_watch_writes_runs_that_calibrate_takes(
    engine: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs.toml"
    source = ("--swarm", str(GARAGE))
    placed = ("--placement", TWO, "--runs", str(runs))
    engine.manner.tpot_ms = 100  # faster than its paths and memories allow is refused
    watched(capsys, engine.url, "--requests", "2", "--max-tokens", "3", *source, *placed)
    assert cli.main(["calibrate", *source, "--runs", str(runs), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2


# ---------------------------------------------------------------- keys


def test_a_key_is_sent_and_shown_nowhere(
    engine: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.manner.key = "sk-secret"
    monkeypatch.setenv("MY_KEY", "sk-secret")
    code, out, err = watched(capsys, engine.url, "--requests", "1", "--max-tokens", "2", "--key-env", "MY_KEY")
    assert code == 0
    assert "sk-secret" not in out + err


def test_a_wrong_key_ends_the_watch_without_showing_it(
    engine: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.manner.key = "sk-secret"
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    code, _, err = watched(capsys, engine.url, "--requests", "9", "--served-model", "m", "--key-env", "MY_KEY")
    where = engine.url.removeprefix("http://")
    assert (code, err) == (2, f"swarmtop: {where} refuses the key (401; $MY_KEY was sent); set the right one\n")
    assert len(engine.manner.requests) == 1


@pytest.mark.parametrize("url", ["http://me:sk-secret@host/v1", "https://host/v1?key=sk-secret"])
def test_a_key_in_an_address_is_refused(url: str) -> None:
    with pytest.raises(CommandError, match="an address may hold no key") as raised:
        endpoint_base(url)
    assert "sk-secret" not in str(raised.value)


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8080", "http://h:8080/v1"),
        ("http://h:8080/v1/", "http://h:8080/v1"),
        ("https://api.example/openai/v1/chat/completions", "https://api.example/openai/v1"),
    ],
)
def test_an_address_may_be_given_as_people_have_it(url: str, base: str) -> None:
    assert endpoint_base(url) == base


def test_a_busy_engine_is_asked_again_when_it_says(engine: Served) -> None:
    engine.manner.status, engine.manner.headers = 503, {"Retry-After": "30"}

    async def ask() -> None:
        async with Client(Endpoint(endpoint_base(engine.url))) as client:
            await client.ask(Question("m", "p"))

    with pytest.raises(RequestFailed, match="answers 503") as raised:
        asyncio.run(ask())
    assert raised.value.retry_after_s == 30


def test_an_error_in_the_stream_is_reported(engine: Served, capsys: pytest.CaptureFixture[str]) -> None:
    engine.manner.stream_error = "CUDA out of memory"
    code, out, err = watched(capsys, engine.url, "--requests", "1", "--max-tokens", "6", "--json")
    assert (code, out) == (3, "")
    assert err.endswith(": the engine says: CUDA out of memory\n")


def test_a_connection_that_breaks_in_the_middle_counts_as_no_answer(
    engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.manner.cut_after = 3
    code, out, err = watched(capsys, engine.url, "--requests", "1", "--max-tokens", "6", "--json")
    assert (code, out, len(err.splitlines())) == (3, "", 1)


def test_an_unreachable_engine_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = watched(capsys, "http://127.0.0.1:1", "--requests", "1")
    assert code == 3
    assert err.startswith("swarmtop: cannot reach 127.0.0.1:1 (refused)")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("ftp://host",), "'ftp://host' is no address of an engine; write http://HOST:PORT"),
        (
            ("http://h", "--runs", "r.toml"),
            "a run without its placement calibrates nothing; give --placement with --runs",
        ),
    ],
)
def test_unusable_words_are_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], line: str) -> None:
    assert watched(capsys, *words)[::2] == (2, f"swarmtop: {line}\n")


@pytest.mark.quiet
def test_runs_that_differ_from_the_prediction_for_longer_than_noise_are_reported_once_with_a_way_to_calibrate(
    engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine here takes a fifth of what is predicted; three runs are the fewest that show it."""
    engine.manner.tpot_ms = 15  # far enough apart that a busy machine reads them one by one
    words = ["--requests", "4", "--max-tokens", "4", "--swarm", str(GARAGE), "--placement", TWO]
    _, out, _ = watched(capsys, engine.url, *words)
    assert out.count("faster than predicted for longer than noise: 3 runs since ") == 1
    assert f"swarmtop calibrate --swarm {GARAGE} --run {TWO}=" in out
    _, out, _ = watched(capsys, engine.url, *words, "--json")
    differs = [json.loads(line)["disagreement"] for line in out.splitlines()]
    assert [found is not None for found in differs] == [False, False, True, True]
    assert differs[-1]["off_ms"] < 0
    assert differs[-1]["runs"] == 4
