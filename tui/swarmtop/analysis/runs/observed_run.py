"""Hold the run to be explained, as a person gives it or as it was watched. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import parse_placement
from swarm_predict.types import BadPlacement, Placement, Stage
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.units import NS_PER_S

LATELY_NS: Final = 3600 * NS_PER_S  # before the newest run: earlier ones met another swarm
NEWEST: Final = 5  # runs: what changed within the hour shows in them
_MS: Final = re.compile(r"^(.*?)\s*(ms|s)$", re.IGNORECASE)
EXAMPLE: Final = "'a:0-39,b:40-79=1.7' (tokens a second), '…=590ms' (a token), or 1.7 alone for what runs"


class BadRun(ValueError):
    """This is no run; one line says how to write one."""


@dataclass(frozen=True, slots=True)
class Run:
    """The speed that one stream had. `placement` is None if only a speed was given."""

    tpot_ms: float
    placement: str | None
    source: Literal["given", "watched"]
    n: int = 1  # runs of which this is the median
    since_ns: int = 0  # of the first and the newest of them; 0: not known
    at_ns: int = 0
    context: int | None = None  # tokens in the cache, about; None: not known

    @property
    def tokens_per_s(self) -> float:
        return 1e3 / self.tpot_ms


def spelled(text: str) -> Run:
    """`PLACEMENT=TOK/S`, `PLACEMENT=590ms`, or the speed alone. Raises BadRun."""
    placement, equals, speed = text.rpartition("=")
    speed = speed.strip().lower().removesuffix("tok/s").removesuffix("t/s").strip()
    unit = _MS.match(speed)
    try:
        value = float(unit[1] if unit else speed)
    except ValueError:
        raise BadRun(f"{text[:80]!r} is not a run; write {EXAMPLE}") from None
    if not 0 < value < float("inf"):
        raise BadRun(f"{text[:80]!r} has no speed above 0; write {EXAMPLE}")
    tpot_ms = 1e3 / value if unit is None else value * (1e3 if unit[2].lower() == "s" else 1.0)
    return Run(tpot_ms, placement.strip() if equals else None, "given")


def watched(swarm: Swarm, model: ModelShape, engine: str, placement: Placement | None = None) -> Run | None:
    """The median of the newest runs, within an hour, of the placement that was watched last, or of `placement`; None:
    no watched run is of this model and swarm."""
    own = sorted(
        (run for run in swarm.runs if not run.baseline and run.tpot_ms and run.placement), key=lambda run: run.at_ns
    )
    for newest in reversed(own):
        found = _parsed(newest.placement, model, swarm, engine)
        if found is None or (placement is not None and _layers_of(found) != _layers_of(placement)):
            continue
        its = [run for run in own if run.placement == newest.placement and newest.at_ns - run.at_ns <= LATELY_NS]
        return _median(its[-NEWEST:], newest.placement)
    return None


def _median(runs: Sequence[RunSample], placement: str) -> Run:
    contexts = [(run.prompt_tokens or 0) + run.tokens // 2 for run in runs]
    return Run(
        tpot_ms=statistics.median(run.tpot_ms for run in runs if run.tpot_ms),
        placement=placement,
        source="watched",
        n=len(runs),
        since_ns=min(run.at_ns for run in runs),
        at_ns=max(run.at_ns for run in runs),
        context=round(statistics.median(contexts)),
    )


def _layers_of(placement: Placement) -> tuple[Stage, ...]:
    return tuple(sorted(placement, key=lambda stage: (stage.first, stage.node)))


def _parsed(text: str, model: ModelShape, swarm: Swarm, engine: str) -> Placement | None:
    try:
        return parse_placement(text, model, swarm, engine)
    except BadPlacement:
        return None  # of another model, or of nodes that are gone
