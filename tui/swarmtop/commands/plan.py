"""`swarmtop plan`: the best placement found for a model on a swarm, and how good it provably is."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from typing import Final, get_args

from swarm_predict.advice.hypothetical import Machine, with_machine
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.solve import Reliability
from swarm_predict.search.solve import plan as search_plan
from swarm_predict.types import BadPlacement, DoesNotFit, Objective, Plan, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.analysis.alternatives import beside, beside_object, beside_text
from swarmtop.analysis.analysis import alive
from swarmtop.analysis.assessment import judge, judgement_object, judgement_text
from swarmtop.args import add_question, add_source, losses, machine, number, pin, whole
from swarmtop.commands.common import one_frame, page_width
from swarmtop.config import open_source, question
from swarmtop.errors import DONE
from swarmtop.progress import progress
from swarmtop.text.plain import dumps
from swarmtop.text.prediction import certificate, plan_object, prediction_text

EXAMPLE: Final = """
swarmtop plan --swarm examples/garage.toml --model llama-3.1-8b
swarmtop plan --connect 10.0.0.5:9470 --model llama-2-70b --weights int8 --engine petals --launch
swarmtop plan --swarm examples/garage.toml --model llama-2-13b --forbid kiln-2080ti --losses barn-3060=0.5 --front
"""
Asked = Callable[..., Plan]
MANY_STREAMS: Final = 64  # more in flight than any pipeline over the internet has stages and hops to fill


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--objective", choices=get_args(Objective), default="latency", help="of one stream, or tokens in total"
    )
    parser.add_argument("--launch", action="store_true", help="the engine's command lines for each node")
    parser.add_argument("--front", action="store_true", help="placements between the two objectives as well")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    group = parser.add_argument_group("what the plan must keep to")
    group.add_argument("--require", metavar="NODE", action="append", default=[], help="must serve (repeatable)")
    group.add_argument("--forbid", metavar="NODE", action="append", default=[], help="must not serve (repeatable)")
    group.add_argument(
        "--pin",
        metavar="NODE:FIRST-LAST",
        type=pin,
        action="append",
        default=[],
        help="keeps these layers",
    )
    group.add_argument("--max-stages", type=whole(1, 1000), metavar="N", help="machines that take part at most")
    group.add_argument(
        "--with",
        dest="machines",
        metavar="NAME:vram=GIB,…",
        type=machine,
        action="append",
        default=[],
        help="as if this machine were there too: vram, gbps, tflops, up, down, rtt (repeatable)",
    )
    group.add_argument(
        "--losses",
        metavar="NODE=PER-HOUR",
        type=losses,
        action="append",
        default=[],
        help="how often a node goes; the plan weighs what that costs (repeatable)",
    )
    group.add_argument(
        "--recovery-s",
        type=number(0, 86_400),
        default=60.0,
        metavar="S",
        help="standstill for each loss (60)",
    )
    group.add_argument(
        "--time-limit",
        type=number(0.05, 3600),
        default=3.0,
        metavar="S",
        help="for the search (3)",
    )
    add_source(parser)
    add_question(parser)


def filled(swarm: Swarm, model: ModelShape, load: Workload, ask: Asked = search_plan) -> tuple[Plan, Workload]:
    """The plan of most tokens in total, and the load with as many requests in flight as it needs for that.

    One request alone leaves every stage but one idle, so that asking for throughput at one is asking for latency.
    """
    many = dataclasses.replace(load, streams=MANY_STREAMS)
    while True:
        try:
            found = ask(swarm, model, many, objective="throughput")
            break
        except DoesNotFit:
            if many.streams == 1:
                raise
            many = dataclasses.replace(many, streams=many.streams // 2)  # the KV cache of each takes memory
    steps_per_s = found.prediction.throughput_tokens_per_s / load.batch
    needed = math.ceil(steps_per_s * found.prediction.tpot_ms.p50 / 1e3)
    enough = dataclasses.replace(load, streams=max(1, min(needed, many.streams)))
    return ask(swarm, model, enough, objective="throughput"), enough


def asked(args: argparse.Namespace, swarm: Swarm) -> Asked:
    """The planner with everything that it must keep to. Raises BadPlacement for a name that is no node."""
    for name, _ in args.losses:
        if name not in swarm.names:
            raise BadPlacement(f"there is no node {name!r} in this swarm; correct --losses")
    return functools.partial(
        search_plan,
        time_limit_s=args.time_limit,
        require=args.require,
        forbid=args.forbid,
        pins=[Stage(*stage) for stage in args.pin],
        max_stages=args.max_stages,
        reliability=Reliability(dict(args.losses), args.recovery_s) if args.losses else None,
    )


def machine_of(name: str, given: dict[str, float]) -> Machine:
    return Machine(
        name=name,
        vram_gib=given["vram"],
        mem_gbps=given.get("gbps"),
        tflops=given.get("tflops"),
        up_mbps=given.get("up"),
        down_mbps=given.get("down"),
        rtt_ms=given.get("rtt"),
    )


def run(args: argparse.Namespace) -> int:
    model, load = question(args)
    swarm = alive(one_frame(open_source(args)), load.client)
    for name, given in args.machines:
        swarm = with_machine(swarm, machine_of(name, given))
    ask = asked(args, swarm)
    with progress(f"planning {model.name} on {len(swarm)} nodes"):
        if args.objective == "throughput" and args.streams is None:
            found, load = filled(swarm, model, load, ask)
        else:
            found = ask(swarm, model, load, objective=args.objective)
        judged = judge(swarm, model, load, found.prediction)
        more = beside(swarm, model, load, found, points=args.front, time_limit_s=args.time_limit)
    lines: tuple[str, ...] | None = None
    if args.launch:
        from swarm_predict.launch.commands import launch_lines

        lines = launch_lines(swarm, model, load, found)
    if args.json:
        sys.stdout.write(dumps(plan_object(found, lines, {**judgement_object(judged), **beside_object(more)})) + "\n")
        return DONE
    width = page_width()
    sys.stdout.write(prediction_text(found.prediction, width))
    sys.stdout.write(f"\n{certificate(found)}\n")
    if load.streams > 1:
        sys.stdout.write(f"in total counts {load.streams} requests in flight\n")
    sys.stdout.write(beside_text(more, found, width))
    if judged is not None:
        sys.stdout.write("\n" + judgement_text(judged, found.prediction, width))
    if lines is not None:
        sys.stdout.write("\n" + "\n".join(("launch", *(f"  {line}" for line in lines))) + "\n")
    return DONE
