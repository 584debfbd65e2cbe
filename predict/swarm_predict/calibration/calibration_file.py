"""Learn from observed runs: keep the parts of their time, and narrow the priors by them.

`learn` rejects runs that physics forbids and names runs that contradict each other; `priors_of` conditions the priors
on the rest (`conditioning`). The file holds the runs, so that several files can be combined, and a new fit of the
priors needs no new run. Files of version 1 hold the constants of one engine; `fit` reads and writes them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from swarm_predict.calibration import fit
from swarm_predict.calibration.runs import ObservedRun, Refused, observation
from swarm_predict.priors.conditioning import Observation, condition, expected_ms
from swarm_predict.priors.posterior import Priors
from swarm_predict.types import PredictError

VERSION: Final = 2
AGREE: Final = fit.AGREE
ODD: Final = 3.0  # standard deviations between a run and what the others predict for it
Z95: Final = 1.645


class Learnt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of the file."""

    runs: tuple[ObservedRun, ...]
    contradictions: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    version: int = VERSION

    @property
    def engines(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.engine for run in self.runs))


class _Version(msgspec.Struct):
    version: int = fit.VERSION


def learn(found: Sequence[ObservedRun | Refused], priors: Priors) -> Learnt:
    """Learn from runs. Raises PredictError if no run is left."""
    if not found:
        raise PredictError("no run is given; --run 'a:0-39,b:40-79=1.7' gives placement and tokens per second")
    refused = tuple(f"{each.label}: {each.why}" for each in found if isinstance(each, Refused))
    runs = tuple(each for each in found if isinstance(each, ObservedRun))
    if not runs:
        raise PredictError(refused[0] if len(refused) == 1 else f"all {len(refused)} runs are refused; {refused[0]}")
    return Learnt(runs, tuple(_contradictions(runs, priors)), refused)


def priors_of(calibrations: Sequence[Learnt], priors: Priors) -> Priors:
    """Return the priors after all runs of these calibrations. Raises PredictError for invalid runs."""
    runs = [run for calibration in calibrations for run in calibration.runs]
    return condition(priors, [observation(run, priors) for run in runs], [_words(run) for run in runs])


def encode(learnt: Learnt) -> bytes:
    return msgspec.json.format(msgspec.json.encode(learnt), indent=2) + b"\n"


def decode(data: bytes) -> Learnt | fit.Calibration:
    """Read a calibration of either form. Raises PredictError for what is none."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version != VERSION:
            return fit.decode(data)
        found = msgspec.json.decode(data, type=Learnt)
    except msgspec.DecodeError as error:  # ValidationError is one
        raise PredictError(f"this is not a calibration ({error}); swarmtop calibrate writes one") from error
    wrong = [run.label for run in found.runs if any(not 0 <= p.machine < len(run.machines) for p in run.parts)]
    if wrong or not found.runs:
        raise PredictError("this calibration holds no usable run; calibrate again")
    return found


def _words(run: ObservedRun) -> str:
    return f"{run.model} {run.weights} ({run.engine})"


# ---------------------------------------------------------------- what was learnt


@dataclass(frozen=True, slots=True)
class Range:
    p5: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Change:
    """One term of a run's time, in ms a step, before and after the calibration."""

    run: str
    what: str  # `compute of a`, `messages`, `all-reduces`, `paths`; `a token`: the whole run
    observed_ms: float | None  # of the whole run
    before: Range
    after: Range


def changes(learnt: Learnt, before: Priors, after: Priors) -> list[Change]:
    """Return the terms of each run, and the run itself, before and after."""
    found = []
    for run in learnt.runs:
        whole = observation(run, before)
        found.append(_change(run, "a token", whole, before, after, run.observed_ms))
        terms: dict[str, list[int]] = {}
        for k, part in enumerate(run.parts):
            terms.setdefault(_term(run, part.what, part.machine), []).append(k)
        for what, which in terms.items():
            some = msgspec.structs.replace(run, parts=tuple(run.parts[k] for k in which), fixed_ms=0.0)
            part_of = observation(some, before)
            alone = Observation(part_of.observed_ms, part_of.parts, 0.0, 0.0)
            found.append(_change(run, what, alone, before, after, None))
    return found


def _term(run: ObservedRun, what: str, machine: int) -> str:
    if what in ("decode", "launch", "layers"):
        return f"compute of {run.machines[machine].key.partition('|')[0]}"
    return {"visit": "messages", "reduce": "all-reduces", "paths": "paths"}[what]


def _change(
    run: ObservedRun, what: str, seen: Observation, before: Priors, after: Priors, observed_ms: float | None
) -> Change:
    return Change(run.label, what, observed_ms, _range(before, seen), _range(after, seen))


def _range(priors: Priors, seen: Observation) -> Range:
    median, deviation = expected_ms(priors, seen)
    wide = math.exp(Z95 * deviation)
    return Range(median / wide, median, median * wide)


# ---------------------------------------------------------------- contradictions


def _contradictions(runs: Sequence[ObservedRun], priors: Priors) -> list[str]:
    said, named = [], set()
    for one, other in itertools.combinations(runs, 2):
        if one.same_as == other.same_as and abs(math.log(one.observed_ms / other.observed_ms)) > AGREE:
            said.append(
                f"{one.label} and {other.label} ran the same thing but took {one.observed_ms:.0f} and "
                f"{other.observed_ms:.0f} ms; something unmeasured changed between them"
            )
            named |= {one.label, other.label}
    if len(runs) < 3:
        return said
    seen = [observation(run, priors) for run in runs]
    odd = []
    for k, run in enumerate(runs):
        others = condition(priors, [*seen[:k], *seen[k + 1 :]], [])
        median, deviation = expected_ms(others, seen[k])
        odd.append((abs(math.log(run.observed_ms / median)) / deviation, run, run.observed_ms / median - 1))
    far, run, off = max(odd, key=lambda each: each[0])
    if far > ODD and run.label not in named:
        said.append(
            f"{run.label} is {abs(off):.0%} {'slower' if off > 0 else 'faster'} than the other runs imply; "
            "measure it again, or calibrate it separately"
        )
    return said
