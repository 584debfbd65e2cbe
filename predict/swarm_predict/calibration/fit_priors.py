"""Fit the effects to published speeds: partial pooling, by the mode of the posterior and its curvature.

    log measured  =  log( Σ milliseconds · exp(Σ effects) + fixed )  +  of the system  +  residual

Every effect but the first of each quantity is drawn from a normal distribution about zero whose width is fitted as well
(Laplace approximation, EM steps: the mean square of the levels plus their uncertainty), so that a class with few
results stays near its parent. Residuals are weighted by Student's t with four degrees of freedom, because a published
outlier must not move the others (Lange et al., JASA 84, 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.calibration.published_evidence import Evidence
from swarm_predict.priors.factors import PROCESSORS, group_of
from swarm_predict.priors.posterior import Fitted, Priors
from swarm_protocol.snapshot.swarm import Floats, Ints

# where each quantity starts, and how far from there it may be before any result is known (log; ms for costs)
STARTS: Final = {
    "decode": (np.log(0.5), 0.7),
    "launch": (np.log(0.02), 1.5),
    "visit": (np.log(1.0), 1.5),
    "reduce": (np.log(0.2), 1.5),
    "prefill": (np.log(2.5), 0.8),
}
# widths before any result is seen, and how many levels that guess counts as
FIRST: Final = {
    "decode.class": 0.4, "decode.weights": 0.3, "decode.class-weights": 0.2, "decode.routed": 0.4,
    "decode.class-routed": 0.3, "decode.engine": 0.5, "decode.class-engine": 0.2, "decode.device": 0.3,
    "launch.class": 0.8, "launch.routed": 0.5, "launch.engine": 0.8, "launch.host": 0.6, "launch.cards": 0.4,
    "launch.class-engine": 0.4, "launch.device": 0.3,
    "visit.class": 0.5, "visit.engine": 1.0, "reduce.class": 0.5, "reduce.engine": 0.7, "reduce.device": 0.7,
    "prefill.class": 0.4, "prefill.weights": 0.2, "prefill.class-weights": 0.2, "prefill.routed": 0.3,
    "prefill.class-routed": 0.2, "prefill.engine": 0.4, "prefill.class-engine": 0.2, "prefill.device": 0.25,
}  # fmt: skip
GUESS_COUNTS: Final = 3.0
# "timed": several machines whose layers were measured alone; the residual is their rounding
# "processor": as "decode", of machines that compute on their processor: threads, memory channels and builds differ more
NODE: Final = {"decode": 0.1, "processor": 0.2, "prefill": 0.1, "several": 0.3, "timed": 0.05}
LEFT: Final = {"decode": 0.07, "prefill": 0.1}
DEGREES: Final = 4.0
OUTLIER: Final = 0.5  # a result off by more than a factor of 1.6 answers another question
STEPS, ROUNDS, ROUNDS_AGAIN = 2, 60, 4
METRICS: Final = {"decode": "decode", "prompt": "prefill"}


@dataclass(frozen=True, slots=True)
class _Design:
    names: tuple[str, ...]
    times: Floats  # of every part: milliseconds by the data sheet, or how many
    effects: Ints  # (parts, most effects of a part): positions among the names; beyond the last one: none
    row: Ints  # of every part: which result it belongs to
    paths_ms: Floats  # of every result
    log_measured: Floats
    metric: tuple[str, ...]
    system: Ints  # position of the system's own deviation among the names


@dataclass(frozen=True, slots=True)
class Fit:
    priors: Priors
    log_off: Floats  # measured over fitted, of each result


def fit(evidence: Sequence[Evidence], start: Priors | None = None) -> Fit:
    """Fit. `start`: a fit to nearly the same results, so that a few steps are enough.

    Decode steps and prompts share no effect, so each is fitted separately.
    """
    parts = [
        (rows, _fit([evidence[k] for k in rows], start))
        for metric in METRICS
        if (rows := [k for k, row in enumerate(evidence) if row.result.metric == metric])
    ]
    off = np.zeros(len(evidence))
    for rows, part in parts:
        off[rows] = part.log_off
    sizes = [len(part.priors.names) for _, part in parts]
    covariance = np.zeros((sum(sizes), sum(sizes)))
    first = 0
    for size, (_, part) in zip(sizes, parts, strict=True):
        covariance[first : first + size, first : first + size] = part.priors.covariance
        first += size
    own = [(METRICS[evidence[rows[0]].result.metric], part.priors) for rows, part in parts]
    priors = Priors(
        tuple(name for _, part in parts for name in part.priors.names),
        np.concatenate([part.priors.mean for _, part in parts]),
        covariance,
        {group: width for rate, found in own for group, width in found.spread.items() if _is_of(group, rate)},
        {name: width for rate, found in own for name, width in found.node.items() if _is_of(name, rate)},
        {name: width for rate, found in own for name, width in found.left.items() if name == rate},
    )
    return Fit(priors, off)


def _is_of(group: str, rate: str) -> bool:
    """Return whether a width is that of prompts, or of everything else."""
    return (group.partition(".")[0] == "prefill") == (rate == "prefill")


def _fit(evidence: Sequence[Evidence], start: Priors | None) -> Fit:
    design = _design(evidence)
    groups = np.array([group_of(name) for name in design.names])
    spread = dict(FIRST) if start is None else {**FIRST, **start.spread}
    node = dict(NODE) if start is None else dict(start.node)
    left = dict(LEFT)
    centre = np.array([STARTS[name][0] if name in STARTS else 0.0 for name in design.names])
    known = {} if start is None else dict(zip(start.names, start.mean, strict=True))
    mean = np.array([known.get(name, value) for name, value in zip(design.names, centre, strict=True)])
    for _ in range(ROUNDS if start is None else ROUNDS_AGAIN):
        width = np.array([_width(name, group, spread, node) for name, group in zip(design.names, groups, strict=True)])
        for _ in range(STEPS):
            mean, covariance, off, weight, used = _step(design, mean, centre, width, left)
        _widths(design, groups, mean, covariance, off, weight, spread, node, left)
    common = [k for k, group in enumerate(groups) if not group.startswith("system")]
    # outliers had little weight in the fit; they are as likely in predictions as among the results
    seen = {}
    for name in set(design.metric):
        mine = np.array(design.metric) == name
        free = max(1.0, float(np.sum(1 - np.clip(used[mine], 0.0, 1.0))))
        seen[name] = float(np.sqrt(np.sum(np.clip(off[mine], -OUTLIER, OUTLIER) ** 2) / free))
    priors = Priors(
        tuple(design.names[k] for k in common),
        mean[common],
        covariance[np.ix_(common, common)],
        spread,
        node,
        {name: max(value, left[name]) for name, value in seen.items()},
    )
    return Fit(priors, off)


def _width(name: str, group: str, spread: dict[str, float], node: dict[str, float]) -> float:
    if name in STARTS:
        return STARTS[name][1]
    return node[group.removeprefix("system.")] if group.startswith("system.") else spread[group]


def _design(evidence: Sequence[Evidence]) -> _Design:
    names: dict[str, int] = {}
    parts = [(r, part) for r, row in enumerate(evidence) for part in row.parts if part.times > 0]
    effects = [[names.setdefault(name, len(names)) for name in part.effects] for _, part in parts]
    metrics = tuple(METRICS[row.result.metric] for row in evidence)
    systems = [
        names.setdefault(f"system.{_deviates(row, metric)}:{row.result.system}", len(names))
        for metric, row in zip(metrics, evidence, strict=True)
    ]
    most = max(len(at) for at in effects)
    return _Design(
        names=tuple(names),
        times=np.array([part.times for _, part in parts]),
        effects=np.array([at + [len(names)] * (most - len(at)) for at in effects]),
        row=np.array([r for r, _ in parts]),
        paths_ms=np.array([row.fixed_ms for row in evidence]),
        log_measured=np.log([row.result.measured_ms for row in evidence]),
        metric=metrics,
        system=np.array(systems),
    )


def _deviates(row: Evidence, metric: str) -> str:
    if row.result.layer_ms:
        return "timed"
    if len(row.result.nodes) > 1:
        return "several"
    return "processor" if metric == "decode" and row.result.devices[0].device_class in PROCESSORS else metric


def _step(
    design: _Design, mean: Floats, centre: Floats, width: Floats, left: dict[str, float]
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Take one Gauss-Newton step towards the mode, with the curvature at its start. The last result: how closely the
    effects follow each published result (0…1), so that residuals of fitted and of new results can be distinguished."""
    parts = design.times * np.exp(np.append(mean, 0.0)[design.effects].sum(axis=1))
    total = np.bincount(design.row, parts, minlength=len(design.paths_ms)) + design.paths_ms
    slopes = np.zeros((len(total), len(mean) + 1))
    share = (parts / total[design.row])[:, None]
    np.add.at(slopes, (design.row[:, None], design.effects), np.broadcast_to(share, design.effects.shape))
    slopes = slopes[:, :-1]
    slopes[np.arange(len(total)), design.system] = 1.0
    off = design.log_measured - np.log(total) - mean[design.system]
    noise = np.array([left[metric] for metric in design.metric])
    weight = (DEGREES + 1) / (DEGREES + (off / noise) ** 2)
    precision = weight / noise**2
    curvature = slopes.T @ (slopes * precision[:, None]) + np.diag(1 / width**2)
    covariance = np.linalg.inv(curvature)
    step = covariance @ (slopes.T @ (precision * off) + (centre - mean) / width**2)
    followed = precision * ((slopes @ covariance) * slopes).sum(axis=1)
    return mean + np.clip(step, -1.0, 1.0), covariance, off, weight, followed


