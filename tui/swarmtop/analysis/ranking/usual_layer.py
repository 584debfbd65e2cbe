"""Compare one layer's time on a node with what is usual for its device. Pure; cached, since every redraw asks for
it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from swarm_predict.cost.machine.layer_times import layer_columns
from swarm_predict.cost.speculative import step_width
from swarm_predict.explain.usual import Range, usual_layers
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Workload
from swarm_protocol.snapshot.swarm import NodeFacts, Swarm
from swarmtop.text import quantities


@dataclass(frozen=True, slots=True)
class UsualComparison:
    """A layer's time in one decode step of the question's load, and the usual range. None: not measured, or no kind of
    device is known."""

    here_ms: float | None
    usual: Range | None

    @property
    def slow(self) -> bool:
        return self.here_ms is not None and self.usual is not None and self.here_ms > self.usual.p95

    @property
    def text(self) -> str | None:
        """`1.90 ms, usual 0.37 to 1.13`; None: neither is known."""
        if self.usual is None:
            return None if self.here_ms is None else quantities.ms(self.here_ms)
        usual = f"usual {quantities.figure(self.usual.p5)} to {quantities.figure(self.usual.p95)}"
        return f"{quantities.UNMEASURED if self.here_ms is None else quantities.ms(self.here_ms)}, {usual}"


def compare_with_usual(swarm: Swarm, row: int, model: ModelShape, workload: Workload) -> UsualComparison:
    """Raises PredictError for a question that is wrong whatever the node."""
    mem, tflops = (quantities.optional(float(swarm.nodes[name][row])) for name in ("mem_gbps", "tflops"))
    return _compared(swarm.facts[row], mem, tflops, swarm.at_ns > 0, model, workload)


@lru_cache(maxsize=64)
def _compared(
    facts: NodeFacts, mem_gbps: float | None, tflops: float | None, live: bool, model: ModelShape, workload: Workload
) -> UsualComparison:
    alone = Swarm.empty((facts,), at_ns=int(live))
    alone.nodes["mem_gbps"][0] = math.nan if mem_gbps is None else mem_gbps
    alone.nodes["tflops"][0] = math.nan if tflops is None else tflops
    layer = layer_columns(
        alone, [0], model, workload.weights, "decode", step_width(workload), workload.context, engine=workload.engine
    )
    here = float(layer.ms[0]) if layer.measured[0] else None
    return UsualComparison(here, usual_layers(alone, [0], model, workload)[0])
