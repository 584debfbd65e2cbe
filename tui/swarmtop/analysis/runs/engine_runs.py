"""Summarise what watched engines took: this swarm's own runs by placement, other services as baselines. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm_predict.types import Placement
from swarm_protocol.messages.samples import RunSample


@dataclass(frozen=True, slots=True)
class Watched:
    """Medians over `n` requests of one engine, or of one placement."""

    label: str
    n: int
    ttft_ms: float
    tokens_per_s: float
    at_ns: int  # of the newest


def baselines(runs: Iterable[RunSample]) -> tuple[Watched, ...]:
    """Return services to compare with, one row for each label, in the order of their first run."""
    by_label: dict[str, list[RunSample]] = {}
    for run in runs:
        if run.baseline:
            by_label.setdefault(run.label or f"{run.endpoint}, {run.model}", []).append(run)
    found = (summed(label, its) for label, its in by_label.items())
    return tuple(row for row in found if row is not None)


def at_placement(runs: Iterable[RunSample], placement: Placement) -> Watched | None:
    """Return what was measured where `placement_lines` ran; None: that was not watched."""
    text = placement_text(placement)
    return summed("measured", [run for run in runs if not run.baseline and run.placement == text])


def placement_text(placement: Placement) -> str:
    """Return `a:0-39,b:40-79`, as people write it and runs store it."""
    return ",".join(f"{stage.node}:{stage.first}-{stage.last}" for stage in placement)


def summed(label: str, runs: Sequence[RunSample]) -> Watched | None:
    """Return the summary; None if no run has a speed: answers that came in one piece have none."""
    speeds = [run.tokens_per_s for run in runs if run.tokens_per_s]
    if not speeds:
        return None
    first_ms = statistics.median(run.ttft_ms for run in runs)
    return Watched(label, len(speeds), first_ms, statistics.median(speeds), max(run.at_ns for run in runs))
