"""Model offloading: weights that do not fit are read from RAM or disk in every step, in parallel with compute.

Sheng et al., FlexGen, arXiv 2303.06865, §4: a step that streams weights takes the longer of reading and computing, and
the reading is the same for one sequence as for a hundred. Of routed experts only those that a step wakes are read, as
where the processor computes them (llama.cpp --n-cpu-moe, KTransformers). Two layers' room stays free to read into
while computing. Activations stay where the layers are, and so does the KV cache unless the workload puts it outside
(FlexGen does for large batches); a node without room for those and one layer does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm_predict.cost.machine.memory import Needs
from swarm_predict.types import Stage

BUFFERED_LAYERS: Final = 2  # the one computed and the one read


@dataclass(frozen=True, slots=True)
class Spill:
    """The layers that one stage cannot hold."""

    layers: int  # read again in every step
    size_bytes: float
    resident_bytes: float  # what stays in the node's memory
    computed: int = 0  # layers whose compute the reading is beside

    def extra_ms(self, gbps: float, layer_ms: float) -> float:
        """Return how long a step waits for reads that compute does not hide."""
        return max(0.0, self.size_bytes / (gbps * 1e6) - self.computed * layer_ms)


def spill(needs: Needs, stage: Stage, room_bytes: float, *, cache: bool = False) -> Spill | None:
    """Return what a stage must offload (layers is 0 if it fits); None if not even buffer and caches fit.

    `cache`: the KV cache of all sequences lies outside as well, and is read in every step."""
    outside = needs.sequences * needs.model.stage_cache_bytes(stage.first, stage.last, needs.tokens) if cache else 0.0
    whole = needs.stage_bytes(stage.first, stage.last) - outside
    if whole <= room_bytes:
        return Spill(0, outside, whole, stage.layers if cache else 0)
    weights = needs.model.stage_bytes(stage.first, stage.last, needs.weights)
    each = weights / stage.layers
    beside = whole - weights
    stay = int((room_bytes - beside) // each) - BUFFERED_LAYERS
    if stay < 0 and room_bytes - beside < min(BUFFERED_LAYERS, stage.layers) * each:
        return None
    stay = max(stay, 0)
    gone = stage.layers - stay
    held = beside + (stay + min(BUFFERED_LAYERS, gone)) * each
    read = min(each, needs.model.weights_touched(needs.weights, needs.sequences))
    return Spill(gone, gone * read + outside, held, stage.layers if cache else gone)
