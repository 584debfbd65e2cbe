"""`swarmtop alert`: evaluate rules on a running swarm continuously, and notify."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, cast

from swarm_protocol.text import safe
from swarmtop.alerts.state import CLEAR_S, FOR_S, MARGIN, AlertRule, Alerts, Change, SilenceAlert, parse_alert
from swarmtop.analysis import rules
from swarmtop.analysis.analysis import analyse, unplanned
from swarmtop.errors import DONE, CommandError
from swarmtop.parsed_options import open_question, open_source, question
from swarmtop.shared_options import add_question, add_source
from swarmtop.text.quantities import moment

if TYPE_CHECKING:
    from swarm_protocol.snapshot.swarm import Swarm
    from swarmtop.alerts.sinks import Sink
    from swarmtop.analysis.analysis import Analysis
    from swarmtop.sources.source import Source

EXAMPLE: Final = """
swarmtop alert --connect 10.0.0.5:9470 --rule 'state!=lost for 1m' --run 'notify-send swarm'
swarmtop alert --connect 10.0.0.5:9470 --model llama-2-70b --rule 'tokens_per_s>4 for 2m margin 10%' --webhook-env HOOK
"""
LOOK_EVERY_S: Final = 1.0  # figures change with windows of ten seconds; a plan takes a part of a core


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rule",
        action="append",
        required=True,
        metavar="'RULE [for TIME] [clear TIME] [margin P%]'",
        help=f"a rule as for swarmtop check; fires if broken for TIME ({FOR_S:g}s), clears if it holds by the margin "
        f"({MARGIN * 100:g}%%) for TIME ({CLEAR_S:g}s)",
    )
    parser.add_argument(
        "--webhook-env", metavar="VARIABLE", help="environment variable that holds the URL to POST JSON to"
    )
    parser.add_argument(
        "--run", metavar="COMMAND", help="command to run at each change, without a shell; JSON on its standard input"
    )
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    try:
        wanted = [parse_alert(text) for text in args.rule]
    except rules.RuleError as error:
        raise CommandError(str(error)) from error
    url = os.environ.get(args.webhook_env, "") if args.webhook_env else ""
    if args.webhook_env and not url.startswith(("http://", "https://")):
        raise CommandError(f"${args.webhook_env} holds no address of a webhook; set it to https://…")
    return asyncio.run(_watch(args, wanted, url))


async def _watch(args: argparse.Namespace, wanted: list[AlertRule], url: str) -> int:
    import aiohttp

    from swarmtop.alerts import sinks

    open_question(args)  # report an invalid question before anybody waits
    source, alerts = open_source(args), Alerts(wanted)
    planned = any(rules.needs_plan(alert.rule) for alert in wanted)
    async with aiohttp.ClientSession() as http:
        calls: list[Sink] = [sinks.webhook(url, http, _warn)] if url else []
        if args.run:
            calls.append(sinks.command(args.run, _warn))
        news = _News(source)
        try:
            found: Analysis | None = None
            silence = SilenceAlert(source.title)
            while True:
                began = time.monotonic()
                swarm = await news.newest()
                found = await asyncio.to_thread(_analysed, args, swarm, found, planned)
                changes = _changes(alerts, swarm, found)
                if source.mode == "live":
                    changes += silence.look(time.monotonic_ns(), news.at_ns)
                for change in changes:
                    _print(change)
                    for call in calls:
                        call.put(sinks.as_object(change, safe(swarm.source, 80)))
                if source.mode != "live":
                    return DONE  # a file or a recording has one state
                await asyncio.sleep(max(0.0, LOOK_EVERY_S - (time.monotonic() - began)))
        finally:
            await news.close()
            for call in calls:
                await call.close()
            await source.close()


class _News:
    """The newest state of a source, and when it came."""

    def __init__(self, source: Source) -> None:
        self._swarm: Swarm | None = None
        self._first = asyncio.Event()
        self._task = asyncio.create_task(self._read(source))
        self._task.add_done_callback(lambda _: self._first.set())
        self.at_ns = time.monotonic_ns()

    async def newest(self) -> Swarm:
        """Wait for the first state. Raises what ended the source."""
        await self._first.wait()
        if self._task.done() and (error := self._task.exception()) is not None:
            raise error
        assert self._swarm is not None
        return self._swarm

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self, source: Source) -> None:
        async with aclosing(cast("AsyncGenerator[Swarm, None]", source.frames())) as frames:
            async for swarm in frames:
                self._swarm, self.at_ns = swarm, time.monotonic_ns()
                self._first.set()


def _analysed(args: argparse.Namespace, frame: Swarm, before: Analysis | None, planned: bool) -> Analysis:
    swarm, chosen = question(args, frame)
    if planned:
        return analyse(swarm, chosen.model, chosen.workload, before)
    return unplanned(swarm, chosen.model, chosen.workload)


def _changes(alerts: Alerts, swarm: Swarm, found: Analysis) -> list[Change]:
    try:
        return alerts.look(time.monotonic_ns(), swarm, found)
    except rules.RuleError as error:  # a node that is not there yet, or not any more
        raise CommandError(str(error)) from error


def _print(change: Change) -> None:
    mark = "!" if change.state == "firing" else "+"
    print(f"{moment(time.time_ns())}  {mark} {change.state:<7}  {safe(change.line, 300)}", flush=True)


def _warn(text: str) -> None:
    print(f"swarmtop: {safe(text, 200)}", file=sys.stderr, flush=True)
