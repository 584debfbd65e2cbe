"""Find the placement of least time between two steps: the highest throughput."""

from __future__ import annotations

import bisect
from dataclasses import replace

import numpy as np

from swarm_predict.search.limits import EXACT_NODES
from swarm_predict.search.objectives.found import Found, Question, best_of, tie
from swarm_predict.search.objectives.latency import least_latency
from swarm_predict.search.solvers.period import Case, cases, holds, limit, of_case, periods


def least_period(question: Question) -> Found | None:
    """Least time between two steps: of the pipeline's period and of latency over streams, the longer one.

    A longer period allows a quicker placement, so the two meet once: bisect over the periods for the meeting point.
    Placements of a shorter period are bounded by the latency there, those of a longer one by their period.
    """
    found = []
    for case in cases(question.tables):
        nodes = of_case(question.tables, case, question.usable, question.required)
        if nodes is not None:
            usable, required = nodes
            found.append(_throughput_of(replace(question, usable=usable, required=required), case))
    answers = [each for each in found if each is not None]
    if not answers:
        return None
    return best_of(answers)


def _throughput_of(question: Question, case: Case) -> Found | None:
    tables, usable, required = question.tables, question.usable, question.required
    usable = usable & np.isfinite(tables.layer_ms) & np.isfinite(tables.overhead_ms)
    if (required & ~usable).any():
        return None
    steps = periods(tables, usable)

    def allows(at: int) -> bool:
        return holds(limit(tables, float(steps[at]), question.max_stages, case), usable, required)

    first = bisect.bisect_left(range(len(steps)), True, key=allows)
    tried: dict[int, Found | None] = {}

    def meets(at: int) -> bool:
        found = tried[at] = _at_period(question, float(steps[at]), case, prove=False)
        return found is not None and found.value_ms / question.streams <= steps[at] + tie(float(steps[at]))

    if first == len(steps):
        return None
    meeting = first if meets(first) else bisect.bisect_left(range(len(steps)), True, lo=first + 1, key=meets)
    bounds = [float(steps[meeting])] if meeting < len(steps) else []
    if meeting > first:
        before = tried[meeting - 1] = _at_period(question, float(steps[meeting - 1]), case, prove=True)
        if before is not None:
            bounds.append(max(before.bound_ms / question.streams, float(steps[first])))
        elif int(usable.sum()) > EXACT_NODES:  # not found, but not proven absent either
            bounds.append(float(steps[first]))
    answers = [found for found in tried.values() if found is not None]
    if not answers:
        return None

    def value_of(found: Found) -> float:
        return max(tables.period([*found.order], [*found.layers]), found.value_ms / question.streams)

    best = min(answers, key=lambda found: (value_of(found), found.value_ms))
    value, bound = value_of(best), min(bounds)
    exact = value <= bound + tie(bound)
    return Found(best.order, best.layers, value, value if exact else bound, exact)


def _at_period(question: Question, period: float, case: Case, *, prove: bool) -> Found | None:
    limited = limit(question.tables, period, question.max_stages, case)
    small = int(question.usable.sum()) <= EXACT_NODES  # a proof costs no more than the descent there
    return least_latency(replace(question, tables=limited.tables, prove=prove or small), limited.stages_by_first)
