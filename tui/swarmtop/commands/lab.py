"""`swarmtop lab`: run a swarm of real probes on an emulated internet, with the dashboard on top; `verify` and `race`
compare probes and predictor with what happened."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from swarm_lab.bundled_scenarios import bundled, scenario_text
from swarm_lab.emulation import netns
from swarm_lab.emulation.scenario import Scenario, ScenarioError, parse_scenario
from swarm_lab.recording import RECORDED, pack, unpack
from swarm_predict.placement import parse_placement
from swarm_predict.types import NotMeasured, Workload
from swarm_protocol.units import NS_PER_S
from swarm_storage.errors import StoreError
from swarmtop.errors import BREACHED, DONE, CommandError
from swarmtop.option_types import draft, whole
from swarmtop.parsed_options import load_model

if TYPE_CHECKING:
    from swarm_lab.lab import Lab

EXAMPLE: Final = """
swarmtop lab                              five home lines, one of which degrades, in the dashboard
swarmtop lab two-continents
swarmtop lab --list
swarmtop lab verify profiles --seconds 60
swarmtop lab race profiles --model tiny --best --random 3
swarmtop lab --recording                  a recorded run; needs neither Linux nor root
"""
DEFAULT_SCENARIO: Final = "one-straggler"
RECORD_LEAD_S: Final = 60.0  # of round trips before the timeline begins
RECORD_WAIT_S: Final = 1200.0  # a recording without layer times is worth nothing, and probes wait for a quiet machine
ACTIONS: Final = ("verify", "race", "record")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="[verify|race|record] [SCENARIO]", help="a bundled scenario's name, or a TOML file"
    )
    parser.add_argument("--list", action="store_true", help="list the bundled scenarios")
    parser.add_argument("--seconds", type=whole(5, 86_400), metavar="N", help="duration (default: the scenario's)")
    parser.add_argument("--keep", metavar="DIR", help="folder to keep the database, the true values and the logs in")
    parser.add_argument("--recording", action="store_true", help="replay the bundled recording; works on any machine")
    parser.add_argument(
        "--out", metavar="FILE", help="for record: the packed database to write (default: SCENARIO.db.xz)"
    )
    parser.add_argument("--json", action="store_true", help="for verify and race: print JSON")
    race = parser.add_argument_group("race: predict and measure the reference engine")
    race.add_argument("--model", metavar="NAME|PATH", help="default: the scenario's")
    race.add_argument("--engine", choices=("chain", "star"), action="append", help="default: chain (repeatable)")
    race.add_argument(
        "--placement", metavar="'NODE:A-B,…'", action="append", default=[], help="placement to run (repeatable)"
    )
    race.add_argument("--best", action="store_true", help="the planner's placement (default if no other is named)")
    race.add_argument("--random", type=whole(1, 100), metavar="N", default=0, help="N random placements")
    race.add_argument(
        "--again", action="store_true", help="run each twice, to see how much two runs of the same placement differ"
    )
    race.add_argument("--client", metavar="HOST", help="node that receives the tokens (default: the first stage)")
    race.add_argument("--prompt", type=whole(1, 4096), default=32, metavar="N", help="prompt tokens (32)")
    race.add_argument("--steps", type=whole(4, 2000), default=60, metavar="N", help="tokens to time (60)")
    race.add_argument("--draft", type=draft, metavar="K:A[:MS]", help="speculative decoding with random acceptance")
    race.add_argument(
        "--windows", type=whole(1, 64), action="append", metavar="W",
        help="with --draft: windows in flight at once (1, repeatable)",
    )  # fmt: skip
    race.add_argument("--seed", type=whole(0, 2**31), default=0, metavar="N", help="seed of the random placements (0)")


def run(args: argparse.Namespace) -> int:
    if args.list:
        for name in bundled():
            print(f"{name:<18} {parse_scenario(scenario_text(name)).title}")
        return DONE
    action = args.words.pop(0) if args.words and args.words[0] in ACTIONS else "show"
    if len(args.words) > 1:
        raise CommandError(f"one scenario at a time, not {' and '.join(args.words)}")
    args.scenario = Path(args.words[0]).stem if args.words else DEFAULT_SCENARIO
    try:
        text = scenario_text(args.words[0] if args.words else DEFAULT_SCENARIO)
        scenario = parse_scenario(text)
    except ScenarioError as error:
        raise CommandError(str(error)) from error
    check_draft(args)
    if args.keep and Path(args.keep).exists() and any(Path(args.keep).iterdir()):
        raise CommandError(f"--keep {args.keep} is not empty; runs are not mixed, name a new folder")
    if args.recording:
        return _replay(args)
    if why := netns.why_unavailable():
        if action == "show" and _at_a_terminal():
            _say(f"{why}; this is a recorded run of {RECORDED}")
            return _replay(args)
        raise CommandError(f"{why}; a recorded run needs nothing: swarmtop lab --recording")
    if action == "show" and not _at_a_terminal():
        raise CommandError("the dashboard needs a terminal; swarmtop lab verify and lab race do without")
    work = {"show": _show, "verify": _verify, "race": _race, "record": _record}[action]
    try:
        return asyncio.run(_in_lab(args, scenario, text, work))
    except (netns.LabUnavailable, StoreError) as error:
        raise CommandError(str(error)) from error


def check_draft(args: argparse.Namespace) -> None:
    """Raises CommandError for speculative decoding that the reference engine does not do."""
    if args.windows and args.draft is None:
        raise CommandError("--windows verify draft tokens; set their number with --draft K:A:MS")
    if args.draft is not None and args.engine and "star" in args.engine:
        raise CommandError("the reference engine drafts for chains only; leave out --engine star or --draft")
    if max(args.windows or [1]) > 1 and args.client is None:
        raise CommandError(
            "with several windows in flight the client drafts while the stages compute; name it with --client"
        )


Work = Callable[["Lab", argparse.Namespace], Coroutine[Any, Any, int]]


async def _in_lab(args: argparse.Namespace, scenario: Scenario, text: str, work: Work) -> int:
    from swarm_lab.lab import Lab

    with contextlib.ExitStack() as stack:
        folder = Path(args.keep) if args.keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = args.model or scenario.model
        load_model(model)  # report a wrong name before anything is built
        _say(f"{scenario.title}: building {len(scenario.host)} hosts, a router and a collector")
        async with Lab(scenario, text, folder.absolute(), _say, model=model) as lab:
            _say(f"all hosts are up, the collector is at {lab.collector_address}")
            return await work(lab, args)


def _say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


# ---------------------------------------------------------------- the recorded run


def demo() -> int:
    """Show the recorded run in a dashboard of its own, from a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            database, moment = unpack(Path(folder))
        except (OSError, StoreError) as error:
            raise CommandError(f"the recording cannot be unpacked to {folder} ({error})") from error
        model = parse_scenario(scenario_text(RECORDED)).model
        words = ["--db", str(database), "--at", moment, "--model", model, "--weights", "fp32"]
        return subprocess.call([sys.executable, "-m", "swarmtop", *words])


