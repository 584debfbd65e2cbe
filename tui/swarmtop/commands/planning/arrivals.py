"""Answer `--arrivals` of `predict` and `plan`: turn options into requests, and print the answer for many users."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

import numpy as np

from swarm_predict.placement import rows_of
from swarm_predict.serving.replica_planning import plan_serving
from swarm_predict.serving.traffic import Traffic
from swarmtop.analysis.unmeasured import only
from swarmtop.commands.common import page_width
from swarmtop.errors import BREACHED, DONE, UNUSABLE, CommandError
from swarmtop.parsed_options import lengths_of
from swarmtop.progress import progress
from swarmtop.text.json_csv import dumps
from swarmtop.text.prediction import launch_text
from swarmtop.text.serving import plan_object, plan_text, serving_object, serving_text, too_many

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape
    from swarm_predict.types import Workload
    from swarm_protocol.snapshot.swarm import Swarm

MAX_REPLICAS: Final = 8


def traffic_of(args: argparse.Namespace) -> Traffic | None:
    """The requests that the options describe; None without --arrivals.

    Raises CommandError for an option that only many users have, and for a file of lengths that cannot be used."""
    if args.arrivals is None:
        for given, option in (
            (args.micro_batches, "--micro-batches"), (args.max_sequences, "--max-sequences"),
            (args.generate != 128, "--generate"), (not isinstance(args.prompt, int), "--prompt with several lengths"),
            (getattr(args, "tpot_limit", None), "--tpot-limit"), (getattr(args, "replicas", None), "--replicas"),
        ):  # fmt: skip
            if given:
                raise CommandError(f"{option} is of many users; add --arrivals", UNUSABLE)
        return None
    return Traffic(
        args.arrivals,
        lengths_of(args.prompt, "--prompt"),
        lengths_of(args.generate, "--generate"),
        args.micro_batches,
        args.max_sequences,
    )


def run_plan(args: argparse.Namespace, swarm: Swarm, model: ModelShape, load: Workload, traffic: Traffic) -> int:
    """Plan for many users, and print it. Raises CommandError for what is not planned together with them."""
    for given, option in (
        (args.pin, "--pin"), (args.losses, "--losses"), (args.require, "--require"), (args.max_stages, "--max-stages"),
    ):  # fmt: skip
        if given:
            raise CommandError(f"{option} is not planned together with --arrivals; leave one of them out", UNUSABLE)
    shut = rows_of(swarm, args.forbid, "--forbid")
    swarm = only(swarm, np.delete(np.arange(len(swarm)), shut))
    with progress(f"planning {model.name} for many users on {len(swarm)} nodes"):
        found = plan_serving(
            swarm,
            model,
            load,
            traffic,
            tpot_limit_ms=args.tpot_limit,
            most_replicas=args.replicas or MAX_REPLICAS,
            time_limit_s=args.time_limit,
        )
    lines: list[str] | None = None
    if args.launch:
        from swarm_predict.launch.commands import launch_lines

        chosen = found.workload
        lines = [line for each in found.serving.replicas for line in launch_lines(swarm, model, chosen, each.placement)]
    if args.json:
        answer = {
            "model": model.name,
            "weights": load.weights,
            "engine": load.engine,
            "draft_tokens": found.workload.draft_tokens,
            "windows": found.workload.windows,
            "serving": serving_object(found.serving),
            **plan_object(found),
            "launch": lines,
        }
        sys.stdout.write(dumps(answer) + "\n")
    else:
        width = page_width()
        guesses = found.workload.draft_tokens
        ahead = f", {found.workload.windows} windows in flight" if found.workload.windows > 1 else ""
        drafts = (
            f", {guesses} draft tokens in each pass{ahead}"
            if guesses
            else ", no draft tokens"
            if load.draft_tokens
            else ""
        )
        sys.stdout.write(f"{model.name} {load.weights}, {load.engine}{drafts}\n\n")
        sys.stdout.write(f"{serving_text(found.serving, width)}\n{plan_text(found, width)}")
        if lines is not None:
            sys.stdout.write(launch_text(lines))
    if not found.serving.sustained:
        raise CommandError(too_many(found.serving), BREACHED)
    return DONE
