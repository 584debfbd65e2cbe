"""`swarmtop predict`: tokens per second of a placement that a person names."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from swarm_predict.forecast.prediction import predict
from swarm_predict.placement import parse_placement
from swarm_predict.types import Prediction
from swarm_protocol.units import gib
from swarmtop.analysis.assessment import judge, judgement_object, judgement_text
from swarmtop.args import add_question, add_source
from swarmtop.commands.common import one_frame, page_width
from swarmtop.config import open_source, question
from swarmtop.errors import BREACHED, DONE, CommandError
from swarmtop.progress import progress
from swarmtop.text import quantities
from swarmtop.text.plain import dumps
from swarmtop.text.prediction import prediction_object, prediction_text

EXAMPLE: Final = """
swarmtop predict --swarm examples/garage.toml --model llama-3.1-8b --placement 'attic-3090:0-19,desk-4070:20-31'
swarmtop predict --connect 10.0.0.5:9470 --model llama-2-70b --placement 'a:0-39,b:40-79' --engine petals --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--placement", required=True, metavar="'NODE:A-B,…'", help="stages in order; layers inclusive, from 0"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    model, load = question(args)
    swarm = one_frame(open_source(args))
    placement = parse_placement(args.placement, model, swarm, load.engine)
    with progress(f"predicting {model.name}"):
        found = predict(swarm, model, placement, load)
        judged = judge(swarm, model, load, found)
    if args.json:
        sys.stdout.write(dumps({**prediction_object(found), **judgement_object(judged)}) + "\n")
    if not found.fits:  # people get no speed of something that cannot run; JSON says "fits": false
        raise CommandError(misfit(found), BREACHED)
    if not args.json:
        sys.stdout.write(prediction_text(found, page_width()))
        if judged is not None:
            sys.stdout.write("\n" + judgement_text(judged, found, page_width()))
    return DONE


def misfit(found: Prediction) -> str:
    """The node that lacks most, by how much, and what to do."""
    stage, cost = min(zip(found.placement, found.stages, strict=True), key=lambda pair: pair[1].memory_free_bytes)
    has = cost.memory_bytes + cost.memory_free_bytes
    return (
        f"{stage.node} needs {quantities.gib(cost.memory_bytes)} for layers {stage.first}-{stage.last}, "
        f"has {quantities.figure(gib(has))}; give it fewer layers, or smaller --weights"
    )
