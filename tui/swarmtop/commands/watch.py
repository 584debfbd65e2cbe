"""`swarmtop watch`: a running engine asked at a set pace, what it takes beside what was predicted."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm_protocol.messages.samples import RunSample
from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S, iso_utc
from swarmtop.args import add_question, add_source, number, whole
from swarmtop.errors import DONE, UNREACHABLE, CommandError
from swarmtop.sources.source import SourceError
from swarmtop.text import quantities
from swarmtop.text.plain import dumps
from swarmtop.watch.pace import Pace, PaceConfig
from swarmtop.watch.stream import Observation
from swarmtop.watch.workloads import fitness

if TYPE_CHECKING:
    from swarm_predict.types import Prediction
    from swarm_protocol.snapshot.swarm import Swarm
    from swarmtop.sources.source import Source
    from swarmtop.watch.client import Endpoint, Question

EXAMPLE: Final = """
swarmtop watch http://127.0.0.1:8080 --requests 5
swarmtop watch http://10.0.0.5:8000 --every 300 --budget-tokens 50000 --connect 10.0.0.5:9470
swarmtop watch https://api.together.xyz --served-model meta-llama/Llama-3.3-70B --key-env TOGETHER_API_KEY
"""
KEY_VARIABLE: Final = "OPENAI_API_KEY"
PROMPT: Final = "Count upwards from one in words and do not stop before you are told to."
_HEAD: Final = ("TIME", "FIRST TOKEN", "A TOKEN", "p50 … p95", "TOKENS", "SPEED")


@dataclass(frozen=True, slots=True)
class Seen:
    at_ns: int
    what: Observation
    predicted: Prediction | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="an OpenAI-compatible endpoint; wss://… a Petals chat")
    group = parser.add_argument_group("what is asked, how often")
    group.add_argument(
        "--served-model", metavar="NAME", help="as the engine calls it (default: the first that it lists)"
    )
    group.add_argument("--text", default=PROMPT, help="the prompt; a number is put before it, so that no cache answers")
    group.add_argument("--max-tokens", type=whole(2, 100_000), default=64, metavar="N", help="of each answer (64)")
    group.add_argument(
        "--completions", action="store_true", help="ask /completions: for engines without a chat template"
    )
    group.add_argument(
        "--every", type=number(0, 86_400), default=60.0, metavar="S", help="seconds between requests (60)"
    )
    group.add_argument("--requests", type=whole(1, 1_000_000), metavar="N", help="stop after N (default: until Ctrl+C)")
    group.add_argument("--budget-tokens", type=whole(1, 10**9), metavar="N", help="stop when N tokens were used")
    group.add_argument(
        "--key-env",
        default=KEY_VARIABLE,
        metavar="VARIABLE",
        help=f"where the key is, if one is needed ({KEY_VARIABLE})",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a request")
    parser.add_argument("--placement", metavar="'NODE:A-B,…'", help="what runs there: predicted beside measured")
    parser.add_argument("--runs", metavar="FILE.toml", help="add each answer to a file of runs, for swarmtop calibrate")
    parser.add_argument("--label", metavar="NAME", help="how its row is called (default: as the endpoint)")
    parser.add_argument(
        "--baseline", action="store_true", help="a service to compare with, not this swarm's own engine"
    )
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    from swarmtop.watch.client import Endpoint, Question, endpoint_base
    from swarmtop.watch.petals import chat_url, is_petals

    if args.runs and not args.placement:
        raise CommandError("a run without its placement calibrates nothing; give --placement with --runs")
    if args.baseline and args.placement:
        raise CommandError("a baseline is another service: it has no --placement of this swarm")
    base = chat_url(args.url) if is_petals(args.url) else endpoint_base(args.url)
    endpoint = Endpoint(base, os.environ.get(args.key_env, ""), args.key_env)
    question = Question(args.served_model or "", args.text, args.max_tokens, chat=not args.completions)
    seen: list[Seen] = []
    try:
        return asyncio.run(_watch(args, endpoint, question, seen))
    except KeyboardInterrupt:
        if not args.json:
            _summary(seen)
        raise


async def _watch(args: argparse.Namespace, endpoint: Endpoint, question: Question, seen: list[Seen]) -> int:
    from swarmtop.watch.client import Client, RequestFailed
    from swarmtop.watch.petals import PetalsChat, is_petals

    speaker = PetalsChat(endpoint) if is_petals(endpoint.base) else Client(endpoint)
    pace = Pace(PaceConfig(args.every, args.requests, args.budget_tokens), time.perf_counter_ns())
    async with Swarming(args) as swarm, speaker as client:
        while (due_ns := pace.next_ns()) is not None:
            await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / NS_PER_S))
            asked_ns = time.perf_counter_ns()
            try:
                if not question.model:
                    question = replace(question, model=await client.first_model())
                if pace.requests == 0 and not args.json:
                    print(_title(endpoint.shown, question, args), flush=True)
                numbered = replace(question, prompt=f"[{pace.requests + 1}] {question.prompt}")
                found, asked_ns = await client.ask(numbered)
            except RequestFailed as failure:
                pace.failed(asked_ns, time.perf_counter_ns(), failure.retry_after_s)
                print(f"swarmtop: {failure}", file=sys.stderr, flush=True)
                continue
            pace.answered(asked_ns, found.tokens + (found.prompt_tokens or 0))
            seen.append(Seen(time.time_ns(), found, await swarm.predicted()))
            _tell(args, endpoint.shown, question.model, seen[-1], first=len(seen) == 1)
            await swarm.keep(sample(args, endpoint.shown, question.model, seen[-1]))
            if args.runs:
                _add_run(Path(args.runs), args, seen[-1])
    if not args.json:
        print(pace.over_because)
        _summary(seen)
    return DONE if seen else UNREACHABLE


class Swarming:
    """The swarm that the engine runs on, where one is named: what it is predicted to give, and where runs are kept.

    A collector's newest state is predicted anew for each run, a file's or a recording's once.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._source: Source | None = None
        self._predicted: Prediction | None = None

    async def __aenter__(self) -> Swarming:
        from swarmtop.config import open_source
        from swarmtop.sources.source import first_frame

        if self._args.placement or self._args.connect:
            self._source = open_source(self._args)
            await self._predict(await first_frame(self._source))  # a wrong placement is told before anything is asked
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._source is not None:
            await self._source.close()

    async def predicted(self) -> Prediction | None:
        from swarmtop.sources.source import first_frame

        if self._args.placement and self._source is not None and self._source.mode == "live":
            await self._predict(await first_frame(self._source))
        return self._predicted

    async def keep(self, run: RunSample) -> None:
        """Gives the run to the collector, where one was named. Trouble there is told and ends nothing."""
        from swarmtop.sources.live import LiveSource

        if self._args.connect and isinstance(self._source, LiveSource):
            try:
                await self._source.report(run)
            except SourceError as error:
                print(f"swarmtop: {error}", file=sys.stderr, flush=True)

    async def _predict(self, swarm: Swarm) -> None:
        from swarm_predict.forecast.prediction import predict
        from swarm_predict.placement import parse_placement
        from swarmtop.config import question

        if not self._args.placement:
            return
        model, load = question(self._args)
        placement = parse_placement(self._args.placement, model, swarm, load.engine)
        self._predicted = await asyncio.to_thread(predict, swarm, model, placement, load)


