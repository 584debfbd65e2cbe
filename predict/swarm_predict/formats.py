"""Compare weight formats: the median speed of the best placement for each usual format on the same machines.

A layer time that names no format was measured with one all the same: it counts for the format that was asked, and is
scaled by bytes for the others.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.layer_times import ANY
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.solve import solve
from swarm_predict.types import DoesNotFit, NotMeasured, Workload
from swarm_protocol.snapshot.swarm import Swarm

# what people run with each engine; the others are asked with 16, 8 and 4 bits of no engine's own
USUAL: Final = {
    "llama.cpp": ("fp16", "q8_0", "q6_k", "q4_k_m"),
    "prima.cpp": ("fp16", "q8_0", "q6_k", "q4_k_m"),
    "petals": ("bf16", "int8", "nf4"),
    "petals-push": ("bf16", "int8", "nf4"),
    "vllm": ("bf16", "fp8", "int4_g128"),
    "parallax": ("bf16", "fp8", "int4_g128"),
}
PLAIN: Final = ("fp16", "int8", "int4_g128")


@dataclass(frozen=True, slots=True)
class FormatSpeed:
    weights: str
    tokens_per_s: float | None  # of one stream, median; None: it does not fit


def named_format(swarm: Swarm, weights: str) -> Swarm:
    """With `weights` as the format of every layer time that names none."""
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


def compared(swarm: Swarm, model: ModelShape, workload: Workload, time_limit_s: float = 0.5) -> tuple[FormatSpeed, ...]:
    """The format that was asked among those usual with its engine, by size, the largest first. Empty for engines
    without stages."""
    if engine_facts(workload).pattern == "all-reduce" or workload.offload_gbps:
        return ()
    usual = USUAL.get(workload.engine, PLAIN)
    told = named_format(swarm, workload.weights)
    wanted = sorted({*usual, workload.weights}, key=lambda weights: -model.layer_bytes(weights))
    return tuple(FormatSpeed(weights, _speed(told, model, workload, weights, time_limit_s)) for weights in wanted)


def _speed(swarm: Swarm, model: ModelShape, workload: Workload, weights: str, time_limit_s: float) -> float | None:
    tables = build_tables(swarm, model, dataclasses.replace(workload, weights=weights))
    try:
        found = solve(tables, time_limit_s=time_limit_s, prove=False)
    except (DoesNotFit, NotMeasured):
        return None
    return 1e3 / found.value_ms if found.value_ms > 0 else None
