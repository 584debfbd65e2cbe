"""`swarmtop calibrate`: an engine's constants, fitted to observed runs and kept in a file with what they leave over."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from swarm_predict.calibration.fit import ORDER, Calibration, Constant, Observed, encode, fit, observed
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import parse_placement
from swarm_predict.types import PredictError, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.text import safe
from swarm_protocol.units import iso_utc
from swarmtop.args import add_question, add_source
from swarmtop.commands.common import one_frame
from swarmtop.config import open_source, question
from swarmtop.errors import DONE, CommandError
from swarmtop.sources.swarmfile import SwarmFileSource
from swarmtop.text import quantities
from swarmtop.text.plain import dumps

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
    engine_context: Annotated[int, Meta(ge=0)] | None = msgspec.field(name="context", default=None)
    batch: Annotated[int, Meta(ge=1)] | None = None
    client: str | None = None


class _Runs(msgspec.Struct, forbid_unknown_fields=True):
    run: tuple[_Run, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what was observed")
    group.add_argument(
        "--run",
        action="append",
        default=[],
        metavar="'NODE:A-B,…=TOKENS/S'",
        help="a placement, and what one stream got there; may be given again",
    )
    group.add_argument("--runs", metavar="FILE.toml", help="[[run]] tables: placement, tokens_per_s, swarm, context, …")
    group.add_argument("--observed", action="store_true", help="what swarmtop watch --placement has measured")
    group.add_argument(
        "--fit",
        metavar="WHAT",
        help=f"which constants, of {','.join(ORDER)} (default: as many as the runs can tell apart)",
    )
    group.add_argument("--out", metavar="FILE", help="where the constants go (for --calibration)")
    parser.add_argument("--json", action="store_true", help="the constants as JSON on stdout")
    add_source(parser)
    add_question(parser)


def run(args: argparse.Namespace) -> int:
    model, load = question(args)
    load = dataclasses.replace(load, compute_scale=1.0, hop_overhead_ms=0.0, client_ms=0.0, model_error=0.0, draws=1000)
    listed = [_spelled(text) for text in args.run] + (_read(Path(args.runs)) if args.runs else [])
    base = Path(args.runs).parent if args.runs else Path()
    needed = args.observed or not listed or any(entry.swarm is None for entry in listed)
    usual = one_frame(open_source(args)) if needed else None
    if args.observed:
        assert usual is not None
        listed += _watched(usual)
    seen: list[Observed] = []
    for number, entry in enumerate(listed, 1):
        swarm = usual if entry.swarm is None else one_frame(SwarmFileSource(base / entry.swarm))
        assert swarm is not None
        seen.append(_observe(entry, entry.name or f"run {number}", swarm, model, load))
    found = fit(seen, load.engine, model.name, load.weights, _wanted(args.fit))
    if args.out:
        _write(Path(args.out), encode(found))
    sys.stdout.write(dumps(msgspec.to_builtins(found)) + "\n" if args.json else text_of(found, args.out))
    return DONE


def _watched(swarm: Swarm) -> list[_Run]:
    """The runs of this swarm that say what ran and how fast. Raises CommandError where there is none."""
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
            f"nobody watched an engine on {safe(swarm.source)}; swarmtop watch URL --connect … --placement … does"
        )
    return found


def _spelled(text: str) -> _Run:
    placement, equals, speed = text.rpartition("=")
    try:
        tokens_per_s = float(speed)
    except ValueError:
        tokens_per_s = -1.0
    if not equals or not tokens_per_s > 0:
        raise CommandError(f"--run takes PLACEMENT=TOKENS_PER_S as 'a:0-39,b:40-79=1.7' ({safe(text, 80)!r} is none)")
    return _Run(placement=placement, tokens_per_s=tokens_per_s)


def _read(path: Path) -> list[_Run]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {safe(str(path))} ({error.strerror}); correct --runs") from error
    if len(data) > MAX_RUNS_BYTES:
        raise CommandError(f"{safe(str(path))} has {len(data)} bytes; a list of runs has a few kilobytes")
    try:
        return list(msgspec.toml.decode(data, type=_Runs).run)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CommandError(f"{safe(str(path))}: {safe(str(error))}; correct --runs") from error


def _wanted(text: str | None) -> tuple[Constant, ...] | None:
    if text is None:
        return None
    named = {part.strip() for part in text.split(",")}
    if not named <= set(ORDER):
        raise CommandError(f"--fit takes {', '.join(ORDER)} ({safe(text, 60)!r} is none of them)")
    return tuple(constant for constant in ORDER if constant in named)


def _observe(entry: _Run, label: str, swarm: Swarm, model: ModelShape, load: Workload) -> Observed:
    asked = dataclasses.replace(
        load,
        context=load.context if entry.engine_context is None else entry.engine_context,
        batch=load.batch if entry.batch is None else entry.batch,
        client=load.client if entry.client is None else entry.client,
    )
    try:
        placement = parse_placement(entry.placement, model, swarm, asked.engine)
        found = predict(swarm, model, placement, asked)
    except PredictError as error:
        raise CommandError(f"{safe(label)}: {error}") from error
    return observed(label, entry.tokens_per_s, found, found.hops)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: a reader never finds half a file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CommandError(f"cannot write {safe(str(path))} ({error.strerror}); correct --out") from error


def text_of(found: Calibration, out: str | None) -> str:
    held = {"hop": "software per hop", "compute": "compute, measured / predicted", "client": "client, each step"}
    values = {
        "hop": quantities.ms(found.hop_overhead_ms),
        "compute": f"× {found.compute_scale:.3g}",
        "client": quantities.ms(found.client_ms),
    }
    rows = [(held[c], values[c], "fitted" if c in found.fitted else "not fitted") for c in ORDER]
    wide = [max(quantities.width(row[i]) for row in rows) for i in range(2)]
    lines = [f"{safe(found.model)} {found.weights}, {found.engine}", ""]
    lines += [f"  {quantities.pad(a, wide[0])}  {quantities.pad(b, wide[1], right=True)}  {c}" for a, b, c in rows]
    lines += ["", "runs"]
    names = max(quantities.width(safe(r.run)) for r in found.runs)
    lines += [
        f"  {quantities.pad(safe(r.run), names)}  observed {quantities.ms(r.observed_ms)}, "
        f"fitted {quantities.ms(r.predicted_ms)}, "
        f"{r.relative:+.1%}"
        for r in found.runs
    ]
    if found.contradictions:
        lines += ["", "contradictions", *(f"  {safe(line, 300)}" for line in found.contradictions)]
    if out:
        lines += ["", f"written to {safe(out)}; use it with --calibration {safe(out)}"]
    return "\n".join(lines) + "\n"
