"""Evaluate the user's own placement, and each other node as a replacement in one of its stages.

Pure, and made for a thread: it predicts with an interval and prices each candidate on cost tables. Imported when the
placement screen needs it, because it loads the planner.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from swarm_predict.advice.whatif import Edit, WhatIf
from swarm_predict.cost.build import build_tables
from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.memory import needs
from swarm_predict.cost.tables import CostTables
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import Placement, PredictError, Workload
from swarm_protocol.snapshot.swarm import Kind, Path, State, Swarm
from swarmtop.dashboard.state.what_if import Candidate, Study
from swarmtop.text import quantities

MANY_LOST: Final = 0.01  # of round trips, to or from a neighbour in the placement
MEMORY_TIGHT: Final = 0.9
JITTERS: Final = 0.5  # of the round trip itself
MAX_ADDS: Final = 64  # positions tried for a node that is added


def study(
    asked: tuple[object, ...],
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    placement: Placement,
    stage: int,
    known: CostTables | None = None,
) -> Study:
    """Study a placement. `known`: the tables of this very question, if they have been made already."""
    prediction, whatif, why_not = None, None, ""
    candidates: tuple[Candidate, ...] = ()
    try:
        prediction = predict(swarm, model, placement, workload)
        whatif = WhatIf(known or build_tables(swarm, model, workload), placement)
        candidates = weigh(whatif, swarm, model, workload, stage)
    except PredictError as error:
        why_not = str(error)
    return Study(asked, placement, prediction, why_not, whatif, stage, candidates)


def weigh(whatif: WhatIf, swarm: Swarm, model: ModelShape, workload: Workload, stage: int) -> tuple[Candidate, ...]:
    """Return every other node that fits in place of `stage`, the best first."""
    if not 0 <= stage < len(whatif.placement):
        return ()
    now = _rate(whatif.value_ms)
    need = needs(model, workload, engine_facts(workload))
    found = []
    for edit in whatif.candidates(stage):
        at = edit.placement[stage]
        row = swarm.index(at.node)
        vram = float(swarm.nodes["vram_bytes"][row])
        share = need.stage_bytes(at.first, at.last) / vram if vram > 0 else None
        found.append(
            Candidate(
                node=at.node,
                placement=edit.placement,
                gain_tokens_per_s=_rate(edit.value_ms) - now,
                compute_ms=_figure(whatif.tables.overhead_ms[row] + at.layers * whatif.tables.layer_ms[row]),
                hop_ms=_figure(_reach_ms(whatif.tables, edit.placement, stage)),
                memory_share=share,
                risks=risks(swarm, edit.placement, stage, share),
            )
        )
    return tuple(found)


def _rate(value_ms: float) -> float:
    return 1e3 / value_ms if np.isfinite(value_ms) and value_ms > 0 else 0.0


def _figure(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _reach_ms(tables: CostTables, placement: Placement, stage: int) -> float:
    """Return the delivery time to this stage, from the stage before it or, in a star and at the front, from the
    client."""
    here = tables.names.index(placement[stage].node)
    if tables.pattern == "star" and tables.client is None:
        return float(tables.hop_ms[tables.names.index(placement[0].node), here]) if stage else 0.0
    if stage == 0 or tables.pattern == "star":
        return float(tables.enter_ms[here])
    return float(tables.hop_ms[tables.names.index(placement[stage - 1].node), here])


def _loss(swarm: Swarm, pair: tuple[int, int]) -> float:
    """Of recent windows, where several are known: the newest one alone is none of a few dozen packets, or several."""
    pooled, newest = (float(swarm.links[name][pair]) for name in ("pooled_loss", "loss"))
    return float(np.nan_to_num(newest if np.isnan(pooled) else pooled))


def risks(swarm: Swarm, placement: Placement, stage: int, memory_share: float | None) -> tuple[str, ...]:
    """Return risks of this node here that the milliseconds do not show, the worst first."""
    row = swarm.index(placement[stage].node)
    beside = [swarm.index(placement[k].node) for k in (stage - 1, stage + 1) if 0 <= k < len(placement)]
    pairs = [pair for other in beside for pair in ((row, other), (other, row))]
    found = []
    state = quantities.state_of(swarm.nodes["state"][row])
    if state not in (State.OK, State.UNKNOWN):
        found.append(quantities.STATE_WORD[state])
    lost = max((_loss(swarm, pair) for pair in pairs), default=0.0)
    if lost >= MANY_LOST:
        found.append(f"loss {quantities.percent(lost)}")
    if memory_share is not None and memory_share > MEMORY_TIGHT:
        found.append("vram")
    if any(swarm.links["jitter_ms"][pair] > JITTERS * swarm.links["rtt_p50_ms"][pair] for pair in pairs):
        found.append("jitter")
    if any(swarm.links["path"][pair] == Path.RELAYED for pair in pairs):
        found.append("relay")
    if swarm.nodes["throttled"][row] == 1:
        found.append("hot")
    if any(swarm.links["kind"][pair] == Kind.ESTIMATE for pair in pairs):
        found.append("~link")
    return tuple(found)


def best_place(whatif: WhatIf, node: str) -> Edit:
    """Return the placement with the node added at its best position. Raises BadPlacement."""
    places = range(min(len(whatif.placement), MAX_ADDS) + 1)
    return min((whatif.add(node, at) for at in places), key=lambda edit: edit.value_ms)
