"""Find the published setup nearest to a placement: model, format, engine, number and kind of machines, round trips."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_predict.calibration.published import Result, published
from swarm_predict.calibration.published_evidence import evidence_of, placement_of, swarm_of, workload_of
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.model.weight_formats import weight_format
from swarm_predict.priors.factors import canonical
from swarm_predict.types import PredictError, Prediction, Workload
from swarm_protocol.snapshot.swarm import Swarm

NEAR: Final = 4.0  # ratio of the bytes of a token, either way: 16 bits are as near as 4 to a hop's size
ANOTHER_ENGINE, ANOTHER_MODEL = 1.0, 2.0  # as far as twice, and as four times the machines
MIN_RTT_MS: Final = 0.5
_DRAWS: Final = 200


@dataclass(frozen=True, slots=True)
class Nearest:
    """A published measurement, compared with the placement in question."""

    name: str
    source: str
    model: str
    weights: str
    engine: str
    nodes: tuple[str, ...]
    tokens_per_s: float
    layer_ms: float  # of one layer there, by what is known of its machines
    layer_ms_here: float
    hop_ms: float | None  # of one message there; None: one machine, or none here
    hop_ms_here: float | None


def nearest(swarm: Swarm, model: ModelShape, workload: Workload, found: Prediction) -> tuple[Nearest, ...]:
    """Return the nearest setup, and with a single machine also the nearest of several, for its hops. Empty: nothing of
    about this size was published. `found`: what is predicted for the placement here."""
    here = _token_bytes(model, workload.weights)
    devices = Counter(canonical(swarm.facts[swarm.index(stage.node)].device) for stage in found.placement)
    rtt_ms = _rtt_ms(swarm, [stage.node for stage in found.placement])
    near: list[tuple[float, Result]] = []
    for result in published():
        apart = abs(math.log2(_token_bytes(result.model, result.weights) / here))
        if result.metric != "decode" or result.batch != workload.batch or apart > math.log2(NEAR):
            continue
        distance = apart + (0.0 if result.model.layer == model.layer else ANOTHER_MODEL)
        distance += 0.0 if workload.engine in (result.software, result.engine) else ANOTHER_ENGINE
        distance += abs(math.log2(len(result.nodes) / len(found.placement)))
        theirs = Counter(canonical(name) for name in result.nodes)
        distance += 1 - (devices & theirs).total() / max(devices.total(), theirs.total())
        if rtt_ms is not None and len(result.nodes) > 1:
            far = max(rtt_ms, MIN_RTT_MS) / max(result.rtt_ms, MIN_RTT_MS)
            distance += 0.25 * abs(math.log2(far))
        near.append((distance, result))
    ordered = [result for _, result in sorted(near, key=lambda pair: pair[0]) if evidence_of(result).refused is None]
    several = [result for result in ordered if len(result.nodes) > 1]
    chosen = ordered[:1] + (several[:1] if len(found.placement) > 1 and several[:1] != ordered[:1] else [])
    nearest = [_nearness(result, found) for result in chosen]
    return tuple(each for each in nearest if each is not None)


def _nearness(result: Result, found: Prediction) -> Nearest | None:
    load = dataclasses.replace(workload_of(result), draws=_DRAWS)
    try:
        there = predict(swarm_of(result), result.model, placement_of(result), load)
    except PredictError:
        return None  # its own paths or memories are not described well enough to divide its time
    hops = there.hops > 0 and found.hops > 0
    return Nearest(
        name=result.system,
        source=result.source,
        model=result.model.name,
        weights=result.weights,
        engine=result.software,
        nodes=result.nodes,
        tokens_per_s=result.tokens_per_s,
        layer_ms=there.breakdown_ms.compute / result.model.layers,
        layer_ms_here=found.breakdown_ms.compute / sum(stage.layers for stage in found.stages),
        hop_ms=_hop_ms(there) if hops else None,
        hop_ms_here=_hop_ms(found) if hops else None,
    )


def _hop_ms(found: Prediction) -> float:
    return (found.breakdown_ms.network + found.breakdown_ms.overhead) / found.hops


def _token_bytes(model: ModelShape, weights: str) -> float:
    """Return about what one token reads: the weights it touches."""
    weight_format(weights)
    return model.layers * model.weights_touched(weights, 1)


def _rtt_ms(swarm: Swarm, names: Sequence[str]) -> float | None:
    """Return the median round trip between these nodes, in either direction."""
    rows = [swarm.index(name) for name in names]
    known = sorted(
        float(ms) for a in rows for b in rows if a != b and math.isfinite(ms := float(swarm.links["rtt_p50_ms"][a, b]))
    )
    return known[len(known) // 2] if known else None
