"""Pair an engine's stored runs with their predictions, as `disagreement` needs them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

from swarm_predict.explain.disagreement import Parts, Watched, parts_of
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import parse_placement
from swarm_predict.types import PredictError, Prediction, Workload
from swarm_protocol.messages.samples import RunSample
from swarm_protocol.snapshot.swarm import Swarm

MAX_PREDICTED: Final = 12  # different questions; the runs of further ones are left out

_Answer = tuple[Prediction, Parts, Parts | None]


def as_asked(run: RunSample, load: Workload) -> Workload:
    """Return the load with the prompt and the context of a run, if the engine reported them."""
    if not run.prompt_tokens:
        return load
    return dataclasses.replace(load, prompt=run.prompt_tokens, context=run.prompt_tokens + run.tokens // 2)


def watched_runs(
    swarm: Swarm, model: ModelShape, load: Workload, runs: Iterable[RunSample]
) -> tuple[tuple[str, Watched], ...]:
    """Return (placement, run with its prediction), in the order of `runs`; those of this model on these nodes."""
    known: dict[tuple[str, int | None, int], _Answer | None] = {}
    found = []
    for run in runs:
        if run.baseline or not run.placement or not run.tpot_ms:
            continue
        key = (run.placement, run.prompt_tokens, as_asked(run, load).context)
        if key not in known and len(known) < MAX_PREDICTED:
            known[key] = _answer(swarm, model, as_asked(run, load), run.placement)
        answer = known.get(key)
        if answer is not None:
            found.append((run.placement, _compared(run, *answer)))
    return tuple(found)


def _answer(swarm: Swarm, model: ModelShape, load: Workload, text: str) -> _Answer | None:
    try:
        placement = parse_placement(text, model, swarm, load.engine)
        predicted = predict(swarm, model, placement, load)
        return (predicted, *parts_of(swarm, model, placement, load, predicted))
    except PredictError:
        return None  # of another model, or of nodes that are gone


def _compared(run: RunSample, predicted: Prediction, token: Parts, first: Parts | None) -> Watched:
    now = predicted.tpot_ms
    kept = run.predicted_p50 is not None and run.predicted_p50 > 0
    p5, p50, p95 = (
        1e3 / then if kept and then else ms
        for then, ms in ((run.predicted_p95, now.p5), (run.predicted_p50, now.p50), (run.predicted_p5, now.p95))
    )
    found = Watched(run.at_ns, run.tpot_ms or 0.0, p5, p50, p95, token)
    if first is None or not run.prompt_tokens:
        return found
    ttft = predicted.ttft_ms
    return dataclasses.replace(found, first_ms=run.ttft_ms, first_p50_ms=ttft.p50, first_p95_ms=ttft.p95, first=first)
