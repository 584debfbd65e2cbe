"""Read and write recorded runs of engines (`bench/data/engine_runs.jsonl`): what probes had measured, and how long the
engine took.

One JSON object a line: engine, case, network, when and on what machine, how many cores other programs took, the times
of each run on the real network and on its unshaped twin, and the collector's snapshot that predictions see (a keyframe
of `swarm_protocol.snapshot.frames`). Predictions are not kept: they are made again by the code that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.engine_runs.runs import Case, Engine, Run, Times
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_protocol.snapshot.frames import decode_keyframe, encode_keyframe

FILE: Final = Path(__file__).parents[1] / "data" / "engine_runs.jsonl"


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    engine: str
    case: str
    network: str
    at: str  # UTC, ISO 8601
    machine: str
    others_cores: float
    shaped: tuple[Times, ...]
    unshaped: tuple[Times, ...]
    swarm: bytes


def record(run: Run, at: str, machine: str) -> Recorded:
    return Recorded(
        engine=run.engine,
        case=run.case.name,
        network=run.network,
        at=at,
        machine=machine,
        others_cores=round(run.others_cores, 3),
        shaped=tuple(_rounded(times) for times in run.shaped),
        unshaped=tuple(_rounded(times) for times in run.unshaped),
        swarm=encode_keyframe(run.swarm),
    )


def read(file: Path = FILE) -> list[Recorded]:
    """Return what is kept. Raises OSError, msgspec.DecodeError."""
    return [msgspec.json.decode(line, type=Recorded) for line in file.read_bytes().splitlines() if line]


def write(kept: Iterable[Recorded], file: Path = FILE) -> None:
    file.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in kept))


def with_new(kept: Sequence[Recorded], found: Sequence[Recorded]) -> list[Recorded]:
    """Return all, in order of engine, network, case and processor; a new run takes the place of an old one."""
    known = {(one.engine, one.network, one.case, processor(one)): one for one in (*kept, *found)}
    return [known[key] for key in sorted(known)]


def processor(one: Recorded) -> str:
    """Return the processor that a run was on, without the load and the memory of that day."""
    return one.machine.partition(",")[0]


def run_of(one: Recorded, engines: Mapping[str, Engine], model: ModelShape) -> Run:
    """Return the run with what is predicted of it now. Raises PredictError, FrameError, KeyError for a case that is
    no longer run."""
    cases: dict[str, Case] = {case.name: case for case in engines[one.engine].cases(model)}
    case, swarm = cases[one.case], decode_keyframe(one.swarm)
    return Run(
        engine=one.engine,
        case=case,
        network=one.network,
        swarm=swarm,
        model=model,
        prediction=predict(swarm, model, case.placement, case.workload),
        shaped=one.shaped,
        unshaped=one.unshaped,
        others_cores=one.others_cores,
        machine=processor(one),
    )


def _rounded(times: Times) -> Times:
    return Times(round(times.ttft_ms, 2), tuple(round(ms, 2) for ms in times.token_ms))
