"""`swarmtop watch`: time a running engine at a set rate, and compare it with the prediction."""

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
from swarm_protocol.units import NS_PER_MS, NS_PER_S, iso_utc
from swarmtop.errors import DONE, UNREACHABLE, CommandError
from swarmtop.option_types import number, whole
from swarmtop.shared_options import add_question, add_source
from swarmtop.text import quantities
from swarmtop.text.json_csv import dumps
from swarmtop.watch.comparison import Compared, Comparison
from swarmtop.watch.completion_stream import Observation
from swarmtop.watch.request_schedule import Pace, PaceConfig
from swarmtop.watch.verdicts import fitness

if TYPE_CHECKING:
    from swarm_predict.explain.disagreement import Disagreement, Watched
    from swarm_predict.types import Prediction
    from swarmtop.watch.client import Client, Endpoint, Question
    from swarmtop.watch.metrics_client import MetricsClient
    from swarmtop.watch.petals import PetalsChat

EXAMPLE: Final = """
swarmtop watch http://127.0.0.1:8080 --requests 5
swarmtop watch http://10.0.0.5:8000 --every 300 --budget-tokens 50000 --connect 10.0.0.5:9470
swarmtop watch https://api.together.xyz --served-model meta-llama/Llama-3.3-70B --key-env TOGETHER_API_KEY
"""
KEY_VARIABLE: Final = "OPENAI_API_KEY"
PROMPT: Final = "Count upwards from one in words and do not stop before you are told to."
NOT_KEPT: Final = "these metrics have no first token, so the collector keeps no run of them"
AT_ONCE: Final = (
    "all {} tokens came at once, so there is no time per token, and the first came with the last: "
    "does a proxy in between buffer the stream?"
)
LATE: Final = (
    "{} of the first token's {} passed before the engine started on the prompt, which no prediction includes: other "
    "requests, or llama-server's prompt cache, which is read back over RPC (its -cram 0 turns it off)"
)
LATE_SHARE: Final = 0.3  # of a first token, and
LATE_MS: Final = 100.0  # longer than HTTP and a tokenizer take
_HEAD: Final = ("TIME", "FIRST TOKEN", "A TOKEN", "p50 … p95", "TOKENS", "SPEED")


@dataclass(frozen=True, slots=True)
class Seen:
    at_ns: int
    what: Observation
    compared: Compared | None = None  # None: what runs there was not given
    differs: Disagreement | None = None  # from the prediction, for longer than noise

    @property
    def predicted(self) -> Prediction | None:
        return self.compared.prediction if self.compared is not None else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        help="an OpenAI-compatible endpoint; wss://… a Petals chat; http://HOST:PORT/metrics of llama-server or vLLM: "
        "observe its load without asking for a token",
    )
    group = parser.add_argument_group("requests")
    group.add_argument(
        "--served-model", metavar="NAME", help="model name to request (default: the first that the engine lists)"
    )
    group.add_argument(
        "--text", default=PROMPT, help="prompt text; a number is prepended so that no prompt cache answers"
    )
    group.add_argument(
        "--max-tokens", type=whole(2, 100_000), default=64, metavar="N", help="maximum tokens per answer (64)"
    )
    group.add_argument(
        "--completions", action="store_true", help="use /completions, for engines without a chat template"
    )
    group.add_argument(
        "--every", type=number(0, 86_400), default=60.0, metavar="S", help="seconds between requests (60)"
    )
    group.add_argument(
        "--requests", type=whole(1, 1_000_000), metavar="N", help="stop after N requests (default: on Ctrl+C)"
    )
    group.add_argument("--budget-tokens", type=whole(1, 10**9), metavar="N", help="stop after N tokens")
    group.add_argument(
        "--key-env",
        default=KEY_VARIABLE,
        metavar="VARIABLE",
        help=f"environment variable that holds the API key ({KEY_VARIABLE})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per request")
    parser.add_argument(
        "--placement",
        metavar="'NODE:A-B,…'",
        help="the placement that the engine runs, to compare with its prediction (default: --running, else what the "
        "collector was told that runs)",
    )
    parser.add_argument(
        "--runs", metavar="FILE.toml", help="append each measurement to a file of runs, for swarmtop calibrate"
    )
    parser.add_argument("--label", metavar="NAME", help="label of the stored runs (default: the endpoint)")
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="record this endpoint as a service to compare with, not as this swarm's engine",
    )
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    from swarmtop.watch.client import Endpoint, Question, endpoint_base
    from swarmtop.watch.metrics_client import is_metrics, metrics_url
    from swarmtop.watch.petals import chat_url, is_petals

    args.placement = args.placement or args.running
    if args.runs and not args.placement:
        raise CommandError("a run without its placement calibrates nothing; give --placement with --runs")
    if args.baseline and args.placement:
        raise CommandError("a baseline is another service: it has no --placement of this swarm")
    address = chat_url if is_petals(args.url) else metrics_url if is_metrics(args.url) else endpoint_base
    base = address(args.url)
    endpoint = Endpoint(base, os.environ.get(args.key_env, ""), args.key_env)
    question = Question(args.served_model or "", args.text, args.max_tokens, chat=not args.completions)
    seen: list[Seen] = []
    try:
        return asyncio.run(_watch(args, endpoint, question, seen))
    except KeyboardInterrupt:
        if not args.json:
            _summary(seen)
        raise


