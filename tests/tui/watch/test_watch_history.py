"""Claims about watched runs sent to a collector and back: stored, shown beside the prediction, and used to calibrate.

The collector here is this file's own, speaking the real protocol over a real socket; that a real one commits before it
answers is tests/collector/sessions/test_viewer_session.py's business.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_thread import Served
from openai_server import Manner
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Prediction, Stage, Workload
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.running import Running
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.messages.viewer_messages import Keyframe, RunKept, RunReport, decode_from_viewer
from swarm_protocol.snapshot.frames import encode_keyframe
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop import cli
from swarmtop.analysis.runs.engine_runs import at_placement, baselines

GARAGE = parse_swarm((Path(__file__).parents[3] / "examples" / "garage.toml").read_text(), source="garage")
TWO = "attic-3090:0-21,lab-a4000:22-31"


def run(at_ns: int = 1, **fields: object) -> RunSample:
    filled = {"endpoint": "h:1", "model": "m", "tokens": 10, "counted": True, "ttft_ms": 400.0, "tpot_ms": 100.0}
    return RunSample(at_ns=at_ns, **{**filled, **fields})  # type: ignore[arg-type]


class Keeper:
    """Holds the runs that it is given; `refused` is what it answers instead of keeping one."""

    def __init__(self) -> None:
        self.runs: list[RunSample] = []
        self.refused = ""
        self.running: Running | None = None
        self._server = serve(self._handle, "127.0.0.1", 0, compression=None)
        self.address = f"127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.recv()
            swarm = dataclasses.replace(GARAGE, at_ns=5, runs=tuple(self.runs), running=self.running)
            connection.send(encode(Keyframe(seq=1, at_ns=5, body=encode_keyframe(swarm))))
            while True:
                asked = decode_from_viewer(bytes(connection.recv()))
                if isinstance(asked, RunReport):
                    if not self.refused:
                        self.runs.append(asked.run)
                    connection.send(encode(RunKept(request_id=asked.request_id, refused=self.refused)))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    keeper.close()


@pytest.fixture
def engine() -> Iterator[Served]:
    served = Served(Manner(ttft_ms=20, tpot_ms=5))
    yield served
    served.close()


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_run_is_kept_with_what_was_predicted_for_it(
    keeper: Keeper, engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = called(
        capsys, "watch", engine.url, "--requests", "1", "--max-tokens", "12", "--connect", keeper.address,
        "--placement", TWO,
    )  # fmt: skip
    assert (code, err) == (0, "")
    (kept,) = keeper.runs
    assert (kept.placement, kept.tokens, kept.baseline) == (TWO, 12, False)
    assert kept.predicted_p5 is not None
    assert kept.predicted_p5 <= (kept.predicted_p50 or 0) <= (kept.predicted_p95 or 0)


def test_a_run_that_is_not_kept_is_reported_and_the_watch_continues(
    keeper: Keeper, engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper.refused = "the disk is full"
    code, out, err = called(
        capsys, "watch", engine.url, "--requests", "1", "--max-tokens", "4", "--connect", keeper.address, "--json",
        "--placement", TWO,
    )  # fmt: skip
    assert (code, len(out.splitlines())) == (0, 1)
    assert err == f"swarmtop: {keeper.address} did not keep a run: the disk is full\n"


def test_a_placement_that_is_said_to_run_is_predicted_for_as_one_given_for_the_watch(
    keeper: Keeper, engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither was: no prediction was shown, and nothing said why."""
    asked = ("watch", engine.url, "--requests", "1", "--max-tokens", "4", "--connect", keeper.address)
    code, out, err = called(capsys, *asked, "--running", TWO)
    assert (code, err) == (0, "")
    assert "predicted      " in out
    keeper.runs.clear()
    keeper.running = Running(TWO, "petals", "llama-3.1-8b", "launch lines", 3)
    code, out, err = called(capsys, *asked)
    assert (code, err) == (0, "")
    assert "predicted      " in out
    assert keeper.runs[0].placement == TWO


