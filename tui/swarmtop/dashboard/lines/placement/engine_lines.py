"""Draw the runs of watched engines for the placement screen and the event list: measured beside predicted.

`swarmtop watch` measures, `swarmtop.analysis.runs.engine_runs` summarises.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarm_predict.types import Prediction
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.snapshot.swarm import Event
from swarmtop.analysis.runs.engine_runs import Watched, at_placement, baselines, placement_text, summed
from swarmtop.dashboard.lines.placement import run_lines
from swarmtop.dashboard.lines.styled import Block, clean, line
from swarmtop.dashboard.state.view import View
from swarmtop.text import quantities

OTHERS: Final = 3  # the newest placements and services; the rest is in `swarmtop export --kind run`


def lines(view: View, prediction: Prediction, width: int) -> Block:
    """Return the engine that runs this placement, those that ran others, and services to compare with. Empty: none was
    watched."""
    runs = view.swarm.runs
    if not runs:
        return []
    now_ns = view.swarm.at_ns
    here = at_placement(runs, prediction.placement)
    block: Block = []
    if here is not None:
        off = 100 * (prediction.tokens_per_s.p50 / here.tokens_per_s - 1)
        measured, seen = quantities.rate(here.tokens_per_s), (f"  {_seen(here, now_ns)}", "dim")
        block.append(line((" this placement ", "strong"), measured, f"  predicted {off:+.1f} %", seen))
    block += run_lines.over_time(view, _watched_last(runs, prediction), width)
    for row in _elsewhere(runs, placement_text(prediction.placement))[:OTHERS]:
        seen = (f"  {_seen(row, now_ns)}", "dim")
        block.append(line(f" {clean(row.label, 40)} ", quantities.rate(row.tokens_per_s), seen))
    for row in baselines(runs)[-OTHERS:]:
        ratio, seen = row.tokens_per_s / prediction.tokens_per_s.p50, (f"  {_seen(row, now_ns)}", "dim")
        block.append(
            line(f" {clean(row.label, 40)} ", quantities.rate(row.tokens_per_s), f"  {ratio:.2g} × this", seen)
        )
    return block


def _watched_last(runs: Iterable[RunSample], prediction: Prediction) -> list[RunSample]:
    """Return the runs of this placement; if there are none, those of the placement that was watched last."""
    own = [run for run in runs if not run.baseline and run.placement]
    here = placement_text(prediction.placement)
    if own and all(run.placement != here for run in own):
        here = own[-1].placement
    return [run for run in own if run.placement == here]


def _elsewhere(runs: Iterable[RunSample], here: str) -> list[Watched]:
    """Return own runs of other placements or of unknown ones, the newest first."""
    groups: dict[str, list[RunSample]] = {}
    for run in runs:
        if not run.baseline and run.placement != here:
            groups.setdefault(run.placement or run.label or run.endpoint, []).append(run)
    found = [row for label, its in groups.items() if (row := summed(label, its)) is not None]
    return sorted(found, key=lambda row: -row.at_ns)


def _seen(row: Watched, now_ns: int) -> str:
    return f"{row.n} run{'s' if row.n != 1 else ''}, {quantities.seconds(quantities.age_s(row.at_ns, now_ns))} ago"


def event(run: RunSample) -> Event:
    """Return a run as it appears in the list of events."""
    what = clean(run.label or run.placement or run.endpoint, 60)
    beside = "" if run.predicted_p50 is None else f", predicted {quantities.rate(run.predicted_p50)}"
    first = f"first token {quantities.ms(run.ttft_ms)}"
    return Event(run.at_ns, "", "run", f"{what}: {quantities.rate(run.tokens_per_s)}{beside}, {first}")
