"""`swarmtop plan`: the best placement found for a model on a swarm, and how good it provably is."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from typing import Final, get_args

from swarm_predict.advice.format_comparison import compared, faster_of
from swarm_predict.advice.hypothetical import Machine, with_machine
from swarm_predict.advice.plan_confidence import Limits, how_sure
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.fewer_cards import cuts, with_fewer_cards
from swarm_predict.search.solve import Reliability
from swarm_predict.search.solve import plan as search_plan
from swarm_predict.search.speculation import MAX_WINDOWS, plan_speculation
from swarm_predict.types import BadPlacement, DoesNotFit, Objective, Plan, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarmtop.analysis.default_model import smaller_weights
from swarmtop.analysis.plans.alternatives import alternatives, alternatives_object, alternatives_text
from swarmtop.analysis.plans.assessment import judge, judgement_object, judgement_text
from swarmtop.analysis.plans.confidence import choice_lines, choice_object, formats_line, formats_object
from swarmtop.analysis.plans.machine_counts import machines_line, machines_object
from swarmtop.analysis.plans.speculation import speculation, speculation_line, speculation_object
from swarmtop.analysis.runs.running import headline, running_now
from swarmtop.analysis.unmeasured import alive, gone_nodes
from swarmtop.commands.common import one_frame, page_width
from swarmtop.commands.planning.arrivals import run_plan, traffic_of
from swarmtop.errors import DONE, UNUSABLE, CommandError
from swarmtop.option_types import losses, machine, number, pin, whole
from swarmtop.parsed_options import open_question, open_source, question
from swarmtop.progress import progress
from swarmtop.shared_options import add_arrivals, add_baselines, add_question, add_source
from swarmtop.text.json_csv import dumps
from swarmtop.text.prediction import certificate, launch_text, left_out_lines, plan_object, prediction_text, wrapped

EXAMPLE: Final = """
swarmtop plan --swarm examples/garage.toml --model llama-3.1-8b
swarmtop plan --nodes '4090@Utrecht fiber, 3090@Berlin cable, m2-max-64 5g' --model llama-3.1-70b --weights q4_k_m
swarmtop plan --connect 10.0.0.5:9470 --model llama-2-70b --weights int8 --engine petals --launch
swarmtop plan --swarm examples/garage.toml --model llama-2-13b --forbid kiln-2080ti --losses barn-3060=0.5 --front
swarmtop plan --swarm examples/garage.toml --model llama-3.1-8b --arrivals 2/s --generate 200 --tpot-limit 150
"""
Planner = Callable[..., Plan]
MANY_STREAMS: Final = 64  # more in flight than any pipeline over the internet has stages and hops to fill


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--objective",
        choices=get_args(Objective),
        default="latency",
        help="minimize the time per token of one stream, or maximize total tokens per second",
    )
    parser.add_argument("--launch", action="store_true", help="also print the engine's command line for each node")
    parser.add_argument("--front", action="store_true", help="also print the placements between the two objectives")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_baselines(parser)
    group = parser.add_argument_group("constraints")
    group.add_argument(
        "--require", metavar="NODE", action="append", default=[], help="node that must take part (repeatable)"
    )
    group.add_argument(
        "--forbid", metavar="NODE", action="append", default=[], help="node that must not take part (repeatable)"
    )
    group.add_argument(
        "--pin",
        metavar="NODE:FIRST-LAST",
        type=pin,
        action="append",
        default=[],
        help="node that must hold exactly these layers (repeatable)",
    )
    group.add_argument("--max-stages", type=whole(1, 1000), metavar="N", help="maximum number of stages")
    group.add_argument(
        "--with",
        dest="machines",
        metavar="'4090@Berlin cable'|NAME:vram=GIB,…",
        type=machine,
        action="append",
        default=[],
        help="add hypothetical machines: by name as for --nodes, or by vram, gbps, tflops, up, down, rtt (repeatable)",
    )
    group.add_argument(
        "--losses",
        metavar="NODE=PER-HOUR",
        type=losses,
        action="append",
        default=[],
        help="how often a node leaves; the plan accounts for the outages (repeatable)",
    )
    group.add_argument(
        "--recovery-s",
        type=number(0, 86_400),
        default=60.0,
        metavar="S",
        help="outage caused by each loss (60)",
    )
    group.add_argument(
        "--time-limit",
        type=number(0.05, 3600),
        default=3.0,
        metavar="S",
        help="time limit of the search (3)",
    )
    add_arrivals(parser)
    parser.add_argument(
        "--tpot-limit",
        type=number(0.01, 1e6),
        metavar="MS",
        help="with --arrivals: time per output token that most requests must meet",
    )
    parser.add_argument(
        "--replicas", type=whole(1, 64), metavar="R", help="with --arrivals: maximum number of replicas (8)"
    )
    add_source(parser)
    add_question(parser)


def filled(swarm: Swarm, model: ModelShape, load: Workload, ask: Planner = search_plan) -> tuple[Plan, Workload]:
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


def planner_of(args: argparse.Namespace, swarm: Swarm) -> Planner:
    """Return the planner with every constraint given. Raises BadPlacement for a name that is no node."""
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


def speculating(args: argparse.Namespace, swarm: Swarm, model: ModelShape, load: Workload) -> tuple[Plan, Workload]:
    """The plan that also chooses how much is guessed ahead: --draft and --windows are the most that it may take.

    Raises CommandError for what is not planned together with that."""
    for given, option in ((args.pin, "--pin"), (args.losses, "--losses"), (args.front, "--front")):
        if given:
            raise CommandError(f"{option} is not planned together with --draft; leave one of them out", UNUSABLE)
    return plan_speculation(
        swarm,
        model,
        load,
        most_windows=args.windows or MAX_WINDOWS,
        time_limit_s=args.time_limit,
        require=args.require,
        forbid=args.forbid,
        max_stages=args.max_stages,
    )


def limits(args: argparse.Namespace) -> Limits:
    """Return the limits that alternatives to the plan must keep to as well."""
    return Limits(args.require, args.forbid, [Stage(*stage) for stage in args.pin], args.max_stages)


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


def machines_named(text: str, swarm: Swarm) -> list[Machine]:
    """Return the machines of --with, named as for --nodes; round trips to nodes with a known city come from the
    cities."""
    from swarm_protocol.devices.internet_access import ACCESS
    from swarm_protocol.devices.machines import machine_of as sheet_of
    from swarm_protocol.swarm_files.named_nodes import DEFAULT_ACCESS, parse_nodes

    taken = set(swarm.names)
    found: list[Machine] = []
    for node in parse_nodes(text):
        line, sheet = ACCESS[node.access or DEFAULT_ACCESS], sheet_of(node.device)
        name, number = node.name, 1
        while name in taken:
            number += 1
            name = f"{node.name}-{number}"
        taken.add(name)
        found.append(
            Machine(
                name=name,
                vram_gib=sheet.vram_gib or 0.0,
                mem_gbps=sheet.mem_gbps,
                tflops=sheet.tflops,
                up_mbps=node.up_mbps or line.up_mbps,
                down_mbps=node.down_mbps or line.down_mbps,
                rtts_ms=tuple(_rtts_ms(node.city, line.rtt_ms, swarm)) + (math.nan,) * (len(found)),
                jitter_ms=line.jitter_ms,
                device=sheet.name,
                device_class=sheet.device_class,
                sheet=sheet.name,
            )
        )
    return found


def _rtts_ms(city: str | None, line_ms: float, swarm: Swarm) -> list[float]:
    """To each node of the swarm that has a city; NaN: not known."""
    from swarm_protocol.devices.places import UnknownCity, between_cities_ms, city_named

    rtts = []
    for facts in swarm.facts:
        try:
            way_ms = between_cities_ms(city_named(city or ""), city_named(facts.region))
            rtts.append(way_ms + line_ms)
        except UnknownCity:
            rtts.append(math.nan)
    return rtts


def run(args: argparse.Namespace) -> int:
    open_question(args)  # report an invalid question before anybody waits
    traffic = traffic_of(args)
    swarm = one_frame(open_source(args))
    for given in args.machines:
        for one in machines_named(given, swarm) if isinstance(given, str) else [machine_of(*given)]:
            swarm = with_machine(swarm, one)
    whole_swarm, chosen = question(args, swarm)
    model, load = chosen.model, chosen.workload
    asked_load, swarm = load, alive(whole_swarm, load.client)
    if traffic is not None:
        return run_plan(args, swarm, model, load, traffic)
    ask = planner_of(args, swarm)
    with progress(f"planning {model.name} on {len(swarm)} nodes"):

        def planned(on: Swarm) -> tuple[Plan, Workload]:
            if args.objective == "throughput" and args.streams is None:
                return filled(on, model, asked_load, ask)
            if asked_load.draft_tokens and args.objective == "latency":
                return speculating(args, on, model, asked_load)
            return ask(on, model, asked_load, objective=args.objective), asked_load

        with_all = swarm
        try:
            found, load = planned(swarm)
        except DoesNotFit as error:
            if (smaller := smaller_weights(swarm, model, asked_load)) is None:
                raise
            raise DoesNotFit(f"{error}; --weights {smaller} fits") from error
        swarm, found, load = with_fewer_cards(swarm, found, load, cuts(swarm, model, asked_load, args.forbid), planned)
        judged = judge(swarm, model, load, found.prediction)
        more = alternatives(swarm, model, load, found, points=args.front, time_limit_s=args.time_limit)
        sure = how_sure(swarm, model, found.prediction.placement, load, limits(args))
        formats = compared(swarm, model, load, found.prediction)
        if swarm is not with_all:  # another format may need the cards that are left out
            formats = faster_of(formats, compared(with_all, model, load, found.prediction))
        placement, speed = found.prediction.placement, found.prediction.tokens_per_s.p50
        ahead = speculation(swarm, model, asked_load, load, placement, speed)
    lines: tuple[str, ...] | None = None
    if args.launch:
        from swarm_predict.launch.commands import launch_lines

        lines = launch_lines(swarm, model, load, placement)
    if args.json:
        further = {
            **speculation_object(ahead),
            **machines_object(found),
            **judgement_object(judged),
            **alternatives_object(more),
            **choice_object(sure),
        }
        sys.stdout.write(dumps(plan_object(found, lines, {**further, "formats": formats_object(formats)})) + "\n")
        return DONE
    width = page_width()
    now = running_now(whole_swarm, model, load, gone_nodes(whole_swarm))
    if now is not None:
        sys.stdout.write(f"{headline(now, found.prediction)}\n\n")
    if chosen.note:
        sys.stdout.write(f"{chosen.note}\n\n")
    sys.stdout.write(prediction_text(found.prediction, width))
    sys.stdout.write("\n")
    said = [
        certificate(found),
        machines_line(found),
        speculation_line(ahead),
        *choice_lines(sure),
        formats_line(formats),
    ]
    sys.stdout.write("".join(f"{part}\n" for line in said if line for part in wrapped(line, width, "")))
    if found.left_out:
        sys.stdout.write("\n" + "\n".join(left_out_lines(found, width)) + "\n")
    if load.streams > 1:
        sys.stdout.write(f"the throughput is that of {load.streams} requests in flight\n")
    sys.stdout.write(alternatives_text(more, found, width))
    if judged is not None:
        sys.stdout.write("\n" + judgement_text(judged, found.prediction, width, published=args.baselines))
    if lines is not None:
        sys.stdout.write(launch_text(lines))
    return DONE
