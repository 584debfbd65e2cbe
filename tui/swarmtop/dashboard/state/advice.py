"""Compute advice on a placement, separately from the plan: what would help, how certain the choice is, alternatives.

Pure, and made for a thread. Not imported before a screen has room for it, because it brings the planner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm_predict.advice.nodes.node_loss import Loss, losses
from swarm_predict.advice.plan_confidence import Choice, how_sure
from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import engine_facts
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.pareto import Point, front
from swarm_predict.types import Plan, PredictError, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.analysis.plans.assessment import Judgement, judge

FRONT_S: Final = 0.5  # for the search between one stream and the total


@dataclass(frozen=True, slots=True)
class Advice:
    """About one placement in one frame."""

    prediction: Prediction  # of the placement that this is about
    judged: Judgement | None  # None: it does not fit
    sure: Choice | None  # of the best plan; None: nothing of it is assumed
    losses: tuple[Loss, ...] = ()  # of its nodes
    front: tuple[Point, ...] = ()  # between one stream and the total


def advise(swarm: Swarm, model: ModelShape, workload: Workload, found: Prediction, plan: Plan) -> Advice | None:
    """`swarm`: who answers. None where the question has no answer."""
    try:
        judged = judge(swarm, model, workload, found)
        points: tuple[Point, ...] = ()
        lost: tuple[Loss, ...] = ()
        if engine_facts(workload).pattern != "all-reduce" and not workload.offload_gbps and found.fits:
            points = front(swarm, model, workload, time_limit_s=FRONT_S)
            lost = losses(build_tables(swarm, model, workload), found.placement, model, workload, {})
        sure = how_sure(swarm, model, plan.prediction.placement, workload)
    except PredictError:  # the headline says what is wrong with the question
        return None
    return Advice(found, judged, sure, lost, points)
