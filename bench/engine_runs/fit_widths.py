"""Fit how far engines deviate from their predictions, to the recorded runs: the widths of `priors.engine_errors`.

Per engine, the widths are chosen under which its runs are most probable. The probability is that of the model which
predicts and calibrates (`priors.conditioning`): each run given those before it, the real network's and its twin's, so
that what runs have in common goes to widths that a calibration takes away, and the rest to the run. Runs during which
other programs took cores say nothing of engines and are left out.

Few runs say little about five widths: each has a log-normal prior about what the median errors of an earlier series of
runs say (`MEDIAN_ERRORS`). An engine without runs has that alone, an engine of neither the widest of each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

import swarm_predict.priors
from bench.engine_runs.recorded_runs import FILE
from bench.engine_runs.runs import Run
from bench.predicting.priors import with_software
from swarm_lab.verification.contention import DISTURBED_CORES
from swarm_predict.calibration.runs import ObservedRun, observation
from swarm_predict.cost.engines import engine_facts
from swarm_predict.priors.conditioning import Observation, condition, without_own
from swarm_predict.priors.engine_errors import OTHER, PLAIN_ENGINE, Measured, Software, SoftwarePart, Widths
from swarm_predict.priors.factors import PLAIN, messages_of
from swarm_predict.priors.posterior import Priors

STORED: Final = Path(str(swarm_predict.priors.__file__)).parent / "engine_errors.json"
FIELDS: Final = ("layers", "paths", "kind", "run", "pace")
MIN_WIDTH: Final = 0.01  # engines repeat no better
STEP: Final = 1.15
ROUNDS: Final = 40
APART: Final = 1.0  # standard deviation of the logarithm of an engine's widths about what the medians say
# 37 runs of four engines over six emulated networks, measured in 2026-11 by probes beforehand: median errors by engine;
# and of all, before and after one run was learnt from
MEDIAN_ERRORS: Final = {PLAIN_ENGINE: 0.05, "llama.cpp": 0.11, "petals": 0.15, "distributed-llama": 0.15}
MEDIAN_BEFORE, MEDIAN_AFTER = 0.109, 0.080
PACES_APART: Final = 1.15  # measured layers of one machine repeat within a few percent
# of a token without a network, how far it lies from what layers and messages at one pace say at another (relative): on
# the slower of two days messages took 1.3 times (Petals) to 3 times (llama.cpp) as long, 4 to 15 % of a token
PACE_OFF: Final = 0.1
MEDIAN_OF_NORMAL: Final = 0.6745  # of the absolute value, in standard deviations


@dataclass(frozen=True, slots=True)
class Seen:
    run: Run
    found: ObservedRun

    @property
    def case(self) -> tuple[str, str, str]:
        return self.run.series


def fit(runs: Sequence[Run], priors: Priors) -> Measured:
    """`priors`: of published results alone. Raises PredictError for runs that cannot be observed."""
    quiet = [
        Seen(run, found)
        for run in runs
        if run.others_cores <= DISTURBED_CORES and isinstance(found := run.observed(), ObservedRun)
    ]
    seen: dict[str, list[Observation]] = {}
    for one in quiet:
        seen.setdefault(_engine(one.run), []).extend(_observations(one, quiet, priors))
    software = tuple(_software(quiet, priors))
    priors = with_software(priors, software)
    engines = {name: by_median(error) for name, error in MEDIAN_ERRORS.items()}
    engines |= {name: _most_probable(found, priors, engines[name]) for name, found in seen.items()}
    engines[OTHER] = Widths(*(max(getattr(widths, field) for widths in engines.values()) for field in FIELDS))
    rounded = {name: Widths(*(round(getattr(w, field), 4) for field in FIELDS)) for name, w in engines.items()}
    return Measured(
        rounded, tuple(_software(quiet, priors)), len(quiet), hashlib.sha256(FILE.read_bytes()).hexdigest()[:16]
    )


def _software(runs: Sequence[Seen], priors: Priors) -> Iterable[Software]:
    """Return each case without a network, over all the networks beside which it ran: it is the same computation.

    At another pace of the machine's memory it is another one."""
    cases: dict[tuple[str, str, str], list[Seen]] = {}
    for one in runs:
        cases.setdefault(one.case, []).append(one)
    for (engine, case, _), some in sorted(cases.items()):
        for alike in _at_one_pace(some):
            twins = [twin for one in alike if (twin := _twin(one, alike)) is not None]
            if not twins or not any(part.what == "visit" for part in twins[0].parts):
                continue
            at = sorted(range(len(twins)), key=lambda k: twins[k].observed_ms)[len(twins) // 2]
            seen = observation(twins[at], priors)
            parts = tuple(SoftwarePart(round(part.times, 3), part.effects) for part in seen.parts)
            repeats = float(np.std(np.log([twin.observed_ms for twin in twins]))) / len(twins) ** 0.5
            error = math.hypot(MIN_WIDTH, repeats, PACE_OFF)
            yield Software(engine, case, round(seen.observed_ms, 2), round(seen.fixed_ms, 3), round(error, 4), parts)


def _at_one_pace(runs: Sequence[Seen]) -> list[list[Seen]]:
    """Return the runs in groups of one pace: of a machine and of a day, by the time of its measured layers."""
    found: list[list[Seen]] = []
    before = math.inf
    for one in sorted(runs, key=_layers_ms):
        if _layers_ms(one) > PACES_APART * before or not found:
            found.append([])
        before = _layers_ms(one)
        found[-1].append(one)
    return found


def _layers_ms(one: Seen) -> float:
    return sum(part.times for part in one.found.parts if part.what == "layers")


def store(found: Measured) -> None:
    STORED.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def _engine(run: Run) -> str:
    name = run.case.workload.engine
    return PLAIN_ENGINE if name in PLAIN else messages_of(name)


def _observations(one: Seen, runs: Sequence[Seen], priors: Priors) -> Iterable[Observation]:
    """Return the run and its twin as observations."""
    yield observation(one.found, priors)
    twin = _twin(one, [other for other in runs if other.case == one.case])
    if twin is not None:
        yield observation(twin, priors)


def _twin(one: Seen, alike: Sequence[Seen]) -> ObservedRun | None:
    """Return what the case took without a network; None for an all-reduce, whose rounds are priced by measured paths
    with the software in them: without a network nothing is left that would stand for it. `alike`: its runs on all
    networks.

    Probes measured visits at the cadence of each network, and after a longer pause a visit takes longer. Without a
    network pauses are shorter than on any."""
    if engine_facts(one.run.case.workload).pattern == "all-reduce":
        return None
    parts = tuple(part for part in one.found.parts if part.what != "paths")
    fixed_ms = min(other.found.fixed_ms for other in alike)
    compute_ms = one.run.compute_ms
    return msgspec.structs.replace(one.found, observed_ms=compute_ms, fixed_ms=fixed_ms, parts=parts, own_ms=())


def by_median(error: float) -> Widths:
    """Return the widths of an engine of whose runs, half layers and half paths, only the median error is known.

    Of the variance a share q is common to runs. One run that is learnt from takes q of that share away, as its own
    noise allows, so that 1 - q² is left: that is how much smaller errors were afterwards. Layers and paths have halves
    of what is common, a kind of path and the single run halves of the rest; half of the run's is of what computes,
    which is half of it."""
    variance = (error / MEDIAN_OF_NORMAL) ** 2
    common = math.sqrt(1 - (MEDIAN_AFTER / MEDIAN_BEFORE) ** 2)
    both = math.sqrt(2 * common * variance)  # each enters with half its size: (both / 2)² twice is what is common
    rest = (1 - common) * variance / 2
    return Widths(both, both, 2 * math.sqrt(rest), math.sqrt(rest / 2), math.sqrt(2 * rest))


def _paths(seen: Observation) -> float:
    """Return the share of a run's time that its paths take."""
    paths = sum(part.times for part in seen.parts if any(name.startswith("measured.paths") for name in part.effects))
    return min(1.0, paths / seen.observed_ms)


def _most_probable(found: Sequence[Observation], priors: Priors, about: Widths) -> Widths:
    """Climb by steps of one width at a time."""
    priors = _of_these(priors, found)
    here, best = about, _surprise(found, priors, about, about)
    for _ in range(ROUNDS):
        before = best
        for field, step in itertools.product(FIELDS, (STEP, 1 / STEP)):
            there = msgspec.structs.replace(here, **{field: min(1.0, max(MIN_WIDTH, getattr(here, field) * step))})
            surprise = _surprise(found, priors, there, about)
            if surprise < best:
                here, best = there, surprise
        if best == before:
            break
    return here


def _surprise(found: Sequence[Observation], priors: Priors, widths: Widths, about: Widths) -> float:
    """Return the negative logarithm of the posterior density, but for a constant."""
    total = sum((math.log(getattr(widths, field) / getattr(about, field)) / APART) ** 2 / 2 for field in FIELDS)
    priors = _with_widths(priors, widths)
    for seen in found:
        noisy = dataclasses.replace(seen, noise=math.hypot(widths.run, (1 - _paths(seen)) * widths.pace))
        total -= without_own(priors, noisy)[1]
        priors = condition(priors, [noisy], [])
    return total


def _of_these(priors: Priors, found: Sequence[Observation]) -> Priors:
    """Return the priors of the effects that these runs have: the others do not affect these."""
    used = {name for seen in found for part in seen.parts for name in part.effects}
    at = [k for k, name in enumerate(priors.names) if name in used]
    names = tuple(priors.names[k] for k in at)
    covariance = priors.covariance[np.ix_(at, at)]
    return dataclasses.replace(priors, names=names, mean=priors.mean[at], covariance=covariance, _at={})


def _with_widths(priors: Priors, widths: Widths) -> Priors:
    given = {f"measured.{field}": getattr(widths, field) for field in ("layers", "paths", "kind")}
    return dataclasses.replace(priors, spread={**priors.spread, **given}, _at={})
