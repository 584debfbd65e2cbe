"""`swarmtop calibrate`: learn the speeds of machines, models and engines from observed runs, and write them to a file.

Runs narrow what published results say of machines like these. With `--fit` or `--priors none` they become constants
of one engine instead, beside data sheets at their word.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from swarm_predict.calibration import calibration_file
from swarm_predict.calibration.fit import ORDER, Constant, Observed, encode, fit, observed
from swarm_predict.calibration.runs import ObservedRun, Refused, observe
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.kv_cache_formats import with_kv_cache
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import canonical, weight_format
from swarm_predict.options import Engine
from swarm_predict.placement import parse_placement
from swarm_predict.priors.posterior import NEUTRAL, fitted
from swarm_predict.types import PredictError, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.text import safe
from swarm_protocol.toml_errors import toml_error
from swarm_protocol.units import iso_utc
from swarmtop.commands.common import one_frame
from swarmtop.errors import DONE, CommandError
from swarmtop.file_arguments import read_named, write_whole
from swarmtop.parsed_options import load_model, open_source, read_learnt, workload
from swarmtop.shared_options import add_question, add_source
from swarmtop.sources.swarmfile import SwarmFileSource
from swarmtop.text import calibration as calibration_text
from swarmtop.text.json_csv import dumps

EXAMPLE: Final = """
swarmtop calibrate --swarm examples/garage.toml --engine petals --run "attic-3090:0-21,lab-a4000:22-31=9.1"
swarmtop calibrate --swarm examples/garage.toml --engine petals --runs observed.toml --out petals.json
"""
MAX_RUNS_BYTES: Final = 1 << 20


class _Run(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One [[run]] of a file. What it leaves out is as the command line says."""

    placement: str
    tokens_per_s: Annotated[float, Meta(gt=0)]
    name: str | None = None
    swarm: str | None = None  # a swarm file of its own, beside this one
    model: str | None = None
    weights: str | None = None
    engine: Engine | None = None
    engine_context: Annotated[int, Meta(ge=0)] | None = msgspec.field(name="context", default=None)
    batch: Annotated[int, Meta(ge=1)] | None = None
    client: str | None = None


