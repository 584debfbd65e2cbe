"""Describe the running placement: as reported, its predicted speed, and the headline of every screen."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import parse_placement
from swarm_predict.types import BadPlacement, Placement, PredictError, Prediction, Quantiles, Workload
from swarm_protocol.messages.running import Running
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.text import quantities

SAME: float = 0.01  # of the tokens a second: closer to the best counts as the best


@dataclass(frozen=True, slots=True)
class RunningNow:
    """The placement that a swarm runs, as far as known for this question."""

    reported: Running
    placement: Placement  # empty: it is not a placement of this model
    prediction: Prediction | None
    why_not: str = ""  # without a speed: the reason
    down: tuple[str, ...] = ()  # nodes of it that do not answer

    @property
    def tokens_per_s(self) -> Quantiles | None:
        """Return tokens a second; None if it does not run, or the speed is not known."""
        return self.prediction.tokens_per_s if self.prediction is not None and not self.down else None


def running_now(swarm: Swarm, model: ModelShape, workload: Workload, gone: Collection[str]) -> RunningNow | None:
    """Return it; None if nothing was reported, or nothing runs. `gone`: nodes that do not answer."""
    reported = swarm.running
    if reported is None or not reported.placement:
        return None
    try:
        placement = parse_placement(reported.placement, model, swarm, workload.engine)
    except BadPlacement as error:
        return RunningNow(reported, (), None, f"the running placement does not match {model.name}: {error}")
    down = tuple(stage.node for stage in placement if stage.node in gone)
    standing = f"{' and '.join(down)} {'do' if len(down) > 1 else 'does'} not answer, so nothing runs" if down else ""
    try:
        return RunningNow(reported, placement, predict(swarm, model, placement, workload), standing, down)
    except PredictError as error:
        return RunningNow(reported, placement, None, standing or f"no speed of the running placement: {error}", down)


def with_running(swarm: Swarm, reported: Running | None) -> Swarm:
    """Return the swarm with the running placement that a person stated, which replaces the stored one."""
    return swarm if reported is None else dataclasses.replace(swarm, running=reported)


def headline(running: RunningNow | None, best: Prediction | None, *, short: bool = False) -> str:
    """Return `you run 9.3 tok/s (8.8 … 9.9), best 21.4 (+130 %)`. `short`: without the spread."""
    top = best.tokens_per_s if best is not None else None
    if running is None or not running.placement:
        if top is None:
            return "no plan"
        return f"best {quantities.rate(top.p50) if short else quantities.spread(top.p5, top.p50, top.p95, 'tok/s')}"
    now = running.tokens_per_s
    if now is None:
        reason = f"{', '.join(running.down)} lost" if running.down else "speed not known"
        what = f"you run nothing ({reason})" if running.down else f"you run a placement ({reason})"
        return what if top is None else f"{what}, best {quantities.rate(top.p50)}"
    text = f"you run {quantities.rate(now.p50) if short else quantities.spread(now.p5, now.p50, now.p95, 'tok/s')}"
    if top is None:
        return text
    more = top.p50 / now.p50 - 1 if now.p50 > 0 else float("inf")
    if more < SAME:
        return f"{text}, the best"
    return f"{text}, best {quantities.figure(top.p50)} (+{100 * more:.0f} %)"
