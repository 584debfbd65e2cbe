"""Choose how many cards of a machine share every layer, if machines have different numbers of cards.

All stages of one run have groups of one size. A size leaves out the machines whose cards it does not divide, so each is
planned for by itself, and the best is taken. The bound is the least of all sizes'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from swarm_predict.cost.machine.cards import groups_of_cards
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import LeftOut, Objective, Plan, PredictError, Workload
from swarm_protocol.snapshot.swarm import Swarm

Planner = Callable[[Workload, list[str]], Plan]  # of a load, with nodes that are left out


def sizes_of(swarm: Swarm, model: ModelShape, workload: Workload, forbid: Iterable[str]) -> dict[str, int]:
    """Return the largest group of cards of each machine that could serve."""
    left_out = set(forbid)
    memory = swarm.nodes["vram_bytes"]
    serve = [name for name, held in zip(swarm.names, memory, strict=True) if held > 0 and name not in left_out]
    return groups_of_cards(swarm, serve, model, workload)


def best_size(
    sizes: dict[str, int], workload: Workload, objective: Objective, forbid: Iterable[str], planned: Planner
) -> Plan:
    """Return the best plan over all sizes of groups. Raises as `planned` does, if it fails for every size."""
    found: list[Plan] = []
    failed: PredictError | None = None
    for size in sorted(set(sizes.values()), reverse=True):
        unfit = [name for name, cards in sizes.items() if cards % size]
        why = f"its cards cannot form groups of {size}, the size of every stage of {workload.engine}"
        try:
            best = planned(replace(workload, tensor_parallel=size), [*forbid, *unfit])
            found.append(replace(best, left_out=(*best.left_out, *(LeftOut(name, why) for name in unfit))))
        except PredictError as error:
            failed = error
    if not found:
        assert failed is not None  # every size either has a plan or failed
        raise failed
    best = min(found, key=_value)
    bound = min(each.bound_ms for each in found)
    value = best.bound_ms * (1 + best.gap)
    return replace(
        best,
        bound_ms=bound,
        gap=value / bound - 1 if bound > 0 else best.gap,
        exact=best.exact and bound >= best.bound_ms,
    )


def _value(plan: Plan) -> float:
    if plan.objective == "throughput":
        return -plan.prediction.throughput_tokens_per_s
    return plan.prediction.tpot_ms.p50
