"""Compare published speeds with predictions from priors fitted without that system: error, sign, coverage, width.

`python -m bench priors --calibrated` then observes one run or two of each system and predicts its others.

`python -m bench priors --fit` fits to the whole table and stores the coefficients that predictions use; `--device`
leaves out every result of the same devices too; `--table FILE` predicts the results of another file of the same form.
On a busy machine OPENBLAS_NUM_THREADS=1 makes it several times as quick (half a minute).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.resources
import itertools
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

import swarm_predict.priors
from bench.support.harness import record
from swarm_predict.calibration.fit_priors import as_data, fit
from swarm_predict.calibration.published import Result, devices, published, read_table
from swarm_predict.calibration.published_evidence import Evidence, evidence_of, placement_of, swarm_of, workload_of
from swarm_predict.calibration.runs import ObservedRun, Refused, observation, observe
from swarm_predict.forecast.prediction import predict
from swarm_predict.priors.conditioning import Observation, Part, condition
from swarm_predict.priors.engine_errors import Software, measured
from swarm_predict.priors.factors import group_of
from swarm_predict.priors.posterior import Priors, fitted
from swarm_predict.types import Quantiles

GOAL_MEDIAN, GOAL_COVERED, GOAL_FAST = 0.20, (0.85, 0.97), (0.35, 0.65)
AFTER = {1: 0.12, 2: 0.07}  # runs of a system: the median error of its other results
OF_ENGINES = ("visit.engine", "measured.processor")  # that runs without a network show beyond published results
PROCESSORS_APART = 0.15  # of the logarithm: one kind of processor was run; others have other instructions
WHERE = Path(str(importlib.resources.files(swarm_predict.priors)))


@dataclass(frozen=True, slots=True)
class Case:
    result: Result
    found: Quantiles  # milliseconds of one decode step, or of the prompt

    @property
    def error(self) -> float:
        """Return the error; above 0: predicted faster than measured."""
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
    """Return the results that physics allows; the others are named."""
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


def others_of(evidence: list[Evidence], system: str, devices: set[str]) -> list[Evidence]:
    """Return the evidence that comes neither from this system nor from any of these devices."""
    return [row for row in evidence if row.result.system != system and not devices & set(row.result.nodes)]


def left_out(evidence: list[Evidence], start: Priors, *, by_device: bool) -> list[Case]:
    """Predict each system from all the others; with `by_device` from those that share no device with it."""
    cases: list[Case] = []
    for system in dict.fromkeys(row.result.system for row in evidence):
        mine = [row for row in evidence if row.result.system == system]
        devices = set(mine[0].result.nodes) if by_device else set()
        priors = fit(others_of(evidence, system, devices), start).priors
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
    record("unmeasured machines: median error", 100 * float(np.median([abs(case.error) for case in cases])), "%")
    record("unmeasured machines: inside the interval", 100 * float(np.mean([case.inside for case in cases])), "%")


@dataclass(frozen=True, slots=True)
class AfterRuns:
    """A result predicted after `runs` others of the same system were observed."""

    case: Case
    runs: int
    weight: float  # so that a system with many results counts by its results, not by the pairs of them


def after_runs(evidence: list[Evidence], start: Priors, *, by_device: bool) -> list[AfterRuns]:
    """Predict each decode step of each system after every choice of one and of two others of it."""
    decode = [row for row in evidence if row.result.metric == "decode"]
    found: list[AfterRuns] = []
    for system in dict.fromkeys(row.result.system for row in decode):
        mine = [row.result for row in decode if row.result.system == system]
        if len(mine) < 2:
            continue
        priors = fit(others_of(decode, system, set(mine[0].nodes) if by_device else set()), start).priors
        seen = [run for result in mine if isinstance(run := run_of(result, priors), ObservedRun)]
        for count in (0, *AFTER):
            for observed in itertools.combinations(seen, count):
                after = condition(
                    priors, [observation(run, priors) for run in observed], [run.label for run in observed]
                )
                labels = {run.label for run in observed}
                for result in (result for result in mine if result.label not in labels):
                    choices = math.comb(sum(run.label != result.label for run in seen), count)
                    found.append(AfterRuns(case(result, after), count, 1 / choices))
    return found


def of_published() -> Priors:
    """Fit to the whole table of published results, and nothing else."""
    return fit(usable(published())).priors


def with_software(priors: Priors, software: Iterable[Software]) -> Priors:
    """Return the fit after what the software of engines took in runs without a network (`priors.engine_errors`).

    What those runs say of the very machine that they ran on is left out: that is of it. How an engine's kernels compare
    with torch's on processors is kept, and how far that will differ on others; it takes up what the same runs say of
    layers under this engine in general, since both were seen together, on processors."""
    runs = [
        Observation(
            run.observed_ms, tuple(Part(part.times, part.effects) for part in run.parts), run.fixed_ms,
            run.error,
        )
        for run in software
    ]  # fmt: skip
    after = condition(priors, runs, [])
    at = [k for k, name in enumerate(after.names) if name in priors.names or group_of(name) in OF_ENGINES]
    names = tuple(after.names[k] for k in at)
    covariance, mean = after.covariance[np.ix_(at, at)], after.mean[at]
    for k, name in enumerate(names):
        if group_of(name) == "measured.processor":
            covariance[k, k] += PROCESSORS_APART**2
            mean[k] += after.log_median((name.replace("measured.processor", "measured.layers"),))
    return replace(after, names=names, mean=mean, covariance=covariance, _at={})


def run_of(result: Result, priors: Priors) -> ObservedRun | Refused:
    load = replace(workload_of(result), priors=priors)
    return observe(result.label, result.tokens_per_s, swarm_of(result), result.model, placement_of(result), load)


def report_runs(found: list[AfterRuns]) -> bool:
    """Print error, coverage and width after no, one and two runs; return whether the goals are reached."""
    good = True
    for count in (0, *AFTER):
        mine = [each for each in found if each.runs == count]
        several = [each for each in mine if len(each.case.result.nodes) > 1]
        for title, some in ((f"after {count} run{'s' if count != 1 else ''}", mine), ("  several machines", several)):
            if not some:
                continue
            error = weighted(some, lambda each: abs(each.error))
            weights = sum(each.weight for each in some)
            inside = sum(each.weight * each.case.inside for each in some) / weights
            fast = sum(each.weight * (each.case.error > 0) for each in some) / weights
            print(
                f"{title:<42} {weights:>4.0f}  error {error:6.1%}  too fast {fast:4.0%}  inside {inside:4.0%}"
                f"  width ×{weighted(some, lambda each: each.width):.2f}"
            )
            if some is mine and count in AFTER:
                good = good and error <= AFTER[count] and inside >= GOAL_COVERED[0]
    goals = ", ".join(f"error ≤ {error:.0%} after {count}" for count, error in AFTER.items())
    print(f"goals: {goals}, inside ≥ {GOAL_COVERED[0]:.0%}")
    return good


def weighted(some: list[AfterRuns], figure: Callable[[Case], float]) -> float:
    """Return the weighted median."""
    ordered = sorted(some, key=lambda each: figure(each.case))
    sums = np.cumsum([each.weight for each in ordered])
    return figure(ordered[int(np.searchsorted(sums, sums[-1] / 2))].case)


def reached(cases: list[Case]) -> bool:
    errors = np.array([case.error for case in cases])
    inside, fast = np.mean([case.inside for case in cases]), np.mean(errors > 0)
    return bool(
        np.median(np.abs(errors)) <= GOAL_MEDIAN
        and GOAL_COVERED[0] <= inside <= GOAL_COVERED[1]
        and GOAL_FAST[0] <= fast <= GOAL_FAST[1]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench priors")
    parser.add_argument("--fit", action="store_true", help="fit to the table and store the coefficients")
    parser.add_argument("--device", action="store_true")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--calibrated", action="store_true")
    chosen = parser.parse_args(arguments or [])
    if chosen.table is not None:
        cases = [case(row.result, fitted()) for row in usable(read_table(chosen.table.read_text(), devices()))]
        report(cases)
        return 0
    evidence = usable(published())
    if chosen.fit:
        found = as_data(with_software(fit(evidence).priors, measured().software), len(evidence), table_digest())
        (WHERE / "fitted.json").write_bytes(msgspec.json.encode(found) + b"\n")
        print(f"{len(evidence)} results, {len(found.names)} effects → {WHERE / 'fitted.json'}")
        return 0
    if chosen.calibrated:
        return 0 if report_runs(after_runs(evidence, fitted(), by_device=chosen.device)) else 1
    cases = left_out(evidence, fitted(), by_device=chosen.device)
    report(cases)
    goals = f"goals: error ≤ {GOAL_MEDIAN:.0%}, inside {GOAL_COVERED[0]:.0%}–{GOAL_COVERED[1]:.0%}, "
    print(f"{goals}too fast {GOAL_FAST[0]:.0%}–{GOAL_FAST[1]:.0%}")
    return 0 if reached(cases) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
