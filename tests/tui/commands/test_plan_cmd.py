"""Claims about `swarmtop plan`: the keys scripts rely on, the certificate, and the text."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swarm_predict.types import Plan
from swarmtop import cli
from swarmtop.text.prediction import certificate

ROOT = Path(__file__).parents[3]
GARAGE = ROOT / "examples" / "garage.toml"


def run(capsys: pytest.CaptureFixture[str], *words: str, swarm: Path = GARAGE) -> str:
    code = cli.main(["plan", "--swarm", str(swarm), *words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_json_is_that_of_predict_with_what_a_plan_adds(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "--json"))
    assert list(found)[-5:] == ["objective", "bound_ms", "gap", "left_out", "launch"]
    assert found["objective"] == "latency"
    assert found["launch"] is None
    assert found["bound_ms"] <= found["tpot_ms"]["p50"] * (1 + 1e-6)
    assert found["gap"] >= 0
    assert sum(stage["layers"] for stage in found["stages"]) == 32


def test_a_planned_placement_predicts_to_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """What `plan` prints can be handed to `predict`, and says the same."""
    planned = json.loads(run(capsys, "--json"))
    placement = ",".join(f"{s['node']}:{s['first']}-{s['last']}" for s in planned["placement"])
    cli.main(["predict", "--swarm", str(GARAGE), "--placement", placement, "--json"])
    predicted = json.loads(capsys.readouterr().out)
    assert {key: planned[key] for key in predicted} == predicted


def test_a_model_that_fits_nowhere_is_exit_4_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["plan", "--swarm", str(GARAGE), "--model", "llama-3.1-405b"])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "llama-3.1-405b" in err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--model", "qwen3-32b"), "; --weights q8_0 fits\n"),
        (("--model", "llama-3.1-70b", "--engine", "petals"), "; --weights nf4 fits\n"),
        (("--model", "llama-3.1-405b"), "or use smaller --weights or --context\n"),  # none of the usual ones does
    ],
)
def test_a_model_that_fits_in_smaller_weights_is_refused_with_them(
    words: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", "--nodes", "4090@Utrecht,3090@Berlin", *words]) == 4
    assert capsys.readouterr().err.endswith(hint)


def test_throughput_is_planned_with_as_many_requests_as_fill_the_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    """At one request in flight the most tokens in total are those of the fastest single stream."""
    filled = json.loads(run(capsys, "--json", "--objective", "throughput"))
    alone = json.loads(run(capsys, "--json", "--objective", "throughput", "--streams", "1"))
    assert filled["throughput_tokens_per_s"] > 2 * alone["throughput_tokens_per_s"]
    assert filled["objective"] == alone["objective"] == "throughput"


def test_launch_lines_come_with_the_plan_where_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "--json", "--launch", "--engine", "petals"))
    assert any("run_server" in line for line in found["launch"])
    assert "\nlaunch\n" in run(capsys, "--launch", "--engine", "petals")


def test_the_published_pipeline_of_twelve_t4_plans_to_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Helix's artifact decodes a token of Llama-2-70B in 580 ms on this pipeline."""
    found = json.loads(run(capsys, "--json", "--model", "llama-2-70b", swarm=ROOT / "examples" / "helix-12xt4.toml"))
    assert found["tpot_ms"]["p50"] == pytest.approx(580, rel=0.05)
    assert len(found["stages"]) >= 9


def test_a_certificate_never_claims_more_than_is_proven() -> None:
    def plan(gap: float, *, exact: bool, measured: float = 1.0) -> Plan:
        found: Any = SimpleNamespace(measured=measured)
        return Plan(prediction=found, objective="latency", bound_ms=35.0, gap=gap, exact=exact)

    assert certificate(plan(0.0, exact=True)) == "best latency: the optimum, proven (35.0 ms a token)"
    assert certificate(plan(0.0, exact=True, measured=0.2)) == (
        "best latency: the optimum, proven with every figure at its median (35.0 ms a token)"
    )
    assert certificate(plan(0.021, exact=False)) == (
        "best latency found: within 2.1% of the optimum (no placement is below 35.0 ms a token)"
    )


MODEL = ("--model", "llama-2-13b")


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[int]]:
    """First and last layer of each node."""
    found = json.loads(run(capsys, *MODEL, "--json", *words))
    return {stage["node"]: [stage["first"], stage["last"]] for stage in found["placement"]}


