"""Offloading: weights that do not fit are read from RAM or disk in every step, in parallel with compute.

Sheng et al., FlexGen, arXiv 2303.06865, §4: a step that streams weights takes the longer of reading and computing, and
the reading is the same for one sequence as for a hundred. Two layers' room stays free to read into while computing.
The KV cache and the activations stay where the layers are; a node without room for those and one layer does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm_predict.cost.memory import Needs
from swarm_predict.types import Stage

BUFFERED_LAYERS: Final = 2  # the one computed and the one read


@dataclass(frozen=True, slots=True)
class Spill:
    """What one stage cannot hold."""

    layers: int  # read anew in every step
    size_bytes: float
    resident_bytes: float  # what stays in the node's memory

    def extra_ms(self, gbps: float, layer_ms: float) -> float:
        """Return how long a step waits for reads that compute does not hide."""
        return max(0.0, self.size_bytes / (gbps * 1e6) - self.layers * layer_ms)


def spill(needs: Needs, stage: Stage, room_bytes: float) -> Spill | None:
    """Return what a stage must offload (layers is 0 if it fits); None if not even buffer and caches fit."""
    whole = needs.stage_bytes(stage.first, stage.last)
    if whole <= room_bytes:
        return Spill(0, 0.0, whole)
    weights = needs.model.stage_bytes(stage.first, stage.last, needs.weights)
    each = weights / stage.layers
    beside = whole - weights
    stay = int((room_bytes - beside) // each) - BUFFERED_LAYERS
    if stay < 0 and room_bytes - beside < min(BUFFERED_LAYERS, stage.layers) * each:
        return None
    stay = max(stay, 0)
    gone = stage.layers - stay
    return Spill(gone, gone * each, beside + (stay + min(BUFFERED_LAYERS, gone)) * each)
