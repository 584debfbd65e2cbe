"""Draw measured and predicted speed of a watched engine as two lines over time, on one scale."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from swarm_protocol.messages.samples import RunSample
from swarmtop.dashboard.lines.charts.series import spark
from swarmtop.dashboard.lines.styled import Block, line, pad
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

if TYPE_CHECKING:
    from swarm_predict.explain.disagreement import Watched

LABEL: Final = 11
FIGURE: Final = 7
MIN_CELLS: Final = 8


def over_time(view: View, runs: Sequence[RunSample], width: int) -> Block:
    """Return the lines. `runs`: of one placement, oldest first. Empty: fewer than two have a prediction."""
    own = [run for run in runs if run.tokens_per_s and run.predicted_p50]
    if len(own) < 2:
        return []
    room = max(MIN_CELLS, width - LABEL - FIGURE)
    measured, predicted = _cells(own, room, "tokens_per_s"), _cells(own, room, "predicted_p50")
    top = max(value for value in (*measured, *predicted) if value is not None)
    first, last = view.clock(own[0].at_ns), view.clock(own[-1].at_ns)
    block: Block = [
        line((pad(f" {name}", LABEL), "dim"), (spark(cells, room, top), role),
             (pad(quantities.figure(getattr(own[-1], field)), FIGURE, ">"), "strong"))
        for name, cells, role, field in (
            ("measured", measured, "spark", "tokens_per_s"), ("predicted", predicted, "chart", "predicted_p50"))
    ]  # fmt: skip
    block.append(line((" " * LABEL + first + " " * max(1, room - len(first) - len(last)) + last, "dim")))
    from swarm_predict.explain.disagreement import (
        disagreement,  # loaded with the planner: the first paint does not wait for it
    )

    found = disagreement([_watched(run) for run in own])
    if found is not None:
        word = "slower" if found.slower else "faster"
        block.append(line((f" {word} than predicted for longer than noise: swarmtop explain", "warn")))
    return block


def _cells(runs: Sequence[RunSample], room: int, field: str) -> list[float | None]:
    """Return the median of each part of the time; parts without a run repeat the one before."""
    first_ns, span_ns = runs[0].at_ns, max(1, runs[-1].at_ns - runs[0].at_ns)
    parts: list[list[float]] = [[] for _ in range(room)]
    for run in runs:
        parts[(run.at_ns - first_ns) * (room - 1) // span_ns].append(getattr(run, field))
    cells: list[float | None] = []
    for part in parts:
        cells.append(statistics.median(part) if part else cells[-1])
    return cells


def _watched(run: RunSample) -> Watched:
    """Return the run beside what was predicted for it then; the fastest twentieth of tokens is the short end of the
    time."""
    from swarm_predict.explain.disagreement import Watched

    p50 = run.predicted_p50 or 0.0
    return Watched(
        at_ns=run.at_ns,
        tpot_ms=run.tpot_ms or 0.0,
        p5_ms=1e3 / (run.predicted_p95 or p50),
        p50_ms=1e3 / p50,
        p95_ms=1e3 / (run.predicted_p5 or p50),
    )
