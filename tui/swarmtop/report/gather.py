"""Gather the contents of a report from one source: the state, the ranking, the plan, its alternatives, and recent
history. No drawing, no HTML."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.solve import plan as search_plan
from swarm_predict.types import PredictError, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.analysis import Analysis, alive, analyse, only
from swarmtop.analysis.open_question import CompleteQuestion
from swarmtop.analysis.plans.assessment import Judgement, judge
from swarmtop.sources.source import History, Recording, Source, first_frame

LIVE_SPAN_S: Final = 3600  # of a running swarm
MAX_POINTS: Final = 120
MIN_POINTS: Final = 6
SLOT_S: Final = 20  # two windows of a probe: narrower slots are gaps between windows
SERIES_NODES: Final = 6  # lines that can be distinguished
METRICS: Final[tuple[tuple[str, str, str], ...]] = (
    ("rtt_p50", "round trip, median over a node's links", "ms"),
    ("jitter", "jitter (p95 − min), median over a node's links", "ms"),
    ("up", "upload", "Mbit/s"),
    ("cpu", "processor", "%"),
)


@dataclass(frozen=True, slots=True)
class Series:
    title: str
    unit: str
    lines: tuple[tuple[str, History], ...]  # (node, its history)


@dataclass(frozen=True, slots=True)
class Without:
    """The best plan if one of its nodes were gone."""

    node: str
    tokens_per_s: float | None  # None: nothing fits any more
    placement: str


@dataclass(frozen=True, slots=True)
class Report:
    swarm: Swarm
    model: ModelShape
    workload: Workload
    found: Analysis
    judged: Judgement | None
    without: tuple[Without, ...]
    series: tuple[Series, ...]
    since_ns: int  # of the series; 0: there is no past
    until_ns: int


async def gather(source: Source, question: Callable[[Swarm], tuple[Swarm, CompleteQuestion]]) -> Report:
    """Gather. `question`: about the swarm that is found. Raises SourceError, and PredictError for a question that is
    wrong whatever the swarm."""
    swarm, asked = question(await first_frame(source))
    model, workload = asked.model, asked.workload
    found = await asyncio.to_thread(analyse, swarm, model, workload)
    judged = await asyncio.to_thread(_judged, swarm, model, workload, found)
    without = await asyncio.to_thread(_without, swarm, model, workload, found)
    since_ns, until_ns = await _span(source, swarm)
    series = await _series(source, swarm, found, since_ns, until_ns) if until_ns > since_ns else ()
    return Report(swarm, model, workload, found, judged, without, series, since_ns if series else 0, until_ns)


def _judged(swarm: Swarm, model: ModelShape, workload: Workload, found: Analysis) -> Judgement | None:
    if found.plan is None:
        return None
    return judge(alive(swarm, workload.client), model, workload, found.plan.prediction)


def _without(swarm: Swarm, model: ModelShape, workload: Workload, found: Analysis) -> tuple[Without, ...]:
    if found.plan is None:
        return ()
    living = alive(swarm, workload.client)
    answers = []
    for stage in found.plan.prediction.placement:
        rest = [i for i, name in enumerate(living.names) if name != stage.node]
        try:
            plan = search_plan(only(living, np.array(rest, np.intp)), model, workload).prediction
        except PredictError:
            answers.append(Without(stage.node, None, ""))
            continue
        placed = ", ".join(f"{s.node} {s.first}-{s.last}" for s in plan.placement)
        answers.append(Without(stage.node, plan.tokens_per_s.p50, placed))
    return tuple(answers)


async def _span(source: Source, swarm: Swarm) -> tuple[int, int]:
    if source.mode == "file":
        return 0, 0
    if source.mode == "live":
        return swarm.at_ns - LIVE_SPAN_S * NS_PER_S, swarm.at_ns
    return (await cast("Recording", source).span()).first_ns, swarm.at_ns


async def _series(source: Source, swarm: Swarm, found: Analysis, since_ns: int, until_ns: int) -> tuple[Series, ...]:
    """Return series of the nodes that cost most: trouble shows there."""
    shown = [swarm.facts[row.index] for row in found.rows[:SERIES_NODES]]
    points = max(MIN_POINTS, min(MAX_POINTS, (until_ns - since_ns) // (SLOT_S * NS_PER_S)))
    series = []
    for metric, title, unit in METRICS:
        lines = []
        for facts in shown:
            history = await source.history(metric, facts.node_id, None, since_ns, until_ns, points)
            if any(value is not None for value in history.values):
                lines.append((facts.name, history))
        if lines:
            series.append(Series(title, unit, tuple(lines)))
    return tuple(series)