def _client(args: argparse.Namespace, endpoint: Endpoint) -> Client | PetalsChat | MetricsClient:
    from swarmtop.watch.client import Client
    from swarmtop.watch.metrics_client import MetricsClient, is_metrics
    from swarmtop.watch.petals import PetalsChat, is_petals

    if is_metrics(args.url):
        return MetricsClient(endpoint, args.served_model or "")
    return PetalsChat(endpoint) if is_petals(endpoint.base) else Client(endpoint)


async def _watch(args: argparse.Namespace, endpoint: Endpoint, question: Question, seen: list[Seen]) -> int:
    from swarmtop.watch.client import RequestFailed
    from swarmtop.watch.metrics_client import Idle, is_metrics

    passive, idle, reached = is_metrics(args.url), False, False
    begun_ms = time.time_ns() // NS_PER_MS
    async with Comparison(args) as swarm, _client(args, endpoint) as client:
        if passive and not question.model:
            question = replace(question, model=await client.first_model())
        now_ns = time.perf_counter_ns()
        first_ns = now_ns + round(args.every * NS_PER_S) if passive else now_ns  # a reading covers the time before it
        pace = Pace(PaceConfig(args.every, args.requests, None if passive else args.budget_tokens), first_ns)
        while (due_ns := pace.next_ns()) is not None:
            if pace.requests == 0 and question.model and not args.json:
                print(_title(endpoint.shown, question, args, passive=passive), flush=True)
            await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / NS_PER_S))
            asked_ns = time.perf_counter_ns()
            try:
                if not question.model:
                    question = replace(question, model=await client.first_model())
                    if not args.json:
                        print(_title(endpoint.shown, question, args, passive=passive), flush=True)
                numbered = replace(question, prompt=f"[{_number(begun_ms + pace.requests)}] {question.prompt}")
                found, asked_ns = await client.ask(numbered)
            except RequestFailed as failure:
                pace.failed(asked_ns, time.perf_counter_ns(), failure.retry_after_s)
                print(f"swarmtop: {failure}", file=sys.stderr, flush=True)
                continue
            except Idle:
                pace.answered(asked_ns, 0)
                if not idle:
                    print("swarmtop: no token was requested since the last reading", file=sys.stderr, flush=True)
                idle = reached = True
                continue
            idle = False
            pace.answered(asked_ns, 0 if passive else found.tokens + (found.prompt_tokens or 0))
            at_ns = time.time_ns()
            seen.append(_with_difference(seen, Seen(at_ns, found, await swarm.of(found, at_ns)), swarm.earlier))
            _tell(args, endpoint.shown, question.model, seen)
            if _late(found) and not any(_late(earlier.what) for earlier in seen[:-1]):
                before, first = quantities.ms(found.before_ms), quantities.ms(found.ttft_ms)
                print(f"swarmtop: {LATE.format(before, first)}", file=sys.stderr, flush=True)
            if found.at_once and not any(earlier.what.at_once for earlier in seen[:-1]):
                print(f"swarmtop: {AT_ONCE.format(found.tokens)}", file=sys.stderr, flush=True)
            if (run := sample(args, endpoint.shown, question.model, seen[-1])) is not None:
                await swarm.keep(run)
            elif args.connect and len(seen) == 1:
                print(f"swarmtop: {NOT_KEPT}", file=sys.stderr, flush=True)
            if args.runs:
                _add_run(Path(args.runs), args, seen[-1])
    if not args.json:
        print(pace.over_because)
        _summary(seen)
    return DONE if seen or reached else UNREACHABLE