def _widths(
    design: _Design,
    groups: np.ndarray[tuple[int], np.dtype[np.str_]],
    mean: Floats,
    covariance: Floats,
    off: Floats,
    weight: Floats,
    spread: dict[str, float],
    node: dict[str, float],
    left: dict[str, float],
) -> None:
    """Take the M step: widths of every kind of effect, of systems, and of the residuals."""
    second = mean**2 + np.diag(covariance)
    for group in spread:
        levels = second[groups == group]
        spread[group] = float(np.sqrt((levels.sum() + GUESS_COUNTS * FIRST[group] ** 2) / (len(levels) + GUESS_COUNTS)))
    metric = np.array(design.metric)
    for name in node:
        levels = second[groups == f"system.{name}"]
        node[name] = float(np.sqrt((levels.sum() + GUESS_COUNTS * NODE[name] ** 2) / (len(levels) + GUESS_COUNTS)))
    for name in set(design.metric):
        mine = metric == name
        left[name] = float(
            np.sqrt(((weight * off**2)[mine].sum() + GUESS_COUNTS * LEFT[name] ** 2) / (mine.sum() + GUESS_COUNTS))
        )


def as_data(priors: Priors, results: int, table: str) -> Fitted:
    """Round to what matters, so that a fit on another machine writes the same file."""
    root = np.linalg.cholesky(priors.covariance)
    return Fitted(
        names=priors.names,
        mean=tuple(round(float(value), 4) for value in priors.mean),
        root=tuple(tuple(round(float(v), 4) for v in row[: k + 1]) for k, row in enumerate(root)),
        spread={name: round(value, 4) for name, value in sorted(priors.spread.items())},
        node={name: round(value, 4) for name, value in sorted(priors.node.items())},
        left={name: round(value, 4) for name, value in sorted(priors.left.items())},
        results=results,
        table=table,
    )


def without(evidence: Sequence[Evidence], systems: set[str]) -> list[Evidence]:
    return [row for row in evidence if row.result.system not in systems]
