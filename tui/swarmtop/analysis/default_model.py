"""Complete an open question: choose the model, weights and engine that were left open. Pure."""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec
import numpy as np

from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import ENGINES
from swarm_predict.model.catalogue import model_named
from swarm_predict.model.kv_cache_formats import with_kv_cache
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import is_format
from swarm_predict.types import PredictError, UnknownModel, Workload
from swarm_protocol.snapshot.swarm import Ints, Swarm
from swarm_protocol.text import safe
from swarmtop.analysis.open_question import CompleteQuestion, OpenQuestion
from swarmtop.analysis.unmeasured import alive

LADDER: Final = ("llama-3.1-8b", "llama-3.2-3b", "llama-3.2-1b", "qwen2.5-0.5b")  # largest first
WEIGHTS: Final = ("fp16", "q8_0", "q4_k_m")
SMALLER: Final = {"petals": ("int8", "nf4")}  # engine → formats that it loads; all others: those of WEIGHTS


def complete(swarm: Swarm, asked: OpenQuestion) -> CompleteQuestion:
    """Return the question about this swarm: as asked, with open parts filled from what runs, or what fits."""
    found = _complete(swarm, asked)
    return msgspec.structs.replace(found, model=with_kv_cache(found.model, asked.kv_cache))


def _complete(swarm: Swarm, asked: OpenQuestion) -> CompleteQuestion:
    load = asked.workload
    reported = swarm.running
    if reported is not None and reported.placement and reported.engine and not asked.engine_is_chosen:
        known = _with_engine(load, reported.engine)
        load = known if known is not None else load
    if asked.model is not None:
        return CompleteQuestion(asked.model, _as_recorded(swarm, asked.model, load, asked))
    if reported is not None and reported.placement and reported.model:
        try:
            model = model_named(reported.model)
        except UnknownModel:
            pass  # an engine's own name for it: use the default list
        else:
            return CompleteQuestion(model, _as_recorded(swarm, model, load, asked))
    recorded, unknown = _recorded(swarm, load, asked)
    if recorded is not None:
        return recorded
    formats = (load.weights,) if asked.weights_are_chosen else WEIGHTS
    living = alive(swarm, load.client)
    if not np.isfinite(living.nodes["vram_bytes"]).any():  # no node has reported its memory yet
        return CompleteQuestion(model_named(LADDER[0]), load, unknown)
    for name in LADDER:
        model = model_named(name)
        for weights in formats:
            tried = dataclasses.replace(load, weights=weights)
            if fits(living, with_kv_cache(model, asked.kv_cache), tried):
                return CompleteQuestion(model, tried, unknown or _note(name, weights, formats[0]))
    return CompleteQuestion(model_named(LADDER[0]), load, unknown)


def _recorded(swarm: Swarm, load: Workload, asked: OpenQuestion) -> tuple[CompleteQuestion | None, str]:
    """Return the question that a recording was made for, and what to say if it cannot be asked.

    The first default model is measured if none was named, so it counts only where it fits.
    """
    if swarm.measured_for is None:
        return None, ""
    name = swarm.measured_for[0]
    try:
        model = model_named(name)
    except UnknownModel:
        return None, f"recorded for {safe(name)}, which is not in the catalogue: give its file with --model"
    load = _as_recorded(swarm, model, load, asked)
    if model.name == LADDER[0] and not fits(alive(swarm, load.client), with_kv_cache(model, asked.kv_cache), load):
        return None, ""
    return CompleteQuestion(model, load), ""


def _as_recorded(swarm: Swarm, model: ModelShape, load: Workload, asked: OpenQuestion) -> Workload:
    """Return the question with the weights of the recording, where a person left them open."""
    if asked.weights_are_chosen or swarm.measured_for is None:
        return load
    name, weights = swarm.measured_for
    return dataclasses.replace(load, weights=weights) if name == model.name and is_format(weights) else load


def _with_engine(load: Workload, engine: str) -> Workload | None:
    return dataclasses.replace(load, engine=ENGINES[engine].name) if engine in ENGINES else None


def _note(name: str, weights: str, first: str) -> str:
    if (name, weights) == (LADDER[0], first):
        return ""
    what = weights if name == LADDER[0] else f"{name} in {weights}"
    return f"{LADDER[0]} in {first} does not fit: showing {what}"


def fits(swarm: Swarm, model: ModelShape, workload: Workload) -> bool:
    """Return whether these nodes together hold the layers, with embedding and head at the ends."""
    try:
        tables = build_tables(swarm, model, workload)
    except PredictError:
        return False
    if int(tables.capacity_only.max(initial=0)) >= model.layers:
        return True
    at_ends = [
        (int(tables.capacity[i] - first), int(tables.capacity[j] - last))
        for i, first in _largest(tables.capacity_first)
        for j, last in _largest(tables.capacity_last)
        if i != j
    ]
    return bool(at_ends) and int(tables.capacity.sum()) - min(map(sum, at_ends)) >= model.layers


def smaller_weights(swarm: Swarm, model: ModelShape, workload: Workload) -> str | None:
    """Return the largest usual format with which the model fits these nodes; None: none, or it fits as asked."""
    whole = model.stage_bytes(0, model.layers - 1, workload.weights)
    for weights in SMALLER.get(workload.engine, WEIGHTS[1:]):
        tried = dataclasses.replace(workload, weights=weights)
        if model.stage_bytes(0, model.layers - 1, weights) < whole and fits(swarm, model, tried):
            return weights
    return None


def _largest(rooms: Ints) -> list[tuple[int, int]]:
    """Return (row, layers) of the few nodes with most room at an end, of those that have any."""
    rows = np.argsort(-rooms, kind="stable")[:4]
    return [(int(row), int(rooms[row])) for row in rows if rooms[row] > 0]
