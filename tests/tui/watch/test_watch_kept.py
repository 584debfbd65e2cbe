"""Claims about watched runs on their way to a collector and back: kept, beside the prediction, and calibrated with.

The collector here is this file's own, speaking the real protocol over a real socket; that a real one commits before it
answers is tests/collector/test_viewers.py's business.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai_server import Manner
from served import Served
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from swarm_predict.types import Stage
from swarm_protocol.messages.codec import encode
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.messages.viewer_messages import Keyframe, RunKept, RunReport, decode_from_viewer
from swarm_protocol.snapshot.frames import encode_keyframe
from swarm_protocol.snapshot.swarm_file import parse_swarm
from swarmtop import cli
from swarmtop.analysis.engine_runs import at_placement, baselines

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
        self._server = serve(self._handle, "127.0.0.1", 0, compression=None)
        self.address = f"127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.recv()
            swarm = dataclasses.replace(GARAGE, at_ns=5, runs=tuple(self.runs))
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


def test_a_run_that_is_not_kept_is_told_and_the_watch_goes_on(
    keeper: Keeper, engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper.refused = "the disk is full"
    code, out, err = called(
        capsys, "watch", engine.url, "--requests", "1", "--max-tokens", "4", "--connect", keeper.address, "--json"
    )
    assert (code, len(out.splitlines())) == (0, 1)
    assert err == f"swarmtop: {keeper.address} did not keep a run: the disk is full\n"


def test_a_wrong_placement_is_told_before_the_engine_is_asked(
    keeper: Keeper, engine: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = called(capsys, "watch", engine.url, "--connect", keeper.address, "--placement", "nobody:0-31")
    assert (code, engine.manner.requests) == (2, [])
    assert "there is no node 'nobody'" in err


def test_a_baseline_stands_beside_every_prediction(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    keeper.runs = [run(label="Big Cloud", baseline=True, tpot_ms=10.0), run(2, label="Big Cloud", baseline=True)]
    code, out, _ = called(capsys, "predict", "--connect", keeper.address, "--placement", TWO, "--json")
    first = json.loads(out)["baselines"][0]
    assert (code, first["name"], first["tokens_per_s"], first["first_token_ms"]) == (0, "Big Cloud", 55.0, 400.0)
    assert first["source"].startswith("measured, 2 requests, the last 1970-01-01T")
    _, text, _ = called(capsys, "predict", "--connect", keeper.address, "--placement", TWO)
    assert "other services, measured" in text
    assert "times as fast" in text


def test_what_ran_at_this_placement_stands_beside_its_prediction(
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
    assert found["hop_overhead_ms"] > 0


def test_nobody_watched_is_one_line(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "calibrate", "--connect", keeper.address, "--observed")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "nobody watched an engine on" in err


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
