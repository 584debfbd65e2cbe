"""`swarmtop explain`: explain the speed of a run: expected, measured, and the causes of the difference."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from collections.abc import Sequence
from typing import Final

from swarm_predict.explain.disagreement import FITTED, Disagreement, disagreement
from swarm_predict.explain.explanation import explain
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import format_placement, parse_placement
from swarm_predict.search.solve import plan
from swarm_predict.types import Placement, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S
from swarmtop.analysis.runs.observed_run import BadRun, Run, spelled, watched
from swarmtop.analysis.runs.watched_runs import watched_runs
from swarmtop.analysis.unmeasured import alive
from swarmtop.commands.common import page_width
from swarmtop.errors import DONE, CommandError
from swarmtop.parsed_options import open_question, open_source, question
from swarmtop.progress import progress
from swarmtop.shared_options import DEFAULT_MODEL, add_question, add_source
from swarmtop.sources.source import Source, first_frame
from swarmtop.text.disagreement import disagreement_object, looks_text
from swarmtop.text.explanation import explanation_object, explanation_text
from swarmtop.text.json_csv import dumps

EXAMPLE: Final = """
swarmtop explain --swarm examples/garage.toml --run 'attic-3090:0-19,lab-a4000:20-31=9.1'
swarmtop explain --connect 10.0.0.5:9470 --engine petals
swarmtop explain --nodes 'a=4090@Utrecht fiber, b=3090@Berlin cable' --run 'a:0-15,b:16-31=110ms' --json
"""
THROTTLED_SPAN_S: Final = 3600
THROTTLED_POINTS: Final = 720  # one for each of a probe's samples, or fewer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run",
        metavar="'NODE:A-B,…=TOK/S'",
        help="a placement and the speed of one stream on it, in tokens per second or as 110ms per token; a speed "
        "alone belongs to the running placement "
        "(default: what swarmtop watch has measured)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    left_open = open_question(args).model is None  # report an invalid question before anybody waits
    given = _given(args.run)
    source = open_source(args)

    async def work() -> tuple[str, int]:
        try:
            with progress(f"waiting for {source.title}"):
                frame = await first_frame(source)
            return await _answer(args, source, frame, given, left_open), DONE
        finally:
            await source.close()

    text, code = asyncio.run(work())
    sys.stdout.write(text)
    return code


async def _answer(args: argparse.Namespace, source: Source, frame: Swarm, given: Run | None, left_open: bool) -> str:
    said = frame.running is not None and bool(frame.running.model)
    if left_open and not said and frame.measured_for is None and given is not None and given.placement:
        args.model = DEFAULT_MODEL  # whose layers the placement names; it may well not fit
    swarm, chosen = question(args, frame)
    model, load = chosen.model, chosen.workload
    placement, found = _placed(swarm, model, load, given)
    if found is not None and found.context is not None:
        load = dataclasses.replace(load, context=found.context)
    until_ns = found.at_ns if found is not None and found.at_ns else swarm.at_ns
    throttled = await _throttled(source, swarm, [stage.node for stage in placement], until_ns)
    with progress(f"explaining {model.name}"):
        why = explain(swarm, model, placement, load, None if found is None else found.tpot_ms, throttled)
        differs = _differs(swarm, model, load, placement) if found is not None and found.source == "watched" else None
    if args.json:
        return dumps({**explanation_object(why, found), "disagreement": disagreement_object(differs)}) + "\n"
    grows = None if differs is None else f"over {differs.runs} watched runs: {looks_text(differs)}"
    return explanation_text(why, found, page_width(), grows)


def _given(text: str | None) -> Run | None:
    if text is None:
        return None
    try:
        return spelled(text)
    except BadRun as error:
        raise CommandError(f"--run: {error}") from error


def _placed(swarm: Swarm, model: ModelShape, load: Workload, given: Run | None) -> tuple[Placement, Run | None]:
    """The placement that ran, and the run: as given, else as watched. Without either, what is said to run, or the best
    plan, and no run."""
    if given is not None and given.placement:
        return parse_placement(given.placement, model, swarm, load.engine), given
    reported = swarm.running.placement if swarm.running is not None else ""
    running = parse_placement(reported, model, swarm, load.engine) if reported else None
    found = given or watched(swarm, model, load.engine, running)
    if running is not None:
        return running, found
    if found is not None and found.placement:
        return parse_placement(found.placement, model, swarm, load.engine), found
    if given is not None:
        raise CommandError("which placement gave this speed is not known; write --run 'a:0-39,b:40-79=1.7'")
    return plan(alive(swarm, load.client), model, load).prediction.placement, None


def _differs(swarm: Swarm, model: ModelShape, load: Workload, placement: Placement) -> Disagreement | None:
    """Find the quantity that the difference grows with, over watched runs of all placements."""
    here = format_placement(placement)
    runs = watched_runs(swarm, model, load, swarm.runs[-FITTED:])
    own = [run for where, run in runs if where == here]
    return disagreement(own, [run for where, run in runs if where != here])


async def _throttled(source: Source, swarm: Swarm, nodes: Sequence[str], until_ns: int) -> dict[str, float]:
    """The share of the last hour in which each node's clock was held down, where that was recorded."""
    if source.mode == "file" or not until_ns:
        return {}
    found = {}
    for name in dict.fromkeys(nodes):
        node_id = swarm.facts[swarm.index(name)].node_id
        since_ns = until_ns - THROTTLED_SPAN_S * NS_PER_S
        past = await source.history("throttled", node_id, None, since_ns, until_ns, THROTTLED_POINTS)
        values = [value for value in past.values if value is not None]
        if values:
            found[name] = sum(values) / len(values)
    return found
