"""Claims about an engine's Prometheus metrics as runs: what is counted, what is not known, and pages that are none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from swarmtop import cli
from swarmtop.watch.metrics import MetricsError, Totals, between, totals

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"
TWO = "attic-3090:0-21,lab-a4000:22-31"


def llama(tokens: int, seconds: float, *, prompts: int = 100, steps: int = 0, busy: float = 1.0) -> str:
    """As llama-server writes them (b6500)."""
    counters = {
        "prompt_tokens_total": prompts, "prompt_seconds_total": 1.5, "tokens_predicted_total": tokens,
        "tokens_predicted_seconds_total": seconds, "n_decode_total": steps or tokens, "n_busy_slots_per_decode": busy,
    }  # fmt: skip
    lines = []
    for name, value in counters.items():
        lines += [f"# HELP llamacpp:{name} text", f"# TYPE llamacpp:{name} counter", f"llamacpp:{name} {value}"]
    return "\n".join([*lines, "llamacpp:requests_processing 0", "llamacpp:predicted_tokens_seconds 12.3", ""])


def vllm(
    answers: int, tokens: int, seconds: float, first_s: float, prompts: int, *, model: str = "meta/Llama",
    name: str = "inter_token_latency_seconds", running: float = 1.0,
) -> str:  # fmt: skip
    """As vLLM writes them, two engine cores that share the work."""
    lines = ["# HELP vllm:num_requests_running Number of requests.", "# TYPE vllm:num_requests_running gauge"]
    for core in ("0", "1"):
        where = f'{{engine="{core}",model_name="{model}"}}'
        bucket = f'{{engine="{core}",le="0.05",model_name="{model}"}}'
        lines += [
            f"vllm:num_requests_running{where} {running / 2}",
            f"vllm:{name}_bucket{bucket} {tokens / 2}",
            f"vllm:{name}_count{where} {tokens / 2}",
            f"vllm:{name}_sum{where} {seconds / 2}",
            f"vllm:time_to_first_token_seconds_count{where} {answers / 2}",
            f"vllm:time_to_first_token_seconds_sum{where} {first_s / 2:e}",
            f"vllm:prompt_tokens_total{where} {prompts / 2}",
        ]
    return "\n".join([*lines, "process_start_time_seconds NaN", ""])


class Pages:
    """Serves the next page at each request, the last one from then on."""

    def __init__(self) -> None:
        self.pages: list[tuple[int, str]] = []
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = pages.pop(0) if len(pages) > 1 else pages[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                """Nothing: a test's output is of swarmtop."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def engine() -> Iterator[Pages]:
    pages = Pages()
    yield pages
    pages.close()


def watched(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["watch", *words, "--every", "0"])
    out, err = capsys.readouterr()
    return code, out, err


def test_llama_server_tells_the_time_a_token_and_no_first_token() -> None:
    found = between(totals(llama(1000, 20.0)), totals(llama(1600, 50.0)), 60.0)
    assert found is not None
    assert (found.tpot_ms, found.tokens, found.ttft_ms, found.answers, found.prompt_tokens) == (
        50,
        600,
        None,
        None,
        None,
    )


def test_vllm_tells_the_mean_answer_over_its_cores_under_either_name() -> None:
    for name in ("inter_token_latency_seconds", "time_per_output_token_seconds"):
        before, after = vllm(4, 400, 10.0, 2.0, 800, name=name), vllm(8, 1200, 26.0, 5.0, 1600, name=name)
        found = between(totals(before), totals(after), 60.0)
        assert found is not None
        assert (found.tpot_ms, found.ttft_ms, found.tokens, found.prompt_tokens) == (20.0, 750.0, 200, 200)
        assert (found.answers, totals(before).model) == (4, "meta/Llama")


