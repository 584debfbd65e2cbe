"""`swarmtop predict`: predict the tokens per second of a given placement."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from swarm_predict.forecast.prediction import predict
from swarm_predict.placement import parse_placement
from swarm_predict.serving.serve import serve
from swarm_predict.types import Prediction
from swarm_protocol.units import gib_apart
from swarmtop.analysis.plans.assessment import judge, judgement_object, judgement_text
from swarmtop.commands.common import one_frame, page_width
from swarmtop.commands.planning.arrivals import traffic_of
from swarmtop.errors import BREACHED, DONE, UNUSABLE, CommandError
from swarmtop.parsed_options import open_question, open_source, question
from swarmtop.progress import progress
from swarmtop.shared_options import DEFAULT_MODEL, add_arrivals, add_baselines, add_question, add_source
from swarmtop.text.json_csv import dumps
from swarmtop.text.prediction import launch_text, prediction_object, prediction_text
from swarmtop.text.serving import serving_object, serving_text, too_many

EXAMPLE: Final = """
swarmtop predict --swarm examples/garage.toml --model llama-3.1-8b --placement 'attic-3090:0-19,desk-4070:20-31'
swarmtop predict --connect 10.0.0.5:9470 --model llama-2-70b --placement 'a:0-39,b:40-79' --engine petals --json
swarmtop predict --swarm examples/garage.toml --model llama-2-13b --placement 'attic-3090:0-39' --engine petals --launch
swarmtop predict --swarm examples/garage.toml --model llama-3.1-8b --placement 'attic-3090:0-19,desk-4070:20-31' \\
  --arrivals 1/s --prompt lognormal:512:2000 --generate 200 --prefill-chunk 256
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--placement",
        required=True,
        metavar="'NODE:A-B,…'",
        action="append",
        help="stages in order, layers inclusive and counted from 0; repeat it with --arrivals for placements side by "
        "side, which may share machines",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--launch", action="store_true", help="also print the engine's command line for each node")
    add_baselines(parser)
    add_arrivals(parser)
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    open_question(args)  # report an invalid question before anybody waits
    traffic = traffic_of(args)
    if traffic is None and len(args.placement) > 1:
        raise CommandError("several placements are replicas for many users; add --arrivals, or give only one", UNUSABLE)
    swarm = one_frame(open_source(args))
    if open_question(args).model is None and not (swarm.running and swarm.running.model):
        args.model = DEFAULT_MODEL  # whose layers the placement names; it may well not fit
    swarm, found_question = question(args, swarm)
    model, load = found_question.model, found_question.workload
    placements = [parse_placement(text, model, swarm, load.engine) for text in args.placement]
    placement = placements[0]
    with progress(f"predicting {model.name}"):
        found = predict(swarm, model, placement, load)
        judged = judge(swarm, model, load, found)
        served = serve(swarm, model, placements, load, traffic) if traffic is not None and found.fits else None
    lines: tuple[str, ...] | None = None
    if args.launch:
        from swarm_predict.launch.commands import launch_lines

        lines = tuple(line for each in placements for line in launch_lines(swarm, model, load, each))
    if args.json:
        more: dict[str, object] = {"launch": None if lines is None else list(lines)}
        if served is not None:
            more["serving"] = serving_object(served)
        sys.stdout.write(dumps({**prediction_object(found), **judgement_object(judged), **more}) + "\n")
    if not found.fits:  # no speed is printed for a placement that cannot run; JSON says "fits": false
        raise CommandError(misfit(found), BREACHED)
    if not args.json:
        sys.stdout.write(prediction_text(found, page_width()))
        if served is not None:
            sys.stdout.write("\n" + serving_text(served, page_width()))
        elif judged is not None:
            sys.stdout.write("\n" + judgement_text(judged, found, page_width(), published=args.baselines))
        if lines is not None:
            sys.stdout.write(launch_text(lines))
    if served is not None and not served.sustained:
        raise CommandError(too_many(served), BREACHED)
    return DONE


def misfit(found: Prediction) -> str:
    """Return the node that lacks most, by how much, and what to do."""
    stage, cost = min(zip(found.placement, found.stages, strict=True), key=lambda pair: pair[1].memory_free_bytes)
    needs, has = gib_apart(cost.memory_bytes, cost.memory_bytes + cost.memory_free_bytes)
    return (
        f"{stage.node} needs {needs} GiB for layers {stage.first}-{stage.last}, "
        f"has {has}; give it fewer layers, or smaller --weights"
    )