def sample(args: argparse.Namespace, where: str, model: str, seen: Seen) -> RunSample:
    from swarmtop.analysis.engine_runs import placement_text

    what, speed = seen.what, seen.predicted.tokens_per_s if seen.predicted is not None else None
    return RunSample(
        at_ns=seen.at_ns,
        endpoint=where,
        model=safe(model, 200),
        label=safe(args.label or "", 60),
        baseline=args.baseline,
        placement=placement_text(seen.predicted.placement) if seen.predicted is not None else "",
        prompt_tokens=what.prompt_tokens,
        tokens=what.tokens,
        counted=what.counted,
        ttft_ms=what.ttft_ms,
        tpot_ms=what.tpot_ms,
        tpot_p50_ms=what.tpot_p50_ms,
        tpot_p95_ms=what.tpot_p95_ms,
        predicted_p5=None if speed is None else speed.p5,
        predicted_p50=None if speed is None else speed.p50,
        predicted_p95=None if speed is None else speed.p95,
    )


# ---------------------------------------------------------------- told


def _title(where: str, question: Question, args: argparse.Namespace) -> str:
    until = f"{args.requests} times" if args.requests else "until Ctrl+C"
    budget = f", at most {args.budget_tokens} tokens" if args.budget_tokens else ""
    every = f"every {args.every:g} s, " if args.every and args.requests != 1 else ""
    return f"{where}, {safe(question.model, 80)}: {question.max_tokens} tokens, {every}{until}{budget}"


