"""`swarmtop check`: evaluate rules on the swarm once, for cron and for monitoring systems."""

from __future__ import annotations

import argparse
from typing import Final

from swarmtop.analysis import rules
from swarmtop.analysis.analysis import analyse, unplanned
from swarmtop.commands.common import one_frame
from swarmtop.errors import BREACHED, DONE, CommandError
from swarmtop.parsed_options import open_source, question
from swarmtop.progress import progress
from swarmtop.shared_options import add_question, add_source

EXAMPLE: Final = """
swarmtop check --rule 'rtt_p99_ms<250' --rule 'state!=lost'
swarmtop check --connect 10.0.0.5:9470 --rule 'loss@kiln-07<0.02' --model llama-3.1-8b --rule 'tokens_per_s>5'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rule",
        action="append",
        required=True,
        metavar="RULE",
        help="METRIC[@NODE|@SRC>DST] OP VALUE, repeatable; exit 4 and a line for each broken rule",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing if every rule holds")
    table = "\n".join(
        f"  {name:<16} {text} ({scope})"
        for scope, metrics in (
            ("each link", rules.LINK_METRICS),
            ("each node", rules.NODE_METRICS),
            ("once", rules.SWARM_METRICS),
        )
        for name, text in metrics.items()
    )
    parser.epilog = f"{parser.epilog}\n\nmetrics:\n{table}"
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    try:
        wanted = [rules.parse_rule(text) for text in args.rule]
        swarm, asked = question(args, one_frame(open_source(args)))
        model, load = asked.model, asked.workload
        with progress(f"planning {model.name} on {len(swarm)} nodes"):
            planned = any(rules.needs_plan(rule) for rule in wanted)
            found = analyse(swarm, model, load) if planned else unplanned(swarm, model, load)
        broken = [breach for rule in wanted for breach in rules.breaches(rule, swarm, found)]
    except rules.RuleError as error:
        raise CommandError(str(error)) from error
    for breach in broken:
        print(breach.line)
    if not broken and not args.quiet:
        print(f"{len(wanted)} {'rule holds' if len(wanted) == 1 else 'rules hold'} on {len(swarm)} nodes")
    return BREACHED if broken else DONE
