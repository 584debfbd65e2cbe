"""Compare weight formats: the median speed of the best placement for each usual format on the same machines.

A layer time that names no format counts for the requested format, and is scaled by bytes for the others. Speeds are
those that `predict` gives, so that they compare with the plan's own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.layer_times import ANY
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.solve import placement_of, solve
from swarm_predict.types import DoesNotFit, NotMeasured, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm

# what people run with each engine; other engines: 16, 8 and 4 bits, in formats of no particular engine
USUAL: Final = {
    "llama.cpp": ("fp16", "q8_0", "q6_k", "q4_k_m"),
    "prima.cpp": ("fp16", "q8_0", "q6_k", "q4_k_m"),
    "petals": ("bf16", "int8", "nf4"),
    "mesh-llm": ("fp16", "q8_0", "q6_k", "q4_k_m"),
    "vllm": ("bf16", "fp8", "int4_g128"),
    "sglang": ("bf16", "fp8", "int4_g128"),
    "parallax": ("bf16", "fp8", "int4_g128"),
}
PLAIN: Final = ("fp16", "int8", "int4_g128")


@dataclass(frozen=True, slots=True)
class FormatSpeed:
    weights: str
    tokens_per_s: float | None  # of one stream, median; None: it does not fit


def named_format(swarm: Swarm, weights: str) -> Swarm:
    """Return the swarm with `weights` as the format of every layer time that names none."""
    facts = tuple(
        dataclasses.replace(
            facts,
            layers=tuple(dataclasses.replace(t, dtype=weights) if t.dtype == ANY else t for t in facts.layers),
        )
        if any(t.dtype == ANY for t in facts.layers)
        else facts
        for facts in swarm.facts
    )
    return dataclasses.replace(swarm, facts=facts, _index={})


def compared(
    swarm: Swarm, model: ModelShape, workload: Workload, asked: Prediction, time_limit_s: float = 0.5
) -> tuple[FormatSpeed, ...]:
    """Compare the format of `asked`, the plan's prediction, with those usual for its engine, the largest first.

    Empty for engines without stages."""
    if engine_facts(workload).pattern == "all-reduce" or workload.offload_gbps:
        return ()
    usual = USUAL.get(workload.engine, PLAIN)
    named = named_format(swarm, workload.weights)
    known = {workload.weights: asked.tokens_per_s.p50}
    wanted = sorted({*usual, workload.weights}, key=lambda weights: -model.layer_bytes(weights))
    return tuple(
        FormatSpeed(
            weights, known[weights] if weights in known else _speed(named, model, workload, weights, time_limit_s)
        )
        for weights in wanted
    )


def faster_of(some: tuple[FormatSpeed, ...], others: tuple[FormatSpeed, ...]) -> tuple[FormatSpeed, ...]:
    """Return the faster of each format, of two comparisons of the same formats."""
    return tuple(
        max(pair, key=lambda each: each.tokens_per_s or 0.0) for pair in zip(some, others, strict=True)
    )  # fmt: skip


def _speed(swarm: Swarm, model: ModelShape, workload: Workload, weights: str, time_limit_s: float) -> float | None:
    load = dataclasses.replace(workload, weights=weights)
    tables = build_tables(swarm, model, load)
    try:
        found = solve(tables, time_limit_s=time_limit_s, prove=False)
    except (DoesNotFit, NotMeasured):
        return None
    return predict(swarm, model, placement_of(tables, found), load).tokens_per_s.p50
