"""Published speeds against predictions that never saw them: a system left out at a time; error, sign, coverage, width.

`python -m bench priors --write` fits to the whole table and stores the coefficients that predictions use; `--device`
leaves out every result of the same devices too; `--table FILE` predicts the results of another file of the same form.
On a busy machine OPENBLAS_NUM_THREADS=1 makes it several times as quick (half a minute).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.resources
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

import swarm_predict.priors
from swarm_predict.calibration.evidence import Evidence, evidence_of, placement_of, swarm_of, workload_of
from swarm_predict.calibration.fit_priors import as_data, fit
from swarm_predict.calibration.published import Result, devices, published, read_table
from swarm_predict.forecast.prediction import predict
from swarm_predict.priors.posterior import Priors, fitted
from swarm_predict.types import Quantiles

GOAL_MEDIAN, GOAL_COVERED, GOAL_FAST = 0.20, (0.85, 0.97), (0.35, 0.65)
WHERE = Path(str(importlib.resources.files(swarm_predict.priors)))


@dataclass(frozen=True, slots=True)
class Case:
    result: Result
    found: Quantiles  # milliseconds of one decode step, or of the prompt

    @property
    def error(self) -> float:
        """Above 0: predicted faster than measured."""
        return self.result.measured_ms / self.found.p50 - 1

    @property
    def inside(self) -> bool:
        return self.found.p5 <= self.result.measured_ms <= self.found.p95

    @property
    def width(self) -> float:
        return self.found.p95 / self.found.p5


def table_digest() -> str:
    return hashlib.sha256((WHERE / "published.toml").read_bytes()).hexdigest()[:16]


def usable(results: Iterable[Result]) -> list[Evidence]:
    """Those that physics allows; the others are named."""
    kept = []
    for row in map(evidence_of, results):
        if row.refused is None:
            kept.append(row)
        else:
            print(f"refused  {row.refused}")
    return kept


def case(result: Result, priors: Priors) -> Case:
    load = replace(workload_of(result), priors=priors)
    found = predict(swarm_of(result), result.model, placement_of(result), load)
    return Case(result, found.tpot_ms if result.metric == "decode" else found.ttft_ms)


def left_out(evidence: list[Evidence], start: Priors, *, by_device: bool) -> list[Case]:
    """Each system predicted from all the others; with `by_device` from those that share no device with it."""
    cases: list[Case] = []
    for system in dict.fromkeys(row.result.system for row in evidence):
        mine = [row for row in evidence if row.result.system == system]
        named = set(mine[0].result.nodes)
        others = [
            row for row in evidence if row.result.system != system and not (by_device and named & set(row.result.nodes))
        ]
        priors = fit(others, start).priors
        cases += [case(row.result, priors) for row in mine]
    return cases


def line(title: str, cases: list[Case]) -> str:
    errors = np.array([case.error for case in cases])
    return (
        f"{title:<42} {len(cases):>4}  error {np.median(np.abs(errors)):6.1%}  too fast {np.mean(errors > 0):4.0%}"
        f"  inside {np.mean([case.inside for case in cases]):4.0%}"
        f"  width ×{np.median([case.width for case in cases]):.2f}"
    )


def report(cases: list[Case]) -> None:
    for system in dict.fromkeys(case.result.system for case in cases):
        print(line(system, [case for case in cases if case.result.system == system]))
    print()
    decode = [case for case in cases if case.result.metric == "decode"]
    parts = {
        "decode": decode,
        "prompts": [case for case in cases if case.result.metric == "prompt"],
        "one machine": [case for case in decode if len(case.result.nodes) == 1],
        "several machines": [case for case in decode if len(case.result.nodes) > 1],
    }
    parts |= {
        name: [case for case in decode if case.result.devices[-1].device_class == name]
        for name in sorted({case.result.devices[-1].device_class for case in decode})
    }
    for title, some in parts.items():
        if some:
            print(line(title, some))
    print(line("all", cases))


def reached(cases: list[Case]) -> bool:
    errors = np.array([case.error for case in cases])
    inside, fast = np.mean([case.inside for case in cases]), np.mean(errors > 0)
    return bool(
        np.median(np.abs(errors)) <= GOAL_MEDIAN
        and GOAL_COVERED[0] <= inside <= GOAL_COVERED[1]
        and GOAL_FAST[0] <= fast <= GOAL_FAST[1]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.priors")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--device", action="store_true")
    parser.add_argument("--table", type=Path)
    chosen = parser.parse_args(arguments or [])
    if chosen.table is not None:
        cases = [case(row.result, fitted()) for row in usable(read_table(chosen.table.read_text(), devices()))]
        report(cases)
        return 0
    evidence = usable(published())
    if chosen.write:
        found = as_data(fit(evidence).priors, len(evidence), table_digest())
        (WHERE / "fitted.json").write_bytes(msgspec.json.encode(found) + b"\n")
        print(f"{len(evidence)} results, {len(found.names)} effects → {WHERE / 'fitted.json'}")
        return 0
    cases = left_out(evidence, fitted(), by_device=chosen.device)
    report(cases)
    goals = f"goals: error ≤ {GOAL_MEDIAN:.0%}, inside {GOAL_COVERED[0]:.0%}–{GOAL_COVERED[1]:.0%}, "
    print(f"{goals}too fast {GOAL_FAST[0]:.0%}–{GOAL_FAST[1]:.0%}")
    return 0 if reached(cases) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
