"""One-line predictions of synthetic swarms, and a pair of live nodes to predict with."""

from __future__ import annotations

from boxes import Box, even, swarm_of

from swarm_predict.forecast.prediction import predict
from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.types import Prediction, Workload
from swarm_protocol.snapshot.swarm import Kind, State, Swarm

LLAMA70 = model_named("llama-2-70b")


def answer(swarm: Swarm, text: str | None = None, model=LLAMA70, **load: object) -> Prediction:
    workload = Workload(**load)  # type: ignore[arg-type]
    text = text if text is not None else even([n for n in swarm.names if n != "home"], model.layers)
    return predict(swarm, model, parse_placement(text, model, swarm, workload.engine), workload)


def live(kind: Kind = Kind.MEASURED, **columns: float) -> Swarm:
    swarm = swarm_of([Box("a"), Box("b")], 80.0)
    swarm.nodes["state"][:] = State.OK
    swarm.at_ns = 10**18
    swarm.links["kind"][:] = kind
    swarm.links["sent"][:] = 1000
    swarm.links["at_ns"][:] = swarm.at_ns
    swarm.links["oneway_ms"][:] = 40.0
    for name, value in columns.items():
        swarm.links[name][:] = value
    return swarm
