"""The question about a swarm. Open parts are None, and `default_model` fills them in. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from swarm_predict.types import Workload

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape


class Asked(msgspec.Struct, frozen=True):
    """The question. What a person left open is None, and is chosen from the swarm."""

    model: ModelShape | None
    workload: Workload  # its weights and engine apply where nothing better is known
    weights_are_chosen: bool
    engine_is_chosen: bool
    kv_cache: str = "f16"  # of whatever model is chosen


class Chosen(msgspec.Struct, frozen=True):
    model: ModelShape
    workload: Workload
    note: str = ""  # "llama-3.1-8b in fp16 does not fit: showing q4_k_m"; empty: as asked, or the first default
