"""Advice and distributions of the fake planner: what screens with room show beside its plan."""

from __future__ import annotations

import dataclasses
from typing import Any

import dash_fakes as fakes

from swarm_predict.advice.nodes.node_loss import Loss
from swarm_predict.advice.plan_confidence import Choice
from swarm_predict.advice.sensitivity import Gain
from swarm_predict.advice.verdicts import Verdict
from swarm_predict.explain.measure_next import ToMeasure
from swarm_predict.search.pareto import Point
from swarm_predict.types import Placement, Plan, Prediction, Quantiles, Stage, Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.analysis.analysis import Analysis
from swarmtop.analysis.plans.assessment import Judgement
from swarmtop.analysis.runs.running import RunningNow
from swarmtop.dashboard.state.advice import Advice


def quantiles(middle: float, spread: float) -> tuple[float, ...]:
    """A hundred times per token: most near `middle`, a few much longer."""
    return tuple(middle + spread * ((i - 50) / 50) ** 3 + (spread if i > 97 else 0.0) for i in range(100))


def analyse(frame: Swarm, model: Any, workload: Workload, previous: Analysis | None) -> Analysis:
    """As `fakes.analyse`, with the distribution of the time per token, and a slower placement that runs."""
    found = fakes.analyse(frame, model, workload, previous)
    assert found.plan is not None
    best = dataclasses.replace(found.plan.prediction, tpot_quantiles_ms=quantiles(640.0, 90.0))
    slower = dataclasses.replace(
        best, placement=best.placement[::-1], tpot_ms=Quantiles(800.0, 700.0, 790.0, 950.0),
        tokens_per_s=Quantiles(1.26, 1.05, 1.27, 1.43), tpot_quantiles_ms=quantiles(790.0, 110.0),
    )  # fmt: skip
    running = RunningNow(Running("kiln", at_ns=frame.at_ns, source="a test"), slower.placement, slower)
    return dataclasses.replace(found, plan=dataclasses.replace(found.plan, prediction=best), running=running)


def advise(frame: Swarm, model: Any, workload: Workload, found: Prediction, plan: Plan) -> Advice:
    first, second, *_ = found.placement
    other: Placement = (Stage(first.node, 0, 39), Stage(second.node, 40, 79))
    gains = (
        Gain(first.node, "−20 ms round trip", 60.0, 1.69),
        Gain(second.node, "+10 Mbit/s up", 12.0, 1.57),
        Gain(None, "int8 weights", 200.0, 2.23),
        Gain(second.node, "+8 GiB", 0.0, 1.54),
    )
    judged = Judgement(
        verdicts=(Verdict("chat", "slow", "1.54 tokens/s (people read 5); first token after 2.08 s"),
                  Verdict("batch", "usable", "a million tokens take 7.5 days with one request in flight")),
        gains=tuple(sorted(gains, key=lambda gain: -gain.gain_ms)),
    )  # fmt: skip
    return Advice(
        prediction=found,
        judged=judged,
        sure=Choice(0.62, other, (ToMeasure(first.node, "", "layer times", 0.42),
                                  ToMeasure(first.node, second.node, "round trip and upload", 0.1))),
        losses=(Loss(first.node, "hut-tromso", 700.0, None, other, 690.0, 12),
                Loss(second.node, None, None, None, None, None, None)),
        front=(Point(other, 650.0, 320.0, 640.0, 3), Point(found.placement, 900.0, 210.0, 880.0, 5)),
    )  # fmt: skip
