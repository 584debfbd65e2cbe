"""Compute how a change affects the swarm, in tokens a second of the running placement.

If nobody has reported what runs, the placement that was best before the change is used instead. It is searched for from
time to time while no change is open, and kept while one is: "plan 20.6 → 9.1" is then what those who run it lose, not
what another placement would give. Searching and predicting take time: call from a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from swarm_collector.changes.change_thresholds import PLAN, number
from swarm_collector.changes.detected_change import Kind
from swarm_collector.changes.detector import USUAL_AFTER_NS
from swarm_collector.changes.series.level import Level
from swarm_collector.focus_model import model_of
from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import ENGINES
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.weight_formats import WEIGHT_FORMATS
from swarm_predict.placement import parse_placement
from swarm_predict.search.solve import solve
from swarm_predict.types import BadPlacement, Placement, PredictError, Prediction, Stage, Workload
from swarm_protocol.messages.viewer_messages import Focus
from swarm_protocol.snapshot.links.fill_unmeasured import completed
from swarm_protocol.snapshot.links.link_table import DENSE_NODES
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S

SEARCH_S: Final = 0.5
EVERY_NS: Final = 60 * NS_PER_S
FIRST_EVERY_NS: Final = 10 * NS_PER_S  # while there is no placement yet
REST: Final = 50  # after a search, wait so many times its duration: 2 % of a core at most

_Report = tuple[str, str]  # placement and engine, of the newest report of what runs


@dataclass(frozen=True, slots=True)
class _Kept:
    focus: Focus
    workload: Workload
    placement: Placement
    tokens_per_s: float
    away_ms: Mapping[str, float]  # node → what a token spends elsewhere before it returns to it
    runs: bool = False  # it was reported as running; False: the best plan, because nobody has reported what runs


class PlanRate:
    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._best: _Kept | None = None
        self._kept: _Kept | None = None  # what runs, or the best placement instead
        self._reported: _Report | None = None  # at that time
        self._looked_ns = 0
        self._rest_ns = FIRST_EVERY_NS
        self._level = Level(PLAN)
        self._members: tuple[str, ...] = ()
        self._opened_ns = 0  # when a drop of the best rate was reported; 0: none is open

    def is_due(self, now_ns: int) -> bool:
        return now_ns >= self._looked_ns + self._rest_ns

    @property
    def away_ms(self) -> Mapping[str, float]:
        """Return how long a token of the placement in use is elsewhere before it returns to each of its nodes, by
        id."""
        return self._kept.away_ms if self._kept is not None else {}

    def look(self, swarm: Swarm, focus: Focus, now_ns: int) -> tuple[Kind, str] | None:
        """Search again. Return a change of the best rate that no single figure explains, or its end; usually None."""
        self._looked_ns = now_ns
        began_s = self._clock()
        try:
            self._best = _best(swarm, focus)
        except PredictError:
            self._best = None  # something is not measured yet, or nothing fits
        self._reported = _reported(swarm)
        self._kept = self._in_use(swarm, focus)
        took_ns = round((self._clock() - began_s) * NS_PER_S)
        soon = self._best is None and len(swarm) <= DENSE_NODES  # of more nodes no placement is searched for
        self._rest_ns = max(FIRST_EVERY_NS if soon else EVERY_NS, REST * took_ns)
        return self._compare(swarm, focus, now_ns)

    def _in_use(self, swarm: Swarm, focus: Focus) -> _Kept | None:
        """Return the placement that runs with its rate, or the best one if that is not known. None: no rate."""
        try:
            runs = None if self._reported is None else _running(swarm, focus, *self._reported)
        except PredictError:
            return None  # it runs, but what is measured does not suffice to predict its speed
        return self._best if runs is None else runs

    def _compare(self, swarm: Swarm, focus: Focus, now_ns: int) -> tuple[Kind, str] | None:
        members = (
            focus.model,
            focus.dtype,
            *(facts.node_id for facts in swarm.facts),
            *map(str, swarm.nodes["state"].tolist()),
        )
        level = self._level
        if self._best is None or members != self._members:  # joins and departures are reported elsewhere
            self._members = members
            level.restart()
            return self._settled("is not compared with before: members came or went") if self._opened_ns else None
        level.add(self._best.tokens_per_s, now_ns)
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
            level.settle()  # better than before counts as usual
        return None

    def _settled(self, why: str) -> tuple[Kind, str]:
        self._opened_ns = 0
        if self._best is None:
            return "settled", "best plan: none can be made now"
        return "settled", f"best plan {number(self._best.tokens_per_s)} tok/s {why}"

    def effect(self, swarm: Swarm, node: str | None) -> str:
        """Return text such as `plan 20.6 → 9.1 tok/s`; empty if the rate of what runs was not known before.
        `node`: the id of the node that changed."""
        kept = self._kept
        if _reported(swarm) != self._reported:
            self._looked_ns = 0  # another placement runs since: its rate before the change is not known
            return ""
        if kept is None:
            return ""
        names = {facts.node_id: facts.name for facts in swarm.facts}
        if node is not None and names.get(node) not in {stage.node for stage in kept.placement}:
            return f"not in the {'running placement' if kept.runs else 'best plan'}"
        try:
            now = _predicted(swarm, kept.focus, kept.placement, kept.workload).tokens_per_s.p50
        except PredictError:
            return ""  # one of its figures is missing at this moment
        self._kept = replace(kept, tokens_per_s=now)
        return f"plan {number(kept.tokens_per_s)} → {number(now)} tok/s"


def _workload(focus: Focus, engine: str = "") -> Workload:
    load = Workload(weights=focus.dtype if focus.dtype in WEIGHT_FORMATS else "fp16")
    return replace(load, engine=ENGINES[engine].name) if engine in ENGINES else load


def _reported(swarm: Swarm) -> _Report | None:
    running = swarm.running
    return (running.placement, running.engine) if running is not None and running.placement else None


def _running(swarm: Swarm, focus: Focus, text: str, engine: str) -> _Kept | None:
    """Return what was reported as running, with its rate; None if it is not a placement of this model. Raises
    PredictError."""
    load = _workload(focus, engine)
    try:
        placement = parse_placement(text, model_of(focus), swarm, load.engine)
    except BadPlacement:
        return None
    return _kept(swarm, focus, load, placement, runs=True)


def _best(swarm: Swarm, focus: Focus) -> _Kept:
    """Return the best placement. Raises PredictError."""
    if not 1 < len(swarm) <= DENSE_NODES:
        raise PredictError("nothing to plan")
    swarm, load = completed(swarm), _workload(focus)
    found = solve(build_tables(swarm, model_of(focus), load), time_limit_s=SEARCH_S, prove=False)
    stages, first = [], 0
    for row, layers in zip(found.order, found.layers, strict=True):
        stages.append(Stage(swarm.facts[row].name, first, first + layers - 1))
        first += layers
    return _kept(swarm, focus, load, tuple(stages))


def _kept(swarm: Swarm, focus: Focus, load: Workload, placement: Placement, *, runs: bool = False) -> _Kept:
    """Return the placement with its rate. Raises PredictError."""
    prediction = _predicted(swarm, focus, placement, load)
    node_ids = {facts.name: facts.node_id for facts in swarm.facts}
    away_ms = {node_ids[stage.node]: prediction.tpot_ms.p50 - stage.compute_ms for stage in prediction.stages}
    return _Kept(focus, load, placement, prediction.tokens_per_s.p50, away_ms, runs)


def _predicted(swarm: Swarm, focus: Focus, placement: Placement, load: Workload) -> Prediction:
    """Raises PredictError."""
    return predict(completed(swarm), model_of(focus), placement, load)
