"""`swarmtop` itself: open the dashboard on the source that the arguments name. The only command that loads Textual, and
late."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from swarm_protocol.addresses import address_text
from swarm_protocol.trust.loopback import is_loopback
from swarmtop.dashboard.options import DashboardOptions
from swarmtop.errors import CommandError
from swarmtop.parsed_options import load_model, open_question, open_source, running_option
from swarmtop.sources.source import Source
from swarmtop.text.ascii_text import holds_signs

if TYPE_CHECKING:
    from swarmtop.local.embedded import EmbeddedProcesses


def demo() -> int:
    """The bundled recording of a swarm with a straggler, in a dashboard of its own."""
    from swarmtop.commands.lab import demo as recorded

    return recorded()


def run(args: argparse.Namespace) -> int:
    in_browser = "TEXTUAL_DRIVER" in os.environ  # as `swarmtop serve` starts it: a pipe stands for the terminal
    if not in_browser and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError("the dashboard needs a terminal; --once prints the ranking without one")
    question, running = open_question(args), running_option(args)
    model = question.model if question.model is not None else load_model(None)

    def show(source: Source, join_hint: str = "", elsewhere: str = "", found: EmbeddedProcesses | None = None) -> int:
        from swarmtop.dashboard.run import run_dashboard  # Textual: 200 ms that no other command pays

        return run_dashboard(
            source,
            DashboardOptions(
                model=model,
                workload=question.workload,
                open_question=question,
                running=running,
                join_hint=join_hint,
                join_elsewhere=elsewhere,
                demo=demo,
                keep_collector=found.keep if found is not None else None,
                programs=found.programs if found is not None else None,
                ascii=args.ascii or not holds_signs(sys.stderr),  # which is what the screen is drawn on
            ),
        )

    if args.listen is not None and (args.swarm, args.nodes, args.db, args.connect) != (None,) * 4:
        raise CommandError("--listen starts a collector here; it does not go with --swarm, --db or --connect")
    if args.swarm is not None or args.nodes is not None or args.db is not None:
        return show(open_source(args, for_screen=True))
    from swarmtop.commands.invite import invite  # websockets and asyncio: no file pays for them
    from swarmtop.local import operator_client
    from swarmtop.local.own_collector import operator_on
    from swarmtop.sources.live import LiveSource

    if args.connect is not None:
        host, port = args.connect
        elsewhere = "" if is_loopback(host) else address_text(host, port)
        return show(open_source(args, for_screen=True), elsewhere=elsewhere)
    from swarmtop.local.embedded import home

    with home(args.token, args.listen) as found:
        hint = ""
        if found.join is not None:
            host, port = found.join
            client = operator_client.find(str(found.state), port)
            if client is not None:
                hint, _ = invite(client, host)
        operator = partial(operator_on, found.port)
        source = LiveSource(found.host, found.port, token=found.token, compact=True, operator=operator)
        return show(source, hint, found=found)
