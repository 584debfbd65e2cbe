"""Compare predictions with the reference engine on every bundled scenario: median and worst error (about 20 minutes).

`python -m bench prediction_error --scenario profiles --model tiny` runs a part. The ceiling is the engine itself, run
right after each prediction on the same hosts, twice: what the two runs differ by is the noise that no prediction beats.
Races during which other programs took cores of this machine are summed up apart: its hosts share them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.support.harness import record
from swarm_lab.bundled_scenarios import bundled
from swarm_lab.emulation import netns
from swarm_lab.verification.contention import DISTURBED_CORES

MODELS = ("tiny", "gpt2")
GOAL_MEDIAN, GOAL_WORST, GOAL_COVERED = 0.05, 0.15, 0.9


@dataclass(frozen=True, slots=True)
class Case:
    scenario: str
    model: str
    run: dict[str, Any]

    @property
    def error(self) -> float:
        return float(self.run["error"])

    @property
    def disturbed(self) -> bool:
        return float(self.run["others_cores"]) > DISTURBED_CORES

    @property
    def what(self) -> str:
        """Return a key that is equal for two runs of the same thing."""
        return json.dumps([self.scenario, self.model, self.run["engine"], self.run["placement"]])

    @property
    def measured_ms(self) -> float:
        return float(self.run["tpot_ms"]["measured"]["p50"])

    @property
    def first_token_error(self) -> float:
        times = self.run["ttft_ms"]
        return float(times["predicted"] / times["measured"] - 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench prediction_error")
    parser.add_argument("--scenario", action="append", choices=bundled())
    parser.add_argument("--model", action="append")
    parser.add_argument("--random", type=int, default=2)
    chosen = parser.parse_args(arguments or [])
    if why := netns.why_unavailable():
        print(f"skipped: {why}")
        return 0
    cases: list[Case] = []
    for scenario in chosen.scenario or bundled():
        for model in chosen.model or MODELS:
            cases += _race(scenario, model, chosen.random)
    for title, some in (("all", cases), ("undisturbed", [case for case in cases if not case.disturbed])):
        _summary(title, some)
    return 0 if cases else 1


def _race(scenario: str, model: str, count: int) -> list[Case]:
    command = [sys.executable, "-m", "swarmtop", "lab", "race", scenario, "--model", model, "--best", "--json"]
    command += ["--random", str(count), "--engine", "chain", "--engine", "star", "--steps", "40", "--again"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        print(f"{scenario:<16} {model:<6} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
        return []
    cases = [Case(scenario, model, run) for run in json.loads(done.stdout)]
    for case in cases:
        tpot = case.run["tpot_ms"]
        stages = ",".join(stage["node"] for stage in case.run["placement"])
        print(
            f"{scenario:<16} {model:<6} {case.run['engine']:<6} predicted {tpot['predicted']['p50']:8.2f} ms"
            f"  measured {tpot['measured']['p50']:8.2f}  error {case.error:+6.1%}"
            f"  {'inside ' if case.run['covered'] else 'OUTSIDE'}  first token {case.first_token_error:+6.1%}"
            f"  {stages}{'  DISTURBED' if case.disturbed else ''}",
            flush=True,
        )
    return cases


def _noise(cases: list[Case]) -> list[float]:
    """Return by how much two runs of the same thing differ."""
    runs: dict[str, list[float]] = {}
    for case in cases:
        runs.setdefault(case.what, []).append(case.measured_ms)
    return [max(pair) / min(pair) - 1 for pair in runs.values() if len(pair) > 1]


def _summary(title: str, cases: list[Case]) -> None:
    if not cases:
        return
    errors = np.abs([case.error for case in cases])
    first = np.abs([case.first_token_error for case in cases])
    covered = float(np.mean([case.run["covered"] for case in cases]))
    ceiling = ("two runs of one", 100 * float(np.median(found))) if (found := _noise(cases)) else None
    record(f"{title}: median error", 100 * float(np.median(errors)), "%", peer=ceiling)
    print(
        f"{title}, {len(cases)} races: median error {np.median(errors):.1%} (goal {GOAL_MEDIAN:.0%}), "
        f"worst {errors.max():.1%} (goal {GOAL_WORST:.0%}), measured p50 inside p5–p95 in {covered:.0%} "
        f"(goal {GOAL_COVERED:.0%}); first token: median {np.median(first):.1%}, worst {first.max():.1%}"
    )
    if noise := _noise(cases):
        print(f"  the ceiling: two runs of the same thing differ by {np.median(noise):.1%} (worst {max(noise):.1%})")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