def test_without_a_prediction_a_watch_says_why(
    keeper: Keeper, engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("watch", engine.url, "--requests", "1", "--max-tokens", "4", "--connect", keeper.address)
    _, _, err = called(capsys, *asked)
    assert err == "swarmtop: no prediction: the collector was not told what runs; give --placement\n"
    keeper.running = Running("gone:0-31", at_ns=3)
    code, out, err = called(capsys, *asked)
    assert (code, "predicted      " in out) == (0, False)
    assert err.startswith("swarmtop: no prediction: ")
    assert "gone" in err
    _, _, err = called(capsys, *asked, "--baseline")
    assert err == ""


def test_a_wrong_placement_is_told_before_the_engine_is_asked(
    keeper: Keeper, engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = called(capsys, "watch", engine.url, "--connect", keeper.address, "--placement", "nobody:0-31")
    assert (code, engine.manner.requests) == (2, [])
    assert "there is no node 'nobody'" in err


@pytest.mark.quiet
def test_kept_runs_of_other_placements_tell_what_the_difference_grows_with(
    keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each round trip takes 60 ms more than predicted, with one machine as with three."""
    model, load = model_named("llama-3.1-8b"), Workload()

    def off(placement: str, load: Workload) -> tuple[Prediction, float]:
        found = predict(GARAGE, model, parse_placement(placement, model, GARAGE), load)
        return found, 60.0 * found.hops

    for k, placement in enumerate(("attic-3090:0-31", "attic-3090:0-11,lab-a4000:12-25,desk-4070:26-31") * 3):
        found, more_ms = off(placement, load)
        speed = found.tokens_per_s
        keeper.runs.append(
            run(k + 1, placement=placement, tpot_ms=found.tpot_ms.p50 + more_ms, predicted_p5=speed.p5,
                predicted_p50=speed.p50, predicted_p95=speed.p95)
        )  # fmt: skip
    found, more_ms = off(TWO, dataclasses.replace(load, prompt=7, context=8))
    beyond_ms = max(more_ms, 1.1 * (found.tpot_ms.p95 - found.tpot_ms.p50))
    served = Served(Manner(ttft_ms=found.ttft_ms.p50 + more_ms, tpot_ms=found.tpot_ms.p50 + beyond_ms))
    _, out, _ = called(
        capsys, "watch", served.url, "--every", "0", "--requests", "3", "--max-tokens", "3", "--connect",
        keeper.address, "--placement", TWO, "--json",
    )  # fmt: skip
    served.close()
    differs = json.loads(out.splitlines()[-1])["disagreement"]
    assert differs["looks_like"] == ["round trips"]
    assert differs["each"] == pytest.approx(60, rel=0.2)
    assert f"swarmtop calibrate --connect {keeper.address} --observed --out chain.json" in differs["calibrate"]


def test_every_prediction_has_a_baseline(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    keeper.runs = [run(label="Big Cloud", baseline=True, tpot_ms=10.0), run(2, label="Big Cloud", baseline=True)]
    code, out, _ = called(capsys, "predict", "--connect", keeper.address, "--placement", TWO, "--json")
    first = json.loads(out)["baselines"][0]
    assert (code, first["name"], first["tokens_per_s"], first["first_token_ms"]) == (0, "Big Cloud", 55.0, 400.0)
    assert first["source"].startswith("measured, 2 requests, the last 1970-01-01T")
    _, text, _ = called(capsys, "predict", "--connect", keeper.address, "--placement", TWO)
    assert "other services, measured" in text
    assert "times as fast" in text


def test_runs_of_this_placement_are_shown_beside_its_prediction(
    keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper.runs = [run(placement=TWO), run(2, placement="attic-3090:0-31", tpot_ms=1.0)]
    _, out, _ = called(capsys, "predict", "--connect", keeper.address, "--placement", TWO, "--json")
    assert json.loads(out)["watched"]["tokens_per_s"] == 10.0
    _, text, _ = called(capsys, "predict", "--connect", keeper.address, "--placement", TWO)
    assert "measured 10.0 tok/s, first token 400 ms (1 request), so predicted +" in text


def test_watched_runs_feed_calibrate(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    keeper.runs = [run(at, placement=TWO, prompt_tokens=100, tpot_ms=ms) for at, ms in ((1, 98.0), (2, 102.0))]
    keeper.runs += [run(3, baseline=True), run(4, placement=TWO, tpot_ms=None)]  # neither says what ran how fast here
    code, out, _ = called(capsys, "calibrate", "--connect", keeper.address, "--observed", "--json")
    found = json.loads(out)
    assert (code, [round(each["observed_ms"]) for each in found["runs"]]) == (0, [98, 102])
    learnt = found["runs"][0]
    assert abs(learnt["after_ms"]["p50"] - 100) < abs(learnt["before_ms"]["p50"] - 100)


def test_no_watched_run_is_one_line(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "calibrate", "--connect", keeper.address, "--observed")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "no engine was watched on" in err


def test_runs_are_summed_by_placement_and_by_label() -> None:
    runs = (
        run(1, placement=TWO, tpot_ms=100.0), run(2, placement=TWO, tpot_ms=50.0), run(3, placement=TWO, tpot_ms=None),
        run(4, baseline=True, label="X"), run(5, baseline=True),
    )  # fmt: skip
    found = at_placement(runs, (Stage("attic-3090", 0, 21), Stage("lab-a4000", 22, 31)))
    assert found is not None
    assert (found.n, found.tokens_per_s, found.at_ns) == (2, 15.0, 3)
    assert [row.label for row in baselines(runs)] == ["X", "h:1, m"]
    assert at_placement(runs, (Stage("attic-3090", 0, 31),)) is None
