"""Print the table of `bench engines` and its totals: as predicted, and after learning from another run of the same
case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.engine_runs.runs import Run
from bench.support.harness import record, table
from swarm_lab.verification.contention import DISTURBED_CORES
from swarm_predict.calibration.calibration_file import learn, priors_of
from swarm_predict.priors.posterior import fitted
from swarm_predict.types import Quantiles

TITLE: Final = (
    "engine", "network", "measured ms", "predicted (p5 … p95)", "error", "after one run", "error", "network: measured",
    "predicted", "computing: measured", "predicted",
)  # fmt: skip
LEARNT_FROM: Final = "even"  # the network whose run the table's lines are calibrated on; else the first of the case
OUTSIDE: Final = "!"  # marks an interval that does not hold what was measured


@dataclass(frozen=True, slots=True)
class Told:
    """A run as predicted; `by`: the run that was learnt from, None where none was."""

    run: Run
    tpot_ms: Quantiles
    by: Run | None = None


def line(run: Run, calibrated: Quantiles | None = None) -> tuple[str, ...]:
    parts, tpot = run.prediction.breakdown_ms, run.prediction.tpot_ms
    mark = " *" if run.others_cores > DISTURBED_CORES else ""
    return (
        f"{run.engine} {run.case.name}{mark}",
        run.network,
        f"{run.measured_ms:.1f}",
        _interval(tpot, run.measured_ms),
        f"{tpot.p50 / run.measured_ms - 1:+.1%}",
        "" if calibrated is None else _interval(calibrated, run.measured_ms),
        "" if calibrated is None else f"{calibrated.p50 / run.measured_ms - 1:+.1%}",
        f"{run.network_ms:.1f}",
        f"{parts.network:.1f}",
        f"{run.compute_ms:.1f}",
        f"{parts.compute + parts.head + parts.overhead:.1f}",
    )


def text(runs: Sequence[Run]) -> str:
    """Return the whole table and the sums below it."""
    pairs = {(k, to): calibrated(runs[k], runs[to]) for k, to in _pairs(runs)}
    lines = []
    for k, run in enumerate(runs):
        sources = [at for at, to in pairs if to == k]
        named = [at for at in sources if runs[at].network == LEARNT_FROM]
        chosen = named or sources
        lines.append(line(run, pairs[chosen[0], k] if chosen else None))
    said = [table(TITLE, lines), "", f"{OUTSIDE} outside p5 to p95; calibrated on the run over {LEARNT_FROM!r} paths"]
    if any(run.others_cores > DISTURBED_CORES for run in runs):
        said.append(f"* other programs took more than {DISTURBED_CORES:g} cores of this machine meanwhile")
    groups = {"all engines": list(runs)}
    for run in runs:
        groups.setdefault(run.engine, []).append(run)
    machines = dict.fromkeys(run.machine for run in runs)
    if len(machines) > 1:
        groups |= {f"on {name}": [run for run in runs if run.machine == name] for name in machines}
    for name, some in groups.items():
        said.append(_sum(f"{name}, uncalibrated", [(run.prediction.tpot_ms, run.measured_ms) for run in some]))
        errors = [abs(run.prediction.tpot_ms.p50 / run.measured_ms - 1) for run in some]
        record(f"{name}: median error", 100 * float(np.median(errors)), "%")
        after = [
            (found, runs[to].measured_ms) for (_, to), found in pairs.items() if any(runs[to] is run for run in some)
        ]
        if after:
            said.append(_sum(f"{name}, calibrated on any one other run", after))
    return "\n".join(said)


def left_out_text(told: Sequence[Told]) -> str:
    """Return the sums by network and by engine of runs whose network no constant was fitted to."""
    said = ["each network by constants that were fitted to the others:"]
    groups = {"all": list(told)}
    for one in told:
        groups.setdefault(f"network {one.run.network}", []).append(one)
    for one in told:
        groups.setdefault(one.run.engine, []).append(one)
        groups.setdefault(f"on {one.run.machine}", []).append(one)
    for name, some in groups.items():
        for what, here in (
            ("uncalibrated", [one for one in some if one.by is None]),
            ("calibrated on any one other run", [one for one in some if one.by is not None]),
        ):
            if here:
                said.append(_sum(f"{name}, {what}", [(one.tpot_ms, one.run.measured_ms) for one in here]))
    errors = [abs(one.tpot_ms.p50 / one.run.measured_ms - 1) for one in told if one.by is not None]
    if errors:
        record("calibrated, of networks left out: median error", 100 * float(np.median(errors)), "%")
        record("calibrated, of networks left out: worst error", 100 * float(np.max(errors)), "%")
    return "\n".join(said)


def calibrated(one: Run, other: Run) -> Quantiles:
    """Predict `other` after `one` was observed."""
    priors = priors_of([learn([one.observed()], fitted())], fitted())
    return other.predicted_with(priors).tpot_ms


def _pairs(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Return the positions of every two runs of a case on one machine."""
    cases = [run.series for run in runs]
    return [(k, to) for k, one in enumerate(cases) for to, other in enumerate(cases) if k != to and one == other]


def _interval(tpot: Quantiles, measured_ms: float) -> str:
    mark = "" if _holds(tpot, measured_ms) else f" {OUTSIDE}"
    return f"{tpot.p50:.1f} ({tpot.p5:.1f} … {tpot.p95:.1f}){mark}"


def _sum(title: str, pairs: Sequence[tuple[Quantiles, float]]) -> str:
    errors = np.abs([tpot.p50 / measured - 1 for tpot, measured in pairs])
    inside = sum(_holds(tpot, measured) for tpot, measured in pairs)
    return (
        f"{title}: {len(pairs)} predictions, median error {np.median(errors):.1%}, worst {errors.max():.1%}, "
        f"inside p5–p95 {inside} of {len(pairs)}"
    )


def _holds(tpot: Quantiles, measured_ms: float) -> bool:
    return tpot.p5 <= measured_ms <= tpot.p95
