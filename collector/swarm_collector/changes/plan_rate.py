"""What a change does to the swarm: tokens a second of the placement that was best while nothing was happening.

The placement is searched now and then, when no change is open, and kept while one is: "plan 20.6 → 9.1" is then what
those who run it lose, not what another placement would give. Searching and predicting take time: call from a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from swarm_collector.changes.detector import USUAL_AFTER_NS
from swarm_collector.changes.figures import PLAN, number
from swarm_collector.changes.found import Kind
from swarm_collector.changes.level import Level
from swarm_predict.cost.build import build_tables
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.weight_formats import WEIGHT_FORMATS
from swarm_predict.search.solve import solve
from swarm_predict.types import Placement, PredictError, Stage, Workload
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.snapshot.estimates import completed
from swarm_protocol.snapshot.link_table import DENSE_NODES
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S

SEARCH_S: Final = 0.5
EVERY_NS: Final = 60 * NS_PER_S
FIRST_EVERY_NS: Final = 10 * NS_PER_S  # while there is no placement yet
REST: Final = 50  # times as long as a search took there is none: 2 % of a core at most


@dataclass(frozen=True, slots=True)
class _Kept:
    focus: Focus
    placement: Placement
    tokens_per_s: float


class PlanRate:
    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._kept: _Kept | None = None
        self._looked_ns = 0
        self._rest_ns = FIRST_EVERY_NS
        self._level = Level(PLAN)
        self._members: tuple[str, ...] = ()
        self._opened_ns = 0  # since when the best rate is told to be worse; 0: it is not

    def is_due(self, now_ns: int) -> bool:
        return now_ns >= self._looked_ns + self._rest_ns

    def look(self, swarm: Swarm, focus: Focus, now_ns: int) -> tuple[Kind, str] | None:
        """Search again. A change of the best rate that no single figure explains, or its end; usually None."""
        self._looked_ns = now_ns
        began_s = self._clock()
        try:
            self._kept = _best(swarm, focus)
        except PredictError:
            self._kept = None  # something is not measured yet, or nothing fits: then there is no effect to tell
        took_ns = round((self._clock() - began_s) * NS_PER_S)
        self._rest_ns = max(EVERY_NS if self._kept else FIRST_EVERY_NS, REST * took_ns)
        return self._compare(swarm, focus, now_ns)

    def _compare(self, swarm: Swarm, focus: Focus, now_ns: int) -> tuple[Kind, str] | None:
        members = (
            focus.model,
            focus.dtype,
            *(facts.node_id for facts in swarm.facts),
            *map(str, swarm.nodes["state"].tolist()),
        )
        level = self._level
        if self._kept is None or members != self._members:  # who came and went is told of them
            self._members = members
            level.restart()
            return self._settled("is not compared with before: members came or went") if self._opened_ns else None
        level.add(self._kept.tokens_per_s, now_ns)
        if self._opened_ns and now_ns >= self._opened_ns + USUAL_AFTER_NS:
            level.settle()
            return self._settled("is usual by now")
        if level.evidence < PLAN.alarm_decades or now_ns - level.since_ns < PLAN.least_span_s * NS_PER_S:
            return None
        text, returning = f"best plan {number(level.usual)} → {number(level.now)} tok/s", level.returning
        worse = level.worse > 0
        level.confirm()
        if returning and self._opened_ns:
            self._opened_ns = 0
            return "recovered", text
        if worse and not self._opened_ns:
            self._opened_ns = now_ns
            return "degraded", f"{text}; no single figure has changed as much"
        if not self._opened_ns:
            level.settle()  # better than before: that is usual now
        return None

    def _settled(self, why: str) -> tuple[Kind, str]:
        self._opened_ns = 0
        if self._kept is None:
            return "settled", "best plan: none can be made now"
        return "settled", f"best plan {number(self._kept.tokens_per_s)} tok/s {why}"

    def effect(self, swarm: Swarm, node: str | None) -> str:
        """`plan 20.6 → 9.1 tok/s`; empty where no plan is known. `node`: the id of the node that changed."""
        kept = self._kept
        if kept is None:
            return ""
        names = {facts.node_id: facts.name for facts in swarm.facts}
        if node is not None and names.get(node) not in {stage.node for stage in kept.placement}:
            return "not in the best plan"
        try:
            now = _rate(swarm, kept.focus, kept.placement)
        except PredictError:
            return ""  # a figure of it is missing at this moment
        self._kept = _Kept(kept.focus, kept.placement, now)
        return f"plan {number(kept.tokens_per_s)} → {number(now)} tok/s"


def _workload(focus: Focus) -> Workload:
    return Workload(weights=focus.dtype if focus.dtype in WEIGHT_FORMATS else "fp16")


def _best(swarm: Swarm, focus: Focus) -> _Kept:
    """Raises PredictError."""
    if not 1 < len(swarm) <= DENSE_NODES:
        raise PredictError("nothing to plan")
    swarm = completed(swarm)
    found = solve(build_tables(swarm, model_named(focus.model), _workload(focus)), time_limit_s=SEARCH_S, prove=False)
    stages, first = [], 0
    for row, layers in zip(found.order, found.layers, strict=True):
        stages.append(Stage(swarm.facts[row].name, first, first + layers - 1))
        first += layers
    return _Kept(focus, tuple(stages), _rate(swarm, focus, tuple(stages)))


def _rate(swarm: Swarm, focus: Focus, placement: Placement) -> float:
    """Raises PredictError."""
    prediction = predict(completed(swarm), model_named(focus.model), placement, _workload(focus))
    return float(prediction.tokens_per_s.p50)
