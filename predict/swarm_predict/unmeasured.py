"""What of a prediction rests on measurements, and where the draws of the rest have their median."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from swarm_predict.cost.build import software_ms
from swarm_predict.cost.layer_times import LayerColumns
from swarm_predict.forecast.draws import Trip
from swarm_predict.priors.nodes import to_median
from swarm_protocol.snapshot.swarm import Floats

if TYPE_CHECKING:
    from swarm_predict.forecast.prediction import Run, Times


def measured_share(run: Run, step: Times) -> float:
    """Of the mean time of a step, the share that rests on measurements of these machines and paths."""
    known = run.costs.layer.measured
    rests = sum(float(stage.mean()) for k, stage in enumerate(step.stages) if known[k])
    home = _head_at(run)
    rests += float(step.head.mean()) if known[home] else 0.0
    rests += float(run.overhead_ms.sum())
    if run.at_ns is not None:
        rests += float(step.network.ms.mean(axis=0).sum())
    else:  # a round trip that a person wrote down is a figure of a plan; a hop is a measurement
        hop = [run.costs.links.hop_known[trip.src, trip.dst] for trip in run.trips]
        rests += float(step.network.ms.mean(axis=0)[hop].sum()) if hop else 0.0
    whole = float(step.total.mean())
    return min(1.0, rests / whole) if whole > 0 else 1.0


def recentred(
    run: Run,
    layer: LayerColumns,
    trips: Sequence[Trip],
    stages: list[Floats],
    head: Floats,
    software: Floats,
    fixed_ms: float,
) -> tuple[list[Floats], Floats, Floats]:
    """Stages, head and software with the median of what is assumed where the tables have it (`to_median`); what is
    measured stays. `fixed_ms`: of the software, what was measured or asked for."""
    work, known = run.workload, layer.measured
    home = _head_at(run)
    usual = software_ms(run.swarm, run.costs.rows, work, run.costs.layer, run.costs.links)
    fixed = fixed_ms + work.hop_overhead_ms * len(trips)
    assumed = software - fixed
    median = sum(float(usual[trip.src, trip.dst]) for trip in trips) - work.hop_overhead_ms * len(trips)
    for k, stage in enumerate(stages):
        if not known[k]:
            assumed = assumed + stage
            median += float(run.layers[k] * layer.ms[k]) * work.compute_scale
    if not known[home] and np.isfinite(layer.head_ms[home]):
        assumed = assumed + head
        median += float(layer.head_ms[home]) * work.compute_scale
    scale = to_median(assumed, median)
    return (
        [stage if known[k] else stage * scale for k, stage in enumerate(stages)],
        head if known[home] else head * scale,
        fixed + (software - fixed) * scale,
    )


def _head_at(run: Run) -> int:
    """Position of the machine that computes the LM head."""
    return len(run.placement) - 1 if run.engine.head == "last" else run.costs.tables.client or 0
