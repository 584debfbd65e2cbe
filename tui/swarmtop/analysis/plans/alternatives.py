"""Find alternatives to a plan: a more robust neighbour, the effect of each loss, and plans with more tokens in
total."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swarm_predict.advice.nodes.node_loss import Loss, losses
from swarm_predict.advice.robust import MoreRobust, more_robust
from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import engine_facts
from swarm_predict.model.shapes import ModelShape
from swarm_predict.search.pareto import Point, front
from swarm_predict.types import Placement, Plan, Workload
from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.text import safe
from swarmtop.text import quantities
from swarmtop.text.prediction import table, wrapped


@dataclass(frozen=True, slots=True)
class Alternatives:
    robust: MoreRobust | None
    losses: tuple[Loss, ...]
    front: tuple[Point, ...]  # empty if it was not requested


def alternatives(
    swarm: Swarm, model: ModelShape, load: Workload, found: Plan, *, points: bool, time_limit_s: float
) -> Alternatives | None:
    """Return the alternatives; None for engines without stages, and for weights that are read again in every step."""
    if engine_facts(load).pattern == "all-reduce" or load.offload_gbps or not found.prediction.fits:
        return None
    placement = found.prediction.placement
    rates = swarm.nodes["down_mbps"]
    down = {facts.name: float(rates[row]) for row, facts in enumerate(swarm.facts) if np.isfinite(rates[row])}
    return Alternatives(
        robust=more_robust(swarm, model, placement, load) if found.objective == "latency" else None,
        losses=losses(build_tables(swarm, model, load), placement, model, load, down),
        front=front(swarm, model, load, time_limit_s=time_limit_s) if points else (),
    )


def alternatives_object(more: Alternatives | None) -> dict[str, object]:
    if more is None:
        return {"steadier": None, "if_lost": None, "front": None}
    robust = more.robust
    return {
        "steadier": None
        if robust is None
        else {
            "placement": _stages(robust.placement),
            "what": robust.what,
            "tpot_ms": {"p50": robust.tpot_ms.p50, "p95": robust.tpot_ms.p95},
        },
        "if_lost": [
            {
                "node": loss.node,
                "stand_by": loss.stand_by,
                "stand_by_ms": loss.stand_by_ms,
                "load_s": loss.load_s,
                "replanned": None if loss.replanned is None else _stages(loss.replanned),
                "replanned_ms": loss.replanned_ms,
                "moved_layers": loss.moved_layers,
            }
            for loss in more.losses
        ],
        "front": [
            {
                "placement": _stages(point.placement),
                "tpot_ms": point.step_ms,
                "bound_ms": point.bound_ms,
                "streams": point.streams,
                "throughput_tokens_per_s": point.tokens_per_s(),
            }
            for point in more.front
        ]
        or None,
    }


def _stages(placement: Placement) -> list[dict[str, object]]:
    return [{"node": stage.node, "first": stage.first, "last": stage.last} for stage in placement]


def alternatives_text(more: Alternatives | None, found: Plan, width: int) -> str:
    if more is None:
        return ""
    lines: list[str] = []
    if more.robust is not None:
        now, then = more.robust.best_ms, more.robust.tpot_ms
        lines += wrapped(
            f"steadier: {safe(more.robust.what)}, p95 {quantities.ms(now.p95)} → {quantities.ms(then.p95)}, "
            f"median {quantities.ms(now.p50)} → {quantities.ms(then.p50)}",
            width,
        )
    titles = ("IF IT IS LOST", "STAND-BY", "tok/s", "LOADS IN", "RE-PLANNED tok/s", "LAYERS MOVE")
    lines += ["", *table(titles, [_loss(loss) for loss in more.losses], words={0, 1})]
    if more.front:
        between = ("EACH tok/s", "TOTAL tok/s", "IN FLIGHT", "STAGES")
        lines += ["", "between one stream and the total"]
        lines += table(between, [_point(point) for point in more.front], words={3})
        # names may be long: they come last, and are cut before the figures are
    return "\n".join(quantities.fit(line, width).rstrip() for line in lines) + "\n"


def _loss(loss: Loss) -> tuple[str, ...]:
    if loss.replanned_ms is None:
        again = ("does not fit", quantities.UNMEASURED)
    else:
        again = (quantities.figure(1e3 / loss.replanned_ms), str(loss.moved_layers))
    if loss.stand_by is None or loss.stand_by_ms is None:
        return (safe(loss.node), "nobody alone", quantities.UNMEASURED, quantities.UNMEASURED, *again)
    by = quantities.figure(1e3 / loss.stand_by_ms)
    return (safe(loss.node), safe(loss.stand_by), by, quantities.seconds(loss.load_s), *again)


def _point(point: Point) -> tuple[str, ...]:
    names = " ".join(f"{safe(stage.node)}:{stage.layers}" for stage in point.placement)
    return quantities.figure(1e3 / point.step_ms), quantities.figure(point.tokens_per_s()), str(point.streams), names
