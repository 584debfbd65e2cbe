"""Predict one placement: swarm, model, placement and workload in, a Prediction out.

The engine's pattern decides who draws a decode step: `pipeline` (chains, stars and rings) or `tensor_parallel` (nodes
that share every layer). `assembly` turns either into a Prediction.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from swarm_predict.cost.build import build_costs, check
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.cards import with_one_size
from swarm_predict.forecast import unseen_losses
from swarm_predict.forecast.assembly import assemble
from swarm_predict.forecast.forward_pass.first_token import first_token_draws
from swarm_predict.forecast.forward_pass.pipeline import Pipeline
from swarm_predict.forecast.forward_pass.tensor_parallel import TensorParallel
from swarm_predict.forecast.forward_pass.window_route import with_windows
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import check_placement
from swarm_predict.types import Placement, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm


def predict(swarm: Swarm, model: ModelShape, placement: Placement, workload: Workload) -> Prediction:
    """Predict the time per token of one placement, as a distribution, where it goes and what limits it.

    Raises BadPlacement, NotMeasured or PredictError. A placement that does not fit is predicted with fits=False."""
    check(workload)
    engine = engine_facts(workload)
    check_placement(placement, model, swarm, engine.name)
    workload = with_one_size(swarm, model, placement, workload)
    if engine.pattern == "all-reduce":
        shared = TensorParallel(swarm, model, placement, workload)
        step = replace(shared.step(), later_ms=unseen_losses.of_groups(shared))
        return assemble(shared.question, step, shared.rng, shared.first_token)
    placement = tuple(sorted(placement, key=lambda stage: stage.first))
    costs = build_costs(swarm, model, workload, [swarm.index(stage.node) for stage in placement])
    pipeline = Pipeline(swarm, model, placement, workload, costs)
    times = pipeline.decode()
    step = replace(pipeline.step(times), later_ms=unseen_losses.of_stages(pipeline))
    if workload.windows > 1:
        step = with_windows(pipeline, times, step)
    return assemble(pipeline.question, step, pipeline.rng, partial(first_token_draws, pipeline))
