"""docs/claims.md: every command runs, and every figure under it comes out; each claim of the article is there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swarmtop import cli

pytestmark = pytest.mark.priors  # as a person asks
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "claims.md"
PERCENT = 1.0
_FIGURE = re.compile(r"([\w.\[\]]+) = (-?[\d.]+)(?: ± ([\d.]+) %)?")


@dataclass(frozen=True)
class Run:
    before: tuple[str, ...]  # commands of the same block without figures: what they wrote is used
    command: str
    figures: tuple[tuple[str, float, float], ...]


def runs() -> list[Run]:
    found: list[Run] = []
    before: list[str] = []
    lines = PAGE.read_text().splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("    $ "):
            before = before if line.startswith("    ") else []
            continue
        figures = []
        for text in lines[number + 1 :]:
            match = _FIGURE.fullmatch(text.strip())
            if not text.startswith("    ") or match is None:
                break
            figures.append((match[1], float(match[2]), float(match[3] or PERCENT)))
        if figures:
            found.append(Run(tuple(before), line[6:], tuple(figures)))
        else:
            before.append(line[6:])
    return found


def call(command: str, capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    words = [str(folder / word) if word == "petals.json" else word for word in shlex.split(command)]
    if words[0] == "python":
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=True)
        return done.stdout
    assert words[0] == "swarmtop"
    code = cli.main(words[1:])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def at(answer: Any, key: str) -> float:
    for part in key.split("."):
        answer = answer[part]
    return float(answer)


@pytest.mark.parametrize("run", runs(), ids=lambda run: run.command[17:60])
def test_the_command_gives_the_figures_under_it(run, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SWARMTOP_HOME", str(tmp_path / "home"))
    for command in run.before:
        call(command, capsys, tmp_path)
    answer = json.loads(call(run.command, capsys, tmp_path))
    for key, value, percent in run.figures:
        assert at(answer, key) == pytest.approx(value, rel=percent / 100), key


def test_the_page_has_its_commands():
    """A page that the reader here no longer understands would pass with nothing run."""
    assert len(runs()) >= 28
    assert sum(len(run.figures) for run in runs()) >= 42


@pytest.mark.parametrize(
    "claim",
    [
        "over 3.2 s a token",
        "8 KB a token (a 70B Llama has 8192: 16 KB)",
        "about 160 KB a token; at 50 Mbit/s 25 ms",
        "fiber 25 ms; cable 80 ms; 5G 100 ms",
        "Petals 5-10 s/token and 0.2 tokens/s/user for 70B",
        "Together AI 150 ms and 50 tokens/s; Hugging Face 200 ms and 40 tokens/s",
        "redundant execution doubles or triples compute",
        "jitter (standard deviation) often over 50 % of the mean RTT",
        "more than 4 nodes degrades Petals' throughput",
        "1.71 and 1.23 steps/s",
        "580 ms a decode step",
    ],
)
def test_every_numeric_claim_has_its_place(claim):
    headings = [line for line in PAGE.read_text().splitlines() if line.startswith("### ")]
    assert any(claim in line for line in headings)
