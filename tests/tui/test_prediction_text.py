"""Claims about the text below a prediction: verdicts, suggestions, and the sources of published figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmtop import cli
from swarmtop.text import quantities

GARAGE = Path(__file__).parents[2] / "examples" / "garage.toml"
TWO = "attic-3090:0-21,lab-a4000:22-31"


def run(capsys: pytest.CaptureFixture[str], placement: str, *words: str) -> str:
    cli.main(["predict", "--swarm", str(GARAGE), "--placement", placement, *words])
    return capsys.readouterr().out


def test_text_and_json_say_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    text, found = run(capsys, TWO), json.loads(run(capsys, TWO, "--json"))
    assert [v["workload"] for v in found["verdicts"]] == ["chat", "completion", "batch"]
    for verdict in found["verdicts"]:
        assert f"{verdict['level']}" in text
        assert verdict["why"] in text
    best = found["sensitivity"][0]
    line = next(
        line for line in text.splitlines() if best["change"] in line and quantities.signed_ms(-best["gain_ms"]) in line
    )
    assert best["node"] in line
    assert all(row["source"] in text and row["name"] in text for row in found["baselines"])


def test_gains_come_best_first_and_name_nodes_of_the_placement(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, TWO, "--json"))["sensitivity"]
    assert [g["gain_ms"] for g in found] == sorted((g["gain_ms"] for g in found), reverse=True)
    assert {g["node"] for g in found} <= {"attic-3090", "lab-a4000", "home", None}


def test_what_does_not_fit_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "barn-3060:0-31", "--json"))
    assert (found["fits"], found["verdicts"], found["sensitivity"], found["baselines"]) == (False, None, None, None)


@pytest.mark.parametrize("columns", [80, 100])
def test_no_line_is_wider_than_the_page(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(quantities.width(line) for line in run(capsys, TWO).splitlines()) <= columns


def test_the_two_ends_of_one_path_are_one_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    """A shorter round trip between two stages is the same change, whichever end is named."""
    cli.main(["plan", "--nodes", "a=4090@Utrecht, b=3090@Berlin", "--model", "llama-3.1-70b", "--weights", "q4_k_m"])
    trips = [line.split("  ") for line in capsys.readouterr().out.splitlines() if "−20 ms round trip" in line]
    assert [{*words[1].split(" or ")} for words in trips] == [{"a", "b"}]
