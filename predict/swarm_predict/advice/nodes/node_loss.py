"""Compute the effect of losing each node of a placement, and the stand-by that could replace it.

A stand-by takes exactly the layers of the lost stage while the others keep theirs, so only its weights are loaded;
re-planning may move layers everywhere. Where neither is possible the model no longer fits the swarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.cost.tables import CostTables
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.solve import placement_of, solve
from swarm_predict.types import DoesNotFit, NotMeasured, Placement, Stage, Workload
from swarm_protocol.units import BITS_PER_BYTE

_REPLAN_S: Final = 0.5  # for each lost node; a warm descent is done long before


@dataclass(frozen=True, slots=True)
class Loss:
    """The effect of one loss. None if there is no such remedy."""

    node: str
    stand_by: str | None
    stand_by_ms: float | None  # a token with the stand-by in its place
    load_s: float | None  # until the stand-by has the weights over its downlink; None: its rate is not known
    replanned: Placement | None
    replanned_ms: float | None  # a token after re-planning without the node
    moved_layers: int | None  # that other nodes must load for it


def losses(
    tables: CostTables, placement: Placement, model: ModelShape, workload: Workload, down_mbps: dict[str, float]
) -> tuple[Loss, ...]:
    """Return one for each stage, in order."""
    return tuple(_loss(tables, placement, k, model, workload, down_mbps) for k in range(len(placement)))


def _loss(
    tables: CostTables, placement: Placement, k: int, model: ModelShape, workload: Workload, down: dict[str, float]
) -> Loss:
    rows = {name: row for row, name in enumerate(tables.names)}
    order = [rows[stage.node] for stage in placement]
    layers = [stage.layers for stage in placement]
    gone = placement[k]
    stand_by, best = None, float("inf")
    for row in range(len(tables.names)):
        if row not in order:
            tried = [*order[:k], row, *order[k + 1 :]]
            fits = all(n <= cap for n, cap in zip(layers, tables.capacities(tried), strict=True))
            price = tables.price(tried, layers) if fits else float("inf")
            if price < best:
                stand_by, best = row, price
    load_s = None
    if stand_by is not None:
        rate = down.get(tables.names[stand_by], float("nan"))
        if np.isfinite(rate):
            size = model.stage_bytes(gone.first, gone.last, workload.weights)
            load_s = size * BITS_PER_BYTE / (rate * 1e6)
    replanned, value, moved = _replanned(tables, placement, order[k], order)
    return Loss(
        node=gone.node,
        stand_by=None if stand_by is None else tables.names[stand_by],
        stand_by_ms=None if stand_by is None else best,
        load_s=load_s,
        replanned=replanned,
        replanned_ms=value,
        moved_layers=moved,
    )


def _replanned(
    tables: CostTables, placement: Placement, lost: int, order: list[int]
) -> tuple[Placement | None, float | None, int | None]:
    warm = tuple(row for row in order if row != lost)
    try:
        found = solve(tables, forbid=[lost], warm=warm, prove=False, time_limit_s=_REPLAN_S)
    except (DoesNotFit, NotMeasured):
        return None, None, None
    again = placement_of(tables, found)
    return again, found.value_ms, moved_layers(placement, again)


def moved_layers(before: Placement, after: Placement) -> int:
    """Return the layers that a node holds after and did not hold before."""
    held = {stage.node: stage for stage in before}
    return sum(stage.layers - _shared(held.get(stage.node), stage) for stage in after)


def _shared(one: Stage | None, other: Stage) -> int:
    return 0 if one is None else max(0, min(one.last, other.last) - max(one.first, other.first) + 1)
