"""Fit an engine's constants to observed runs: software per hop, measured over predicted compute, the client's own time.

    observed ms a token  =  fixed + compute_scale · compute + hop_overhead_ms · hops + client_ms

`fixed` (paths, and what each node says of its overhead), `compute` and `hops` are predicted for the placement of the
run; the constants are those of least squared relative error, none below what it can be (nothing is done in less than
no time). With fewer runs than constants only some can be told apart: they are fitted in the order hop, compute, client,
and what is not fitted keeps its neutral value. A run that disagrees with the others is named, never averaged away.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from swarm_predict.types import PredictError, Prediction
from swarm_protocol.snapshot.swarm import Floats

Constant = Literal["hop", "compute", "client"]
ORDER: Final[tuple[Constant, ...]] = ("hop", "compute", "client")
NEUTRAL: Final[dict[Constant, float]] = {"hop": 0.0, "compute": 1.0, "client": 0.0}
LOWER_BOUNDS: Final[dict[Constant, float]] = {"hop": 0.0, "compute": 0.01, "client": 0.0}
VERSION: Final = 1
AGREE: Final = 0.10  # runs of one engine on one network repeat within this, in our own runs and in Petals' tables
UNTESTED: Final = 0.05  # an assumption: as many constants as runs leave no residual to estimate it from
SAME: Final = 1e-6  # columns this similar cannot be distinguished


@dataclass(frozen=True, slots=True)
class Observed:
    """One run, and what is predicted for it with neutral constants."""

    label: str
    observed_ms: float  # a token, one stream
    fixed_ms: float
    compute_ms: float  # layers and head
    hops: int

    @property
    def bare_ms(self) -> float:
        return self.fixed_ms + self.compute_ms


class Residual(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    run: str
    observed_ms: float
    predicted_ms: float

    @property
    def relative(self) -> float:
        """Return the relative residual; above 0: the run was slower than the constants predict."""
        return self.observed_ms / self.predicted_ms - 1


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of the file. One engine: its constants do not apply to another."""

    engine: str
    model: str
    weights: str
    compute_scale: Annotated[float, Meta(ge=0.01, le=1000)] = 1.0
    hop_overhead_ms: Annotated[float, Meta(ge=0, le=600_000)] = 0.0
    client_ms: Annotated[float, Meta(ge=0, le=600_000)] = 0.0
    fitted: tuple[str, ...] = ()
    error: Annotated[float, Meta(ge=0, le=10)] = 0.0  # of a prediction made with it, relative (standard deviation)
    runs: tuple[Residual, ...] = ()
    contradictions: tuple[str, ...] = ()
    version: int = VERSION


def observed(label: str, tokens_per_s: float, found: Prediction, hops: int) -> Observed:
    """Return an observation. `found` must be predicted with neutral constants. Raises PredictError for an invalid
    speed."""
    if not 0 < tokens_per_s < math.inf:
        raise PredictError(f"run {label}: {tokens_per_s} tokens/s is not a valid speed; give the speed of one stream")
    parts = found.breakdown_ms
    return Observed(label, 1e3 / tokens_per_s, parts.network + parts.overhead, parts.compute + parts.head, hops)


def fit(
    runs: Sequence[Observed], engine: str, model: str, weights: str, wanted: Sequence[Constant] | None = None
) -> Calibration:
    """Fit. Raises PredictError if there is nothing to fit, or the runs cannot tell the constants apart."""
    if not runs:
        raise PredictError("no run is given; --run 'a:0-39,b:40-79=1.7' gives placement and tokens per second")
    chosen = _chosen(runs, wanted)
    values = _least_squares(runs, chosen)
    residuals = tuple(Residual(run.label, run.observed_ms, _predicted(run, values)) for run in runs)
    spare = len(residuals) - len(chosen)
    error = math.sqrt(sum(r.relative**2 for r in residuals) / spare) if spare else UNTESTED
    return Calibration(
        engine=engine,
        model=model,
        weights=weights,
        compute_scale=values["compute"],
        hop_overhead_ms=values["hop"],
        client_ms=values["client"],
        fitted=tuple(chosen),
        error=error,
        runs=residuals,
        contradictions=tuple(_contradictions(runs, chosen, residuals)),
    )


def encode(calibration: Calibration) -> bytes:
    return msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n"


def decode(data: bytes) -> Calibration:
    """Decode a calibration. Raises PredictError if it is invalid."""
    try:
        found = msgspec.json.decode(data, type=Calibration)
    except msgspec.DecodeError as error:  # ValidationError is one
        raise PredictError(f"this is not a calibration ({error}); swarmtop calibrate writes one") from error
    if found.version != VERSION:
        raise PredictError(
            f"this calibration has version {found.version}, this swarmtop reads {VERSION}; calibrate again"
        )
    return found


# ---------------------------------------------------------------- fitting


def _column(run: Observed, constant: Constant) -> float:
    return {"hop": float(run.hops), "compute": run.compute_ms, "client": 1.0}[constant]


def _predicted(run: Observed, values: dict[Constant, float]) -> float:
    return run.fixed_ms + sum(_column(run, constant) * values[constant] for constant in ORDER)


def _matrix(runs: Sequence[Observed], constants: Sequence[Constant]) -> Floats:
    """Return the matrix; rows are relative to the observation, so that a fast run counts as much as a slow one."""
    rows = [[_column(run, constant) / run.observed_ms for constant in constants] for run in runs]
    return np.array(rows, np.float64).reshape(len(runs), len(constants))


