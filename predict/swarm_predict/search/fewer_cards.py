"""Leave some cards of a machine idle, if the engine splits every layer among cards and fewer are faster.

A group's size divides the attention heads. Six like cards of a model with 64 heads form three groups of two, which
follow each other; four of the six form one, which is often faster. Each size that some machine can only have with cards
left out gives another swarm to plan for. What is left out serves nothing, as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from swarm_predict.cost.engines import engine_facts
from swarm_predict.cost.machine.cards import names_of
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import LeftOut, Plan, PredictError, Workload
from swarm_protocol.snapshot.swarm import NodeFacts, Swarm

CLEARLY: Final = 0.02  # of a plan's value: a smaller gain is not worth idle cards
Rest = TypeVar("Rest")


@dataclass(frozen=True, slots=True)
class Cut:
    """A swarm without some cards. `cards`: (used, of how many) of each machine that has fewer."""

    swarm: Swarm
    size: int
    cards: dict[str, tuple[int, int]]


def cuts(swarm: Swarm, model: ModelShape, workload: Workload, forbid: Iterable[str] = ()) -> list[Cut]:
    """Return the swarms with groups of other sizes; none where the engine does not split layers among cards."""
    if not engine_facts(workload).cards_together or workload.tensor_parallel:
        return []
    without = set(forbid)
    counts = {
        row: len(names) for row, facts in enumerate(swarm.facts)
        if facts.name not in without and len(set(names := names_of(facts.device))) == 1
    }  # fmt: skip
    found = []
    for size in range(2, max(counts.values(), default=0) + 1):
        fewer = {row: count // size * size for row, count in counts.items() if count > size and count % size}
        if fewer and model.heads % size == 0:
            found.append(_cut(swarm, size, fewer, counts))
    return found


def _cut(swarm: Swarm, size: int, fewer: dict[int, int], counts: dict[int, int]) -> Cut:
    changed, facts = {name: swarm.nodes[name].copy() for name in ("vram_bytes", "vram_free_bytes")}, list(swarm.facts)
    for row, used in fewer.items():
        for column in changed.values():
            column[row] *= used / counts[row]
        facts[row] = _with_cards(facts[row], used)
    cards = {swarm.facts[row].name: (used, counts[row]) for row, used in fewer.items()}
    return Cut(replace(swarm, nodes={**swarm.nodes, **changed}, facts=tuple(facts)), size, cards)


def _with_cards(facts: NodeFacts, used: int) -> NodeFacts:
    name = names_of(facts.device)[0]
    device = f"{used}× {name}"
    return replace(facts, device=device, sheet=device if facts.sheet else "", cards=facts.cards[:used])


def with_fewer_cards(
    swarm: Swarm, found: Plan, rest: Rest, tried: Iterable[Cut], asked: Callable[[Swarm], tuple[Plan, Rest]]
) -> tuple[Swarm, Plan, Rest]:
    """Return the swarm whose plan is clearly the best, that plan, and what `asked` returns beside it."""
    whole = found
    for cut in tried:
        try:
            plan, other = asked(cut.swarm)
        except PredictError:
            continue
        used = {stage.node for stage in plan.prediction.placement}
        if _value(plan) > _value(found) * (1 + CLEARLY) and used & set(cut.cards):
            idle = tuple(
                LeftOut(name, f"{of - cards} of its {of} cards: {_gain(plan, whole, cut.size)}")
                for name, (cards, of) in cut.cards.items() if name in used
            )  # fmt: skip
            swarm, found, rest = cut.swarm, replace(plan, left_out=(*plan.left_out, *idle)), other
    return swarm, found, rest


def _gain(plan: Plan, whole: Plan, size: int) -> str:
    return f"groups of {size} give {_value(plan):.3g} tok/s, all cards {_value(whole):.3g}"


def _value(plan: Plan) -> float:
    """Return tokens a second: of one stream, or in total."""
    if plan.objective == "throughput":
        return plan.prediction.throughput_tokens_per_s
    return plan.prediction.tokens_per_s.p50