def _late(what: Observation) -> bool:
    """Return whether much of the first token went by before the engine began with the prompt."""
    before_ms, first_ms = what.before_ms, what.ttft_ms
    return before_ms is not None and first_ms is not None and before_ms > max(LATE_MS, LATE_SHARE * first_ms)


def _number(count: int) -> str:
    """Return digits that differ from those of other requests, and of other watches, as early as possible: an engine
    may have the tokens of a prompt up to the first that differs."""
    return str(count)[::-1]


def _with_difference(before: Sequence[Seen], last: Seen, earlier: Sequence[Watched]) -> Seen:
    """Return `last` with whether engine and prediction have differed for longer than noise."""
    from swarm_predict.explain.disagreement import disagreement

    rows = [s.compared.watched for s in (*before, last) if s.compared is not None and s.compared.watched is not None]
    return replace(last, differs=disagreement(rows, earlier))


def sample(args: argparse.Namespace, where: str, model: str, seen: Seen) -> RunSample | None:
    """Return the run as the collector stores it; None: no first token came."""
    from swarmtop.analysis.runs.engine_runs import placement_text

    what, first_ms = seen.what, seen.what.ttft_ms
    if first_ms is None:
        return None
    predicted = None if what.shared else seen.predicted  # of one stream: it says nothing of several
    speed = predicted.tokens_per_s if predicted is not None else None
    return RunSample(
        at_ns=seen.at_ns,
        endpoint=where,
        model=safe(model, 200),
        label=safe(args.label or "", 60),
        baseline=args.baseline,
        placement=placement_text(predicted.placement) if predicted is not None else "",
        prompt_tokens=what.prompt_tokens,
        tokens=what.tokens,
        counted=what.counted,
        ttft_ms=first_ms,
        tpot_ms=what.tpot_ms,
        tpot_p50_ms=what.tpot_p50_ms,
        tpot_p95_ms=what.tpot_p95_ms,
        predicted_p5=None if speed is None else speed.p5,
        predicted_p50=None if speed is None else speed.p50,
        predicted_p95=None if speed is None else speed.p95,
    )


# ---------------------------------------------------------------- output


def _title(where: str, question: Question, args: argparse.Namespace, *, passive: bool) -> str:
    if passive:
        return f"{where}, {safe(question.model, 80)}: its load, read every {args.every:g} s"
    until = f"{args.requests} times" if args.requests else "until Ctrl+C"
    budget = f", at most {args.budget_tokens} tokens" if args.budget_tokens else ""
    every = f"every {args.every:g} s, " if args.every and args.requests != 1 else ""
    return f"{where}, {safe(question.model, 80)}: {question.max_tokens} tokens, {every}{until}{budget}"


