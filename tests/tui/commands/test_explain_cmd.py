"""Claims about `swarmtop explain`: which run it explains, its keys, its text, and the recorded throttling."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from cli_golden import PREDICTION, golden

from swarm_predict.explain.explanation import Explained, Explanation
from swarm_predict.explain.measure_next import ToMeasure
from swarm_predict.explain.published import Nearest
from swarm_predict.explain.usual import Range
from swarm_predict.model.catalogue import model_named
from swarm_protocol.messages.probe_messages import GpuFacts, HostFacts
from swarm_protocol.messages.running import RUNNING_SETTING, Running
from swarm_protocol.messages.samples import ComputeSample, HostSample, LinkSample, RunSample, UplinkSample
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarm_protocol.units import NS_PER_S, ns_from_iso
from swarm_storage.store import open_store
from swarm_storage.writer.transaction import NodeBatch
from swarmtop import cli
from swarmtop.analysis.runs.observed_run import BadRun, Run, spelled, watched
from swarmtop.text.explanation import explanation_object, explanation_text

GARAGE = Path(__file__).parents[3] / "examples" / "garage.toml"
TWO = "attic-3090:0-21,lab-a4000:22-31"
GIB = 1 << 30
BEGAN = ns_from_iso("2026-11-23T14:00:00")
A, B = "a" * 32, "b" * 32

# Made by hand, so that how an answer reads does not change with how well it is predicted.
WHY = Explanation(
    expected=PREDICTION,
    usual_ms=Range(50.0, 55.0, 70.0),
    got_ms=110.0,
    verdict="slower",
    why_impossible="",
    terms=(
        Explained("layers", "lab-a4000", "", 10, 19.0, Range(8.0, 9.5, 11.0), 9.5, 6.5, True, (
            "1.9 ms a layer, measured; machines like it (RTX A4000) take 0.8 to 1.1 ms",
            "it was throttled 34 % of the time",
        )),
        Explained("path", "attic-3090", "lab-a4000", 1, 12.6, Range(9.5, 9.5, 9.5), 3.1, 2.0, True, (
            "round trip 17 ms, idle 14 ms; 1 message a token",)),
        Explained("visits", "home", "", 1, 2.0, None, 0.0, 4.0, False, ("software of chain is not measured here",)),
        Explained("head", "lab-a4000", "", 1, 2.7, Range(2.0, 2.7, 3.0), 0.0, 0.2, True, ("the LM head",)),
    ),
    unexplained_ms=29.7,
    nearest=(
        Nearest("prima.cpp home cluster", "Lizonghang/prima.cpp README", "llama-3.1-8b", "q4_k_m", "prima.cpp",
                ("M1", "RTX 2080 Ti"), 18.5, 0.4, 0.9, 4.2, 7.3),
    ),
    measure_next=(ToMeasure("home", "", "visits", 0.12), ToMeasure("attic-3090", "lab-a4000", "round trip", 0.05)),
)  # fmt: skip
GIVEN = Run(110.0, TWO, "given")


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = cli.main(["explain", "--swarm", str(GARAGE), *words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_the_answer_as_it_is_read() -> None:
    golden("explain.txt", explanation_text(WHY, GIVEN, 100))


def test_keys_that_scripts_rely_on() -> None:
    found = explanation_object(WHY, GIVEN)
    assert found["schema"] == 1
    assert list(found) == [
        "schema", "model", "weights", "engine", "client", "placement", "verdict", "why_impossible", "expected",
        "usual", "got", "terms", "unexplained_ms", "published", "measure_next", "notes",
    ]  # fmt: skip
    assert found["measure_next"] == [
        {"node": "home", "what": "visits", "narrows": 0.12},
        {"link": ["attic-3090", "lab-a4000"], "what": "round trip", "narrows": 0.05},
    ]


def test_a_run_is_a_speed_or_a_time_with_or_without_its_placement() -> None:
    assert spelled("a:0-3,b:4-7=2.5") == Run(400.0, "a:0-3,b:4-7", "given")
    assert spelled("a:0-7=110ms").tpot_ms == 110.0
    assert spelled(" 1.2 s ").tpot_ms == 1200.0
    assert spelled("20 tok/s") == Run(50.0, None, "given")
    for wrong in ("", "a:0-7=", "a:0-7=fast", "=-3", "nan", "a:0-7=0"):
        with pytest.raises(BadRun):
            spelled(wrong)


def test_the_speed_given_is_held_against_the_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    predicted = json.loads(explained(capsys, "--json"))["expected"]["tokens_per_s"]
    said = {}
    for speed in (predicted["p50"], predicted["p5"] * 0.9, 1000.0):
        found = json.loads(explained(capsys, "--run", f"attic-3090:0-31={speed}", "--json"))
        said[found["verdict"]] = found["got"]["tokens_per_s"]
    assert list(said) == ["as expected", "slower", "impossible"]


def test_without_any_run_the_unknown_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = explained(capsys, "--running", TWO)
    assert "measured    no run yet" in text
    assert "not measured here: 10 layers of lab-a4000" in text
    assert "measure first: layer times of lab-a4000" in text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--run", "a:0-31=quick"], "swarmtop: --run: 'a:0-31=quick' is not a run; write "),
        (["--run", "9.1"], "swarmtop: which placement gave this speed is not known; write --run "),
        (["--run", "attic-3090:0-30=9.1"], "layer 31 of llama-3.1-8b is on no node"),
    ],
)
def test_what_is_no_run_is_one_line_and_exit_2(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["explain", "--swarm", str(GARAGE), *words])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert complaint in err


def run(at_s: int, tpot_ms: float, placement: str = TWO) -> RunSample:
    return RunSample(
        at_ns=at_s * NS_PER_S, endpoint="h", model="m", placement=placement, prompt_tokens=100, tokens=40, counted=True,
        ttft_ms=300.0, tpot_ms=tpot_ms,
    )  # fmt: skip


def test_the_newest_watched_placement_of_this_model_counts_with_its_last_hour() -> None:
    swarm = parse_swarm(GARAGE.read_text())
    swarm.runs = (run(0, 900.0), run(5000, 100.0), run(6000, 120.0), run(7000, 140.0), run(8000, 1.0, "gone:0-31"))
    found = watched(swarm, model_named("llama-3.1-8b"), "chain")
    assert found == Run(120.0, TWO, "watched", 3, 5000 * NS_PER_S, 7000 * NS_PER_S, 120)
    assert watched(swarm, model_named("llama-2-70b"), "chain") is None


def test_a_recording_brings_the_watched_run_and_how_long_the_clock_was_held_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "swarm.db"
    store = open_store(str(path))
    writer = store.writer(retain_ns=None)
    for number, (node, peer, name, card) in enumerate(((A, B, "a", "RTX 3090"), (B, A, "b", "RTX A4000"))):
        facts = HostFacts(system="Linux", cpu="test", cores=8, ram_bytes=32 * GIB,
                          gpus=(GpuFacts(name=card, vram_bytes=24 * GIB),))  # fmt: skip
        writer.upsert_node(node, name, facts=facts, seen_ns=BEGAN).result()
        samples = [
            LinkSample(at_ns=BEGAN, peer=peer, path="direct", sent=100, lost=0, rtt_min_ms=2.0, rtt_p50_ms=2.0,
                       rtt_p95_ms=2.5, rtt_p99_ms=3.0, pdv_ms=0.5),
            UplinkSample(at_ns=BEGAN, peer=peer, sent_bytes=1 << 20, mbps=300.0, bound=False, seconds=0.2),
            ComputeSample(at_ns=BEGAN, device=card, model="llama-3.1-8b", dtype="fp16", phase="decode", batch=1,
                          context=128, ms_per_layer=0.6 + 3 * number, ms_p95=4.0, n=20),
            *(HostSample(at_ns=BEGAN + k * NS_PER_S, gpu=card, vram_free_bytes=20 * GIB, vram_total_bytes=24 * GIB,
                         throttled=k % 4 == 0 and name == "b") for k in range(0, 400, 10)),
        ]  # fmt: skip
        writer.submit(NodeBatch(node, 1, 1, BEGAN, samples)).result()
    running = Running("a:0-15,b:16-31", model="llama-3.1-8b")
    writer.set_setting(RUNNING_SETTING, msgspec.json.encode(running).decode()).result()
    writer.event(run(BEGAN // NS_PER_S + 300, 95.0, "a:0-15,b:16-31")).result()
    store.close()
    code = cli.main(["explain", "--db", str(path), "--weights", "fp16", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (found["got"]["source"], found["got"]["tpot_ms"]) == ("watched", 95.0)
    assert found["disagreement"] is None  # one run may be noise
    first = found["terms"][0]
    assert (first["kind"], first["node"]) == ("layers", "b")
    assert "it was throttled 50 % of the time" in first["evidence"]
