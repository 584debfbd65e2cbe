"""`swarmtop watch`: a running engine asked at a set pace, what it takes beside what was predicted."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm_protocol.text import safe
from swarm_protocol.units import NS_PER_S, iso_utc
from swarmtop import show
from swarmtop.args import add_question, add_source, number, whole
from swarmtop.errors import DONE, UNREACHABLE, CommandError
from swarmtop.plain import dumps
from swarmtop.watch.pace import Pace, PaceConfig
from swarmtop.watch.stream import Observation
from swarmtop.watch.workloads import fitness

if TYPE_CHECKING:
    from swarm_predict.types import Prediction
    from swarmtop.watch.client import Question

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="an OpenAI-compatible endpoint, with or without /v1")
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
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    from swarmtop.watch.client import Endpoint, Question, endpoint_base

    if args.runs and not args.placement:
        raise CommandError("a run without its placement calibrates nothing; give --placement with --runs")
    endpoint = Endpoint(endpoint_base(args.url), os.environ.get(args.key_env, ""), args.key_env)
    predicted = _predicted(args) if args.placement else None
    question = Question(args.served_model or "", args.text, args.max_tokens, chat=not args.completions)
    seen: list[Seen] = []
    try:
        return asyncio.run(_watch(args, endpoint, question, predicted, seen))
    except KeyboardInterrupt:
        if not args.json:
            _summary(seen, predicted)
        raise


def _predicted(args: argparse.Namespace) -> Prediction:
    from swarm_predict.placement import parse_placement
    from swarm_predict.predict import predict
    from swarmtop.commands.common import one_frame
    from swarmtop.config import load_model, open_source, workload

    model, load = load_model(args.model), workload(args)
    swarm = one_frame(open_source(args))
    return predict(swarm, model, parse_placement(args.placement, model, swarm, load.engine), load)


async def _watch(
    args: argparse.Namespace, endpoint: object, question: Question, predicted: Prediction | None, seen: list[Seen]
) -> int:
    from dataclasses import replace

    from swarmtop.watch.client import Client, Endpoint, RequestFailed

    assert isinstance(endpoint, Endpoint)
    config = PaceConfig(args.every, args.requests, args.budget_tokens)
    pace = Pace(config, time.perf_counter_ns())
    async with Client(endpoint) as client:
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
            seen.append(Seen(time.time_ns(), found))
            _tell(args, endpoint.shown, question.model, seen[-1], predicted, first=len(seen) == 1)
            if args.runs:
                _add_run(Path(args.runs), args, seen[-1])
    if not args.json:
        print(pace.over_because)
        _summary(seen, predicted)
    return DONE if seen else UNREACHABLE


# ---------------------------------------------------------------- told


def _title(where: str, question: Question, args: argparse.Namespace) -> str:
    until = f"{args.requests} times" if args.requests else "until Ctrl+C"
    budget = f", at most {args.budget_tokens} tokens" if args.budget_tokens else ""
    every = f"every {args.every:g} s, " if args.every and args.requests != 1 else ""
    return f"{where}, {safe(question.model, 80)}: {question.max_tokens} tokens, {every}{until}{budget}"


def _tell(
    args: argparse.Namespace, where: str, model: str, seen: Seen, predicted: Prediction | None, *, first: bool
) -> None:
    if args.json:
        sys.stdout.write(dumps(observation_object(where, model, seen, predicted)) + "\n")
    else:
        rows = [_HEAD, _cells(seen)] if first else [_cells(seen)]
        for row in rows:
            sys.stdout.write(
                "  ".join(show.pad(text, 13 if i else 8, right=i > 0) for i, text in enumerate(row)) + "\n"
            )
    sys.stdout.flush()


def _cells(seen: Seen) -> tuple[str, ...]:
    what = seen.what
    spread = (
        f"{show.figure(what.tpot_p50_ms)} … {show.figure(what.tpot_p95_ms)}" if what.tpot_p50_ms else show.UNMEASURED
    )
    count = f"{what.tokens}" if what.counted else f"~{what.tokens}"
    return (
        show.moment(seen.at_ns)[11:19],
        show.ms(what.ttft_ms),
        show.ms(what.tpot_ms),
        spread,
        count if what.finished else f"{count}, cut",
        show.rate(what.tokens_per_s),
    )


def observation_object(where: str, model: str, seen: Seen, predicted: Prediction | None) -> dict[str, object]:
    what = seen.what
    speed = predicted.tokens_per_s if predicted is not None else None
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


def _summary(seen: Sequence[Seen], predicted: Prediction | None) -> None:
    speeds = [s.what.tokens_per_s for s in seen if s.what.tokens_per_s is not None]
    if not speeds:
        return
    first_ms = statistics.median(s.what.ttft_ms for s in seen)
    speed = statistics.median(speeds)
    lines = ["", f"median of {len(seen)}    first token {show.ms(first_ms)}, {show.rate(speed)}"]
    if predicted is not None:
        told = predicted.tokens_per_s
        inside = "inside" if told.p5 <= speed <= told.p95 else "outside"
        off = (told.p50 / speed - 1) * 100
        lines.append(
            f"predicted      {show.spread(told.p5, told.p50, told.p95, 'tok/s')}: {off:+.1f} %, measured {inside}"
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