def _tell(args: argparse.Namespace, where: str, model: str, seen: Sequence[Seen]) -> None:
    """Print the last run, and the difference from the prediction if it is new."""
    from swarmtop.text.disagreement import (
        AGAIN,
        calibrate_command,
        disagreement_lines,
        disagreement_object,
        looks_text,
    )

    last, before = seen[-1], seen[-2].differs if len(seen) > 1 else None
    changed = last.differs is not None and last.differs.agreed
    calibrate = calibrate_command(args, last.what.tokens_per_s or 0.0, only_now=changed)
    if args.json:
        differs = disagreement_object(last.differs, calibrate)
        sys.stdout.write(dumps({**observation_object(where, model, last), "disagreement": differs}) + "\n")
    else:
        rows = [_HEAD, _cells(last)] if len(seen) == 1 else [_cells(last)]
        for row in rows:
            sys.stdout.write(
                "  ".join(quantities.pad(text, 13 if i else 8, right=i > 0) for i, text in enumerate(row)) + "\n"
            )
        if last.differs is not None and before is None:
            sys.stdout.write("".join(f"  {line}\n" for line in disagreement_lines(last.differs, calibrate)))
        elif last.differs is not None and before is not None and before.looks_like != last.differs.looks_like:
            sys.stdout.write(f"  {looks_text(last.differs)}\n")
        elif last.differs is None and before is not None:
            sys.stdout.write(f"  {AGAIN}\n")
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
        "cached_tokens": what.cached_tokens,
        "before_ms": what.before_ms,
        "tokens_per_s": what.tokens_per_s,
        "finished": what.finished,
        "answers": what.answers,
        "in_flight": what.in_flight,
        "draft": None
        if what.acceptance is None
        else {
            "guesses": what.acceptance.guesses,
            "accept": list(what.acceptance.chances),
            "steps": what.acceptance.drafts,
        },
        "predicted_tokens_per_s": None if speed is None else {"p5": speed.p5, "p50": speed.p50, "p95": speed.p95},
    }


def _summary(seen: Sequence[Seen]) -> None:
    speeds = [s.what.tokens_per_s for s in seen if s.what.tokens_per_s is not None]
    if not speeds:
        return
    waits = [s.what.ttft_ms for s in seen if s.what.ttft_ms is not None]
    first_ms = statistics.median(waits) if waits else None
    speed = statistics.median(speeds)
    lines = ["", f"median of {len(seen)}    first token {quantities.ms(first_ms)}, {quantities.rate(speed)}"]
    if seen[-1].predicted is not None:
        rate = seen[-1].predicted.tokens_per_s
        inside = "inside" if rate.p5 <= speed <= rate.p95 else "outside"
        off = (rate.p50 / speed - 1) * 100
        lines.append(
            f"predicted      {quantities.spread(rate.p5, rate.p50, rate.p95, 'tok/s')}: {off:+.1f} %, measured {inside}"
        )
    guessed = next((s.what.acceptance for s in reversed(seen) if s.what.acceptance is not None), None)
    if guessed is not None:
        lines.append(f"draft tokens   accepted as in --draft {guessed.option}:MS, with MS ms to draft one")
    for fit in fitness(first_ms, speed) if first_ms is not None else ():
        word = {True: "good", False: "no", None: "–"}[fit.good]
        lines.append(f"{fit.workload:<13}  {word:<5} {fit.why}")
    print("\n".join(lines))


# ---------------------------------------------------------------- for calibrate


def _add_run(path: Path, args: argparse.Namespace, seen: Seen) -> None:
    """One [[run]] more in the form that `swarmtop calibrate --runs` takes."""
    from swarmtop.parsed_options import prompt_tokens  # the predictor: not before the first answer

    speed = seen.what.tokens_per_s
    if speed is None:
        print("swarmtop: this answer came in one piece, so it has no speed to keep", file=sys.stderr, flush=True)
        return
    if seen.what.shared:
        shared = f"{seen.what.in_flight:.1f} requests shared the engine"
        print(f"swarmtop: {shared}, so this is not a run of one stream to keep", file=sys.stderr, flush=True)
        return
    asked_so = seen.what.answers is not None  # otherwise the number of answers behind the tokens is unknown
    context = (seen.what.prompt_tokens or prompt_tokens(args)) + seen.what.tokens // 2 if asked_so else args.context
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
