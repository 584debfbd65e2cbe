"""Turn parsed options into a question (model, workload) and its data source."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm_predict.model.catalogue import model_named
from swarm_predict.model.kv_cache_formats import with_kv_cache
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import canonical, weight_format
from swarm_predict.types import BadPlacement, Engine, PredictError, UnknownModel, Workload
from swarm_protocol.addresses import DEFAULT_PORT
from swarm_protocol.messages.running import Running, tidy
from swarm_protocol.swarm_files.swarm_file import ModelTable, NamedModel, SwarmFileError, parse_model
from swarm_protocol.text import safe
from swarmtop.analysis.open_question import CompleteQuestion, OpenQuestion
from swarmtop.errors import CommandError
from swarmtop.file_arguments import read_named
from swarmtop.option_types import LENGTHS
from swarmtop.shared_options import DEFAULT_MODEL

if TYPE_CHECKING:
    from swarm_predict.calibration.calibration_file import Learnt
    from swarm_predict.calibration.fit import Calibration
    from swarm_predict.priors.posterior import Priors
    from swarm_predict.serving.lengths import Lengths
    from swarm_protocol.snapshot.swarm import Swarm
    from swarmtop.sources.source import Source

DEFAULT_WEIGHTS: Final = "fp16"
DEFAULT_ENGINE: Final[Engine] = "chain"
LOOPBACK: Final = "127.0.0.1"
MIN_ERROR: Final = 0.05  # of a calibration, however well its few runs agree: engines repeat no better


def load_model(text: str | None) -> ModelShape:
    """Return the model of a name or a file: config.json, a folder, Hugging Face's cache, GGUF.

    Raises UnknownModel and, for a file that cannot be read, CommandError.
    """
    text = text or DEFAULT_MODEL
    path = Path(text).expanduser()
    named_so = path.suffix.lower() in (".json", ".gguf")
    if named_so or path.is_dir() or (path.is_file() and len(path.parts) > 1):
        from swarmtop.model_files import model_at  # most people name a model of the catalogue

        if path.exists() or not _is_hub_id(text):
            return model_at(path)
    try:
        known = model_named(text)
    except UnknownModel:
        if (cached := _cached(text)) is not None:
            return cached
        raise
    guessed = known.name == text.strip() and bool(known.notes)
    return (_cached(text) if guessed else None) or known


def _cached(text: str) -> ModelShape | None:
    from swarmtop.model_files import cached_model  # not for names that are known anyway

    return cached_model(text.strip())


def _is_hub_id(text: str) -> bool:
    """org/name.gguf is no file that is missing, but a repository on Hugging Face."""
    return text.count("/") == 1 and not text.startswith((".", "/", "~")) and not Path(text).parent.exists()


def workload(args: argparse.Namespace) -> Workload:
    """Raises CommandError for a calibration that cannot be used."""
    engine: Engine = args.engine or DEFAULT_ENGINE
    constants, priors = calibrated(args, engine)
    if constants is not None or args.priors == "none":
        from swarm_predict.priors.posterior import NEUTRAL  # brings the fitted ones, which a start does not need

        priors = NEUTRAL  # constants hold everything that their runs took beyond data sheets and paths
    guesses, accept, each_ms = args.draft
    branches, further = args.tree
    return Workload(
        weights=canonical(args.weights) if args.weights is not None else DEFAULT_WEIGHTS,
        engine=engine,
        context=args.context,
        prompt=prompt_tokens(args),
        cached_prompt=args.cached_prompt,
        batch=args.batch,
        streams=args.streams or 1,
        activations=args.activations,
        client=args.client,
        compute_scale=_given(args.compute_scale, constants.compute_scale if constants else 1.0),
        hop_overhead_ms=_given(args.hop_overhead_ms, constants.hop_overhead_ms if constants else 0.0),
        client_ms=_given(args.client_ms, constants.client_ms if constants else 0.0),
        model_error=max(constants.error, MIN_ERROR) if constants else 0.0,
        prefill_chunk=args.prefill_chunk,
        all_reduce=args.all_reduce,
        offload_gbps=args.offload_gbps,
        offload_cache=args.offload_cache,
        draft_tokens=guesses,
        draft_accept=accept[0],
        draft_profile=accept if len(accept) > 1 else (),
        draft_ms=each_ms,
        windows=args.windows or 1,
        tree_branches=branches,
        tree_accept=further,
        redundancy=args.redundancy,
        spot_check=args.spot_check,
        proof_ms=args.proof_ms,
        seed=args.seed,
        priors=priors,
    )


def prompt_tokens(args: argparse.Namespace) -> int:
    """Return the mean number of tokens of a prompt. Raises CommandError for a file of lengths that cannot be used."""
    return args.prompt if isinstance(args.prompt, int) else max(1, round(lengths_of(args.prompt, "--prompt").mean))


def lengths_of(given: int | Lengths | str, option: str) -> Lengths:
    """Return the lengths of --prompt or --generate. Raises CommandError for a file that cannot be read, or holds other
    things."""
    from swarm_predict.serving import lengths  # only many users have several

    if isinstance(given, lengths.Lengths):
        return given
    if isinstance(given, int):
        return lengths.exactly(given)
    try:
        words = Path(given).expanduser().read_text("utf-8").split()
        return lengths.listed(float(word) for word in words)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise CommandError(f"cannot read {safe(given, 60)} ({reason}); {option} takes {LENGTHS}") from error
    except PredictError as error:
        raise CommandError(f"{safe(given, 60)}: {safe(str(error))}; correct {option}") from error
    except ValueError as error:
        raise CommandError(f"{safe(given, 60)} has {safe(str(error), 80)}; {option} takes {LENGTHS}") from error


def open_question(args: argparse.Namespace) -> OpenQuestion:
    """Return the question of the options, with its open parts; a checkpoint's own format counts as chosen.

    Raises UnknownModel and PredictError, and CommandError for a file that cannot be used.
    """
    model, load = _asked_model(args), workload(args)
    if args.weights is None and model is not None and model.weights:
        load = replace(load, weights=model.weights)
    weight_format(load.weights)  # report a wrong name before anything is planned
    return OpenQuestion(
        model=None if model is None else with_kv_cache(model, args.kv_cache),
        kv_cache=args.kv_cache,
        workload=load,
        weights_are_chosen=args.weights is not None or bool(model is not None and model.weights),
        engine_is_chosen=args.engine is not None or bool(args.calibration),
    )


def _asked_model(args: argparse.Namespace) -> ModelShape | None:
    """Return the model of --model; without it, of the [model] table of the swarm file. None: left open."""
    own = _table_of(getattr(args, "swarm", None))
    if isinstance(own, NamedModel):
        model = load_model(args.model or own.name)
        return replace(model, weights=canonical(own.weights)) if own.weights and args.model is None else model
    if own is not None and args.model in (None, own.name):
        from swarm_predict.model.custom_model import from_table  # only for unknown families

        return from_table(own)
    return load_model(args.model) if args.model is not None else None


def _table_of(swarm: str | None) -> ModelTable | NamedModel | None:
    if swarm is None:
        return None
    try:
        text = Path(swarm).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None  # the source that reads it says what is wrong
    if "[model]" not in text.replace(" ", ""):
        return None
    try:
        return parse_model(text)
    except SwarmFileError as error:
        raise CommandError(f"{safe(swarm)}: {safe(str(error))}") from error


def running_option(args: argparse.Namespace) -> Running | None:
    """Return the placement of --running. Raises BadPlacement if it is not a placement."""
    if args.running is None:
        return None
    placement = tidy(args.running)
    if placement is None:
        raise BadPlacement(f"--running takes a placement like a:0-39,b:40-79, not {safe(args.running, 60)!r}")
    return Running(placement, args.engine or "", source="--running")


def question(args: argparse.Namespace, swarm: Swarm) -> tuple[Swarm, CompleteQuestion]:
    """Return the swarm with the placement of --running, and the question about it. Raises BadPlacement for a --running
    that is not a placement of this model on these nodes."""
    from swarmtop.analysis.default_model import complete  # the planner: the dashboard paints first
    from swarmtop.analysis.runs.running import with_running

    stated = running_option(args)
    swarm = with_running(swarm, stated)
    found = complete(swarm, open_question(args))
    if stated is not None:
        from swarm_predict.placement import parse_placement

        parse_placement(stated.placement, found.model, swarm, found.workload.engine)
    return swarm, found


def _given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def calibrated(args: argparse.Namespace, engine: str) -> tuple[Calibration | None, Priors | None]:
    """Return the contents of --calibration: constants of an engine, or priors that runs have narrowed; None for
    neither.

    Raises CommandError for a file that cannot be read or used with this engine.
    """
    if not args.calibration:
        return None, None
    from swarm_predict.calibration.calibration_file import priors_of
    from swarm_predict.calibration.fit import Calibration
    from swarm_predict.priors.posterior import fitted

    first = args.calibration[0]
    if len(args.calibration) == 1 and isinstance(found := _read_calibration(first), Calibration):
        _refuse_other_engine(first, (found.engine,), engine)
        return found, None
    runs = read_learnt(args.calibration)
    if args.priors == "none":
        raise CommandError("a calibration narrows what published results say; leave out --priors none")
    if args.engine is None:  # applying them to the default engine, which nobody chose, would surprise
        _refuse_other_engine(first, tuple(e for each in runs for e in each.engines), engine)
    return None, priors_of(runs, fitted())


def read_learnt(names: Sequence[str]) -> list[Learnt]:
    """The runs of these files. Raises CommandError for one that cannot be read, or that holds constants."""
    from swarm_predict.calibration.calibration_file import Learnt

    found = []
    for name in names:
        one = _read_calibration(name)
        if not isinstance(one, Learnt):
            raise CommandError(f"{safe(name)} holds constants, which do not add up with runs; use it alone")
        found.append(one)
    return found


def _read_calibration(name: str) -> Calibration | Learnt:
    from swarm_predict.calibration.calibration_file import decode

    data = read_named(Path(name), "--calibration")
    try:
        return decode(data)
    except PredictError as error:
        raise CommandError(f"{safe(name)}: {error}") from error


def _refuse_other_engine(name: str, engines: tuple[str, ...], engine: str) -> None:
    if engine not in engines:
        raise CommandError(
            f"{safe(name)} holds runs of {safe(', '.join(dict.fromkeys(engines)))}, which say little of {engine}; "
            f"add --engine {safe(engines[0])}, or calibrate {engine}"
        )


def open_source(args: argparse.Namespace, *, for_screen: bool = False) -> Source:
    """Open the source of --swarm, --nodes, --db or --connect; without any, the collector on this machine.

    Raises SourceError if a file is unusable. A collector is not contacted before the first frame.
    `for_screen`: for the dashboard.
    """
    if args.at is not None and args.db is None:
        raise CommandError("--at stands in the past of a database; give it with --db FILE")
    if getattr(args, "swarm", None) is not None:
        from swarmtop.sources.swarmfile import SwarmFileSource

        return SwarmFileSource(Path(args.swarm))
    if getattr(args, "nodes", None) is not None:
        from swarmtop.sources.swarmfile import NodesSource

        return NodesSource(args.nodes)
    if args.db is not None:
        from swarmtop.sources.replay import ReplaySource

        return ReplaySource(args.db, args.at, for_screen=for_screen)
    from swarmtop.local.own_collector import operator_on
    from swarmtop.sources.live import LiveSource

    host, port = args.connect or (LOOPBACK, DEFAULT_PORT)
    return LiveSource(
        host,
        port,
        token=args.token,
        pin=args.fingerprint,
        insecure=args.insecure,
        compact=for_screen,
        operator=partial(operator_on, port),
        advice=_advice(args),
    )


def _advice(args: argparse.Namespace) -> str:
    """Return what to do if the collector of `open_source` cannot be reached."""
    if args.connect:
        return "start swarm-collector there or correct --connect"
    others = "--connect, --db, --swarm or --nodes" if hasattr(args, "swarm") else "--connect or --db"
    return f"start swarmtop or swarm-collector here, or give {others}"