class _Runs(msgspec.Struct, forbid_unknown_fields=True):
    run: tuple[_Run, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("observed runs")
    group.add_argument(
        "--run",
        action="append",
        default=[],
        metavar="'NODE:A-B,…=TOKENS/S'",
        help="a placement and the speed of one stream on it (repeatable)",
    )
    group.add_argument("--runs", metavar="FILE.toml", help="[[run]] tables: placement, tokens_per_s, swarm, context, …")
    group.add_argument("--observed", action="store_true", help="use the runs recorded by swarmtop watch --placement")
    group.add_argument(
        "--fit",
        metavar="WHAT",
        help=f"fit constants of the engine instead (any of {','.join(ORDER)}), which absorb all time beyond "
        "data sheets and paths",
    )
    group.add_argument("--out", metavar="FILE", help="file to write, for --calibration")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    model = with_kv_cache(load_model(args.model), args.kv_cache)
    constants = args.fit is not None or args.priors == "none"
    alone = argparse.Namespace(**{**vars(args), "calibration": None})
    load = dataclasses.replace(
        workload(alone), compute_scale=1.0, hop_overhead_ms=0.0, client_ms=0.0, draws=1000,
        priors=NEUTRAL if constants else None,
    )  # fmt: skip
    listed = [_spelled(text) for text in args.run] + (_read(Path(args.runs)) if args.runs else [])
    base = Path(args.runs).parent if args.runs else Path()
    needed = args.observed or not listed or any(entry.swarm is None for entry in listed)
    usual = one_frame(open_source(args)) if needed else None
    if args.observed:
        assert usual is not None
        listed += _watched(usual)
    if constants and args.calibration:
        raise CommandError("constants are fitted to the runs given; leave out --fit, or --calibration")
    if constants and any(entry.model or entry.weights or entry.engine for entry in listed):
        raise CommandError("constants apply to one model, format and engine; leave out --fit to learn from several")
    runs: list[_Asked] = []
    for number, entry in enumerate(listed, 1):
        swarm = usual if entry.swarm is None else one_frame(SwarmFileSource(base / entry.swarm))
        assert swarm is not None
        label = entry.name or f"run {number}"
        again = sum(each.label.partition(" (")[0] == label for each in runs)
        runs.append(_asked(entry, f"{label} ({again + 1})" if again else label, swarm, model, load))
    return _constants(args, model, load, runs) if constants else _learn(args, runs)


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A run, as a question of its own."""

    label: str
    tokens_per_s: float
    placement: str
    swarm: Swarm
    model: ModelShape
    workload: Workload


def _asked(entry: _Run, label: str, swarm: Swarm, model: ModelShape, load: Workload) -> _Asked:
    """Raises CommandError for a model or format that is none."""
    try:
        model = model if entry.model is None else with_kv_cache(load_model(entry.model), model.kv_cache)
        weights = load.weights if entry.weights is None else canonical(entry.weights)
        weight_format(weights)
    except PredictError as error:
        raise CommandError(f"{safe(label)}: {error}") from error
    asked = dataclasses.replace(
        load,
        weights=weights,
        engine=load.engine if entry.engine is None else entry.engine,
        context=load.context if entry.engine_context is None else entry.engine_context,
        batch=load.batch if entry.batch is None else entry.batch,
        client=load.client if entry.client is None else entry.client,
    )
    return _Asked(label, entry.tokens_per_s, entry.placement, swarm, model, asked)


def _learn(args: argparse.Namespace, runs: Sequence[_Asked]) -> int:
    """Learn from the runs; write the result to --out and print it."""
    before = fitted()
    kept = [run for each in read_learnt(args.calibration or ()) for run in each.runs]
    found = calibration_file.learn([*kept, *(_run_of(each) for each in runs)], before)
    after = calibration_file.priors_of([found], before)
    if args.out:
        write_whole(Path(args.out), calibration_file.encode(found), "--out")
    changes = calibration_file.changes(found, before, after)
    if args.json:
        sys.stdout.write(dumps(calibration_text.learnt_object(found, changes)) + "\n")
    else:
        sys.stdout.write(calibration_text.learnt_text(found, changes, args.out))
    return DONE


def _run_of(asked: _Asked) -> ObservedRun | Refused:
    try:
        placement = parse_placement(asked.placement, asked.model, asked.swarm, asked.workload.engine)
        return observe(asked.label, asked.tokens_per_s, asked.swarm, asked.model, placement, asked.workload)
    except PredictError as error:
        raise CommandError(f"{safe(asked.label)}: {error}") from error


def _constants(args: argparse.Namespace, model: ModelShape, load: Workload, runs: Sequence[_Asked]) -> int:
    """Fit constants for all time beyond data sheets and paths."""
    seen = [_observe(each) for each in runs]
    found = fit(seen, load.engine, model.name, load.weights, _wanted(args.fit))
    if args.out:
        write_whole(Path(args.out), encode(found), "--out")
    text = calibration_text.constants_text(found, args.out)
    sys.stdout.write(dumps(msgspec.to_builtins(found)) + "\n" if args.json else text)
    return DONE


def _watched(swarm: Swarm) -> list[_Run]:
    """The runs of this swarm that say what ran and how fast. Raises CommandError if there is none."""
    found = [
        _Run(
            placement=run.placement,
            tokens_per_s=run.tokens_per_s,
            name=iso_utc(run.at_ns)[:19].replace("T", " "),
            engine_context=(run.prompt_tokens or 0) + run.tokens // 2,
        )
        for run in swarm.runs
        if run.placement and not run.baseline and run.tokens_per_s
    ]
    if not found:
        raise CommandError(
            f"no engine was watched on {safe(swarm.source)}; swarmtop watch URL --connect … --placement … does"
        )
    return found


def _spelled(text: str) -> _Run:
    placement, equals, speed = text.rpartition("=")
    try:
        tokens_per_s = float(speed)
    except ValueError:
        tokens_per_s = -1.0
    if not equals or not tokens_per_s > 0:
        raise CommandError(f"--run takes PLACEMENT=TOKENS_PER_S as 'a:0-39,b:40-79=1.7', not {safe(text, 80)!r}")
    return _Run(placement=placement, tokens_per_s=tokens_per_s)


def _read(path: Path) -> list[_Run]:
    data = read_named(path, "--runs")
    if len(data) > MAX_RUNS_BYTES:
        raise CommandError(f"{safe(str(path))} has {len(data)} bytes; a list of runs has a few kilobytes")
    try:
        text = data.decode()
        return list(msgspec.toml.decode(text, type=_Runs).run)
    except UnicodeDecodeError as error:
        raise CommandError(f"{safe(str(path))} is not UTF-8 text; correct --runs") from error
    except msgspec.DecodeError as error:
        raise CommandError(f"{safe(str(path))}: {safe(toml_error(error, text, _Runs), 400)}; correct --runs") from error


def _wanted(text: str | None) -> tuple[Constant, ...] | None:
    if text is None:
        return None
    named = {part.strip() for part in text.split(",")}
    if not named <= set(ORDER):
        raise CommandError(f"--fit takes {', '.join(ORDER)}, not {safe(text, 60)!r}")
    return tuple(constant for constant in ORDER if constant in named)


def _observe(asked: _Asked) -> Observed:
    try:
        placement = parse_placement(asked.placement, asked.model, asked.swarm, asked.workload.engine)
        found = predict(asked.swarm, asked.model, placement, asked.workload)
    except PredictError as error:
        raise CommandError(f"{safe(asked.label)}: {error}") from error
    return observed(asked.label, asked.tokens_per_s, found, found.hops)
