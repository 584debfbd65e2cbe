"""What a person asks of a swarm, and what they leave open. Only data: `default_model` fills in the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm_predict.types import Workload

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person left open is None, and is chosen by what there is."""

    model: ModelShape | None
    workload: Workload  # its weights and engine stand where nothing better is known
    weights_are_chosen: bool
    engine_is_chosen: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    model: ModelShape
    workload: Workload
    note: str = ""  # "llama-3.1-8b in fp16 does not fit: showing q4_k_m"; empty: as asked, or the top of the ladder