def test_requests_that_shared_the_engine_are_counted_by_the_time_they_took_together() -> None:
    alone = between(totals(vllm(0, 0, 0.0, 0.0, 0)), totals(vllm(2, 100, 9.0, 1.0, 50)), 60.0)
    crowd = between(totals(vllm(0, 0, 0.0, 0.0, 0)), totals(vllm(80, 9000, 180.0, 40.0, 500)), 60.0)
    slots = between(totals(llama(0, 0.0)), totals(llama(900, 45.0, steps=300, busy=3.0)), 60.0)
    assert [round(found.in_flight or 0.0, 1) for found in (alone, crowd, slots) if found] == [1.0, 3.0, 3.0]


def test_nothing_new_and_an_engine_that_was_started_again_give_no_run() -> None:
    before = totals(llama(1000, 20.0))
    assert between(before, before, 60.0) is None
    assert between(before, totals(llama(10, 0.5, prompts=5)), 60.0) is None


@pytest.mark.parametrize(
    ("text", "model", "complaint"),
    [
        ("", "", "no metrics of llama-server or vLLM"),
        ("node_load1 0.5\n", "", "no metrics of llama-server or vLLM"),
        (vllm(1, 1, 1.0, 1.0, 1) + vllm(1, 1, 1.0, 1.0, 1, model="b"), "", "it serves b, meta/Llama; name one"),
        (vllm(1, 1, 1.0, 1.0, 1), "other", "it serves meta/Llama, not 'other'; correct --served-model"),
    ],
)
def test_what_are_no_metrics_of_one_engine_is_reported(text: str, model: str, complaint: str) -> None:
    with pytest.raises(MetricsError, match=r"^(no|it)") as caught:
        totals(text, model)
    assert str(caught.value).startswith(complaint)


def test_one_model_of_several_is_read_alone() -> None:
    text = vllm(2, 50, 1.0, 1.0, 10) + vllm(9, 70, 2.0, 1.0, 10, model="b")
    assert totals(text, "b") == Totals("vLLM", "b", 70.0, 2.0, 9.0, 1.0, 10.0, 1.0)


def test_readings_become_rows_and_runs_for_calibrate(
    engine: Pages, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    engine.pages += [(200, llama(0, 0.0)), (200, llama(0, 0.0)), (200, llama(300, 21.0))]
    runs = tmp_path / "runs.toml"
    words = ["--swarm", str(GARAGE), "--model", "llama-3.1-8b", "--placement", TWO, "--runs", str(runs), "--json"]
    code, out, err = watched(capsys, engine.url, "--requests", "2", *words)
    found = json.loads(out)
    assert code == 0
    assert err == "swarmtop: no token was requested since the last reading\n"
    assert (found["model"], found["tpot_ms"], found["ttft_ms"], found["answers"]) == ("llama-server", 70.0, None, None)
    assert found["predicted_tokens_per_s"]["p50"] > 0
    assert f"tokens_per_s = {1000 / 70:.4f}\ncontext = 128\n" in runs.read_text()


def test_answers_that_shared_the_engine_are_no_runs_of_one_stream(
    engine: Pages, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    engine.pages += [(200, llama(0, 0.0)), (200, llama(300, 21.0, steps=100, busy=3.0))]
    runs = tmp_path / "runs.toml"
    words = ["--swarm", str(GARAGE), "--model", "llama-3.1-8b", "--placement", TWO, "--runs", str(runs), "--json"]
    _, out, err = watched(capsys, engine.url, "--requests", "1", *words)
    assert json.loads(out)["in_flight"] == 3.0
    assert err == "swarmtop: 3.0 requests shared the engine, so this is not a run of one stream to keep\n"
    assert not runs.exists()


@pytest.mark.parametrize(
    ("status", "text", "complaint"),
    [
        (501, "off", "has no metrics (501); start llama-server with --metrics"),
        (200, "go_goroutines 9\n", "no metrics of llama-server or vLLM there"),
    ],
)
def test_an_address_without_metrics_is_one_line(
    status: int, text: str, complaint: str, engine: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.pages.append((status, text))
    code, out, err = watched(capsys, engine.url, "--requests", "1")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert complaint in err
