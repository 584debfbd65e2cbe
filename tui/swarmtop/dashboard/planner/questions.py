"""The questions that the dashboard asks the planner, each a function for a thread or the worker process.

Importing the planner takes longer than the first paint may wait, so each function imports what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm_predict.types import Plan, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.analysis.open_question import CompleteQuestion, OpenQuestion
    from swarmtop.dashboard.state.advice import Advice


def analyse(swarm: Swarm, model: ModelShape, workload: Workload, previous: Analysis | None) -> Analysis:
    """Return the plan of a frame and its ranking."""
    from swarmtop.analysis import analysis

    return analysis.analyse(swarm, model, workload, previous)


def choose(swarm: Swarm, open_question: OpenQuestion) -> CompleteQuestion:
    """Fill in a question."""
    from swarmtop.analysis import default_model

    return default_model.complete(swarm, open_question)


def advise(swarm: Swarm, model: ModelShape, workload: Workload, found: Prediction, plan: Plan) -> Advice | None:
    """Return advice about a placement."""
    from swarmtop.analysis.unmeasured import alive
    from swarmtop.dashboard.state import advice

    return advice.advise(alive(swarm, workload.client), model, workload, found, plan)


def best_order(swarm: Swarm, model: ModelShape, workload: Workload, time_limit_s: float) -> Plan:
    """Return the best plan of these nodes that is found in so many seconds."""
    from swarm_predict.search.solve import plan

    return plan(swarm, model, workload, time_limit_s=time_limit_s)
