"""Compare a run with its expectation, term by term, ordered by how much each explains of the difference.

A term explains two things. First, what it takes here beyond what such machines usually take (for a path: beyond its
idle time and its bytes, on a path as long and as fast as others to the same nodes). Second, its part of what the run
took beyond the expectation: under the draws of the prediction, the expected change of the term given the run's time,
and no more than its draws allow. What no term's draws allow is reported as unexplained, not distributed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from swarm_predict.cost.build import build_costs
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.network.delivery_times import Links, links
from swarm_predict.cost.speculative import step_yield
from swarm_predict.explain.evidence import evidence_of
from swarm_predict.explain.measure_next import ToMeasure, to_measure
from swarm_predict.explain.published import Nearest, nearest
from swarm_predict.explain.terms import Term, TermKind, terms_of
from swarm_predict.explain.usual import Range, as_usual, range_of, usual_layers, usual_path, usual_workload
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.priors.factors import PLAIN
from swarm_predict.types import Placement, PredictError, Prediction, Quantiles, Workload
from swarm_protocol.snapshot.swarm import Floats, Swarm

Verdict = Literal["slower", "as expected", "faster", "impossible", "not measured"]

POSSIBLE: Final = 0.9  # of the least time by bandwidth and idle paths: a faster run was a different one
ENDS: Final = (0.01, 0.99)  # of a term's draws: its possible range


@dataclass(frozen=True, slots=True)
class Explained:
    """One term. `usual` is for the whole term; None: nothing is known about its kind."""

    kind: TermKind
    node: str
    to: str
    count: int
    here_ms: float
    usual: Range | None
    beside_usual_ms: float  # here less usual; 0 if that is not known
    beside_expected_ms: float  # its part of what the run took beyond what was expected
    measured: bool
    evidence: tuple[str, ...]

    @property
    def explains_ms(self) -> float:
        return self.beside_usual_ms + self.beside_expected_ms


@dataclass(frozen=True, slots=True)
class Explanation:
    expected: Prediction
    usual_ms: Range | None  # a token on machines like these over idle paths like these; None: no kind is known
    got_ms: float | None  # None: nothing was measured
    verdict: Verdict
    why_impossible: str  # empty: it agrees
    terms: tuple[Explained, ...]  # largest explanation first
    unexplained_ms: float  # of the run, beyond what the terms' draws allow
    nearest: tuple[Nearest, ...]
    measure_next: tuple[ToMeasure, ...]

    @property
    def usual_tokens_per_s(self) -> Quantiles | None:
        if self.usual_ms is None:
            return None
        p5, p50, p95 = (1e3 / ms for ms in (self.usual_ms.p95, self.usual_ms.p50, self.usual_ms.p5))
        return Quantiles(p50, p5, p50, p95)


def explain(
    swarm: Swarm,
    model: ModelShape,
    placement: Placement,
    workload: Workload,
    got_ms: float | None = None,
    throttled: Mapping[str, float] | None = None,
) -> Explanation:
    """Explain a run. `got_ms`: a token of the run, mean of one stream; None: not measured. `throttled`: share of the
    time by node, if it was recorded.

    Raises NotMeasured, BadPlacement or PredictError, as `predict` does; PredictError for an invalid time.
    """
    if got_ms is not None and not 0 < got_ms < math.inf:
        raise PredictError(f"{got_ms} ms a token is not a valid time of a run")
    if workload.windows > 1:
        raise PredictError("with several windows in flight the terms of a token overlap; explain a run of one window")
    expected = predict(swarm, model, placement, workload)
    here = terms_of(swarm, model, placement, workload)
    usual = _usual_terms(swarm, model, placement, workload)
    least_ms = _least_ms(swarm, model, placement, workload)
    verdict = _verdict(expected, got_ms, least_ms)
    rest_ms = None if got_ms is None or verdict == "impossible" else got_ms - sum(term.typical_ms for term in here)
    shifts, unexplained_ms = _shifts([_about(term, usual, workload) for term in here], rest_ms)
    layers = _usual_layers(swarm, model, placement, workload)
    judge = evidence_of(swarm, model, workload, throttled)
    found = []
    for term, shift_ms in zip(here, shifts, strict=True):
        each = layers.get(term.node) if term.kind == "layers" else None
        whole = each.times(term.count / step_yield(workload)) if each is not None else _usual_of(term, usual)
        each = None if whole is None else whole.times(1 / term.count)
        found.append(
            Explained(
                kind=term.kind,
                node=term.node,
                to=term.to,
                count=term.count,
                here_ms=term.typical_ms,
                usual=whole,
                beside_usual_ms=0.0 if whole is None else term.typical_ms - whole.p50,
                beside_expected_ms=shift_ms,
                measured=term.measured,
                evidence=judge.of(term, None if term.kind == "path" else each),
            )
        )
    way = -1 if rest_ms is not None and rest_ms < 0 and verdict == "faster" else 1
    return Explanation(
        expected=expected,
        usual_ms=_sum_of(here, usual),
        got_ms=got_ms,
        verdict=verdict,
        why_impossible=_impossible(least_ms) if verdict == "impossible" else "",
        terms=tuple(sorted(found, key=lambda term: (-way * term.explains_ms, -term.here_ms, term.node, term.to))),
        unexplained_ms=unexplained_ms,
        nearest=nearest(swarm, model, workload, expected),
        measure_next=to_measure(here),
    )


# ---------------------------------------------------------------- usual


def _usual_terms(
    swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload
) -> dict[tuple[str, str, str], Floats]:
    """Return draws of each term on machines like these, by key; paths as they are when idle. Unknown terms are left
    out."""
    bare, strangers = as_usual(swarm, usual_workload(workload))
    unknown = strangers & {stage.node for stage in placement}
    paths = links(swarm, range(len(swarm)))
    found: dict[tuple[str, str, str], Floats] = {}
    for term in terms_of(bare, model, placement, usual_workload(workload)):
        shared = engine_facts(workload).pattern == "all-reduce"
        if term.kind in ("layers", "head") and (term.node in strangers or (shared and unknown)):
            continue
        key = (term.kind, "", "") if shared and term.kind in ("layers", "head") else term.key
        found[key] = term.ms if term.quiet_ms is None else np.full(len(term.ms), _usual_path_ms(swarm, term, paths))
    return found


def _usual_layers(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> dict[str, Range]:
    """Return the range of one layer of each stage's machine, as the Node screen shows it; empty if nodes share every
    layer, or if weights are read again in each step."""
    if engine_facts(workload).pattern == "all-reduce" or workload.offload_gbps:
        return {}
    names = [stage.node for stage in placement]
    found = usual_layers(swarm, [swarm.index(name) for name in names], model, workload)
    return {name: each for name, each in zip(names, found, strict=True) if each is not None}


def _usual_path_ms(swarm: Swarm, term: Term, paths: Links) -> float:
    """Return the time of a path as long and as fast as the others to the same node, if this one is worse."""
    quiet_ms = term.quiet_ms or 0.0
    if term.node not in swarm.names or not term.size_bytes:
        return quiet_ms
    src, dst = swarm.index(term.node), swarm.index(term.to)
    usual = usual_path(paths, swarm.names, src, dst)
    if usual.rtt_ms is not None and (longer := float(paths.rtt_min_ms[src, dst]) - usual.rtt_ms) > 0:
        quiet_ms -= term.count * longer / 2
    if usual.mbps is not None and (rate := float(paths.rate_mbps[src, dst])) < usual.mbps:
        quiet_ms -= term.upload_ms * (1 - rate / usual.mbps)
    return max(quiet_ms, 0.0)


def _draws_of(term: Term, usual: dict[tuple[str, str, str], Floats]) -> Floats | None:
    """Return draws of the same term of machines like these; a term that only a calibration has is usually absent."""
    if term.kind == "client":
        return np.zeros(len(term.ms))
    found = usual.get(term.key)
    return usual.get((term.kind, "", "")) if found is None else found


def _usual_of(term: Term, usual: dict[tuple[str, str, str], Floats]) -> Range | None:
    draws = _draws_of(term, usual)
    return None if draws is None else range_of(draws)


def _sum_of(here: Sequence[Term], usual: dict[tuple[str, str, str], Floats]) -> Range | None:
    """Return the sum of a token; None if no machine's kind is known. A term of an unknown kind counts as it is here."""
    if not any(_draws_of(term, usual) is not None for term in here if term.kind == "layers"):
        return None
    total: Floats = np.zeros(len(here[0].ms))
    for term in here:
        draws = _draws_of(term, usual)
        total = total + (np.full(len(total), term.typical_ms) if draws is None else draws)
    return range_of(total)