def _replay(args: argparse.Namespace) -> int:
    """Unpack it and open it; without a terminal, or with --keep, only print where it is and how to open it."""
    with contextlib.ExitStack() as stack:
        folder = Path(args.keep) if args.keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            database, moment = unpack(folder)
        except (OSError, StoreError) as error:
            raise CommandError(f"the recording cannot be unpacked to {folder} ({error})") from error
        model = args.model or parse_scenario(scenario_text(RECORDED)).model
        words = ["--db", str(database), "--at", moment, "--model", model, "--weights", "fp32"]
        if args.keep:
            print(shlex.join(["swarmtop", *words]))
            return DONE
        if not _at_a_terminal():
            raise CommandError(
                "the dashboard needs a terminal; swarmtop lab --recording --keep DIR unpacks the database"
            )
        return subprocess.call([sys.executable, "-m", "swarmtop", *words])


async def _record(lab: Lab, args: argparse.Namespace) -> int:
    seconds = args.seconds or lab.scenario.duration_s
    target = Path(args.out or f"{args.scenario}.db.xz")
    from swarm_lab.verification.race import wait_until_measured

    await wait_until_measured(lab, load_model(args.model or lab.scenario.model), _say, RECORD_WAIT_S)
    _say(f"recording for {seconds:g} s")
    async with _timeline(lab):
        await asyncio.sleep(seconds)
    await lab.close()
    try:
        size = await asyncio.to_thread(pack, lab.database, target, lab.started_ns - round(RECORD_LEAD_S * NS_PER_S))
    except (OSError, sqlite3.Error) as error:
        raise CommandError(f"the recording cannot be written to {target} ({error})") from error
    print(f"{target}: {size / 1e3:.0f} kB")
    return DONE


