"""Collect the inputs of a forecast: layer times, paths and memory of its nodes, measured or assumed.

Every engine's forecast starts here, whether or not the engine has cost tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm_predict.cost.engines import EngineFacts
from swarm_predict.cost.machine.layer_times import LayerColumns
from swarm_predict.cost.machine.memory import Needs
from swarm_predict.cost.network.delivery_times import Links
from swarm_protocol.snapshot.swarm import Floats


@dataclass(frozen=True, slots=True)
class Inputs:
    """One value per node, in the order of `rows`."""

    names: tuple[str, ...]
    engine: EngineFacts
    rows: tuple[int, ...]  # of the swarm
    client: int | None  # position in `rows` of the named client, whether or not it is in the loop
    layer: LayerColumns
    links: Links
    needs: Needs
    vram_bytes: Floats

    @property
    def client_in_loop(self) -> int | None:
        return self.client if self.engine.client_in_loop else None