def _tell(args: argparse.Namespace, where: str, model: str, seen: Seen, *, first: bool) -> None:
    if args.json:
        sys.stdout.write(dumps(observation_object(where, model, seen)) + "\n")
    else:
        rows = [_HEAD, _cells(seen)] if first else [_cells(seen)]
        for row in rows:
            sys.stdout.write(
                "  ".join(quantities.pad(text, 13 if i else 8, right=i > 0) for i, text in enumerate(row)) + "\n"
            )
    sys.stdout.flush()


def _cells(seen: Seen) -> tuple[str, ...]:
    what = seen.what
    spread = (
        f"{quantities.figure(what.tpot_p50_ms)} … {quantities.figure(what.tpot_p95_ms)}"
        if what.tpot_p50_ms
        else quantities.UNMEASURED
    )
    count = f"{what.tokens}" if what.counted else f"~{what.tokens}"
    return (
        quantities.moment(seen.at_ns)[11:19],
        quantities.ms(what.ttft_ms),
        quantities.ms(what.tpot_ms),
        spread,
        count if what.finished else f"{count}, cut",
        quantities.rate(what.tokens_per_s),
    )


def observation_object(where: str, model: str, seen: Seen) -> dict[str, object]:
    what = seen.what
    speed = seen.predicted.tokens_per_s if seen.predicted is not None else None
    return {
        "time": iso_utc(seen.at_ns),
        "endpoint": where,
        "model": model,
        "ttft_ms": what.ttft_ms,
        "tpot_ms": what.tpot_ms,
        "tpot_p50_ms": what.tpot_p50_ms,
        "tpot_p95_ms": what.tpot_p95_ms,
        "tokens": what.tokens,
        "tokens_counted_by_engine": what.counted,
        "prompt_tokens": what.prompt_tokens,
        "tokens_per_s": what.tokens_per_s,
        "finished": what.finished,
        "predicted_tokens_per_s": None if speed is None else {"p5": speed.p5, "p50": speed.p50, "p95": speed.p95},
    }


def _summary(seen: Sequence[Seen]) -> None:
    speeds = [s.what.tokens_per_s for s in seen if s.what.tokens_per_s is not None]
    if not speeds:
        return
    first_ms = statistics.median(s.what.ttft_ms for s in seen)
    speed = statistics.median(speeds)
    lines = ["", f"median of {len(seen)}    first token {quantities.ms(first_ms)}, {quantities.rate(speed)}"]
    if seen[-1].predicted is not None:
        told = seen[-1].predicted.tokens_per_s
        inside = "inside" if told.p5 <= speed <= told.p95 else "outside"
        off = (told.p50 / speed - 1) * 100
        lines.append(
            f"predicted      {quantities.spread(told.p5, told.p50, told.p95, 'tok/s')}: {off:+.1f} %, measured {inside}"
        )
    for fit in fitness(first_ms, speed):
        word = {True: "good", False: "no", None: "–"}[fit.good]
        lines.append(f"{fit.workload:<13}  {word:<5} {fit.why}")
    print("\n".join(lines))


# ---------------------------------------------------------------- for calibrate


def _add_run(path: Path, args: argparse.Namespace, seen: Seen) -> None:
    """One [[run]] more in the form that `swarmtop calibrate --runs` takes."""
    speed = seen.what.tokens_per_s
    if speed is None:
        print("swarmtop: this answer came in one piece, so it has no speed to keep", file=sys.stderr, flush=True)
        return
    context = (seen.what.prompt_tokens or args.prompt) + seen.what.tokens // 2
    lines = [
        "",
        "[[run]]",
        f'name = "{iso_utc(seen.at_ns)}"',
        f'placement = "{args.placement}"',
        f"tokens_per_s = {speed:.4f}",
        f"context = {context}",
    ]
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise CommandError(f"cannot write {safe(str(path))} ({error.strerror}); correct --runs") from error