# ---------------------------------------------------------------- the run beside the expectation


def _about(term: Term, usual: dict[tuple[str, str, str], Floats], workload: Workload) -> Floats:
    """Return draws of a term relative to its expectation.

    A probe times layers and visits with its own software. What an engine usually adds to that may be added here too.
    """
    about = term.ms - term.typical_ms
    draws = _draws_of(term, usual)
    by_probe = term.measured and term.kind in ("layers", "head", "visits")
    if by_probe and draws is not None and workload.engine not in PLAIN:
        about = about + np.maximum(draws - term.typical_ms, 0.0)
    return np.asarray(about)


def _shifts(draws: Sequence[Floats], rest_ms: float | None) -> tuple[list[float], float]:
    """Return (how far each term is expected to be from its usual value given the run, what is left unexplained).

    This is the regression of each term on the sum of all, limited to the range of its own draws; what one term cannot
    take is passed on to the others.
    """
    if rest_ms is None or not draws:
        return [0.0] * len(draws), 0.0
    about = np.array(draws)
    total = about.sum(axis=0)
    weight = np.maximum(np.mean((about - about.mean(axis=1, keepdims=True)) * (total - total.mean()), axis=1), 0.0)
    low, high = np.quantile(about, ENDS, axis=1)
    limit = np.maximum(high, 0.0) if rest_ms > 0 else np.minimum(low, 0.0)
    found, left = np.zeros(len(draws)), rest_ms
    free = weight > 0
    for _ in draws:
        if not free.any() or abs(left) < 1e-12:
            break
        share = np.where(free, weight, 0.0) / weight[free].sum() * left
        taken = np.clip(found + share, np.minimum(limit, 0.0), np.maximum(limit, 0.0))
        left -= float((taken - found).sum())
        found = taken
        free &= np.abs(found) < np.abs(limit) - 1e-12
    return [float(ms) for ms in found], float(left)


