"""Define groups of machines that share the same layers, and the sizes that an engine allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from swarm_predict.cost.engines import ENGINES, EngineFacts
from swarm_predict.model.shapes import ModelShape
from swarm_predict.types import BadPlacement, Placement
from swarm_protocol.snapshot.swarm import Floats

ALL_REDUCES_PER_LAYER: Final = 2  # after attention and after the MLP


@dataclass(frozen=True, slots=True)
class Group:
    """The nodes (positions in the placement) that share the same layers, and the share of each."""

    members: tuple[int, ...]
    first: int
    last: int
    share: Floats

    @property
    def layers(self) -> int:
        return self.last - self.first + 1


def shares_all(placement: Placement, model: ModelShape) -> bool:
    """Return whether every node holds all layers (tensor parallel)."""
    return all((stage.first, stage.last) == (0, model.layers - 1) for stage in placement)


def groups_of(placement: Placement, model: ModelShape, engine: str) -> list[Group]:
    """Return the groups in layer order: one, unless the engine has pipelines of them."""
    if not ENGINES[engine].groups:
        equal = shares_all(placement, model)
        share = [1 / len(placement) if equal else stage.layers / model.layers for stage in placement]
        return [Group(tuple(range(len(placement))), 0, model.layers - 1, np.array(share))]
    found = []
    for first, last in sorted({(stage.first, stage.last) for stage in placement}):
        members = tuple(k for k, stage in enumerate(placement) if (stage.first, stage.last) == (first, last))
        found.append(Group(members, first, last, np.full(len(members), 1 / len(members))))
    return found


def check_groups(groups: Sequence[Group], model: ModelShape, engine: EngineFacts) -> None:
    """Check the sizes of groups. Raises BadPlacement for sizes that the engine does not accept."""
    sizes = [len(group.members) for group in groups]
    for size in sizes:
        allowed = engine.sizes_allowed(model, size)
        if size not in allowed:
            why = {
                "any": f"runs on {engine.counts} of machines",
                "at most the KV heads": f"runs on {engine.counts} of machines, at most the {model.kv_heads} KV heads",
                "divides the KV heads": f"needs a number of machines that divides the {model.kv_heads} KV heads",
                "divides the heads": f"needs a number of machines that divides the {model.heads} heads",
            }[engine.heads]
            raise BadPlacement(f"{engine.name} {why} of {model.name}, not {size}; take {allowed[-1]}")
    if engine.equal_groups and len(set(sizes)) > 1:
        raise BadPlacement(f"{engine.name} takes the same number of machines in each stage, not {sizes}")
