"""Define the question about a swarm as a user asked it, and as `default_model` completed it. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from swarm_predict.types import Workload

if TYPE_CHECKING:
    from swarm_predict.model.shapes import ModelShape


class OpenQuestion(msgspec.Struct, frozen=True):
    """The question as asked. What the user left open is chosen to suit the swarm."""

    model: ModelShape | None  # None: left open
    workload: Workload  # its weights and engine are defaults unless chosen below
    weights_are_chosen: bool
    engine_is_chosen: bool
    kv_cache: str = "f16"  # format, for any model that is chosen


class CompleteQuestion(msgspec.Struct, frozen=True):
    """The question with model, weights and engine filled in."""

    model: ModelShape
    workload: Workload
    note: str = ""  # "llama-3.1-8b in fp16 does not fit: showing q4_k_m"; empty: as asked, or the first default