def _verdict(expected: Prediction, got_ms: float | None, least_ms: float) -> Verdict:
    if got_ms is None:
        return "not measured"
    if got_ms < POSSIBLE * least_ms:
        return "impossible"
    if expected.tpot_ms.p5 <= got_ms <= expected.tpot_ms.p95:
        return "as expected"
    return "slower" if got_ms > expected.tpot_ms.p95 else "faster"


def _least_ms(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> float:
    """Return the least time of reading the layers over the memory's bandwidth and of idle paths; 0 if it is not
    known."""
    if engine_facts(workload).pattern == "all-reduce" or workload.batch > 1:
        return 0.0
    bare, _ = as_usual(swarm, workload)
    placement = tuple(sorted(placement, key=lambda stage: stage.first))
    rows = [swarm.index(stage.node) for stage in placement]
    found = 0.0
    best = [build_costs(each, model, workload, rows).layer.reading_ms for each in (swarm, bare)]
    for k, stage in enumerate(placement):
        reading = [float(ms[k]) for ms in best if math.isfinite(ms[k])]
        found += stage.layers * min(reading, default=0.0)
    paths = [term for term in terms_of(swarm, model, placement, workload) if term.kind == "path"]
    idle = sum(float(term.ms.min()) for term in paths)
    return found / step_yield(workload) + idle


def _impossible(least_ms: float) -> str:
    return (
        f"reading the layers over these memories and the idle paths alone take {least_ms:.3g} ms a token; another "
        "model, format, placement, number of streams or speculation ran, or a path or bandwidth is wrong"
    )