def test_a_plan_keeps_to_its_constraints(capsys: pytest.CaptureFixture[str]) -> None:
    assert "kiln-2080ti" in planned(capsys, "--require", "kiln-2080ti")
    assert "attic-3090" not in planned(capsys, "--forbid", "attic-3090")
    pinned = planned(capsys, "--pin", "kiln-2080ti:10-19", "--require", "barn-3060")
    assert pinned["kiln-2080ti"] == [10, 19]
    assert "barn-3060" in pinned
    assert len(planned(capsys, "--max-stages", "2")) == 2


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("--pin", "nobody:0-3"), 2, "there is no node 'nobody' in this swarm; correct --pin"),
        (("--pin", "attic-3090:0-50"), 2, "--pin attic-3090:0-50 is not within layers 0-39"),
        (("--pin", "attic-3090:0-3", "--pin", "lab-a4000:2-8"), 2, "--pin lab-a4000:2-8 overlaps attic-3090:0-3"),
        (("--pin", "attic-3090:0-3", "--pin", "attic-3090:9-9"), 2, "--pin names attic-3090 twice"),
        (("--losses", "nobody=1"), 2, "there is no node 'nobody' in this swarm; correct --losses"),
        (("--pin", "desk-4070:0-39"), 4, "no placement keeps these pins"),
    ],
)
def test_what_no_plan_can_keep_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, line: str
) -> None:
    assert cli.main(["plan", "--swarm", str(GARAGE), *MODEL, *words]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert line in err


def test_a_node_that_goes_often_is_avoided_and_the_price_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    steady = planned(capsys, "--model", "llama-3.1-8b")
    fickle = next(iter(steady))
    assert fickle not in planned(capsys, "--model", "llama-3.1-8b", "--losses", f"{fickle}=60")
    text = run(capsys, *MODEL, "--losses", "attic-3090=3")
    assert "of it for expected losses)" in " ".join(text.split())


def test_the_loss_of_each_stage_is_reported_with_who_stands_by(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, *MODEL, "--json"))
    assert [loss["node"] for loss in found["if_lost"]] == [stage["node"] for stage in found["placement"]]
    for loss in found["if_lost"]:
        again = [stage["node"] for stage in loss["replanned"]]
        assert loss["node"] not in again
        assert loss["replanned_ms"] >= found["bound_ms"] - 1e-6
        assert loss["stand_by"] != loss["node"]


def test_the_front_goes_from_the_quickest_token_to_the_most_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    points = json.loads(run(capsys, *MODEL, "--json", "--front"))["front"]
    assert len(points) > 2
    for one, other in itertools.pairwise(points):
        assert one["tpot_ms"] <= other["tpot_ms"]
        assert one["throughput_tokens_per_s"] < other["throughput_tokens_per_s"]
    assert all(point["bound_ms"] <= point["tpot_ms"] + 1e-6 for point in points)


def test_where_machines_share_layers_json_tells_the_best_of_each_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, *MODEL, "--json"))["by_machines"] is None
    found = json.loads(run(capsys, "--model", "llama-2-7b", "--engine", "distributed-llama", "--json"))
    best = {each["machines"]: each["tokens_per_s"] for each in found["by_machines"]}
    assert len(best) > 1
    assert max(best.values()) == pytest.approx(found["tokens_per_s"]["p50"], rel=0.05)


def test_a_plan_chooses_how_much_to_guess_and_how_many_windows_travel(capsys: pytest.CaptureFixture[str]) -> None:
    """--draft and --windows are the most that it may take; the text says what guessing is worth."""
    words = ("--draft", "8:0.9,0.8:3", "--windows", "4", "--seed", "1")
    ahead = json.loads(run(capsys, "--json", *words))["speculation"]
    assert 0 < ahead["guesses"] <= 8
    assert 0 < ahead["windows"] <= 4
    assert ahead["tokens_per_s"] >= ahead["one_window_tokens_per_s"] > ahead["plain_tokens_per_s"]
    text = run(capsys, *words)
    assert f"speculation: {ahead['guesses']} draft tokens a window, {ahead['windows']} window" in text
    assert json.loads(run(capsys, "--json"))["speculation"] is None
    code = cli.main(["plan", "--swarm", str(GARAGE), *words, "--front"])
    assert (code, capsys.readouterr().err.count("\n")) == (2, 1)