# ---------------------------------------------------------------- the dashboard on top


async def _show(lab: Lab, args: argparse.Namespace) -> int:
    if lab.scenario.about:
        _say(lab.scenario.about)
    happened: list[str] = []
    lab.say = happened.append  # the screen is the dashboard's
    async with _timeline(lab):
        inside = netns.in_host(lab.hosts["collector"].net.namespace_fd)
        command = [sys.executable, "-m", "swarmtop", "--connect", lab.collector_address]
        command += ["--fingerprint", lab.collector_pin]  # each lab makes its own, at the same addresses
        command += ["--model", args.model or lab.scenario.model, "--weights", "fp32"]
        dashboard = await asyncio.to_thread(
            subprocess.Popen, command, env={**os.environ, "SWARMTOP_TOKEN": lab.token}, preexec_fn=inside
        )
        code = await asyncio.to_thread(dashboard.wait)
    for line in happened:
        _say(line)
    return code


@contextlib.asynccontextmanager
async def _timeline(lab: Lab) -> AsyncIterator[None]:
    playing = asyncio.create_task(lab.play_timeline())
    try:
        yield
    finally:
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing


# ---------------------------------------------------------------- verify and race


async def _verify(lab: Lab, args: argparse.Namespace) -> int:
    from swarm_lab.verification.report import verify_json, verify_run, verify_text

    seconds = args.seconds or lab.scenario.duration_s
    _say(f"measuring for {seconds:g} s")
    async with _timeline(lab):
        await asyncio.sleep(seconds)
    await lab.close()  # probes send what they hold, the truth is flushed
    rows = await asyncio.to_thread(verify_run, lab.scenario, lab.truth_file, lab.database)
    print(verify_json(rows) if args.json else verify_text(rows))
    return DONE if rows and all(row.ok for row in rows) else BREACHED


def _guessing(load: Workload, given: tuple[int, tuple[float, ...], float], windows: int) -> Workload:
    guesses, accept, each_ms = given
    return replace(
        load,
        draft_tokens=guesses,
        draft_accept=accept[0],
        draft_profile=accept if len(accept) > 1 else (),
        draft_ms=each_ms,
        windows=windows,
    )


async def _race(lab: Lab, args: argparse.Namespace) -> int:
    from swarm_lab.verification.race import (
        WEIGHTS,
        RaceError,
        best_placement,
        dump,
        race,
        race_object,
        race_text,
        random_placement,
        wait_until_measured,
    )

    model = load_model(args.model or lab.scenario.model)  # no timeline: what is predicted must hold when it is raced
    began = time.monotonic()
    swarm = await wait_until_measured(lab, model, _say)
    _say(f"measured after {time.monotonic() - began:.0f} s")
    rng = np.random.default_rng(args.seed)
    nodes = [host.name for host in lab.scenario.host if host.probe and host.name in swarm.names]
    objects = []
    for engine in args.engine or ["chain"]:
        context = args.prompt + args.steps // 2
        load = Workload(
            weights=WEIGHTS, engine=engine, context=context, prompt=args.prompt, client=args.client, seed=args.seed
        )
        loads = [load] if args.draft is None else [_guessing(load, args.draft, w) for w in args.windows or [1]]
        placements = [parse_placement(text, model, swarm, engine) for text in args.placement]
        placements += [random_placement(nodes, model, rng) for _ in range(args.random)]
        try:
            if args.best or not placements:
                placements.append(best_placement(swarm, model, load))
            for placement, asked in [
                (each, asked) for each in placements for asked in loads for _ in range(1 + args.again)
            ]:
                try:
                    run = await race(lab, swarm, model, placement, asked, args.steps)
                except NotMeasured as lacking:  # a pair behind NATs, say: no prediction, so no race
                    _say(f"not raced: {lacking}")
                    continue
                objects.append(race_object(run))
                if not args.json:
                    print(race_text(run), flush=True)
        except RaceError as error:
            raise CommandError(str(error)) from error
    if not objects:
        raise CommandError("nothing was raced: no placement could be predicted")
    if args.json:
        print(dump(objects))
    return DONE