def _rank(matrix: Floats) -> int:
    norms = np.linalg.norm(matrix, axis=0)
    if np.any(norms == 0):
        return 0
    return int(np.linalg.matrix_rank(matrix / norms, tol=SAME))


def _chosen(runs: Sequence[Observed], wanted: Sequence[Constant] | None) -> list[Constant]:
    if wanted is not None:
        asked = [constant for constant in ORDER if constant in wanted]
        if not asked or _rank(_matrix(runs, asked)) < len(asked):
            raise PredictError(
                f"{len(runs)} run{'s' if len(runs) != 1 else ''} cannot tell {' and '.join(asked) or 'nothing'} "
                "apart; add runs with other placements, or fit fewer (--fit hop)"
            )
        return asked
    chosen: list[Constant] = []
    for constant in ORDER:
        if len(chosen) < len(runs) and _rank(_matrix(runs, [*chosen, constant])) == len(chosen) + 1:
            chosen.append(constant)
    if not chosen:
        raise PredictError(
            "these runs have neither hops nor compute to attribute their time to; run a placement with several stages"
        )
    if len(runs) == 1 and runs[0].observed_ms < runs[0].bare_ms and runs[0].compute_ms > 0:
        chosen = ["compute"]  # faster than predicted: a faster machine can explain it, an overhead cannot
    return chosen


def _least_squares(runs: Sequence[Observed], chosen: Sequence[Constant]) -> dict[Constant, float]:
    """Solve least squares within bounds: the best of all ways to fix some constants at their minimum (at most
    eight)."""
    best: tuple[float, dict[Constant, float]] | None = None
    for count in range(len(chosen) + 1):
        for held in itertools.combinations(chosen, count):
            values = {**NEUTRAL, **{constant: LOWER_BOUNDS[constant] for constant in held}}
            free = [constant for constant in chosen if constant not in held]
            if free:
                rest = {**values, **dict.fromkeys(free, 0.0)}
                target = np.array([1 - _predicted(run, rest) / run.observed_ms for run in runs])
                solved = np.linalg.lstsq(_matrix(runs, free), target, rcond=None)[0]
                if any(value < LOWER_BOUNDS[constant] for constant, value in zip(free, solved, strict=True)):
                    continue
                values |= {constant: float(value) for constant, value in zip(free, solved, strict=True)}
            off = sum((1 - _predicted(run, values) / run.observed_ms) ** 2 for run in runs)
            if best is None or off < best[0]:
                best = (off, values)
    assert best is not None  # holding all of them is always allowed
    return best[1]


def _contradictions(runs: Sequence[Observed], chosen: Sequence[Constant], residuals: Sequence[Residual]) -> list[str]:
    said = [
        f"{run.label}: a token in {run.observed_ms:.0f} ms is less than the {run.fixed_ms:.0f} ms that its paths alone "
        "take; its network or its placement was a different one"
        for run in runs
        if run.observed_ms < run.fixed_ms
    ]
    seen: dict[tuple[float, float, int], Observed] = {}
    for run in runs:
        key = (run.fixed_ms, run.compute_ms, run.hops)
        other = seen.setdefault(key, run)
        if other is not run and _apart(run.observed_ms, other.observed_ms) > AGREE:
            said.append(
                f"{other.label} and {run.label} ran the same thing but took {other.observed_ms:.0f} and "
                f"{run.observed_ms:.0f} ms; something unmeasured changed between them"
            )
    odd = _odd_one(runs, chosen)
    if odd is not None:
        run, off = odd
        said.append(
            f"{run.label} is {abs(off):.0%} {'slower' if off > 0 else 'faster'} than the other runs imply; "
            "measure it again, or calibrate it separately"
        )
    elif not said and max(abs(r.relative) for r in residuals) > AGREE:
        worst = max(residuals, key=lambda r: abs(r.relative))
        said.append(
            f"the runs contradict each other: no constants predict {worst.run} to within {abs(worst.relative):.0%}; "
            "one of the swarms, placements or speeds differs from what was run"
        )
    return said


def _apart(one: float, other: float) -> float:
    return abs(math.log(one / other))


def _farther(run: Observed, others: Sequence[Observed], chosen: Sequence[Constant]) -> float:
    """Return how many times less certain what the others imply of a run is than a run repeats: 1 within them, more
    where it asks for constants that they hardly show (the standard error of a prediction by least squares)."""
    known, row = _matrix(others, chosen), _matrix([run], chosen)[0]
    return math.sqrt(1 + float(row @ np.linalg.pinv(known.T @ known) @ row))


def _odd_one(runs: Sequence[Observed], chosen: Sequence[Constant]) -> tuple[Observed, float] | None:
    """Return the run without which the others agree, and how far it is from what they give; None if there is no such
    run."""
    if len(runs) < len(chosen) + 2:
        return None
    found: list[tuple[Observed, float]] = []
    for k, run in enumerate(runs):
        others = [*runs[:k], *runs[k + 1 :]]
        if _rank(_matrix(others, chosen)) < len(chosen):
            continue
        values = _least_squares(others, chosen)
        if all(_apart(o.observed_ms, _predicted(o, values)) <= AGREE for o in others):
            off = run.observed_ms / _predicted(run, values) - 1
            if abs(math.log1p(off)) > AGREE * _farther(run, others, chosen):
                found.append((run, off))
    return max(found, key=lambda pair: abs(pair[1])) if found else None
