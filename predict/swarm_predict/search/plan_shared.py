"""Plan machines that share layers: tensor parallel, and pipelines of tensor-parallel groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from swarm_predict.cost.build import build_tables, check
from swarm_predict.cost.network.delivery_times import absent
from swarm_predict.cost.shared_times import SharedTimes
from swarm_predict.forecast.prediction import predict
from swarm_predict.model.shapes import ModelShape
from swarm_predict.placement import rows_of
from swarm_predict.search.infeasible import memory_need
from swarm_predict.search.left_out import known_well_enough, left_out
from swarm_predict.search.solvers.shared_layers import Shared, solve_shared
from swarm_predict.types import DoesNotFit, Placement, Plan, Stage, Workload
from swarm_protocol.snapshot.swarm import Swarm


def plan_shared(
    swarm: Swarm,
    model: ModelShape,
    workload: Workload,
    *,
    forbid: Iterable[str] = (),
    require: Iterable[str] = (),
    max_machines: int | None = None,
) -> Plan:
    """Return the best groups for one stream, predicted, with bound and the best of each number of machines.

    Raises DoesNotFit, NotMeasured, BadPlacement."""
    check(workload)
    forbid = list(forbid)
    forbidden, required = rows_of(swarm, forbid, "--forbid"), rows_of(swarm, require, "--require")
    rows = [row for row in range(len(swarm)) if swarm.nodes["vram_bytes"][row] > 0 and not absent(swarm)[row]]
    times = SharedTimes(swarm, model, workload, rows)
    usable = [k for k, row in enumerate(rows) if row not in forbidden]
    known = replace(workload, engine="ring", all_reduce=None, windows=1)
    missing = left_out(swarm, build_tables(swarm, model, known), workload.client or swarm.client, forbid)
    alone = {each.node for each in missing}
    usable = [k for k in usable if times.names[k] not in alone]
    try:
        for row in required:
            if row not in rows:
                raise DoesNotFit(f"{swarm.names[row]} has no memory for layers; drop --require {swarm.names[row]}")
        found, bound, by_machines = solve_shared(times, usable, [rows.index(row) for row in required], max_machines)
    except DoesNotFit as error:
        raise DoesNotFit(f"{model.name} {memory_need(swarm, model, workload)}: {error}") from error
    per_token = times.per_token
    prediction = predict(swarm, model, placement_of_groups(times, found), workload)
    value, bound = found.value_ms * per_token, bound * per_token
    exact = value <= bound * (1 + 1e-9)
    return Plan(
        prediction=prediction,
        objective="latency",
        bound_ms=value if exact else bound,
        gap=0.0 if exact else value / bound - 1 if bound > 0 else float("inf"),
        exact=exact,
        left_out=missing,
        considered=known_well_enough(swarm, missing, forbid),
        by_machines=tuple((count, 1e3 / (ms * per_token)) for count, ms in by_machines.items() if np.isfinite(ms)),
    )


def placement_of_groups(times: SharedTimes, found: Shared) -> Placement:
    """Return every machine with the layers of its group, or with its share where shares are unequal."""
    stages, first = [], 0
    if found.taken is not None:
        for k, count in zip(found.groups[0], found.taken, strict=True):
            stages.append(Stage(times.names[k], first, first + count - 1))
            first += count
        return tuple(stages)
    for members, count in zip(found.groups, found.layers, strict=True):
        stages += [Stage(times.names[k], first, first + count - 1) for k in members]
        first += count
    return tuple(stages)
