"""Read how far each engine deviates from predictions on measured layers and paths: `engine_errors.json`.

`python -m bench engines --fit` fits it to runs of engines on emulated networks (`bench/data/engine_runs.jsonl`, those
that no other program disturbed) and to the median errors of an earlier series (`bench/engine_runs/fit_widths.py`). All
widths are standard deviations, relative to what was predicted:

    layers   of the layers' time
    paths    of the paths' time, the same on all of them
    kind     of the paths' time, beside it, the same on all paths of a kind (`individual_effects.PATH_KINDS`)
    run      of the whole time, again in each run: no calibration reduces it
    pace     of what computes, layers and software, likewise: a machine's pace differs from day to day, paths repeat

The same runs without a network tell what the software of an engine's messages takes (`software`): results beside the
published ones, to which `python -m bench priors --fit` fits.
"""

from __future__ import annotations

import importlib.resources
from functools import lru_cache
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from swarm_predict.priors.factors import PLAIN

OTHER: Final = "other"  # an engine that was not run: as those that were lie apart
PLAIN_ENGINE: Final = "plain"

Width = Annotated[float, Meta(ge=0, le=1)]


class Widths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    layers: Width
    paths: Width
    kind: Width
    run: Width
    pace: Width


class SoftwarePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many milliseconds (or messages), times the exponential of the sum of these effects."""

    times: Annotated[float, Meta(ge=0)]
    effects: tuple[str, ...]


class Software(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time of an engine's token without a network: measured layers, and the software of its messages."""

    engine: str
    case: str
    observed_ms: Annotated[float, Meta(gt=0)]
    fixed_ms: Annotated[float, Meta(ge=0)]
    error: Annotated[float, Meta(gt=0, le=1)]  # of observed_ms: standard deviation, relative
    parts: tuple[SoftwarePart, ...]


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of `engine_errors.json`."""

    engines: dict[str, Widths]
    software: tuple[Software, ...]
    runs: int
    table: str  # digest of the runs that they were fitted to


@lru_cache(maxsize=1)
def measured() -> Measured:
    text = importlib.resources.files(__package__).joinpath("engine_errors.json").read_bytes()
    return msgspec.json.decode(text, type=Measured)


def width_of(what: str, engine: str) -> float:
    """Return a width, by the name of its field. `engine`: whose kernels or messages they are."""
    known = measured().engines
    named = PLAIN_ENGINE if engine in PLAIN else engine if engine in known else OTHER
    return float(getattr(known[named], what))
