"""Prefer a neighbouring placement whose p95 is lower by more than its median is higher.

The search optimises medians. Near its answer are placements that are hardly slower at the median but avoid a link that
is late now and then; they are drawn as distributions, and the most robust of those that cost at most a little is named
with the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm_predict.advice.whatif import Edit, WhatIf
from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import engine_facts
from swarm_predict.forecast.candidates import distributions
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import BadPlacement, Placement, Quantiles, Workload
from swarm_protocol.snapshot.swarm import Swarm

MEDIAN_LOSS_MAX: Final = 0.03  # at the median: what is worth trading
P95_GAIN_MIN: Final = 0.03  # what is worth saying
_MAX_PLACEMENTS: Final = 48  # placements that are drawn; stars are drawn one by one
_MAX_STARS: Final = 8


@dataclass(frozen=True, slots=True)
class MoreRobust:
    placement: Placement
    what: str  # the edit that leads there
    tpot_ms: Quantiles
    best_ms: Quantiles  # of the plan, drawn the same way


def more_robust(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> MoreRobust | None:
    """Return the neighbour with the lowest p95, if it gains more there than it loses at the median."""
    whatif = WhatIf(build_tables(swarm, model, workload), placement)
    near = [edit for edit in neighbours(whatif) if edit.value_ms <= whatif.value_ms * (1 + MEDIAN_LOSS_MAX)]
    near.sort(key=lambda edit: (edit.value_ms, edit.what))
    most = _MAX_PLACEMENTS if engine_facts(workload).pattern == "chain" else _MAX_STARS
    near = near[:most]
    if not near:
        return None
    best, *others = distributions(swarm, model, [placement, *(edit.placement for edit in near)], workload)
    found: MoreRobust | None = None
    for edit, tpot in zip(near, others, strict=True):
        least = best.p95 * (1 - P95_GAIN_MIN) if found is None else found.tpot_ms.p95
        if tpot.p50 <= best.p50 * (1 + MEDIAN_LOSS_MAX) and tpot.p95 < least:
            found = MoreRobust(edit.placement, edit.what, tpot, best)
    return found


def neighbours(whatif: WhatIf) -> list[Edit]:
    """Every placement one edit away that fits: a stage replaced, dropped, added or swapped with another."""
    stages = range(len(whatif.placement))
    inside = {stage.node for stage in whatif.placement}
    edits = [edit for k in stages for edit in whatif.candidates(k)]
    edits += [whatif.swap(one, other) for one in stages for other in stages if one < other]
    edits += [whatif.add(name, k) for name in whatif.tables.names if name not in inside for k in range(len(stages) + 1)]
    for k in stages:
        try:
            edits.append(whatif.drop(k))
        except BadPlacement:  # the only stage
            continue
    return [edit for edit in edits if edit.fits]
